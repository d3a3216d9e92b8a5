import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ControlRefusal } from '../../../src/daemon/control-server.ts';
import { type ExplainSources, explain } from '../../../src/daemon/explain.ts';
import type { ServiceKey } from '../../../src/kube/types.ts';
import { type Ip, parseRange } from '../../../src/lib/ip.ts';
import { owner } from '../cli/support/election-status.ts';
import { service } from '../ipam/fixtures.ts';

const X = '192.0.2.10' as Ip;
const KEY = 'default/a' as ServiceKey;

function sources(change: Partial<ExplainSources> = {}): ExplainSources {
  const range = parseRange('192.0.2.0/24');
  assert.ok(range.ok);
  return {
    hostName: 'edge-1',
    loadBalancerClass: undefined,
    services: new Map([service('a', { status: [X] }), service('b')].map((each) => [each.key, each])),
    allocations: [
      { kind: 'settled', service: KEY, addresses: [X], foreign: [], unmet: undefined, explain: 'keeps it' },
      {
        kind: 'refused',
        service: 'default/b' as ServiceKey,
        code: 'pool-exhausted',
        reason: 'no free one',
        stale: [],
      },
    ],
    pools: [{ name: 'p', ranges: [range.value] }],
    statusOf: ({ key }) =>
      key === KEY
        ? { name: key, addresses: [X], state: 'announced', reason: undefined }
        : { name: key, addresses: [], state: 'refused', reason: 'no free one' },
    localOf: () => undefined,
    obstacle: () => undefined,
    election: {
      ownerOf: (ip) => owner(ip),
      membersOf: () => [{ name: 'edge-2' as never, role: 'owner', rank: 0, reason: 'owns it' }],
    },
    ...change,
  };
}

function refusalOf(subject: string, change: Partial<ExplainSources> = {}): string {
  try {
    explain(subject, sources(change));
  } catch (error) {
    assert.ok(error instanceof ControlRefusal);
    return `${error.status}: ${error.message}`;
  }
  return assert.fail('it was explained');
}

test('explain() tells the same of a Service by its key, its name and its address', () => {
  const expected = {
    version: 1,
    host: 'edge-1',
    gossips: true,
    services: [
      { name: 'default/a', state: 'announced', addresses: [X], allocation: 'keeps it', reason: undefined },
    ],
    addresses: [
      {
        ip: X,
        pool: 'p',
        local: undefined,
        owner: owner(X),
        members: [{ name: 'edge-2', role: 'owner', rank: 0, reason: 'owns it' }],
        obstacle: undefined,
      },
    ],
  };
  for (const subject of ['default/a', 'a', X]) assert.deepEqual(explain(subject, sources()), expected);
});

test('explain() says why a Service has no address, once', () => {
  const { services, addresses } = explain('b', sources());
  assert.deepEqual(addresses, []);
  assert.deepEqual(services, [
    { name: 'default/b', state: 'refused', addresses: [], allocation: 'no free one', reason: undefined },
  ]);
});

test('explain() says why a Service is none of this lbd', () => {
  const other = { ...service('c'), loadBalancerClass: 'example.com/x' };
  const cluster = { ...service('d'), type: 'ClusterIP' };
  const services = new Map([other, cluster].map((each) => [each.key, each]));
  const texts = ['c', 'd'].map((name) => explain(name, sources({ services })).services[0]?.allocation);
  assert.deepEqual(texts, [
    'it is not for this lbd: it names the class "example.com/x", and this lbd serves Services that name no class',
    'its type is ClusterIP, not LoadBalancer',
  ]);
});

test('explain() takes an address that no Service has', () => {
  const other = '192.0.2.77' as Ip;
  const election = { ownerOf: () => undefined, membersOf: () => [] };
  const { services, addresses } = explain(other, sources({ election, obstacle: () => 'a printer answers' }));
  assert.deepEqual(services, []);
  assert.deepEqual(addresses, [
    { ip: other, pool: 'p', local: undefined, owner: undefined, members: [], obstacle: 'a printer answers' },
  ]);
});

test('explain() knows no owners on a host that does not gossip', () => {
  const { gossips, addresses } = explain(X, sources({ election: undefined }));
  assert.deepEqual([gossips, addresses[0]?.owner, addresses[0]?.members], [false, undefined, []]);
});

test('explain() refuses what is not known, and a name that is not enough', () => {
  assert.equal(refusalOf('nope'), '404: no Service "nope" of type LoadBalancer is known here');
  const twice = [service('a'), { ...service('a'), namespace: 'x', key: 'x/a' as ServiceKey }];
  const services = new Map(twice.map((each) => [each.key, each]));
  assert.equal(refusalOf('a', { services }), '404: expected one Service, got 2: default/a, x/a');
});
