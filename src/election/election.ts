import type { Ip } from '../lib/ip.ts';
import { earliest, type Instant } from '../lib/time.ts';
import { Company } from './company.ts';
import { Doubts } from './doubts.ts';
import type { Effect } from './effects.ts';
import type { ElectionEvent, ElectionOptions } from './election-types.ts';
import type { Farewell, Heartbeat, State, Verdict } from './message.ts';
import { Ownership } from './ownership.ts';
import { Rivals } from './rivals.ts';
import { segmentKey } from './segment-key.ts';
import { fromSilenceUpdate, toSilenceUpdate } from './silence.ts';
import { Swim } from './swim.ts';
import { TableDifferences } from './table-differences.ts';
import type {
  Claim,
  Endpoint,
  Grant,
  Member,
  MemberMeta,
  MemberName,
  PersistentState,
  Segment,
  SegmentKey,
} from './types.ts';
import { Watch } from './watch.ts';
import { verdictMs } from './watch-timing.ts';
import type { WatchEvent } from './watch-types.ts';
import { nearby } from './ways.ts';

/** A verdict goes to every member at once while they are no more than this; gossip brings it to the others. */
const DIRECT_VERDICTS = 128;
/** Endpoints that are remembered for a start while the seeds are away. */
const REMEMBERED_PEERS = 64;
/** What comes in the turn in which sockets are read: a kernel that was busy for long has answers of others wait behind it. */
const FROM_SOCKETS: ReadonlySet<ElectionEvent['kind']> = new Set([
  'message',
  'reference-heard',
  'rival-heard',
  'local-changed',
]);

/**
 * Who owns each local address, as one host sees it: membership (`Swim`), the neighbours on each segment that watch each
 * other closely (`Watch`), and the claims (`Ownership`), joined so that what one learns the others know in the same step.
 */
export class Election {
  readonly #name: MemberName;
  readonly #leaseLeftMs: ElectionOptions['leaseLeftMs'];
  readonly #out: Effect[] = [];
  readonly #swim: Swim;
  readonly #watch: Watch;
  readonly #ownership: Ownership;
  readonly #rivals: Rivals;
  /** Where members were in an earlier life. */
  readonly #remembered: readonly Endpoint[];
  #meta: MemberMeta;
  readonly #company: Company;
  /** When `Swim` and `Ownership` want to go on. */
  #restAt: Instant;
  /** The time of the step that is going on, for what is called back within it. */
  #now: Instant;
  readonly #doubts: Doubts;
  readonly #differences = new TableDifferences(this.#out);

