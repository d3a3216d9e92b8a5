import type { Ip } from '../lib/ip.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import type { ClaimMail } from './claim-mail.ts';
import type { Eligibility, Place } from './eligibility.ts';
import type { IncomingHandOvers } from './hand-over-in.ts';
import type { OutgoingHandOvers } from './hand-over-out.ts';
import { type Holdings, RETURN } from './holdings.ts';
import type { OwnHost } from './own-host.ts';
import type { ElectionSettings } from './settings.ts';
import type { Settling } from './settling.ts';
import { type Standings, samePredecessor } from './standings.ts';
import type { Claim, Entry, Member, MemberName, SegmentKey } from './types.ts';
import { isReadyFor } from './unready.ts';
import { WakeUps } from './wake-ups.ts';

/**
 * The rules for one address. Level-triggered: `settle(ip)` looks at the claim that stands, at the members and at what
 * this host can do, and moves the address to where it should be; events only say which addresses to look at.
 *
 *   free     nobody claims it      the heir claims it and is granted a first use
 *   mine     this host owns it     granted, unless it may not have it any more: then it goes to its heir by hand-over
 *   theirs   another owns it       left alone while the owner lives and can serve it, whoever ranks higher by now
 *   orphaned its owner is gone     the heir is granted a take-over, and claims it once the wire let it be held
 *
 * The heir is the candidate of the highest rank. One that does not act (it cannot reach the API server and knows
 * nothing of the address, its kernel refuses) is followed by the next after a pause per rank.
 */

/** On top of the cold start's wait, for each better candidate that does nothing. */
const FALLBACK_MS = 1_000;
/** An owner whose view is as fresh as ours hands over by itself; after this it is asked to. */
const REQUEST_AFTER_MS = 300;
/** One that offered it already, a moment before this host knew why, is asked at once. */
const OFFERED_LATELY_MS = 1_000;
const REQUEST_RETRY_MS = 1_000;

/** A wanted address. */
export type Item = {
  readonly place: Place;
  /** Since when nobody that lives owns it, as far as known here. */
  unownedSince: Instant | undefined;
  /** When its owner, who may not have it, is asked to hand it over (again). */
  requestAt: Instant | undefined;
  /** Until then its owner is asked for it for order's sake (`rebalance`), though it may have it. */
  wishedUntil: Instant | undefined;
  /** When its owner offered it to this host, which did not see then that it may have it. */
  offeredAt: Instant | undefined;
  /** Until then this host does not try. */
  abstainUntil: Instant;
};

/** An address of which nothing is known yet. */
export function newItem(place: Place, now: Instant): Item {
  const unknown = {
    unownedSince: undefined,
    requestAt: undefined,
    wishedUntil: undefined,
    offeredAt: undefined,
  };
  return { place, ...unknown, abstainUntil: now };
}

export type AddressParts = {
  readonly settings: ElectionSettings;
  readonly holdings: Holdings;
  readonly eligibility: Eligibility;
  readonly standings: Standings;
  readonly settling: Settling;
  readonly outgoing: OutgoingHandOvers;
  readonly incoming: IncomingHandOvers;
  readonly mail: ClaimMail;
};

export class AddressRules {
  readonly items = new Map<Ip, Item>();
  /** Wanted, and without an owner that lives. */
  readonly unowned = new Set<Ip>();
  readonly wakeUps = new WakeUps();
  readonly #host: OwnHost;
  readonly #settings: ElectionSettings;
  readonly #holdings: Holdings;
  readonly #eligibility: Eligibility;
  readonly #standings: Standings;
  readonly #settling: Settling;
  readonly #outgoing: OutgoingHandOvers;
  readonly #incoming: IncomingHandOvers;
  readonly #mail: ClaimMail;

  constructor(host: OwnHost, parts: AddressParts) {
    this.#host = host;
    this.#settings = parts.settings;
    this.#holdings = parts.holdings;
    this.#eligibility = parts.eligibility;
    this.#standings = parts.standings;
    this.#settling = parts.settling;
    this.#outgoing = parts.outgoing;
    this.#incoming = parts.incoming;
    this.#mail = parts.mail;
  }

  /** Who ranks highest for a wanted address, but for those in `skipped`. */
  heirOf(ip: Ip, skipped?: ReadonlySet<MemberName>): MemberName | undefined {
    const item = this.items.get(ip);
    return item && this.#eligibility.heir(item.place, skipped);
  }

  /** Whether that is this host, and it can serve it. */
  isHeirHere({ place }: Item): boolean {
    return this.#host.reaches(place) && this.#eligibility.rankOf(this.#host.name, place) === 0;
  }

  /** Whether this host may not have the address any more. */
  mustLeave(ip: Ip): boolean {
    const item = this.items.get(ip);
    return item !== undefined && !this.#eligibility.isCandidate(this.#host.name, item.place);
  }

