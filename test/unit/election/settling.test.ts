import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROFILES } from '../../../src/election/settings.ts';
import { Settling } from '../../../src/election/settling.ts';
import type { MemberName, SegmentKey } from '../../../src/election/types.ts';
import { verdictMs } from '../../../src/election/watch-timing.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';

const SEGMENT = '192.0.2.0/24' as SegmentKey;
const OTHER = 'other' as MemberName;
const SETTINGS = PROFILES.lan;

/** Started long ago, and then isolated for `afterMs`, with a member that does not come back unless `isBack`. */
function returned(afterMs: number, isBack = true): { readonly settling: Settling; readonly at: Instant } {
  const settling = new Settling(SETTINGS, [SEGMENT], instant(0));
  settling.advance(instant(10_000));
  settling.isolated(SEGMENT, [OTHER], instant(20_000));
  const at = instant(20_000 + afterMs - SETTINGS.isolationMs);
  settling.returned(SEGMENT, () => !isBack, afterMs, at);
  return { settling, at };
}

/** How long after `from` addresses of others may be taken. */
function openAfterMs(settling: Settling, from: Instant): number {
  for (let ms = 0; ms <= 20_000; ms++) {
    settling.advance(instant(from + ms));
    if (settling.mayTake([SEGMENT])) return ms;
  }
  return Number.POSITIVE_INFINITY;
}

test('Settling waits after an isolation, for those that are still away as well', () => {
  const { settling, at } = returned(30_000);
  assert.equal(openAfterMs(settling, at), SETTINGS.returnSettleMs);
  const waiting = returned(30_000, false);
  assert.equal(openAfterMs(waiting.settling, waiting.at), 10_000);
});

test('Settling waits no longer than an isolation lasted for which nobody is judged, whoever is away', () => {
  const judgedMs = verdictMs(SETTINGS);
  for (const isBack of [true, false]) {
    const { settling, at } = returned(judgedMs - 1, isBack);
    assert.equal(openAfterMs(settling, at), judgedMs - 1);
  }
  const { settling, at } = returned(judgedMs);
  assert.equal(openAfterMs(settling, at), SETTINGS.returnSettleMs);
});

test('Settling goes on with a wait that a short isolation interrupts', () => {
  for (const living of [[OTHER], []]) {
    const { settling, at } = returned(30_000);
    const again = instant(at + 500);
    settling.isolated(SEGMENT, living, again);
    settling.returned(SEGMENT, () => true, 160, instant(again + 10));
    assert.ok(openAfterMs(settling, at) >= SETTINGS.returnSettleMs);
  }
});
