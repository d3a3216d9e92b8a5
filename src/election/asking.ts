import type { Random } from '../lib/prng.ts';
import type { Instant } from '../lib/time.ts';
import type { Beats } from './beats.ts';
import type { Edge } from './edge.ts';
import type { Isolation } from './isolation.ts';
import type { Heartbeat } from './message.ts';
import type { Ring } from './ring.ts';
import type { Endpoint, MemberName, SegmentKey } from './types.ts';
import { ASKS_PER_SLOT, SEGMENT_ASKS } from './watch-timing.ts';

/** Members that are dead and tried while this host is isolated; the oldest goes first. */
const FORMER_LIMIT = 16;

export type AskingOptions = {
  readonly key: SegmentKey;
  readonly beats: Beats;
  readonly ring: Ring;
  readonly isolation: Isolation;
  /** Members asked to probe on one's behalf. */
  readonly indirect: number;
  readonly random: Random;
  /** Whether an isolated host lets go of its addresses. */
  readonly releases: () => boolean;
};

/** What one host sends on one segment: heartbeats, answers, and questions of growing insistence. */
export class Asking {
  readonly #key: SegmentKey;
  readonly #beats: Beats;
  readonly #ring: Ring;
  readonly #isolation: Isolation;
  readonly #indirect: number;
  readonly #random: Random;
  readonly #releases: () => boolean;
  readonly #former: { readonly name: MemberName; readonly to: Endpoint }[] = [];

  constructor(options: AskingOptions) {
    this.#key = options.key;
    this.#beats = options.beats;
    this.#ring = options.ring;
    this.#isolation = options.isolation;
    this.#indirect = options.indirect;
    this.#random = options.random;
    this.#releases = options.releases;
  }

  /** A heartbeat; an urgent one is answered at once. */
  send(edge: Edge, urgent: boolean, now: Instant): void {
    const { member } = edge;
    const message = this.#make(member.name, edge.peerSeq, edge.gapMs, edge.theirDigest, urgent, now);
    if (urgent) {
      edge.urgentSeq = message.seq;
      edge.urgentAt = now;
    }
    this.#beats.send(member.to, this.#key, message);
    // Only who hears no UDP asks for more over TCP: two that both hear it would keep each other at that for ever.
    const asksForTcp = urgent && edge.udpLost;
    if ((now >= edge.tcpUntil && !asksForTcp) || edge.connection !== 'open') return;
    const copy = urgent && !asksForTcp ? { ...message, urgent: false } : message;
    this.#beats.push({ kind: 'watch-send', peer: member.name, segment: this.#key, message: copy });
  }

  sendAll(edges: readonly Edge[], urgent: boolean, now: Instant): void {
    for (const edge of edges) this.send(edge, urgent, now);
  }

  /** The answer to a neighbour's heartbeat, the way it came. */
  answer(edge: Edge, connection: number | undefined, now: Instant): void {
    if (connection === undefined) return this.send(edge, false, now);
    const message = this.#make(edge.member.name, edge.peerSeq, edge.gapMs, edge.theirDigest, false, now);
    this.#beats.push({ kind: 'reply', connection, message });
  }

  /** The answer to a heartbeat of somebody who is no neighbour. */
  answerStranger(beat: Heartbeat, from: Endpoint, connection: number | undefined, now: Instant): void {
    const message = this.#make(beat.from, beat.seq, 0, beat.ownDigest, false, now);
    if (connection === undefined) this.#beats.send(from, this.#key, message);
    else this.#beats.push({ kind: 'reply', connection, message });
  }

  nudge(edge: Edge, now: Instant): void {
    for (let asks = 0; asks < ASKS_PER_SLOT; asks++) this.send(edge, true, now);
  }

  /** A nudge, and the same by every other way: over TCP, and through other members. */
  inquire(edge: Edge, now: Instant): void {
    this.nudge(edge, now);
    const { name, to } = edge.member;
    if (edge.connection === 'open') {
      const message = this.#make(name, edge.peerSeq, edge.gapMs, edge.theirDigest, true, now);
      this.#beats.push({ kind: 'watch-send', peer: name, segment: this.#key, message });
    }
    for (const relay of this.#ring.relays(name, this.#indirect, this.#random)) {
      this.#beats.send(relay.to, this.#key, {
        kind: 'ping-request',
        from: this.#beats.name,
        seq: edge.pingSeq,
        target: name,
        targetEndpoint: to,
        updates: [],
      });
    }
  }

  /** Whoever else could show that this host hears at all, when `edge` is silent. */
  witnesses(edge: Edge, edges: readonly Edge[], now: Instant): void {
    for (const other of edges) if (other !== edge) this.send(other, true, now);
    this.strangers(1, edges, now);
    this.#reference();
  }

  /** All who might answer: others of the segment, beside the neighbours, which are nudged. */
  anybody(edges: readonly Edge[], now: Instant): void {
    for (const edge of edges)
      if (edge.phase === 'quiet' || edge.phase === 'judged') this.send(edge, true, now);
    if (this.#ring.size > edges.length) this.strangers(SEGMENT_ASKS, edges, now);
    else {
      for (let asks = 0; asks < SEGMENT_ASKS; asks++) {
        const edge = edges[asks % edges.length];
        if (edge !== undefined) this.send(edge, true, now);
      }
    }
    this.#reference();
  }

  /** While isolated, at each tick beside the heartbeats: also those that died in the eyes of a host that hears nobody. */
  farAndWide(edges: readonly Edge[], now: Instant): void {
    this.#reference();
    this.strangers(1, edges, now);
    const former = this.#former[Math.floor(this.#random() * this.#former.length)];
    if (former !== undefined) this.#urge(former, now);
  }

  /** While isolated, between two ticks. */
  seek(edges: readonly Edge[], now: Instant): void {
    this.sendAll(edges, true, now);
    this.farAndWide(edges, now);
  }

  /** Up to `count` members at random, if there are such beside the neighbours. */
  strangers(count: number, edges: readonly Edge[], now: Instant): void {
    if (this.#ring.size <= edges.length) return;
    for (let asked = 0; asked < count; asked++) {
      const other = this.#ring.any(this.#random);
      if (other === undefined) return;
      const edge = edges.find(({ member }) => member === other);
      if (edge === undefined) this.#urge(other, now);
      else this.send(edge, true, now);
    }
  }

  /** A member died, or is cut off: it may be the first to be back after an isolation. */
  remember(name: MemberName, to: Endpoint | undefined): void {
    if (to === undefined || this.#former.some((one) => one.name === name && one.to.ip === to.ip)) return;
    if (this.#former.push({ name, to }) > FORMER_LIMIT) this.#former.shift();
  }

  #urge({ name, to }: { readonly name: MemberName; readonly to: Endpoint }, now: Instant): void {
    this.#beats.send(to, this.#key, this.#make(name, 0, 0, undefined, true, now));
  }

  #reference(): void {
    this.#beats.push({ kind: 'ask-reference', segment: this.#key });
  }

  #make(
    peer: MemberName,
    peerSeq: number,
    gapMs: number,
    theirDigest: number | undefined,
    urgent: boolean,
    now: Instant,
  ): Heartbeat {
    const isolated = this.#isolation.isolated && this.#releases();
    return this.#beats.make(this.#key, peer, peerSeq, gapMs, theirDigest, urgent, isolated, now);
  }
}
