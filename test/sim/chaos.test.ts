import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chaos } from './support/chaos.ts';
import { forSeeds, seeds } from './support/scenario.ts';

/** Anything goes wrong at any time; `make soak` does it with other seeds. */

test('chaos breaks no safety rule, and ends with one owner for each address', () => {
  forSeeds(seeds(300, 20), (seed) => {
    chaos(seed);
  });
});

test('a seed is replayed exactly: the same trace of all events', () => {
  const [first, again, other] = [chaos(12), chaos(12), chaos(13)];
  assert.equal(again.trace, first.trace);
  assert.deepEqual(again.log, first.log);
  assert.notEqual(other.trace, first.trace);
});
