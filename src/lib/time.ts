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

/** The earliest of the given instants; NEVER when there is none. */
export function earliest(...instants: readonly Instant[]): Instant {
  let first: Instant = NEVER;
  for (const candidate of instants) if (candidate < first) first = candidate;
  return first;
}

/** How long to wait after the `failures`-th failure in a row (from 1): `firstMs`, doubled each time, up to `lastMs`. */
export function doublingPauseMs(failures: number, firstMs: number, lastMs: number): number {
  // 2^30 of anything is beyond every limit, and still a number.
  return Math.min(lastMs, firstMs * 2 ** Math.min(failures - 1, 30));
}
