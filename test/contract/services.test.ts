/** What the API makes of a Service: defaults, allocated values, type changes, and what it refuses. */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { arrayOf, at, type JsonObject, numberOf, objectOf, stringOf } from '../support/apiserver/json.ts';
import { contract, created, invalidAt, ok, service, servicesPath } from './target.ts';

function plain(name: string, spec: JsonObject): JsonObject {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name }, spec };
}

contract('services', (context) => {
  it('a bare Service becomes ClusterIP with an address and defaults', async () => {
    const { admin, namespace } = context();
    const made = created(
      await admin.post(servicesPath(await namespace()), plain('a', { ports: [{ port: 80 }] })),
    );
    const spec = objectOf(made['spec']);
    assert.match(stringOf(spec['clusterIP']), /^10\.\d+\.\d+\.\d+$/);
    assert.deepEqual(spec['clusterIPs'], [spec['clusterIP']]);
    assert.equal(spec['type'], 'ClusterIP');
    assert.deepEqual(spec['ports'], [{ protocol: 'TCP', port: 80, targetPort: 80 }]);
    assert.equal(spec['sessionAffinity'], 'None');
    assert.equal(spec['internalTrafficPolicy'], 'Cluster');
    assert.deepEqual(spec['ipFamilies'], ['IPv4']);
    assert.equal(spec['ipFamilyPolicy'], 'SingleStack');
    assert.equal(spec['externalTrafficPolicy'], undefined);
    assert.equal(spec['allocateLoadBalancerNodePorts'], undefined);
    assert.deepEqual(made['status'], { loadBalancer: {} });
  });

  it('a LoadBalancer gets node ports and externalTrafficPolicy Cluster', async () => {
    const { admin, namespace } = context();
    const made = created(
      await admin.post(
        servicesPath(await namespace()),
        plain('a', { type: 'LoadBalancer', ports: [{ port: 80 }] }),
      ),
    );
    assert.equal(at(made, 'spec', 'allocateLoadBalancerNodePorts'), true);
    assert.equal(at(made, 'spec', 'externalTrafficPolicy'), 'Cluster');
    const nodePort = numberOf(at(arrayOf(at(made, 'spec', 'ports'))[0], 'nodePort'));
    assert(nodePort >= 30_000 && nodePort <= 32_767, `nodePort ${nodePort}`);
  });

  it('allocateLoadBalancerNodePorts=false gives none', async () => {
    const { admin, namespace } = context();
    const made = created(await admin.post(servicesPath(await namespace()), service('a')));
    assert.equal(at(arrayOf(at(made, 'spec', 'ports'))[0], 'nodePort'), undefined);
  });

  it('externalTrafficPolicy Local gives a health check port, and Cluster takes it away', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    const made = created(await admin.post(path, service('a', { externalTrafficPolicy: 'Local' })));
    assert(numberOf(at(made, 'spec', 'healthCheckNodePort')) >= 30_000, 'no healthCheckNodePort');
    const changed = ok(await admin.patch(`${path}/a`, { spec: { externalTrafficPolicy: 'Cluster' } }));
    assert.equal(at(changed, 'spec', 'healthCheckNodePort'), undefined);
  });

  it('dual-stack asks give two families and two addresses where the cluster has them', async () => {
    const { admin, namespace } = context();
    const made = created(
      await admin.post(servicesPath(await namespace()), service('a', { ipFamilyPolicy: 'RequireDualStack' })),
    );
    assert.deepEqual(at(made, 'spec', 'ipFamilies'), ['IPv4', 'IPv6']);
    assert.equal(arrayOf(at(made, 'spec', 'clusterIPs')).length, 2);
    const six = created(
      await admin.post(servicesPath(await namespace()), service('b', { ipFamilies: ['IPv6'] })),
    );
    assert.match(stringOf(at(six, 'spec', 'clusterIP')), /^fd00:/);
  });

  it('a headless Service has clusterIP None', async () => {
    const { admin, namespace } = context();
    const made = created(
      await admin.post(
        servicesPath(await namespace()),
        plain('a', { clusterIP: 'None', selector: { a: 'b' } }),
      ),
    );
    assert.deepEqual(at(made, 'spec', 'clusterIPs'), ['None']);
  });

  it('ExternalName has no cluster address', async () => {
    const { admin, namespace } = context();
    const made = created(
      await admin.post(
        servicesPath(await namespace()),
        plain('a', { type: 'ExternalName', externalName: 'a.example' }),
      ),
    );
    assert.equal(at(made, 'spec', 'clusterIP'), undefined);
  });

  it('an update that leaves allocated values out keeps them', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    const body = plain('a', { type: 'LoadBalancer', ports: [{ port: 80 }] });
    const made = created(await admin.post(path, body));
    const updated = ok(await admin.put(`${path}/a`, body));
    assert.deepEqual(updated['spec'], made['spec']);
  });

  it('going from LoadBalancer to ClusterIP drops node ports, policies, class and status', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    created(
      await admin.post(
        path,
        plain('a', { type: 'LoadBalancer', loadBalancerClass: 'example.com/lb', ports: [{ port: 80 }] }),
      ),
    );
    ok(
      await admin.patch(`${path}/a/status`, { status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } } }),
    );
    const changed = ok(await admin.patch(`${path}/a`, { spec: { type: 'ClusterIP' } }));
    assert.deepEqual(at(changed, 'spec', 'ports'), [{ protocol: 'TCP', port: 80, targetPort: 80 }]);
    for (const field of ['externalTrafficPolicy', 'allocateLoadBalancerNodePorts', 'loadBalancerClass']) {
      assert.equal(at(changed, 'spec', field), undefined, field);
    }
    assert.deepEqual(at(changed, 'status', 'loadBalancer'), {});
    const back = ok(await admin.patch(`${path}/a`, { spec: { type: 'LoadBalancer' } }));
    assert.deepEqual(at(back, 'status', 'loadBalancer'), {});
  });

  it('loadBalancerClass cannot change while the type stays', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    created(await admin.post(path, service('a', { loadBalancerClass: 'example.com/one' })));
    invalidAt(
      await admin.patch(`${path}/a`, { spec: { loadBalancerClass: 'example.com/two' } }),
      'spec.loadBalancerClass',
    );
    invalidAt(
      await admin.patch(`${path}/a`, { spec: { loadBalancerClass: null } }),
      'spec.loadBalancerClass',
    );
  });

  it('clusterIP cannot change', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    created(await admin.post(path, service('a')));
    const answer = await admin.patch(`${path}/a`, {
      spec: { clusterIP: '10.96.9.9', clusterIPs: ['10.96.9.9'] },
    });
    invalidAt(answer, 'spec.clusterIPs[0]');
  });

  it('an explicit clusterIP or nodePort is taken once', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    const nodePort = { type: 'NodePort', ports: [{ port: 80, nodePort: 31_234 }] };
    created(await admin.post(path, plain('a', { ...nodePort, clusterIP: '10.96.77.7' })));
    assert.equal(
      (await admin.post(path, plain('b', { ports: [{ port: 80 }], clusterIP: '10.96.77.7' }))).code,
      422,
    );
    invalidAt(await admin.post(path, plain('c', nodePort)), 'spec.ports[0].nodePort');
    ok(await admin.delete(`${path}/a`));
    created(await admin.post(path, plain('c', nodePort)));
  });

  const refusals: readonly (readonly [string, JsonObject, string])[] = [
    ['no ports', { ports: [] }, 'spec.ports'],
    ['port 0', { ports: [{ port: 0 }] }, 'spec.ports[0].port'],
    ['port 65536', { ports: [{ port: 65_536 }] }, 'spec.ports[0].port'],
    ['an unknown protocol', { ports: [{ port: 80, protocol: 'ICMP' }] }, 'spec.ports[0].protocol'],
    ['unnamed ports among several', { ports: [{ port: 80 }, { port: 81, name: 'b' }] }, 'spec.ports[0].name'],
    ['a bad port name', { ports: [{ port: 80, name: 'Web' }] }, 'spec.ports[0].name'],
    [
      'the same name twice',
      {
        ports: [
          { port: 80, name: 'a' },
          { port: 81, name: 'a' },
        ],
      },
      'spec.ports[1].name',
    ],
    [
      'the same port twice',
      {
        ports: [
          { port: 80, name: 'a' },
          { port: 80, name: 'b' },
        ],
      },
      'spec.ports[1]',
    ],
    ['a bad target port', { ports: [{ port: 80, targetPort: 70_000 }] }, 'spec.ports[0].targetPort'],
    [
      'a node port out of range',
      { allocateLoadBalancerNodePorts: true, ports: [{ port: 80, nodePort: 80 }] },
      'spec.ports[0].nodePort',
    ],
    ['an unknown type', { type: 'Balancer' }, 'spec.type'],
    ['an unknown affinity', { sessionAffinity: 'Cookie' }, 'spec.sessionAffinity'],
    ['an unknown externalTrafficPolicy', { externalTrafficPolicy: 'Near' }, 'spec.externalTrafficPolicy'],
    ['a bad source range', { loadBalancerSourceRanges: ['10.0.0.0/33'] }, 'spec.LoadBalancerSourceRanges[0]'],
    ['a bad class', { loadBalancerClass: 'a/b/c' }, 'spec.loadBalancerClass'],
    ['a bad external address', { externalIPs: ['10.0.0'] }, 'spec.externalIPs[0]'],
    ['a loopback external address', { externalIPs: ['127.0.0.1'] }, 'spec.externalIPs[0]'],
    ['an unknown family', { ipFamilies: ['IPv5'] }, 'spec.ipFamilies[0]'],
    ['a bad selector value', { selector: { a: 'b c' } }, 'spec.selector'],
    ['LoadBalancer without a cluster address', { clusterIP: 'None' }, 'spec.clusterIPs[0]'],
  ];
  for (const [what, spec, field] of refusals) {
    it(`refuses ${what} at ${field}`, async () => {
      const { admin, namespace } = context();
      invalidAt(await admin.post(servicesPath(await namespace()), service('a', spec)), field);
    });
  }

  it('accepts any string as loadBalancerIP, which clients must therefore check', async () => {
    const { admin, namespace } = context();
    const made = created(
      await admin.post(servicesPath(await namespace()), service('a', { loadBalancerIP: 'not-an-address' })),
    );
    assert.equal(at(made, 'spec', 'loadBalancerIP'), 'not-an-address');
  });
});
