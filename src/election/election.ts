import type { Mac } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Random } from '../lib/prng.ts';
import { earliest, type Instant } from '../lib/time.ts';
import type { Effect } from './effects.ts';
import { segmentKey } from './eligibility.ts';
import type { Farewell, Heartbeat, Message, State, Verdict } from './message.ts';
import { Ownership } from './ownership.ts';
import { Reannouncing } from './reannouncing.ts';
import type { ElectionSettings } from './settings.ts';
import { fromSilenceUpdate, toSilenceUpdate } from './silence.ts';
import { Swim } from './swim.ts';
import type {
  Claim,
  Endpoint,
  Grant,
  LocalState,
  Member,
  MemberMeta,
  MemberName,
  PersistentState,
  Segment,
  SegmentKey,
  Wanted,
} from './types.ts';
import { Watch } from './watch.ts';
import type { WatchEnd, WatchEvent } from './watch-types.ts';

/** A verdict goes to every member at once while they are no more than this; gossip brings it to the others. */
const DIRECT_VERDICTS = 128;
/** Tables of claims that differ for so long are exchanged whole: gossip has had its time. */
const DIFFERENCE_MS = 300;
const EXCHANGE_PAUSE_MS = 1_000;
/** Below, nobody can tell whether it is itself or the other that was cut off (design section 5). */
const MAJORITY_FROM = 3;
/** Endpoints that are remembered for a start while the seeds are away. */
const REMEMBERED_PEERS = 64;

export type ElectionOptions = {
  readonly name: MemberName;
  readonly meta: MemberMeta;
  readonly settings: ElectionSettings;
  /** `auto`: let go when isolated, if there were ever three members or more. */
  readonly isolation: 'release' | 'hold' | 'auto';
  readonly random: Random;
  readonly restored: PersistentState | undefined;
  /** How long this host's addresses stay in its kernel without it; undefined when they are permanent. */
  readonly leaseLeftMs: (now: Instant) => number | undefined;
  readonly now: Instant;
};

export type ElectionEvent =
  | {
      readonly kind: 'message';
      readonly message: Message;
      readonly from: Endpoint;
      /** Whose address it came to; undefined when that is in none of the host's segments. */
      readonly segment: SegmentKey | undefined;
      /** The TCP connection that it came on, for a reply. */
      readonly connection: number | undefined;
    }
  | { readonly kind: 'watch-opened'; readonly peer: MemberName; readonly segment: SegmentKey }
  | {
      readonly kind: 'watch-closed';
      readonly peer: MemberName;
      readonly segment: SegmentKey;
      readonly how: WatchEnd;
    }
  /** A reference address answered on that segment. */
  | { readonly kind: 'reference-heard'; readonly segment: SegmentKey }
  | { readonly kind: 'wanted-changed'; readonly wanted: Wanted }
  /** The host's own NICs, weight or configuration. */
  | { readonly kind: 'meta-changed'; readonly meta: MemberMeta }
  /** What became of grants, or of addresses that an earlier life left in the kernel. */
  | { readonly kind: 'local-changed'; readonly changes: readonly (readonly [Ip, LocalState])[] }
  /** Somebody on the wire says that it has an address that this host holds. */
  | { readonly kind: 'rival-heard'; readonly ip: Ip; readonly mac: Mac }
  | { readonly kind: 'seeds'; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'command'; readonly command: 'drain' | 'undrain' | 'rebalance' }
  /** lbd ends: `restarting` keeps the addresses, `leaving` has given them up. */
  | { readonly kind: 'farewell'; readonly why: 'restarting' | 'leaving' }
  | { readonly kind: 'time-passed' };

/**
 * Who owns each local address, as one host sees it: membership (`Swim`), the neighbours on each segment that watch each
 * other closely (`Watch`), and the claims (`Ownership`), joined so that what one learns the others know in the same step.
 */
