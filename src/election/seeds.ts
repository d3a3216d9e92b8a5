import type { Random } from '../lib/prng.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Endpoint } from './types.ts';

/** Beyond it, addresses that were given are not kept. */
const SEED_LIMIT = 4_096;
/** Asked at a time while nobody is known. */
const SEEDS_AT_ONCE = 3;
const ALONE_RETRY_MS = 1_000;
/** Alone for long: so that a thousand hosts that start before the network are no storm. */
const ALONE_RETRY_MAX_MS = 8_000;
/** A seed that is no member may be one of another cluster half that never heard of this one. */
const ABSENT_RETRY_MS = 10_000;

/** Addresses to begin with, tried for ever: quickly while this host is alone, now and then those that are no members. */
export class Seeds {
  readonly #random: Random;
  #endpoints: readonly Endpoint[] = [];
  #nextAt: Instant = NEVER;
  #aloneMs = ALONE_RETRY_MS;

  constructor(random: Random) {
    this.#random = random;
  }

  replace(endpoints: readonly Endpoint[], now: Instant): void {
    this.#endpoints = endpoints.slice(0, SEED_LIMIT);
    this.#aloneMs = ALONE_RETRY_MS;
    this.#nextAt = this.#endpoints.length === 0 ? NEVER : now;
  }

  stop(): void {
    this.#nextAt = NEVER;
  }

  deadline(): Instant {
    return this.#nextAt;
  }

  /** Whom to exchange states with now. `isMember` tells the endpoints of the living, this host's own included. */
  take(now: Instant, alone: boolean, isMember: (endpoint: Endpoint) => boolean): readonly Endpoint[] {
    if (now < this.#nextAt) return [];
    const pause = alone ? this.#aloneMs : ABSENT_RETRY_MS;
    this.#aloneMs = alone ? Math.min(2 * this.#aloneMs, ALONE_RETRY_MAX_MS) : ALONE_RETRY_MS;
    this.#nextAt = after(now, pause * (0.5 + this.#random()));
    const absent = this.#endpoints.filter((endpoint) => !isMember(endpoint));
    const chosen: Endpoint[] = [];
    for (let count = alone ? SEEDS_AT_ONCE : 1; count > 0 && absent.length > 0; count--) {
      chosen.push(...absent.splice(Math.floor(this.#random() * absent.length), 1));
    }
    return chosen;
  }
}
