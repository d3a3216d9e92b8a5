import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { PoolConfig } from '../../../src/config/types.ts';
import type { AllocationResult } from '../../../src/ipam/allocate.ts';
import type { Allocation, Verdict } from '../../../src/ipam/types.ts';
import type { Service } from '../../../src/kube/types.ts';
import { type Ip, parseIp, rangeContains } from '../../../src/lib/ip.ts';
import { applied, pool, run, service } from './fixtures.ts';

// Small pools, few names and few ports, so that everything collides.
const POOLS = [
  pool('a', ['192.0.2.4-192.0.2.7', '2001:db8::/126', '192.0.2.0/31']),
  pool('named', ['198.51.100.0/30'], false),
  pool('v6', ['2001:db8:6::/125']),
];
const ADDRESSES = [
  ...['192.0.2.0', '192.0.2.1', '192.0.2.4', '192.0.2.7', '198.51.100.1', '10.9.9.9', '127.0.0.1', 'x'],
  ...['2001:db8::', '2001:db8::3', '2001:DB8:6::7', 'ff02::1'],
];

const address = fc.constantFrom(...ADDRESSES);
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 });

const annotations = fc
  .record({
    'lbd.io/pool': optional(fc.constantFrom('a', 'named', 'v6', 'nope')),
    'lbd.io/addresses': optional(
      fc.oneof(
        address,
        fc.tuple(address, address).map((pair) => pair.join(',')),
      ),
    ),
    'lbd.io/sharing-key': optional(fc.constantFrom('k', 'l')),
  })
  .map((record): Record<string, string> => JSON.parse(JSON.stringify(record)));

const wishes = fc.record({
  annotations,
  loadBalancerIp: fc.option(address, { nil: undefined, freq: 5 }),
  ports: fc.uniqueArray(
    fc.record({ protocol: fc.constantFrom('TCP', 'UDP'), port: fc.constantFrom(53, 80, 443) }),
    { minLength: 1, maxLength: 2, selector: ({ protocol, port }) => protocol + port },
  ),
  ipFamilies: fc.constantFrom<Service['ipFamilies'][]>(
    ['IPv4'],
    ['IPv6'],
    ['IPv4', 'IPv6'],
    ['IPv6', 'IPv4'],
  ),
  ipFamilyPolicy: fc.constantFrom<Service['ipFamilyPolicy'][]>(
    'SingleStack',
    'PreferDualStack',
    'RequireDualStack',
  ),
});

const anyService = fc.record({
  wishes,
  createdAt: fc.integer({ min: 0, max: 5 }),
  deleting: fc.boolean(),
  type: fc.constantFrom('LoadBalancer', 'LoadBalancer', 'LoadBalancer', 'ClusterIP'),
  loadBalancerClass: fc.constantFrom(undefined, undefined, undefined, 'other'),
  status: fc.oneof(fc.constant([]), fc.array(address, { maxLength: 3 })),
});

const snapshot = fc
  .array(anyService, { maxLength: 14 })
  .map((drafts) =>
    drafts.map(({ wishes: asked, ...rest }, index) => service(`s${index}`, { ...asked, ...rest })),
  );

/** A fixed opinion on each address, from a seed. */
const verdicts = fc.array(fc.constantFrom<Verdict['kind'][]>('usable', 'unknown', 'blocked'), {
  minLength: 7,
  maxLength: 7,
});

function opinion(kinds: readonly Verdict['kind'][]): (ip: Ip) => Verdict {
  return (ip) => {
    const kind = kinds[[...ip].reduce((sum, character) => sum + character.charCodeAt(0), 0) % kinds.length];
    return kind === 'blocked' ? { kind, reason: 'busy' } : { kind: kind ?? 'usable' };
  };
}

function given(allocation: Allocation): readonly Ip[] {
  return 'addresses' in allocation && allocation.kind !== 'release' ? allocation.addresses : [];
}

/** Addresses that a run hands out anew. */
function fresh(allocation: Allocation): readonly Ip[] {
  if (allocation.kind !== 'assign' && allocation.kind !== 'probing') return [];
  return allocation.addresses.filter((ip) => !allocation.standing.includes(ip));
}

