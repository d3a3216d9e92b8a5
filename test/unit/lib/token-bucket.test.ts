import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { after, instant, NEVER } from '../../../src/lib/time.ts';
import { TokenBucket } from '../../../src/lib/token-bucket.ts';

/** A host that has been up for three years: the clock's fractions are coarsest then. */
const LONG_UP_MS = 1e11;

test('a bucket begins full, and gives no more than it has', () => {
  const bucket = new TokenBucket(10, 5);
  assert.equal(bucket.take(3, instant(0)), 3);
  assert.equal(bucket.take(3, instant(0)), 2);
  assert.equal(bucket.take(1, instant(0)), 0);
});

test('tokens come at their rate, up to the burst', () => {
  const bucket = new TokenBucket(10, 5);
  bucket.take(5, instant(1_000));
  assert.equal(bucket.available(instant(1_099)), 0);
  assert.equal(bucket.available(instant(1_100)), 1);
  assert.equal(bucket.available(instant(1_499)), 4);
  assert.equal(bucket.available(instant(60_000)), 5);
});

test('looking often takes nothing away from what is earned', () => {
  const bucket = new TokenBucket(10, 5);
  bucket.take(5, instant(0));
  for (let ms = 0; ms < 100; ms++) assert.equal(bucket.available(instant(ms)), 0, `${ms} ms`);
  assert.equal(bucket.available(instant(100)), 1);
});

test('readyAt() is NEVER before the first use, and no later than now when there is enough', () => {
  const bucket = new TokenBucket(10, 5);
  assert.equal(bucket.readyAt(1), NEVER);
  bucket.take(2, instant(50));
  assert.equal(bucket.readyAt(3), 50);
});

test('readyAt() of more than the burst is when the bucket is full', () => {
  const bucket = new TokenBucket(10, 5);
  bucket.take(5, instant(0));
  assert.equal(bucket.readyAt(100), 500);
});

const step = fc.record({ pauseMs: fc.double({ min: 0, max: 300, noNaN: true }), count: fc.nat({ max: 20 }) });
const start = fc.double({ min: 0, max: LONG_UP_MS, noNaN: true });
const rate = fc.integer({ min: 1, max: 5_000 });
const burst = fc.integer({ min: 1, max: 256 });

test('property: within no time is more given than the burst and what is earned', () => {
  fc.assert(
    fc.property(rate, burst, start, fc.array(step), (perSecond, size, from, steps) => {
      const bucket = new TokenBucket(perSecond, size);
      let now = instant(from);
      let given = 0;
      for (const { pauseMs, count } of steps) {
        now = after(now, pauseMs);
        given += bucket.take(count, now);
        assert.ok(given <= size + ((now - from) * perSecond) / 1000 + 0.1, `${given} given`);
      }
    }),
  );
});

test('property: at the instant that readyAt() names the tokens are there, also on a host that is up for years', () => {
  fc.assert(
    fc.property(rate, burst, start, fc.array(step), (perSecond, size, from, steps) => {
      const bucket = new TokenBucket(perSecond, size);
      let now = instant(from);
      bucket.take(size, now);
      for (const { pauseMs, count } of steps) {
        now = after(now, pauseMs);
        bucket.take(count, now);
        const ready = bucket.readyAt(1);
        now = ready > now ? ready : now;
        assert.equal(bucket.take(1, now), 1);
      }
    }),
    { numRuns: 300 },
  );
});
