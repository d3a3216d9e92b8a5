import type { Random } from '../lib/prng.ts';
import type { Instant } from '../lib/time.ts';
import type { Effect } from './effects.ts';
import type { ElectionSettings } from './settings.ts';
import type { MemberName, SegmentKey, Silence } from './types.ts';

/** What the watch needs of the parts around it. Types only. */

/** 32-bit digests of claims, each O(1). */
export type Digests = {
  /** Of this host's own claims. */
  readonly own: () => number;
  /** Of all claims known here. */
  readonly table: () => number;
  /** Of the claims that `member` has, as known here. */
  readonly of: (member: MemberName) => number;
};

export type WatchOptions = {
  readonly name: MemberName;
  readonly settings: ElectionSettings;
  readonly random: Random;
  /** Effects are pushed to it; whoever composes empties it. */
  readonly out: Effect[];
  readonly digests: Digests;
  /** How long this host's addresses stay in its kernel without it, in ms; undefined when they are permanent. */
  readonly leaseLeftMs: (now: Instant) => number | undefined;
  readonly incarnation: () => number;
};

/** What the watch found out, for whoever composes; in the order in which it happened. */
export type WatchEvent =
  /** A neighbour's service on that segment has ended, as far as can be known from here. Stands until `revived`. */
  | {
      readonly kind: 'verdict';
      readonly name: MemberName;
      readonly incarnation: number;
      readonly segment: SegmentKey;
      readonly silence: Silence;
    }
  /** A neighbour under a verdict is heard on that segment again, and has not let go. */
  | {
      readonly kind: 'revived';
      readonly name: MemberName;
      readonly incarnation: number;
      readonly segment: SegmentKey;
    }
  /** A neighbour that the members suspect is heard here; at most once per VOUCH_PAUSE_MS. */
  | { readonly kind: 'vouched'; readonly name: MemberName; readonly segment: SegmentKey }
  /** Nobody is heard on that segment: what this host has there is to be let go, at once. */
  | { readonly kind: 'isolated'; readonly segment: SegmentKey }
  /** Somebody is heard again, after so long; `unconfirmed` follows. */
  | { readonly kind: 'returned'; readonly segment: SegmentKey; readonly afterMs: number }
  /** This host did not run, or was cut off, for so long: others may have taken its addresses. Nothing is renewed. */
  | { readonly kind: 'unconfirmed'; readonly segment: SegmentKey; readonly forMs: number }
  /** A neighbour knows the same claims of this host as this host does, or nobody is left to know others. */
  | { readonly kind: 'confirmed'; readonly segment: SegmentKey };

/** How a watch connection ended: closed by the peer, refused or reset, or no answer. */
export type WatchEnd = 'fin' | 'rst' | 'timeout';

/** One neighbour for `lbctl members`. */
export type PeerView = {
  readonly name: MemberName;
  readonly segment: SegmentKey;
  /** Smoothed round trip of urgent heartbeats; undefined until one was answered. */
  readonly rttMs: number | undefined;
  readonly lastHeardAt: Instant;
  /** It has sent a heartbeat since it became a neighbour. */
  readonly armed: boolean;
  readonly connected: boolean;
  /** Heard over its watch connection only. */
  readonly udpLost: boolean;
  readonly silence: Silence | undefined;
};
