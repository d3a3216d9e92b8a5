import type { Ip } from '../lib/ip.ts';
import { after, type Instant, instant, NEVER } from '../lib/time.ts';
import type { HandOver, HandOverDone } from './message.ts';
import { MAX_HANDOVER_CLAIMS } from './message.ts';
import type { ElectionSettings } from './settings.ts';
import type { Claim, Endpoint, MemberName } from './types.ts';

/**
 * The giving side of a planned move, make-before-break: addresses that this host owns and should not, one after the
 * other offered to their heirs in batches.
 *
 *   wished ──room──► offered ──taken──► overlapping ──handOverOverlapMs──► let go, "released"
 *     ▲                 │
 *     └──declined, or no answer in handOverTimeoutMs: the next heir; none left: given up
 *
 * The grant stands until the overlap ends: while one side takes, the other still answers. Moves that cannot wait (the
 * host is drained, its last endpoint is gone) and moves for order's sake (rebalance, requests) have their own limits.
 */

/** Why an address should move: `leave` goes to any heir; the others only to the one they were wished for. */
export type MoveReason = 'leave' | 'rebalance' | 'request';

/** Addresses under way at a time. */
export const LEAVING_LIMIT = 512;
/** A batch of a rebalance: the next begins when this one has moved. */
export const REBALANCE_BATCH = 16;
/** Offers are repeated until answered. */
const OFFER_RETRY_MS = 30;

export type OutgoingHost = {
  readonly heirOf: (ip: Ip, tried: ReadonlySet<MemberName>) => MemberName | undefined;
  /** Whether this host may not have it any more: then one heir after the other is asked. */
  readonly mustLeave: (ip: Ip) => boolean;
  readonly endpointOf: (name: MemberName) => Endpoint | undefined;
  /** The claim as it stands, if this host still owns the address. */
  readonly ownClaim: (ip: Ip) => Claim | undefined;
  readonly send: (to: Endpoint, message: HandOver | HandOverDone) => void;
};

type Wish = {
  readonly ip: Ip;
  readonly reason: MoveReason;
  readonly lane: Lane;
  readonly tried: Set<MemberName>;
  to: MemberName;
  offer: Offer | undefined;
};

type Offer = {
  readonly seq: number;
  readonly to: MemberName;
  readonly endpoint: Endpoint;
  readonly lane: Lane;
  readonly wishes: Map<Ip, Wish>;
  readonly startedAt: Instant;
  readonly deadline: Instant;
  resendAt: Instant;
};

type Lane = {
  readonly limit: number;
  readonly queues: Map<MemberName, Set<Wish>>;
  readonly open: Set<MemberName>;
  underWay: number;
};

type Overlap = { readonly at: Instant; readonly seq: number; readonly endpoint: Endpoint };

export type OutgoingRound = {
  /** The overlap is over: the address is to be let go. */
  readonly over: readonly Ip[];
  /** Nobody took it: to be wished for again later, if still due. */
  readonly givenUp: readonly Ip[];
};

export class OutgoingHandOvers {
  readonly #self: MemberName;
  readonly #settings: ElectionSettings;
  readonly #host: OutgoingHost;
  readonly #wishes = new Map<Ip, Wish>();
  readonly #offers = new Map<number, Offer>();
  readonly #overlaps = new Map<Ip, Overlap>();
  readonly #leaving: Lane = newLane(LEAVING_LIMIT);
  readonly #ordering: Lane = newLane(REBALANCE_BATCH);
  #seq: number;
  #hasRoom = false;
  #givenUp: Ip[] = [];

  constructor(self: MemberName, settings: ElectionSettings, firstSeq: number, host: OutgoingHost) {
    this.#self = self;
    this.#settings = settings;
    this.#seq = firstSeq;
    this.#host = host;
  }

  /** Addresses that wait, are offered or overlap. */
  get size(): number {
    return this.#wishes.size + this.#overlaps.size;
  }

  /** Why and to whom `ip` is to move; undefined when it is not. */
  moveOf(
    ip: Ip,
  ): { readonly reason: MoveReason; readonly to: MemberName; readonly isOffered: boolean } | undefined {
    const wish = this.#wishes.get(ip);
    return wish && { reason: wish.reason, to: wish.to, isOffered: wish.offer !== undefined };
  }

