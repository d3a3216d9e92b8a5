import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOUNCE_AT_MS, Announcing } from '../../../src/iface/announcing.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';
import { ETH0, ETH1 } from '../../support/fake-host.ts';

const X = '192.0.2.10' as Ip;
const T0 = instant(10_000);

type Sent = { readonly at: number; readonly ip: Ip; readonly ifIndex: number };

/** Runs from deadline to deadline until nothing is left; times are relative to `T0`. */
function drain(announcing: Announcing, from: Instant = T0): readonly Sent[] {
  const sent: Sent[] = [];
  for (let now = from; now !== NEVER; ) {
    const announcements = announcing.advance(now);
    for (const announcement of announcements) sent.push({ at: now - T0, ...announcement });
    const next = announcing.deadline();
    assert.ok(next > now || announcements.length > 0, 'it stands still');
    now = next;
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
  assert.deepEqual(drain(announcing), [{ at: 0, ip: X, ifIndex: ETH0 }]);
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

test('of many addresses each is announced first before any repeat, within the budgets', () => {
  const announcing = new Announcing();
  const ips = Array.from({ length: 2_000 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  for (const ip of ips) announcing.start(ip, ETH0, T0);
  const sent = drain(announcing);
  assert.equal(sent.length, ips.length * ANNOUNCE_AT_MS.length);
  const firsts = new Map<Ip, number>();
  for (const { ip, at } of sent) if (!firsts.has(ip)) firsts.set(ip, at);
  // 256 at once, then 5,000 a second.
  assert.ok(Math.max(...firsts.values()) <= (2_000 - 256) / 5 + 1);
  const repeats = sent.filter(({ ip, at }) => at > (firsts.get(ip) ?? 0));
  for (const [index, { at }] of repeats.entries()) {
    assert.ok(index <= 256 + at, `${index} repeats after ${at} ms`);
  }
});

test('an address of many whose turn has come is not kept back by one whose budget is spent', () => {
  const announcing = new Announcing();
  const ips = Array.from({ length: 300 }, (_, index) => ipFromNumber('v4', 0x0a000000n + BigInt(index)));
  for (const ip of ips) announcing.once(ip, ETH0, T0);
  assert.equal(announcing.advance(T0).length, 256);
  announcing.start(X, ETH0, T0);
  assert.deepEqual(announcing.advance(T0), [{ ifIndex: ETH0, ip: X }]);
});
