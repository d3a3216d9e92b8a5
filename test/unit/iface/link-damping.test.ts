import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  FLAPPING_TURNS,
  FLAPPING_WITHIN_MS,
  isLinkUp,
  LinkDamping,
  STEADY_AFTER_MS,
} from '../../../src/iface/link-damping.ts';
import type { Link } from '../../../src/iface/types.ts';
import { after, instant } from '../../../src/lib/time.ts';
import { ETH0, ETH1, link } from '../../support/fake-host.ts';

const UP = link(ETH0, 'eth0');
const DOWN = link(ETH0, 'eth0', { flags: UP.flags & ~0x10000 });
const START = instant(1_000);

function believesUp(damping: LinkDamping, now: Link): boolean {
  const [believed] = [...damping.believed(new Map([[now.index, now]]))];
  assert.ok(believed !== undefined);
  return isLinkUp(believed);
}

/** A link that was up turns so often, each time so much later, as each turn is told; returns what was believed after each. */
function turn(damping: LinkDamping, turns: number, everyMs: number): readonly boolean[] {
  return Array.from({ length: turns }, (_, index) => {
    const now = index % 2 === 0 ? DOWN : UP;
    damping.turned(now, 1, after(START, index * everyMs));
    return believesUp(damping, now);
  });
}

test('the first turns count at once, and more of them only when they have lasted', () => {
  const damping = new LinkDamping();
  assert.deepEqual(turn(damping, 8, 10), [false, true, false, true, true, true, true, true]);
  const lastAt = after(START, 70);
  assert.equal(damping.deadline(), after(lastAt, STEADY_AFTER_MS));
  assert.deepEqual(damping.takeSteady(after(lastAt, STEADY_AFTER_MS - 1)), []);
  assert.deepEqual(damping.takeSteady(after(lastAt, STEADY_AFTER_MS)), [ETH0], 'it was down meanwhile');
  assert.equal(damping.deadline(), Number.POSITIVE_INFINITY);
  assert.equal(damping.isFlapping(), false);
});

test('one that was up before it flapped is taken for up meanwhile, however its turns come together', () => {
  for (let alone = 1; alone <= 4; alone++) {
    for (let together = 1; together <= 5; together++) {
      const damping = new LinkDamping();
      turn(damping, alone, 10);
      for (let turns = alone; turns < 40; turns += together) {
        const isUp = (turns + together) % 2 === 0;
        damping.turned(isUp ? UP : DOWN, together, after(START, 10 * turns));
        if (!damping.isFlapping()) continue;
        assert.equal(
          believesUp(damping, isUp ? UP : DOWN),
          true,
          `${alone} alone, then ${together} at a time`,
        );
      }
    }
  }
});

test('one that was down for long before it flapped is not', () => {
  const damping = new LinkDamping();
  damping.turned(DOWN, 1, START);
  const later = after(START, 10 * FLAPPING_WITHIN_MS);
  for (let turns = 0; turns < 6; turns += 2) damping.turned(DOWN, 2, after(later, turns));
  assert.equal(damping.isFlapping(), true);
  assert.equal(believesUp(damping, UP), false);
});

test('a link that stays down after it flapped is taken for down a moment later', () => {
  const damping = new LinkDamping();
  turn(damping, 7, 10);
  assert.equal(believesUp(damping, DOWN), true);
  assert.deepEqual(damping.takeSteady(after(START, 60 + STEADY_AFTER_MS)), []);
  assert.equal(believesUp(damping, DOWN), false);
});

test('a link that turns slowly is believed each time', () => {
  const damping = new LinkDamping();
  const everyMs = FLAPPING_WITHIN_MS / (FLAPPING_TURNS - 1);
  assert.deepEqual(turn(damping, 6, everyMs), [false, true, false, true, false, true]);
  assert.equal(damping.isFlapping(), false);
});

test('one that was down and is up as before is told of, and of others nothing is changed', () => {
  const damping = new LinkDamping();
  assert.equal(damping.turned(UP, 2, START), true);
  assert.equal(damping.turned(UP, 20, after(START, 10)), false, 'it flaps');
  const other = link(ETH1, 'eth1');
  const links = new Map([UP, other].map((each) => [each.index, each]));
  assert.deepEqual([...damping.believed(links)], [UP, other]);
  assert.equal(damping.isFlapping(), true);
  assert.deepEqual([...damping.believed(new Map([[ETH1, other]]))], [other]);
  assert.equal(damping.isFlapping(), false, 'it is gone');
});