  /** Says that nobody has it. */
  release(ip: Ip, now: Instant): void {
    this.#outgoing.forget(ip);
    this.withdraw(ip);
    if (this.#holdings.release(ip, now)) this.settle(ip, now);
  }

  /** Ends the grant, unless the overlap of a hand-over still runs. */
  withdraw(ip: Ip): void {
    if (!this.#outgoing.isOverlapping(ip)) this.#holdings.withdraw(ip);
  }

  settleAll(ips: Iterable<Ip>, now: Instant): void {
    for (const ip of ips) this.settle(ip, now);
  }

  settleSegment(segment: SegmentKey, now: Instant): void {
    for (const { ip } of this.#eligibility.placesIn(segment)) this.settle(ip, now);
  }

  /** Moves one address to where it should be, given all that is known now. Safe to call at any time. */
  settle(ip: Ip, now: Instant): void {
    const item = this.items.get(ip);
    if (item === undefined) return;
    this.wakeUps.delete(ip);
    const claim = this.#holdings.claims.get(ip);
    if (claim === undefined && this.#isAdopted(item)) this.#settleAdopted(item, now);
    else if (claim?.owner === undefined) this.#settleFree(item, now);
    else if (claim.owner === this.#host.name) this.#settleMine(item, claim, now);
    else this.#settleTheirs(item, claim, claim.owner, now);
  }

  /** Its kernel answers for it since an earlier life, of which no claim was written in time. */
  #isAdopted({ place }: Item): boolean {
    return (
      this.#holdings.local(place.ip) === 'held' &&
      this.#host.reaches(place) &&
      this.#eligibility.isCandidate(this.#host.name, place)
    );
  }

  /** It stays while the others may still tell whose it is; then it is ours. */
  #settleAdopted(item: Item, now: Instant): void {
    const { ip } = item.place;
    this.#markOwned(item);
    if (this.#settling.isSettled) this.#keep(this.#holdings.claim(ip, now));
    else if (this.#holdings.grants.get(ip) === undefined) this.#holdings.grant(ip, UNCLAIMED, RETURN);
  }

  #settleFree(item: Item, now: Instant): void {
    this.#incoming.forget(item.place.ip);
    const since = this.#markUnowned(item, now);
    if (!this.#isMyTurn(item, since, now)) this.withdraw(item.place.ip);
    else if (this.#isVacant(item.place.ip, 'first')) this.#takeFirst(item, now);
  }

  #takeFirst(item: Item, now: Instant): void {
    const { ip } = item.place;
    this.#holdings.grant(ip, this.#holdings.claim(ip, now).epoch, FIRST);
    this.#markOwned(item);
  }

  #settleMine(item: Item, claim: Claim, now: Instant): void {
    const { place } = item;
    const { ip } = place;
    this.#incoming.forget(ip);
    this.#markOwned(item);
    if (!this.#host.reaches(place)) {
      this.#outgoing.forget(ip);
      return this.withdraw(ip);
    }
    if (!this.#eligibility.isCandidate(this.#host.name, place)) return this.#leave(item, claim, now);
    this.#outgoing.stay(ip);
    this.#keep(claim);
  }

  /** The grant of an address that is ours: as it is, or for a return. */
  #keep({ ip, epoch }: Claim): void {
    const granted = this.#holdings.grants.get(ip);
    if (granted?.epoch === epoch) return;
    // Before the join settled, only what the kernel has anyway; a host that was paused has to be confirmed first.
    const place = this.items.get(ip)?.place;
    const isServed = granted !== undefined || this.#holdings.local(ip) === 'held';
    const keys = place === undefined ? [] : this.#host.segmentsOf(place);
    const isConfirmed = this.#settling.isSettledOn(keys) && this.#settling.isConfirmed(keys);
    if (isServed || isConfirmed) this.#holdings.grant(ip, epoch, RETURN);
  }

  /** Ours, but this host may not have it any more. What it does not hold it cannot hand over: then the heir asks the wire. */
  #leave(item: Item, claim: Claim, now: Instant): void {
    const { ip } = claim;
    const isHeld = this.#holdings.local(ip) === 'held';
    const heir = this.#eligibility.heir(item.place);
    // A drain gives what others can take; what nobody else can have is better served here than nowhere.
    if (heir === undefined && isHeld && this.#eligibility.isOnlyDrained(this.#host.name, item.place))
      return this.#keep(claim);
    if (this.#settling.isSettled && (heir === undefined || !isHeld)) return this.release(ip, now);
    if (isHeld) this.#keep(claim);
    if (this.#settling.isSettled && heir !== undefined) this.#outgoing.wish(ip, 'leave', heir);
  }

  #settleTheirs(item: Item, claim: Claim, owner: MemberName, now: Instant): void {
    const { ip } = claim;
    this.#outgoing.forget(ip);
    const { member, isGone } = this.#standings.of(owner);
    if (member !== undefined && !isGone && this.#eligibility.reaches(owner, item.place)) {
      this.#markOwned(item);
      if (!this.#incoming.isPending(ip, owner)) this.withdraw(ip);
      return this.#mindOwner(item, claim, member, now);
    }
    item.requestAt = undefined;
    // Who offered it cannot let go of it any more: now the wire decides.
    this.#incoming.forget(ip);
    // A claim may come before the word of its owner.
    const knownAt = after(this.#holdings.claims.since(ip) ?? now, this.#settings.settleMs);
    if (member !== undefined || now >= knownAt) return this.#settleOrphan(item, claim, owner, now);
    this.#markOwned(item);
    this.withdraw(ip);
    this.wakeUps.set(ip, knownAt);
  }

  #settleOrphan(item: Item, { ip, epoch }: Claim, owner: MemberName, now: Instant): void {
    const keys = this.#eligibility.keysOf(item.place);
    const predecessor = this.#standings.predecessor(owner, keys, this.#settings);
    const unownedSince = this.#markUnowned(item, now);
    if (this.#host.isDeafTo(item.place) && !this.#standings.hasEnded(owner)) return this.withdraw(ip);
    // Until then the heir may have to wait for the old owner's kernel.
    const leaseEndsAt = predecessor?.leaseEndsAt ?? NEVER;
    const isLeased = leaseEndsAt !== NEVER && leaseEndsAt > unownedSince;
    if (!this.#isMyTurn(item, isLeased ? leaseEndsAt : unownedSince, now)) return this.withdraw(ip);
    if (!this.#isVacant(ip, predecessor === undefined ? 'first' : 'take-over')) return;
    if (predecessor === undefined) return this.#takeFirst(item, now);
    const entry = this.#holdings.grants.get(ip)?.entry;
    if (entry?.kind === 'take-over' && samePredecessor(entry.predecessor, predecessor)) return;
    this.#holdings.grant(ip, epoch, { kind: 'take-over', predecessor });
  }

  /** An owner that lives and may not have the address: it hands over by itself, or it does not know and is asked to. */
  #mindOwner(item: Item, claim: Claim, owner: Member, now: Instant): void {
    const { node } = owner.meta;
    const mayBeThere = (item.place.nodes?.has(node) ?? true) && isReadyFor(owner.meta, item.place);
    const isEntitled = mayBeThere && !this.#eligibility.isExcluded(node);
    const mayTake = this.#settling.mayTake(this.#host.segmentsOf(item.place));
    const isWished = item.wishedUntil !== undefined && now < item.wishedUntil;
    const mayAsk = isWished || (!isEntitled && this.#host.isViewFresh);
    if (!mayAsk || !mayTake || !this.isHeirHere(item)) {
      item.requestAt = undefined;
      item.wishedUntil = undefined;
      return;
    }
    const wasOffered = item.offeredAt !== undefined && now - item.offeredAt < OFFERED_LATELY_MS;
    item.requestAt ??= wasOffered || isWished ? now : after(now, REQUEST_AFTER_MS);
    item.offeredAt = undefined;
    if (now >= item.requestAt) {
      this.#mail.ask(owner.name, claim, now);
      item.requestAt = after(now, REQUEST_RETRY_MS);
    }
    this.wakeUps.set(claim.ip, item.requestAt);
  }

  /** Whether this host is to take an address that nobody serves; if it is only later, it will be looked at then. */
  #isMyTurn({ place, abstainUntil }: Item, since: Instant, now: Instant): boolean {
    const keys = this.#host.segmentsOf(place);
    if (!this.#settling.mayTake(keys)) return false;
    const rank = this.#eligibility.rankOf(this.#host.name, place);
    if (rank === undefined) return false;
    const pauseMs = rank * (this.#settings.settleMs + FALLBACK_MS);
    const from = after(Math.max(since, this.#settling.openAt(keys)) as Instant, pauseMs);
    const turnAt = rank === 0 ? abstainUntil : (Math.max(from, abstainUntil) as Instant);
    if (now < turnAt) this.wakeUps.set(place.ip, turnAt);
    return now >= turnAt;
  }

  /**
   * Whether iface has nothing left of an earlier grant of another kind. What it still holds by that is not to be kept
   * by a new one that would have to ask the wire first: it goes, and is looked at again when it is gone.
   */
  #isVacant(ip: Ip, kind: Entry['kind']): boolean {
    const isGranted = this.#holdings.grants.get(ip)?.entry.kind === kind;
    if (isGranted || this.#holdings.local(ip) === 'absent') return true;
    this.withdraw(ip);
    return false;
  }

  #markUnowned(item: Item, now: Instant): Instant {
    item.unownedSince ??= now;
    this.unowned.add(item.place.ip);
    return item.unownedSince;
  }

  #markOwned(item: Item): void {
    item.unownedSince = undefined;
    this.unowned.delete(item.place.ip);
  }
}

const FIRST: Entry = { kind: 'first' };
/** Before every epoch. */
const UNCLAIMED = 0;
