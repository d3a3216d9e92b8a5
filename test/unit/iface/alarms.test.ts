import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Alarms } from '../../../src/iface/alarms.ts';
import { type Instant, instant, NEVER } from '../../../src/lib/time.ts';

test('takeDue() gives what is due, the earliest first, those of one instant in the order of setting', () => {
  const alarms = new Alarms<string>();
  alarms.set('c', instant(3));
  alarms.set('b1', instant(2));
  alarms.set('b2', instant(2));
  alarms.set('a', instant(1));
  alarms.set('d', instant(4));
  assert.deepEqual(alarms.takeDue(instant(3)), ['a', 'b1', 'b2', 'c']);
  assert.equal(alarms.first(), 4);
  assert.deepEqual(alarms.takeDue(instant(3)), []);
});

test('what is set anew counts by its last instant; what is cancelled or set to NEVER is not set', () => {
  const alarms = new Alarms<string>();
  alarms.set('a', instant(1));
  alarms.set('a', instant(5));
  alarms.set('b', instant(2));
  alarms.cancel('b');
  alarms.set('c', instant(3));
  alarms.set('c', NEVER);
  assert.equal(alarms.first(), 5);
  assert.deepEqual(alarms.takeDue(instant(10)), ['a']);
  assert.equal(alarms.first(), NEVER);
});

test('peekDue() leaves it set', () => {
  const alarms = new Alarms<string>();
  alarms.set('a', instant(1));
  assert.equal(alarms.peekDue(instant(0)), undefined);
  assert.equal(alarms.peekDue(instant(1)), 'a');
  assert.deepEqual(alarms.takeDue(instant(1)), ['a']);
});

test('property: as a map that is searched, also after any number of changes', () => {
  const change = fc.record({
    key: fc.integer({ min: 0, max: 20 }),
    at: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
    until: fc.option(fc.integer({ min: 0, max: 100 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 400 }), (changes) => {
      const alarms = new Alarms<number>();
      const model = new Map<number, number>();
      for (const { key, at, until } of changes) {
        if (at === undefined) {
          alarms.cancel(key);
          model.delete(key);
        } else {
          alarms.set(key, instant(at));
          model.set(key, at);
        }
        assert.equal(alarms.first(), Math.min(NEVER as Instant, ...model.values()));
        if (until === undefined) continue;
        const due = [...model].filter(([, each]) => each <= until).map(([each]) => each);
        assert.deepEqual([...alarms.takeDue(instant(until))].sort(), due.sort());
        for (const each of due) model.delete(each);
      }
    }),
  );
});
