import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventReporter } from '../../../src/daemon/event-reporter.ts';
import type { Report } from '../../../src/iface/local-types.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import type { Allocation } from '../../../src/ipam/types.ts';
import type { EventNote, Service } from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { service } from '../ipam/fixtures.ts';

const X = '192.0.2.10' as Ip;
const MAC = '02:00:00:00:00:99' as Mac;
const ETH0 = 2 as IfIndex;

class Told {
  readonly notes: EventNote[] = [];
  readonly reporter = new EventReporter((note) => void this.notes.push(note), 'edge-1');

  /** What was told since the last call. */
  take(): readonly string[] {
    return this.notes.splice(0).map(({ service: { name }, type, reason, note }) => {
      return `${name}: ${type} ${reason}: ${note}`;
    });
  }
}

function refusal(name: string, note: string, uid = `uid-${name}`): EventNote {
  const reference = { namespace: 'default', name, uid };
  return { service: reference, type: 'Warning', reason: 'AllocationFailed', action: 'Allocate', note };
}

test('refused() tells a refusal once as long as it holds', () => {
  const told = new Told();
  const notes = [refusal('a', 'exhausted'), refusal('b', 'exhausted')];
  told.reporter.refused(notes);
  assert.equal(told.take().length, 2);
  told.reporter.refused([...notes]);
  told.reporter.refused([...notes].reverse());
  assert.deepEqual(told.take(), []);
});

test('refused() tells again when the reason changes, and when it holds anew', () => {
  const told = new Told();
  told.reporter.refused([refusal('a', 'exhausted')]);
  told.reporter.refused([refusal('a', 'unknown pool')]);
  assert.deepEqual(told.take(), [
    'a: Warning AllocationFailed: exhausted',
    'a: Warning AllocationFailed: unknown pool',
  ]);
  told.reporter.refused([]);
  told.reporter.refused([refusal('a', 'unknown pool')]);
  assert.equal(told.take().length, 1);
});

test('refused() tells a Service that was deleted and made again under its name', () => {
  const told = new Told();
  told.reporter.refused([refusal('a', 'exhausted')]);
  told.reporter.refused([refusal('a', 'exhausted', 'uid-again')]);
  assert.equal(told.take().length, 2);
});

const WORDS: readonly (readonly [report: Report, told: string | undefined])[] = [
  [
    { kind: 'held', ip: X, ifIndex: ETH0, how: 'taken' },
    'Normal Announced: Announced 192.0.2.10 on eth0 of edge-1',
  ],
  [{ kind: 'held', ip: X, ifIndex: ETH0, how: 'adopted' }, undefined],
  [
    { kind: 'waiting', ip: X, why: 'no-interface', reason: 'no NIC has it', wasHeld: false },
    'Warning NotAnnounced: 192.0.2.10 is not announced by edge-1: no NIC has it',
  ],
  [
    { kind: 'conflict', ip: X, mac: MAC, ifIndex: ETH0 },
    'Warning AddressConflict: 192.0.2.10 is not announced: 02:00:00:00:00:99 answers for it on eth0 of edge-1',
  ],
  [
    { kind: 'rival-heard', ip: X, mac: MAC, ifIndex: ETH0 },
    'Warning AddressConflict: 02:00:00:00:00:99 claims 192.0.2.10, which is announced on eth0 of edge-1',
  ],
  [
    { kind: 'add-failed', ip: X, ifIndex: ETH0, reason: 'EPERM' },
    'Warning NotAnnounced: 192.0.2.10 could not be added on eth0 of edge-1: EPERM',
  ],
  [
    { kind: 'lost', ip: X, ifIndex: ETH0 },
    'Warning AddressLost: 192.0.2.10 on eth0 of edge-1 was not renewed in time; it is probed and taken again',
  ],
  [
    { kind: 'repaired', ip: X, ifIndex: ETH0, was: 'removed', repairs: 1 },
    'Warning AddressRepaired: 192.0.2.10 was removed on eth0 of edge-1 by somebody else and put back',
  ],
  [{ kind: 'renew-failed', ip: X, ifIndex: ETH0, reason: 'ENOBUFS' }, undefined],
  [{ kind: 'remove-failed', ip: X, ifIndex: ETH0, reason: 'EPERM' }, undefined],
  [{ kind: 'dropped', ip: X, wasHeld: true }, undefined],
];

