import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Effect, Report } from '../../../src/election/effects.ts';
import { MEMBER_LIMIT } from '../../../src/election/member-table.ts';
import { MAX_INCARNATION_JUMP } from '../../../src/election/membership.ts';
import type { Gossip, MemberUpdate, Message, Update } from '../../../src/election/message.ts';
import { PROFILES } from '../../../src/election/settings.ts';
import { Swim } from '../../../src/election/swim.ts';
import type { Endpoint, MemberName } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';
import { metaAt } from './swim-network.ts';

/** One member and what others say to it. */

const T0 = instant(10_000);
const LAN = PROFILES.lan;
const ONE_WAY_MS = 40;

function endpoint(number: number): Endpoint {
  return { ip: `10.1.${number >> 8}.${number & 255}` as Ip, port: 7946 };
}

function name(number: number): MemberName {
  return `m${number}` as MemberName;
}

const SELF = name(0);

function alive(number: number, incarnation = 1): MemberUpdate {
  const meta = metaAt(endpoint(number));
  const rest = { meta, by: undefined, silence: undefined };
  return { kind: 'member', name: name(number), incarnation, state: 'alive', ...rest };
}

function said(of: number, state: MemberUpdate['state'], incarnation: number, by?: number): MemberUpdate {
  const rest = { meta: undefined, by: by === undefined ? undefined : name(by), silence: undefined };
  return { kind: 'member', name: name(of), incarnation, state, ...rest };
}

function gossip(from: number, ...updates: readonly Update[]): Gossip {
  return { kind: 'gossip', from: name(from), updates };
}

class Bench {
  readonly out: Effect[] = [];
  readonly swim: Swim;
  /** The others that answer probes; all but these are silent. */
  answering: (number: number) => boolean = () => true;
  now: Instant = T0;
  #answered = 0;

  constructor(others = 0, settings = LAN) {
    this.swim = new Swim({
      name: SELF,
      meta: metaAt(endpoint(0)),
      incarnation: 5,
      settings,
      random: seededRandom(1),
      out: this.out,
      now: T0,
    });
    const members = Array.from({ length: others }, (_, index) => alive(index + 1));
    if (others > 0) this.swim.merge(members, T0);
    this.out.length = 0;
  }

  hear(from: number, ...updates: readonly Update[]): void {
    this.swim.heard(gossip(from, ...updates), endpoint(from), this.now);
  }

  /** Lives on to `ms` later, timer by timer. */
  live(ms: number): void {
    const end = after(this.now, ms);
    for (let next = this.swim.deadline(); next <= end; next = this.swim.deadline()) {
      assert.ok(next >= this.now, 'time runs backwards');
      this.now = next;
      this.swim.advance(next);
      this.#answer();
      assert.ok(this.swim.deadline() > next, 'it stands still');
    }
    this.now = end;
  }

  #answer(): void {
    for (this.#answered = Math.min(this.#answered, this.out.length); this.#answered < this.out.length; ) {
      const effect = this.out[this.#answered++];
      if (effect?.kind !== 'send' || effect.message.kind !== 'ping') continue;
      const { target, seq } = effect.message;
      if (!this.answering(Number(target.slice(1)))) continue;
      this.swim.heard({ kind: 'ack', from: target, seq, updates: [] }, effect.to, this.now);
    }
  }

  /** What was asked for so far is looked at no more. */
  clear(): void {
    this.out.length = 0;
    this.#answered = 0;
  }

  sent(to?: number): readonly Message[] {
    const where = to === undefined ? undefined : endpoint(to).ip;
    return this.out.flatMap((effect) =>
      effect.kind === 'send' && (where === undefined || effect.to.ip === where) ? [effect.message] : [],
    );
  }

  updatesTo(to: number): readonly MemberUpdate[] {
    return this.sent(to).flatMap((message) =>
      'updates' in message ? message.updates.filter((update) => update.kind === 'member') : [],
    );
  }

  reports(): readonly Report[] {
    return this.out.flatMap((effect) => (effect.kind === 'report' ? [effect.report] : []));
  }

  exchanges(): number {
    return this.out.filter((effect) => effect.kind === 'exchange').length;
  }

  stateOf(number: number): string | undefined {
    return this.swim.member(name(number))?.state;
  }
}

