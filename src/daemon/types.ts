import type { AddressStatus, SysctlState } from '../iface/types.ts';
import type { VirtualLinkStatus } from '../iface/virtual-types.ts';
import type { PoolUsage } from '../ipam/types.ts';
import type { TokenStatus } from '../kube/account-token.ts';
import type { ReflectorStatus } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';

/** Raised when a field changes meaning or goes; added fields do not raise it. */
export const STATUS_VERSION = 1;

/**
 * The one document that describes this host: `GET /v1/status` on the control socket, and all that `lbctl` ever shows.
 * Every duration is in milliseconds and relative, so that no reader needs this host's clock.
 */
export type StatusDocument = {
  readonly version: typeof STATUS_VERSION;
  readonly lbd: {
    readonly version: string;
    readonly commit: string;
    /** Of the native addon, the first digits of its SHA-256. */
    readonly addon?: string;
    readonly node: string;
    readonly pid: number;
  };
  readonly host: { readonly name: string; readonly nodeName: string; readonly uptimeMs: number };
  readonly config: {
    readonly file: string;
    readonly digest: string;
    readonly loadedMsAgo: number;
    /** Problems of the last refused reload, kept until a reload succeeds. */
    readonly reloadProblems: readonly string[];
    readonly warnings: readonly string[];
  };
  readonly kubernetes: {
    readonly server: string | undefined;
    readonly reachable: boolean;
    /** True while Services come from the state directory, because the API server has not answered since start. */
    readonly fromCache: boolean;
    readonly error: string | undefined;
    /** What else could not be written, by its last try: the Services for the next start, Events. */
    readonly unwritten: readonly string[];
    readonly reflectors: readonly ReflectorStatus[];
    /** The ServiceAccount token of the kubeconfig, when that has one which expires. */
    readonly token?: TokenStatus | undefined;
    readonly allocator: {
      readonly holder: string | undefined;
      readonly self: boolean;
      readonly error: string | undefined;
    };
  };
  readonly pools: readonly PoolUsage[];
  readonly services: readonly ServiceStatus[];
  readonly addresses: readonly AddressStatus[];
  /** The link of virtual addresses. Absent in a document of an older lbd. */
  readonly virtual?: VirtualLinkStatus;
  readonly sysctls: readonly SysctlState[];
  /** Absent when this host does not gossip. */
  readonly election?: ElectionStatus;
  readonly problems: readonly Problem[];
};

export type ServiceStatus = {
  readonly name: string;
  readonly addresses: readonly Ip[];
  /** `announced`: each address is held here, or owned by a member that lives. */
  readonly state: 'announced' | 'allocated' | 'probing' | 'refused' | 'partial';
  /** Why it is not announced; undefined when it is. */
  readonly reason: string | undefined;
};

/** `GET /v1/members`: the election without its addresses, which can be many. */
export type MembersDocument = {
  readonly version: typeof STATUS_VERSION;
  readonly election: ElectionOverview;
};

/** `GET /v1/drain`, and the answer to `POST /v1/drain` and `/v1/undrain`. */
export type DrainStatus = {
  readonly drained: boolean;
  /** Drained, and nothing is left on this host. */
  readonly done: boolean;
  /** Addresses that are still on this host. */
  readonly left: number;
  /** Addresses that no host may have now, this one or another; at most 10 of them, and how many there are. */
  readonly homeless: readonly Ip[];
  readonly homelessCount: number;
  /** Why a restart of lbd would find another state than this; absent when it would not. */
  readonly problem?: string | undefined;
};

/** Who is there and who owns what, as this host sees it. */
export type ElectionStatus = ElectionOverview & { readonly owners: readonly OwnerStatus[] };

export type ElectionOverview = {
  readonly name: string;
  readonly incarnation: number;
  readonly drained: boolean;
  /** Nothing is left on this host. */
  readonly drainDone: boolean;
  /** Why a restart of lbd would find the host drained or not other than it is now; absent when it would not. */
  readonly drainProblem?: string | undefined;
  readonly encrypted: boolean;
  /** Why claims and epochs are not in the state directory. */
  readonly stateProblem: string | undefined;
  /** 0 is healthy; up to 8 for a host that is too slow to judge others (Lifeguard). */
  readonly healthScore: number;
  readonly segments: readonly SegmentStatus[];
  /** Subnets of this host in which it takes no address; undefined when there are none. */
  readonly absent?: readonly AbsentSubnet[] | undefined;
  readonly members: readonly MemberStatus[];
  /** Where packets came from that call themselves this member; undefined when there were none lately. */
  readonly nameConflict: readonly string[] | undefined;
  /** Who was not believed lately, and why; absent when nobody was. */
  readonly refusedLately?: readonly { readonly why: string; readonly from: string }[] | undefined;
  readonly traffic: {
    readonly sent: number;
    readonly sentBytes: number;
    readonly received: number;
    readonly receivedBytes: number;
    /** Packets and connections that were not believed, by reason. */
    readonly refused: Readonly<Record<string, number>>;
  };
};

