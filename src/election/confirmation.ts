import { after, type Instant, NEVER } from '../lib/time.ts';
import type { WatchTiming } from './watch-timing.ts';

/**
 * After a pause or a cut, what this host believes to own may have been taken meanwhile. It renews nothing until a peer,
 * asked after that, knows the same claims of it.
 *
 *   confirmed ──paused, cut off──► asking ──an answer that matches──► confirmed
 *                                    └──an answer that does not──► exchange of states, asked again
 */

/** Between two exchanges of states for one difference. */
const EXCHANGE_PAUSE_MS = 100;

export class Confirmation {
  readonly #timing: WatchTiming;
  #asking = false;
  #startedAt: Instant = NEVER;
  /** The first of our numbers whose answer counts. */
  #seq = 0;
  #askAt: Instant = NEVER;
  #exchangeAt: Instant = NEVER;

  constructor(timing: WatchTiming) {
    this.#timing = timing;
  }

  get asking(): boolean {
    return this.#asking;
  }

  get startedAt(): Instant {
    return this.#startedAt;
  }

  /** `seq` is the number of the next heartbeat: what was sent before proves nothing. */
  start(seq: number, now: Instant): void {
    this.#asking = true;
    this.#startedAt = now;
    this.#seq = seq;
    this.#askAt = now;
    this.#exchangeAt = now;
  }

  end(): void {
    this.#asking = false;
    this.#askAt = NEVER;
  }

  /** Whether `seq` was sent since the last start. */
  covers(seq: number): boolean {
    return seq >= this.#seq;
  }

  /** Whether the states are to be exchanged now, as claims differ. */
  mayExchange(now: Instant): boolean {
    if (now < this.#exchangeAt) return false;
    this.#exchangeAt = after(now, EXCHANGE_PAUSE_MS);
    return true;
  }

  /** Whether to ask now: often at first, then at the pace of the heartbeats. */
  advance(now: Instant): boolean {
    if (!this.#asking || now < this.#askAt) return false;
    const fresh = now - this.#startedAt < this.#timing.isolationMs;
    this.#askAt = after(now, fresh ? this.#timing.everyMs : this.#timing.heartbeatMs);
    return true;
  }

  deadline(): Instant {
    return this.#askAt;
  }
}
