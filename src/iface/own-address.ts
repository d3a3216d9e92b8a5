import type { Ip } from '../lib/ip.ts';
import { prefixContains } from '../lib/ip.ts';
import { LINK_LOCAL } from './host-subnets.ts';
import type { HostView, Nic } from './nic-selection.ts';

/**
 * The host's own address on `nic` from which it asks for `target`: in the same subnet, of a link-local target the
 * link-local one. Undefined when the host has none there, and so can expect no answer either.
 */
export function ownAddress(host: HostView, nic: Nic, target: Ip): Ip | undefined {
  for (const subnet of [...nic.subnets, LINK_LOCAL]) {
    if (!prefixContains(subnet, target)) continue;
    for (const [ip, name] of host.ownAddresses) {
      if (name === nic.name && prefixContains(subnet, ip)) return ip;
    }
  }
  return undefined;
}
