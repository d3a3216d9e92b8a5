import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Entry, MemberName } from '../../../src/election/types.ts';
import { addressStatuses } from '../../../src/iface/local-status.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { WIRE_CHECK_MS } from '../../../src/iface/wire-checks.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after, NEVER } from '../../../src/lib/time.ts';
import { ETH0, ETH1, FakeHost, link, NEIGHBOUR } from '../../support/fake-host.ts';

/** How an address comes to be held, by how this host is entitled to it, and how it is let go. */

const VIP = '192.0.2.10';
const OTHER = '192.0.2.11';
const OLD = '02:00:00:00:00:10' as Mac;
const OLD_IP = '192.0.2.3' as Ip;
const RETURN: Entry = { kind: 'return' };

function handOver(host: FakeHost, forMs = 400): Entry {
  return { kind: 'hand-over', from: 'node-a' as MemberName, until: after(host.now, forMs) };
}

function takeOver(host: FakeHost, leaseLeftMs = 10_000): Entry {
  const predecessor = {
    name: 'node-a' as MemberName,
    mac: OLD,
    ip: OLD_IP,
    notBefore: after(host.now, 50),
    leaseEndsAt: after(host.now, leaseLeftMs),
  };
  return { kind: 'take-over', predecessor };
}

function states(host: FakeHost, ip: string): readonly string[] {
  return host.states.filter((each) => each.ip === ip).map(({ state }) => state);
}

function kinds(host: FakeHost): readonly string[] {
  return host.frames.map(({ frame }) => frame);
}

test('return: three probes 20 ms apart, whatever was known before', () => {
  const host = new FakeHost().start().plan([], [VIP]).advance(500);
  host.frames.length = 0;
  host.grant(RETURN, VIP).advance(59);
  assert.equal(host.holds(VIP), false);
  host.advance(1);
  assert.equal(host.holds(VIP), true);
  assert.deepEqual(kinds(host), ['probe', 'probe', 'probe', 'announce']);
});

test('return: an answer is a conflict, asked again after 1, 2, 4 … s until it is silent', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.grant(RETURN, VIP).advance(100);
  assert.equal(host.status(VIP), 'conflict');
  assert.match(addressStatuses(host.machine, host.now)[0]?.reason ?? '', /asked again in 0\.9 s/);
  host.advance(10_000);
  const asked = host.frames.filter(({ frame }) => frame === 'probe').map(({ at }) => Math.round(at - 1_000));
  assert.deepEqual(asked, [0, 1_000, 3_000, 7_000]);
  host.neighbours.clear();
  host.advance(8_000);
  assert.equal(host.status(VIP), 'held');
  assert.deepEqual(states(host, VIP), ['taking', 'conflict', 'taking', 'held']);
});

test('hand-over: added at once and announced, though its owner still answers', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, OLD);
  host.grant(handOver(host), VIP);
  assert.equal(host.holds(VIP), true);
  assert.deepEqual(states(host, VIP), ['taking', 'held']);
  host.advance(0);
  assert.deepEqual(kinds(host), ['announce']);
});

test('hand-over: held only once the segment was told, as its owner lets go at that', () => {
  const host = new FakeHost().start();
  const ips = Array.from({ length: 200 }, (_, index) => `192.0.2.${index + 20}`);
  host
    .grant(handOver(host), ...ips)
    .advance(1)
    .plan([], [])
    .advance(1);
  host.states.length = 0;
  host.frames.length = 0;
  // Together more than may be announced at a time.
  host.grant(handOver(host), ...ips).advance(1_000);
  const held = host.states.filter(({ state }) => state === 'held');
  assert.equal(held.length, ips.length);
  assert.ok(held.some(({ at }) => at > (held[0]?.at ?? NEVER)));
  for (const { ip, at } of held) {
    const announced = host.frames.find((frame) => frame.ip === ip && frame.frame === 'announce');
    assert.ok(announced !== undefined && announced.at <= at, `${ip} is held before it is announced`);
  }
});

test('hand-over: one that was frozen on its way asks the wire', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, OLD);
  host.freezeMs = 401;
  host.grant(handOver(host), VIP).advance(200);
  assert.equal(host.holds(VIP), false);
  assert.equal(host.status(VIP), 'conflict');
});

