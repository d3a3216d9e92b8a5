import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { endpointSliceItem, nodeItem, serviceItem } from '../../../src/kube/objects.ts';
import { epochMsOf } from '../../../src/kube/raw.ts';

const SERVICE = {
  metadata: {
    name: 'web',
    namespace: 'shop',
    uid: 'u-1',
    resourceVersion: '17',
    creationTimestamp: '2026-02-03T04:05:06Z',
    annotations: { 'lbd.io/pool': 'public', 'kubectl.kubernetes.io/last-applied-configuration': '{}' },
    managedFields: [{ manager: 'kubectl' }],
  },
  spec: {
    type: 'LoadBalancer',
    loadBalancerClass: 'lbd.io/lbd',
    loadBalancerIP: '192.0.2.7',
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 30_123,
    ipFamilies: ['IPv6', 'IPv4'],
    ipFamilyPolicy: 'RequireDualStack',
    ports: [
      { port: 80, protocol: 'TCP', nodePort: 30_000 },
      { port: 53, protocol: 'UDP' },
    ],
  },
  status: { loadBalancer: { ingress: [{ ip: '192.0.2.7', ipMode: 'VIP' }, { hostname: 'lb.example' }] } },
};

describe('serviceItem()', () => {
  it('keeps what lbd uses and nothing else', () => {
    assert.deepEqual(serviceItem(SERVICE), {
      key: 'shop/web',
      resourceVersion: '17',
      value: {
        key: 'shop/web',
        namespace: 'shop',
        name: 'web',
        uid: 'u-1',
        resourceVersion: '17',
        createdAt: Date.UTC(2026, 1, 3, 4, 5, 6),
        deleting: false,
        type: 'LoadBalancer',
        loadBalancerClass: 'lbd.io/lbd',
        loadBalancerIp: '192.0.2.7',
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 30_123,
        ipFamilies: ['IPv6', 'IPv4'],
        ipFamilyPolicy: 'RequireDualStack',
        ports: [
          { protocol: 'TCP', port: 80 },
          { protocol: 'UDP', port: 53 },
        ],
        annotations: { 'lbd.io/pool': 'public' },
        ingress: [
          { ip: '192.0.2.7', hostname: undefined, ipMode: 'VIP' },
          { ip: undefined, hostname: 'lb.example', ipMode: undefined },
        ],
      },
    });
  });

  it('gives no value for a Service that is no LoadBalancer and carries no ingress, but for one that still does', () => {
    const clusterIp = { ...SERVICE, spec: { type: 'ClusterIP' } };
    assert.equal(serviceItem(clusterIp)?.value?.type, 'ClusterIP');
    const clean = serviceItem({ ...clusterIp, status: {} });
    assert.equal(clean?.key, 'shop/web');
    assert.equal(clean?.value, undefined);
  });

  it('bounds a Service with 10,000 ports, a 1 MB annotation and 10,000 ingress entries', () => {
    const ports = Array.from({ length: 10_000 }, (_, index) => ({ port: index + 1 }));
    const ingress = Array.from({ length: 10_000 }, (_, index) => ({ ip: `192.0.2.${index}` }));
    const annotations = { 'lbd.io/addresses': 'x'.repeat(1_000_000) };
    const kept = serviceItem({
      metadata: { ...SERVICE.metadata, annotations },
      spec: { ...SERVICE.spec, ports, loadBalancerIP: 'y'.repeat(1_000_000) },
      status: { loadBalancer: { ingress } },
    })?.value;
    assert.equal(kept?.ports.length, 100);
    assert.equal(kept?.ingress.length, 64);
    assert.equal(kept?.annotations['lbd.io/addresses']?.length, 1_024);
    assert.match(kept?.annotations['lbd.io/addresses'] ?? '', /…$/);
    assert.equal(kept?.loadBalancerIp?.length, 64);
  });

  it('keeps nothing of a wrong type', () => {
    const kept = serviceItem({
      metadata: {
        ...SERVICE.metadata,
        uid: 7,
        creationTimestamp: {},
        annotations: { 'lbd.io/pool': 7, 'lbd.io/x': null },
      },
      spec: {
        type: 'LoadBalancer',
        loadBalancerClass: 1,
        loadBalancerIP: {},
        externalTrafficPolicy: 'Both',
        healthCheckNodePort: '80',
        ipFamilies: [4, 'IPv4', 'IPv6'],
        ipFamilyPolicy: [],
        ports: [{ port: '80' }, { port: 70_000 }, null, { port: 80.5 }, { port: 443, protocol: 9 }],
      },
      status: { loadBalancer: { ingress: [7, { ip: 7 }, { ip: 'no address' }] } },
    })?.value;
    assert.deepEqual(kept?.annotations, {});
    assert.equal(kept?.uid, '');
    assert.equal(kept?.createdAt, 0);
    assert.equal(kept?.loadBalancerClass, undefined);
    assert.equal(kept?.loadBalancerIp, undefined);
    assert.equal(kept?.externalTrafficPolicy, 'Cluster');
    assert.equal(kept?.healthCheckNodePort, undefined);
    assert.deepEqual(kept?.ipFamilies, ['IPv4']);
    assert.equal(kept?.ipFamilyPolicy, 'SingleStack');
    assert.deepEqual(kept?.ports, [{ protocol: 'TCP', port: 443 }]);
    assert.deepEqual(
      kept?.ingress.map((entry) => entry.ip),
      [undefined, undefined, 'no address'],
    );
  });

  it('drops an object whose name could not be part of a URL', () => {
    for (const name of ['../x', 'a/b', 'A', '', 'x'.repeat(254), 7, undefined, 'a%2fb', 'a b', '-a']) {
      assert.equal(serviceItem({ metadata: { name, namespace: 'shop' } }), undefined, String(name));
    }
  });

  it('never throws and never exceeds its limits, whatever it is given', () => {
    const words = fc.constantFrom(
      'metadata',
      'spec',
      'status',
      'name',
      'ports',
      'ingress',
      'annotations',
      'items',
    );
    const json = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'medium' },
        fc.jsonValue(),
        fc.dictionary(words, tie('value'), { maxKeys: 6 }),
      ),
    })).value;
    fc.assert(
      fc.property(json, json, json, (metadata, spec, status) => {
        const raw = { metadata: { ...Object(metadata), name: 'a', namespace: 'b' }, spec, status };
        const item = serviceItem(raw);
        assert.equal(item?.key, 'b/a');
        assert.ok(JSON.stringify(item).length < 200_000);
        endpointSliceItem({ ...raw, endpoints: spec });
        nodeItem(raw);
        serviceItem(metadata);
        endpointSliceItem(spec);
        nodeItem(status);
      }),
    );
  });
});

