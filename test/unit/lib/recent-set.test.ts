import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RecentSet } from '../../../src/lib/recent-set.ts';

test('RecentSet remembers the last values, and no more than twice as many', () => {
  const values = Array.from({ length: 1_000 }, (_, value) => value);
  const set = new RecentSet<number>(10);
  for (const value of values) {
    set.add(value);
    for (let one = Math.max(0, value - 9); one <= value; one++)
      assert.ok(set.has(one), `${one} after ${value}`);
    assert.ok(values.filter((one) => set.has(one)).length <= 20);
  }
});
