import { assert } from '../lib/assert.ts';
import type { Random } from '../lib/prng.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import { Answers } from './answers.ts';
import { Asking } from './asking.ts';
import type { Beats } from './beats.ts';
import { Confirmation } from './confirmation.ts';
import { checkEdge, Edge, viewEdge } from './edge.ts';
import { Isolation } from './isolation.ts';
import type { Farewell, Heartbeat } from './message.ts';
import { NEIGHBOUR_LIMIT, Ring, type RingMember } from './ring.ts';
import type { Endpoint, MemberName, SegmentKey, Silence } from './types.ts';
import { WatchConnections } from './watch-connections.ts';
import type { WatchTiming } from './watch-timing.ts';
import type { PeerView, WatchEnd, WatchEvent } from './watch-types.ts';

/**
 * One segment of this host: the neighbours on its ring, whether anybody is heard, whether this host's own claims are
 * confirmed. Every packet on the hot path touches one edge and allocates nothing; the edges are few.
 *
 * Who cannot hear never claims: there is no verdict while this host is isolated or unconfirmed. Nor does who is not
 * heard: there is none before somebody else answered what was asked during the inquiry, and who is heard by nobody for
 * long is unconfirmed.
 */

/** A planned restart takes no longer; whoever does is asked for, and its heirs watch the wire. */
const RESTART_MS = 300;
/** Watch connections wait for the ring to stay as it is. */
const OPEN_DELAY_MS = 200;
/** Heartbeats go over TCP as well for so long after a peer asked that way. */
const TCP_HOLD_MS = 5_000;
/** A peer under a verdict is asked for again so often. */
const RECHECK_MS = 1_000;
export const VOUCH_PAUSE_MS = 100;
/** Every so many ticks a heartbeat asks to be answered at once, which measures the round trip. */
const MEASURE_TICKS = 64;
/** So many heartbeats that all get no answer, while others are heard: this host is mute. */
const MUTE_TICKS = 20;

export type SegmentContext = {
  readonly beats: Beats;
  readonly timing: WatchTiming;
  readonly takeoverFloorMs: number;
  readonly random: Random;
  readonly events: WatchEvent[];
  /** Whether an isolated host lets go of its addresses. */
  readonly releases: () => boolean;
};

export class SegmentWatch {
  readonly key: SegmentKey;
  readonly ring: Ring;
  readonly #context: SegmentContext;
  readonly #timing: WatchTiming;
  readonly #beats: Beats;
  readonly #events: WatchEvent[];
  readonly #isolation: Isolation;
  readonly #confirmation: Confirmation;
  readonly #asking: Asking;
  readonly #answers: Answers;
  readonly #connections: WatchConnections;
  /** When any peer was last heard, which a reference is not. */
  #peerHeardAt: Instant;
  #edges: readonly Edge[] = [];

  constructor(key: SegmentKey, context: SegmentContext, now: Instant) {
    this.key = key;
    this.#context = context;
    this.#timing = context.timing;
    this.#beats = context.beats;
    this.#events = context.events;
    this.ring = new Ring(key, context.beats.name);
    this.#isolation = new Isolation(context.timing, now);
    this.#confirmation = new Confirmation(context.timing);
    this.#answers = new Answers(now);
    this.#connections = new WatchConnections(key, context.beats, context.random);
    this.#peerHeardAt = now;
    const { beats, timing, random, releases } = context;
    const { ring } = this;
    const isolation = this.#isolation;
    this.#asking = new Asking({ key, beats, ring, isolation, indirect: timing.indirect, random, releases });
  }

  get isolated(): boolean {
    return this.#isolation.isolated;
  }

  get confirmed(): boolean {
    return !this.#isolation.isolated && !this.#confirmation.asking;
  }

  get hadPeers(): boolean {
    return this.#isolation.hadPeers;
  }

  get isCalm(): boolean {
    return this.confirmed && this.#edges.every((edge) => edge.isCalm);
  }

  /** The NIC is back: nothing counts before somebody is heard. */
  beginIsolated(): void {
    this.#isolation.begin();
  }

  /** Nobody was ever heard there, for too long. */
  giveUp(): void {
    this.#isolation.begin();
    this.#isolate();
  }

  // --- what is heard ------------------------------------------------------------------------------------------

