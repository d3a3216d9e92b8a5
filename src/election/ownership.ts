import type { Ip } from '../lib/ip.ts';
import type { Random } from '../lib/prng.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { AddressRules, type Item, newItem } from './address-rules.ts';
import { Ageing } from './ageing.ts';
import { ClaimMail } from './claim-mail.ts';
import type { Claims } from './claims.ts';
import type { Effect } from './effects.ts';
import { Eligibility } from './eligibility.ts';
import { IncomingHandOvers } from './hand-over-in.ts';
import { OutgoingHandOvers } from './hand-over-out.ts';
import { HandOverRules } from './hand-over-rules.ts';
import { Holdings } from './holdings.ts';
import type { ClaimUpdate, HandOver, HandOverDone } from './message.ts';
import { OwnHost } from './own-host.ts';
import type { OwnershipState } from './ownership-state.ts';
import { segmentKey } from './segment-key.ts';
import type { ElectionSettings } from './settings.ts';
import { type Doubt, Settling } from './settling.ts';
import { Standings } from './standings.ts';
import type {
  Claim,
  Endpoint,
  Grant,
  LocalState,
  Member,
  MemberMeta,
  MemberName,
  SegmentKey,
  Silence,
  Wanted,
  WantedAddress,
} from './types.ts';

/**
 * Which of the wanted addresses this host should hold, and how it comes to hold them: takes what happens, keeps what is
 * known, and has the addresses looked at that it concerns. What is right for one of them is told by `address-rules.ts`,
 * who may have it by `eligibility.ts`, who has it by `claims.ts`, how it moves by plan by `hand-over-out.ts` and
 * `hand-over-in.ts`.
 *
 * A claim that is newer than ours ends our grant in the same step, unless it is the agreed end of a hand-over.
 *
 * The state is mutable and owned by the instance, because a cluster has 10,000 addresses and 1,000 members.
 */

/** The kernel refused an address: others may try, and this host again after this. */
const ABSTAIN_MS = 60_000;
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

export class Ownership {
  readonly #host: OwnHost;
  readonly #settings: ElectionSettings;
  readonly #members: OwnershipOptions['members'];
  readonly #out: Effect[];
  readonly #rules: AddressRules;
  readonly #holdings: Holdings;
  readonly #eligibility = new Eligibility();
  readonly #standings: Standings;
  readonly #settling: Settling;
  readonly #outgoing: OutgoingHandOvers;
  readonly #incoming: IncomingHandOvers;
  readonly #mail: ClaimMail;
  readonly #handOvers: HandOverRules;
  readonly #ageing: Ageing;
  #wanted: Wanted | undefined;
  #preemptAt: Instant = NEVER;

