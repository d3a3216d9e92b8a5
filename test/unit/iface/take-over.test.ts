import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { MemberName, Predecessor } from '../../../src/election/types.ts';
import type { ProbeFrame } from '../../../src/iface/probing.ts';
import { ASKING_MS, SAMPLES, type StillServed, TakeOvers, YIELD_MS } from '../../../src/iface/take-over.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';
import { ETH0, ETH1 } from '../../support/fake-host.ts';

const T0 = instant(100_000);
const X = '192.0.2.10' as Ip;
const Y = '192.0.2.11' as Ip;
const OLD = '02:00:00:00:00:10' as Mac;
const STRANGER = '02:00:00:00:00:99' as Mac;
const OWN = '02:00:00:00:00:50' as Mac;
const ROUND_TRIP_MS = 0.5;

/** Heard last 170 ms ago, by the usual floor of 220 ms; its lifetime has 10 s left. */
const PREDECESSOR: Predecessor = {
  name: 'node-a' as MemberName,
  mac: OLD,
  ip: '192.0.2.3' as Ip,
  notBefore: after(T0, 50),
  leaseEndsAt: after(T0, 10_000),
};

type Frame = { readonly at: number; readonly ip: Ip; readonly to: Mac | undefined };

/** A wire on which stations answer for addresses, and take-overs that run on it from deadline to deadline. */
class Bench {
  now: Instant = T0;
  readonly takeOvers = new TakeOvers();
  /** Times are relative to T0. */
  readonly frames: Frame[] = [];
  readonly concluded: { readonly at: number; readonly ip: Ip; readonly how: string }[] = [];
  readonly served: (StillServed & { readonly at: number })[] = [];
  /** Who answers for an address; a station answers unicast for it as well, a fabric answers instead of it. */
  readonly stations = new Map<Ip, Mac>();
  /** Answers for these do not come from their station: unicast for others of that MAC goes unanswered. */
  lossy: (frame: ProbeFrame) => boolean = () => false;
  #answers: { readonly at: Instant; readonly ip: Ip; readonly mac: Mac }[] = [];

  join(...ips: readonly Ip[]): this {
    return this.joinWith(PREDECESSOR, ...ips);
  }

  joinWith(predecessor: Predecessor, ...ips: readonly Ip[]): this {
    for (const ip of ips) this.takeOvers.join(ip, ETH0, predecessor, this.now);
    return this;
  }

  /** The old owner serves these and its own address. */
  serves(...ips: readonly Ip[]): this {
    for (const ip of [...ips, PREDECESSOR.ip]) this.stations.set(ip, OLD);
    return this;
  }

  silence(...ips: readonly Ip[]): this {
    for (const ip of ips) this.stations.delete(ip);
    return this;
  }

  run(ms: number): this {
    const until = after(this.now, ms);
    for (let steps = 0; steps < 200_000; steps++) {
      const answerAt = this.#answers[0]?.at ?? NEVER;
      const next = Math.min(this.takeOvers.deadline(), answerAt, until);
      this.now = instant(Math.max(this.now, next));
      while ((this.#answers[0]?.at ?? NEVER) <= this.now) {
        const answer = this.#answers.shift();
        if (answer !== undefined) this.takeOvers.heard(answer.ip, answer.mac, ETH0, this.now);
      }
      this.#advance();
      if (this.now >= until && this.takeOvers.deadline() > this.now) return this;
    }
    throw new Error(`it never rests: the deadline stays at ${this.takeOvers.deadline() - T0}`);
  }

  #advance(): void {
    const { frames, concluded, served } = this.takeOvers.advance(this.now);
    for (const frame of frames) {
      const { ip, to } = frame;
      this.frames.push({ at: this.now - T0, ip, to });
      const mac = this.stations.get(ip);
      if (mac === undefined || (to !== undefined && to !== mac) || this.lossy(frame)) continue;
      this.#answers.push({ at: after(this.now, ROUND_TRIP_MS), ip, mac });
    }
    for (const { ip, how } of concluded) this.concluded.push({ at: this.now - T0, ip, how });
    for (const each of served) this.served.push({ ...each, at: this.now - T0 });
  }
}

