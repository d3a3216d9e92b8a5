import type { Ip } from '../lib/ip.ts';
import { type Instant, NEVER } from '../lib/time.ts';

/** Addresses to look at again at an instant. Many share one instant, so that finding the next is worth a scan. */
export class WakeUps {
  readonly #at = new Map<Ip, Instant>();
  /** Never later than the earliest; earlier after a delete, which costs one empty look. */
  #first: Instant = NEVER;

  set(ip: Ip, at: Instant): void {
    this.#at.set(ip, at);
    if (at < this.#first) this.#first = at;
  }

  delete(ip: Ip): void {
    this.#at.delete(ip);
    if (this.#at.size === 0) this.#first = NEVER;
  }

  deadline(): Instant {
    return this.#first;
  }

  /** Those whose time has come; they are forgotten. */
  take(now: Instant): readonly Ip[] {
    if (this.#first > now) return [];
    const due: Ip[] = [];
    this.#first = NEVER;
    for (const [ip, at] of this.#at) {
      if (at <= now) due.push(ip);
      else if (at < this.#first) this.#first = at;
    }
    for (const ip of due) this.#at.delete(ip);
    return due;
  }
}
