import { after, type Instant, NEVER } from '../lib/time.ts';
import { MIN_SEGMENT_SLOTS, type WatchTiming } from './watch-timing.ts';

/**
 * Whether this host still hears anybody on one segment: any peer, or a reference address.
 *
 *   alone ──first peer──► hearing ──silence──► asking ──isolationMs──► isolated
 *                            ▲ ◄──anybody────────┘                        │
 *                            └──────────────anybody───────────────────────┘
 *
 * alone: there has never been a peer, so that hearing none means nothing.
 */
export class Isolation {
  readonly #timing: WatchTiming;
  #heardAt: Instant;
  /** Since when nothing was heard, whether this host ran or not; undefined when it began before this did. */
  #silentSince: Instant | undefined;
  #hadPeers = false;
  #isolated = false;
  #askAt: Instant = NEVER;
  #slots = 0;
  #seekAt: Instant = NEVER;

  constructor(timing: WatchTiming, now: Instant) {
    this.#timing = timing;
    this.#heardAt = now;
    this.#silentSince = now;
  }

  get isolated(): boolean {
    return this.#isolated;
  }

  get hadPeers(): boolean {
    return this.#hadPeers;
  }

  get heardAt(): Instant {
    return this.#heardAt;
  }

  /** Returns for how long nothing was heard, when that ended an isolation; infinite when nobody knows. */
  heard(peer: boolean, now: Instant): number | undefined {
    const silentMs = this.#silentSince === undefined ? Number.POSITIVE_INFINITY : now - this.#silentSince;
    this.#heardAt = now;
    this.#silentSince = now;
    if (peer) this.#hadPeers = true;
    if (this.#slots > 0) {
      this.#slots = 0;
      this.#askAt = NEVER;
    }
    if (!this.#isolated) return undefined;
    this.#isolated = false;
    return silentMs;
  }

  /** Isolated from the start, as the NIC had no carrier. */
  begin(): void {
    this.#hadPeers = true;
    this.#isolated = true;
    this.#silentSince = undefined;
  }

  /** This host did not run: what it did not hear meanwhile says nothing. */
  woke(now: Instant): void {
    if (this.#isolated) return;
    this.#heardAt = now;
    this.#slots = 0;
    this.#askAt = NEVER;
  }

  /** The last peer said goodbye: silence is as it should be. */
  leftAlone(): void {
    this.#hadPeers = false;
    this.#isolated = false;
  }

  /** While isolated, `seek` is due then, once. */
  seekAt(at: Instant): void {
    this.#seekAt = at;
  }

  /** What is due: `ask` whoever might answer, `isolated`, once, or then `seek` whoever may be back. */
  advance(now: Instant): 'ask' | 'isolated' | 'seek' | undefined {
    if (this.#isolated) {
      if (now < this.#seekAt) return undefined;
      this.#seekAt = NEVER;
      return 'seek';
    }
    if (!this.#hadPeers) return undefined;
    if (now < after(this.#heardAt, this.#timing.isolationAskMs)) return undefined;
    if (now >= after(this.#heardAt, this.#timing.isolationMs) && this.#slots >= MIN_SEGMENT_SLOTS) {
      this.#isolated = true;
      this.#slots = 0;
      this.#askAt = NEVER;
      return 'isolated';
    }
    if (this.#slots > 0 && now < this.#askAt) return undefined;
    this.#slots += 1;
    this.#askAt = after(now, this.#timing.everyMs);
    return 'ask';
  }

  deadline(): Instant {
    if (this.#isolated) return this.#seekAt;
    if (!this.#hadPeers) return NEVER;
    if (this.#slots === 0) return after(this.#heardAt, this.#timing.isolationAskMs);
    const end = after(this.#heardAt, this.#timing.isolationMs);
    return this.#slots >= MIN_SEGMENT_SLOTS && end < this.#askAt ? end : this.#askAt;
  }
}
