import type { Entry as Entitlement } from '../election/types.ts';
import type { Ip } from '../lib/ip.ts';
import { after, doublingPauseMs, earliest, type Instant } from '../lib/time.ts';
import { CONFLICT_RETRY_MS, type ProbeFrame, Probing, probeBudget } from './probing.ts';
import { type StillServed, type TakeOverState, TakeOvers, YIELD_MS, YIELDS } from './take-over.ts';
import type { IfIndex, Mac, WireEvidence } from './types.ts';
import type { WireClaim } from './wire-claims.ts';

/**
 * What the wire must have said before an address is added, by how this host came to be entitled to it:
 *
 *   first       silence, which may have been found ahead of time (`probing.ts`)
 *   return      silence found now, by quick probes; what was known from before counts for nothing
 *   hand-over   nothing, for as long as its owner waits, which agreed and still answers; later as `return`
 *   take-over   silence of the owner that is gone (`take-over.ts`); once the address was held, as `return`
 *
 * Whoever else answers is a conflict, asked again after a pause that doubles.
 */

export const RETURN_PROBE_INTERVAL_MS = 20;
/** So long after it was asked for, silence is good for an address that had an owner lately. */
const RECENT_MS = 300;
const CONFLICT_FIRST_RETRY_MS = 1_000;
/** So long after its decision an address may still be added; later, the wire is asked again. 10,000 at once take 2 s. */
const ADD_WITHIN_MS = 5_000;
/** An address that others may take as well must not come late. */
const CONTESTED_ADD_WITHIN_MS = 300;

export const FIRST: Entitlement = { kind: 'first' };

type Entitled = {
  readonly entry: Entitlement;
  /** It was held since, or the moment is over: from now on as `return`. */
  isSpent: boolean;
  /** Questions in a row that somebody else answered. */
  conflicts: number;
  /** How often another one that asked went first. */
  yields: number;
};

/** `asked`: wait for it. `answered`: somebody else has it until `retryAt`. */
export type WireWord =
  | { readonly kind: 'free' }
  | { readonly kind: 'asked' }
  | Extract<WireEvidence, { kind: 'answered' }>;

export type QuestionRound = {
  readonly frames: readonly ProbeFrame[];
  /** Look at these again. */
  readonly concluded: readonly Ip[];
  readonly served: readonly StillServed[];
};

const FREE: WireWord = { kind: 'free' };
const ASKED: WireWord = { kind: 'asked' };

export class WireQuestions {
  readonly probing: Probing;
  readonly #takeOvers: TakeOvers;
  /** One for each address that is wanted. */
  readonly #entitled = new Map<Ip, Entitled>();

  constructor(budget = probeBudget()) {
    this.probing = new Probing(budget);
    this.#takeOvers = new TakeOvers(budget);
  }

  /** How `ip` may be taken from now on; an address that is held is not taken again. Returns whether that is news. */
  entitle(ip: Ip, entry: Entitlement, isHeld: boolean): boolean {
    const known = this.#entitled.get(ip);
    if (known !== undefined && isSame(known.entry, entry)) return false;
    if (known !== undefined && isSamePredecessor(known.entry, entry)) {
      this.#entitled.set(ip, { ...known, entry });
      return true;
    }
    this.#entitled.set(ip, { entry, isSpent: isHeld, conflicts: 0, yields: 0 });
    if (entry.kind !== 'first' && !isHeld) this.forget(ip);
    return true;
  }

  /** `ip` is wanted no more; what the wire said of it may still tell whether it is free for a Service. */
  revoke(ip: Ip): void {
    this.#entitled.delete(ip);
    this.#takeOvers.leave(ip);
  }

