import type { Ip } from '../lib/ip.ts';

/** `namespace/name`: how people and maps name a Service. */
export type ServiceKey = string & { readonly __brand: 'ServiceKey' };

export type NodeName = string & { readonly __brand: 'NodeName' };

export type IpFamily = 'IPv4' | 'IPv6';

/** What lbd uses of a core/v1 Service; everything else is dropped when an object arrives, before it is stored. */
export type Service = {
  readonly key: ServiceKey;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** Milliseconds since the epoch, by the API server's clock: orders Services, times nothing. */
  readonly createdAt: number;
  readonly deleting: boolean;
  readonly type: string;
  readonly loadBalancerClass: string | undefined;
  readonly loadBalancerIp: string | undefined;
  readonly externalTrafficPolicy: 'Cluster' | 'Local';
  readonly healthCheckNodePort: number | undefined;
  readonly ipFamilies: readonly IpFamily[];
  readonly ipFamilyPolicy: 'SingleStack' | 'PreferDualStack' | 'RequireDualStack';
  /** At most 100, which is more than one Service can use of them here: for sharing decisions and display. */
  readonly ports: readonly ServicePort[];
  /** Only annotations under a prefix that lbd reads, each value at most 1,024 characters. */
  readonly annotations: Readonly<Record<string, string>>;
  /** status.loadBalancer.ingress, as it stands: it may hold host names, rubbish or somebody else's addresses. */
  readonly ingress: readonly Ingress[];
};

export type ServicePort = { readonly protocol: string; readonly port: number };

export type Ingress = {
  readonly ip: string | undefined;
  readonly hostname: string | undefined;
  readonly ipMode: string | undefined;
};

export type EndpointSlice = {
  readonly namespace: string;
  readonly name: string;
  readonly service: ServiceKey | undefined;
  readonly addressType: string;
  readonly endpoints: readonly Endpoint[];
};

export type Endpoint = {
  readonly node: NodeName | undefined;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
};

export type Node = {
  readonly name: NodeName;
  readonly labels: Readonly<Record<string, string>>;
  readonly internalIps: readonly Ip[];
  readonly ready: boolean;
  readonly networkUnavailable: boolean;
};

/** Where a reflector stands; shown in status, because a stale view must be visible. */
export type ReflectorStatus = {
  readonly resource: 'services' | 'endpointslices' | 'nodes';
  readonly phase: 'listing' | 'watching' | 'backing-off' | 'doubting';
  readonly synced: boolean;
  readonly objects: number;
  readonly resourceVersion: string | undefined;
  /** Milliseconds since the API server was last heard on this resource; undefined before the first answer. */
  readonly silentMs: number | undefined;
  readonly relists: number;
  /** The last failure, kept until the next success. */
  readonly error: string | undefined;
  /** Set while a mass disappearance is doubted (safety rule 7). */
  readonly doubt: { readonly missing: number; readonly known: number } | undefined;
};

/** An Event to be written on a Service (events.k8s.io/v1). */
export type EventNote = {
  readonly service: { readonly namespace: string; readonly name: string; readonly uid: string };
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, stable: `Allocated`, `Released`, `AllocationFailed`, `Announced`, `AddressConflict`. */
  readonly reason: string;
  /** What lbd did: `Allocate`, `Release`, `Announce`. */
  readonly action: string;
  readonly note: string;
};
