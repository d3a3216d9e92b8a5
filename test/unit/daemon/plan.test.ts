import assert from 'node:assert/strict';
import { test } from 'node:test';
import { computePlan, type PlanInput } from '../../../src/daemon/plan.ts';
import type { Allocation } from '../../../src/ipam/types.ts';
import type { Service, ServiceKey } from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { service } from '../ipam/fixtures.ts';

const X = '192.0.2.10' as Ip;
const Y = '192.0.2.11' as Ip;
const KEY = 'default/a' as ServiceKey;
const UNMET = { code: 'unknown-pool', reason: 'no such pool' } as const;

const settled = (...addresses: Ip[]): Allocation => ({
  kind: 'settled',
  service: KEY,
  addresses,
  foreign: [],
  unmet: undefined,
  explain: '',
});

const assign = (addresses: readonly Ip[], standing: readonly Ip[]): Allocation => ({
  kind: 'assign',
  service: KEY,
  addresses,
  standing,
  pool: 'p',
  unmet: undefined,
  explain: '',
});

const probing = (addresses: readonly Ip[], standing: readonly Ip[]): Allocation => ({
  kind: 'probing',
  service: KEY,
  addresses,
  standing,
  asking: addresses,
  pool: 'p',
  explain: '',
});

const release = (...addresses: Ip[]): Allocation => ({
  kind: 'release',
  service: KEY,
  addresses,
  explain: '',
});

const refused = (...stale: string[]): Allocation => ({
  kind: 'refused',
  service: KEY,
  code: 'pool-exhausted',
  reason: 'pool "p" has no free address',
  stale,
});

function plan(
  services: readonly Service[],
  allocations: readonly Allocation[],
  change: Partial<PlanInput> = {},
) {
  return computePlan({
    services: new Map(services.map((each) => [each.key, each])),
    allocations,
    isReserved: () => false,
    mayAllocate: true,
    ...change,
  });
}

const HELD: readonly (readonly [
  what: string,
  status: readonly string[],
  reserved: boolean,
  allocation: Allocation,
  held: readonly Ip[],
])[] = [
  ['settled: what it keeps', [X], false, settled(X), [X]],
  ['settled, but its write is still under way: nothing', [], true, settled(X), []],
  ['settled with one address of two written', [X], true, settled(X, Y), [X]],
  ['assign to a new Service: nothing', [], false, assign([X], []), []],
  ['assign of one more: what stands', [X], false, assign([X, Y], [X]), [X]],
  ['assign of another: what stands', [X], false, assign([Y], [X]), [X]],
  ['assign after an older Service won: not what was lost', [X], false, assign([Y], []), []],
  ['assign under way: what stands, if status says it', [X], true, assign([Y], [X, Y]), [X]],
  ['probing: what stands', [X], false, probing([X, Y], [X]), [X]],
  ['probing without any: nothing', [], false, probing([X], []), []],
  ['release: nothing', [X], false, release(X), []],
  ['refused: nothing, whatever status says', [X], false, refused(X), []],
  [
    'status in another text: the address it means',
    ['2001:DB8:0::1'],
    true,
    settled('2001:db8::1' as Ip),
    ['2001:db8::1' as Ip],
  ],
];

for (const [what, status, reserved, allocation, held] of HELD) {
  test(`computePlan() holds for ${what}`, () => {
    const subject = service('a', { status });
    const { desired } = plan([subject], [allocation], { isReserved: () => reserved });
    assert.deepEqual(
      desired.map(({ ip }) => ip),
      held,
    );
    for (const { services } of desired) assert.deepEqual(services, [KEY]);
  });
}

test('computePlan() names every Service that shares an address, once each', () => {
  const a = service('a', { status: [X] });
  const b = service('b', { status: [X, Y] });
  const { desired } = plan([a, b], [settled(X), { ...settled(X, Y), service: b.key }]);
  assert.deepEqual(desired, [
    { ip: X, services: ['default/a', 'default/b'] },
    { ip: Y, services: ['default/b'] },
  ]);
});

test('computePlan() passes over an allocation whose Service is gone', () => {
  assert.deepEqual(plan([], [assign([X], []), refused(X), settled(X)]), {
    desired: [],
    writes: [],
    refusals: [],
  });
});

const WRITES: readonly (readonly [what: string, allocation: Allocation, write: string | undefined])[] = [
  ['settled', settled(X), undefined],
  ['assign', assign([X, Y], [X]), 'assign 192.0.2.10,192.0.2.11 of p'],
  ['probing', probing([X], []), undefined],
  ['release', release(X), 'release  of undefined'],
  ['refused with nothing in status', refused(), undefined],
  ['refused with rubbish in status', refused('rubbish'), 'release  of undefined'],
];

for (const [what, allocation, expected] of WRITES) {
  test(`computePlan() writes ${expected ?? 'nothing'} for ${what}`, () => {
    const subject = service('a', { status: [X] });
    const { writes } = plan([subject], [allocation]);
    assert.deepEqual(
      writes.map(({ kind, addresses, pool }) => `${kind} ${addresses.join(',')} of ${pool}`),
      expected === undefined ? [] : [expected],
    );
    for (const write of writes) assert.equal(write.service, subject);
  });

  test(`computePlan() writes and refuses nothing for ${what} when it may not allocate, but holds the same`, () => {
    const subject = service('a', { status: [X] });
    const may = plan([subject], [allocation]);
    const mayNot = plan([subject], [allocation], { mayAllocate: false });
    assert.deepEqual(mayNot, { desired: may.desired, writes: [], refusals: [] });
  });
}

test('computePlan() tells why a Service has no address, or not what it asks for', () => {
  const subject = service('a', { status: [X] });
  const told = [refused(), { ...settled(X), unmet: UNMET }, { ...assign([X], []), unmet: UNMET }].map(
    (allocation) => plan([subject], [allocation as Allocation]).refusals,
  );
  assert.deepEqual(
    told.map((notes) => notes.map(({ note }) => note)),
    [['pool "p" has no free address'], ['no such pool'], ['no such pool']],
  );
  assert.deepEqual(told[0]?.[0], {
    service: { namespace: 'default', name: 'a', uid: 'uid-a' },
    type: 'Warning',
    reason: 'AllocationFailed',
    action: 'Allocate',
    note: 'pool "p" has no free address',
  });
  for (const allocation of [settled(X), assign([X], []), probing([X], []), release(X)]) {
    assert.deepEqual(plan([subject], [allocation]).refusals, []);
  }
});
