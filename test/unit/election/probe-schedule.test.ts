import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProbeSchedule } from '../../../src/election/probe-schedule.ts';
import { seededRandom } from '../../../src/lib/prng.ts';

type Item = { readonly id: number; place: number };

function filled(count: number, seed = 1): { schedule: ProbeSchedule<Item>; items: Item[] } {
  const schedule = new ProbeSchedule<Item>(seededRandom(seed));
  const items = Array.from({ length: count }, (_, id) => ({ id, place: -1 }));
  for (const item of items) schedule.add(item);
  return { schedule, items };
}

function turns(schedule: ProbeSchedule<Item>, count: number): number[] {
  return Array.from({ length: count }, () => schedule.next()?.id ?? -1);
}

test('next() gives everybody one turn a round, in another order each round', () => {
  const { schedule } = filled(50);
  const first = turns(schedule, 50);
  const second = turns(schedule, 50);
  assert.equal(new Set(first).size, 50);
  assert.equal(new Set(second).size, 50);
  assert.notDeepEqual(first, second);
});

test('next() of nobody is nobody', () => {
  assert.equal(filled(0).schedule.next(), undefined);
});

test('nobody waits longer than two rounds, whoever comes and goes', () => {
  const random = seededRandom(3);
  const { schedule, items } = filled(40, 2);
  const present = new Map(items.map((item) => [item.id, item]));
  const lastTurn = new Map(items.map((item) => [item.id, 0]));
  for (let turn = 1; turn <= 20_000; turn++) {
    const item = schedule.next();
    assert.ok(item !== undefined && present.has(item.id), 'a turn for somebody who is gone');
    lastTurn.set(item.id, turn);
    if (random() < 0.3 && present.size > 20) {
      const gone = [...present.values()][Math.floor(random() * present.size)];
      assert.ok(gone !== undefined);
      schedule.remove(gone);
      present.delete(gone.id);
    }
    if (random() < 0.3 && present.size < 60) {
      const fresh = { id: 1_000 + turn, place: -1 };
      schedule.add(fresh);
      present.set(fresh.id, fresh);
      lastTurn.set(fresh.id, turn);
    }
    if (random() < 0.1) {
      const renewed = { ...item };
      if (present.has(item.id)) {
        schedule.replace(renewed);
        present.set(item.id, renewed);
      }
    }
    assert.equal(schedule.size, present.size);
  }
  for (const id of present.keys()) assert.ok(20_000 - (lastTurn.get(id) ?? 0) <= 2 * 60, `${id} starves`);
});

test('sample() gives different ones that are acceptable, as many as there are', () => {
  const { schedule } = filled(100);
  for (let round = 0; round < 200; round++) {
    const found = schedule.sample(3, ({ id }) => id % 2 === 0);
    assert.equal(found.length, 3);
    assert.equal(new Set(found).size, 3);
    assert.ok(found.every(({ id }) => id % 2 === 0));
  }
  const few = filled(4).schedule;
  assert.equal(few.sample(4, () => true).length, 4);
  assert.deepEqual(
    few.sample(4, ({ id }) => id === 2).map(({ id }) => id),
    [2],
  );
  assert.deepEqual(
    filled(0).schedule.sample(3, () => true),
    [],
  );
});

test('sample() prefers nobody', () => {
  const { schedule } = filled(10);
  const counts = new Array<number>(10).fill(0);
  for (let round = 0; round < 5_000; round++) {
    for (const { id } of schedule.sample(2, () => true)) counts[id] = (counts[id] ?? 0) + 1;
  }
  for (const count of counts) assert.ok(count > 850 && count < 1_150, `${counts}`);
});
