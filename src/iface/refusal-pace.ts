import { after, doublingPauseMs, type Instant } from '../lib/time.ts';

const RETRY_LAST_MS = 30_000;
export const RETRY_FIRST_MS = 1_000;

/** When to ask the kernel again for what it has refused `attempts` times in a row. */
export function retryAfterRefusal(attempts: number, now: Instant): Instant {
  return after(now, doublingPauseMs(attempts, RETRY_FIRST_MS, RETRY_LAST_MS));
}
