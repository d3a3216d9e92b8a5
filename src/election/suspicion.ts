import { after, type Instant } from '../lib/time.ts';
import type { MemberName } from './types.ts';

/** So many members besides the first must suspect one independently for the wait to be the shortest. */
export const SUSPICION_CONFIRMATIONS = 3;

/**
 * How long a member stays suspect before it is dead (Lifeguard, dynamic suspicion timeout): `maxMs` when one member says
 * so, `minMs` when `needed` others confirm it, and logarithmically between, because the first confirmation tells the most.
 */
export function suspicionMs(confirmations: number, needed: number, minMs: number, maxMs: number): number {
  if (needed <= 0 || confirmations >= needed) return minMs;
  return Math.max(minMs, maxMs - (maxMs - minMs) * (Math.log(confirmations + 1) / Math.log(needed + 1)));
}

/** A member that somebody does not reach, until it refutes or the time is over. */
export class Suspicion {
  /** What is suspected is the member in this incarnation. */
  readonly incarnation: number;
  readonly #by: (MemberName | undefined)[];
  readonly #needed: number;
  #confirmations = 0;
  #startedAt: Instant;
  #minMs: number;
  readonly #maxMs: number;
  /** Of the last-chance pings: how many went, and the number that an ack to them carries. */
  asked = 0;
  askedSeq: number | undefined;

  /** `others` is how many members besides the suspect and this one could confirm. */
  constructor(options: {
    readonly incarnation: number;
    readonly by: MemberName | undefined;
    readonly others: number;
    readonly minMs: number;
    readonly maxMs: number;
    readonly now: Instant;
  }) {
    this.incarnation = options.incarnation;
    this.#by = [options.by];
    this.#needed = Math.min(SUSPICION_CONFIRMATIONS, options.others);
    this.#startedAt = options.now;
    this.#minMs = options.minMs;
    this.#maxMs = Math.max(options.minMs, options.maxMs);
  }

  get firstBy(): MemberName | undefined {
    return this.#by[0];
  }

  isBy(name: MemberName): boolean {
    return this.#by.includes(name);
  }

  /** Whether `by` alone suspects it. */
  isOnlyOf(by: MemberName): boolean {
    return this.#by.length === 1 && this.#by[0] === by;
  }

  /** Whether that is a new and independent voice that still shortens the wait. */
  confirm(by: MemberName | undefined): boolean {
    if (this.#confirmations >= this.#needed || by === undefined || this.#by.includes(by)) return false;
    this.#by.push(by);
    this.#confirmations += 1;
    return true;
  }

  /** A watcher judged: from now on no longer than `minMs`. Whether that is sooner. */
  hasten(minMs: number, now: Instant): boolean {
    if (after(now, minMs) >= this.endsAt()) return false;
    this.#startedAt = now;
    this.#minMs = minMs;
    this.#confirmations = this.#needed;
    return true;
  }

  /** The suspect answered without refuting: the wait begins anew. */
  restart(now: Instant): void {
    this.#startedAt = now;
    this.asked = 0;
    this.askedSeq = undefined;
  }

  /** This host did not run for `ms`, which must not count against the suspect. */
  shift(ms: number): void {
    this.#startedAt = after(this.#startedAt, ms);
  }

  endsAt(): Instant {
    return after(this.#startedAt, suspicionMs(this.#confirmations, this.#needed, this.#minMs, this.#maxMs));
  }
}