export class Election {
  readonly #name: MemberName;
  readonly #isolation: ElectionOptions['isolation'];
  readonly #leaseLeftMs: ElectionOptions['leaseLeftMs'];
  readonly #out: Effect[] = [];
  readonly #swim: Swim;
  readonly #watch: Watch;
  readonly #ownership: Ownership;
  readonly #reannouncing = new Reannouncing();
  /** Where members were in an earlier life. */
  readonly #remembered: readonly Endpoint[];
  #meta: MemberMeta;
  #memberCount: number;
  /** When `Swim` and `Ownership` want to go on. */
  #restAt: Instant;
  /** The time of the step that is going on, for what is called back within it. */
  #now: Instant;
  readonly #unconfirmed = new Set<SegmentKey>();
  /** Since when a neighbour's table of claims differs from ours, and when they were last exchanged. */
  readonly #differences = new Map<
    MemberName,
    { readonly since: Instant; exchangedAt: Instant | undefined }
  >();

  constructor(options: ElectionOptions) {
    const { name, meta, settings, random, restored, now } = options;
    this.#name = name;
    this.#now = now;
    this.#meta = meta;
    this.#isolation = options.isolation;
    this.#leaseLeftMs = options.leaseLeftMs;
    this.#memberCount = restored?.memberCount ?? 1;
    this.#restAt = now;
    const out = this.#out;
    const incarnation = restored?.incarnation ?? 1;
    this.#swim = new Swim({ name, meta, incarnation, settings, random, out, now });
    this.#ownership = new Ownership({
      name,
      settings,
      random,
      out,
      meta,
      members: () => this.#swim.members(),
      silence: (member) => this.#swim.silence(member),
      broadcast: (update) => this.#swim.broadcast(update, this.#now),
      restored: restored?.claims ?? [],
      startedAt: now,
    });
    const claims = this.#ownership.claims();
    this.#watch = new Watch({
      name,
      settings,
      random,
      out,
      digests: {
        own: () => claims.digestOf(name),
        table: () => claims.digest(),
        of: (member) => claims.digestOf(member),
      },
      leaseLeftMs: options.leaseLeftMs,
      incarnation: () => this.#swim.incarnation,
    });
    this.#watch.setReleases(this.#releases());
    this.#watch.segmentsChanged(meta.segments, this.#swim.members(), now);
    this.#remembered = restored?.peers ?? [];
    this.#swim.seeds(this.#remembered, now);
  }

  step(event: ElectionEvent, now: Instant): readonly Effect[] {
    this.#now = now;
    this.#handle(event, now);
    // A heartbeat mostly changes nothing but when its sender was last heard, and comes a thousand times more often.
    const isQuiet = event.kind === 'message' && event.message.kind === 'heartbeat' && this.#out.length === 0;
    if (!this.#join(now) && isQuiet) return NOTHING;
    // Behind a message there may be more of them, which the silence of somebody would be concluded without.
    if (event.kind !== 'message') this.#advance(now);
    const announced = this.#reannouncing.take(now).filter((ip) => this.#isMine(ip));
    if (announced.length > 0) this.#out.push({ kind: 'announce', ips: announced });
    this.#join(now);
    this.#restAt = earliest(this.#swim.deadline(), this.#ownership.deadline(), this.#reannouncing.deadline());
    return this.#out.length === 0 ? NOTHING : this.#out.splice(0);
  }

  #advance(now: Instant): void {
    if (now >= this.#swim.deadline()) this.#swim.advance(now);
    if (now >= this.#watch.deadline()) this.#watch.advance(now);
    if (now >= this.#ownership.deadline()) this.#ownership.advance(now);
  }

  /** When `step()` wants a `time-passed` event next. */
  deadline(): Instant {
    return earliest(this.#restAt, this.#watch.deadline());
  }

  // --- what the shell asks --------------------------------------------------------------------------------------

  /** What this host should hold now. Live: look again at `grants-changed`. */
  grants(): ReadonlyMap<Ip, Grant> {
    return this.#ownership.grants();
  }

  /** Whether addresses on that segment may be renewed and added; look again at `renewals-changed`. */
  mayRenew(segment: SegmentKey): boolean {
    return this.#watch.mayRenew(segment);
  }

  /** Our side of a push/pull. */
  state(wantsReply: boolean, now: Instant): State {
    return {
      kind: 'state',
      from: this.#name,
      wantsReply,
      members: this.#swim.state(now),
      claims: this.#ownership.persistentClaims(),
    };
  }

  /** What is to outlive the process. */
  persistent(): PersistentState {
    const peers: Endpoint[] = [];
    for (const member of this.#swim.members().values()) {
      if (member.name === this.#name || member.state === 'left') continue;
      peers.push(member.meta.endpoint);
      if (peers.length === REMEMBERED_PEERS) break;
    }
    return {
      incarnation: this.#swim.incarnation,
      memberCount: this.#memberCount,
      peers,
      claims: this.#ownership.persistentClaims(),
    };
  }

  /** This host's own, as the others know them. */
  segments(): readonly Segment[] {
    return this.#meta.segments;
  }

  get swim(): Swim {
    return this.#swim;
  }

  get watch(): Watch {
    return this.#watch;
  }

  get ownership(): Ownership {
    return this.#ownership;
  }

  // --- events ---------------------------------------------------------------------------------------------------

  #handle(event: ElectionEvent, now: Instant): void {
    switch (event.kind) {
      case 'message':
        return this.#onMessage(event, now);
      case 'watch-opened':
        return this.#watch.watchOpened(event.peer, event.segment, now);
      case 'watch-closed':
        return this.#watch.watchClosed(event.peer, event.segment, event.how, now);
      case 'reference-heard':
        return this.#watch.referenceHeard(event.segment, now);
      case 'wanted-changed':
        return this.#ownership.wantedChanged(event.wanted, now);
      case 'meta-changed':
        return this.#onMeta(event.meta, now);
      case 'local-changed':
        for (const [ip, state] of event.changes) this.#onLocal(ip, state, now);
        return;
      case 'rival-heard':
        return this.#onRival(event.ip, event.mac, now);
      case 'seeds':
        return this.#swim.seeds([...event.endpoints, ...this.#remembered], now);
      case 'command':
        return this.#onCommand(event.command, now);
      case 'farewell':
        return this.#onFarewell(event.why, now);
      case 'time-passed':
        return;
      default:
        event satisfies never;
    }
  }

  #onMessage(event: Extract<ElectionEvent, { kind: 'message' }>, now: Instant): void {
    const { message, from, segment, connection } = event;
    if (message.from === this.#name && message.kind !== 'state') return;
    if (message.kind === 'heartbeat') return this.#onHeartbeat(message, event, now);
    this.#watch.heard(message.from, segment, now);
    switch (message.kind) {
      case 'ping':
      case 'ping-request':
      case 'nack':
      case 'gossip':
        return this.#onClaims(this.#swim.heard(message, from, now), message.from, now);
      case 'ack': {
        const claims = this.#swim.heard(message, from, now);
        this.#watch.acked(message.seq, now);
        return this.#onClaims(claims, message.from, now);
      }
      case 'verdict': {
        const { target, incarnation, silence } = message;
        return this.#swim.judge(target, incarnation, fromSilenceUpdate(silence, now), message.from, now);
      }
      case 'offer':
      case 'taken':
      case 'declined':
      case 'request':
      case 'released':
        return this.#ownership.message(message, from, now);
      case 'state':
        this.#swim.merge(message.members, now, message.from);
        this.#ownership.claimsExchanged(message.claims, now);
        this.#findRivals(message.claims, message.from, now);
        if (message.wantsReply && connection !== undefined)
          this.#out.push({ kind: 'reply', connection, message: this.state(false, now) });
        return;
      case 'hello':
        return this.#swim.contact(message.from, message.incarnation, now, from);
      case 'farewell':
        return this.#watch.farewell(message, now);
      default:
        message satisfies never;
    }
  }

  #onHeartbeat(beat: Heartbeat, event: Extract<ElectionEvent, { kind: 'message' }>, now: Instant): void {
    this.#watch.heartbeat(beat, event.from, event.segment, event.connection, now);
    const member = this.#swim.member(beat.from);
    if (member?.state !== 'alive' || member.incarnation !== beat.incarnation)
      this.#swim.contact(beat.from, beat.incarnation, now, event.from);
    if (beat.tableDigest !== this.#ownership.claims().digest()) this.#onDifference(beat.from, now);
    else if (this.#differences.size > 0) this.#differences.delete(beat.from);
  }

  /** Two neighbours whose tables stay different exchange them, so that no claim is ever lost to lost packets. */
  #onDifference(name: MemberName, now: Instant): void {
    const member = this.#swim.member(name);
    if (member === undefined) return;
    const difference = this.#differences.get(name);
    if (difference === undefined) {
      this.#differences.set(name, { since: now, exchangedAt: undefined });
      return;
    }
    const { since, exchangedAt } = difference;
    if (now - since < DIFFERENCE_MS) return;
    if (exchangedAt !== undefined && now - exchangedAt < EXCHANGE_PAUSE_MS) return;
    difference.exchangedAt = now;
    this.#out.push({ kind: 'exchange', with: member.meta.endpoint });
  }

  #onLocal(ip: Ip, state: LocalState, now: Instant): void {
    const entry = state === 'held' ? this.grants().get(ip)?.entry : undefined;
    if (entry?.kind === 'take-over') this.#reannouncing.tookOver(ip, entry.predecessor.name);
    this.#ownership.localChanged(ip, state, now);
  }

  #onClaims(claims: readonly Claim[], from: MemberName, now: Instant): void {
    this.#ownership.claimsHeard(claims, from, now);
    this.#findRivals(claims, from, now);
  }

  /** Who believed to own what this host owns, as after a network that was cut in two, may have answered for it. */
  #findRivals(claims: readonly Claim[], from: MemberName, now: Instant): void {
    for (const { ip, owner } of claims) {
      if (owner === from && this.#isMine(ip)) this.#reannouncing.heard(ip, now);
    }
  }

  #isMine(ip: Ip): boolean {
    return this.#ownership.claims().get(ip)?.owner === this.#name;
  }

  /** Of two members the claims decide: the one that is wrong is told, and lets go. */
  #onRival(ip: Ip, mac: Mac, now: Instant): void {
    for (const { name, meta } of this.#swim.members().values()) {
      if (!meta.segments.some((segment) => segment.mac === mac)) continue;
      this.#ownership.rivalHeard(ip, name, now);
      this.#reannouncing.heard(ip, now);
      return;
    }
  }

  #onMeta(meta: MemberMeta, now: Instant): void {
    this.#meta = { ...meta, drained: this.#meta.drained };
    this.#swim.setMeta(this.#meta, now);
    this.#watch.segmentsChanged(meta.segments, this.#swim.members(), now);
    this.#ownership.ownChanged(this.#meta, now);
    const segments = new Set(meta.segments.map((segment) => segmentKey(segment.subnet)));
    for (const key of this.#unconfirmed) if (!segments.has(key)) this.#unconfirmed.delete(key);
    this.#confirmationChanged(now);
  }

  #onCommand(command: 'drain' | 'undrain' | 'rebalance', now: Instant): void {
    if (command !== 'rebalance') {
      this.#meta = { ...this.#meta, drained: command === 'drain' };
      this.#swim.setMeta(this.#meta, now);
    }
    this.#ownership.command(command, now);
  }

  #onFarewell(why: 'restarting' | 'leaving', now: Instant): void {
    const message: Farewell = {
      kind: 'farewell',
      from: this.#name,
      incarnation: this.#swim.incarnation,
      why,
      leaseLeftMs: why === 'restarting' ? this.#leaseLeftMs(now) : 0,
    };
    for (const peer of this.#watch.peers()) {
      const { name, segment } = peer;
      this.#out.push({ kind: 'watch-send', peer: name, segment, message });
      const to = this.#swim.member(name)?.meta.endpoint;
      if (to !== undefined) this.#out.push({ kind: 'send', to, message, segment: undefined });
    }
    if (why === 'leaving') this.#swim.leave(now);
    this.#out.push({ kind: 'persist' });
  }

  // --- what one part tells the others -----------------------------------------------------------------------------

  /** Returns whether there was anything. */
  #join(now: Instant): boolean {
    for (let rounds = 0; ; rounds++) {
      const events = this.#watch.take();
      const changed = this.#swim.take();
      if (events.length === 0 && changed.length === 0) return rounds > 0;
      for (const event of events) this.#onWatch(event, now);
      if (changed.length > 0) this.#onMembers(changed, now);
    }
  }

  #onMembers(changed: readonly MemberName[], now: Instant): void {
    const members = this.#swim.members();
    this.#watch.membersChanged(changed, members, now);
    this.#ownership.membersChanged(changed, now);
    for (const name of changed) {
      if (members.get(name)?.state === 'alive') this.#reannouncing.isBack(name, now);
      else this.#differences.delete(name);
    }
    this.#countMembers(members);
  }

  #countMembers(members: ReadonlyMap<MemberName, Member>): void {
    if (members.size <= this.#memberCount && this.#memberCount >= MAJORITY_FROM) return;
    let count = 0;
    for (const { state } of members.values()) if (state !== 'left') count += 1;
    if (count <= this.#memberCount) return;
    this.#memberCount = count;
    this.#watch.setReleases(this.#releases());
    this.#out.push({ kind: 'persist' });
  }

  #releases(): boolean {
    return this.#isolation === 'auto' ? this.#memberCount >= MAJORITY_FROM : this.#isolation === 'release';
  }

  #onWatch(event: WatchEvent, now: Instant): void {
    switch (event.kind) {
      case 'verdict':
        return this.#onVerdict(event, now);
      case 'revived':
      case 'vouched':
        return this.#swim.vouch(event.name, now);
      case 'isolated':
        if (this.#releases()) this.#ownership.isolated(event.segment, now);
        break;
      case 'returned':
        this.#ownership.returned(event.segment, now);
        break;
      case 'unconfirmed':
        this.#unconfirmed.add(event.segment);
        break;
      case 'confirmed':
        this.#unconfirmed.delete(event.segment);
        break;
      default:
        event satisfies never;
    }
    this.#confirmationChanged(now);
  }

  #confirmationChanged(now: Instant): void {
    this.#ownership.confirmationChanged(this.#unconfirmed.size === 0, now);
    this.#out.push({ kind: 'renewals-changed' });
  }

  #onVerdict(event: Extract<WatchEvent, { kind: 'verdict' }>, now: Instant): void {
    const { name, incarnation, segment, silence } = event;
    this.#swim.judge(name, incarnation, silence, this.#name, now);
    const message: Verdict = {
      kind: 'verdict',
      from: this.#name,
      target: name,
      incarnation,
      segment,
      silence: toSilenceUpdate(silence, now),
    };
    for (const member of this.#toldOfVerdict(name))
      this.#out.push({ kind: 'send', to: member.meta.endpoint, message, segment: undefined });
  }

  /** Who must know at once: everybody, or in a large cluster the heirs of the silent member's addresses. */
  #toldOfVerdict(name: MemberName): readonly Member[] {
    const members = this.#swim.members();
    const told: Member[] = [];
    const heirs = members.size > DIRECT_VERDICTS ? this.#ownership.heirsOf(name) : undefined;
    for (const member of members.values()) {
      if (member.name === this.#name || member.name === name || member.state !== 'alive') continue;
      if (heirs === undefined || heirs.has(member.name)) told.push(member);
    }
    return told;
  }
}

const NOTHING: readonly Effect[] = [];
