import type { Ip } from '../lib/ip.ts';
import type { Random } from '../lib/prng.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { ClaimMail } from './claim-mail.ts';
import type { Claims } from './claims.ts';
import type { Effect } from './effects.ts';
import { Eligibility, type Place, segmentKey } from './eligibility.ts';
import { IncomingHandOvers } from './hand-over-in.ts';
import { OutgoingHandOvers } from './hand-over-out.ts';
import { Holdings, RETURN } from './holdings.ts';
import type { ClaimUpdate, HandOver, HandOverDone } from './message.ts';
import type { ElectionSettings } from './settings.ts';
import { Settling } from './settling.ts';
import { Standings } from './standings.ts';
import type {
  Claim,
  Endpoint,
  Entry,
  Grant,
  LocalState,
  Member,
  MemberMeta,
  MemberName,
  Predecessor,
  SegmentKey,
  Silence,
  Wanted,
  WantedAddress,
} from './types.ts';
import { WakeUps } from './wake-ups.ts';

/**
 * Which of the wanted addresses this host should hold, and how it comes to hold them. Level-triggered: `#settle(ip)`
 * looks at the claim that stands, at the members and at what the host can do, and moves one address to where it should
 * be; events only say which addresses to look at.
 *
 *   free     nobody claims it      the heir claims it and is granted a first use
 *   mine     this host owns it     granted, unless it may not have it any more: then it goes to its heir by hand-over
 *   theirs   another owns it       left alone while the owner lives and can serve it, whoever ranks higher by now
 *   orphaned its owner is gone     the heir is granted a take-over, and claims it once the wire let it be held
 *
 * The heir is the candidate of the highest rank. One that does not act (it cannot reach the API server and knows
 * nothing of the address, its kernel refuses) is followed by the next after a pause per rank.
 * A claim that is newer than ours ends our grant in the same step, unless it is the agreed end of a hand-over.
 *
 * The state is mutable and owned by the instance, because a cluster has 10,000 addresses and 1,000 members.
 */

/** On top of the cold start's wait, for each better candidate that does nothing. */
const FALLBACK_MS = 1_000;
/** An owner whose view is as fresh as ours hands over by itself; after this it is asked to. */
const REQUEST_AFTER_MS = 300;
const REQUEST_RETRY_MS = 1_000;
const REQUEST_DECLINED_MS = 5_000;
/** The kernel refused an address: others may try, and this host again after this. */
export const ABSTAIN_MS = 60_000;
/** A hand-over that nobody took is tried again. */
const LEAVE_RETRY_MS = 1_000;
/** Automatic rebalancing looks at the whole so long after the last change among the members. */
const PREEMPT_AFTER_MS = 5_000;

export type OwnershipOptions = {
  readonly name: MemberName;
  readonly settings: ElectionSettings;
  readonly random: Random;
  readonly out: Effect[];
  /** This host's own record may be among them or not. */
  readonly members: () => ReadonlyMap<MemberName, Member>;
  readonly silence: (name: MemberName) => Silence | undefined;
  readonly broadcast: (update: ClaimUpdate) => void;
  readonly meta: MemberMeta;
  /** Claims of an earlier life, own and others'. */
  readonly restored: readonly Claim[];
  readonly startedAt: Instant;
};

export type Item = {
  readonly place: Place;
  /** Since when nobody that lives owns it, as far as known here. */
  unownedSince: Instant | undefined;
  /** When its owner, who may not have it, is asked to hand it over (again). */
  requestAt: Instant | undefined;
  /** Until then this host does not try. */
  abstainUntil: Instant;
};

export class Ownership {
  readonly #name: MemberName;
  readonly #settings: ElectionSettings;
  readonly #members: OwnershipOptions['members'];
  readonly #out: Effect[];
  readonly #items = new Map<Ip, Item>();
  readonly #holdings: Holdings;
  readonly #eligibility = new Eligibility();
  readonly #standings: Standings;
  readonly #settling: Settling;
  readonly #outgoing: OutgoingHandOvers;
  readonly #incoming: IncomingHandOvers;
  readonly #mail: ClaimMail;
  /** Wanted, and without an owner that lives. */
  readonly #unowned = new Set<Ip>();
  readonly #wakeUps = new WakeUps();
  readonly #isolated = new Set<SegmentKey>();
  #meta: MemberMeta;
  #segments: ReadonlySet<SegmentKey>;
  #wanted: Wanted | undefined;
  #preemptAt: Instant = NEVER;