function polls(bench: Bench, ip: Ip): readonly number[] {
  return bench.frames.filter((frame) => frame.ip === ip && frame.to === OLD).map(({ at }) => at);
}

test('silence: three broadcasts 15 ms apart, free at the floor and not before', () => {
  const bench = new Bench().join(X).run(1_000);
  const probe = { ip: X, to: undefined };
  assert.deepEqual(bench.frames, [
    { at: 0, ...probe },
    { at: 15, ...probe },
    { at: 30, ...probe },
  ]);
  assert.deepEqual(bench.concluded, [{ at: 50, ip: X, how: 'free' }]);
  assert.equal(bench.takeOvers.deadline(), NEVER);
});

test('asked later than the floor: free as soon as the question is over', () => {
  const bench = new Bench().joinWith({ ...PREDECESSOR, notBefore: T0 }, X).run(1_000);
  assert.deepEqual(bench.concluded, [{ at: ASKING_MS, ip: X, how: 'free' }]);
});

test('asked a little before the floor: one more probe, as late as it can be', () => {
  const bench = new Bench().joinWith({ ...PREDECESSOR, notBefore: after(T0, 70) }, X).run(1_000);
  assert.deepEqual(
    bench.frames.map(({ at }) => at),
    [0, 15, 30, 55],
  );
  assert.equal(bench.concluded[0]?.at, 70);
});

test('asked long before the floor: the wire is asked again right before it', () => {
  const bench = new Bench().joinWith({ ...PREDECESSOR, notBefore: after(T0, 200) }, X);
  bench.run(100).serves(X).run(60);
  assert.equal(bench.concluded.length, 0);
  assert.equal(bench.served.length, 1, 'it came back meanwhile');
  bench.silence(X, PREDECESSOR.ip).run(500);
  assert.equal(bench.concluded.length, 1);
});

