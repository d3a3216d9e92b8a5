import type { ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';

/** What lbd decided about one Service's addresses. `explain` says why, in one line, for `lbctl explain`. */
export type Allocation =
  /**
   * Status says what it should: nothing to do. `foreign` holds what stands in status without coming from a pool of
   * ours: addresses whose pool is gone (they are in `addresses` too, and stay) and host names of somebody else.
   * `unmet` is set when the Service asks for something that it cannot have: it keeps what it has meanwhile.
   */
  | {
      readonly kind: 'settled';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly foreign: readonly string[];
      readonly unmet: Refusal | undefined;
      readonly explain: string;
    }
  /** Status has to be written so that it says `addresses`; until then `standing` is what it rightly has. */
  | {
      readonly kind: 'assign';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly standing: readonly Ip[];
      /** Undefined when the addresses are in no pool any more, and only something else leaves status. */
      readonly pool: string | undefined;
      readonly unmet: Refusal | undefined;
      readonly explain: string;
    }
  /** Addresses are chosen, but the wire has not been asked about those in `asking`; `standing` as for `assign`. */
  | {
      readonly kind: 'probing';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly standing: readonly Ip[];
      readonly asking: readonly Ip[];
      readonly pool: string | undefined;
      readonly explain: string;
    }
  /** Status has to be emptied: it is no longer a LoadBalancer of ours. */
  | {
      readonly kind: 'release';
      readonly service: ServiceKey;
      readonly addresses: readonly Ip[];
      readonly explain: string;
    }
  /**
   * No address can be given; `reason` is for people, `code` for Events and tests. When `stale` is not empty, status
   * says these all the same (rubbish, or an address of another Service) and has to be emptied.
   */
  | {
      readonly kind: 'refused';
      readonly service: ServiceKey;
      readonly code: RefusalCode;
      readonly reason: string;
      readonly stale: readonly string[];
    };

export type Refusal = { readonly code: RefusalCode; readonly reason: string };

export type RefusalCode =
  | 'pool-exhausted'
  /** No pool is configured, or none gives addresses to Services that do not name it. */
  | 'no-pool'
  | 'unknown-pool'
  /** Another Service has the address, or somebody on the wire. */
  | 'address-taken'
  | 'address-not-in-pool'
  /** No unicast address that a neighbour could reach. */
  | 'address-unusable'
  /** What is asked for is no list of addresses. */
  | 'address-invalid'
  /** Two Services have or would have the address, with equal ports or of two controllers. */
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
