import type { Random } from '../lib/prng.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Beats } from './beats.ts';
import type { Edge } from './edge.ts';
import type { SegmentKey } from './types.ts';
import type { WatchEnd } from './watch-types.ts';

/**
 * The TCP connections of one segment's edges, whose end tells of the other's process (`Connection` in edge.ts): opened
 * to every neighbour that answers, opened again when they end, and looked into when the other side ended them.
 */

const OPEN_RETRY_MS = 1_000;
/** How long a peer whose watch connection ended has to answer. */
const VERIFY_MS = 20;

export class WatchConnections {
  readonly #key: SegmentKey;
  readonly #beats: Beats;
  readonly #random: Random;

  constructor(key: SegmentKey, beats: Beats, random: Random) {
    this.#key = key;
    this.#beats = beats;
    this.#random = random;
  }

  /** closed → opening, when it is time. */
  maintain(edge: Edge, now: Instant): void {
    if (edge.connection !== 'closed' || !edge.armed || now < edge.openAt || edge.phase === 'judged') return;
    edge.connection = 'opening';
    this.#connect(edge);
  }

  /** opening, verifying → open. */
  opened(edge: Edge): void {
    edge.verifyUntil = NEVER;
    edge.connection = 'open';
  }

  /**
   * open → verifying, or closed. Its process ended, or only the connection did: a new one, or an answer to a heartbeat
   * from now on, tells. Returns `verify` when it is to be asked now, and `gone` when it refused the new one.
   *
   * @param isHeeded whether anything may be concluded of it now.
   */
  ended(edge: Edge, how: WatchEnd, isHeeded: boolean, now: Instant): 'verify' | 'gone' | undefined {
    if (edge.connection === 'closed') return undefined;
    if (edge.connection === 'verifying') {
      if (how === 'timeout') return undefined;
      edge.verifyUntil = now;
      return 'gone';
    }
    const isEnd = edge.connection === 'open' && how !== 'timeout';
    edge.openAt = after(now, OPEN_RETRY_MS * (0.5 + this.#random()));
    if (!isEnd || !isHeeded || edge.excusedUntil !== undefined || edge.phase === 'judged') {
      edge.connection = 'closed';
      return undefined;
    }
    edge.connection = 'verifying';
    edge.verifyUntil = after(now, VERIFY_MS);
    edge.verifySeq = this.#beats.seq + 1;
    this.#connect(edge);
    return 'verify';
  }

  /** verifying → closed: it lives, as its heartbeats say. */
  answered(edge: Edge, now: Instant): void {
    this.close(edge, after(now, OPEN_RETRY_MS));
  }

  /** Any → closed, until `openAt`. */
  close(edge: Edge, openAt: Instant): void {
    edge.verifyUntil = NEVER;
    edge.openAt = openAt;
    if (edge.connection === 'closed') return;
    edge.connection = 'closed';
    this.#beats.push({ kind: 'watch-close', peer: edge.member.name, segment: this.#key });
  }

  #connect({ member: { name, to } }: Edge): void {
    this.#beats.push({ kind: 'watch-open', peer: name, to, segment: this.#key });
  }
}