  /** The new owner has it, and this host still answers for a moment. */
  isOverlapping(ip: Ip): boolean {
    return this.#overlaps.has(ip);
  }

  /** Asks for `ip` to be moved to `to`. A more urgent reason replaces one that waits. */
  wish(ip: Ip, reason: MoveReason, to: MemberName): void {
    const known = this.#wishes.get(ip);
    if (
      known !== undefined &&
      (known.offer !== undefined || known.reason === 'leave' || reason !== 'leave')
    ) {
      return;
    }
    if (known !== undefined) this.#dequeue(known);
    const lane = reason === 'leave' ? this.#leaving : this.#ordering;
    const wish: Wish = { ip, reason, lane, tried: new Set(), to, offer: undefined };
    this.#wishes.set(ip, wish);
    this.#enqueue(wish);
  }

  /** The address may stay after all. What is offered already may be taken by now, and is left to its end. */
  stay(ip: Ip): void {
    const wish = this.#wishes.get(ip);
    if (wish?.reason === 'leave' && wish.offer === undefined) this.forget(ip);
  }

  /** The address is no longer ours to give; an overlap runs to its end. */
  forget(ip: Ip): void {
    const wish = this.#wishes.get(ip);
    if (wish === undefined) return;
    this.#wishes.delete(ip);
    if (wish.offer === undefined) this.#dequeue(wish);
    else this.#leaveOffer(wish, wish.offer);
  }

