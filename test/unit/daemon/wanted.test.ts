import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type WantedInput, wantedAddresses } from '../../../src/daemon/wanted.ts';
import type {
  Endpoint,
  EndpointSlice,
  Node,
  NodeName,
  Service,
  ServiceKey,
} from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';

const IP = '10.0.0.1' as Ip;

describe('wantedAddresses()', () => {
  test('lets an address go anywhere when its Service does not mind', () => {
    assert.equal(nodesOf({ policy: 'Cluster', endpoints: [] }), undefined);
  });

  test('lets an address of a Service with local traffic go where ready endpoints are', () => {
    const endpoints = [endpoint('n1'), endpoint('n2', { ready: false, serving: false }), endpoint('n3')];
    assert.deepEqual(nodesOf({ policy: 'Local', endpoints }), ['n1', 'n3']);
  });

  test('takes endpoints that serve while they terminate when none is ready', () => {
    const terminating = { ready: false, serving: true, terminating: true };
    assert.deepEqual(nodesOf({ policy: 'Local', endpoints: [endpoint('n1', terminating)] }), ['n1']);
    const both = [endpoint('n1', terminating), endpoint('n2')];
    assert.deepEqual(nodesOf({ policy: 'Local', endpoints: both }), ['n2']);
    const only = service('web', 'Local');
    const isLastResort = (endpoints: readonly Endpoint[]) =>
      wantedAddresses(
        input({
          desired: [{ ip: IP, services: [only.key] }],
          services: new Map([[only.key, only]]),
          endpointSlices: new Map([['1', slice(only.key, endpoints)]]),
        }),
      ).addresses.get(IP)?.isLastResort;
    assert.equal(isLastResort([endpoint('n1', terminating)]), true);
    assert.equal(isLastResort(both), undefined);
  });

  test('lets an address go nowhere when there is no endpoint', () => {
    assert.deepEqual(nodesOf({ policy: 'Local', endpoints: [] }), []);
  });

  test('restricts nothing before EndpointSlices are known', () => {
    assert.equal(nodesOf({ policy: 'Local', endpoints: [] }, { endpointsSynced: false }), undefined);
  });

  test('goes by the endpoints of the family that the address has', () => {
    const only = service('web', 'Local');
    const v6 = 'fd00::1' as Ip;
    const { addresses } = wantedAddresses(
      input({
        desired: [IP, v6].map((ip) => ({ ip, services: [only.key] })),
        services: new Map([[only.key, only]]),
        endpointSlices: new Map([
          ['4', slice(only.key, [endpoint('n1'), endpoint('n2')])],
          ['6', { ...slice(only.key, [endpoint('n2')]), addressType: 'IPv6' }],
          ['name', { ...slice(only.key, [endpoint('n3')]), addressType: 'FQDN' }],
        ]),
      }),
    );
    assert.deepEqual([...(addresses.get(IP)?.nodes ?? [])], ['n1', 'n2']);
    assert.deepEqual([...(addresses.get(v6)?.nodes ?? [])], ['n2']);
  });

  test('puts an address that two Services share where both have endpoints', () => {
    const first = service('a', 'Local');
    const second = service('b', 'Local');
    const { addresses } = wantedAddresses(
      input({
        desired: [{ ip: IP, services: [first.key, second.key] }],
        services: new Map([first, second].map((each) => [each.key, each])),
        endpointSlices: new Map([
          ['1', slice(first.key, [endpoint('n1'), endpoint('n2')])],
          ['2', slice(second.key, [endpoint('n2'), endpoint('n3')])],
        ]),
      }),
    );
    assert.deepEqual([...(addresses.get(IP)?.nodes ?? [])], ['n2']);
  });

  test('excludes nodes by their label and by NetworkUnavailable, as far as configured', () => {
    const label = 'node.kubernetes.io/exclude-from-external-load-balancers';
    const nodes = new Map([node('n1', { [label]: '' }), node('n2', {}, true), node('n3', {})]);
    assert.deepEqual([...wantedAddresses(input({ nodes })).excludedNodes], ['n1', 'n2']);
    const labelsOnly = input({ nodes, excludeNetworkUnavailable: false });
    assert.deepEqual([...wantedAddresses(labelsOnly).excludedNodes], ['n1']);
    const neither = input({ nodes, excludeLabelled: false, excludeNetworkUnavailable: false });
    assert.deepEqual([...wantedAddresses(neither).excludedNodes], []);
  });
});

function nodesOf(
  one: { readonly policy: 'Local' | 'Cluster'; readonly endpoints: readonly Endpoint[] },
  more: Partial<WantedInput> = {},
): readonly string[] | undefined {
  const only = service('web', one.policy);
  const { addresses } = wantedAddresses(
    input({
      desired: [{ ip: IP, services: [only.key] }],
      services: new Map([[only.key, only]]),
      endpointSlices: new Map([['1', slice(only.key, one.endpoints)]]),
      ...more,
    }),
  );
  const nodes = addresses.get(IP)?.nodes;
  return nodes === undefined ? undefined : [...nodes].sort();
}

function input(more: Partial<WantedInput>): WantedInput {
  return {
    desired: [],
    services: new Map(),
    endpointSlices: new Map(),
    nodes: new Map(),
    endpointsSynced: true,
    fresh: true,
    excludeLabelled: true,
    excludeNetworkUnavailable: true,
    ...more,
  };
}

function service(name: string, policy: 'Local' | 'Cluster'): Service {
  return {
    key: `default/${name}` as ServiceKey,
    namespace: 'default',
    name,
    uid: name,
    resourceVersion: '1',
    createdAt: 0,
    deleting: false,
    type: 'LoadBalancer',
    loadBalancerClass: undefined,
    loadBalancerIp: undefined,
    externalTrafficPolicy: policy,
    healthCheckNodePort: undefined,
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
    ports: [],
    annotations: {},
    ingress: [],
  };
}

function slice(key: ServiceKey, endpoints: readonly Endpoint[]): EndpointSlice {
  return { namespace: 'default', name: key, service: key, addressType: 'IPv4', endpoints };
}

function endpoint(name: string, more: Partial<Endpoint> = {}): Endpoint {
  return { node: name as NodeName, ready: true, serving: true, terminating: false, ...more };
}

function node(name: string, labels: Node['labels'], networkUnavailable = false): [NodeName, Node] {
  return [
    name as NodeName,
    { name: name as NodeName, labels, internalIps: [], ready: true, networkUnavailable },
  ];
}
