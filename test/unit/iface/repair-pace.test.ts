import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RepairPace } from '../../../src/iface/repair-pace.ts';
import { type Instant, NEVER } from '../../../src/lib/time.ts';

test('what is undone at once is put right later and later, and at once again after it lasted', () => {
  const pace = new RepairPace();
  const at: number[] = [];
  for (let now = 0; now < 5_000; now++) {
    const { due } = pace.due(['rule'], (key) => key, now as Instant);
    if (due.length === 0) continue;
    pace.count('rule', now as Instant);
    at.push(now);
  }
  assert.deepEqual(at, [0, 50, 150, 350, 750, 1_550, 2_550, 3_550, 4_550]);
  const later = 10_000 as Instant;
  pace.count('rule', later);
  assert.equal(pace.dueAt('rule'), 10_050);
});

test('one at war holds up no other', () => {
  const pace = new RepairPace();
  pace.count('rule', 0 as Instant);
  const both = pace.due(['rule', 'route'], (key) => key, 1 as Instant);
  assert.deepEqual(both, { due: ['route'], nextAt: 50 });
  assert.deepEqual(
    pace.due(['route'], (key) => key, 1 as Instant),
    { due: ['route'], nextAt: NEVER },
  );
});