  constructor(options: OwnershipOptions) {
    const { name, settings, random, out, members, startedAt } = options;
    this.#name = name;
    this.#settings = settings;
    this.#members = members;
    this.#out = out;
    this.#meta = options.meta;
    this.#segments = keysOf(options.meta);
    this.#holdings = new Holdings(name, out, options.broadcast, (ip) => this.#items.has(ip));
    this.#standings = new Standings(members, options.silence);
    this.#settling = new Settling(settings, startedAt);
    this.#mail = new ClaimMail(name, random, members, out);
    const send = (to: Endpoint, message: HandOver | HandOverDone): void => this.#send(to, message);
    this.#incoming = new IncomingHandOvers(name, settings, send);
    this.#outgoing = new OutgoingHandOvers(name, settings, Math.floor(random() * 0x7fff_ffff), {
      heirOf: (ip, tried) => this.#heirOf(ip, tried),
      endpointOf: (member) => members().get(member)?.meta.endpoint,
      ownClaim: (ip) => this.#holdings.ownClaim(ip),
      send,
    });
    for (const claim of options.restored) this.#holdings.claims.merge(claim, startedAt);
    this.#updateSelf();
    this.#updateMembers(members().keys(), startedAt);
  }

  // --- what others ask ----------------------------------------------------------------------------------------

  /** What this host should hold now. Live: look again at `grants-changed`. */
  grants(): ReadonlyMap<Ip, Grant> {
    return this.#holdings.grants;
  }

  /** All claims, for digests, for the State of a push/pull and for the state file. */
  claims(): Claims {
    return this.#holdings.claims;
  }

  persistentClaims(): readonly Claim[] {
    return [...this.#holdings.claims.all()];
  }

  /** Whether a drained host holds nothing any more. */
  drainDone(): boolean {
    return this.#meta.drained && this.#holdings.grants.size === 0 && this.#outgoing.size === 0;
  }

  /**
   * Whether an address is on its way from or to this host. A process that ends now leaves it answered by two until the
   * kernel's lifetime ends: a planned end waits, for at most the hand-over's timeout per batch.
   */
  isHandingOver(): boolean {
    return this.#outgoing.size > 0 || this.#incoming.size > 0;
  }

  /** Who has to know first that this member is gone: the heirs of its addresses. */
  heirsOf(name: MemberName): ReadonlySet<MemberName> {
    const heirs = new Set<MemberName>();
    const skipped = new Set([name]);
    for (const ip of this.#holdings.claims.ownedBy(name)) {
      const heir = this.#heirOf(ip, skipped);
      if (heir !== undefined) heirs.add(heir);
    }
    return heirs;
  }

  /** For status and explanations (`explain.ts`). */
  inspect(): OwnershipState {
    return {
      name: this.#name,
      meta: this.#meta,
      items: this.#items,
      holdings: this.#holdings,
      eligibility: this.#eligibility,
      standings: this.#standings,
      settling: this.#settling,
      outgoing: this.#outgoing,
      members: this.#members,
      reachesHere: (place) => this.#reachesHere(place),
    };
  }

  /** When `advance()` is wanted next. */
  deadline(): Instant {
    return earliest(
      this.#settling.deadline(),
      this.#wakeUps.deadline(),
      this.#outgoing.deadline(),
      this.#incoming.deadline(),
      this.#mail.deadline(),
      this.#preemptAt,
    );
  }

  // --- events -------------------------------------------------------------------------------------------------

  wantedChanged(wanted: Wanted, now: Instant): void {
    const before = this.#wanted;
    this.#wanted = wanted;
    if (!sameSet(before?.excludedNodes, wanted.excludedNodes)) {
      if (this.#eligibility.excludedNodesChanged(wanted.excludedNodes)) this.#candidatesChanged(now);
      for (const ip of this.#items.keys()) this.#settle(ip, now);
    }
    if (before?.addresses !== wanted.addresses) this.#diffWanted(wanted.addresses, now);
    if (wanted.fresh) this.#releaseUnwanted(now);
    this.#finish(now);
  }

  /** Some members are not what they were: state, metadata, or what a watcher says of them. */
  membersChanged(names: Iterable<MemberName>, now: Instant): void {
    this.#updateMembers(names, now);
    this.#finish(now);
  }

  /** This host's own subnets, weight or drain changed. */
  ownChanged(meta: MemberMeta, now: Instant): void {
    this.#meta = meta;
    this.#segments = keysOf(meta);
    if (this.#updateSelf()) this.#candidatesChanged(now);
    this.#settleAll(this.#holdings.ownAddresses(), now);
    this.#settleAll([...this.#unowned], now);
    this.#finish(now);
  }

  /** Claims by gossip, which passes them on. `from` is who sent the packet. */
  claimsHeard(claims: readonly Claim[], from: MemberName | undefined, now: Instant): void {
    for (const claim of claims) {
      if (this.#learn(claim, now)) this.#holdings.passOn(claim);
      else if (from !== undefined && claim.owner === from) this.#correct(claim, from, now);
    }
    this.#finish(now);
  }

  /**
   * Claims of a push/pull. Only what contradicts is passed on: what is merely new here is known elsewhere, or comes
   * from a member that tells everybody itself.
   */
  claimsExchanged(claims: readonly Claim[], now: Instant): void {
    for (const claim of claims) {
      const isContradiction = this.#holdings.claims.get(claim.ip) !== undefined;
      if (this.#learn(claim, now) && isContradiction) this.#holdings.passOn(claim);
    }
    this.#finish(now);
  }

  /** A member answers for an address that this host holds: if it knows an older claim, it learns of the newer one now. */
  rivalHeard(ip: Ip, rival: MemberName, now: Instant): void {
    const standing = this.claims().get(ip);
    if (standing !== undefined && standing.owner !== rival) this.#mail.tell(rival, standing, now);
  }

  /** What iface made of a grant. */
  localChanged(ip: Ip, state: LocalState, now: Instant): void {
    this.#local(ip, state, now);
    this.#finish(now);
  }

  /** The same for many, as one step. */
  localsChanged(changes: Iterable<readonly [Ip, LocalState]>, now: Instant): void {
    for (const [ip, state] of changes) this.#local(ip, state, now);
    this.#finish(now);
  }

  /** This host hears nobody on that segment: its grants there end, its claims stay. */
  isolated(segment: SegmentKey, now: Instant): void {
    if (this.#isolated.has(segment)) return;
    this.#isolated.add(segment);
    this.#settling.isolated(this.#standings.living());
    this.#settleSegment(segment, now);
    this.#finish(now);
  }

  /** Somebody is heard again on that segment: own claims that stand are granted, those of others have to wait. */
  returned(segment: SegmentKey, now: Instant): void {
    if (!this.#isolated.delete(segment)) return;
    this.#settling.returned((name) => this.#standings.of(name).isGone, now);
    this.#mail.catchUp(segment);
    this.#settleSegment(segment, now);
    this.#finish(now);
  }

  /** A host that was paused grants itself nothing new until a neighbour confirmed what it claims. */
  confirmationChanged(isConfirmed: boolean, now: Instant): void {
    if (this.#settling.isConfirmed === isConfirmed) return;
    this.#settling.setConfirmed(isConfirmed);
    this.#settleAll([...this.#unowned], now);
    if (isConfirmed) this.#settleAll(this.#holdings.ownAddresses(), now);
    this.#finish(now);
  }

  message(message: HandOver | HandOverDone, from: Endpoint, now: Instant): void {
    switch (message.kind) {
      case 'offer':
        this.#onOffer(message, from, now);
        break;
      case 'taken':
        for (const claim of message.claims) if (this.#learn(claim, now)) this.#holdings.passOn(claim);
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
    this.#finish(now);
  }

  /** `rebalance` gives away what others rank higher for, and asks others for what this host ranks highest for. */
  command(command: 'drain' | 'undrain' | 'rebalance', now: Instant): void {
    if (command === 'rebalance') {
      this.#giveMisplaced();
      this.#askForMisplaced(now);
    } else {
      this.#meta = { ...this.#meta, drained: command === 'drain' };
      if (this.#updateSelf()) this.#candidatesChanged(now);
      this.#settleAll(this.#holdings.ownAddresses(), now);
    }
    this.#finish(now);
  }

  advance(now: Instant): void {
    const ended = this.#settling.advance(now);
    if (ended === 'cold-start') this.#settleAll(this.#items.keys(), now);
    else if (ended === 'return') this.#settleAll([...this.#unowned], now);
    this.#settleAll(this.#wakeUps.take(now), now);
    for (const ip of this.#incoming.advance(now)) this.#refuse(ip, now);
    if (now >= this.#preemptAt) {
      this.#preemptAt = NEVER;
      this.#giveMisplaced();
    }
    this.#finish(now);
  }

  // --- what is wanted -------------------------------------------------------------------------------------------

  #diffWanted(addresses: ReadonlyMap<Ip, WantedAddress>, now: Instant): void {
    for (const [ip, { nodes }] of addresses) {
      const item = this.#items.get(ip);
      if (item === undefined) {
        const place = this.#eligibility.addPlace(ip, nodes);
        this.#items.set(ip, { place, unownedSince: undefined, requestAt: undefined, abstainUntil: now });
        this.#settle(ip, now);
      } else if (!sameSet(item.place.nodes, nodes)) {
        item.place.nodes = nodes;
        this.#settle(ip, now);
      }
    }
    if (this.#items.size === addresses.size) return;
    for (const [ip, item] of this.#items) if (!addresses.has(ip)) this.#forget(ip, item);
  }

  #forget(ip: Ip, item: Item): void {
    this.#items.delete(ip);
    this.#eligibility.removePlace(item.place);
    this.#unowned.delete(ip);
    this.#wakeUps.delete(ip);
    this.#outgoing.forget(ip);
    this.#incoming.decline(ip, this.#holdings.claims.get(ip));
    this.#withdraw(ip);
  }

  /** With a fresh view only: what an old one does not know may be wanted all the same. */
  #releaseUnwanted(now: Instant): void {
    for (const ip of this.#holdings.ownAddresses()) if (!this.#items.has(ip)) this.#release(ip, now);
  }

  // --- members --------------------------------------------------------------------------------------------------

  #updateMembers(names: Iterable<MemberName>, now: Instant): void {
    // All of them before anything is decided, because who is heir depends on each.
    const concerned: MemberName[] = [];
    let changed = false;
    for (const name of names) {
      if (name === this.#name) continue;
      const { standing, isBack, concernsClaims } = this.#standings.update(name, now);
      const { member, isGone } = standing;
      if (this.#eligibility.memberChanged(name, member?.meta, !isGone)) {
        changed = true;
        if (isGone || member?.meta.drained === true) this.#outgoing.memberGone(name);
      }
      if (isBack) this.#settling.memberBack(name, now);
      if (concernsClaims) concerned.push(name);
    }
    for (const name of concerned) this.#settleAll([...this.#holdings.claims.ownedBy(name)], now);
    if (changed) this.#candidatesChanged(now);
  }

  #candidatesChanged(now: Instant): void {
    if (this.#settling.mayTake) this.#settleAll([...this.#unowned], now);
    if (this.#settings.preempt) this.#preemptAt = after(now, PREEMPT_AFTER_MS);
  }

  // --- claims and grants ----------------------------------------------------------------------------------------

  /** Takes in a claim; returns whether it was news. */
  #learn(claim: Claim, now: Instant): boolean {
    const wasMine = this.#holdings.ownClaim(claim.ip) !== undefined;
    if (!this.#holdings.learn(claim, now)) return false;
    if (wasMine && claim.owner !== this.#name) this.#superseded(claim, now);
    this.#settle(claim.ip, now);
    return true;
  }

  #superseded(claim: Claim, now: Instant): void {
    const tookMs = this.#outgoing.superseded(claim, now);
    if (tookMs !== undefined) return this.#holdings.report({ kind: 'handed-over', claim, tookMs });
    this.#withdraw(claim.ip);
    this.#holdings.report({ kind: 'superseded', claim });
  }

  /** A member that claims what it no longer has may be answering for it: it is told at once. */
  #correct(claim: Claim, from: MemberName, now: Instant): void {
    const standing = this.#holdings.claims.get(claim.ip);
    if (standing === undefined || (standing.owner === from && standing.epoch === claim.epoch)) return;
    this.#mail.tell(from, standing, now);
  }

  #local(ip: Ip, state: LocalState, now: Instant): void {
    this.#holdings.setLocal(ip, state);
    const grant = this.#holdings.grants.get(ip);
    if (state !== 'held' && this.#outgoing.moveOf(ip) !== undefined) {
      this.#outgoing.forget(ip);
      this.#settle(ip, now);
    }
    if (grant === undefined) {
      if (state === 'absent' || (state === 'held' && !this.#settling.isSettled)) this.#settle(ip, now);
    } else if (state === 'held') this.#held(grant, now);
    else if (state === 'failed') this.#failed(grant, now);
    else if (state === 'conflict' && grant.entry.kind === 'hand-over') this.#refuse(ip, now);
  }

  #held({ ip, entry }: Grant, now: Instant): void {
    const standing = this.#holdings.claims.get(ip);
    if (standing?.owner === this.#name) return this.#holdings.settled(standing);
    const mine = this.#holdings.claim(ip, now);
    this.#holdings.settled(mine);
    if (entry.kind === 'hand-over') this.#incoming.held(mine, now);
    else if (standing?.owner !== undefined) this.#mail.tell(standing.owner, mine, now);
    this.#settle(ip, now);
  }

  /** The kernel does not take it. Others may try, if there are any; else iface goes on trying. */
  #failed({ ip, entry }: Grant, now: Instant): void {
    if (entry.kind === 'hand-over') return this.#refuse(ip, now);
    const item = this.#items.get(ip);
    if (item === undefined || this.#heirOf(ip, new Set([this.#name])) === undefined) return;
    item.abstainUntil = after(now, ABSTAIN_MS);
    this.#release(ip, now);
  }

  #release(ip: Ip, now: Instant): void {
    this.#outgoing.forget(ip);
    this.#withdraw(ip);
    if (this.#holdings.release(ip, now)) this.#settle(ip, now);
  }

  /** Ends the grant, unless the overlap of a hand-over still runs. */
  #withdraw(ip: Ip): void {
    if (!this.#outgoing.isOverlapping(ip)) this.#holdings.withdraw(ip);
  }

  // --- hand-over ------------------------------------------------------------------------------------------------

  #onOffer(message: HandOver, from: Endpoint, now: Instant): void {
    for (const claim of message.claims) this.#learn(claim, now);
    const judge = (claim: Claim): 'accept' | 'decline' | Claim => this.#judgeOffer(claim, message.from);
    for (const ip of this.#incoming.offered(message, from, now, judge)) {
      const epoch = this.#holdings.claims.get(ip)?.epoch ?? 0;
      const entry: Entry = { kind: 'hand-over', from: message.from };
      this.#holdings.grant(ip, epoch, entry);
      if (this.#holdings.local(ip) === 'held') this.#held({ ip, epoch, entry }, now);
    }
  }

  #judgeOffer(offered: Claim, from: MemberName): 'accept' | 'decline' | Claim {
    const item = this.#items.get(offered.ip);
    const standing = this.#holdings.claims.get(offered.ip);
    if (standing?.owner === this.#name && standing.epoch > offered.epoch) return standing;
    if (standing?.owner !== from || standing.epoch !== offered.epoch) return 'decline';
    if (item === undefined || this.#meta.drained || !this.#settling.isConfirmed) return 'decline';
    if (!this.#reachesHere(item.place)) return 'decline';
    // The owner's view is the fresher one when ours is not.
    const mustAgree = this.#wanted?.fresh === true;
    return mustAgree && !this.#eligibility.isCandidate(this.#name, item.place) ? 'decline' : 'accept';
  }

  /** An accepted hand-over that does not come about. */
  #refuse(ip: Ip, now: Instant): void {
    this.#incoming.decline(ip, this.#holdings.claims.get(ip));
    this.#withdraw(ip);
    this.#settle(ip, now);
  }

  #onDeclined(message: HandOver, now: Instant): void {
    this.#outgoing.declined(message);
    for (const { ip } of message.claims) {
      const item = this.#items.get(ip);
      if (item?.requestAt === undefined || this.#holdings.claims.get(ip)?.owner !== message.from) continue;
      item.requestAt = after(now, REQUEST_DECLINED_MS);
      this.#wakeUps.set(ip, item.requestAt);
    }
  }

  /** A member says that it should have these. It takes a fresh view to refuse. */
  #onRequest(message: HandOver, from: Endpoint, now: Instant): void {
    const claims: Claim[] = [];
    for (const claim of message.claims) {
      this.#learn(claim, now);
      const own = this.#holdings.ownClaim(claim.ip);
      const item = this.#items.get(claim.ip);
      if (own === undefined || item === undefined || this.#holdings.local(claim.ip) !== 'held') continue;
      const agrees =
        this.#wanted?.fresh !== true ||
        !this.#eligibility.isCandidate(this.#name, item.place) ||
        this.#eligibility.heir(item.place) === message.from;
      if (agrees) this.#outgoing.wish(claim.ip, 'request', message.from);
      else claims.push(own);
    }
    if (claims.length === 0) return;
    this.#send(from, { kind: 'declined', from: this.#name, seq: message.seq, claims });
  }

  /** What another ranks higher for goes there, one bounded batch after the other. */
  #giveMisplaced(): void {
    for (const ip of this.#holdings.ownAddresses()) {
      const heir = this.#holdings.local(ip) === 'held' ? this.#heirOf(ip) : undefined;
      if (heir !== undefined && heir !== this.#name) this.#outgoing.wish(ip, 'rebalance', heir);
    }
  }

  #askForMisplaced(now: Instant): void {
    for (const [ip, item] of this.#items) {
      const claim = this.#holdings.claims.get(ip);
      if (claim?.owner === undefined || claim.owner === this.#name) continue;
      if (this.#standings.of(claim.owner).isGone || !this.#isHeirHere(item)) continue;
      this.#mail.ask(claim.owner, claim, now);
    }
  }

  // --- one address ----------------------------------------------------------------------------------------------

  #settleAll(ips: Iterable<Ip>, now: Instant): void {
    for (const ip of ips) this.#settle(ip, now);
  }

  #settleSegment(segment: SegmentKey, now: Instant): void {
    for (const { ip } of this.#eligibility.placesIn(segment)) this.#settle(ip, now);
  }

  /** Moves one address to where it should be, given all that is known now. Safe to call at any time. */
  #settle(ip: Ip, now: Instant): void {
    const item = this.#items.get(ip);
    if (item === undefined) return;
    this.#wakeUps.delete(ip);
    const claim = this.#holdings.claims.get(ip);
    if (claim?.owner === undefined) this.#settleFree(item, now);
    else if (claim.owner === this.#name) this.#settleMine(item, claim, now);
    else this.#settleTheirs(item, claim, claim.owner, now);
  }

  #settleFree(item: Item, now: Instant): void {
    this.#incoming.forget(item.place.ip);
    const since = this.#markUnowned(item, now);
    if (!this.#isMyTurn(item, since, now)) this.#withdraw(item.place.ip);
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
    if (!this.#reachesHere(place)) {
      this.#outgoing.forget(ip);
      return this.#withdraw(ip);
    }
    if (!this.#eligibility.isCandidate(this.#name, place)) return this.#leave(item, claim, now);
    if (this.#outgoing.moveOf(ip)?.reason === 'leave') this.#outgoing.forget(ip);
    this.#keep(claim);
  }

  /** The grant of an address that is ours: as it is, or for a return. */
  #keep({ ip, epoch }: Claim): void {
    const granted = this.#holdings.grants.get(ip);
    if (granted?.epoch === epoch) return;
    // Before the join settled, only what the kernel has anyway; a host that was paused has to be confirmed first.
    const { isSettled, isConfirmed } = this.#settling;
    const isServed = granted !== undefined || this.#holdings.local(ip) === 'held';
    if (isServed || (isSettled && isConfirmed)) this.#holdings.grant(ip, epoch, RETURN);
  }

  /** Ours, but this host may not have it any more. What it does not hold it cannot hand over: then the heir asks the wire. */
  #leave(item: Item, claim: Claim, now: Instant): void {
    const { ip } = claim;
    const isHeld = this.#holdings.local(ip) === 'held';
    const heir = this.#eligibility.heir(item.place);
    if (this.#settling.isSettled && (heir === undefined || !isHeld)) return this.#release(ip, now);
    if (isHeld) this.#keep(claim);
    if (this.#settling.isSettled && heir !== undefined) this.#outgoing.wish(ip, 'leave', heir);
  }

  #settleTheirs(item: Item, claim: Claim, owner: MemberName, now: Instant): void {
    const { ip } = claim;
    this.#outgoing.forget(ip);
    const { member, isGone } = this.#standings.of(owner);
    if (member !== undefined && !isGone && this.#eligibility.reaches(owner, item.place)) {
      this.#markOwned(item);
      if (!this.#incoming.isPending(ip, owner)) this.#withdraw(ip);
      return this.#mindOwner(item, claim, member, now);
    }
    item.requestAt = undefined;
    // Who offered it cannot let go of it any more: now the wire decides.
    this.#incoming.forget(ip);
    // A claim may come before the word of its owner.
    const knownAt = after(this.#holdings.claims.since(ip) ?? now, this.#settings.settleMs);
    if (member !== undefined || now >= knownAt) return this.#settleOrphan(item, claim, owner, now);
    this.#markOwned(item);
    this.#withdraw(ip);
    this.#wakeUps.set(ip, knownAt);
  }

  #settleOrphan(item: Item, { ip, epoch }: Claim, owner: MemberName, now: Instant): void {
    const keys = this.#eligibility.keysOf(item.place);
    const predecessor = this.#standings.predecessor(owner, keys, this.#settings);
    const unownedSince = this.#markUnowned(item, now);
    // Until then the heir may have to wait for the old owner's kernel.
    const leaseEndsAt = predecessor?.leaseEndsAt ?? NEVER;
    const isLeased = leaseEndsAt !== NEVER && leaseEndsAt > unownedSince;
    if (!this.#isMyTurn(item, isLeased ? leaseEndsAt : unownedSince, now)) return this.#withdraw(ip);
    if (!this.#isVacant(ip, predecessor === undefined ? 'first' : 'take-over')) return;
    if (predecessor === undefined) return this.#takeFirst(item, now);
    const entry = this.#holdings.grants.get(ip)?.entry;
    if (entry?.kind === 'take-over' && samePredecessor(entry.predecessor, predecessor)) return;
    this.#holdings.grant(ip, epoch, { kind: 'take-over', predecessor });
  }

  /** An owner that lives and may not have the address: it hands over by itself, or it does not know and is asked to. */
  #mindOwner(item: Item, claim: Claim, owner: Member, now: Instant): void {
    const { node } = owner.meta;
    const isEntitled = (item.place.nodes?.has(node) ?? true) && !this.#eligibility.isExcluded(node);
    if (isEntitled || this.#wanted?.fresh !== true || !this.#settling.mayTake || !this.#isHeirHere(item)) {
      item.requestAt = undefined;
      return;
    }
    item.requestAt ??= after(now, REQUEST_AFTER_MS);
    if (now >= item.requestAt) {
      this.#mail.ask(owner.name, claim, now);
      item.requestAt = after(now, REQUEST_RETRY_MS);
    }
    this.#wakeUps.set(claim.ip, item.requestAt);
  }

  /** Whether this host is to take an address that nobody serves; if it is only later, it will be looked at then. */
  #isMyTurn({ place, abstainUntil }: Item, since: Instant, now: Instant): boolean {
    if (!this.#settling.mayTake || !this.#reachesHere(place)) return false;
    const rank = this.#eligibility.rankOf(this.#name, place);
    if (rank === undefined) return false;
    const pauseMs = rank * (this.#settings.settleMs + FALLBACK_MS);
    const from = after(Math.max(since, this.#settling.openAt) as Instant, pauseMs);
    const turnAt = rank === 0 ? abstainUntil : (Math.max(from, abstainUntil) as Instant);
    if (now < turnAt) this.#wakeUps.set(place.ip, turnAt);
    return now >= turnAt;
  }

  /**
   * Whether iface has nothing left of an earlier grant of another kind. What it still holds by that is not to be kept
   * by a new one that would have to ask the wire first: it goes, and is looked at again when it is gone.
   */
  #isVacant(ip: Ip, kind: Entry['kind']): boolean {
    if (this.#holdings.grants.get(ip)?.entry.kind === kind || this.#holdings.local(ip) === 'absent')
      return true;
    this.#withdraw(ip);
    return false;
  }

  #isHeirHere({ place }: Item): boolean {
    return this.#reachesHere(place) && this.#eligibility.rankOf(this.#name, place) === 0;
  }

  /** A NIC of this host that is up and hears somebody is in the address's subnet. */
  #reachesHere(place: Place): boolean {
    for (const { key } of place.groups) {
      if (this.#segments.has(key) && !this.#isolated.has(key)) return true;
    }
    return false;
  }

  #markUnowned(item: Item, now: Instant): Instant {
    item.unownedSince ??= now;
    this.#unowned.add(item.place.ip);
    return item.unownedSince;
  }

  #markOwned(item: Item): void {
    item.unownedSince = undefined;
    this.#unowned.delete(item.place.ip);
  }

  #heirOf(ip: Ip, skipped?: ReadonlySet<MemberName>): MemberName | undefined {
    const item = this.#items.get(ip);
    return item && this.#eligibility.heir(item.place, skipped);
  }

  #updateSelf(): boolean {
    return this.#eligibility.memberChanged(this.#name, this.#meta, true);
  }

  // --- effects --------------------------------------------------------------------------------------------------

  #send(to: Endpoint, message: HandOver | HandOverDone): void {
    this.#out.push({ kind: 'send', to, message, segment: undefined });
  }

  #finish(now: Instant): void {
    const { over, givenUp } = this.#outgoing.advance(now);
    for (const ip of over) {
      this.#withdraw(ip);
      this.#settle(ip, now);
    }
    for (const ip of givenUp) {
      if (this.#holdings.ownClaim(ip) !== undefined) this.#wakeUps.set(ip, after(now, LEAVE_RETRY_MS));
    }
    this.#mail.advance(now);
    this.#holdings.flush();
  }
}

/** What explanations are made of. */
export type OwnershipState = {
  readonly name: MemberName;
  readonly meta: MemberMeta;
  readonly items: ReadonlyMap<Ip, Item>;
  readonly holdings: Holdings;
  readonly eligibility: Eligibility;
  readonly standings: Standings;
  readonly settling: Settling;
  readonly outgoing: OutgoingHandOvers;
  readonly members: () => ReadonlyMap<MemberName, Member>;
  readonly reachesHere: (place: Place) => boolean;
};

const FIRST: Entry = { kind: 'first' };

function keysOf(meta: MemberMeta): ReadonlySet<SegmentKey> {
  return new Set(meta.segments.map(({ subnet }) => segmentKey(subnet)));
}

function samePredecessor(left: Predecessor, right: Predecessor): boolean {
  return (
    left.name === right.name &&
    left.mac === right.mac &&
    left.ip === right.ip &&
    left.notBefore === right.notBefore &&
    left.leaseEndsAt === right.leaseEndsAt
  );
}

function sameSet(left: ReadonlySet<string> | undefined, right: ReadonlySet<string> | undefined): boolean {
  if (left === right) return true;
  if (left === undefined || right === undefined || left.size !== right.size) return false;
  for (const each of left) if (!right.has(each)) return false;
  return true;
}
