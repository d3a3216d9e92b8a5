import type { Entry as Entitlement } from '../election/types.ts';
import type { Family, Ip, Prefix } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';

export type IfIndex = number & { readonly __brand: 'IfIndex' };

/** Six bytes, `02:00:00:00:00:01`. */
export type Mac = string & { readonly __brand: 'Mac' };

/** IFA_PROTO (if_addr.h, Linux 5.18) of every address lbd adds, and the route protocol of every route. Unassigned upstream. */
export const LBD_PROTOCOL = 108;

/** A link as rtnetlink tells it (RTM_NEWLINK), reduced to what decides anything here. */
export type Link = {
  readonly index: IfIndex;
  readonly name: string;
  /** IFF_* of if.h. */
  readonly flags: number;
  /** ARPHRD_*: 1 is Ethernet. */
  readonly type: number;
  readonly mac: Mac | undefined;
  /** A link of lbd's own to which somebody gave another MAC. `mac` is what it was. */
  readonly hasLostMark?: true;
  /** IFLA_MASTER: the bridge, bond or VRF this link is a member of. */
  readonly master: IfIndex | undefined;
  /** IFLA_INFO_KIND: `bridge`, `bond`, `veth`, `dummy`; undefined for a physical NIC. */
  readonly kind: string | undefined;
};

/** An address as rtnetlink tells it (RTM_NEWADDR). */
export type KernelAddress = {
  readonly ifIndex: IfIndex;
  readonly ip: Ip;
  readonly prefixLength: number;
  /** RT_SCOPE_*. */
  readonly scope: number;
  /** IFA_F_*, from IFA_FLAGS when present. */
  readonly flags: number;
  /** IFA_PROTO; undefined when the kernel tells none (older than 5.18, or none set). */
  readonly protocol: number | undefined;
  /** The kernel has no tag on it any more: somebody changed it. `protocol` is what it was. */
  readonly hasLostTag?: true;
  /** Somebody deleted its route of the local table: the host has it no more, though it is there. */
  readonly hasLostRoute?: true;
  /** IFA_CACHEINFO; seconds, Infinity for permanent. */
  readonly preferredSeconds: number;
  readonly validSeconds: number;
  /** When it was added, in hundredths of a second since the boot (IFA_CACHEINFO): it stays when somebody changes it. */
  readonly addedCs?: number;
};

/** One change of one address, asked of the kernel. */
export type AddressRequest =
  | {
      /** `add` fails with EEXIST when the address exists; `replace` renews one, and creates one that is absent. */
      readonly kind: 'add' | 'replace';
      readonly ifIndex: IfIndex;
      readonly ip: Ip;
      readonly prefixLength: number;
      /** RT_SCOPE_*. */
      readonly scope: number;
      /** IFA_F_*. */
      readonly flags: number;
      /** Whole seconds from 0 to `validSeconds`; Infinity for permanent. */
      readonly preferredSeconds: number;
      /** Whole seconds from 1; Infinity for permanent. */
      readonly validSeconds: number;
      /** IFA_PROTO. */
      readonly protocol: number;
    }
  | {
      readonly kind: 'delete';
      readonly ifIndex: IfIndex;
      readonly ip: Ip;
      readonly prefixLength: number;
    };

/** One change of a link of lbd's own, asked of the kernel. */
export type LinkRequest =
  /** Fails with EEXIST when the name is taken, with EOPNOTSUPP when the kernel has no such kind of link. */
  | { readonly kind: 'create-link'; readonly name: string; readonly type: string; readonly mac: Mac }
  /**
   * Its sysctls, while it is still down: `promote_secondaries` (v4), and no link-local address (v6). The kernel refuses all of
   * a request with one family that it lacks (EAFNOSUPPORT with `ipv6.disable=1`).
   */
  | { readonly kind: 'configure-link'; readonly ifIndex: IfIndex; readonly family: Family }
  | { readonly kind: 'raise-link'; readonly ifIndex: IfIndex }
  /** Its MAC, by which it is known. */
  | { readonly kind: 'mark-link'; readonly ifIndex: IfIndex; readonly mac: Mac }
  | { readonly kind: 'delete-link'; readonly ifIndex: IfIndex };