  constructor(options: ElectionOptions) {
    const { name, meta, settings, random, restored, now } = options;
    this.#name = name;
    this.#now = now;
    this.#meta = meta;
    this.#leaseLeftMs = options.leaseLeftMs;
    this.#company = new Company(options.isolation, restored?.memberCount ?? 1);
    this.#doubts = new Doubts(Math.max(settings.settleMs, verdictMs(settings)));
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
    this.#rivals = new Rivals(name, this.#swim, this.#ownership, out);
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
    this.#watch.setReleases(this.#company.releases);
    this.#watch.segmentsChanged(meta.segments, this.#swim.members(), now);
    if (this.#company.hadCompany)
      for (const { subnet } of meta.segments) this.#doubts.unheard(segmentKey(subnet), now);
    this.#confirmationChanged(now);
    this.#remembered = restored?.peers ?? [];
    this.#swim.seeds(this.#remembered, now);
  }

  step(event: ElectionEvent, now: Instant): readonly Effect[] {
    this.#now = now;
    // Whatever happens now, what this host believed when it last ran is in doubt first.
    if (this.#watch.notice(now)) this.#onOverrun(now);
    this.#handle(event, now);
    // A heartbeat mostly changes nothing but when its sender was last heard, and comes a thousand times more often.
    const isQuiet = event.kind === 'message' && event.message.kind === 'heartbeat' && this.#out.length === 0;
    if (!this.#join(now) && isQuiet) return NOTHING;
    // Behind what a socket said there may be more, which the silence of somebody would be concluded without.
    if (!FROM_SOCKETS.has(event.kind)) this.#listen(now);
    if (event.kind !== 'message' && now >= this.#ownership.deadline()) this.#ownership.advance(now);
    if (now >= this.#doubts.deadline()) this.#attendDoubts(now);
    this.#rivals.advance(now);
    this.#join(now);
    this.#restAt = earliest(
      this.#swim.deadline(),
      this.#ownership.deadline(),
      this.#rivals.deadline(),
      this.#doubts.deadline(),
    );
    return this.#out.length === 0 ? NOTHING : this.#out.splice(0);
  }

  #listen(now: Instant): void {
    if (now >= this.#swim.deadline()) this.#swim.advance(now);
    if (now >= this.#watch.deadline()) this.#watch.advance(now);
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
    return this.#watch.mayRenew(segment) && !this.#doubts.isUnheard(segment);
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

  /** Whether somebody should have been heard on that segment, and nobody ever was. */
  isNeverHeard(segment: SegmentKey): boolean {
    return this.#doubts.isNeverHeard(segment);
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
      memberCount: this.#company.count,
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
        this.#heardOn(event.segment, now);
        return this.#watch.referenceHeard(event.segment, now);
      case 'wanted-changed':
        return this.#ownership.wantedChanged(event.wanted, now);
      case 'meta-changed':
        return this.#onMeta(event.meta, now);
      case 'local-changed':
        for (const [ip, state] of event.changes) this.#rivals.localChanged(ip, state);
        return this.#ownership.localsChanged(event.changes, now);
      case 'rival-heard':
        return this.#rivals.heardOnWire(event.ip, event.mac, now);
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
    // One of the seeds may be this host: hearing oneself is no sign of life of anybody.
    if (message.from === this.#name) return;
    if (segment === undefined) {
      if (this.#doubts.heardElsewhere()) this.#swim.setMeta(this.#publicMeta(), now);
    } else this.#heardOn(segment, now);
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
        this.#rivals.claimed(message.claims, message.from, now);
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
    const to = member === undefined ? event.from : nearby(member, beat.segment);
    if (member?.state !== 'alive' || member.incarnation !== beat.incarnation)
      this.#swim.contact(beat.from, beat.incarnation, now, to);
    if (beat.tableDigest === this.#ownership.claims().digest()) this.#differences.over(beat.from);
    else if (member !== undefined) this.#differences.found(beat.from, to, now);
  }

  #onClaims(claims: readonly Claim[], from: MemberName, now: Instant): void {
    this.#ownership.claimsHeard(claims, from, now);
    this.#rivals.claimed(claims, from, now);
  }

  /** The only one of several that is left asks its gateway whether it is cut off, and believes so in the end. */
  #attendDoubts(now: Instant): void {
    for (const segment of this.#doubts.overdue(now)) this.#watch.giveUp(segment);
    this.#join(now);
    for (const segment of this.#doubts.ask(now)) this.#out.push({ kind: 'ask-reference', segment });
  }

  /** Somebody else is there. */
  #heardOn(segment: SegmentKey, now: Instant): void {
    if (!this.#doubts.heard(segment)) return;
    // What an earlier life left in the kernel, or was believed before, may have another owner by now.
    if (this.#watch.doubt(segment, now)) this.#doubts.unconfirmed(segment);
    this.#ownership.returned(segment, Number.POSITIVE_INFINITY, now);
    this.#confirmationChanged(now);
  }

  /** Who was never heard on a segment cannot confirm anything there: somebody has to be heard first. */
  #onOverrun(now: Instant): void {
    if (this.#company.hadCompany) {
      for (const { subnet } of this.#meta.segments)
        if (!this.#watch.hadPeers(segmentKey(subnet))) this.#doubts.unheard(segmentKey(subnet), now);
      if (this.#doubts.anyUnheard) this.#confirmationChanged(now);
      this.#findLonely(now);
    }
    this.#join(now);
  }

  #findLonely(now: Instant): void {
    for (const segment of this.#doubts.lonely(this.#name, this.#swim.members())) {
      if (this.#doubts.isIsolated(segment)) this.#watch.leftAlone(segment);
      else if (this.#doubts.heard(segment)) {
        this.#ownership.returned(segment, Number.POSITIVE_INFINITY, now);
        this.#confirmationChanged(now);
      }
    }
  }

  #publicMeta(): MemberMeta {
    return this.#company.releases ? this.#doubts.publicMeta(this.#meta) : this.#meta;
  }

  #onMeta(meta: MemberMeta, now: Instant): void {
    const before = new Set(this.#meta.segments.map(({ subnet }) => segmentKey(subnet)));
    this.#meta = { ...meta, drained: this.#meta.drained };
    this.#swim.setMeta(this.#publicMeta(), now);
    this.#watch.segmentsChanged(meta.segments, this.#swim.members(), now);
    const segments = new Set(meta.segments.map((segment) => segmentKey(segment.subnet)));
    this.#doubts.keep(segments);
    this.#doubt(segments.difference(before), now);
    this.#confirmationChanged(now);
    this.#ownership.ownChanged(this.#meta, now);
  }

  /**
   * What of these was there before is known to be cut off; on the others somebody has to be heard, if anybody is there.
   * Of a host that never had company, it is the start of lbd that it waits after.
   */
  #doubt(added: ReadonlySet<SegmentKey>, now: Instant): void {
    if (!this.#company.hadCompany) {
      for (const key of added) this.#ownership.begun(key, now);
      return;
    }
    for (const key of added) {
      if (this.#doubts.isIsolated(key)) continue;
      this.#doubts.unheard(key, now);
      this.#ownership.isolated(key, now);
    }
    if (added.size > 0) this.#findLonely(now);
  }

  #onCommand(command: 'drain' | 'undrain' | 'rebalance', now: Instant): void {
    if (command !== 'rebalance') {
      this.#meta = { ...this.#meta, drained: command === 'drain' };
      this.#swim.setMeta(this.#publicMeta(), now);
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
    if (this.#doubts.anySilent) this.#findLonely(now);
    for (const name of changed) {
      if (members.get(name)?.state === 'alive') this.#rivals.isBack(name, now);
      else this.#differences.over(name);
    }
    if (!this.#company.membersChanged(members, changed)) return;
    this.#watch.setReleases(this.#company.releases);
    this.#out.push({ kind: 'persist' });
  }

  #onWatch(event: WatchEvent, now: Instant): void {
    switch (event.kind) {
      case 'verdict':
        return this.#onVerdict(event, now);
      case 'revived':
      case 'vouched':
        return this.#swim.vouch(event.name, now);
      case 'isolated':
        this.#doubts.isolated(event.segment);
        if (this.#company.releases) {
          this.#ownership.isolated(event.segment, now);
          this.#swim.setMeta(this.#publicMeta(), now);
        } else this.#ownership.deafened(event.segment, now);
        break;
      case 'returned':
        this.#doubts.returned(event.segment);
        // Nor is the wire asked before somebody answered: the questions of a host that nobody hears meet silence.
        this.#doubts.unconfirmed(event.segment);
        this.#confirmationChanged(now);
        this.#swim.setMeta(this.#publicMeta(), now);
        this.#ownership.returned(event.segment, event.afterMs, now);
        break;
      case 'unconfirmed':
        this.#doubts.unconfirmed(event.segment);
        break;
      case 'confirmed':
        this.#doubts.confirmed(event.segment);
        break;
      default:
        event satisfies never;
    }
    this.#confirmationChanged(now);
  }

  #confirmationChanged(now: Instant): void {
    this.#ownership.doubtsChanged(this.#doubts.all(), now);
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
    const heirs = members.size > DIRECT_VERDICTS ? this.#ownership.heirsOf(name) : undefined;
    return [...members.values()].filter((member) => {
      if (member.name === this.#name || member.name === name || member.state !== 'alive') return false;
      return heirs === undefined || heirs.has(member.name);
    });
  }
}

const NOTHING: readonly Effect[] = [];
