import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SUSPICION_CONFIRMATIONS, Suspicion, suspicionMs } from '../../../src/election/suspicion.ts';
import type { MemberName } from '../../../src/election/types.ts';
import { instant } from '../../../src/lib/time.ts';

const T0 = instant(0);
const A = 'a' as MemberName;
const B = 'b' as MemberName;

function suspicion(others = 10): Suspicion {
  return new Suspicion({ incarnation: 1, by: A, others, minMs: 1_000, maxMs: 6_000, now: T0 });
}

test('suspicionMs() falls from the longest to the shortest, most with the first confirmation', () => {
  const times = [0, 1, 2, 3].map((count) => Math.round(suspicionMs(count, 3, 1_000, 6_000)));
  assert.deepEqual(times, [6_000, 3_500, 2_038, 1_000]);
  assert.equal(suspicionMs(9, 3, 1_000, 6_000), 1_000);
  assert.equal(suspicionMs(0, 0, 1_000, 6_000), 1_000);
});

test('confirm() counts each voice once, and only as many as shorten the wait', () => {
  const suspect = suspicion();
  assert.equal(suspect.confirm(A), false);
  assert.equal(suspect.confirm(undefined), false);
  const counted = ['b', 'b', 'c', 'd', 'e'].filter((name) => suspect.confirm(name as MemberName));
  assert.deepEqual(counted, ['b', 'c', 'd']);
  assert.equal(counted.length, SUSPICION_CONFIRMATIONS);
  assert.equal(suspect.endsAt(), 1_000);
});

test('when fewer could confirm, fewer are enough', () => {
  assert.equal(suspicion(0).endsAt(), 1_000);
  const one = suspicion(1);
  assert.equal(one.endsAt(), 6_000);
  assert.equal(one.confirm(B), true);
  assert.equal(one.endsAt(), 1_000);
});

test('hasten() only ever shortens', () => {
  const suspect = suspicion();
  assert.equal(suspect.hasten(1_200, instant(500)), true);
  assert.equal(suspect.endsAt(), 1_700);
  assert.equal(suspect.hasten(1_200, instant(600)), false);
  assert.equal(suspect.endsAt(), 1_700);
  assert.equal(suspect.isOnlyOf(A), true);
});

test('shift() and restart() give the suspect its time back', () => {
  const suspect = suspicion(0);
  suspect.asked = 2;
  suspect.shift(300);
  assert.equal(suspect.endsAt(), 1_300);
  suspect.restart(instant(1_250));
  assert.equal(suspect.endsAt(), 2_250);
  assert.equal(suspect.asked, 0);
});
