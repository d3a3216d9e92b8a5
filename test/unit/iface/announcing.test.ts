import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOUNCE_AT_MS, type Announcement, Announcing } from '../../../src/iface/announcing.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';
import { ETH0, ETH1 } from '../../support/fake-host.ts';

const X = '192.0.2.10' as Ip;
const T0 = instant(10_000);

type Sent = Announcement & { readonly at: number };

/** Runs from deadline to deadline until nothing is left; times are relative to `T0`. */
function drain(announcing: Announcing, from: Instant = T0): readonly Sent[] {
  const sent: Sent[] = [];
  for (let now = from; now !== NEVER; ) {
    const announcements = announcing.advance(now);
    for (const announcement of announcements) sent.push({ at: now - T0, ...announcement });
    const next = announcing.deadline();
    assert.ok(next > now || announcements.length > 0, 'it stands still');
    // What is overdue is due now.
    now = after(now, Math.max(0, next - now));
  }
  return sent;
}

test('an address is announced at once and again over the first seconds', () => {
  const announcing = new Announcing();
  announcing.start(X, ETH0, T0);
  assert.deepEqual(
    drain(announcing).map(({ at }) => at),
    ANNOUNCE_AT_MS,
  );
  assert.equal(announcing.count(X), ANNOUNCE_AT_MS.length);
  assert.equal(announcing.deadline(), NEVER);
});

test('once() announces once, now', () => {
  const announcing = new Announcing();
  announcing.once(X, ETH0, T0);
  assert.deepEqual(drain(announcing), [{ at: 0, ip: X, ifIndex: ETH0, form: 'both' }]);
  assert.equal(announcing.count(X), 1);
});

test('once() adds nothing to a series under way', () => {
  const announcing = new Announcing();
  announcing.start(X, ETH0, T0);
  announcing.advance(T0);
  announcing.once(X, ETH0, after(T0, 10));
  assert.deepEqual(announcing.advance(after(T0, 10)), []);
});

test('start() begins a series anew, on another NIC too', () => {
  const announcing = new Announcing();
  announcing.start(X, ETH0, T0);
  announcing.advance(T0);
  announcing.start(X, ETH1, after(T0, 50));
  const sent = drain(announcing, after(T0, 50));
  assert.deepEqual(
    sent.map(({ at }) => at),
    ANNOUNCE_AT_MS.map((ms) => ms + 50),
  );
  assert.ok(sent.every(({ ifIndex }) => ifIndex === ETH1));
});

test('stop() ends a series and its count', () => {
  const announcing = new Announcing();
  announcing.start(X, ETH0, T0);
  announcing.advance(T0);
  announcing.stop(X);
  assert.deepEqual(drain(announcing), []);
  assert.equal(announcing.count(X), 0);
});

test('a late call makes up for what it missed one announcement at a time, not in one burst', () => {
  const announcing = new Announcing();
  announcing.start(X, ETH0, T0);
  assert.equal(announcing.advance(after(T0, 60_000)).length, 1);
});

/** How many frames an announcement is. */
function frames({ ip, form }: Announcement): number {
  return ip.includes(':') || form !== 'both' ? 1 : 2;
}

/** Whether in no stretch of time there are more than the burst and what the pace allows. */
function isPaced(sent: readonly (Sent & { readonly frames: number })[], perSecond: number): boolean {
  let level = 0;
  let before = Number.NEGATIVE_INFINITY;
  for (const { at, frames: count } of sent) {
    level = Math.max(0, level - ((at - before) * perSecond) / 1_000) + count;
    before = at;
    // What rounding earns over 20,000 frames is less than these.
    if (level > 256 + 4) return false;
  }
  return true;
}

