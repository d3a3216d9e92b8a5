import { assert } from '../lib/assert.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import type { RingMember } from './ring.ts';
import type { SegmentKey, Silence } from './types.ts';
import type { PeerView } from './watch-types.ts';

/**
 * What this host knows of one neighbour on one segment.
 *
 *   quiet ──nudgeAfter──► nudging ──inquireAfter──► inquiring ──nobody heard it──► judged
 *     ▲ ◄──any packet of it──┘ ◄──or another heard it──┘                             │
 *     └──────────────────────────a heartbeat of it───────────────────────────────────┘
 *
 * Unarmed until its first heartbeat: it may not know of this host yet. Nothing is concluded of an unarmed one.
 */
export type EdgePhase = 'quiet' | 'nudging' | 'inquiring' | 'judged';

/**
 *   closed ──open──► opening ──opened──► open ──fin, rst──► verifying ──opened, or it answers──► open, closed
 *     ▲ ◄──────────────┘ failed                                 └──refused, or VERIFY_MS──► verdict
 */
export type Connection = 'closed' | 'opening' | 'open' | 'verifying';

/** Packets may overtake each other by so many; a number further back is a new life of the sender. */
const REORDER_LIMIT = 64;

export class Edge {
  readonly member: RingMember;
  incarnation: number;
  phase: EdgePhase = 'quiet';
  armed = false;
  /** The last packet of it, or word of another that it answers. */
  lastHeardAt: Instant;
  udpHeardAt: Instant;
  /** The last packet of its own, and the longest wait for one since its last heartbeat. */
  #directAt: Instant;
  #widestGapMs = 0;
  /** When to ask again, while nudging, inquiring or judged. */
  askAt: Instant = NEVER;
  inquiredAt: Instant = NEVER;
  /** The last of our numbers before the inquiry. */
  inquiredSeq = 0;
  inquirySlots = 0;
  pingSeq = 0;

  /** The last number of its heartbeats, and how long it had been silent before that one. */
  peerSeq = 0;
  gapMs = 0;
  /** The last of our numbers that it has told of. */
  ackedSeq = 0;
  theirDigest: number | undefined;
  leaseEndsAt: Instant = NEVER;
  letGoSince: Instant | undefined;

  /** The last urgent heartbeat, for the round trip. */
  urgentSeq = 0;
  urgentAt: Instant;
  rttMs: number | undefined;

  connection: Connection = 'closed';
  openAt: Instant;
  verifyUntil: Instant = NEVER;
  verifySeq = 0;
  /** It asked over TCP, as it hears no UDP of ours: until then it gets heartbeats over TCP as well. */
  tcpUntil: Instant;
  udpLost = false;

  silence: Silence | undefined;
  vouchedAt: Instant | undefined;
  /** It said farewell: no question before. */
  excusedUntil: Instant | undefined;

  constructor(member: RingMember, openAt: Instant, now: Instant) {
    this.member = member;
    this.incarnation = member.incarnation;
    this.lastHeardAt = now;
    this.udpHeardAt = now;
    this.#directAt = now;
    this.urgentAt = now;
    this.tcpUntil = now;
    this.openAt = openAt;
  }

  /** It is heard, and nothing is waited for. */
  get isCalm(): boolean {
    const { armed, phase, excusedUntil, connection } = this;
    return armed && phase === 'quiet' && excusedUntil === undefined && connection !== 'verifying';
  }

  /** Whether a heartbeat of that number is news, and not one that a later one has overtaken. */
  isNews(seq: number): boolean {
    return seq > this.peerSeq || this.peerSeq - seq > REORDER_LIMIT;
  }

  /** A packet of its own came. */
  heard(now: Instant): void {
    const gapMs = now - this.#directAt;
    if (gapMs > this.#widestGapMs) this.#widestGapMs = gapMs;
    this.#directAt = now;
    this.lastHeardAt = now;
    if (this.phase !== 'quiet' && this.phase !== 'judged') this.calm(now);
  }

  /** How long it was silent before the heartbeat that came now; 0 for its first. */
  takeGap(): number {
    const gapMs = this.armed ? this.#widestGapMs : 0;
    this.#widestGapMs = 0;
    return gapMs;
  }

  /** Something of it was heard, or it gets a new chance: questions are over. */
  calm(now: Instant): void {
    this.lastHeardAt = now;
    this.phase = 'quiet';
    this.askAt = NEVER;
    this.inquiredAt = NEVER;
    this.inquirySlots = 0;
  }

  /** This host did not run: the silence meanwhile was its own. */
  woke(now: Instant): void {
    this.#directAt = now;
    this.udpHeardAt = now;
    this.letGoSince = undefined;
    if (this.phase !== 'judged') this.calm(now);
  }

  /** A new chance, and nothing is concluded before it is heard. */
  disarm(now: Instant): void {
    this.woke(now);
    this.armed = false;
  }

  measured(sampleMs: number): void {
    const known = this.rttMs;
    // An answer that was lost shows as a late one by the next heartbeat: the smaller sample is nearer the truth.
    this.rttMs = known === undefined || sampleMs < known ? sampleMs : known + (sampleMs - known) / 8;
  }

  /** When something is to be done about it next, given the silence after which it is asked. */
  deadline(nudgeAfterMs: number): Instant {
    let at: Instant = this.verifyUntil;
    if (this.phase !== 'quiet') at = this.askAt < at ? this.askAt : at;
    else if (this.excusedUntil !== undefined) at = this.excusedUntil < at ? this.excusedUntil : at;
    else if (this.armed) {
      const nudgeAt = after(this.lastHeardAt, nudgeAfterMs);
      if (nudgeAt < at) at = nudgeAt;
    }
    return at;
  }
}

/** The neighbour as `lbctl members` shows it. */
export function viewEdge(edge: Edge, segment: SegmentKey): PeerView {
  return {
    name: edge.member.name,
    segment,
    rttMs: edge.rttMs,
    lastHeardAt: edge.lastHeardAt,
    armed: edge.armed,
    connected: edge.connection === 'open',
    udpLost: edge.udpLost,
    silence: edge.silence,
  };
}

export function checkEdge({ phase, silence, member }: Edge): void {
  const judged = phase === 'judged';
  assert(judged === (silence !== undefined) && judged === member.silent, `${member.name}: ${phase}`);
}
