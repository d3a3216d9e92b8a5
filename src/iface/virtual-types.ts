import type { Ip, Prefix } from '../lib/ip.ts';
import type { RouteFilter } from './netlink-requests.ts';
import type { VirtualLinkType } from './virtual-link.ts';

/** The words of virtual addresses; what is done for them is in `virtual-plan.ts` and `virtual-addresses.ts`. */

export type VirtualSettings = {
  readonly interface: string;
  /** `auto`: a dummy, or a bridge where the kernel has none. */
  readonly type: 'auto' | VirtualLinkType;
  /** The routes that lbd makes itself; undefined: the kernel makes one for each address's prefix. */
  readonly routes: RouteFilter | undefined;
};

/** A virtual address that some Service has, and what it is to this host. */
export type DesiredVirtual = {
  readonly ip: Ip;
  /** The Services that use it, for messages: `namespace/name`. */
  readonly services: readonly string[];
  /** What routers are to be told: the pool's aggregate that holds it, or the address alone. */
  readonly route: Prefix;
  /**
   * `here`: this host serves it. `unknown`: whether it may is not known now; it stays where it is. `elsewhere`: this host
   * does not serve it. `nowhere`: no host does. `kept`: it stays where it is, and is put nowhere.
   */
  readonly standing: 'here' | 'unknown' | 'elsewhere' | 'nowhere' | 'kept';
  /** Why it is not here, or not under the pool's aggregate. */
  readonly reason: string | undefined;
};

/** What happened, for the log. */
export type VirtualReport =
  | { readonly kind: 'link-made'; readonly type: VirtualLinkType; readonly reason: string | undefined }
  /** There is none, and cannot be one now. */
  | { readonly kind: 'link-failed'; readonly reason: string }
  | { readonly kind: 'programmed'; readonly added: number; readonly removed: number }
  /** Something of ours had gone or changed without us. */
  | {
      readonly kind: 'repaired';
      /** The link itself was gone or down, or had another MAC. */
      readonly link: boolean;
      readonly addresses: number;
      readonly routes: number;
      /** One of the addresses. */
      readonly example: Ip | undefined;
      /** One of the routes: `203.0.113.0/24`. */
      readonly route: string | undefined;
    }
  /** The first failure of its kind. */
  | { readonly kind: 'failed'; readonly reason: string };

/** The link of virtual addresses, for a person. */
export type VirtualLinkStatus = {
  readonly interface: string;
  /** What it is; undefined while there is none. */
  readonly type: VirtualLinkType | undefined;
  readonly addresses: number;
  readonly repairs: number;
  /** Why there is none although one is needed; undefined otherwise. */
  readonly obstacle: string | undefined;
  /** Something worth knowing that is no obstacle. */
  readonly note: string | undefined;
};
