import { after, type Instant, instant, NEVER } from '../lib/time.ts';
import { isUsable } from './eligibility.ts';
import { segmentKey } from './segment-key.ts';
import type { ElectionSettings } from './settings.ts';
import type { Member, MemberName, Predecessor, Segment, SegmentKey, Silence } from './types.ts';
import { sameUnready } from './unready.ts';

/** Whether members serve what they own, and what the wire knows of those that do not. */
export type Standing = {
  /** Undefined: never heard of, or forgotten. */
  readonly member: Member | undefined;
  readonly silence: Silence | undefined;
  /** Dead, left, or silent by a watcher's word. */
  readonly isGone: boolean;
  /** The subnets that it had before it said something else, and when it did. */
  readonly formerSegments: readonly Segment[];
  readonly movedAt: Instant;
};

export type StandingNews = {
  readonly standing: Standing;
  /** It was gone and is there again, or in a subnet again. */
  readonly isBack: boolean;
  /** Something changed that may decide about its addresses. */
  readonly concernsClaims: boolean;
};

export class Standings {
  readonly #members: () => ReadonlyMap<MemberName, Member>;
  readonly #silence: (name: MemberName) => Silence | undefined;
  /** Of members that the member table has; bounded with it. */
  readonly #known = new Map<MemberName, Standing>();

  constructor(
    members: () => ReadonlyMap<MemberName, Member>,
    silence: (name: MemberName) => Silence | undefined,
  ) {
    this.#members = members;
    this.#silence = silence;
  }

  of(name: MemberName): Standing {
    return this.#known.get(name) ?? UNKNOWN;
  }

  /** Not a member any more, or one that is gone; this host is there. */
  isAway(name: MemberName): boolean {
    const member = this.#members().get(name);
    return member === undefined || this.of(name).isGone;
  }

  /** Whether it said itself that it ends or leaves, or its kernel said so of its process: not only that nothing is heard. */
  hasEnded(name: MemberName): boolean {
    const { member, silence } = this.of(name);
    return member?.state === 'left' || (silence !== undefined && silence.why !== 'silent');
  }

  /** Those that live and are in the subnet `key`, or were until a moment ago: all may have been cut off with this host. */
  *livingIn(key: SegmentKey, now: Instant): Iterable<MemberName> {
    for (const [name, standing] of this.#known) {
      const { isGone, formerSegments, movedAt } = standing;
      const wasThere = now - movedAt < MOVED_LATELY_MS && hasSegment(formerSegments, key);
      if (!isGone && (wasThere || this.serves(name, key))) yield name;
    }
  }

  /** Whether it lives and is in the subnet `key`: another network may still reach a host that is cut off there. */
  serves(name: MemberName, key: SegmentKey): boolean {
    const { member, isGone } = this.of(name);
    return member !== undefined && !isGone && hasSegment(member.meta.segments, key);
  }

  /** Looks at a member again. */
  update(name: MemberName, now: Instant): StandingNews {
    const before = this.of(name);
    const member = this.#members().get(name);
    if (member === undefined) {
      this.#known.delete(name);
      return { standing: UNKNOWN, isBack: false, concernsClaims: before.member !== undefined };
    }
    const silence = this.#silence(name);
    const isGone = !isUsable(member, silence !== undefined);
    const segments = before.member?.meta.segments ?? [];
    const isMoved = segments !== member.meta.segments;
    const formerSegments = isMoved ? segments : before.formerSegments;
    const movedAt = isMoved ? now : before.movedAt;
    const standing: Standing = { member, silence, isGone, formerSegments, movedAt };
    this.#known.set(name, standing);
    const isGrown = isMoved && member.meta.segments.length > segments.length;
    const isBack = !isGone && (before.isGone || before.member === undefined || isGrown);
    const concernsClaims =
      isBack ||
      isGone !== before.isGone ||
      isMoved ||
      before.member?.meta.node !== member.meta.node ||
      !sameUnready(before.member.meta.unready, member.meta.unready) ||
      (isGone && !sameSilence(silence, before.silence));
    return { standing, isBack, concernsClaims };
  }

  /**
   * The former owner of an address in one of the segments `keys`, as its heir meets it on the wire; undefined when
   * nothing is known of it there.
   */
  predecessor(
    name: MemberName,
    keys: readonly SegmentKey[],
    settings: ElectionSettings,
  ): Predecessor | undefined {
    const standing = this.of(name);
    const { member, silence, isGone } = standing;
    if (member === undefined) return undefined;
    const isHere = ({ subnet }: Segment): boolean => keys.includes(segmentKey(subnet));
    const current = member.meta.segments.find(isHere);
    const segment = current ?? standing.formerSegments.find(isHere);
    if (segment === undefined) return undefined;
    const { mac, ip } = segment;
    if (isGone && silence !== undefined && member.state !== 'left') {
      const notBefore = after(silence.lastHeardAt, settings.takeoverFloorMs);
      return { name, mac, ip, notBefore, leaseEndsAt: silence.leaseEndsAt };
    }
    // Who left or lost its subnet said so itself, and who died without a watcher has been silent for long.
    const notBefore = current === undefined ? standing.movedAt : member.since;
    const { lifetimeMs } = member.meta;
    const leaseEndsAt = lifetimeMs === 0 ? NEVER : after(notBefore, lifetimeMs);
    return { name, mac, ip, notBefore, leaseEndsAt };
  }
}

function hasSegment(segments: readonly Segment[], key: SegmentKey): boolean {
  return segments.some(({ subnet }) => segmentKey(subnet) === key);
}

export function samePredecessor(left: Predecessor, right: Predecessor): boolean {
  return (
    left.name === right.name &&
    left.mac === right.mac &&
    left.ip === right.ip &&
    left.notBefore === right.notBefore &&
    left.leaseEndsAt === right.leaseEndsAt
  );
}

/** A switch that dies is noticed by those at it within this of each other. */
const MOVED_LATELY_MS = 1_000;
/** Two watchers measure the same silence a little differently; what was granted on the first word need not change for that. */
const SILENCE_TOLERANCE_MS = 20;

function sameSilence(left: Silence | undefined, right: Silence | undefined): boolean {
  if (left === right) return true;
  if (left === undefined || right === undefined) return false;
  return near(left.lastHeardAt, right.lastHeardAt) && near(left.leaseEndsAt, right.leaseEndsAt);
}

function near(left: Instant, right: Instant): boolean {
  return left === right || Math.abs(left - right) <= SILENCE_TOLERANCE_MS;
}

const UNKNOWN: Standing = {
  member: undefined,
  silence: undefined,
  isGone: false,
  formerSegments: [],
  movedAt: instant(0),
};
