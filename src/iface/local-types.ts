import type { LocalState, MemberName } from '../election/types.ts';
import type { Ip, Prefix } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import type { Announcement } from './announcing.ts';
import type { HostView } from './nic-selection.ts';
import type { Repaired } from './repair-pace.ts';
import type { DesiredAddress, IfIndex, KernelAddress, Mac } from './types.ts';
import type { WireClaim } from './wire-claims.ts';

/** What the machine of local addresses takes and gives; the machine itself is `local-addresses.ts`. */

export type LocalSettings = {
  readonly prefix: 'host' | 'subnet';
  /** Least kernel lifetime of each address, which grows with their number; 0 is permanent. */
  readonly lifetimeMs: number;
  /** How often what is held is announced again; 0, or absent, is never. */
  readonly announceIntervalMs?: number;
};

/** Where in the kernel an address is, or is to be. */
export type Target = { readonly ifIndex: IfIndex; readonly prefixLength: number };

/** An address in a place, whatever else is known of it. */
export type Placed = Target & { readonly ip: Ip };

/** One form of an announcement: a frame. Of v6 there is one form, the first. */
export type Announced = { readonly ip: Ip; readonly form: 'first' | 'second' };

export type Event =
  /** What the plan wants now, and the free addresses that a Service might get next. */
  | {
      readonly kind: 'desired-changed';
      readonly addresses: readonly DesiredAddress[];
      readonly candidates: readonly Ip[];
    }
  | { readonly kind: 'host-changed'; readonly host: HostView }
  /** The link was down for a moment and is up for good, of which the host that was told knows nothing. */
  | { readonly kind: 'link-bounced'; readonly ifIndex: IfIndex }
  /** Kernel notifications about addresses with lbd's tag; `v6OfHost`: how many of v6 the host has, whosever they are. */
  | {
      readonly kind: 'addresses-changed';
      readonly present: readonly KernelAddress[];
      readonly gone: readonly Placed[];
      readonly v6OfHost?: number;
    }
  /** These are to go at once: this host must not have them, or cannot know whether it may. Wanted again by the next `desired-changed` that has them. */
  | { readonly kind: 'withdraw'; readonly ips: readonly Ip[] }
  /** Those of these that are held are announced anew: somebody else who answered for them has let go. */
  | { readonly kind: 'announce'; readonly ips: readonly Ip[] }
  /** While not allowed, nothing is renewed or added there; in all subnets, or on all NICs, when they are undefined. */
  | {
      readonly kind: 'renewals';
      readonly allowed: boolean;
      readonly ifIndex: IfIndex | undefined;
      readonly subnet?: Prefix | undefined;
    }
  /** A frame on the wire of that NIC said so; `isMember`: of a host that the claims of the election bind as well. */
  | {
      readonly kind: 'claim-heard';
      readonly ifIndex: IfIndex;
      readonly claim: WireClaim;
      readonly isMember?: boolean;
    }
  /** The NIC did not take the probes for these. */
  | { readonly kind: 'probes-unsent'; readonly ips: readonly Ip[] }
  /** These frames of announcements did not leave. */
  | { readonly kind: 'announcements-unsent'; readonly frames: readonly Announced[] }
  /** The kernel's answers to one `program` effect; lifetimes count from `sentAt`. */
  | { readonly kind: 'programmed'; readonly outcomes: readonly Outcome[]; readonly sentAt: Instant }
  | { readonly kind: 'settings-changed'; readonly settings: LocalSettings }
  /** The daemon stops for good: everything of ours goes. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'time-passed' };

export type Program = Target & {
  /** `add` fails if the address exists; `renew` also creates, which is why it has a deadline. */
  readonly op: 'add' | 'renew' | 'remove';
  readonly ip: Ip;
  readonly lifetimeMs: number;
};

export type Outcome =
  | { readonly ok: true; readonly request: Program }
  /** `errno` is ETIME when the deadline had passed and nothing was sent. */
  | { readonly ok: false; readonly request: Program; readonly errno: string; readonly message: string };

