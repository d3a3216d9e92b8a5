import type { Instant } from '../lib/time.ts';
import type { Effect } from './effects.ts';
import type { Heartbeat, PingRequest } from './message.ts';
import type { Endpoint, MemberName, SegmentKey } from './types.ts';
import type { Digests, WatchOptions } from './watch-types.ts';

/** Numbers of the watch's ping-requests: apart from those of SWIM's probes, which count from 1. */
export const WATCH_PING_SEQ = 2 ** 40;

/** Makes and sends the heartbeats of this host, on every segment in one sequence. */
export class Beats {
  readonly name: MemberName;
  readonly #out: Effect[];
  readonly #digests: Digests;
  readonly #leaseLeftMs: WatchOptions['leaseLeftMs'];
  readonly #incarnation: () => number;
  readonly #isolationMs: number;
  /** Starts anywhere, so that an answer to an earlier life of this host is not taken for one to this. */
  #seq: number;
  #pingSeq = WATCH_PING_SEQ;

  constructor(options: WatchOptions) {
    this.name = options.name;
    this.#out = options.out;
    this.#digests = options.digests;
    this.#leaseLeftMs = options.leaseLeftMs;
    this.#incarnation = options.incarnation;
    this.#isolationMs = options.settings.isolationMs;
    this.#seq = 1 + Math.floor(options.random() * 2 ** 30);
  }

  /** Of the last heartbeat sent. */
  get seq(): number {
    return this.#seq;
  }

  /** Whether an ack of that number answers a question of the watch, also one that is settled by now. */
  isPing(seq: number): boolean {
    return seq > WATCH_PING_SEQ && seq <= this.#pingSeq;
  }

  /** The number of a new inquiry. */
  nextPing(): number {
    this.#pingSeq += 1;
    return this.#pingSeq;
  }

  /**
   * The next heartbeat to `peer`, of which `peerSeq` came last after `gapMs` of silence, and who said `theirDigest` of
   * its own claims.
   */
  make(
    segment: SegmentKey,
    peer: MemberName,
    peerSeq: number,
    gapMs: number,
    theirDigest: number | undefined,
    urgent: boolean,
    isolated: boolean,
    now: Instant,
  ): Heartbeat {
    this.#seq += 1;
    return {
      kind: 'heartbeat',
      from: this.name,
      incarnation: this.#incarnation(),
      segment,
      seq: this.#seq,
      ackSeq: peerSeq,
      gapMs,
      urgent,
      isolated,
      claimsMatch: theirDigest !== undefined && this.#digests.of(peer) === theirDigest,
      ownDigest: this.#digests.own(),
      tableDigest: this.#digests.table(),
      leaseLeftMs: this.#leaseLeftMs(now),
    };
  }

  send(to: Endpoint, segment: SegmentKey, message: Heartbeat | PingRequest): void {
    if (message.kind === 'heartbeat' && this.#isRoutine(message))
      this.#out.push({ kind: 'send', to, message, segment, routine: true });
    else this.#out.push({ kind: 'send', to, message, segment });
  }

  /** Nobody has to do anything at it: neither to answer, nor to doubt the sender or itself. */
  #isRoutine({ urgent, isolated, gapMs }: Heartbeat): boolean {
    return !urgent && !isolated && gapMs <= this.#isolationMs;
  }

  push(effect: Effect): void {
    this.#out.push(effect);
  }
}