/** One change of one route over a link of lbd's own, asked of the kernel. */
export type RouteRequest = {
  /** `add-route` fails with EEXIST when the table has the destination already. */
  readonly kind: 'add-route' | 'delete-route';
  readonly ifIndex: IfIndex;
  readonly destination: Prefix;
  readonly table: number;
  readonly protocol: number;
  /** The address that packets by it come from; absent is none. */
  readonly source?: Ip;
  /** Absent is the kernel's default: 0 of v4, 1024 of v6. */
  readonly metric?: number;
};

export type KernelRequest = AddressRequest | LinkRequest | RouteRequest;

/** A route, as far as lbd needs it. */
export type KernelRoute = {
  readonly family: 'v4' | 'v6';
  readonly destination: Prefix;
  readonly gateway: Ip | undefined;
  readonly ifIndex: IfIndex | undefined;
  readonly metric: number;
  readonly table: number;
  readonly protocol: number;
  readonly type: number;
};

/** A rule of policy routing that looks up a table, as far as lbd needs it. */
export type KernelRule = {
  readonly priority: number;
  readonly from: Prefix;
  readonly table: number;
  readonly protocol: number;
  /** Routes with a prefix no longer than this count as none; undefined: all count. */
  readonly suppressPrefixLength: number | undefined;
};

/** What the rest of lbd wants on this host: computed whole by the plan, compared with what the kernel has. */
export type DesiredAddress = {
  readonly ip: Ip;
  /** The Services that use it, for messages: `namespace/name`. */
  readonly services: readonly string[];
  /** How this host may take it; absent is `first`. It matters until the address is held. */
  readonly entry?: Entitlement;
};

/** What the wire said about an address, and when: the ground for its first use. */
export type WireEvidence =
  | { readonly kind: 'silent'; readonly at: Instant }
  | { readonly kind: 'answered'; readonly mac: Mac; readonly at: Instant; readonly retryAt: Instant };

/** How an address stands on this host, for status, Events and the allocator. */
export type AddressStatus = {
  readonly ip: Ip;
  readonly services: readonly string[];
  readonly state:
    | 'no-interface'
    | 'foreign'
    | 'conflict'
    | 'probing'
    | 'adding'
    | 'held'
    | 'failed'
    | 'removing'
    /** Virtual, and for other hosts to serve. */
    | 'elsewhere'
    /** No host may serve it: a virtual one, or a local one of a host that is alone. */
    | 'unserved';
  /** `local`: on the NIC whose subnet holds it, of one host. `virtual`: on lbd's own link, of every eligible host. */
  readonly kind: 'local' | 'virtual';
  readonly interface: string | undefined;
  readonly prefixLength: number | undefined;
  /** Milliseconds until the kernel would remove it unless renewed; undefined when not held. */
  readonly lifetimeLeftMs: number | 'permanent' | undefined;
  readonly heldSinceMs: number | undefined;
  /** How often it was announced, as far as frames left the host. */
  readonly announcements: number;
  /** Frames of announcements that the NIC did not take. */
  readonly unsentFrames: number;
  /** How often it was put right, since it is held, after somebody else had removed or changed it. */
  readonly repairs: number;
  /** A member of the cluster answers for it as well, though it is held here. */
  readonly disputed?: string | undefined;
  /** Why it is not held, in words, or what is the matter with it though it is. */
  readonly reason: string | undefined;
};

/** One row for a person: what a NIC's ARP sysctl should be and what it is. */
export type SysctlState = {
  readonly interface: string;
  /** `net.ipv4.conf.eth0.arp_ignore` */
  readonly key: string;
  readonly expected: string;
  /** What the kernel goes by: the greater of `conf.all` and the NIC's own. */
  readonly current: string | undefined;
  /** The NIC's own value before lbd first wrote it, also in an earlier run; undefined when lbd never had to. */
  readonly before: string | undefined;
  readonly drifts: number;
  readonly error: string | undefined;
};