test('hand-over: one that takes long is taken all the same while its owner waits, and not later', () => {
  for (const [waitsMs, isTaken] of [
    [1_600, true],
    [1_400, false],
  ] as const) {
    const host = new FakeHost();
    host.links = [link(ETH0, 'eth0', { flags: 0x2 })];
    host.start().grant(handOver(host, waitsMs), VIP).advance(1_000);
    host.neighbours.set(VIP as Ip, OLD);
    host.links = [link(ETH0, 'eth0')];
    host.freezeMs = 500;
    host.observe().advance(600);
    assert.equal(host.holds(VIP), isTaken, `${waitsMs}`);
  }
});

test('hand-over: an offer counts for a moment, not when the NIC comes back later', () => {
  const host = new FakeHost();
  host.links = [link(ETH0, 'eth0', { flags: 0x2 })];
  host.start().grant(handOver(host), VIP).advance(1_000);
  host.neighbours.set(VIP as Ip, OLD);
  host.links = [link(ETH0, 'eth0')];
  host.observe().advance(200);
  assert.equal(host.holds(VIP), false);
  assert.equal(host.status(VIP), 'conflict');
});

test('hand-over: what was lost afterwards is not taken back unasked', () => {
  const host = new FakeHost().start();
  host.grant(handOver(host), VIP).advance(100);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.pause(40_000).advance(200);
  assert.equal(host.status(VIP), 'conflict');
});

test('take-over: silence, then added not before the floor, announced at once', () => {
  const host = new FakeHost().start();
  host.grant(takeOver(host), VIP, OTHER).advance(49);
  assert.deepEqual(states(host, VIP), ['taking']);
  assert.equal(host.holds(VIP), false);
  host.advance(1);
  assert.deepEqual([host.holds(VIP), host.holds(OTHER)], [true, true]);
  assert.deepEqual(states(host, VIP), ['taking', 'held']);
  assert.deepEqual(kinds(host).slice(-2), ['announce', 'announce']);
});

test('take-over: while the predecessor answers, status says who and since when; then it is taken', () => {
  const host = new FakeHost().start();
  for (const ip of [VIP as Ip, OLD_IP]) host.neighbours.set(ip, OLD);
  host.grant(takeOver(host), VIP).advance(2_000);
  const [status] = addressStatuses(host.machine, host.now);
  assert.equal(status?.state, 'probing');
  assert.match(status?.reason ?? '', /^node-a \(02:00:00:00:00:10\) has gone on answering for 2\.0 s;/);
  assert.equal(host.reports.filter(({ kind }) => kind === 'still-served').length, 1);
  host.advance(8_000);
  host.neighbours.delete(VIP as Ip);
  const from = host.now;
  host.advance(1_000);
  assert.equal(host.holds(VIP), true);
  const heldAt = host.states.find(({ state }) => state === 'held')?.at ?? NEVER;
  assert.ok(heldAt - from <= 41, `held after ${heldAt - from} ms`);
});

test('take-over: behind a fabric, status says so and until when', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, OLD);
  host.grant(takeOver(host), VIP).advance(1_000);
  assert.match(addressStatuses(host.machine, host.now)[0]?.reason ?? '', /itself is silent.* in 10\.0 s$/);
  host.advance(10_100);
  assert.equal(host.holds(VIP), true);
});

test('take-over: an answer of a third MAC is a conflict, looked at again soon', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.grant(takeOver(host), VIP, OTHER).advance(500);
  assert.equal(host.status(VIP), 'conflict');
  assert.equal(host.status(OTHER), 'held');
  host.neighbours.clear();
  host.advance(1_000);
  assert.equal(host.status(VIP), 'held');
});

test('take-over: who answered before is forgotten when the entry names that one as the predecessor', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, OLD);
  host.grant(RETURN, VIP).advance(100);
  assert.equal(host.status(VIP), 'conflict');
  host.neighbours.clear();
  host.grant(takeOver(host), VIP).advance(50);
  assert.equal(host.status(VIP), 'held');
});

