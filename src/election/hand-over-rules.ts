import type { Ip } from '../lib/ip.ts';
import { after, type Instant } from '../lib/time.ts';
import type { AddressParts, AddressRules } from './address-rules.ts';
import type { HandOver, HandOverDone } from './message.ts';
import type { OwnHost } from './own-host.ts';
import type { Claim, Endpoint, Entry, Grant, MemberName } from './types.ts';

const REQUEST_DECLINED_MS = 5_000;
/** A rebalance asks for so long: the owner may not have heard yet that this host is back or drained no more. */
const WISH_MS = 5_000;
const WISH_DECLINED_MS = 500;

/** What the hand-overs need of the whole. */
export type HandOverParts = {
  /** Takes in a claim; returns whether it was news. */
  readonly learn: (claim: Claim, now: Instant) => boolean;
  /** A granted address is held. */
  readonly held: (grant: Grant, now: Instant) => void;
  readonly send: (to: Endpoint, message: HandOver | HandOverDone) => void;
};

/**
 * Which hand-overs this host offers, asks for, takes part in and refuses. How one is carried out is told by
 * `hand-over-out.ts` and `hand-over-in.ts`.
 */
export class HandOverRules {
  readonly #host: OwnHost;
  readonly #rules: AddressRules;
  readonly #ownership: HandOverParts;
  readonly #holdings: AddressParts['holdings'];
  readonly #eligibility: AddressParts['eligibility'];
  readonly #standings: AddressParts['standings'];
  readonly #settling: AddressParts['settling'];
  readonly #outgoing: AddressParts['outgoing'];
  readonly #incoming: AddressParts['incoming'];

  constructor(host: OwnHost, rules: AddressRules, parts: AddressParts, ownership: HandOverParts) {
    this.#host = host;
    this.#rules = rules;
    this.#ownership = ownership;
    this.#holdings = parts.holdings;
    this.#eligibility = parts.eligibility;
    this.#standings = parts.standings;
    this.#settling = parts.settling;
    this.#outgoing = parts.outgoing;
    this.#incoming = parts.incoming;
  }

  message(message: HandOver | HandOverDone, from: Endpoint, now: Instant): void {
    switch (message.kind) {
      case 'offer':
        this.#onOffer(message, from, now);
        break;
      case 'taken':
        for (const claim of message.claims)
          if (this.#ownership.learn(claim, now)) this.#holdings.passOn(claim);
        this.#outgoing.taken(message, from);
        break;
      case 'declined':
        this.#onDeclined(message, now);
        break;
      case 'request':
        this.#onRequest(message, from, now);
        break;
      case 'released':
        this.#incoming.released(message.from, message.seq);
        break;
      default:
        message satisfies never;
    }
  }

  /** The wire tells as well: who was offered `ip` and answers for it took it, whatever became of its word. */
  heardOnWire(ip: Ip, by: MemberName, now: Instant): void {
    const move = this.#outgoing.moveOf(ip);
    const own = this.#holdings.ownClaim(ip);
    if (move?.isOffered !== true || move.to !== by || own === undefined) return;
    const claim = { ip, owner: by, epoch: own.epoch + 1 };
    if (this.#ownership.learn(claim, now)) this.#holdings.passOn(claim);
  }

  #onOffer(message: HandOver, from: Endpoint, now: Instant): void {
    for (const claim of message.claims) this.#ownership.learn(claim, now);
    const judge = (claim: Claim): 'accept' | 'decline' | Claim => this.#judgeOffer(claim, message.from, now);
    for (const ip of this.#incoming.offered(message, from, now, judge)) {
      const epoch = this.#holdings.claims.get(ip)?.epoch ?? 0;
      const until = this.#incoming.patientUntil(ip) ?? now;
      const entry: Entry = { kind: 'hand-over', from: message.from, until };
      this.#holdings.grant(ip, epoch, entry);
      if (this.#holdings.local(ip) === 'held') this.#ownership.held({ ip, epoch, entry }, now);
    }
  }

  #judgeOffer(offered: Claim, from: MemberName, now: Instant): 'accept' | 'decline' | Claim {
    const item = this.#rules.items.get(offered.ip);
    const standing = this.#holdings.claims.get(offered.ip);
    if (standing?.owner === this.#host.name && standing.epoch > offered.epoch) return standing;
    if (standing?.owner !== from || standing.epoch !== offered.epoch) return 'decline';
    if (item === undefined || this.#host.meta.drained) return 'decline';
    // Where it hears nobody it cannot take anything, nor where it may have missed something.
    if (!this.#settling.isConfirmed(this.#host.segmentsOf(item.place))) return 'decline';
    // The owner's view is the fresher one when ours is not.
    if (!this.#host.isViewFresh || this.#eligibility.isCandidate(this.#host.name, item.place))
      return 'accept';
    item.offeredAt = now;
    return 'decline';
  }

  /** An accepted hand-over that does not come about. */
  refuse(ip: Ip, now: Instant): void {
    this.#incoming.decline(ip, this.#holdings.claims.get(ip));
    this.#rules.withdraw(ip);
    this.#rules.settle(ip, now);
  }

  #onDeclined(message: HandOver, now: Instant): void {
    this.#outgoing.declined(message);
    for (const { ip } of message.claims) {
      const item = this.#rules.items.get(ip);
      if (item?.requestAt === undefined || this.#holdings.claims.get(ip)?.owner !== message.from) continue;
      item.requestAt = after(now, item.wishedUntil === undefined ? REQUEST_DECLINED_MS : WISH_DECLINED_MS);
      this.#rules.wakeUps.set(ip, item.requestAt);
    }
  }

  /** A member says that it should have these. It takes a fresh view to refuse. */
  #onRequest(message: HandOver, from: Endpoint, now: Instant): void {
    const claims: Claim[] = [];
    for (const claim of message.claims) {
      this.#ownership.learn(claim, now);
      const own = this.#holdings.ownClaim(claim.ip);
      const item = this.#rules.items.get(claim.ip);
      if (own === undefined || item === undefined || this.#holdings.local(claim.ip) !== 'held') continue;
      const agrees =
        !this.#host.isViewFresh ||
        !this.#eligibility.isCandidate(this.#host.name, item.place) ||
        this.#eligibility.heir(item.place) === message.from;
      if (agrees) this.#outgoing.wish(claim.ip, 'request', message.from);
      else claims.push(own);
    }
    if (claims.length === 0) return;
    this.#ownership.send(from, { kind: 'declined', from: this.#host.name, seq: message.seq, claims });
  }

  /** What another ranks higher for goes there, one bounded batch after the other. */
  giveMisplaced(): void {
    for (const ip of this.#holdings.ownAddresses()) {
      const heir = this.#holdings.local(ip) === 'held' ? this.#rules.heirOf(ip) : undefined;
      if (heir !== undefined && heir !== this.#host.name) this.#outgoing.wish(ip, 'rebalance', heir);
    }
  }

  askForMisplaced(now: Instant): void {
    for (const [ip, item] of this.#rules.items) {
      const claim = this.#holdings.claims.get(ip);
      if (claim?.owner === undefined || claim.owner === this.#host.name) continue;
      if (this.#standings.of(claim.owner).isGone || !this.#rules.isHeirHere(item)) continue;
      item.wishedUntil = after(now, WISH_MS);
      this.#rules.settle(ip, now);
    }
  }
}
