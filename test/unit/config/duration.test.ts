import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatDuration, parseDuration } from '../../../src/config/duration.ts';
import { fail, ok } from '../../../src/lib/result.ts';

test('parseDuration() reads hours, minutes and seconds in this order', () => {
  const cases: readonly (readonly [string, number])[] = [
    ['0', 0],
    ['0s', 0],
    ['2s', 2_000],
    ['90s', 90_000],
    ['1m30s', 90_000],
    ['2h', 7_200_000],
    ['1h1m1s', 3_661_000],
  ];
  for (const [text, ms] of cases) assert.deepEqual(parseDuration(text), ok(ms), text);
});

test('parseDuration() refuses everything else, and says when the fraction is what is wrong', () => {
  for (const text of ['', '30', 's', '-1s', '30 s', '1s1m', '30S', '1d', 'forever', '9999999s']) {
    assert.deepEqual(parseDuration(text), fail('expected a duration such as "30s" or "1m30s"'), text);
  }
  for (const text of ['500ms', '1.5s']) {
    assert.deepEqual(
      parseDuration(text),
      fail('expected a duration in whole seconds such as "30s" or "1m30s"'),
      text,
    );
  }
});

test('formatDuration() is the inverse of parseDuration()', () => {
  assert.equal(formatDuration(0), '0s');
  assert.equal(formatDuration(90_000), '1m30s');
  fc.assert(
    fc.property(fc.nat(9_999 * 3600), (seconds) => {
      assert.deepEqual(parseDuration(formatDuration(seconds * 1000)), ok(seconds * 1000));
    }),
  );
});