test('take-over: another host that probes for the address is given way, and found to have it', () => {
  const host = new FakeHost().start();
  host.grant(takeOver(host), VIP).advance(20);
  host.hear(VIP, '02:00:00:00:00:01' as Mac, 'wants').advance(40);
  assert.equal(host.holds(VIP), false);
  host.hear(VIP, '02:00:00:00:00:01' as Mac).advance(500);
  assert.equal(host.status(VIP), 'conflict');
});

test('take-over: an add that was frozen asks the wire again', () => {
  const host = new FakeHost().start().grant(RETURN);
  host.grant(takeOver(host), VIP).advance(49);
  host.freezeMs = 2_000;
  host.advance(1);
  assert.equal(host.holds(VIP), false);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.advance(200);
  assert.equal(host.status(VIP), 'conflict');
});

test('an entry that changes for an address that is held changes nothing', () => {
  const host = new FakeHost().start().want(VIP).advance(500);
  host.frames.length = 0;
  host.programs.length = 0;
  host.grant(RETURN, VIP).grant(handOver(host), VIP).grant(takeOver(host), VIP).advance(2_000);
  assert.equal(host.status(VIP), 'held');
  assert.deepEqual(host.programs, []);
  assert.ok(host.frames.every(({ frame }) => frame === 'announce'));
});

test('an address found in the kernel at start is held, whatever entitles to it', () => {
  const host = new FakeHost();
  host.putOwnAddress(ETH0, VIP as Ip, 32, 20);
  host.start().grant(RETURN, VIP).advance(100);
  assert.equal(host.status(VIP), 'held');
  assert.ok(host.frames.every(({ frame }) => frame === 'announce'));
});

test('withdraw: gone at once, and the wire is asked before it is taken again', () => {
  const host = new FakeHost().start().want(VIP, OTHER).advance(500);
  host.deliver({ kind: 'withdraw', ips: [VIP as Ip] });
  assert.deepEqual([host.holds(VIP), host.holds(OTHER)], [false, true]);
  assert.deepEqual(states(host, VIP), ['taking', 'held', 'absent']);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.want(VIP, OTHER);
  assert.equal(host.status(VIP), 'conflict');
});

test('withdraw: a notification from before does not revive it', () => {
  const host = new FakeHost().start().want(VIP).advance(500);
  const stale = [...host.kernel.values()].filter(({ ip }) => ip === VIP);
  const effects = host.machine.step({ kind: 'withdraw', ips: [VIP as Ip] }, host.now);
  assert.ok(effects.some((effect) => effect.kind === 'program' && effect.requests[0]?.op === 'remove'));
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.grant(RETURN, VIP).deliver({ kind: 'addresses-changed', present: stale, gone: [] });
  assert.equal(host.status(VIP), 'conflict');
  host.deliver({ kind: 'addresses-changed', present: [], gone: stale });
  assert.equal(host.status(VIP), 'conflict');
});

test('renewals forbidden: nothing is renewed, and the lifetime ends; allowed again in time: renewed', () => {
  const host = new FakeHost().start().want(VIP).advance(500);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  host.programs.length = 0;
  host.advance(10_000);
  assert.deepEqual(host.programs, []);
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: ETH0 });
  host.advance(WIRE_CHECK_MS);
  const asked: readonly FakeHost['programs'][number][] = host.programs;
  assert.deepEqual(
    asked.map(({ requests }) => requests.map(({ op }) => op)),
    [['renew']],
  );
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: undefined });
  host.advance(40_000);
  assert.equal(host.holds(VIP), false);
  assert.ok(host.reports.some(({ kind }) => kind === 'lost'));
  assert.equal(host.status(VIP), 'probing');
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: undefined });
  host.advance(200);
  assert.equal(host.status(VIP), 'held');
});

test('renewals forbidden on one NIC: the other goes on', () => {
  const host = new FakeHost().start().want(VIP).advance(500);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH1 });
  host.advance(60_000);
  assert.equal(host.holds(VIP), true);
});

test('renewals forbidden: nothing is added or repaired, until it is allowed', () => {
  const host = new FakeHost().start().want(VIP).advance(500);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: undefined });
  host.removeByHand(VIP);
  host.want(VIP, OTHER).advance(2_000);
  assert.deepEqual([host.holds(VIP), host.holds(OTHER)], [false, false]);
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: undefined });
  host.advance(500);
  assert.deepEqual([host.holds(VIP), host.holds(OTHER)], [true, true]);
});

