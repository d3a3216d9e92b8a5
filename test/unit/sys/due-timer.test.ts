import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { after, NEVER } from '../../../src/lib/time.ts';
import { bootTimeMs } from '../../../src/sys/clock.ts';
import { DueTimer } from '../../../src/sys/due-timer.ts';

/** Runs until `count` wakes have come, and then as long as another one would take; returns how late each was. */
function wakes(count: number, begin: (timer: DueTimer) => void): Promise<readonly number[]> {
  return new Promise((resolve) => {
    const lateMs: number[] = [];
    const timer = new DueTimer(() => {
      lateMs.push(bootTimeMs() - timer.at);
      if (lateMs.length === count) setTimeout(() => resolve(lateMs), 30);
    });
    begin(timer);
  });
}

describe('a timer for what is due', () => {
  test('wakes once, and not before the instant', async () => {
    const [lateMs, ...more] = await wakes(1, (timer) => timer.set(after(bootTimeMs(), 10.4)));
    assert.ok(lateMs !== undefined && lateMs >= 0, `${lateMs} ms late`);
    assert.deepEqual(more, []);
  });

  test('another instant takes the place of the first, and NEVER of any', async () => {
    const started = bootTimeMs();
    await wakes(1, (timer) => {
      timer.set(after(started, 5));
      timer.set(after(started, 20));
    });
    assert.ok(bootTimeMs() - started >= 20);
    let woken = 0;
    const never = new DueTimer(() => (woken += 1));
    never.set(after(bootTimeMs(), 5));
    never.set(NEVER);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(woken, 0);
  });

  test('what sets it between its instant and its wake adds no second wake to it', async () => {
    const late = await wakes(2, (timer) => {
      const now = bootTimeMs();
      timer.set(now);
      // In the same turn of the loop as the timer, after it: as a packet that was waiting in a socket does.
      setTimeout(() => timer.set(after(now, 15)), 0);
      setTimeout(() => timer.set(after(now, 25)), 5);
    });
    assert.equal(late.length, 2, 'once for each instant that came');
  });

  test('closed between its instant and its wake, it wakes nobody', async () => {
    let woken = 0;
    const timer = new DueTimer(() => (woken += 1));
    timer.set(bootTimeMs());
    setTimeout(() => timer.close(), 0);
    await new Promise((resolve) => setTimeout(resolve, 15));
    assert.equal(woken, 0);
  });
});
