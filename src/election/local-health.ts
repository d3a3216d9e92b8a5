/** Slower than so many times, a host is no use as a judge anyway. */
const MAX_HEALTH_SCORE = 8;

/**
 * How much this host trusts its own ears (Lifeguard, local health multiplier): 0 is healthy. What it misses itself
 * raises the score, and the score stretches its probes, so that a slow host gives the others time instead of suspecting them.
 */
export class LocalHealth {
  #score = 0;

  get score(): number {
    return this.#score;
  }

  worse(by = 1): void {
    this.#score = Math.min(MAX_HEALTH_SCORE, this.#score + by);
  }

  better(): void {
    this.#score = Math.max(0, this.#score - 1);
  }

  /** A timeout or interval of `ms`, as long as this host needs it. */
  stretch(ms: number): number {
    return ms * (this.#score + 1);
  }
}
