import type { Wanted } from '../election/types.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import { withoutEndpoint } from './endpoint-words.ts';

/**
 * A host without gossip owns every local address that it can, but those that are to be where endpoints are, and none is
 * here: nobody announces these. Pure.
 */
export function splitLone(
  desired: readonly DesiredAddress[],
  wanted: Pick<Wanted, 'addresses' | 'unready'>,
  node: string,
): { readonly here: readonly DesiredAddress[]; readonly unserved: readonly AddressStatus[] } {
  const here: DesiredAddress[] = [];
  const unserved: AddressStatus[] = [];
  for (const address of desired) {
    const nodes = wanted.addresses.get(address.ip)?.nodes;
    const isElsewhere = nodes !== undefined && !nodes.has(node);
    const reason = isElsewhere ? withoutEndpoint(nodes) : wanted.unready?.get(address.ip);
    if (reason === undefined) here.push(address);
    else unserved.push(unservedStatus(address, reason));
  }
  return { here, unserved };
}

/** A local address that nobody may announce, and why. */
export function unservedStatus({ ip, services }: DesiredAddress, reason: string): AddressStatus {
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
    unsentFrames: 0,
    repairs: 0,
    reason,
  };
}
