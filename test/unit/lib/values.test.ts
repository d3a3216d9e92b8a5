import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fail, ok } from '../../../src/lib/result.ts';
import { after, doublingPauseMs, earliest, instant, NEVER } from '../../../src/lib/time.ts';

test('ok() and fail() tell the two outcomes apart', () => {
  assert.deepEqual(ok(1), { ok: true, value: 1 });
  assert.deepEqual(fail('no'), { ok: false, error: 'no' });
});

test('earliest() is the smallest instant, and NEVER of none', () => {
  assert.equal(earliest(), NEVER);
  assert.equal(earliest(NEVER, instant(5), instant(3), NEVER), 3);
  assert.equal(after(instant(5), 2.5), 7.5);
  assert.equal(after(NEVER, -1e9), NEVER);
});

test('doublingPauseMs() doubles from the first pause to the last, for any number of failures', () => {
  const pauses = [1, 2, 3, 4, 5, 6, 1_000, 1e9].map((failures) => doublingPauseMs(failures, 500, 10_000));
  assert.deepEqual(pauses, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
});