for (const family of ['v4', 'v6'] as const) {
  test(`10,000 ${family} addresses at once: each is told of once at 5,000 frames a second, then 1,000 repeats`, () => {
    const announcing = new Announcing();
    const first = family === 'v4' ? 0x0a000000n : 0x20010db8n << 96n;
    const ips = Array.from({ length: 10_000 }, (_, index) => ipFromNumber(family, first + BigInt(index)));
    for (const ip of ips) announcing.start(ip, ETH0, T0);
    const sent = drain(announcing).map((each) => ({ ...each, frames: frames(each) }));
    const perAnnouncement = family === 'v4' ? 2 : 1;
    const total = sent.reduce((sum, each) => sum + each.frames, 0);
    assert.equal(total, ips.length * ANNOUNCE_AT_MS.length * perAnnouncement);
    const firsts = new Map<Ip, number>();
    for (const { ip, at } of sent) if (!firsts.has(ip)) firsts.set(ip, at);
    // 256 at once, then 5,000 a second: of v4, the first form of each before any second one.
    assert.ok(Math.max(...firsts.values()) <= (10_000 - 256) / 5 + 1);
    const counts = new Map<Ip, number>();
    const isFirst = sent.map((each) => {
      const count = (counts.get(each.ip) ?? 0) + each.frames;
      counts.set(each.ip, count);
      return count <= perAnnouncement;
    });
    assert.ok(
      isPaced(
        sent.filter((_, index) => isFirst[index]),
        5_000,
      ),
      'first ones',
    );
    assert.ok(
      isPaced(
        sent.filter((_, index) => !isFirst[index]),
        1_000,
      ),
      'repeats',
    );
    for (const ip of ips) assert.equal(announcing.count(ip), ANNOUNCE_AT_MS.length);
  });
}

test('corrections of many addresses have 2,000 frames a second', () => {
  const announcing = new Announcing();
  const ips = Array.from({ length: 2_000 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  for (const ip of ips) announcing.once(ip, ETH0, T0);
  const sent = drain(announcing).map((each) => ({ ...each, frames: frames(each) }));
  assert.equal(
    sent.reduce((sum, each) => sum + each.frames, 0),
    4_000,
  );
  assert.ok(isPaced(sent, 2_000));
});

test('every() announces what is held once in an interval, also what was announced before, until it is 0', () => {
  const announcing = new Announcing();
  announcing.start(X, ETH0, T0);
  const seen: number[] = [];
  const run = (untilMs: number) => {
    for (let now = announcing.deadline(); now <= after(T0, untilMs); now = announcing.deadline())
      for (const _ of announcing.advance(now)) seen.push(now - T0);
  };
  run(10_000);
  assert.deepEqual(seen, ANNOUNCE_AT_MS);
  seen.length = 0;
  announcing.every(60_000, [[X, ETH0]], after(T0, 10_000));
  run(200_000);
  assert.deepEqual(seen, [70_000, 130_000, 190_000]);
  seen.length = 0;
  announcing.quiet(X);
  announcing.start(X, ETH1, after(T0, 200_000));
  run(270_000);
  assert.deepEqual(seen, [...ANNOUNCE_AT_MS.map((ms) => 200_000 + ms), 263_000]);
  announcing.every(0, [[X, ETH1]], after(T0, 270_000));
  assert.equal(announcing.deadline(), NEVER);
});

test('the intervals of many addresses are paced as repeats', () => {
  const announcing = new Announcing();
  const ips = Array.from({ length: 3_000 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  announcing.every(
    10_000,
    ips.map((ip) => [ip, ETH0] as const),
    T0,
  );
  const sent: (Sent & { readonly frames: number })[] = [];
  for (let now = announcing.deadline(); now <= after(T0, 30_000); now = announcing.deadline())
    for (const each of announcing.advance(now)) sent.push({ at: now - T0, ...each, frames: frames(each) });
  assert.ok(sent.length > ips.length);
  assert.ok(isPaced(sent, 1_000));
});

test('an address of many whose turn has come is not kept back by one whose budget is spent', () => {
  const announcing = new Announcing();
  const ips = Array.from({ length: 300 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  for (const ip of ips) announcing.once(ip, ETH0, T0);
  assert.equal(announcing.advance(T0).length, 256);
  announcing.start(X, ETH0, T0);
  assert.deepEqual(announcing.advance(T0), [{ ifIndex: ETH0, ip: X, form: 'both' }]);
});
