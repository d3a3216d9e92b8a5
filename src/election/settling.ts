import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { ElectionSettings } from './settings.ts';
import type { MemberName } from './types.ts';

/**
 * When this host may take what nobody serves: not while it may know too little. A cold start waits for the join; a
 * return from isolation waits for those who may have been isolated as well, so that a switch that comes up port by port
 * does not give everything to its first port; a host that was paused waits for a neighbour's word.
 */

/** Members that lived before an isolation and are still away put off the end of the wait, but not beyond this. */
const RETURN_SETTLE_LIMIT_MS = 10_000;

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
  #doubtedAt: Instant;
  /** Members that lived when this host was isolated; after its return, those of them that are away. */
  readonly #awaited = new Set<MemberName>();

  constructor(settings: ElectionSettings, startedAt: Instant) {
    this.#settings = settings;
    this.#coldUntil = after(startedAt, settings.settleMs);
    this.#openAt = this.#coldUntil;
    this.#doubtedAt = startedAt;
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

  setConfirmed(isConfirmed: boolean, now: Instant): void {
    this.#isConfirmed = isConfirmed;
    if (!isConfirmed) this.#doubtedAt = now;
    // Who was answered by nobody for so long believes many to be dead that are not.
    else if (now - this.#doubtedAt >= this.#settings.suspicionMinMs && this.#isSettled)
      this.returned(() => false, now);
  }

  /** Nobody is heard any more; these were there until now. */
  isolated(living: Iterable<MemberName>): void {
    for (const name of living) this.#awaited.add(name);
  }

  /** Somebody is heard again. */
  returned(isAway: (name: MemberName) => boolean, now: Instant): void {
    for (const name of this.#awaited) if (!isAway(name)) this.#awaited.delete(name);
    this.#openAt = Math.max(this.#coldUntil, after(now, this.#settings.returnSettleMs)) as Instant;
    this.#limit = Math.max(this.#openAt, after(now, RETURN_SETTLE_LIMIT_MS)) as Instant;
    this.#isOpen = false;
  }

  /** Another member is there again; it needs a moment to take back what is its own. */
  memberBack(name: MemberName, now: Instant): void {
    this.#awaited.delete(name);
    if (this.#isOpen || !this.#isSettled) return;
    const put = earliest(this.#limit, after(now, this.#settings.returnSettleMs));
    if (put > this.#openAt) this.#openAt = put;
  }

  /** Returns what just ended: all addresses are to be looked at, or those without an owner. */
  advance(now: Instant): 'cold-start' | 'return' | undefined {
    const opens = !this.#isOpen && now >= this.#opensAt();
    if (opens) this.#awaited.clear();
    const settles = !this.#isSettled && now >= this.#coldUntil;
    this.#isOpen ||= opens;
    this.#isSettled ||= settles;
    if (settles) return 'cold-start';
    return opens ? 'return' : undefined;
  }

  deadline(): Instant {
    if (!this.#isSettled) return this.#coldUntil;
    return this.#isOpen ? NEVER : this.#opensAt();
  }

  #opensAt(): Instant {
    return this.#awaited.size > 0 ? this.#limit : this.#openAt;
  }
}