test('heard() answers a ping that means this host and no other', () => {
  const bench = new Bench(1);
  const ping = { kind: 'ping', from: name(1), seq: 7, updates: [] } as const;
  bench.swim.heard({ ...ping, target: name(9) }, endpoint(1), T0);
  assert.deepEqual(bench.sent(), []);
  bench.swim.heard({ ...ping, target: SELF }, endpoint(1), T0);
  assert.deepEqual(
    bench.sent().map((message) => [message.kind, 'seq' in message ? message.seq : 0]),
    [['ack', 7]],
  );
});

test('heard() returns the claims of a packet and applies its members', () => {
  const bench = new Bench(1);
  const claim = { kind: 'claim', ip: '192.0.2.1' as Ip, owner: name(1), epoch: 3 } as const;
  const claims = bench.swim.heard(gossip(1, claim, alive(2)), endpoint(1), T0);
  assert.deepEqual(claims, [claim]);
  assert.equal(bench.stateOf(2), 'alive');
});

test('heard() probes for another: its answer is passed on, or a nack when there is none in time', () => {
  const bench = new Bench(2);
  bench.answering = (number) => number !== 2;
  const request = { kind: 'ping-request', from: name(1), target: name(2), updates: [] } as const;
  bench.swim.heard({ ...request, seq: 70, targetEndpoint: endpoint(2) }, endpoint(1), T0);
  const ping = bench.sent(2).find((message) => message.kind === 'ping');
  assert.ok(ping?.kind === 'ping');
  bench.clear();
  bench.live(LAN.probeTimeoutMs);
  assert.ok(bench.sent(1).some((message) => message.kind === 'nack' && message.seq === 70));
  const ack = { kind: 'ack', from: name(2), seq: ping.seq, updates: [] } as const;
  bench.swim.heard(ack, endpoint(2), bench.now);
  bench.swim.heard(ack, endpoint(2), bench.now);
  const passedOn = bench.sent(1).filter((message) => message.kind === 'ack' && message.seq === 70);
  assert.equal(passedOn.length, 1, 'late, but once');
});

for (const [profile, settings] of Object.entries(PROFILES))
  test(`a member that answers nobody goes through direct, indirect and TCP probe before it is suspect (${profile})`, () => {
    const bench = new Bench(5, settings);
    bench.answering = () => false;
    bench.live(settings.probeIntervalMs);
    const first = bench.sent().find((message) => message.kind === 'ping');
    assert.ok(first?.kind === 'ping');
    const target = Number(first.target.slice(1));
    const startedAt = bench.now;
    bench.live(settings.probeIntervalMs);
    const asked = bench.sent().filter((message) => message.kind === 'ping-request');
    const about = asked.filter((message) => 'target' in message && message.target === first.target);
    assert.equal(about.length, settings.indirect);
    assert.ok(bench.out.some((e) => e.kind === 'exchange' && e.with.ip === endpoint(target).ip));
    assert.equal(bench.stateOf(target), 'suspect', `${bench.now - startedAt} ms after`);
    assert.ok(
      bench.updatesTo(target).some((update) => update.state === 'suspect' && update.name === first.target),
      'it is told',
    );
    assert.equal(bench.swim.healthScore, settings.indirect, 'that no helper said a word is our own fault');
  });

for (const [profile, settings] of Object.entries(PROFILES)) {
  test(`helpers have time to say that a dead member is no fault of who probes it (${profile})`, () => {
    const bench = new Bench(5, settings);
    bench.answering = () => false;
    const pings = () => bench.sent().filter((message) => message.kind === 'ping');
    while (pings().length === 0) bench.live(1);
    bench.live(settings.probeTimeoutMs);
    const asked = bench.sent().filter((message) => message.kind === 'ping-request');
    assert.equal(asked.length, settings.indirect);
    // A helper waits as long as the probe itself did, from when it was asked.
    bench.live(settings.probeTimeoutMs + 2 * ONE_WAY_MS);
    for (const { seq } of asked)
      bench.swim.heard({ kind: 'nack', from: name(1), seq }, endpoint(1), bench.now);
    bench.live(settings.probeIntervalMs);
    assert.ok(pings().length > 1, 'the probe is over');
    assert.equal(bench.swim.healthScore, 0);
  });
}

test('a state that came over TCP answers the probe', () => {
  const bench = new Bench(5);
  bench.answering = () => false;
  bench.live(LAN.probeIntervalMs);
  const first = bench.sent().find((message) => message.kind === 'ping');
  assert.ok(first?.kind === 'ping');
  bench.live(LAN.probeIntervalMs / 2);
  bench.swim.merge([alive(1)], bench.now, first.target);
  bench.live(LAN.probeIntervalMs / 2);
  assert.equal(bench.swim.member(first.target)?.state, 'alive');
});

