import type { Mac } from '../iface/types.ts';
import type { Ip, Prefix } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';

/** The words of src/election: members, claims, and what the rest of lbd tells and asks. Types only. */

/** A host's name among lbd hosts, 1 to 63 characters; who has it twice on a network is told so in the log. */
export type MemberName = string & { readonly __brand: 'MemberName' };

/** One subnet of a NIC that is up, and who the member is on it. */
export type Segment = {
  readonly subnet: Prefix;
  /** The member's own address in it: where its heartbeats for this segment go. */
  readonly ip: Ip;
  /** The NIC's hardware address: how the wire tells that this member still answers. */
  readonly mac: Mac;
};

/** The text of a segment's subnet, `10.0.0.0/24`: a map key. */
export type SegmentKey = string & { readonly __brand: 'SegmentKey' };

/** Where a member is reached by gossip. */
export type Endpoint = { readonly ip: Ip; readonly port: number };

/** What a member says of itself; changes come with a higher incarnation. At most MAX_META_BYTES encoded. */
export type MemberMeta = {
  readonly endpoint: Endpoint;
  /** The name of its Node object. */
  readonly node: string;
  readonly version: string;
  /** At most MAX_SEGMENTS, sorted by subnet. */
  readonly segments: readonly Segment[];
  /** Those of which it hears nothing, while others are heard elsewhere: it has no part in them for now. */
  readonly cutOff?: readonly Segment[];
  readonly drained: boolean;
  /**
   * Addresses bound to endpoints that it may not have, because kube-proxy there is not ready for them: by `hashText()`,
   * ascending, at most MAX_UNREADY; or all such.
   */
  readonly unready?: readonly number[] | 'all' | undefined;
  /** Its share of the addresses, 1 to 1000; 100 is the normal share. */
  readonly weight: number;
  /** Eight hex digits of its configuration. */
  readonly configDigest: string;
  /** Kernel lifetime of its addresses; 0 is permanent. */
  readonly lifetimeMs: number;
};

/**
 *   alive ──nobody reaches it──► suspect ──no refutation in time──► dead
 *     ▲ ◄──refuted, higher incarnation──┘                            │
 *     └────────────higher incarnation: restarted, or healed──────────┘      alive ──said so──► left
 */
export type MemberState = 'alive' | 'suspect' | 'dead' | 'left';

/** What one member knows of another. Immutable: a change makes a new record. */
export type Member = {
  readonly name: MemberName;
  readonly incarnation: number;
  readonly state: MemberState;
  readonly meta: MemberMeta;
  /** When this member learnt of the state. */
  readonly since: Instant;
};

/** What ended, or seems to have ended, a member's service of its addresses. */
export type Silence = {
  /**
   * `silent`: its segment hears nothing of it. `process-gone`: its watch connection ended, so lbd died while the kernel
   * lives and answers until the lifetime ends. `restarting`: it said so before. `isolated`: it says that it let go.
   */
  readonly why: 'silent' | 'process-gone' | 'restarting' | 'isolated';
  /** The last time that anybody heard of it, as far as known here. */
  readonly lastHeardAt: Instant;
  /** When the kernel of that host has removed its addresses unless it still renews them; NEVER when permanent. */
  readonly leaseEndsAt: Instant;
};

/** Who owns a local address. A higher epoch wins; of one epoch, the owner of higher rank for this address. */
export type Claim = {
  readonly ip: Ip;
  /** Undefined: let go, free for whoever is entitled. */
  readonly owner: MemberName | undefined;
  /** From 1; raised by every takeover, hand-over and release. */
  readonly epoch: number;
};

/** A local or virtual address of some Service, as the plan knows it; the election concerns those in somebody's segment. */
export type WantedAddress = {
  readonly ip: Ip;
  /** Nodes that may own it (externalTrafficPolicy Local: those with a usable endpoint); undefined is any. */
  readonly nodes: ReadonlySet<string> | undefined;
  /** The endpoints there serve while they terminate, and nothing better is anywhere (KEP-1669). */
  readonly isLastResort?: boolean;
};

/** What the plan says of the cluster; level-triggered, always whole. */
export type Wanted = {
  readonly addresses: ReadonlyMap<Ip, WantedAddress>;
  /** Nodes that must not own any address: labelled out of load balancing, or their network is unavailable. */
  readonly excludedNodes: ReadonlySet<string>;
  /** False while the API server is away: then a hand-over asked for by a member with a fresh view is believed. */
  readonly fresh: boolean;
  /** Those that this host may not have, by its own checks, and why. */
  readonly unready?: ReadonlyMap<Ip, string>;
};

/** How an address that this host is entitled to may be taken. */
export type Entry =
  /** Nobody had it: ask the wire as for any first use. */
  | { readonly kind: 'first' }
  /** It was ours until we let go of it, and the claim still stands: ask the wire quickly, believe nothing older. */
  | { readonly kind: 'return' }
  /** Its owner agreed and still answers: take it at once, or not any more after `until`, when the owner turns to others. */
  | { readonly kind: 'hand-over'; readonly from: MemberName; readonly until: Instant }
  /** Its owner is gone: the wire decides when. */
  | { readonly kind: 'take-over'; readonly predecessor: Predecessor };

/** The owner of an address that is to be taken over, as the wire knows it. */
export type Predecessor = {
  readonly name: MemberName;
  /** Its hardware address on the segment; any other that answers is a conflict. */
  readonly mac: Mac;
  /** Its own address on the segment: a host that does not answer for that does not serve either, whatever a switch says. */
  readonly ip: Ip;
  /** No address is added before this. */
  readonly notBefore: Instant;
  readonly leaseEndsAt: Instant;
};

/** An address that this host should hold now. */
export type Grant = { readonly ip: Ip; readonly epoch: number; readonly entry: Entry };

/** How a local address stands on this host, as far as the election needs it. */
export type LocalState = 'absent' | 'taking' | 'held' | 'conflict' | 'failed';

/** What outlives the process, in the state directory. */
export type PersistentState = {
  /** The next start begins with it: the others raise it when they have seen a higher one. */
  readonly incarnation: number;
  /** The most members ever seen at once, less those that left for good: below three, nobody can tell a dead peer from one's own isolation. */
  readonly memberCount: number;
  /** Where members were reached, for a start while the seeds are away. */
  readonly peers: readonly Endpoint[];
  /** As last known; those of members that are dead by then carry no weight. */
  readonly claims: readonly Claim[];
};
