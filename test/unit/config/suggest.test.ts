import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { editDistance, nearest } from '../../../src/config/suggest.ts';

const KEYS = ['name', 'addresses', 'auto_assign'];

test('nearest() finds the key behind a misspelling', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['nmae', 'name'],
    ['nam', 'name'],
    ['adresses', 'addresses'],
    ['address', 'addresses'],
    ['autoAssign', 'auto_assign'],
    ['auto-assign', 'auto_assign'],
    ['AUTO_ASIGN', 'auto_assign'],
  ];
  for (const [written, meant] of cases) assert.equal(nearest(written, KEYS), meant, written);
});

test('nearest() suggests nothing when nothing is near, for an empty key and for an endless one', () => {
  for (const written of ['protocol', '', 'x', 'n'.repeat(10_000)])
    assert.equal(nearest(written, KEYS), undefined);
  assert.equal(nearest('name', []), undefined);
});

test('editDistance() counts one for each insertion, deletion, substitution and swap', () => {
  assert.equal(editDistance('', ''), 0);
  assert.equal(editDistance('', 'abc'), 3);
  assert.equal(editDistance('name', 'nmae'), 1);
  assert.equal(editDistance('kitten', 'sitting'), 3);
  assert.equal(editDistance('ca', 'abc'), 3);
});

test('editDistance() is a symmetric measure between the difference of the lengths and the longer one', () => {
  const word = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(word, word, (left, right) => {
      const distance = editDistance(left, right);
      assert.equal(distance, editDistance(right, left));
      assert.equal(distance === 0, left === right);
      assert.ok(distance >= Math.abs(left.length - right.length));
      assert.ok(distance <= Math.max(left.length, right.length));
    }),
  );
});