test('a suspicion of this host is refuted with a higher incarnation', () => {
  const bench = new Bench(3);
  for (const state of ['suspect', 'dead', 'left'] as const) {
    const before = bench.swim.incarnation;
    bench.hear(1, said(0, state, before));
    assert.equal(bench.swim.incarnation, before + 1, state);
  }
  assert.ok(bench.out.some((effect) => effect.kind === 'persist'));
  bench.live(LAN.gossipIntervalMs);
  const own = bench.updatesTo(1).filter((update) => update.name === SELF);
  assert.equal(own.at(-1)?.incarnation, bench.swim.incarnation);
});

test('an old word about this host changes nothing, and who has it gets the new one', () => {
  const bench = new Bench(1);
  bench.hear(1, said(0, 'dead', 4));
  assert.equal(bench.swim.incarnation, 5);
  const [own] = bench.updatesTo(1);
  assert.deepEqual([own?.name, own?.state, own?.incarnation], [SELF, 'alive', 5]);
});

test('an absurd incarnation is harmless, of this host as of others', () => {
  const bench = new Bench(2);
  for (const incarnation of [5 + MAX_INCARNATION_JUMP + 1, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
    for (const state of ['alive', 'suspect', 'dead', 'left'] as const) {
      const update = { ...said(0, state, incarnation), meta: metaAt(endpoint(77)) };
      bench.swim.merge([update, { ...update, name: name(1) }], bench.now);
      bench.hear(2, update, { ...update, name: name(1) });
    }
  }
  assert.equal(bench.swim.incarnation, 5);
  assert.equal(bench.swim.member(name(1))?.incarnation, 1);
  assert.equal(bench.stateOf(1), 'alive');
});

test('a member that says less than an absurd record of it is taken at its word', () => {
  const bench = new Bench(1);
  bench.swim.merge([alive(7, 2 ** 40)], T0);
  assert.equal(bench.swim.member(name(7))?.incarnation, 2 ** 40);
  bench.swim.contact(name(7), 3, T0, endpoint(7));
  assert.equal(bench.stateOf(7), undefined);
  assert.equal(bench.exchanges(), 1);
  bench.swim.merge([alive(7, 3)], T0);
  assert.equal(bench.stateOf(7), 'alive');
});

test('whatever the order in which updates come, the same stands', () => {
  const updates = [
    alive(1, 2),
    said(1, 'suspect', 2, 3),
    alive(1, 3),
    said(1, 'dead', 3),
    said(1, 'left', 3),
  ];
  const random = seededRandom(7);
  for (let round = 0; round < 50; round++) {
    const bench = new Bench(4);
    const shuffled = updates.map((update) => ({ update, key: random() })).sort((a, b) => a.key - b.key);
    for (const { update } of shuffled) bench.hear(2, update);
    const member = bench.swim.member(name(1));
    assert.deepEqual([member?.state, member?.incarnation], ['left', 3]);
  }
});

test('a suspect is dead after the longest time when one says so, and the shortest when enough confirm', () => {
  const scale = Math.log10(21);
  for (const [voices, waitMs] of [
    [1, LAN.suspicionMaxMs * scale],
    [4, LAN.suspicionMinMs * scale],
  ] as const) {
    const bench = new Bench(20);
    for (let by = 2; by < 2 + voices; by++) bench.hear(by, said(1, 'suspect', 1, by));
    bench.live(waitMs - LAN.probeTimeoutMs - 10);
    bench.answering = (number) => number !== 1;
    bench.live(LAN.probeTimeoutMs);
    assert.equal(bench.stateOf(1), 'suspect');
    bench.live(LAN.probeTimeoutMs);
    assert.equal(bench.stateOf(1), 'dead');
  }
});

test('a suspect gets its last chance: two direct pings that tell it, and an ack postpones', () => {
  const bench = new Bench(20);
  bench.answering = (number) => number !== 1;
  const silence = { why: 'silent', lastHeardAt: T0, leaseEndsAt: NEVER } as const;
  bench.swim.judge(name(1), 1, silence, name(2), T0);
  bench.clear();
  bench.live(LAN.suspicionMinMs - 10);
  const pings = bench.sent(1).filter((message) => message.kind === 'ping');
  assert.ok(pings.length >= 2);
  const last = pings.at(-1);
  assert.ok(last?.kind === 'ping');
  assert.ok(last.updates.some((update) => update.kind === 'member' && update.state === 'suspect'));
  bench.swim.heard({ kind: 'ack', from: name(1), seq: last.seq, updates: [] }, endpoint(1), bench.now);
  bench.live(LAN.suspicionMinMs - 20);
  assert.equal(bench.stateOf(1), 'suspect');
  bench.live(LAN.suspicionMinMs);
  assert.equal(bench.stateOf(1), 'dead');
});

test('a suspect that another member reaches is not declared dead, and that member is asked what it knows', () => {
  const bench = new Bench(5);
  bench.answering = (number) => number !== 1;
  const silence = { why: 'silent', lastHeardAt: T0, leaseEndsAt: NEVER } as const;
  bench.swim.judge(name(1), 1, silence, name(2), T0);
  bench.live(LAN.suspicionMinMs - LAN.probeTimeoutMs - 5);
  bench.clear();
  bench.live(10);
  const [ping] = bench.sent(1).filter((message) => message.kind === 'ping');
  assert.ok(ping !== undefined, 'its last chance');
  const helpers = [3, 4, 5].filter((number) =>
    bench.sent(number).some((message) => message.kind === 'ping-request' && message.seq === ping.seq),
  );
  // The second member suspects it: it is no help.
  assert.deepEqual(helpers, [3, 4, 5]);
  const before = bench.exchanges();
  bench.swim.heard({ kind: 'ack', from: name(3), seq: ping.seq, updates: [] }, endpoint(3), bench.now);
  assert.equal(bench.exchanges(), before + 1);
  bench.live(LAN.suspicionMinMs - 20);
  assert.equal(bench.stateOf(1), 'suspect');
  bench.live(LAN.suspicionMinMs);
  assert.equal(bench.stateOf(1), 'dead');
});

test("judge() makes a member suspect with the watcher's silence and tells it", () => {
  const bench = new Bench(3);
  bench.answering = (number) => number !== 1;
  const silence = {
    why: 'process-gone',
    lastHeardAt: after(T0, -150),
    leaseEndsAt: after(T0, 9_000),
  } as const;
  bench.swim.judge(name(1), 1, silence, SELF, T0);
  assert.equal(bench.stateOf(1), 'suspect');
  assert.deepEqual(bench.swim.silence(name(1)), silence);
  bench.swim.take();
  bench.now = after(T0, 20);
  bench.swim.advance(bench.now);
  const [told] = bench.updatesTo(2).filter((update) => update.name === name(1));
  assert.deepEqual(told?.silence, { why: 'process-gone', silentMs: 170, leaseLeftMs: 8_980 });
  bench.live(LAN.suspicionMinMs + 4 * LAN.probeTimeoutMs);
  assert.equal(bench.stateOf(1), 'dead');
  assert.equal(bench.swim.silence(name(1))?.why, 'process-gone');
  bench.hear(1, alive(1, 2));
  assert.equal(bench.swim.silence(name(1)), undefined);
});

test('judge() of an incarnation that is over changes nothing', () => {
  const bench = new Bench(3);
  bench.hear(1, alive(1, 4));
  const { version } = bench.swim;
  bench.swim.judge(name(1), 3, { why: 'silent', lastHeardAt: T0, leaseEndsAt: NEVER }, name(2), T0);
  assert.equal(bench.stateOf(1), 'alive');
  assert.equal(bench.swim.version, version);
});

test('vouch() withdraws a suspicion that only this host has, and has another one refuted', () => {
  const bench = new Bench(5);
  const silence = { why: 'silent', lastHeardAt: T0, leaseEndsAt: NEVER } as const;
  bench.swim.judge(name(1), 1, silence, SELF, T0);
  bench.swim.vouch(name(1), T0);
  assert.equal(bench.stateOf(1), 'alive');
  assert.equal(bench.swim.silence(name(1)), undefined);
  bench.hear(2, said(1, 'suspect', 1, 0));
  assert.equal(bench.stateOf(1), 'alive', 'our own word comes back to us');

  bench.hear(3, said(2, 'suspect', 1, 3));
  bench.clear();
  bench.swim.vouch(name(2), T0);
  assert.equal(bench.stateOf(2), 'suspect');
  assert.deepEqual(
    bench.updatesTo(2).map((update) => [update.name, update.state]),
    [[name(2), 'suspect']],
  );
});

test('contact() tells who is dead here, asks who is ahead, and is quiet about it', () => {
  const bench = new Bench(3);
  bench.hear(2, said(1, 'dead', 1));
  bench.clear();
  for (let count = 0; count < 20; count++) bench.swim.contact(name(1), 1, after(T0, count), endpoint(1));
  assert.equal(bench.updatesTo(1).length, 1);
  assert.equal(bench.exchanges(), 1);
  bench.clear();
  bench.swim.contact(name(2), 9, after(T0, 2_000));
  assert.equal(bench.exchanges(), 1);
  bench.clear();
  bench.swim.contact(name(3), 1, T0);
  assert.deepEqual(bench.out, []);
});

test('merge() doubts a death that others tell of in bulk, gossip does not', () => {
  const bench = new Bench(3);
  bench.swim.merge([said(1, 'dead', 1)], T0);
  assert.equal(bench.stateOf(1), 'suspect');
  bench.hear(3, said(2, 'dead', 1));
  assert.equal(bench.stateOf(2), 'dead');
});

test('the dead are kept, asked again and again, and forgotten after a day', () => {
  const bench = new Bench(1);
  bench.answering = () => false;
  bench.hear(1, said(1, 'dead', 1));
  bench.clear();
  bench.live(60_000);
  const pings = bench.sent(1).filter((message) => message.kind === 'ping');
  assert.ok(pings.length > 45 && pings.length < 80, `${pings.length}`);
  bench.live(24 * 3_600_000);
  assert.equal(bench.stateOf(1), undefined);
  assert.equal(bench.swim.deadline(), NEVER);
});

test('a flood of members that do not exist stays within the table, and the dead make room', () => {
  const bench = new Bench(3);
  for (let count = 1; count <= 3 * MEMBER_LIMIT; count++) bench.hear(1, alive(1_000 + count));
  assert.equal(bench.swim.members().size, MEMBER_LIMIT);
  bench.hear(1, said(1_001, 'dead', 1));
  bench.hear(1, alive(900));
  assert.equal(bench.stateOf(900), 'alive');
  assert.equal(bench.stateOf(1_001), undefined);
  assert.equal(bench.swim.members().size, MEMBER_LIMIT);
  assert.equal(bench.swim.member(SELF)?.state, 'alive');
});

test('an update of somebody unknown without metadata is nobody', () => {
  const bench = new Bench(1);
  bench.hear(1, said(50, 'alive', 1), said(51, 'suspect', 1, 1), said(52, 'dead', 1));
  assert.equal(bench.swim.members().size, 2);
});

test('an unknown sender is asked who it is, once a second', () => {
  const bench = new Bench(1);
  for (let count = 0; count < 10; count++) bench.hear(60);
  assert.equal(bench.exchanges(), 1);
});

test('nothing is sent when there is nobody and nothing', () => {
  const bench = new Bench();
  assert.equal(bench.swim.deadline(), NEVER);
  bench.live(10_000);
  assert.deepEqual(bench.sent(), []);
});

test('gossip stops when the news has travelled enough', () => {
  const bench = new Bench(8);
  bench.live(5_000);
  bench.clear();
  bench.live(5_000);
  const updates = bench.sent().flatMap((message) => ('updates' in message ? message.updates : []));
  assert.deepEqual(updates, []);
});

test('an update is sent so often as the number of members asks, and no more', () => {
  const bench = new Bench(8);
  bench.live(5_000);
  bench.clear();
  const claim = { kind: 'claim', ip: '192.0.2.1' as Ip, owner: name(1), epoch: 3 } as const;
  bench.swim.broadcast(claim, bench.now);
  bench.live(2_000);
  const copies = bench
    .sent()
    .filter((message) => 'updates' in message && message.updates.some((update) => update.kind === 'claim'));
  assert.equal(copies.length, 2 * LAN.retransmitMult);
});

test('leave() is not refuted by its own echo', () => {
  const bench = new Bench(3);
  bench.swim.leave(T0);
  bench.hear(1, said(0, 'left', 5), said(0, 'dead', 5), said(0, 'suspect', 9));
  assert.equal(bench.swim.incarnation, 5);
  assert.equal(bench.swim.self.state, 'left');
  bench.live(5_000);
  assert.equal(bench.stateOf(1), 'alive', 'who leaves suspects nobody');
  assert.deepEqual(bench.reports(), []);
});

test('take() names each member that changed once', () => {
  const bench = new Bench(2);
  assert.deepEqual([...bench.swim.take()].sort(), [SELF, name(1), name(2)]);
  bench.hear(1, alive(1, 2), alive(1, 3));
  assert.deepEqual(bench.swim.take(), [name(1)]);
  assert.deepEqual(bench.swim.take(), []);
});