test('a few addresses stand for all, whatever their number', () => {
  const ips = Array.from({ length: 10_000 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  const bench = new Bench().join(...ips).run(1_000);
  assert.equal(bench.frames.length, 3 * SAMPLES);
  assert.equal(bench.concluded.length, 10_000);
  assert.ok(bench.concluded.every(({ at, how }) => at === 50 && how === 'free'));
});

test('the predecessor answers: polled by unicast each 50 ms, its own address as well, and told once', () => {
  const bench = new Bench().serves(X, Y).join(X, Y).run(2_000);
  assert.equal(bench.concluded.length, 0);
  assert.deepEqual(
    bench.served.map(({ by, mac, addresses }) => [by, mac, addresses]),
    [['node-a', OLD, 2]],
  );
  assert.equal(bench.takeOvers.state(Y)?.servedSince, after(T0, ROUND_TRIP_MS));
  assert.equal(bench.takeOvers.state(Y)?.fabricUntil, undefined);
  const polled = polls(bench, X).length + polls(bench, Y).length;
  assert.ok(polled >= 37 && polled <= 41, `${polled} polls in 2 s`);
  const own = polls(bench, PREDECESSOR.ip).length;
  assert.ok(own >= 38 && own <= 41, `${own} polls of its own address in 2 s`);
  assert.equal(bench.frames.filter(({ to, at }) => to === undefined && at > 50).length, 0);
});

test('the lifetime ends: silence is found within 30 ms', () => {
  for (let lateMs = 0; lateMs < 50; lateMs += 1.7) {
    const bench = new Bench()
      .serves(X)
      .join(X)
      .run(10_000 + lateMs);
    const goneAt = bench.now - T0;
    bench.silence(X).run(2_000);
    const took = (bench.concluded[0]?.at ?? Number.NaN) - goneAt;
    assert.ok(took >= 20 && took <= 30.5, `${took} ms`);
  }
});

test('polls come each 5 ms from 100 ms before the lifetime ends until 1.5 s after it', () => {
  const bench = new Bench().serves(X).join(X).run(20_000);
  const between = (from: number, to: number) => polls(bench, X).filter((at) => at >= from && at < to).length;
  assert.ok(between(9_900, 10_000) >= 19);
  assert.ok(between(10_000, 11_500) >= 285);
  assert.ok(between(9_000, 9_880) <= 19);
  assert.ok(between(11_600, 12_600) <= 21);
});

test('a lost answer to one poll is no end', () => {
  const bench = new Bench().serves(X).join(X);
  let count = 0;
  bench.lossy = ({ ip, to }) => ip === X && to !== undefined && ++count % 2 === 1;
  bench.run(12_000);
  assert.equal(bench.concluded.length, 0);
});

test('before its lifetime can be over, two missed polls and five broadcasts make the end', () => {
  const bench = new Bench().serves(X).join(X).run(3_000).silence(X);
  bench.run(1_000);
  const took = (bench.concluded[0]?.at ?? Number.NaN) - 3_000;
  assert.ok(took >= 85 && took <= 140, `${took} ms`);
  const asked = bench.frames.filter(({ at, to }) => at > 3_000 && to === undefined);
  assert.equal(asked.length, 5);
});

test('an answer for another sample while one is doubted: it still serves', () => {
  const bench = new Bench().serves(X, Y).join(X, Y).run(1_000);
  bench.silence(X).run(1_000);
  assert.equal(bench.concluded.length, 0);
  assert.ok(polls(bench, Y).length > 5);
});

test('a permanent address is waited for as long as it answers', () => {
  const bench = new Bench()
    .serves(X)
    .joinWith({ ...PREDECESSOR, leaseEndsAt: NEVER }, X)
    .run(60_000);
  assert.equal(bench.concluded.length, 0);
  bench.silence(X).run(1_000);
  assert.equal(bench.concluded.length, 1);
});

test('a fabric that answers for the dead is believed until a second after the lifetime', () => {
  const bench = new Bench().join(X);
  bench.stations.set(X, OLD);
  bench.run(1_000);
  assert.equal(bench.takeOvers.state(X)?.fabricUntil, after(T0, 11_000));
  assert.ok(polls(bench, PREDECESSOR.ip).length < 10, 'it is asked less often then');
  bench.run(20_000);
  assert.deepEqual(bench.concluded, [{ at: 11_000, ip: X, how: 'free' }]);
});

test('a fabric is known after three questions 50 ms apart', () => {
  const bench = new Bench().join(X);
  bench.stations.set(X, OLD);
  bench.run(149);
  assert.equal(bench.takeOvers.state(X)?.fabricUntil, undefined);
  bench.run(5);
  assert.notEqual(bench.takeOvers.state(X)?.fabricUntil, undefined);
});

test('a host that answers for itself again is no fabric, and is waited for', () => {
  const bench = new Bench().join(X);
  bench.stations.set(X, OLD);
  bench.run(2_000).serves(X).run(15_000);
  assert.equal(bench.concluded.length, 0);
  assert.equal(bench.takeOvers.state(X)?.fabricUntil, undefined);
});

test('a fabric that falls silent frees at once', () => {
  const bench = new Bench().join(X);
  bench.stations.set(X, OLD);
  bench.run(2_000).silence(X).run(1_000);
  assert.equal(bench.concluded.length, 1);
});

test('a permanent address behind a fabric is freed by silence only', () => {
  const bench = new Bench();
  bench.stations.set(X, OLD);
  bench.joinWith({ ...PREDECESSOR, leaseEndsAt: NEVER }, X).run(600_000);
  assert.equal(bench.concluded.length, 0);
  assert.ok(bench.frames.length < 10 * 600, `${bench.frames.length} frames in 10 minutes`);
});

test('a third MAC is another’s: that address waits no more, and the rest is asked for one by one', () => {
  const bench = new Bench().join(X, Y);
  assert.equal(bench.takeOvers.heard(X, STRANGER, ETH0, bench.now), 'other');
  bench.run(1_000);
  assert.deepEqual(bench.concluded, [{ at: 50, ip: Y, how: 'alone' }]);
  assert.equal(bench.takeOvers.isFree(Y, bench.now), false);
});

test('samples that others answer for are replaced until the predecessor is known to be silent', () => {
  const ips = Array.from({ length: 20 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  const bench = new Bench();
  for (const ip of ips.slice(0, 10)) bench.stations.set(ip, STRANGER);
  bench.join(...ips).run(1_000);
  assert.deepEqual(
    bench.concluded.map(({ ip }) => ip),
    ips.slice(10),
  );
  assert.ok(bench.concluded.every(({ how, at }) => how === 'alone' && at < 200));
});

test('another heir with a lower MAC that asks too is given way, one with a higher is not', () => {
  const lower = '02:00:00:00:00:4f' as Mac;
  const yielding = new Bench().join(X).run(20);
  yielding.takeOvers.wanted(X, lower, OWN, ETH0, yielding.now);
  yielding.run(1_000);
  assert.deepEqual(yielding.concluded, [{ at: 20 + YIELD_MS + ASKING_MS, ip: X, how: 'free' }]);
  const first = new Bench().join(X).run(20);
  first.takeOvers.wanted(X, STRANGER, OWN, ETH0, first.now);
  first.run(1_000);
  assert.equal(first.concluded[0]?.at, 50);
});

test('two heirs of different views: one takes, the other finds it taken', () => {
  const macs = ['02:00:00:00:00:21', '02:00:00:00:00:22'] as unknown as readonly Mac[];
  for (let offset = 0; offset < 60; offset += 3) {
    const heirs = macs.map(() => new TakeOvers());
    const added: (Mac | undefined)[] = [];
    for (let ms = 0; ms < 1_000; ms += 0.5) {
      const now = after(T0, ms);
      heirs.forEach((heir, index) => {
        if (ms === index * offset) heir.join(X, ETH0, PREDECESSOR, now);
        const round = heir.advance(now);
        if (round.concluded.some(({ how }) => how === 'free')) added.push(macs[index]);
        for (const other of heirs) {
          if (other === heir || round.frames.length === 0) continue;
          const own = macs[1 - index] ?? OWN;
          if (added.includes(own)) heir.heard(X, own, ETH0, now);
          else other.wanted(X, macs[index] ?? OWN, own, ETH0, now);
        }
      });
    }
    assert.equal(added.length, 1, `${added.join(' and ')} at an offset of ${offset} ms`);
  }
});

test('who asks over and over and never takes keeps nobody from it', () => {
  const bench = new Bench().join(X);
  for (let round = 0; round < 100; round++) {
    bench.takeOvers.wanted(X, '02:00:00:00:00:01' as Mac, OWN, ETH0, bench.now);
    bench.run(10);
  }
  assert.equal(bench.concluded.length, 1);
});

test('frames that did not get onto the wire mean nothing', () => {
  const bench = new Bench().join(X);
  for (let round = 0; round < 50; round++) {
    bench.run(15);
    bench.takeOvers.unsent([X], bench.now);
  }
  assert.equal(bench.concluded.length, 0);
  bench.run(60);
  assert.equal(bench.concluded.length, 1);
});

test('polls that did not get onto the wire are not missed', () => {
  const bench = new Bench().serves(X).join(X).run(500);
  bench.silence(X);
  for (let round = 0; round < 500; round++) {
    bench.run(1);
    bench.takeOvers.unsent([X, PREDECESSOR.ip], bench.now);
  }
  assert.equal(bench.concluded.length, 0);
});

test('what comes after the others were found free is asked for anew: another heir may have taken it since', () => {
  for (const laterMs of [100, 1_000]) {
    const bench = new Bench().join(X).run(laterMs);
    bench.join(Y).run(1);
    assert.equal(bench.concluded.length, 1);
    bench.run(100);
    assert.deepEqual(bench.concluded.at(-1), { at: laterMs + ASKING_MS, ip: Y, how: 'free' });
  }
});

test('heard again since the silence: the new floor counts', () => {
  const bench = new Bench().join(X).run(100);
  bench.joinWith({ ...PREDECESSOR, notBefore: after(T0, 300) }, Y).run(1_000);
  assert.equal(bench.concluded.at(-1)?.at, 300);
});

test('leave() ends the wait, and the group with its last address', () => {
  const bench = new Bench().join(X, Y);
  bench.takeOvers.leave(X);
  bench.run(10);
  assert.ok(bench.frames.every(({ ip }) => ip === Y));
  bench.takeOvers.leave(Y);
  assert.equal(bench.takeOvers.deadline(), NEVER);
  assert.equal(bench.takeOvers.state(Y), undefined);
});

test('another predecessor for an address moves it', () => {
  const other: Predecessor = { ...PREDECESSOR, name: 'node-b' as MemberName, ip: '192.0.2.4' as Ip };
  const bench = new Bench().join(X).run(30).joinWith(other, X).run(1_000);
  assert.equal(bench.takeOvers.state(X), undefined);
  assert.deepEqual(bench.concluded, [{ at: 30 + ASKING_MS, ip: X, how: 'free' }]);
});

test('a claim on another NIC concerns nobody', () => {
  const { takeOvers, now } = new Bench().join(X);
  assert.equal(takeOvers.heard(X, OLD, ETH1, now), 'nobody');
  assert.equal(takeOvers.isInterestedIn(X, ETH1), false);
  assert.equal(takeOvers.isInterestedIn(X, ETH0), true);
  assert.equal(takeOvers.isInterestedIn(PREDECESSOR.ip, ETH0), true);
  assert.equal(takeOvers.isInterestedIn('192.0.2.77' as Ip, ETH0), false);
});

test('a hundred dead hosts behind a fabric stay within the budget of frames', () => {
  const bench = new Bench();
  for (let host = 0; host < 100; host++) {
    const mac = `02:00:00:00:01:${host.toString(16).padStart(2, '0')}` as Mac;
    const ip = ipFromNumber('v4', 0x0a010000n + BigInt(host));
    bench.stations.set(ip, mac);
    const name = `node-${host}` as MemberName;
    const own = ipFromNumber('v4', 0x0a020000n + BigInt(host));
    bench.joinWith({ ...PREDECESSOR, name, mac, ip: own, leaseEndsAt: after(T0, 2_000) }, ip);
  }
  bench.run(10_000);
  assert.equal(bench.concluded.length, 100);
  for (let from = 0; from < bench.frames.length; from++) {
    const [first, last] = [bench.frames[from], bench.frames[from + 800]];
    if (first === undefined || last === undefined) break;
    assert.ok(last.at - first.at > 100, `800 frames within ${last.at - first.at} ms`);
  }
});

test('an address on another NIC is asked for there', () => {
  const bench = new Bench();
  bench.takeOvers.join(X, ETH1 as IfIndex, PREDECESSOR, T0);
  assert.ok(bench.takeOvers.advance(T0).frames.every(({ ifIndex }) => ifIndex === ETH1));
});

test('property: never free before the floor, nor while the owner answers, and always soon after it stopped', () => {
  const phase = fc.record({ serves: fc.boolean(), ms: fc.integer({ min: 60, max: 400 }) });
  const options = {
    leaseLeftMs: fc.integer({ min: 0, max: 3_000 }),
    floorMs: fc.integer({ min: 0, max: 300 }),
  };
  fc.assert(
    fc.property(
      fc.array(phase, { maxLength: 20 }),
      fc.record(options),
      (phases, { leaseLeftMs, floorMs }) => {
        const bench = new Bench();
        const notBefore = after(T0, floorMs);
        bench.joinWith({ ...PREDECESSOR, notBefore, leaseEndsAt: after(T0, leaseLeftMs) }, X, Y);
        let silentSince = 0;
        for (const { serves, ms } of phases) {
          const from = bench.now - T0;
          if (serves) bench.serves(X, Y);
          else {
            if (bench.stations.size > 0) silentSince = bench.now - T0;
            bench.silence(X, Y, PREDECESSOR.ip);
          }
          bench.run(ms);
          const at = bench.concluded[0]?.at;
          if (at === undefined) continue;
          // Who comes back after the last question is heard only then.
          assert.ok(!serves || at - from <= 30, `free at ${at}, served since ${from}`);
          assert.ok(at >= floorMs && at - silentSince >= 20, `free at ${at}, silent since ${silentSince}`);
          return;
        }
        if (bench.stations.size > 0) silentSince = bench.now - T0;
        bench.silence(X, Y, PREDECESSOR.ip).run(1_000);
        const took = (bench.concluded[0]?.at ?? Number.NaN) - Math.max(silentSince, floorMs);
        assert.ok(took <= 150, `${took} ms`);
      },
    ),
    { numRuns: 500 },
  );
});
