import type { Mac } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Random } from '../lib/prng.ts';
import type { Instant } from '../lib/time.ts';
import type { Message } from './message.ts';
import type { ElectionSettings } from './settings.ts';
import type {
  Endpoint,
  LocalState,
  MemberMeta,
  MemberName,
  PersistentState,
  SegmentKey,
  Wanted,
} from './types.ts';
import type { WatchEnd } from './watch-types.ts';

/** What the election takes from its shell. Types only. */

export type ElectionOptions = {
  readonly name: MemberName;
  readonly meta: MemberMeta;
  readonly settings: ElectionSettings;
  /** `auto`: let go when isolated, if there were ever three members or more. */
  readonly isolation: 'release' | 'hold' | 'auto';
  readonly random: Random;
  readonly restored: PersistentState | undefined;
  /** How long this host's addresses stay in its kernel without it; undefined when they are permanent. */
  readonly leaseLeftMs: (now: Instant) => number | undefined;
  readonly now: Instant;
};

export type ElectionEvent =
  | {
      readonly kind: 'message';
      readonly message: Message;
      readonly from: Endpoint;
      /** Whose address it came to; undefined when that is in none of the host's segments. */
      readonly segment: SegmentKey | undefined;
      /** The TCP connection that it came on, for a reply. */
      readonly connection: number | undefined;
    }
  | { readonly kind: 'watch-opened'; readonly peer: MemberName; readonly segment: SegmentKey }
  | {
      readonly kind: 'watch-closed';
      readonly peer: MemberName;
      readonly segment: SegmentKey;
      readonly how: WatchEnd;
    }
  /** A reference address answered on that segment. */
  | { readonly kind: 'reference-heard'; readonly segment: SegmentKey }
  | { readonly kind: 'wanted-changed'; readonly wanted: Wanted }
  /** The host's own NICs, weight or configuration. */
  | { readonly kind: 'meta-changed'; readonly meta: MemberMeta }
  /** What became of grants, or of addresses that an earlier life left in the kernel. */
  | { readonly kind: 'local-changed'; readonly changes: readonly (readonly [Ip, LocalState])[] }
  /** Somebody on the wire says that it has an address that this host holds. */
  | { readonly kind: 'rival-heard'; readonly ip: Ip; readonly mac: Mac }
  | { readonly kind: 'seeds'; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'command'; readonly command: 'drain' | 'undrain' | 'rebalance' }
  /** lbd ends: `restarting` keeps the addresses, `leaving` has given them up. */
  | { readonly kind: 'farewell'; readonly why: 'restarting' | 'leaving' }
  | { readonly kind: 'time-passed' };
