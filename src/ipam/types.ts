import type { ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';

/** What lbd decided about one Service's addresses. */
export type Allocation =
  /** Status says what it should: nothing to do. `foreign` holds status addresses that are in no pool of ours. */
  | {
      readonly kind: 'settled';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly foreign: readonly string[];
    }
  /** Status has to be written so that it says `addresses`. */
  | {
      readonly kind: 'assign';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly pool: string;
    }
  /** An address is chosen, but the wire has not been asked yet. */
  | {
      readonly kind: 'probing';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly pool: string;
    }
  /** Status has to be emptied: it is no longer a LoadBalancer of ours. */
  | { readonly kind: 'release'; readonly service: ServiceKey; readonly addresses: readonly Ip[] }
  /** No address can be given; `reason` is for people, `code` for Events and tests. */
  | {
      readonly kind: 'refused';
      readonly service: ServiceKey;
      readonly code: RefusalCode;
      readonly reason: string;
    };

export type RefusalCode =
  | 'pool-exhausted'
  | 'no-pool'
  | 'unknown-pool'
  | 'address-taken'
  | 'address-not-in-pool'
  | 'address-unusable'
  | 'address-invalid'
  | 'address-conflict'
  | 'family-unavailable';

/** What the wire or this host knows against an address. */
export type Verdict =
  /** Asked recently, nobody answered; or it is no local address here, so that there is no wire to ask. */
  | { readonly kind: 'usable' }
  /** Not asked yet, or too long ago: ask before use. */
  | { readonly kind: 'unknown' }
  /** Somebody holds it; `reason` says who. */
  | { readonly kind: 'blocked'; readonly reason: string };

export type PoolUsage = {
  readonly name: string;
  readonly addresses: readonly string[];
  readonly family: 'v4' | 'v6' | 'dual';
  /** Exact sizes as decimal text, because v6 exceeds every float. */
  readonly size: string;
  readonly allocated: number;
  /** Addresses skipped because somebody on the wire or this host holds them. */
  readonly blocked: readonly { readonly ip: Ip; readonly reason: string }[];
};
