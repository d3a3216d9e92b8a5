import type { Ip, IpRange, Prefix } from '../lib/ip.ts';

/** The whole configuration of one host, parsed, checked and with every default filled in. Durations in milliseconds. */
export type Config = {
  readonly host: HostConfig;
  readonly kubernetes: KubernetesConfig;
  readonly pools: readonly PoolConfig[];
  readonly local: LocalConfig;
  /** In the order in which they are looked through. */
  readonly interfaces: readonly InterfaceConfig[];
  readonly virtual: VirtualConfig;
  readonly arp: ArpConfig;
  /** Undefined without a table [gossip]: this host is alone and owns every address that it can. */
  readonly gossip: GossipConfig | undefined;
  readonly control: ControlConfig;
  readonly metrics: MetricsConfig;
  readonly state: StateConfig;
  readonly log: LogConfig;
};

export type HostConfig = {
  /** This host's name among lbd hosts; default: the system's host name. */
  readonly name: string;
  /** The name of this host's Node object; default: `name`. */
  readonly node: string;
};

export type KubernetesConfig = {
  readonly kubeconfig: string;
  /** A context of the kubeconfig; undefined means its current one. */
  readonly context: string | undefined;
  /** Services of this class only; undefined means Services that name no class. */
  readonly loadBalancerClass: string | undefined;
  /** Where the Lease of the allocator lives. */
  readonly leaseNamespace: string;
  /** Whether a host whose kube-proxy says no on a Service's healthCheckNodePort may not have its addresses. */
  readonly healthCheckNodePorts: boolean;
};

export type PoolConfig = {
  readonly name: string;
  /** As written, for messages. */
  readonly addresses: readonly string[];
  readonly ranges: readonly IpRange[];
  /** False: only Services that name the pool get an address from it. */
  readonly autoAssign: boolean;
  /** As in `LocalConfig`; undefined: those of [local]. */
  readonly interfaces?: readonly string[] | undefined;
  /** The prefix length by which its virtual addresses are routed; undefined: each alone. */
  readonly aggregate: { readonly v4: number | undefined; readonly v6: number | undefined };
};

export type LocalConfig = {
  /** NIC names or patterns (`*`, `?`), or CIDR prefixes of their subnets; empty means the NIC with the default route, per family. */
  readonly interfaces: readonly string[];
  /** `host`: /32 or /128. `subnet`: the prefix of the NIC's own subnet. */
  readonly prefix: 'host' | 'subnet';
  /** Kernel lifetime of an address; 0 means permanent. A whole number of seconds. */
  readonly lifetimeMs: number;
  /** How often what is held is announced again; 0 is never. */
  readonly announceIntervalMs: number;
};

export type InterfaceConfig = {
  /** A NIC name or pattern, or a CIDR prefix of its subnet. */
  readonly name: string;
  /** Whether answers from addresses in its subnets leave by it. */
  readonly sourceRouting: boolean;
  /** At most one of each family. */
  readonly gateways: readonly Ip[];
};

export type VirtualConfig = {
  /** The name of lbd's own link. */
  readonly interface: string;
  /** `auto`: a dummy, or a bridge where the kernel has none. */
  readonly type: 'auto' | 'dummy' | 'bridge';
  /** The routes that lbd makes itself; undefined: the kernel makes one for each address's prefix. */
  readonly routes: { readonly table: number; readonly protocol: number } | undefined;
};

export type ArpConfig = {
  /** Whether arp_ignore and arp_announce are enforced; false only reports what they are. */
  readonly enforceSysctls: boolean;
};

export type GossipConfig = {
  readonly seeds: readonly SeedConfig[];
  readonly discover: 'none' | 'kubernetes';
  readonly port: number;
  /** Where this host's addresses are to listen on; empty: everywhere. */
  readonly bind: readonly Prefix[];
  readonly label: string;
  /** Undefined: without keys, because the configuration says `insecure = true`. */
  readonly keyFile: string | undefined;
  /** Empty: every source. */
  readonly allow: readonly Prefix[];
  readonly profile: 'lan' | 'fast' | 'wan';
  /** What [gossip.timing] sets, over the profile. */
  readonly timing: GossipTiming;
  readonly weight: number;
  readonly isolation: 'auto' | 'release' | 'hold';
  /** Undefined: the gateways; empty: none. */
  readonly reference: readonly Ip[] | undefined;
  readonly drainOnStop: boolean;
  readonly preempt: boolean;
  readonly excludeLabelledNodes: boolean;
  readonly excludeNetworkUnavailable: boolean;
};

/** An address or a DNS name. */
export type SeedConfig = { readonly host: string; readonly port: number };

/** Names as in the settings of the election; only those that are set. */
export type GossipTiming = {
  readonly [Name in GossipKnob]?: number;
};

export type GossipKnob =
  | 'heartbeatMs'
  | 'missedHeartbeats'
  | 'heartbeatSlackMs'
  | 'inquiryMs'
  | 'inquiryEveryMs'
  | 'indirect'
  | 'takeoverFloorMs'
  | 'isolationMs'
  | 'overrunMs'
  | 'probeIntervalMs'
  | 'probeTimeoutMs'
  | 'suspicionMinMs'
  | 'suspicionMaxMs'
  | 'gossipIntervalMs'
  | 'gossipFanout'
  | 'retransmitMult'
  | 'pushPullMs'
  | 'deadRetryMs'
  | 'settleMs'
  | 'returnSettleMs'
  | 'handOverTimeoutMs'
  | 'handOverOverlapMs';

export type ControlConfig = { readonly socket: string };

/** Undefined: nowhere. */
export type MetricsConfig = { readonly listen: { readonly ip: Ip; readonly port: number } | undefined };

export type StateConfig = { readonly directory: string };

export type LogConfig = { readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' };

/** One thing wrong with (error) or doubtful about (warning) a configuration, for `file:line: key: expected …, got …`. */
export type ConfigProblem = {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** 1-based; undefined when the problem is not at one place, such as a missing table. */
  readonly line: number | undefined;
  /** 1-based, in UTF-16 units; only for syntax errors. */
  readonly column?: number;
  /** Dotted path, `pool[0].addresses[1]`; empty for a syntax error. */
  readonly key: string;
  readonly message: string;
};

export type LoadedConfig = {
  readonly config: Config;
  readonly warnings: readonly ConfigProblem[];
  /** Every value and where it was written, in the order of the schema; worked out when it is asked for. */
  readonly values: () => readonly ConfigValue[];
};

/** One value of a configuration, as `lbctl config show` prints it. */
export type ConfigValue = {
  /** In the merged configuration: `['pool', 2, 'name']`. */
  readonly path: readonly (string | number)[];
  /** As it is written in TOML; undefined for a key that has no default and is not set. */
  readonly value?: string | number | boolean | readonly string[] | undefined;
  /** undefined: nobody wrote it, it is the default. */
  readonly origin?: { readonly file: string; readonly line: number | undefined } | undefined;
};

/** What a configuration comes to: `GET /v1/config` on the control socket. */
export type ConfigListing = {
  readonly version: 1;
  /** The main file, then the drop-ins in the order in which they apply. */
  readonly files: readonly string[];
  readonly digest: string;
  readonly values: readonly ConfigValue[];
  /** Tables that differ on disk and keep their values until lbd is restarted. */
  readonly waiting: readonly string[];
};
