import type { WantedAddress } from '../election/types.ts';
import type { DesiredAddress } from '../iface/types.ts';
import type { DesiredVirtual } from '../iface/virtual-types.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { FAMILY_BITS, type Family, familyOf, type Ip, type Prefix } from '../lib/ip.ts';
import { withoutEndpoint } from './endpoint-words.ts';
import type { VirtualPlace } from './virtual-places.ts';

export type VirtualWantedInput = {
  /** Every address that some Service has. */
  readonly desired: readonly DesiredAddress[];
  /** Which nodes may serve each, and which none. */
  readonly wanted: ReadonlyMap<Ip, WantedAddress>;
  readonly excludedNodes: ReadonlySet<string>;
  /** Those that this host may not have, by its own checks, and why. */
  readonly unready?: ReadonlyMap<Ip, string> | undefined;
  /** The name of this host's Node. */
  readonly node: string;
  /** This host is drained: it serves nothing. */
  readonly isDrained: boolean;
  readonly services: ReadonlyMap<ServiceKey, Service>;
  /** Whether EndpointSlices and Nodes are known. */
  readonly endpointsSynced: boolean;
  /** Why it is too early to tell a virtual address from another host's local one; undefined when it is not. */
  readonly unsure: Readonly<Record<Family, string | undefined>>;
  readonly placeOf: (ip: Ip) => VirtualPlace | undefined;
};

export type SplitWanted = {
  /** For the one host that owns each. */
  readonly local: readonly DesiredAddress[];
  /** For every eligible host. */
  readonly virtual: readonly DesiredVirtual[];
  /** Virtual ones that no host may serve now. */
  readonly homeless: readonly { readonly ip: Ip; readonly reason: string }[];
};

/**
 * Tells local addresses from virtual ones, and says of the latter whether this host serves them. What is not known
 * changes nothing on the host (safety rule 10): virtual addresses are fail-static.
 */
export function splitWanted(input: VirtualWantedInput): SplitWanted {
  const local: DesiredAddress[] = [];
  const virtual: DesiredVirtual[] = [];
  const homeless: { readonly ip: Ip; readonly reason: string }[] = [];
  for (const address of input.desired) {
    const place = input.placeOf(address.ip);
    if (place === undefined) local.push(address);
    else {
      virtual.push(toVirtual(address, place, input));
      const nodes = input.wanted.get(address.ip)?.nodes;
      if (nodes?.size === 0) homeless.push({ ip: address.ip, reason: withoutEndpoint(nodes) });
    }
  }
  return { local, virtual, homeless };
}

function toVirtual(
  { ip, services: keys }: DesiredAddress,
  place: VirtualPlace,
  input: VirtualWantedInput,
): DesiredVirtual {
  const isBound = keys.some(
    (key) => input.services.get(key as ServiceKey)?.externalTrafficPolicy === 'Local',
  );
  // A host without an endpoint must not draw the traffic of one, which an aggregate would.
  const route: Prefix = isBound ? { network: ip, length: FAMILY_BITS[familyOf(ip)] } : place.route;
  const common = { ip, services: keys, route };
  if (input.isDrained) return { ...common, standing: 'elsewhere', reason: 'this host is drained' };
  if (input.excludedNodes.has(input.node)) {
    const reason = `the Node ${input.node} is labelled out of load balancing, or its network is unavailable`;
    return { ...common, standing: 'elsewhere', reason };
  }
  if (isBound && !input.endpointsSynced) {
    return { ...common, standing: 'unknown', reason: 'it is not known yet which hosts have endpoints' };
  }
  const nodes = input.wanted.get(ip)?.nodes;
  if (nodes !== undefined && !nodes.has(input.node)) {
    return {
      ...common,
      standing: nodes.size === 0 ? 'nowhere' : 'elsewhere',
      reason: withoutEndpoint(nodes),
    };
  }
  // Whoever may write a status could have all hosts swallow the traffic for any address in the world: no wire says no.
  if (!place.isPooled)
    return { ...common, standing: 'kept', reason: 'it is in no pool and in no subnet of a host' };
  const unready = input.unready?.get(ip);
  if (unready !== undefined) return { ...common, standing: 'elsewhere', reason: unready };
  const unsure = input.unsure[familyOf(ip)];
  if (unsure !== undefined) return { ...common, standing: 'unknown', reason: unsure };
  return { ...common, standing: 'here', reason: isBound ? undefined : place.reason };
}
