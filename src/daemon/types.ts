import type { AddressStatus, SysctlState } from '../iface/types.ts';
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
  readonly sysctls: readonly SysctlState[];
  readonly problems: readonly Problem[];
};

export type ServiceStatus = {
  readonly name: string;
  readonly addresses: readonly Ip[];
  readonly state: 'announced' | 'allocated' | 'probing' | 'refused' | 'partial';
  /** Why it is not announced; undefined when it is. */
  readonly reason: string | undefined;
};

/** Something an operator should look at, most urgent first. */
export type Problem = { readonly severity: 'error' | 'warning'; readonly text: string };
