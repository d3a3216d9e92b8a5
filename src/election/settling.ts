import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { ElectionSettings } from './settings.ts';

/**
 * When this host may take what nobody serves: not while it may know too little. A cold start waits for the join; a
 * return from isolation waits for the others that return, so that a switch that comes up port by port does not give
 * everything to its first port; a host that was paused waits for a neighbour's word.
 */

/** Members still coming back put off the end of the wait after an isolation, but not beyond this. */
export const RETURN_SETTLE_LIMIT_MS = 10_000;

export class Settling {
  readonly #settings: ElectionSettings;
  readonly #coldUntil: Instant;
  /** From then on what was others' may be taken. */
  #openAt: Instant;
  /** How far `openAt` may still be put off. */
  #limit: Instant;
  #isSettled = false;
  #isOpen = false;
  #isConfirmed = true;

  constructor(settings: ElectionSettings, startedAt: Instant) {
    this.#settings = settings;
    this.#coldUntil = after(startedAt, settings.settleMs);
    this.#openAt = this.#coldUntil;
    this.#limit = this.#coldUntil;
  }

  /** The cold start is over: own claims that the kernel does not have may be granted. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  get isConfirmed(): boolean {
    return this.#isConfirmed;
  }

  /** Whether addresses without an owner may be taken. */
  get mayTake(): boolean {
    return this.#isOpen && this.#isConfirmed;
  }

  /** From when on the wait for others counts: nobody could act before. */
  get openAt(): Instant {
    return this.#openAt;
  }

  /** Why nothing is taken now; undefined when it may. */
  reason(): 'cold-start' | 'returning' | 'paused' | undefined {
    if (!this.#isSettled) return 'cold-start';
    if (!this.#isConfirmed) return 'paused';
    return this.#isOpen ? undefined : 'returning';
  }

  setConfirmed(isConfirmed: boolean): void {
    this.#isConfirmed = isConfirmed;
  }

  /** This host was isolated and is not any more. */
  returned(now: Instant): void {
    this.#openAt = Math.max(this.#coldUntil, after(now, this.#settings.returnSettleMs)) as Instant;
    this.#limit = Math.max(this.#openAt, after(now, RETURN_SETTLE_LIMIT_MS)) as Instant;
    this.#isOpen = false;
  }

  /** Another member is there again: after an isolation there may be more. */
  memberBack(now: Instant): void {
    if (this.#isOpen || !this.#isSettled) return;
    const put = earliest(this.#limit, after(now, this.#settings.returnSettleMs));
    if (put > this.#openAt) this.#openAt = put;
  }

  /** Returns what just ended: all addresses are to be looked at, or those without an owner. */
  advance(now: Instant): 'cold-start' | 'return' | undefined {
    const opens = !this.#isOpen && now >= this.#openAt;
    const settles = !this.#isSettled && now >= this.#coldUntil;
    this.#isOpen ||= opens;
    this.#isSettled ||= settles;
    if (settles) return 'cold-start';
    return opens ? 'return' : undefined;
  }

  deadline(): Instant {
    if (!this.#isSettled) return this.#coldUntil;
    return this.#isOpen ? NEVER : this.#openAt;
  }
}
