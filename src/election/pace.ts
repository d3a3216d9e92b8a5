import { after, type Instant, instant } from '../lib/time.ts';

/** Overflow: the key that was allowed longest ago is forgotten, which costs one repetition too early. */
const PACED_KEYS_LIMIT = 1_024;

/** Lets each key pass once in `pauseMs`, and all together `perSecond` times a second. */
export class Pace<K> {
  readonly #pauseMs: number;
  readonly #perSecond: number;
  readonly #allowedAt = new Map<K, Instant>();
  #windowEndsAt: Instant = instant(Number.NEGATIVE_INFINITY);
  #inWindow = 0;

  constructor(pauseMs: number, perSecond: number) {
    this.#pauseMs = pauseMs;
    this.#perSecond = perSecond;
  }

  allows(key: K, now: Instant): boolean {
    const last = this.#allowedAt.get(key);
    if (last !== undefined && now < after(last, this.#pauseMs)) return false;
    if (now >= this.#windowEndsAt) {
      this.#windowEndsAt = after(now, 1_000);
      this.#inWindow = 0;
    }
    if (this.#inWindow >= this.#perSecond) return false;
    this.#inWindow += 1;
    this.#allowedAt.delete(key);
    this.#allowedAt.set(key, now);
    if (this.#allowedAt.size > PACED_KEYS_LIMIT) this.#forgetOldest();
    return true;
  }

  #forgetOldest(): void {
    const oldest = this.#allowedAt.keys().next();
    if (oldest.done !== true) this.#allowedAt.delete(oldest.value);
  }
}
