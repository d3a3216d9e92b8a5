import type { Instant } from '../lib/time.ts';

/**
 * Whether this host is heard on one segment: an answer is a heartbeat that tells of a number of ours, or the word of a
 * reference. A host that is mute hears everybody and is answered by nobody, so that all others seem to have died.
 */
export class Answers {
  /** The last of our numbers that anybody has told of. */
  #seq = 0;
  #at: Instant;
  #referenceAt: Instant | undefined;

  constructor(now: Instant) {
    this.#at = now;
  }

  /** When this host was last answered. */
  get at(): Instant {
    return this.#at;
  }

  /** A heartbeat told of our number `ackSeq`; `sentSeq` is the last that we sent. */
  told(ackSeq: number, sentSeq: number, now: Instant): void {
    if (ackSeq <= this.#seq || ackSeq > sentSeq) return;
    this.#seq = ackSeq;
    this.#at = now;
  }

  byReference(now: Instant): void {
    this.#referenceAt = now;
    this.#at = now;
  }

  /** This host did not run. */
  woke(now: Instant): void {
    this.#at = now;
  }

  /** Whether anything was answered that was sent after our number `seq`, and at `at` or later. */
  since(seq: number, at: Instant): boolean {
    return this.#seq > seq || (this.#referenceAt !== undefined && this.#referenceAt >= at);
  }
}
