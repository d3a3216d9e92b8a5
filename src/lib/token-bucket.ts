import { after, type Instant, NEVER } from './time.ts';

/** What sums of fractions lose on a host that is up for years: the instant that readyAt() names must not be too early. */
const ROUNDING = 1e-4;

/**
 * A budget for what must not come too fast: `perSecond` on average, at most `burst` at once. Mutable, owned by one machine.
 */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #filledAt: Instant | undefined;

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** How many whole tokens there are at `now`. */
  available(now: Instant): number {
    if (this.#filledAt !== undefined && now > this.#filledAt) {
      const earned = ((now - this.#filledAt) * this.#perSecond) / 1000;
      this.#tokens = Math.min(this.#burst, this.#tokens + earned);
    }
    this.#filledAt = now;
    return Math.floor(this.#tokens + ROUNDING);
  }

  /** Takes up to `count` tokens; returns how many were there. */
  take(count: number, now: Instant): number {
    const granted = Math.min(count, this.available(now));
    this.#tokens = Math.max(0, this.#tokens - granted);
    return granted;
  }

  /** When `count` tokens (at most the burst) will be there; NEVER before the first use of an empty clock. */
  readyAt(count: number): Instant {
    if (this.#filledAt === undefined) return NEVER;
    const missing = Math.min(count, this.#burst) - this.#tokens;
    return missing <= 0 ? this.#filledAt : after(this.#filledAt, (missing * 1000) / this.#perSecond);
  }
}
