import { after, type Instant, NEVER } from '../lib/time.ts';
import { segmentKey } from './segment-key.ts';
import type { Doubt } from './settling.ts';
import type { Member, MemberMeta, MemberName, Segment, SegmentKey } from './types.ts';

/**
 * What this host must doubt of its part in each of its segments. In the first two nothing is renewed or taken there.
 *
 *   unheard       a host that had company has heard nobody there since its start, or since the segment was given to it:
 *                 it may be cut off, and asks its gateways; after `patienceMs` it counts itself as isolated there
 *   unconfirmed   it was paused, or was out of reach: others may have taken what it believes to own
 *   isolated      it heard others there, and hears nobody any more; or nobody was heard in time
 */

/** How often a host that has heard nobody asks its gateways. */
const ASK_EVERY_MS = 200;

export class Doubts {
  readonly #patienceMs: number;
  /** And since when. */
  readonly #unheard = new Map<SegmentKey, Instant>();
  readonly #unconfirmed = new Set<SegmentKey>();
  readonly #isolated = new Set<SegmentKey>();
  /** Those of the isolated ones on which nobody was ever heard. */
  readonly #neverHeard = new Set<SegmentKey>();
  /** While some segment is isolated: members are heard by another way. */
  #isHeardElsewhere = false;
  #askAt: Instant = NEVER;

  constructor(patienceMs: number) {
    this.#patienceMs = patienceMs;
  }

  /** Where nothing new is granted, and why. */
  all(): ReadonlyMap<SegmentKey, Doubt> {
    const doubts = new Map<SegmentKey, Doubt>();
    for (const key of this.#unconfirmed) doubts.set(key, 'paused');
    for (const key of this.#unheard.keys()) doubts.set(key, 'unheard');
    return doubts;
  }

  get anyUnheard(): boolean {
    return this.#unheard.size > 0;
  }

  /** Whether somebody may turn out to be alone somewhere. */
  get anySilent(): boolean {
    return this.#unheard.size + this.#isolated.size > 0;
  }

  isUnheard(segment: SegmentKey): boolean {
    return this.#unheard.has(segment);
  }

  /** Whether nobody was ever heard there, although somebody should have been. */
  isNeverHeard(segment: SegmentKey): boolean {
    return this.#unheard.has(segment) || this.#neverHeard.has(segment);
  }

  isIsolated(segment: SegmentKey): boolean {
    return this.#isolated.has(segment);
  }

  unheard(segment: SegmentKey, now: Instant): void {
    this.#unheard.set(segment, now);
    this.#askAt = now;
  }

  /** Returns whether that was in doubt. */
  heard(segment: SegmentKey): boolean {
    return this.#unheard.delete(segment);
  }

  /** Where nobody was heard for so long that this host counts itself as isolated there. */
  overdue(now: Instant): readonly SegmentKey[] {
    const found: SegmentKey[] = [];
    for (const [key, since] of this.#unheard) if (now - since >= this.#patienceMs) found.push(key);
    return found;
  }

  unconfirmed(segment: SegmentKey): void {
    this.#unconfirmed.add(segment);
  }

  confirmed(segment: SegmentKey): void {
    this.#unconfirmed.delete(segment);
  }

  isolated(segment: SegmentKey): void {
    // Nobody is left to confirm anything there.
    this.#unconfirmed.delete(segment);
    if (this.#unheard.delete(segment)) this.#neverHeard.add(segment);
    this.#isolated.add(segment);
  }

  returned(segment: SegmentKey): void {
    this.#isolated.delete(segment);
    this.#neverHeard.delete(segment);
    this.#isHeardElsewhere &&= this.#isolated.size > 0;
  }

  /** A packet came on none of the segments, as on a network for management. Returns whether that is news. */
  heardElsewhere(): boolean {
    if (this.#isHeardElsewhere || this.#isolated.size === 0) return false;
    this.#isHeardElsewhere = true;
    return true;
  }

  /** The host has these segments now. Where a NIC lost its carrier is isolated until somebody is heard there again. */
  keep(segments: ReadonlySet<SegmentKey>): void {
    for (const doubts of [this.#unconfirmed, this.#unheard])
      for (const key of doubts.keys()) if (!segments.has(key)) doubts.delete(key);
  }

  /** Where nobody is heard, and no other member has a part: there is nobody to wait for. */
  lonely(self: MemberName, members: ReadonlyMap<MemberName, Member>): readonly SegmentKey[] {
    const others = [...members.values()].filter(({ name }) => name !== self);
    if (!others.some(({ state }) => state === 'alive')) return [];
    return [...this.#unheard.keys(), ...this.#isolated].filter((key) => {
      const isHere = ({ subnet }: Segment): boolean => segmentKey(subnet) === key;
      const hasPart = ({ segments, cutOff }: MemberMeta): boolean =>
        segments.some(isHere) || cutOff?.some(isHere) === true;
      return !others.some(({ state, meta }) => state !== 'left' && hasPart(meta));
    });
  }

  /**
   * What the others are told: while a segment is cut off and another one lives, they hear over that one that this host
   * has no part in the first, and its heirs take over what it had there.
   */
  publicMeta(meta: MemberMeta): MemberMeta {
    const isCutOff = ({ subnet }: Segment): boolean => this.#isolated.has(segmentKey(subnet));
    const cutOff = meta.segments.filter(isCutOff);
    if (cutOff.length === 0) return meta;
    const segments = meta.segments.filter((segment) => !isCutOff(segment));
    return segments.length === 0 && !this.#isHeardElsewhere ? meta : { ...meta, segments, cutOff };
  }

  /** The segments whose gateways are to be asked now whether this host is cut off. */
  ask(now: Instant): readonly SegmentKey[] {
    if (now < this.#askAt) return [];
    this.#askAt = this.#unheard.size === 0 ? NEVER : after(now, ASK_EVERY_MS);
    return [...this.#unheard.keys()];
  }

  deadline(): Instant {
    return this.#askAt;
  }
}
