import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAge, formatCount, plural, printable } from '../../../src/cli/text.ts';

test('printable() leaves text alone and defuses what a terminal would act on', () => {
  assert.equal(printable('default/web – grüß'), 'default/web – grüß');
  assert.equal(printable('a\u001b[31mb'), 'a\\u{1b}[31mb');
  assert.equal(printable('a\u009b31mb'), 'a\\u{9b}31mb');
  assert.equal(printable('a\nb\tc'), 'a b c');
  assert.equal(printable('a\u202eb\u2066c\u200bd'), 'a\\u{202e}b\\u{2066}c\\u{200b}d');
});

test('formatAge() gives the two largest units', () => {
  const cases: readonly (readonly [number, string])[] = [
    [-5, '0s'],
    [0, '0s'],
    [999, '0s'],
    [1_000, '1s'],
    [60_000, '1m'],
    [65_000, '1m5s'],
    [3_600_000, '1h'],
    [3_605_000, '1h'],
    [3 * 86_400_000 + 4 * 3_600_000 + 59_000, '3d4h'],
    [1_000 * 86_400_000, '1000d'],
  ];
  for (const [ms, text] of cases) assert.equal(formatAge(ms), text);
});

test('formatCount() gives small counts exactly and large ones as powers of two', () => {
  assert.equal(formatCount(0n), '0');
  assert.equal(formatCount(256n), '256');
  assert.equal(formatCount(999_999_999n), '999999999');
  assert.equal(formatCount(1n << 64n), '2^64');
  assert.equal(formatCount((1n << 64n) + 256n), 'about 2^64');
});

test('plural() counts', () => {
  assert.deepEqual(
    [plural(0, 'error'), plural(1, 'error'), plural(2, 'error')],
    ['0 errors', '1 error', '2 errors'],
  );
});