export type Effect =
  /** One batch for the kernel; with a deadline it is not sent at all once that has passed (safety rule 2). */
  | {
      readonly kind: 'program';
      readonly requests: readonly Program[];
      readonly deadline: Instant | undefined;
    }
  | {
      readonly kind: 'send';
      readonly frame: 'probe' | 'announce';
      readonly ip: Ip;
      readonly ifIndex: IfIndex;
      /** A probe for this station alone; undefined is everybody. */
      readonly to: Mac | undefined;
      /** Of an announcement. */
      readonly form?: Announcement['form'];
    }
  /** Where an address has come to, each time that it is somewhere else. */
  | { readonly kind: 'state-changed'; readonly ip: Ip; readonly state: LocalState }
  /** What the wire says about a candidate changed: the allocator may want to look again. */
  | { readonly kind: 'evidence-changed' }
  | { readonly kind: 'report'; readonly report: Report };

/** What happened to an address, for the log, for Events on its Services and for counters. */
export type Report =
  | { readonly kind: 'held'; readonly ip: Ip; readonly ifIndex: IfIndex; readonly how: 'taken' | 'adopted' }
  | {
      readonly kind: 'waiting';
      readonly ip: Ip;
      readonly why: 'no-interface' | 'foreign';
      readonly reason: string;
      readonly wasHeld: boolean;
    }
  | { readonly kind: 'conflict'; readonly ip: Ip; readonly mac: Mac; readonly ifIndex: IfIndex }
  /** It is to be taken over, with others, from a member that seems gone and still answers. */
  | {
      readonly kind: 'still-served';
      readonly ip: Ip;
      readonly ifIndex: IfIndex;
      readonly by: MemberName;
      readonly mac: Mac;
      readonly addresses: number;
    }
  | { readonly kind: 'rival-heard'; readonly ip: Ip; readonly mac: Mac; readonly ifIndex: IfIndex }
  | { readonly kind: 'add-failed'; readonly ip: Ip; readonly ifIndex: IfIndex; readonly reason: string }
  | { readonly kind: 'renew-failed'; readonly ip: Ip; readonly ifIndex: IfIndex; readonly reason: string }
  | { readonly kind: 'remove-failed'; readonly ip: Ip; readonly ifIndex: IfIndex; readonly reason: string }
  | {
      readonly kind: 'repaired';
      readonly ip: Ip;
      readonly ifIndex: IfIndex;
      /** What somebody else had done to it. */
      readonly was: 'removed' | 'changed';
      readonly repairs: number;
    }
  /** Its lifetime ran out, or too much of it, before it was renewed. */
  | { readonly kind: 'lost'; readonly ip: Ip; readonly ifIndex: IfIndex }
  | { readonly kind: 'dropped'; readonly ip: Ip; readonly wasHeld: boolean };

export type Held = {
  readonly status: 'held';
  readonly target: Target;
  readonly since: Instant;
  /** When the kernel removes it unless renewed; NEVER when permanent. */
  validUntil: Instant;
  /** When the lifetime that it has now began, or was found. */
  renewedAt: Instant;
  /** Set while the host's own subnet is gone from the NIC. */
  graceUntil: Instant | undefined;
  /** Why it is not in the kernel meanwhile, where it would harm the host's own address. */
  aside: string | undefined;
  /** Somebody who is no member and says that the address is his. */
  rival:
    | { readonly mac: Mac; readonly heardAt: Instant; readonly defendedAt: Instant | undefined }
    | undefined;
  /** A member that says so, since when without a pause, and when it was last heard. */
  member: { readonly mac: Mac; readonly since: Instant; readonly heardAt: Instant } | undefined;
  /** Why the last renewal failed. */
  failure: string | undefined;
  repairs: number;
  /** Since when it is missing from the kernel without a word of lbd's. */
  missingSince: Instant | undefined;
  lastRepair: Repaired | undefined;
  /** The kernel was asked for the last repair and has not answered. */
  isRepairing: boolean;
};

export type Entry =
  | { readonly status: 'waiting'; readonly why: 'no-interface' | 'foreign'; readonly reason: string }
  | { readonly status: 'probing'; readonly target: Target; readonly attempts: number }
  | { readonly status: 'adding'; readonly target: Target; readonly attempts: number }
  | Held
  | {
      readonly status: 'conflict';
      readonly target: Target;
      readonly mac: Mac;
      /** When it is asked whether it still answers. */
      readonly retryAt: Instant;
    }
  | {
      readonly status: 'failed';
      readonly reason: string;
      readonly attempts: number;
      readonly retryAt: Instant;
    };

export type WireVerdict =
  | { readonly kind: 'usable' }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'blocked'; readonly reason: string };
