import type { Random } from '../lib/prng.ts';

const FIRST_MS = 200;
const LONGEST_MS = 30_000;

/**
 * How long to wait before the next try, in ms, after `failures` ≥ 1 in a row: doubling from 0.2 s to 30 s. Half of it is
 * random, so that a thousand hosts do not come back to a restarted API server in the same instant.
 */
export function backoffMs(failures: number, random: Random): number {
  const whole = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 20));
  return whole / 2 + (whole / 2) * random();
}