  /** A member can take nothing any more: what waits for it goes to the next. What it was offered it may have by now. */
  memberGone(name: MemberName): void {
    for (const { queues } of [this.#leaving, this.#ordering]) {
      for (const wish of [...(queues.get(name) ?? [])]) this.#next(wish);
    }
  }

  /**
   * A newer claim ended our ownership of `ip`. If that is the move agreed on, the overlap begins and the answer is how
   * long the move took; else undefined, and the address is to be let go at once.
   */
  superseded(claim: Claim, now: Instant): number | undefined {
    const wish = this.#wishes.get(claim.ip);
    const offer = wish?.offer;
    this.forget(claim.ip);
    if (offer === undefined || offer.to !== claim.owner) return undefined;
    const { seq, endpoint } = offer;
    this.#overlaps.set(claim.ip, { at: after(now, this.#settings.handOverOverlapMs), seq, endpoint });
    return now - offer.startedAt;
  }

  /** After the claims of a `taken` were taken in: what is no longer answered here is said to be released. */
  taken(message: HandOver, from: Endpoint): void {
    if (message.claims.some(({ ip }) => this.#overlaps.has(ip) || this.#host.ownClaim(ip) !== undefined))
      return;
    this.#released(message.seq, from);
  }

  declined(message: HandOver): void {
    const offer = this.#offers.get(message.seq);
    if (offer === undefined || offer.to !== message.from) return;
    for (const { ip } of message.claims) {
      const wish = offer.wishes.get(ip);
      if (wish !== undefined) this.#next(wish);
    }
  }

  advance(now: Instant): OutgoingRound {
    for (const offer of [...this.#offers.values()]) {
      if (now >= offer.deadline) for (const wish of [...offer.wishes.values()]) this.#next(wish);
      else if (now >= offer.resendAt) this.#send(offer, now);
    }
    const over = this.#endOverlaps(now);
    if (this.#hasRoom) {
      this.#hasRoom = false;
      this.#fill(this.#leaving, now);
      this.#fill(this.#ordering, now);
    }
    const givenUp = this.#givenUp;
    this.#givenUp = [];
    return { over, givenUp };
  }

  deadline(): Instant {
    if (this.#hasRoom || this.#givenUp.length > 0) return instant(0);
    let first: Instant = NEVER;
    for (const { resendAt, deadline } of this.#offers.values()) {
      if (resendAt < first) first = resendAt;
      if (deadline < first) first = deadline;
    }
    for (const { at } of this.#overlaps.values()) if (at < first) first = at;
    return first;
  }

  #endOverlaps(now: Instant): readonly Ip[] {
    if (this.#overlaps.size === 0) return [];
    const over: Ip[] = [];
    const released = new Map<number, Endpoint>();
    for (const [ip, { at, seq, endpoint }] of this.#overlaps) {
      if (at > now) continue;
      over.push(ip);
      released.set(seq, endpoint);
    }
    for (const ip of over) this.#overlaps.delete(ip);
    for (const { seq } of this.#overlaps.values()) released.delete(seq);
    for (const [seq, endpoint] of released) if (!this.#offers.has(seq)) this.#released(seq, endpoint);
    return over;
  }

  #released(seq: number, to: Endpoint): void {
    this.#host.send(to, { kind: 'released', from: this.#self, seq });
  }

  /** One open offer per heir, so that a slow one holds up nobody else. */
  #fill(lane: Lane, now: Instant): void {
    for (const [to, queue] of lane.queues) {
      if (lane.underWay >= lane.limit) return;
      if (lane.open.has(to)) continue;
      const endpoint = this.#host.endpointOf(to);
      if (endpoint === undefined) {
        for (const wish of [...queue]) this.#next(wish);
        continue;
      }
      this.#open(lane, to, endpoint, queue, now);
    }
  }

  #open(lane: Lane, to: MemberName, endpoint: Endpoint, queue: ReadonlySet<Wish>, now: Instant): void {
    const deadline = after(now, this.#settings.handOverTimeoutMs);
    const seq = this.#nextSeq();
    const wishes = new Map<Ip, Wish>();
    const offer: Offer = { seq, to, endpoint, lane, wishes, startedAt: now, deadline, resendAt: now };
    for (const wish of [...queue]) {
      if (wishes.size >= MAX_HANDOVER_CLAIMS || lane.underWay >= lane.limit) break;
      this.#dequeue(wish);
      wish.offer = offer;
      wishes.set(wish.ip, wish);
      lane.underWay += 1;
    }
    if (wishes.size === 0) return;
    lane.open.add(to);
    this.#offers.set(seq, offer);
    this.#send(offer, now);
  }

  #send(offer: Offer, now: Instant): void {
    const claims: Claim[] = [];
    for (const ip of offer.wishes.keys()) {
      const claim = this.#host.ownClaim(ip);
      if (claim !== undefined) claims.push(claim);
    }
    offer.resendAt = after(now, OFFER_RETRY_MS);
    this.#host.send(offer.endpoint, { kind: 'offer', from: this.#self, seq: offer.seq, claims });
  }

  /** On to the next heir, if the reason allows another and there is one. */
  #next(wish: Wish): void {
    this.forget(wish.ip);
    wish.tried.add(wish.to);
    const mayMove = wish.reason === 'leave' && this.#host.mustLeave(wish.ip);
    const heir = mayMove ? this.#host.heirOf(wish.ip, wish.tried) : undefined;
    if (heir === undefined) {
      this.#givenUp.push(wish.ip);
      return;
    }
    wish.to = heir;
    this.#wishes.set(wish.ip, wish);
    this.#enqueue(wish);
  }

  #leaveOffer(wish: Wish, offer: Offer): void {
    wish.offer = undefined;
    offer.wishes.delete(wish.ip);
    offer.lane.underWay -= 1;
    this.#hasRoom = true;
    if (offer.wishes.size > 0) return;
    this.#offers.delete(offer.seq);
    offer.lane.open.delete(offer.to);
  }

  #enqueue(wish: Wish): void {
    const { queues } = wish.lane;
    const queue = queues.get(wish.to);
    if (queue === undefined) queues.set(wish.to, new Set([wish]));
    else queue.add(wish);
    this.#hasRoom = true;
  }

  #dequeue(wish: Wish): void {
    const queue = wish.lane.queues.get(wish.to);
    queue?.delete(wish);
    if (queue?.size === 0) wish.lane.queues.delete(wish.to);
  }

  #nextSeq(): number {
    this.#seq = this.#seq >= 0xffff_ffff ? 1 : this.#seq + 1;
    return this.#seq;
  }
}

function newLane(limit: number): Lane {
  return { limit, queues: new Map(), open: new Set(), underWay: 0 };
}