  /** An add came too late to be made: the wire is asked (again), also by who was to take over from an owner that agreed. */
  late(ip: Ip): void {
    if (this.#entitled.get(ip)?.entry.kind === 'hand-over') this.spend(ip);
    else this.forget(ip);
  }

  /** `ip` is held: what entitled to it does not a second time. */
  spend(ip: Ip): void {
    const entitled = this.#entitled.get(ip);
    if (entitled !== undefined) {
      entitled.isSpent = true;
      entitled.conflicts = 0;
      entitled.yields = 0;
    }
    this.forget(ip);
  }

  /** What is known and asked of `ip` counts no more. */
  forget(ip: Ip): void {
    this.probing.forget(ip);
    this.#takeOvers.leave(ip);
  }

  /** Whether `ip` may be added on that NIC; asks the wire when it has not said so yet. */
  ask(ip: Ip, ifIndex: IfIndex, now: Instant): WireWord {
    const entitled = this.#entitled.get(ip);
    const manner = mannerOf(entitled, now);
    if (manner === 'hand-over') return FREE;
    if (this.#takeOvers.isFree(ip, now)) return FREE;
    const known = this.probing.evidence(ip, now);
    if (known?.kind === 'silent' && manner !== 'take-over') {
      if (manner === 'first' || now <= after(known.at, RECENT_MS)) return FREE;
    }
    if (known?.kind === 'answered' && now < known.retryAt && !this.probing.isAsking(ip)) return known;
    if (manner === 'take-over' && entitled?.entry.kind === 'take-over') {
      this.#takeOvers.join(ip, ifIndex, entitled.entry.predecessor, now);
    } else if (manner === 'first') {
      this.probing.request(ip, ifIndex, now);
    } else {
      this.probing.request(ip, ifIndex, now, RETURN_PROBE_INTERVAL_MS);
    }
    return ASKED;
  }

  /** Until when `ip` may still be added when that is decided now. */
  addUntil(ip: Ip, now: Instant): Instant {
    const { entry, isSpent } = this.#entitled.get(ip) ?? { entry: FIRST, isSpent: false };
    if (entry.kind === 'hand-over' && !isSpent && now <= entry.until) return entry.until;
    return after(now, entry.kind === 'first' ? ADD_WITHIN_MS : CONTESTED_ADD_WITHIN_MS);
  }

  /** The host changed; see `Probing.keepOnly()`. Who waits for a predecessor is looked at by itself. */
  keepOnly(nicOf: (ip: Ip) => IfIndex | undefined): void {
    this.probing.keepOnly(nicOf);
  }

  takeOver(ip: Ip): TakeOverState | undefined {
    return this.#takeOvers.state(ip);
  }

  isInterestedIn(ip: Ip, ifIndex: IfIndex): boolean {
    return this.probing.isAsking(ip) || this.#takeOvers.isInterestedIn(ip, ifIndex);
  }

  /** A claim of another host on an address that is not held here. Returns whether to look at the address again. */
  heard({ ip, mac, kind }: WireClaim, ifIndex: IfIndex, ownMac: Mac | undefined, now: Instant): boolean {
    if (kind === 'wants') {
      if (ownMac !== undefined) this.#wanted(ip, mac, ownMac, ifIndex, now);
      return false;
    }
    const who = this.#takeOvers.heard(ip, mac, ifIndex, now);
    if (who === 'predecessor') return false;
    const retryMs = this.#conflictPauseMs(ip, who === 'other' || this.probing.isAsking(ip));
    if (who === 'nobody') return this.probing.heard(ip, mac, now, retryMs);
    this.probing.answered(ip, ifIndex, mac, now, retryMs);
    return true;
  }

  unsent(ips: readonly Ip[], now: Instant): void {
    for (const ip of ips) this.probing.unsent(ip);
    this.#takeOvers.unsent(ips, now);
  }

  advance(now: Instant): QuestionRound {
    // First: what has clients waiting goes before what is only asked ahead.
    const takeOvers = this.#takeOvers.advance(now);
    for (const { ip, how } of takeOvers.concluded) {
      if (how === 'alone') this.spend(ip);
      else this.probing.forget(ip);
    }
    const probes = this.probing.advance(now);
    if (takeOvers.frames.length + takeOvers.concluded.length + takeOvers.served.length === 0)
      return { ...probes, served: [] };
    return {
      frames: [...takeOvers.frames, ...probes.frames],
      concluded: [...takeOvers.concluded.map(({ ip }) => ip), ...probes.concluded],
      served: takeOvers.served,
    };
  }

  deadline(): Instant {
    return earliest(this.probing.deadline(), this.#takeOvers.deadline());
  }

  /**
   * Somebody else probes for `ip`, too: two hosts that do not know of each other must not both find it free. The one
   * with the lower MAC goes on (RFC 5227 2.1.1 would have both give up).
   */
  #wanted(ip: Ip, mac: Mac, ownMac: Mac, ifIndex: IfIndex, now: Instant): void {
    this.#takeOvers.wanted(ip, mac, ownMac, ifIndex, now);
    const entitled = this.#entitled.get(ip);
    if (entitled === undefined || mac >= ownMac || entitled.yields >= YIELDS || !this.probing.isAsking(ip))
      return;
    entitled.yields += 1;
    this.probing.restart(ip, after(now, YIELD_MS));
  }

  #conflictPauseMs(ip: Ip, wasAsked: boolean): number {
    const entitled = this.#entitled.get(ip);
    if (entitled === undefined) return CONFLICT_RETRY_MS;
    if (wasAsked || entitled.conflicts === 0) entitled.conflicts += 1;
    return doublingPauseMs(entitled.conflicts, CONFLICT_FIRST_RETRY_MS, CONFLICT_RETRY_MS);
  }
}

function mannerOf(entitled: Entitled | undefined, now: Instant): Entitlement['kind'] {
  if (entitled === undefined) return 'first';
  const { entry, isSpent } = entitled;
  if (entry.kind === 'first' || entry.kind === 'return') return entry.kind;
  if (isSpent) return 'return';
  return entry.kind === 'hand-over' && now > entry.until ? 'return' : entry.kind;
}

function isSame(left: Entitlement, right: Entitlement): boolean {
  if (left === right) return true;
  if (left.kind === 'hand-over' && right.kind === 'hand-over')
    return left.from === right.from && left.until === right.until;
  if (left.kind !== 'take-over' || right.kind !== 'take-over') return left.kind === right.kind;
  const { notBefore, leaseEndsAt } = left.predecessor;
  const isUnchanged =
    notBefore === right.predecessor.notBefore && leaseEndsAt === right.predecessor.leaseEndsAt;
  return isUnchanged && isSamePredecessor(left, right);
}

function isSamePredecessor(left: Entitlement, right: Entitlement): boolean {
  if (left.kind !== 'take-over' || right.kind !== 'take-over') return false;
  const { name, mac, ip } = left.predecessor;
  return name === right.predecessor.name && mac === right.predecessor.mac && ip === right.predecessor.ip;
}
