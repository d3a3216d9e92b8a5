/**
 * A point on the host's monotonic clock that also counts suspension (CLOCK_BOOTTIME), in milliseconds with fractions.
 * Wall-clock time never decides anything in lbd; it only labels output.
 */
export type Instant = number & { readonly __brand: 'Instant' };

/** Later than every event: the deadline of a machine that waits for nothing. */
export const NEVER = Number.POSITIVE_INFINITY as Instant;

export function instant(ms: number): Instant {
  return ms as Instant;
}

export function after(from: Instant, ms: number): Instant {
  return (from + ms) as Instant;
}

/** The earliest of up to eight instants; NEVER when there is none. Fixed parameters: an array for each call is what it cost. */
export function earliest(
  first: Instant = NEVER,
  second: Instant = NEVER,
  third: Instant = NEVER,
  fourth: Instant = NEVER,
  fifth: Instant = NEVER,
  sixth: Instant = NEVER,
  seventh: Instant = NEVER,
  eighth: Instant = NEVER,
): Instant {
  let found = first < second ? first : second;
  if (third < found) found = third;
  if (fourth < found) found = fourth;
  if (fifth < found) found = fifth;
  if (sixth < found) found = sixth;
  if (seventh < found) found = seventh;
  return eighth < found ? eighth : found;
}

/** How long to wait after the `failures`-th failure in a row (from 1): `firstMs`, doubled each time, up to `lastMs`. */
export function doublingPauseMs(failures: number, firstMs: number, lastMs: number): number {
  // 2^30 of anything is beyond every limit, and still a number.
  return Math.min(lastMs, firstMs * 2 ** Math.min(failures - 1, 30));
}
