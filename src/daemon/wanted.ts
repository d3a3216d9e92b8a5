import type { Wanted, WantedAddress } from '../election/types.ts';
import type { EndpointSlice, Node, NodeName, Service, ServiceKey } from '../kube/types.ts';
import { type Family, familyOf, type Ip } from '../lib/ip.ts';

/** The label that takes a node out of load balancing (kubernetes.io/docs/reference/labels-annotations-taints). */
const EXCLUDE_LABEL = 'node.kubernetes.io/exclude-from-external-load-balancers';

export type WantedInput = {
  /** Every address that some Service has. */
  readonly desired: readonly { readonly ip: Ip; readonly services: readonly string[] }[];
  readonly services: ReadonlyMap<ServiceKey, Service>;
  readonly endpointSlices: ReadonlyMap<string, EndpointSlice>;
  readonly nodes: ReadonlyMap<NodeName, Node>;
  /** Whether absent EndpointSlices and Nodes are truly absent. */
  readonly endpointsSynced: boolean;
  readonly fresh: boolean;
  readonly excludeLabelled: boolean;
  readonly excludeNetworkUnavailable: boolean;
};

/** Which addresses the hosts have to share out among them, and which of the hosts each may go to. */
export function wantedAddresses(input: WantedInput): Wanted {
  const usable = new Map<ServiceKey, UsableNodes>();
  const locals = input.endpointsSynced ? localServices(input.services) : new Set<ServiceKey>();
  if (locals.size > 0) {
    for (const [service, slices] of slicesOf(input.endpointSlices, locals)) {
      usable.set(service, { v4: usableNodes(slices, 'IPv4'), v6: usableNodes(slices, 'IPv6') });
    }
  }
  const addresses = new Map<Ip, WantedAddress>();
  for (const { ip, services } of input.desired) {
    let nodes: ReadonlySet<string> | undefined;
    let isLastResort = false;
    for (const key of services as readonly ServiceKey[]) {
      if (!locals.has(key)) continue;
      const found = usable.get(key)?.[familyOf(ip)];
      const own = found?.nodes ?? NO_NODES;
      isLastResort ||= found?.isLastResort === true;
      // Services that share an address share its host, too: it must have endpoints of each that asks for local ones.
      nodes = nodes === undefined ? own : nodes.intersection(own);
    }
    addresses.set(ip, isLastResort ? { ip, nodes, isLastResort } : { ip, nodes });
  }
  return { addresses, excludedNodes: excludedNodes(input), fresh: input.fresh };
}

/** By the family of the address: a proxy sends what comes to a v6 address to v6 endpoints, and to no other. */
type UsableNodes = Readonly<Record<Family, Usable>>;

type Usable = { readonly nodes: ReadonlySet<string>; readonly isLastResort: boolean };

const NO_NODES: ReadonlySet<string> = new Set();

function localServices(services: ReadonlyMap<ServiceKey, Service>): Set<ServiceKey> {
  const found = new Set<ServiceKey>();
  for (const service of services.values())
    if (service.externalTrafficPolicy === 'Local') found.add(service.key);
  return found;
}

function slicesOf(
  slices: ReadonlyMap<string, EndpointSlice>,
  services: ReadonlySet<ServiceKey>,
): Map<ServiceKey, EndpointSlice[]> {
  const found = new Map<ServiceKey, EndpointSlice[]>();
  for (const slice of slices.values()) {
    if (slice.service === undefined || !services.has(slice.service)) continue;
    const known = found.get(slice.service);
    if (known === undefined) found.set(slice.service, [slice]);
    else known.push(slice);
  }
  return found;
}

/** Nodes with a ready endpoint; if there is none anywhere, those where one still serves while it terminates (KEP-1669). */
function usableNodes(slices: readonly EndpointSlice[], addressType: string): Usable {
  const ready = new Set<string>();
  const serving = new Set<string>();
  for (const slice of slices) {
    if (slice.addressType !== addressType) continue;
    for (const endpoint of slice.endpoints) {
      if (endpoint.node === undefined) continue;
      if (endpoint.ready && !endpoint.terminating) ready.add(endpoint.node);
      else if (endpoint.serving && endpoint.terminating) serving.add(endpoint.node);
    }
  }
  const isLastResort = ready.size === 0 && serving.size > 0;
  return { nodes: isLastResort ? serving : ready, isLastResort };
}

function excludedNodes(input: WantedInput): ReadonlySet<string> {
  const excluded = new Set<string>();
  if (!input.endpointsSynced) return excluded;
  for (const node of input.nodes.values()) {
    const isLabelled = input.excludeLabelled && EXCLUDE_LABEL in node.labels;
    const isCutOff = input.excludeNetworkUnavailable && node.networkUnavailable;
    if (isLabelled || isCutOff) excluded.add(node.name);
  }
  return excluded;
}