function assertNobodyCollides(services: readonly Service[], result: AllocationResult): void {
  const byKey = new Map(services.map((each) => [each.key, each]));
  const holders = new Map<Ip, Service[]>();
  for (const allocation of result.allocations) {
    const holder = byKey.get(allocation.service);
    assert(holder !== undefined);
    for (const ip of given(allocation)) {
      for (const other of holders.get(ip) ?? []) assertMayShare(holder, other, ip);
      holders.set(ip, [...(holders.get(ip) ?? []), holder]);
    }
  }
}

function assertMayShare(left: Service, right: Service, ip: Ip): void {
  const key = left.annotations['lbd.io/sharing-key'];
  assert(key !== undefined, `${left.key} and ${right.key} both have ${ip} without a key`);
  assert.equal(key, right.annotations['lbd.io/sharing-key']);
  const ports = (each: Service) => new Set(each.ports.map(({ protocol, port }) => `${protocol}/${port}`));
  assert.equal(ports(left).intersection(ports(right)).size, 0, `ports of ${left.key} and ${right.key} clash`);
}

function assertFreshIsFit(
  pools: readonly PoolConfig[],
  result: AllocationResult,
  services: readonly Service[],
  verdict: (ip: Ip) => Verdict,
): void {
  const inStatus = new Set(services.flatMap((each) => each.ingress.map((entry) => parseIp(entry.ip ?? ''))));
  for (const allocation of result.allocations) {
    for (const ip of fresh(allocation)) {
      assert(
        pools.some((each) => each.ranges.some((range) => rangeContains(range, ip))),
        `${ip} is in no pool`,
      );
      if (inStatus.has(ip)) continue;
      const { kind } = verdict(ip);
      assert.notEqual(kind, 'blocked', `${ip} is blocked`);
      if (kind === 'unknown') assert.equal(allocation.kind, 'probing');
    }
    if (allocation.kind === 'probing')
      for (const ip of allocation.asking) assert(result.probeAhead.includes(ip));
  }
}

const byService = (result: AllocationResult) =>
  Object.fromEntries(result.allocations.map((each) => [each.service, each]));

