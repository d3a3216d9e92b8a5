import assert from 'node:assert/strict';
import { test } from 'node:test';
import { splitWanted, type VirtualWantedInput } from '../../../src/daemon/virtual-wanted.ts';
import type { Service, ServiceKey } from '../../../src/kube/types.ts';
import { formatPrefix, type Ip } from '../../../src/lib/ip.ts';
import { service } from '../ipam/fixtures.ts';

const LOCAL = '10.0.0.9' as Ip;
const IP = '203.0.113.5' as Ip;

/** One virtual address and one local one, of a Service `default/web`. */
function input(
  change: Partial<VirtualWantedInput> = {},
  policy: Service['externalTrafficPolicy'] = 'Cluster',
) {
  const web = service('web', { externalTrafficPolicy: policy });
  return splitWanted({
    desired: [
      { ip: LOCAL, services: [web.key] },
      { ip: IP, services: [web.key] },
    ],
    wanted: new Map(),
    excludedNodes: new Set(),
    node: 'n1',
    isDrained: false,
    services: new Map([[web.key, web]]),
    endpointsSynced: true,
    unsure: { v4: undefined, v6: undefined },
    placeOf: (ip) =>
      ip === LOCAL
        ? undefined
        : {
            route: { network: '203.0.113.0' as Ip, length: 24 },
            reason: undefined,
            reserved: undefined,
            isPooled: true,
          },
    ...change,
  });
}

function shown(split: ReturnType<typeof splitWanted>): string {
  const [address] = split.virtual;
  assert.ok(address !== undefined && split.virtual.length === 1);
  const { standing, route, reason } = address;
  return `${standing} ${formatPrefix(route)}${reason === undefined ? '' : `: ${reason}`}`;
}

function on(...nodes: readonly string[]): VirtualWantedInput['wanted'] {
  return new Map([[IP, { ip: IP, nodes: new Set(nodes) }]]);
}

test('splitWanted() leaves local addresses to others and puts virtual ones on every host', () => {
  const split = input();
  assert.deepEqual(
    split.local.map(({ ip }) => ip),
    [LOCAL],
  );
  assert.equal(shown(split), 'here 203.0.113.0/24');
});

test('splitWanted() routes an address of a Local Service alone, from hosts with an endpoint', () => {
  assert.equal(shown(input({ wanted: on('n1', 'n2') }, 'Local')), 'here 203.0.113.5/32');
  const policy = 'its externalTrafficPolicy is Local, and';
  assert.equal(
    shown(input({ wanted: on('n3', 'n2') }, 'Local')),
    `elsewhere 203.0.113.5/32: ${policy} no endpoint is here, but on n2, n3`,
  );
  assert.equal(
    shown(input({ wanted: on('n9', 'n3', 'n2', 'n5', 'n4') }, 'Local')),
    `elsewhere 203.0.113.5/32: ${policy} no endpoint is here, but on n2, n3, n4 and 2 more`,
  );
  const nowhere = input({ wanted: on() }, 'Local');
  assert.equal(shown(nowhere), `nowhere 203.0.113.5/32: ${policy} no node has a usable endpoint`);
  assert.deepEqual(
    nowhere.homeless.map(({ ip }) => ip),
    [IP],
  );
});

test('splitWanted() keeps off this host what it is not ready for', () => {
  const unready = new Map([[IP, 'kube-proxy is not ready here']]);
  const split = input({ wanted: on('n1', 'n2'), unready }, 'Local');
  assert.equal(shown(split), 'elsewhere 203.0.113.5/32: kube-proxy is not ready here');
  assert.match(shown(input({ wanted: on('n2'), unready }, 'Local')), /no endpoint is here, but on n2/);
});

test('splitWanted() changes nothing while it is not known where endpoints are', () => {
  const unsynced = { endpointsSynced: false };
  assert.match(shown(input(unsynced, 'Local')), /^unknown 203\.0\.113\.5\/32: it is not known yet/);
  assert.equal(shown(input(unsynced)), 'here 203.0.113.0/24', 'nobody asks for endpoints');
});

test('splitWanted() gives nothing to a drained or excluded host', () => {
  assert.match(shown(input({ isDrained: true })), /^elsewhere .*: this host is drained/);
  assert.match(shown(input({ excludedNodes: new Set(['n1']) })), /^elsewhere .*: the Node n1 is labelled/);
  assert.match(shown(input({ excludedNodes: new Set(['n2']) })), /^here /);
});

test('splitWanted() adds nothing while it is not known whose subnets there are', () => {
  const unsure = { v4: 'too early', v6: undefined };
  assert.equal(shown(input({ unsure })), 'unknown 203.0.113.0/24: too early');
  assert.match(shown(input({ unsure, isDrained: true })), /^elsewhere/);
  assert.equal(shown(input({ unsure: { v4: undefined, v6: 'too early' } })), 'here 203.0.113.0/24');
});

test('splitWanted() takes an address that two Services share for Local when one is', () => {
  const [one, two] = [service('one'), service('two', { externalTrafficPolicy: 'Local' })];
  const services = new Map<ServiceKey, Service>([one, two].map((each) => [each.key, each]));
  const desired = [{ ip: IP, services: [one.key, two.key] }];
  assert.equal(shown(input({ services, desired, wanted: on('n1') })), 'here 203.0.113.5/32');
});

test('splitWanted() puts on no host what is in no pool, and takes off none what stands', () => {
  const split = input({
    placeOf: () => ({
      route: { network: IP, length: 32 },
      reason: undefined,
      reserved: undefined,
      isPooled: false,
    }),
    desired: [{ ip: IP, services: [] }],
  });
  assert.equal(shown(split), 'kept 203.0.113.5/32: it is in no pool and in no subnet of a host');
});