  constructor(options: OwnershipOptions) {
    const { name, settings, random, out, members, startedAt } = options;
    this.#host = new OwnHost(name, options.meta);
    this.#settings = settings;
    this.#members = members;
    this.#out = out;
    this.#holdings = new Holdings(name, out, options.broadcast, (ip) => this.#rules.items.has(ip));
    this.#standings = new Standings(members, options.silence);
    const segments = options.meta.segments.map(({ subnet }) => segmentKey(subnet));
    this.#settling = new Settling(settings, segments, startedAt);
    this.#mail = new ClaimMail(name, random, members, out);
    const send = (to: Endpoint, message: HandOver | HandOverDone): void => this.#send(to, message);
    this.#incoming = new IncomingHandOvers(name, settings, send);
    this.#outgoing = new OutgoingHandOvers(name, settings, Math.floor(random() * 0x7fff_ffff), {
      heirOf: (ip, tried) => this.#rules.heirOf(ip, tried),
      mustLeave: (ip) => this.#rules.mustLeave(ip),
      endpointOf: (member) => members().get(member)?.meta.endpoint,
      ownClaim: (ip) => this.#holdings.ownClaim(ip),
      send,
    });
    const parts = {
      settings,
      holdings: this.#holdings,
      eligibility: this.#eligibility,
      standings: this.#standings,
      settling: this.#settling,
      outgoing: this.#outgoing,
      incoming: this.#incoming,
      mail: this.#mail,
    };
    this.#rules = new AddressRules(this.#host, parts);
    this.#handOvers = new HandOverRules(this.#host, this.#rules, parts, {
      learn: (claim, now) => this.#learn(claim, now),
      held: (grant, now) => this.#held(grant, now),
      send,
    });
    this.#ageing = new Ageing({
      holdings: this.#holdings,
      isWanted: () => (this.#wanted?.fresh === true ? (ip) => this.#rules.items.has(ip) : undefined),
      isGone: (owner) => this.#standings.isAway(owner),
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
    return this.#holdings.claims.list();
  }

  /** Whether a drained host holds nothing any more. */
  drainDone(): boolean {
    return this.#host.meta.drained && this.#holdings.grants.size === 0 && this.#outgoing.size === 0;
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
      const heir = this.#rules.heirOf(ip, skipped);
      if (heir !== undefined) heirs.add(heir);
    }
    return heirs;
  }

  /** For status and explanations (`explain.ts`). */
  inspect(): OwnershipState {
    return {
      name: this.#host.name,
      meta: this.#host.meta,
      items: this.#rules.items,
      holdings: this.#holdings,
      eligibility: this.#eligibility,
      standings: this.#standings,
      settling: this.#settling,
      outgoing: this.#outgoing,
      members: this.#members,
      segmentsHere: (place) => this.#host.segmentsOf(place),
    };
  }

  /** When `advance()` is wanted next. */
  deadline(): Instant {
    return earliest(
      this.#settling.deadline(),
      this.#rules.wakeUps.deadline(),
      this.#outgoing.deadline(),
      this.#incoming.deadline(),
      this.#mail.deadline(),
      this.#ageing.deadline(),
      this.#preemptAt,
    );
  }

  // --- events -------------------------------------------------------------------------------------------------

  wantedChanged(wanted: Wanted, now: Instant): void {
    const before = this.#wanted;
    this.#wanted = wanted;
    this.#host.isViewFresh = wanted.fresh;
    if (!sameSet(before?.excludedNodes, wanted.excludedNodes)) {
      if (this.#eligibility.excludedNodesChanged(wanted.excludedNodes)) this.#candidatesChanged(now);
      for (const ip of this.#rules.items.keys()) this.#rules.settle(ip, now);
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
    this.#host.setMeta(meta);
    if (this.#updateSelf()) this.#candidatesChanged(now);
    this.#rules.settleAll(this.#holdings.ownAddresses(), now);
    this.#rules.settleAll([...this.#rules.unowned], now);
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
      const before = this.#holdings.claims.get(claim.ip);
      if (this.#learn(claim, now) && before !== undefined) this.#holdings.passOn(claim);
    }
    this.#finish(now);
  }

  /** Whether the kernel has an address of an earlier life, not granted, that somebody else who lives owns by now. */
  isLeftOver(ip: Ip): boolean {
    if (this.#holdings.local(ip) !== 'held' || this.#holdings.grants.has(ip)) return false;
    const owner = this.#holdings.claims.get(ip)?.owner;
    return owner !== undefined && owner !== this.#host.name && !this.#standings.of(owner).isGone;
  }

  /** A member answers for an address that this host holds: if it knows an older claim, it learns of the newer one now. */
  rivalHeard(ip: Ip, rival: MemberName, now: Instant): void {
    this.#handOvers.heardOnWire(ip, rival, now);
    const standing = this.claims().get(ip);
    if (standing !== undefined && standing.owner !== rival) this.#mail.tell(rival, standing, now);
    this.#finish(now);
  }

  /** What iface made of grants, as one step. */
  localsChanged(changes: Iterable<readonly [Ip, LocalState]>, now: Instant): void {
    for (const [ip, state] of changes) this.#local(ip, state, now);
    this.#finish(now);
  }

  /** This host has that segment from now on; when for the first time, it waits for the join there. */
  begun(segment: SegmentKey, now: Instant): void {
    this.#settling.begun(segment, now);
  }

  /** This host hears nobody on that segment: its grants there end, its claims stay. */
  isolated(segment: SegmentKey, now: Instant): void {
    if (!this.#host.setIsolated(segment, true)) return;
    this.#settling.isolated(segment, this.#standings.livingIn(segment, now), now);
    this.#lookAt(segment, now);
  }

  /** The same where it holds its grants all the same: nothing is taken there from who may only be out of reach. */
  deafened(segment: SegmentKey, now: Instant): void {
    if (this.#host.setDeaf(segment, true)) this.#lookAt(segment, now);
  }

  /** Somebody is heard again on that segment, after so long: own claims that stand are granted, those of others have to wait. */
  returned(segment: SegmentKey, afterMs: number, now: Instant): void {
    if (this.#host.setDeaf(segment, false)) this.#lookAt(segment, now);
    if (!this.#host.setIsolated(segment, false)) return;
    this.#settling.returned(segment, (name) => !this.#standings.serves(name, segment), afterMs, now);
    this.#mail.catchUp(segment);
    this.#lookAt(segment, now);
  }

  #lookAt(segment: SegmentKey, now: Instant): void {
    this.#rules.settleSegment(segment, now);
    this.#finish(now);
  }

  /** Where this host may have missed something it grants itself nothing new until others were heard. */
  doubtsChanged(doubts: ReadonlyMap<SegmentKey, Doubt>, now: Instant): void {
    const { isNews, isEnd } = this.#settling.setDoubts(doubts, now);
    if (!isNews) return;
    this.#rules.settleAll([...this.#rules.unowned], now);
    if (isEnd) this.#rules.settleAll(this.#holdings.ownAddresses(), now);
    this.#finish(now);
  }

  message(message: HandOver | HandOverDone, from: Endpoint, now: Instant): void {
    this.#handOvers.message(message, from, now);
    this.#finish(now);
  }

  /** `rebalance` gives away what others rank higher for, and asks others for what this host ranks highest for. */
  command(command: 'drain' | 'undrain' | 'rebalance', now: Instant): void {
    if (command === 'rebalance') {
      this.#handOvers.giveMisplaced();
      this.#handOvers.askForMisplaced(now);
    } else {
      this.#host.setMeta({ ...this.#host.meta, drained: command === 'drain' });
      if (this.#updateSelf()) this.#candidatesChanged(now);
      this.#rules.settleAll(this.#holdings.ownAddresses(), now);
    }
    this.#finish(now);
  }

  advance(now: Instant): void {
    const ended = this.#settling.advance(now);
    if (ended === 'cold-start') this.#rules.settleAll(this.#rules.items.keys(), now);
    else if (ended === 'return') this.#rules.settleAll([...this.#rules.unowned], now);
    this.#rules.settleAll(this.#rules.wakeUps.take(now), now);
    for (const ip of this.#incoming.advance(now)) this.#handOvers.refuse(ip, now);
    if (now >= this.#preemptAt) {
      this.#preemptAt = NEVER;
      this.#handOvers.giveMisplaced();
    }
    this.#ageing.advance(now);
    this.#finish(now);
  }

  // --- what is wanted -------------------------------------------------------------------------------------------

  #diffWanted(addresses: ReadonlyMap<Ip, WantedAddress>, now: Instant): void {
    for (const [ip, { nodes }] of addresses) {
      const item = this.#rules.items.get(ip);
      if (item === undefined) {
        const place = this.#eligibility.addPlace(ip, nodes);
        this.#rules.items.set(ip, newItem(place, now));
        this.#rules.settle(ip, now);
      } else if (!sameSet(item.place.nodes, nodes)) {
        item.place.nodes = nodes;
        this.#rules.settle(ip, now);
      }
    }
    if (this.#rules.items.size === addresses.size) return;
    for (const [ip, item] of this.#rules.items) if (!addresses.has(ip)) this.#forget(ip, item);
  }

  #forget(ip: Ip, item: Item): void {
    this.#rules.items.delete(ip);
    this.#eligibility.removePlace(item.place);
    this.#rules.unowned.delete(ip);
    this.#rules.wakeUps.delete(ip);
    this.#outgoing.forget(ip);
    this.#incoming.decline(ip, this.#holdings.claims.get(ip));
    this.#rules.withdraw(ip);
  }

  /** With a fresh view only: what an old one does not know may be wanted all the same. */
  #releaseUnwanted(now: Instant): void {
    for (const ip of this.#holdings.ownAddresses())
      if (!this.#rules.items.has(ip)) this.#rules.release(ip, now);
  }

  // --- members --------------------------------------------------------------------------------------------------

  #updateMembers(names: Iterable<MemberName>, now: Instant): void {
    // All of them before anything is decided, because who is heir depends on each.
    const concerned: MemberName[] = [];
    let changed = false;
    for (const name of names) {
      if (name === this.#host.name) continue;
      const { standing, isBack, concernsClaims } = this.#standings.update(name, now);
      const { member, isGone } = standing;
      if (this.#eligibility.memberChanged(name, member?.meta, !isGone)) {
        changed = true;
        if (isGone || member?.meta.drained === true) this.#outgoing.memberGone(name);
      }
      if (isBack) this.#settling.memberBack(name, (key) => this.#standings.serves(name, key), now);
      if (concernsClaims) concerned.push(name);
    }
    for (const name of concerned) this.#rules.settleAll([...this.#holdings.claims.ownedBy(name)], now);
    if (changed) this.#candidatesChanged(now);
  }

  #candidatesChanged(now: Instant): void {
    if (this.#settling.mayTake(this.#host.heard())) this.#rules.settleAll([...this.#rules.unowned], now);
    if (this.#settings.preempt) this.#preemptAt = after(now, PREEMPT_AFTER_MS);
  }

  // --- claims and grants ----------------------------------------------------------------------------------------

  /** Takes in a claim; returns whether it was news. */
  #learn(claim: Claim, now: Instant): boolean {
    const before = this.#holdings.claims.get(claim.ip);
    // Most of what is heard is known.
    if (before?.epoch === claim.epoch && before.owner === claim.owner) return false;
    if (!this.#holdings.learn(claim, now)) return false;
    if (before?.owner === this.#host.name && claim.owner !== this.#host.name) this.#superseded(claim, now);
    this.#rules.settle(claim.ip, now);
    return true;
  }

  #superseded(claim: Claim, now: Instant): void {
    const tookMs = this.#outgoing.superseded(claim, now);
    if (tookMs !== undefined) return this.#holdings.report({ kind: 'handed-over', claim, tookMs });
    this.#rules.withdraw(claim.ip);
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
      this.#rules.settle(ip, now);
    }
    if (grant === undefined) {
      if (state === 'absent' || (state === 'held' && !this.#settling.isSettled)) this.#rules.settle(ip, now);
    } else if (state === 'held') this.#held(grant, now);
    else if (state === 'failed') this.#failed(grant, now);
    else if (state === 'conflict' && grant.entry.kind === 'hand-over') this.#handOvers.refuse(ip, now);
  }

  #held({ ip, entry }: Grant, now: Instant): void {
    const standing = this.#holdings.claims.get(ip);
    if (standing?.owner === this.#host.name) return this.#holdings.settled(standing);
    const mine = this.#holdings.claim(ip, now);
    this.#holdings.settled(mine);
    if (entry.kind === 'hand-over') this.#incoming.held(mine, now);
    else if (standing?.owner !== undefined) this.#mail.tell(standing.owner, mine, now);
    this.#rules.settle(ip, now);
  }

  /** The kernel does not take it. Others may try, if there are any; else iface goes on trying. */
  #failed({ ip, entry }: Grant, now: Instant): void {
    if (entry.kind === 'hand-over') return this.#handOvers.refuse(ip, now);
    const item = this.#rules.items.get(ip);
    if (item === undefined || this.#rules.heirOf(ip, new Set([this.#host.name])) === undefined) return;
    item.abstainUntil = after(now, ABSTAIN_MS);
    this.#rules.release(ip, now);
  }

  #updateSelf(): boolean {
    return this.#eligibility.memberChanged(this.#host.name, this.#host.meta, true);
  }

  // --- effects --------------------------------------------------------------------------------------------------

  #send(to: Endpoint, message: HandOver | HandOverDone): void {
    this.#out.push({ kind: 'send', to, message, segment: undefined });
  }

  #finish(now: Instant): void {
    const { over, givenUp } = this.#outgoing.advance(now);
    for (const ip of over) {
      this.#rules.withdraw(ip);
      this.#rules.settle(ip, now);
    }
    for (const ip of givenUp) {
      if (this.#holdings.ownClaim(ip) !== undefined) this.#rules.wakeUps.set(ip, after(now, LEAVE_RETRY_MS));
    }
    this.#mail.advance(now);
    this.#ageing.wake(now);
    this.#holdings.flush();
  }
}

function sameSet(left: ReadonlySet<string> | undefined, right: ReadonlySet<string> | undefined): boolean {
  if (left === right) return true;
  if (left === undefined || right === undefined || left.size !== right.size) return false;
  for (const each of left) if (!right.has(each)) return false;
  return true;
}
