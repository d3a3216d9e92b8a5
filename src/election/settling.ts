import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { ElectionSettings } from './settings.ts';
import type { MemberName, SegmentKey } from './types.ts';
import { verdictMs } from './watch-timing.ts';

/**
 * When this host may take what nobody serves: not while it may know too little. A cold start waits for the join, and so does
 * a segment that the host has for the first time, as when its NIC gets an address long after lbd was started. On each
 * segment by itself, a return from isolation waits for those who may have been isolated as well, so that a switch that
 * comes up port by port does not give everything to its first port; and who may have missed something waits for the word
 * of others. What is wrong on one segment is no reason to leave the addresses of another one unserved.
 */

/** Members that lived before an isolation and are still away put off the end of the wait, but not beyond this. */
const RETURN_SETTLE_LIMIT_MS = 10_000;
/** Segments, of those that this host once had, whose members are remembered. */
const SEGMENTS_REMEMBERED = 64;

/** Why what this host believes of a segment is in doubt: it has heard nobody there yet, or did not run or hear for a while. */
export type Doubt = 'unheard' | 'paused';

/** A segment that is not as it should be. */
type SegmentSettling = {
  /** From then on what was others' may be taken. */
  openAt: Instant;
  /** How far `openAt` may still be put off. */
  limit: Instant;
  isOpen: boolean;
  /** The host has it for the first time, and waits for the join there. */
  isCold: boolean;
  doubt: Doubt | undefined;
  doubtedAt: Instant;
  /** Members that lived when this host was isolated; after its return, those of them that are away. */
  readonly awaited: Set<MemberName>;
};

export class Settling {
  readonly #settings: ElectionSettings;
  readonly #coldUntil: Instant;
  #isSettled = false;
  /** Those that this host has had in this life; beyond SEGMENTS_REMEMBERED they count as such. */
  readonly #had: Set<SegmentKey>;
  /** Without an entry: open, and not in doubt. */
  readonly #segments = new Map<SegmentKey, SegmentSettling>();

  /** `segments` are those that the host starts with. */
  constructor(settings: ElectionSettings, segments: Iterable<SegmentKey>, startedAt: Instant) {
    this.#settings = settings;
    this.#had = new Set(segments);
    this.#coldUntil = after(startedAt, settings.settleMs);
  }

  /** The cold start is over: own claims that the kernel does not have may be granted. */
  get isSettled(): boolean {
    return this.#isSettled;
  }

  /** The same on one of these segments. */
  isSettledOn(keys: readonly SegmentKey[]): boolean {
    return this.#isSettled && keys.some((key) => this.#segments.get(key)?.isCold !== true);
  }

