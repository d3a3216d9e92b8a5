import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Effect } from '../../../src/election/effects.ts';
import type { Heartbeat } from '../../../src/election/message.ts';
import { type ElectionSettings, PROFILES } from '../../../src/election/settings.ts';
import type { Member, MemberName, SegmentKey } from '../../../src/election/types.ts';
import { Watch } from '../../../src/election/watch.ts';
import { ASKS_PER_SLOT, SEGMENT_ASKS, watchTiming } from '../../../src/election/watch-timing.ts';
import type { Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';

/** One host, and healthy peers that answer in no time over a network that loses packets. */

const SEGMENT = '10.0.0.0/24' as SegmentKey;
const SELF = 'self' as MemberName;
const LAN = PROFILES.lan;

function memberOf(name: MemberName, index: number): Member {
  const ip = `10.0.0.${index}` as Ip;
  const endpoint = { ip, port: 7946 };
  const mac = '02:00:00:00:00:01' as Mac;
  const segments = [{ subnet: { network: '10.0.0.0' as Ip, length: 24 }, ip, mac }];
  const rest = { node: name, version: '1', drained: false, weight: 100, configDigest: '', lifetimeMs: 0 };
  return {
    name,
    incarnation: 1,
    state: 'alive',
    meta: { endpoint, segments, ...rest },
    since: instant(0),
  };
}

class Lone {
  readonly watch: Watch;
  readonly out: Effect[] = [];
  readonly peers: readonly MemberName[];
  readonly #members: ReadonlyMap<MemberName, Member>;
  readonly #seqs = new Map<MemberName, number>();
  /** The number of the last heartbeat that was taken. */
  sent = 0;

  constructor(settings: ElectionSettings, peers: number, now: Instant) {
    this.peers = Array.from({ length: peers }, (_, index) => `peer-${index}` as MemberName);
    this.watch = new Watch({
      name: SELF,
      settings,
      random: seededRandom(7),
      out: this.out,
      digests: { own: () => 0, table: () => 0, of: () => 0 },
      leaseLeftMs: () => undefined,
      incarnation: () => 1,
    });
    const names = [SELF, ...this.peers];
    this.#members = new Map(names.map((name, index) => [name, memberOf(name, index + 1)]));
    const own = this.#members.get(SELF)?.meta.segments ?? [];
    this.watch.segmentsChanged(own, this.#members, now);
  }

  hear(from: MemberName, ackSeq: number, now: Instant): void {
    const seq = (this.#seqs.get(from) ?? 0) + 1;
    this.#seqs.set(from, seq);
    const beat: Heartbeat = {
      kind: 'heartbeat',
      from,
      incarnation: 1,
      segment: SEGMENT,
      seq,
      ackSeq,
      gapMs: 0,
      urgent: false,
      isolated: false,
      claimsMatch: true,
      ownDigest: 0,
      tableDigest: 0,
      leaseLeftMs: undefined,
    };
    this.watch.heartbeat(
      beat,
      this.#members.get(from)?.meta.endpoint ?? assert.fail(),
      SEGMENT,
      undefined,
      now,
    );
  }

  /** All effects so far, each heartbeat with the peer that it is for. */
  take(): readonly { readonly effect: Effect; readonly peer: MemberName | undefined }[] {
    const effects = this.out.splice(0);
    return effects.map((effect) => {
      if (effect.kind !== 'send') return { effect, peer: undefined };
      if (effect.message.kind === 'heartbeat') this.sent = effect.message.seq;
      const index = Number(effect.to.ip.slice('10.0.0.'.length)) - 2;
      return { effect, peer: this.peers[index] };
    });
  }
}

type Trial = {
  readonly settings: ElectionSettings;
  readonly peers: number;
  readonly loss: number;
  /** The neighbour that is watched for a verdict, while all others are heard always; undefined: wait for isolation. */
  readonly only: boolean;
};

/** How often a window after a heartbeat of a healthy neighbour ends in a verdict, or in isolation. */
function frequency({ settings, peers, loss, only }: Trial, windows: number): number {
  const random = seededRandom(Math.round(loss * 1_000) + peers);
  const lost = (packets: number) => random() >= (1 - loss) ** packets;
  let errors = 0;
  const timing = watchTiming(settings);
  const windowMs = only ? timing.inquireAfterMs + timing.inquiryMs : timing.isolationMs;
  let at = 1_000;
  let lone = new Lone(settings, peers, instant(at));
  for (let round = 0; round < windows; round++) {
    const [watched] = lone.watch.neighbours(SEGMENT);
    assert.ok(watched);
    const start = at;
    for (const name of lone.watch.neighbours(SEGMENT)) lone.hear(name, lone.sent, instant(start));
    lone.take();
    let beatAt = start + settings.heartbeatMs;
    let heard = false;
    while (!heard && at <= start + windowMs) {
      at = Math.min(beatAt, lone.watch.deadline());
      if (at > start + windowMs) break;
      // What would arrive at the very end arrives too late.
      if (at === beatAt && at < start + windowMs) {
        for (const name of lone.watch.neighbours(SEGMENT)) {
          if (only && name !== watched) lone.hear(name, 0, instant(at));
          else if (!lost(1)) heard = true;
        }
        beatAt += settings.heartbeatMs;
        if (heard) break;
      } else if (at === beatAt) beatAt += settings.heartbeatMs;
      lone.watch.advance(instant(at));
      for (const { effect, peer } of lone.take()) {
        if (effect.kind !== 'send') continue;
        const { message } = effect;
        if (message.kind === 'heartbeat' && message.urgent) {
          if (only && peer !== watched) {
            if (peer !== undefined) lone.hear(peer, message.seq, instant(at));
          } else if (!lost(2)) heard = true;
        }
        if (message.kind === 'ping-request' && !lost(4)) heard = true;
      }
    }
    const wrong = lone.watch.take().some(({ kind }) => kind === 'verdict' || kind === 'isolated');
    assert.ok(!(wrong && heard) || at === start + windowMs, 'judged although heard');
    if (wrong) errors += 1;
    at = Math.max(at, start) + 1;
    if (wrong) lone = new Lone(settings, peers, instant(at));
  }
  return errors / windows;
}

function verdictOdds(p: number, k: number, settings = LAN): number {
  const timing = watchTiming(settings);
  const s = (timing.inquireAfterMs - timing.nudgeAfterMs) / timing.everyMs;
  const i = timing.inquiryMs / timing.everyMs;
  const a = 1 - (1 - p) ** 2;
  const b = 1 - (1 - p) ** 4;
  return p ** 3 * a ** (ASKS_PER_SLOT * s) * (a ** ASKS_PER_SLOT * b ** k) ** i;
}

function isolationOdds(p: number, n: number, settings = LAN): number {
  const timing = watchTiming(settings);
  const s = (timing.isolationMs - timing.isolationAskMs) / timing.everyMs;
  const a = 1 - (1 - p) ** 2;
  return p ** (2 * n) * a ** ((SEGMENT_ASKS + ASKS_PER_SLOT * n) * s);
}

function assertNear(measured: number, expected: number, what: string): void {
  assert.ok(
    measured > expected * 0.75 && measured < expected * 1.25,
    `${what}: ${measured}, expected ${expected}`,
  );
}

test('a false verdict is less likely than 1e-9 at 5 % loss and 1e-6 at 30 %', () => {
  assert.ok(verdictOdds(0.05, 0) < 1e-9);
  assert.ok(verdictOdds(0.3, 0) < 1e-6);
});

test('a false isolation is less likely than 1e-9 at 5 % loss and 1e-6 at 30 %', () => {
  assert.ok(isolationOdds(0.05, 1) < 1e-9);
  assert.ok(isolationOdds(0.3, 1) < 1e-6);
});

test('Watch judges a healthy neighbour as often as the formula says', () => {
  for (const [loss, k] of [
    [0.7, 1],
    [0.6, 1],
    [0.75, 2],
  ] as const) {
    const measured = frequency({ settings: LAN, peers: k + 1, loss, only: true }, 40_000);
    assertNear(measured, verdictOdds(loss, k), `loss ${loss}, ${k} others`);
  }
});

test('Watch calls itself isolated among healthy neighbours as often as the formula says', () => {
  for (const [loss, peers] of [
    [0.6, 1],
    [0.7, 1],
    [0.75, 2],
  ] as const) {
    const measured = frequency({ settings: LAN, peers, loss, only: false }, 40_000);
    assertNear(measured, isolationOdds(loss, peers), `loss ${loss}, ${peers} peers`);
  }
});

test('Watch with timers that are always late asks as often before it judges', () => {
  const settings = LAN;
  const lone = new Lone(settings, 3, instant(0));
  const [watched, ...others] = lone.watch.neighbours(SEGMENT);
  assert.ok(watched);
  let asks = 0;
  lone.hear(watched, 0, instant(0));
  lone.take();
  for (let now = 45; now < 1_000; now += 45) {
    for (const name of others) lone.hear(name, lone.sent, instant(now));
    lone.watch.advance(instant(now));
    for (const { effect, peer } of lone.take()) {
      if (
        effect.kind === 'send' &&
        effect.message.kind === 'heartbeat' &&
        effect.message.urgent &&
        peer === watched
      )
        asks++;
    }
    const verdict = lone.watch.take().find(({ kind }) => kind === 'verdict');
    if (verdict === undefined) continue;
    assert.ok(now >= 200 && now <= 400, `${now}`);
    assert.ok(asks >= 10, `${asks} asks`);
    return;
  }
  assert.fail('no verdict');
});

test('Watch with a timer late by more than an overrun judges nobody by the silence meanwhile', () => {
  const lone = new Lone(LAN, 3, instant(0));
  for (const name of lone.peers) lone.hear(name, 0, instant(0));
  lone.watch.advance(instant(LAN.heartbeatMs + LAN.overrunMs + 500));
  assert.deepEqual(
    lone.watch.take().map(({ kind }) => kind),
    ['unconfirmed'],
  );
  assert.equal(lone.watch.mayRenew(SEGMENT), false);
  for (let now = 600; now < 740; now += 10) {
    lone.watch.advance(instant(now));
    assert.deepEqual(lone.watch.take(), []);
  }
});
