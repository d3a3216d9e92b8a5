import type { Claim, Endpoint, MemberMeta, MemberName, MemberState, SegmentKey, Silence } from './types.ts';

/**
 * What members say to each other. Every message is authentic by the time that it is one: `io/` opens packets, and
 * `codec.ts` makes messages of bytes and refuses what is none. Durations stand for instants, as clocks are not shared.
 */

export type MemberUpdate = {
  readonly kind: 'member';
  readonly name: MemberName;
  readonly incarnation: number;
  readonly state: MemberState;
  /** Undefined in a suspicion or a death: what was known of it stays. */
  readonly meta: MemberMeta | undefined;
  /** Who suspects it; independent suspicions shorten the wait. */
  readonly by: MemberName | undefined;
  /** For suspect and dead, when a watcher judged. */
  readonly silence: SilenceUpdate | undefined;
};

/** `Silence` with ages for instants, at the time of sending. */
export type SilenceUpdate = {
  readonly why: Silence['why'];
  readonly silentMs: number;
  /** Undefined: permanent addresses. */
  readonly leaseLeftMs: number | undefined;
};

export type ClaimUpdate = { readonly kind: 'claim' } & Claim;

export type Update = MemberUpdate | ClaimUpdate;

/**
 * Every 50 ms between neighbours on a segment's ring, over that segment. Small and without piggyback, because its
 * timing is the measure of life.
 */
export type Heartbeat = {
  readonly kind: 'heartbeat';
  readonly from: MemberName;
  readonly incarnation: number;
  readonly segment: SegmentKey;
  readonly seq: number;
  /** The last `seq` that came from the receiver; 0 for none. */
  readonly ackSeq: number;
  /** How long the receiver had been silent before that one: how a host learns that it was paused without its clock showing it. */
  readonly gapMs: number;
  /** The receiver is asked to answer at once. */
  readonly urgent: boolean;
  /** The sender let go of its addresses on this segment. */
  readonly isolated: boolean;
  /** The sender's view of the receiver's claims equals what the receiver last said of them in `ownDigest`. */
  readonly claimsMatch: boolean;
  /** Of the sender's own claims, and of its whole table of claims (`claims.ts`). */
  readonly ownDigest: number;
  readonly tableDigest: number;
  /** How long the sender's addresses stay in its kernel without it; undefined when permanent. */
  readonly leaseLeftMs: number | undefined;
};

/** SWIM's probe. */
export type Ping = {
  readonly kind: 'ping';
  readonly from: MemberName;
  readonly seq: number;
  /** A member that has the address of another must not answer for it. */
  readonly target: MemberName;
  readonly updates: readonly Update[];
};

export type PingRequest = {
  readonly kind: 'ping-request';
  readonly from: MemberName;
  readonly seq: number;
  readonly target: MemberName;
  readonly targetEndpoint: Endpoint;
  readonly updates: readonly Update[];
};

export type Ack = {
  readonly kind: 'ack';
  readonly from: MemberName;
  readonly seq: number;
  readonly updates: readonly Update[];
};

/** From a member that was asked to probe another and got no answer so far: the asker's own link works. */
export type Nack = { readonly kind: 'nack'; readonly from: MemberName; readonly seq: number };

export type Gossip = {
  readonly kind: 'gossip';
  readonly from: MemberName;
  readonly updates: readonly Update[];
};

/** A watcher's judgement, to the other watcher and to the heirs of the silent member's addresses. */
export type Verdict = {
  readonly kind: 'verdict';
  readonly from: MemberName;
  readonly target: MemberName;
  readonly incarnation: number;
  readonly segment: SegmentKey;
  readonly silence: SilenceUpdate;
};

/** The owner offers; who takes says so once it has added and announced; the owner lets go at that. */
export type HandOver = {
  readonly kind: 'offer' | 'taken' | 'declined' | 'request';
  readonly from: MemberName;
  /** Names the exchange; repeated until answered. */
  readonly seq: number;
  /** At most MAX_HANDOVER_CLAIMS. In `taken` with the new owner and epoch, else as they stand. */
  readonly claims: readonly Claim[];
};

export type HandOverDone = { readonly kind: 'released'; readonly from: MemberName; readonly seq: number };

/** Both sides of a push/pull; TCP only, any size up to MAX_STATE_BYTES. */
export type State = {
  readonly kind: 'state';
  readonly from: MemberName;
  /** Whether the receiver should send its own in return. */
  readonly wantsReply: boolean;
  readonly members: readonly MemberUpdate[];
  readonly claims: readonly Claim[];
};

/** First on a watch connection: who watches. */
export type Hello = { readonly kind: 'hello'; readonly from: MemberName; readonly incarnation: number };

/** To everybody watching, before a planned end: `restarting` keeps the addresses in the kernel. */
export type Farewell = {
  readonly kind: 'farewell';
  readonly from: MemberName;
  readonly incarnation: number;
  readonly why: 'restarting' | 'leaving';
  readonly leaseLeftMs: number | undefined;
};

export type Message =
  | Heartbeat
  | Ping
  | PingRequest
  | Ack
  | Nack
  | Gossip
  | Verdict
  | HandOver
  | HandOverDone
  | State
  | Hello
  | Farewell;

/** A packet with everything around it stays below what any path carries unfragmented. */
export const MAX_PACKET_BYTES = 1_400;
/** For the updates of one packet, after the overhead and the message's own fields. */
export const MAX_UPDATES_BYTES = 1_200;
/** MAX_SEGMENTS of v6 and the longest names of a host and its Node fit. */
export const MAX_META_BYTES = 1_024;
export const MAX_SEGMENTS = 16;
/** Beyond it a host says that it is unready for all. */
export const MAX_UNREADY = 64;
export const MAX_HANDOVER_CLAIMS = 64;
export const MAX_STATE_BYTES = 12 * 1024 * 1024;