describe('endpointSliceItem()', () => {
  it('reads absent conditions as discovery/v1 defines them and keeps equal endpoints once', () => {
    const item = endpointSliceItem({
      metadata: {
        name: 'web-abc',
        namespace: 'shop',
        resourceVersion: '3',
        labels: { 'kubernetes.io/service-name': 'web' },
      },
      addressType: 'IPv4',
      endpoints: [
        { addresses: ['10.0.0.1'], nodeName: 'n1' },
        { addresses: ['10.0.0.2'], nodeName: 'n1', conditions: { ready: true } },
        {
          addresses: ['10.0.0.3'],
          nodeName: 'n2',
          conditions: { ready: false, serving: true, terminating: true },
        },
        { addresses: ['10.0.0.4'], conditions: { ready: false } },
      ],
    });
    assert.deepEqual(item?.value, {
      namespace: 'shop',
      name: 'web-abc',
      service: 'shop/web',
      addressType: 'IPv4',
      endpoints: [
        { node: 'n1', ready: true, serving: true, terminating: false },
        { node: 'n2', ready: false, serving: true, terminating: true },
        { node: undefined, ready: false, serving: false, terminating: false },
      ],
    });
  });
});

describe('nodeItem()', () => {
  it('keeps internal addresses in canonical form, labels and the two conditions', () => {
    const item = nodeItem({
      metadata: { name: 'n1', resourceVersion: '5', labels: { zone: 'a', bad: 7, long: 'x'.repeat(64) } },
      status: {
        addresses: [
          { type: 'InternalIP', address: '192.0.2.1' },
          { type: 'InternalIP', address: '2001:DB8::0001' },
          { type: 'InternalIP', address: 'rubbish' },
          { type: 'Hostname', address: 'n1' },
        ],
        conditions: [
          { type: 'Ready', status: 'True' },
          { type: 'NetworkUnavailable', status: 'False' },
        ],
      },
    });
    assert.deepEqual(item?.value, {
      name: 'n1',
      labels: { zone: 'a' },
      internalIps: ['192.0.2.1', '2001:db8::1'],
      ready: true,
      networkUnavailable: false,
    });
  });
});

describe('epochMsOf()', () => {
  it('agrees with the platform on every moment that RFC 3339 in UTC can name', () => {
    const moment = fc.date({
      min: new Date(0),
      max: new Date('9999-12-31T23:59:59.999Z'),
      noInvalidDate: true,
    });
    fc.assert(fc.property(moment, (date) => assert.equal(epochMsOf(date.toISOString()), date.getTime())));
    assert.equal(epochMsOf('2024-02-29T23:59:59Z'), Date.UTC(2024, 1, 29, 23, 59, 59));
  });

  it('gives undefined for anything else', () => {
    for (const text of ['', '2024', '2024-02-29T23:59:59', '2024-02-29 23:59:59Z', 7, null]) {
      assert.equal(epochMsOf(text), undefined);
    }
  });
});
