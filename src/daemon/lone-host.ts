import type { WantedAddress } from '../election/types.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';
import { withoutEndpoint } from './endpoint-words.ts';

/**
 * A host without gossip owns every local address that it can, but those that are to be where endpoints are, and none is
 * here: nobody announces these. Pure.
 */
export function splitLone(
  desired: readonly DesiredAddress[],
  wanted: ReadonlyMap<Ip, WantedAddress>,
  node: string,
): { readonly here: readonly DesiredAddress[]; readonly unserved: readonly AddressStatus[] } {
  const here: DesiredAddress[] = [];
  const unserved: AddressStatus[] = [];
  for (const address of desired) {
    const nodes = wanted.get(address.ip)?.nodes;
    if (nodes === undefined || nodes.has(node)) here.push(address);
    else unserved.push(unservedStatus(address, withoutEndpoint(nodes)));
  }
  return { here, unserved };
}

function unservedStatus({ ip, services }: DesiredAddress, reason: string): AddressStatus {
  return {
    ip,
    services,
    state: 'unserved',
    kind: 'local',
    interface: undefined,
    prefixLength: undefined,
    lifetimeLeftMs: undefined,
    heldSinceMs: undefined,
    announcements: 0,
    repairs: 0,
    reason,
  };
}