test('renewals forbidden: silence from before is not enough for what had an owner', () => {
  const host = new FakeHost().start();
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: undefined });
  host.grant(RETURN, VIP).advance(2_000);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: undefined });
  host.advance(200);
  assert.equal(host.holds(VIP), false);
});

test('a request that is not meant any more is known as such', () => {
  const host = new FakeHost().start().want(VIP).advance(500);
  const request = {
    op: 'renew',
    ip: VIP as Ip,
    ifIndex: ETH0,
    prefixLength: 32,
    lifetimeMs: 30_000,
  } as const;
  assert.equal(host.machine.isMeant(request), true);
  assert.equal(host.machine.isMeant({ ...request, ifIndex: ETH1 }), false);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  assert.equal(host.machine.isMeant(request), false);
  assert.equal(host.machine.isMeant({ ...request, op: 'remove' }), true);
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: ETH0 });
  host.deliver({ kind: 'withdraw', ips: [VIP as Ip] });
  assert.equal(host.machine.isMeant(request), false);
});

test('the lease is what the last of the addresses has left', () => {
  const host = new FakeHost().start();
  assert.equal(host.machine.lease.leaseLeftMs(host.now), 0);
  assert.equal(host.machine.lease.lastRenewedAt, undefined);
  host.want(VIP).advance(150);
  assert.equal(host.machine.lease.leaseLeftMs(host.now), 30_000);
  const addedAt = host.now;
  host.advance(5_000);
  assert.equal(host.machine.lease.leaseLeftMs(host.now), 25_000);
  host.advance(3_000);
  assert.equal(host.machine.lease.leaseLeftMs(host.now), 29_500);
  assert.equal(host.machine.lease.lastRenewedAt, after(addedAt, 7_500));
  host.want();
  assert.equal(host.machine.lease.leaseLeftMs(host.now), 0);
});

test('a permanent address has a lease without end', () => {
  const host = new FakeHost({ prefix: 'host', lifetimeMs: 0 }).start().want(VIP).advance(500);
  assert.equal(host.machine.lease.leaseLeftMs(host.now), undefined);
});

test('1,000 addresses are taken over within the floor and their announcements’ pace', () => {
  const ips = Array.from({ length: 1_000 }, (_, index) => `10.0.${16 + (index >> 8)}.${index & 255}`);
  const host = new FakeHost();
  host.putHostAddress(ETH0, '10.0.0.1' as Ip, 16);
  host.start();
  host.grant(takeOver(host), ...ips).advance(50);
  assert.equal(ips.filter((ip) => host.holds(ip)).length, 1_000);
  host.advance(200);
  const announced = new Set(host.frames.flatMap(({ frame, ip }) => (frame === 'announce' ? [ip] : [])));
  assert.equal(announced.size, 1_000);
});

test('two hosts that ask for the same address: the one with the lower MAC goes first, the other looks again', () => {
  const lower = '02:00:00:00:00:01' as Mac;
  const yielding = new FakeHost().start().want(VIP).advance(140);
  yielding.hear(VIP, lower, 'wants').advance(200);
  assert.equal(yielding.holds(VIP), false);
  yielding.advance(60);
  assert.equal(yielding.holds(VIP), true);
  const first = new FakeHost().start().want(VIP).advance(140);
  first.hear(VIP, NEIGHBOUR, 'wants').advance(10);
  assert.equal(first.holds(VIP), true);
});

test('a host that only ever asks keeps nobody from an address', () => {
  const host = new FakeHost().start().want(VIP);
  for (let round = 0; round < 80; round++) host.hear(VIP, '02:00:00:00:00:01' as Mac, 'wants').advance(10);
  assert.equal(host.holds(VIP), true);
});

test('announce: what is held is announced again in a series, the rest is not', () => {
  const host = new FakeHost().start().want(VIP).advance(5_000);
  host.frames.length = 0;
  host.deliver({ kind: 'announce', ips: [VIP as Ip, OTHER as Ip] });
  host.advance(5_000);
  assert.equal(host.frames.length, 5);
  assert.ok(host.frames.every(({ ip, frame }) => ip === VIP && frame === 'announce'));
});