export type AbsentSubnet = {
  readonly subnet: string;
  /** This host's own address there. */
  readonly ip: Ip;
  /** `bind`: gossip.bind does not name that; `limit`: it has more subnets than a member can tell of. */
  readonly why: 'bind' | 'limit';
};

export type SegmentStatus = {
  readonly subnet: string;
  readonly ip: Ip;
  /** Nobody is heard there. */
  readonly isolated: boolean;
  /** Others have a part in it, and nobody was heard there since lbd started or the host has it. */
  readonly neverHeard: boolean;
  /** Whether addresses there may be renewed and added now. */
  readonly mayRenew: boolean;
  /** False after a pause of this host, until a neighbour knows the same of its claims. */
  readonly confirmed: boolean;
  readonly neighbours: readonly string[];
};

export type MemberStatus = {
  readonly name: string;
  readonly state: 'alive' | 'suspect' | 'dead' | 'left';
  readonly isSelf: boolean;
  readonly incarnation: number;
  readonly sinceMs: number;
  readonly rttMs: number | undefined;
  /** Of neighbours only: the others are heard now and then, by chance. */
  readonly heardMsAgo: number | undefined;
  readonly isNeighbour: boolean;
  /** Heard over TCP alone. */
  readonly udpLost: boolean;
  readonly silence: string | undefined;
  readonly version: string;
  readonly node: string;
  readonly endpoint: { readonly ip: Ip; readonly port: number };
  readonly segments: readonly string[];
  /** The hardware addresses of its NICs there. */
  readonly macs: readonly string[];
  readonly drained: boolean;
  readonly weight: number;
  /** Of what all hosts must have alike. */
  readonly configDigest: string;
  /** How that differs from this host's; undefined when it does not. */
  readonly drift: string | undefined;
  /** How many addresses it owns. */
  readonly addresses: number;
};

export type OwnerStatus = {
  readonly ip: Ip;
  readonly state: 'mine' | 'theirs' | 'orphaned' | 'free' | 'nobody';
  readonly owner: string | undefined;
  readonly epoch: number;
  readonly sinceMs: number | undefined;
  /** Nobody, or not looked for because there are too many addresses and members. */
  readonly heir: string | undefined;
  /** Why it is not where it should be; undefined when it is. */
  readonly reason: string | undefined;
};

/** `GET /v1/explain?subject=…`: why a Service has its address, and why which host serves it. */
export type Explanation = {
  readonly version: typeof STATUS_VERSION;
  /** Who says so. */
  readonly host: string;
  /** Without gossip there are no owners: each host takes every address that it can. */
  readonly gossips: boolean;
  /** None when an address was asked for that no Service has. */
  readonly services: readonly {
    readonly name: string;
    /** Undefined when it is none of this lbd's. */
    readonly state: ServiceStatus['state'] | undefined;
    readonly addresses: readonly Ip[];
    /** Why it has these, or none. */
    readonly allocation: string;
    /** Why it is not as it should be, beyond that. */
    readonly reason: string | undefined;
  }[];
  readonly addresses: readonly AddressExplanation[];
};

export type AddressExplanation = {
  readonly ip: Ip;
  /** The pool of this host's configuration that has it. */
  readonly pool: string | undefined;
  /** How it stands on this host; undefined when it is not to be here. */
  readonly local: AddressStatus | undefined;
  /** Undefined when it is in no host's subnet, or no Service has it. */
  readonly owner: OwnerStatus | undefined;
  /** The owner first, then those that could have it in their order, then those that may not. */
  readonly members: readonly {
    readonly name: string;
    readonly role: 'owner' | 'heir' | 'candidate' | 'ineligible';
    readonly rank: number | undefined;
    readonly reason: string;
  }[];
  /** Why it would not be given to a Service now; undefined when nothing is known against it. */
  readonly obstacle: string | undefined;
};

/** Something an operator should look at, most urgent first. */
export type Problem = { readonly severity: 'error' | 'warning'; readonly text: string };