describe('allocate(), for any snapshot', () => {
  it('allocate() gives no address twice without sharing, and only addresses of pools that nobody blocks', () => {
    fc.assert(
      fc.property(snapshot, verdicts, (services, kinds) => {
        const verdict = opinion(kinds);
        const result = run(POOLS, services, { verdict, probeAheadCount: 2 });
        assertNobodyCollides(services, result);
        assertFreshIsFit(POOLS, result, services, verdict);
        assert.equal(new Set(result.allocations.map((each) => each.service)).size, result.allocations.length);
      }),
      { numRuns: 1_000 },
    );
  });

  it('allocate() says the same about each Service for the same input in any order and for equal objects', () => {
    fc.assert(
      fc.property(snapshot, verdicts, fc.infiniteStream(fc.nat()), (services, kinds, numbers) => {
        const options = { verdict: opinion(kinds), probeAheadCount: 2 };
        const first = run(POOLS, services, options);
        const ranks = new Map(services.map((each) => [each, numbers.next().value]));
        const shuffled = services.toSorted((left, right) => (ranks.get(left) ?? 0) - (ranks.get(right) ?? 0));
        const again = run(structuredClone(POOLS), structuredClone(shuffled), options);
        assert.deepEqual(byService(again), byService(first));
        assert.deepEqual([again.usage, again.probeAhead], [first.usage, first.probeAhead]);
      }),
      { numRuns: 500 },
    );
  });

  it('allocate() comes to rest: what is written stays, and soon nothing is left to write', () => {
    fc.assert(
      fc.property(snapshot, (before) => {
        let services = before;
        for (let round = 0; round < before.length + 2; round++) {
          const result = run(POOLS, services);
          const next = applied(services, result);
          if (round > 0) assertKept(services, result);
          if (next.every((each, index) => each === services[index])) return;
          services = next;
        }
        assert.fail('still something to write');
      }),
      { numRuns: 1_000 },
    );
  });

  it('allocate() changes no address of a settled Service when another Service comes', () => {
    fc.assert(
      fc.property(snapshot, wishes, (services, newcomer) => {
        const before = byService(run(POOLS, services));
        const after = byService(
          run(POOLS, [...services, service('zz', { ...newcomer, createdAt: 0, uid: '' })]),
        );
        for (const [key, allocation] of Object.entries(before)) {
          if (allocation.kind !== 'settled' || allocation.unmet !== undefined) continue;
          const now = after[key];
          assert(now?.kind === 'settled');
          assert.deepEqual(now.addresses, allocation.addresses);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('allocate() never moves a settled Service when the pools change', () => {
    fc.assert(
      fc.property(snapshot, fc.subarray(POOLS), (services, fewer) => {
        const wanted = services.map((each) => ({ ...each, ipFamilyPolicy: 'SingleStack' as const }));
        const before = run(POOLS, wanted);
        const after = byService(run(fewer, wanted));
        for (const allocation of before.allocations) {
          if (allocation.kind !== 'settled' || allocation.unmet !== undefined) continue;
          const now = after[allocation.service];
          assert(now !== undefined);
          assert.deepEqual(given(now), allocation.addresses);
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** What a Service got by an earlier write and still asks for in the same words is not moved. */
function assertKept(services: readonly Service[], result: AllocationResult): void {
  const byKey = byService(result);
  for (const each of services) {
    const allocation = byKey[each.key];
    if (allocation === undefined || allocation.kind === 'release' || allocation.kind === 'settled') continue;
    if (allocation.kind === 'refused') assert.deepEqual(allocation.stale, []);
  }
}

type Step =
  | { readonly kind: 'create'; readonly wishes: Partial<Service> }
  | { readonly kind: 'change'; readonly at: number; readonly wishes: Partial<Service> }
  | { readonly kind: 'delete' | 'retype'; readonly at: number }
  | { readonly kind: 'block'; readonly kinds: readonly Verdict['kind'][] };

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('create' as const), wishes }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('change' as const), at: fc.nat(), wishes }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('delete' as const, 'retype' as const), at: fc.nat() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('block' as const), kinds: verdicts }) },
);

/** A cluster in which lbd's writes arrive at once and users do anything; `touched` are Services that a user just changed. */
class Cluster {
  services: Service[] = [];
  verdict: (ip: Ip) => Verdict = () => ({ kind: 'usable' });
  #created = 0;

  take(action: Step): Service | undefined {
    const index = 'at' in action ? action.at % Math.max(1, this.services.length) : -1;
    const target = this.services[index];
    switch (action.kind) {
      case 'create': {
        this.#created += 1;
        const created = service(`s${this.#created}`, { ...action.wishes, createdAt: this.#created });
        this.services = [...this.services, created];
        return created;
      }
      case 'block':
        this.verdict = opinion(action.kinds);
        return undefined;
      case 'delete':
        this.services = this.services.filter((each) => each !== target);
        return target;
      default: {
        if (target === undefined) return undefined;
        const change = action.kind === 'change' ? action.wishes : { type: 'ClusterIP' };
        this.services = this.services.with(index, { ...target, ...change });
        return this.services[index];
      }
    }
  }
}

describe('allocate(), in a cluster that users keep changing', () => {
  it('allocate() leaves alone every Service that its user left alone', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (actions) => {
        const cluster = new Cluster();
        for (const action of actions) {
          const before = new Map(cluster.services.map((each) => [each.key, each]));
          const touched = cluster.take(action);
          const result = run(POOLS, cluster.services, { verdict: cluster.verdict, probeAheadCount: 2 });
          assertNobodyCollides(cluster.services, result);
          cluster.services = applied(cluster.services, result);
          for (const each of cluster.services) {
            const old = before.get(each.key);
            if (old !== undefined && each.key !== touched?.key) assertStillHas(old, each, touched);
            if (each.type !== 'LoadBalancer') assert.deepEqual(each.ingress, []);
          }
          for (const { name, allocated, size } of result.usage) {
            assert(BigInt(allocated) <= BigInt(size), `${name}: ${allocated} of ${size}`);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

/**
 * Addresses are only added, with two exceptions: a wish of earlier can be met at last (the address or pool it names
 * became free), and a Service that shares moves away when the older one that it shares with was changed by its user.
 */
function assertStillHas(old: Service, now: Service, touched: Service | undefined): void {
  const waits = ['lbd.io/pool', 'lbd.io/addresses'].some((name) => old.annotations[name] !== undefined);
  if (waits || old.loadBalancerIp !== undefined) return;
  if (old.ipFamilyPolicy === 'SingleStack' && old.ingress.length > 1) return;
  const shares =
    touched?.annotations['lbd.io/sharing-key'] !== undefined ||
    old.annotations['lbd.io/sharing-key'] !== undefined;
  if (shares) return;
  for (const { ip } of old.ingress)
    assert(
      now.ingress.some((entry) => entry.ip === ip),
      `${old.key} lost ${ip}`,
    );
}