  /** The host has a segment that it had not until now. */
  begun(key: SegmentKey, now: Instant): void {
    if (this.#had.has(key) || this.#had.size >= SEGMENTS_REMEMBERED) return;
    this.#had.add(key);
    const segment = this.#segment(key);
    segment.openAt = segment.limit = Math.max(
      this.#coldUntil,
      after(now, this.#settings.settleMs),
    ) as Instant;
    segment.isOpen = false;
    segment.isCold = true;
  }

  /** Whether what this host believes is in no doubt on one of these segments. */
  isConfirmed(keys: readonly SegmentKey[]): boolean {
    return keys.some((key) => this.#segments.get(key)?.doubt === undefined);
  }

  /** Whether addresses without an owner may be taken on one of these segments. */
  mayTake(keys: readonly SegmentKey[]): boolean {
    return this.#isSettled && keys.some((key) => isFree(this.#segments.get(key)));
  }

  /** From when on the wait for others counts there: nobody could act before. */
  openAt(keys: readonly SegmentKey[]): Instant {
    let first: Instant = NEVER;
    for (const key of keys) first = earliest(first, this.#segments.get(key)?.openAt ?? this.#coldUntil);
    return keys.length === 0 ? this.#coldUntil : first;
  }

  /** Why nothing is taken there now; undefined when it may. */
  reason(keys: readonly SegmentKey[]): 'cold-start' | 'returning' | Doubt | undefined {
    if (!this.#isSettled) return 'cold-start';
    if (keys.length === 0 || this.mayTake(keys)) return undefined;
    if (!this.isSettledOn(keys)) return 'cold-start';
    const doubts = keys.map((key) => this.#segments.get(key)?.doubt);
    return doubts.includes(undefined) ? 'returning' : doubts[0];
  }

  /** All that is in doubt now. Returns whether something else was until now, and whether a doubt ended. */
  setDoubts(
    doubts: ReadonlyMap<SegmentKey, Doubt>,
    now: Instant,
  ): { readonly isNews: boolean; readonly isEnd: boolean } {
    let isNews = false;
    let isEnd = false;
    for (const [key, doubt] of doubts) {
      const segment = this.#segment(key);
      if (segment.doubt === undefined) {
        segment.doubtedAt = now;
        isNews = true;
      }
      segment.doubt = doubt;
    }
    for (const [key, segment] of this.#segments) {
      if (segment.doubt === undefined || doubts.has(key)) continue;
      segment.doubt = undefined;
      isNews = true;
      isEnd = true;
      // Who was answered by nobody for so long believes many to be dead that are not.
      if (now - segment.doubtedAt >= this.#settings.suspicionMinMs && this.#isSettled)
        this.returned(key, () => false, Number.POSITIVE_INFINITY, now);
      this.#forgetIfCalm(key, segment);
    }
    return { isNews, isEnd };
  }

  /** Nobody is heard there any more; these were until now. */
  isolated(key: SegmentKey, living: Iterable<MemberName>, now: Instant): void {
    if (this.#segments.size >= SEGMENTS_REMEMBERED && !this.#segments.has(key)) return;
    const segment = this.#segment(key);
    // What was waited for begins anew when somebody is heard again.
    segment.isOpen = true;
    segment.isCold = false;
    segment.doubt = undefined;
    for (const name of living) segment.awaited.add(name);
    if (now >= segment.openAt) this.#forgetIfCalm(key, segment);
  }

  /** Somebody is heard there again, for the first time in `afterMs`. A wait that was not over goes on. */
  returned(key: SegmentKey, isAway: (name: MemberName) => boolean, afterMs: number, now: Instant): void {
    const segment = this.#segment(key);
    const { returnSettleMs } = this.#settings;
    for (const name of segment.awaited) if (!isAway(name)) segment.awaited.delete(name);
    // Nobody is judged for less, let alone replaced, and no switch starts again so soon: it was no isolation to the others.
    const isMoment = afterMs < Math.min(verdictMs(this.#settings), returnSettleMs);
    const openAt = after(now, isMoment ? afterMs : returnSettleMs);
    segment.openAt = Math.max(segment.openAt, openAt) as Instant;
    const limit = isMoment ? openAt : after(now, RETURN_SETTLE_LIMIT_MS);
    segment.limit = Math.max(segment.openAt, segment.limit, limit) as Instant;
    segment.isOpen = false;
    segment.isCold = false;
  }

  /** Another member is there again, in these segments; it needs a moment to take back what is its own. */
  memberBack(name: MemberName, isIn: (key: SegmentKey) => boolean, now: Instant): void {
    for (const [key, segment] of this.#segments) {
      if (!isIn(key)) continue;
      segment.awaited.delete(name);
      if (segment.isOpen || !this.#isSettled) continue;
      const put = earliest(segment.limit, after(now, this.#settings.returnSettleMs));
      if (put > segment.openAt) segment.openAt = put;
    }
  }

  /** Returns what just ended: all addresses are to be looked at, or those without an owner. */
  advance(now: Instant): 'cold-start' | 'return' | undefined {
    let opens = false;
    let begins = false;
    for (const [key, segment] of this.#segments) {
      if (segment.isOpen || now < opensAt(segment)) continue;
      begins ||= segment.isCold;
      segment.isOpen = true;
      segment.isCold = false;
      segment.awaited.clear();
      opens = true;
      this.#forgetIfCalm(key, segment);
    }
    if (!this.#isSettled && now >= this.#coldUntil) {
      this.#isSettled = true;
      begins = true;
    }
    if (begins) return 'cold-start';
    return opens ? 'return' : undefined;
  }

  deadline(): Instant {
    let first = this.#isSettled ? NEVER : this.#coldUntil;
    for (const segment of this.#segments.values())
      if (!segment.isOpen) first = earliest(first, opensAt(segment));
    return first;
  }

  #segment(key: SegmentKey): SegmentSettling {
    const known = this.#segments.get(key);
    if (known !== undefined) return known;
    const at = this.#coldUntil;
    const awaited = new Set<MemberName>();
    const segment = {
      openAt: at,
      limit: at,
      isOpen: true,
      isCold: false,
      doubt: undefined,
      doubtedAt: at,
      awaited,
    };
    this.#segments.set(key, segment);
    return segment;
  }

  #forgetIfCalm(key: SegmentKey, { isOpen, doubt, awaited }: SegmentSettling): void {
    if (isOpen && doubt === undefined && awaited.size === 0) this.#segments.delete(key);
  }
}

function isFree(segment: SegmentSettling | undefined): boolean {
  return segment === undefined || (segment.isOpen && segment.doubt === undefined);
}

function opensAt({ awaited, limit, openAt }: SegmentSettling): Instant {
  return awaited.size > 0 ? limit : openAt;
}