  heartbeat(beat: Heartbeat, from: Endpoint, connection: number | undefined, now: Instant): void {
    this.#heard(true, now);
    this.#answers.told(beat.ackSeq, this.#beats.seq, now);
    const edge = this.#edge(beat.from);
    if (edge === undefined) return this.#fromStranger(beat, from, connection, now);
    edge.heard(now);
    const gapMs = edge.takeGap();
    if (edge.isNews(beat.seq)) this.#learn(edge, beat, gapMs, now);
    if (connection === undefined) {
      edge.udpHeardAt = now;
      edge.udpLost = false;
    } else this.#overTcp(edge, beat, now);
    edge.armed = true;
    if (beat.ackSeq > edge.ackedSeq && beat.ackSeq <= this.#beats.seq) this.#acked(edge, beat, now);
    if (edge.phase === 'judged' && !beat.isolated) this.#revive(edge, now);
    if (!edge.member.alive && !beat.isolated) this.#vouch(edge, now);
    // Long silence before it means that it may have been paused without knowing: it is to learn that at once.
    if (beat.urgent || gapMs > this.#timing.isolationMs) this.#asking.answer(edge, connection, now);
  }

  /** Any other packet of a peer on this segment. */
  heard(name: MemberName, now: Instant): void {
    this.#heard(true, now);
    this.#edge(name)?.heard(now);
  }

  referenceHeard(now: Instant): void {
    this.#answers.byReference(now);
    this.#heard(false, now);
  }

  /** Another member heard the neighbour for whom `pingSeq` asked, if that was on this segment. */
  acked(pingSeq: number, now: Instant): void {
    for (const edge of this.#edges) {
      if (edge.pingSeq !== pingSeq) continue;
      if (edge.phase !== 'judged') edge.calm(now);
      else if (edge.silence?.why === 'silent') this.#revive(edge, now);
      return;
    }
  }

  farewell(message: Farewell, now: Instant): void {
    const edge = this.#edge(message.from);
    if (edge === undefined) return;
    const { why, leaseLeftMs } = message;
    edge.leaseEndsAt = after(now, leaseLeftMs ?? NEVER);
    // Back soon, or the wire is watched: what looked like a restart may be a stop, which takes its addresses off.
    const leaseMs = leaseLeftMs ?? Number.POSITIVE_INFINITY;
    const backIn = Math.min(RESTART_MS, Math.max(0, leaseMs - this.#context.takeoverFloorMs));
    edge.excusedUntil = why === 'leaving' ? NEVER : after(now, backIn);
    if (edge.phase !== 'judged') edge.calm(now);
  }

  #learn(edge: Edge, beat: Heartbeat, gapMs: number, now: Instant): void {
    edge.peerSeq = beat.seq;
    edge.gapMs = gapMs;
    edge.theirDigest = beat.ownDigest;
    edge.leaseEndsAt = beat.leaseLeftMs === undefined ? NEVER : after(now, beat.leaseLeftMs);
    edge.excusedUntil = undefined;
    if (beat.incarnation > edge.incarnation) edge.incarnation = beat.incarnation;
    if (!beat.isolated) edge.letGoSince = undefined;
    else if (edge.letGoSince === undefined) edge.letGoSince = now;
    else if (now - edge.letGoSince >= this.#timing.letGoMs && this.confirmed && edge.phase !== 'judged') {
      this.#judge(edge, { why: 'isolated', lastHeardAt: now, leaseEndsAt: now }, now);
    }
  }

  #overTcp(edge: Edge, beat: Heartbeat, now: Instant): void {
    if (beat.urgent) edge.tcpUntil = after(now, TCP_HOLD_MS);
    if (edge.udpLost || now - edge.udpHeardAt < this.#timing.inquireAfterMs) return;
    edge.udpLost = true;
    const report = { kind: 'udp-lost', name: edge.member.name, segment: this.key } as const;
    this.#beats.push({ kind: 'report', report });
  }

  #acked(edge: Edge, beat: Heartbeat, now: Instant): void {
    const known = !this.#confirmation.covers(edge.ackedSeq);
    edge.ackedSeq = beat.ackSeq;
    if (beat.ackSeq === edge.urgentSeq) edge.measured(now - edge.urgentAt);
    if (edge.connection === 'verifying' && beat.ackSeq >= edge.verifySeq)
      this.#connections.answered(edge, now);
    if (!this.#confirmation.covers(beat.ackSeq)) return;
    // The silence before the first heartbeat of a confirmation is what that confirmation is about.
    if (beat.gapMs > this.#timing.isolationMs && !known) return this.#paused(beat.gapMs, now);
    this.#answered(beat, edge.member, now);
  }

  #fromStranger(beat: Heartbeat, from: Endpoint, connection: number | undefined, now: Instant): void {
    const { ackSeq } = beat;
    const member = this.ring.get(beat.from);
    if (member?.silent === true && !beat.isolated) this.#pardon(member, beat.incarnation, now);
    if (ackSeq > 0 && ackSeq <= this.#beats.seq && this.#confirmation.covers(ackSeq)) {
      this.#answered(beat, member, now);
    }
    if (beat.urgent) this.#asking.answerStranger(beat, from, connection, now);
  }

  #vouch(edge: Edge, now: Instant): void {
    if (edge.vouchedAt !== undefined && now - edge.vouchedAt < VOUCH_PAUSE_MS) return;
    edge.vouchedAt = now;
    this.#events.push({ kind: 'vouched', name: edge.member.name, segment: this.key });
  }

  // --- this host: isolated, paused, confirmed -------------------------------------------------------------------

  #heard(peer: boolean, now: Instant): void {
    if (peer) this.#peerHeardAt = now;
    const afterMs = this.#isolation.heard(peer, now);
    if (afterMs === undefined) return;
    // Nobody is judged for less: who is silent by now was so before, and is not waited for.
    const isMoment = afterMs < this.#timing.verdictMs;
    for (const edge of this.#edges) isMoment ? edge.woke(now) : edge.disarm(now);
    this.#events.push({ kind: 'returned', segment: this.key, afterMs });
    this.#beats.push({ kind: 'report', report: { kind: 'reconnected', segment: this.key } });
    this.#unconfirmed(0, now);
  }

  /** By this host's own clock it did not run for `forMs`. */
  woke(forMs: number, now: Instant): void {
    for (const edge of this.#edges) edge.woke(now);
    this.#isolation.woke(now);
    this.#answers.woke(now);
    if (this.#isolation.hadPeers && !this.#isolation.isolated) this.#unconfirmed(forMs, now);
  }

  /** Returns whether it can be asked for. */
  doubt(now: Instant): boolean {
    if (this.#isolation.isolated) return false;
    this.#unconfirmed(0, now);
    return true;
  }

  #paused(forMs: number, now: Instant): void {
    this.#beats.push({ kind: 'report', report: { kind: 'paused', forMs } });
    this.#unconfirmed(forMs, now);
  }

  #unconfirmed(forMs: number, now: Instant): void {
    if (!this.#confirmation.asking) this.#events.push({ kind: 'unconfirmed', segment: this.key, forMs });
    this.#confirmation.start(this.#beats.seq + 1, now);
    this.#advanceConfirmation(now);
  }

  /** A peer answered what was sent since the confirmation began. */
  #answered(beat: Heartbeat, peer: RingMember | undefined, now: Instant): void {
    if (!this.#confirmation.asking) return;
    if (beat.claimsMatch) return this.#confirm();
    if (peer !== undefined && this.#confirmation.mayExchange(now)) {
      this.#beats.push({ kind: 'exchange', with: peer.to });
    }
  }

  #confirm(): void {
    this.#confirmation.end();
    this.#events.push({ kind: 'confirmed', segment: this.key });
  }

  #advanceConfirmation(now: Instant): void {
    if (!this.#confirmation.advance(now)) return;
    if (this.#nobodyLeft(now)) return this.#confirm();
    this.#asking.sendAll(this.#edges, true, now);
    this.#asking.strangers(1, this.#edges, now);
  }

  /** The reference answers, but no peer is heard any more: there is nobody who could know better. */
  #nobodyLeft(now: Instant): boolean {
    const { startedAt } = this.#confirmation;
    if (now < after(startedAt, this.#timing.verdictMs) || this.#isolation.heardAt <= startedAt) return false;
    return this.#peerHeardAt <= startedAt;
  }

  #isolate(): void {
    this.#confirmation.end();
    for (const edge of this.#edges) if (edge.connection === 'verifying') this.#connections.close(edge, NEVER);
    this.#events.push({ kind: 'isolated', segment: this.key });
    this.#beats.push({ kind: 'report', report: { kind: 'isolated', segment: this.key } });
  }

  // --- neighbours -----------------------------------------------------------------------------------------------

  /** After changes of `ring`: keeps the edges to those that still are neighbours. */
  relink(now: Instant): void {
    const neighbours = this.ring.neighbours();
    const kept = this.#edges;
    if (neighbours.length === kept.length && kept.every(({ member }) => neighbours.includes(member))) return;
    for (const edge of kept) if (!neighbours.includes(edge.member)) this.#connections.close(edge, NEVER);
    this.#edges = neighbours.map((member) => {
      const known = kept.find((edge) => edge.member === member);
      if (known !== undefined) return known;
      member.silent = false;
      const edge = new Edge(member, after(now, OPEN_DELAY_MS), now);
      this.#asking.send(edge, true, now);
      return edge;
    });
  }

  /**
   * A member is not there any more, as the members see it, or cut off from `to`. Whoever is isolated sees all others die,
   * and tries these: they may be back first. Returns whether it was there.
   */
  remove(name: MemberName, left: boolean, to: Endpoint | undefined): boolean {
    const member = this.ring.get(name);
    if (!left) this.#asking.remember(name, member?.to ?? to);
    if (member === undefined) return false;
    this.ring.remove(name);
    if (left) this.leftAlone();
    return true;
  }

  /** The last peer left in good order. */
  leftAlone(): void {
    if (this.ring.size > 0) return;
    const was = this.#isolation.isolated;
    this.#isolation.leftAlone();
    if (was) this.#events.push({ kind: 'returned', segment: this.key, afterMs: Number.POSITIVE_INFINITY });
    if (was || this.#confirmation.asking) this.#confirm();
  }

  closeAll(): void {
    for (const edge of this.#edges) this.#connections.close(edge, NEVER);
    this.#edges = [];
  }

  /** One heartbeat to each neighbour. */
  tick(count: number, now: Instant): void {
    const pressing = !this.confirmed || count % MEASURE_TICKS === 0;
    for (const edge of this.#edges) {
      this.#asking.send(edge, pressing || !edge.armed, now);
      this.#connections.maintain(edge, now);
    }
    if (!this.#isolation.isolated) return this.#listenForAnswers(now);
    this.#asking.farAndWide(this.#edges, now);
    // Who holds on may be answering beside another: it finds out twice as soon who is heard again.
    if (!this.#context.releases()) this.#isolation.seekAt(after(now, this.#timing.heartbeatMs / 2));
  }

  #listenForAnswers(now: Instant): void {
    const muteMs = MUTE_TICKS * this.#timing.heartbeatMs;
    if (this.#peerHeardAt - this.#answers.at < muteMs / 2) return;
    // The neighbours may have gone, or have given this host up: others answer as well.
    this.#asking.strangers(1, this.#edges, now);
    if (this.#peerHeardAt - this.#answers.at >= muteMs && this.confirmed) this.#unconfirmed(0, now);
  }

  advance(now: Instant): void {
    if (!this.#isolation.isolated) for (const edge of this.#edges) this.#attend(edge, now);
    const due = this.#isolation.advance(now);
    if (due === 'isolated') this.#isolate();
    else if (due === 'ask') this.#asking.anybody(this.#edges, now);
    else if (due === 'seek') this.#asking.seek(this.#edges, now);
    this.#advanceConfirmation(now);
  }

  deadline(): Instant {
    if (this.#isolation.isolated) return this.#isolation.deadline();
    let first = this.#isolation.deadline();
    const confirmAt = this.#confirmation.deadline();
    if (confirmAt < first) first = confirmAt;
    for (const edge of this.#edges) {
      const at = edge.deadline(this.#timing.nudgeAfterMs);
      if (at < first) first = at;
    }
    return first;
  }

  /** Asks for a silent neighbour, and judges. */
  #attend(edge: Edge, now: Instant): void {
    if (now >= edge.verifyUntil) this.#gone(edge, now);
    if (edge.phase === 'judged') {
      if (now < edge.askAt) return;
      edge.askAt = after(now, RECHECK_MS);
      edge.pingSeq = this.#beats.nextPing();
      return this.#asking.inquire(edge, now);
    }
    if (!edge.armed || (edge.excusedUntil !== undefined && now < edge.excusedUntil)) return;
    const { lastHeardAt } = edge;
    const { nudgeAfterMs, inquireAfterMs, inquiryMs, everyMs } = this.#timing;
    if (now < after(lastHeardAt, nudgeAfterMs) || (edge.phase !== 'quiet' && now < edge.askAt)) return;
    const inquireAt = after(lastHeardAt, inquireAfterMs);
    edge.askAt = after(now, everyMs);
    if (now < inquireAt) {
      edge.phase = 'nudging';
      if (inquireAt < edge.askAt) edge.askAt = inquireAt;
      return this.#asking.nudge(edge, now);
    }
    if (edge.phase !== 'inquiring') {
      edge.phase = 'inquiring';
      edge.inquiredAt = now;
      edge.inquiredSeq = this.#beats.seq;
      edge.pingSeq = this.#beats.nextPing();
    }
    if (this.#mayJudge(edge, now)) return this.#judgeSilent(edge, now);
    edge.inquirySlots += 1;
    const judgeAt = after(edge.inquiredAt, inquiryMs);
    if (now < judgeAt && judgeAt < edge.askAt) edge.askAt = judgeAt;
    this.#asking.inquire(edge, now);
    // There is no verdict before somebody else answered.
    if (!this.#answers.since(edge.inquiredSeq, edge.inquiredAt))
      this.#asking.witnesses(edge, this.#edges, now);
  }

  #mayJudge(edge: Edge, now: Instant): boolean {
    if (now < after(edge.inquiredAt, this.#timing.inquiryMs)) return false;
    if (edge.inquirySlots < this.#timing.inquirySlots || !this.confirmed) return false;
    return this.#answers.since(edge.inquiredSeq, edge.inquiredAt);
  }

  #judgeSilent(edge: Edge, now: Instant): void {
    const why = edge.excusedUntil === undefined ? 'silent' : 'restarting';
    this.#judge(edge, { why, lastHeardAt: edge.lastHeardAt, leaseEndsAt: edge.leaseEndsAt }, now);
  }

  #judge(edge: Edge, silence: Silence, now: Instant): void {
    const { member, incarnation } = edge;
    const { name } = member;
    edge.silence = silence;
    edge.phase = 'judged';
    edge.askAt = after(now, RECHECK_MS);
    member.silent = true;
    this.#events.push({ kind: 'verdict', name, incarnation, segment: this.key, silence });
    this.#beats.push({ kind: 'report', report: { kind: 'verdict', name, silence } });
    this.relink(now);
  }

  #revive(edge: Edge, now: Instant): void {
    edge.silence = undefined;
    edge.calm(now);
    this.#pardon(edge.member, edge.incarnation, now);
  }

  #pardon(member: RingMember, incarnation: number, now: Instant): void {
    member.silent = false;
    this.#events.push({ kind: 'revived', name: member.name, incarnation, segment: this.key });
    this.relink(now);
  }

  // --- watch connections ----------------------------------------------------------------------------------------

  watchOpened(peer: MemberName): void {
    const edge = this.#edge(peer);
    if (edge !== undefined) this.#connections.opened(edge);
  }

  watchClosed(peer: MemberName, how: WatchEnd, now: Instant): void {
    const edge = this.#edge(peer);
    if (edge === undefined) return;
    const next = this.#connections.ended(edge, how, !this.#isolation.isolated, now);
    if (next === 'gone') this.#gone(edge, now);
    else if (next === 'verify') this.#asking.nudge(edge, now);
  }

  #gone(edge: Edge, now: Instant): void {
    if (!this.confirmed) {
      edge.verifyUntil = after(now, this.#timing.everyMs);
      return;
    }
    this.#connections.answered(edge, now);
    if (edge.phase === 'judged') return;
    const { lastHeardAt, leaseEndsAt } = edge;
    this.#judge(edge, { why: 'process-gone', lastHeardAt, leaseEndsAt }, now);
  }

  #edge(name: MemberName): Edge | undefined {
    for (const edge of this.#edges) if (edge.member.name === name) return edge;
    return undefined;
  }

  // --- views ----------------------------------------------------------------------------------------------------

  neighbours(): readonly MemberName[] {
    return this.#edges.map(({ member }) => member.name);
  }

  silence(name: MemberName): Silence | undefined {
    return this.#edge(name)?.silence;
  }

  views(): readonly PeerView[] {
    return this.#edges.map((edge) => viewEdge(edge, this.key));
  }

  checkInvariants(): void {
    assert(this.#edges.length <= NEIGHBOUR_LIMIT, `${this.#edges.length} neighbours on ${this.key}`);
    assert(!(this.isolated && this.#confirmation.asking), `isolated and asking on ${this.key}`);
    for (const edge of this.#edges) checkEdge(edge);
  }
}