for (const [report, expected] of WORDS) {
  const how = report.kind === 'held' ? ` (${report.how})` : '';
  test(`reported() ${expected === undefined ? 'tells nothing' : 'tells every user'} of ${report.kind}${how}`, () => {
    const told = new Told();
    const users = [service('a'), service('b')];
    told.reporter.reported({ report, interface: 'eth0', services: [] }, users);
    assert.deepEqual(
      told.take(),
      expected === undefined ? [] : users.map(({ name }) => `${name}: ${expected}`),
    );
  });
}

test('reported() tells nobody when nobody uses the address', () => {
  const told = new Told();
  told.reporter.reported(
    { report: { kind: 'lost', ip: X, ifIndex: ETH0 }, interface: 'eth0', services: [] },
    [],
  );
  assert.deepEqual(told.take(), []);
});

function settledOn(subject: Service): Allocation {
  const addresses = subject.ingress.map(({ ip }) => ip as Ip);
  const rest = { foreign: [], unmet: undefined, explain: '' };
  return { kind: 'settled', service: subject.key, addresses, ...rest };
}

function allocated(told: Told, ...services: readonly Service[]): readonly string[] {
  told.reporter.allocated(services.map(settledOn), new Map(services.map((each) => [each.key, each])));
  return told.take();
}

const A = service('a', { status: [X] });

test('allocated() tells once that the address of a Service that went is free', () => {
  const told = new Told();
  assert.deepEqual(allocated(told, A), []);
  assert.deepEqual(allocated(told, A), []);
  assert.match(
    allocated(told)[0] ?? '',
    /^a: Normal Released: Released 192\.0\.2\.10: the Service was deleted/,
  );
  assert.deepEqual(allocated(told), []);
});

test('allocated() tells the old Service when a new one has its name', () => {
  const told = new Told();
  allocated(told, A);
  const again = service('a', { uid: 'uid-again', status: [X] });
  told.reporter.allocated([settledOn(again)], new Map([[again.key, again]]));
  assert.deepEqual(
    told.notes.map((note) => note.service.uid),
    ['uid-a'],
  );
});

test('allocated() says nothing of what went while another host was the allocator', () => {
  const told = new Told();
  allocated(told, A);
  told.reporter.notAllocating();
  assert.deepEqual(allocated(told), []);
});

test('reported() tells from which host an address came', () => {
  const told = new Told();
  const named = {
    report: { kind: 'held', ip: X, ifIndex: ETH0, how: 'taken' } as const,
    interface: 'eth0',
    services: [],
  };
  const predecessor = { name: 'edge-2', mac: MAC, ip: X, notBefore: 0, leaseEndsAt: 0 };
  const entries = [
    undefined,
    { kind: 'first' },
    { kind: 'return' },
    { kind: 'hand-over', from: 'edge-2', until: 0 },
    { kind: 'take-over', predecessor },
  ] as Parameters<typeof told.reporter.reported>[2][];
  for (const entry of entries) told.reporter.reported(named, [service('a')], entry);
  const announced = 'Announced 192.0.2.10 on eth0 of edge-1';
  assert.deepEqual(told.take(), [
    ...Array.from({ length: 3 }, () => `a: Normal Announced: ${announced}`),
    `a: Normal OwnershipChanged: ${announced}, handed over by edge-2`,
    `a: Normal OwnershipChanged: ${announced}, taken over from edge-2`,
  ]);
});

test('homeless() tells of an address that no host may have once as long as that holds', () => {
  const told = new Told();
  const services = [service('a'), service('b')];
  const note = (name: string, reason: string) =>
    `${name}: Warning NoEligibleHost: 192.0.2.10 is announced by nobody: ${reason}`;
  told.reporter.homeless([{ ip: X, reason: 'no endpoint', services }]);
  assert.deepEqual(told.take(), [note('a', 'no endpoint'), note('b', 'no endpoint')]);
  told.reporter.homeless([{ ip: X, reason: 'no endpoint', services }]);
  assert.deepEqual(told.take(), []);
  told.reporter.homeless([{ ip: X, reason: 'all are drained', services: services.slice(0, 1) }]);
  assert.deepEqual(told.take(), [note('a', 'all are drained')]);
  told.reporter.homeless([]);
  told.reporter.homeless([{ ip: X, reason: 'no endpoint', services: services.slice(0, 1) }]);
  assert.deepEqual(told.take(), [note('a', 'no endpoint')]);
});
