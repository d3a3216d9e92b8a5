import { LINK_LOCAL } from '../iface/host-subnets.ts';
import { familyOf, type Ip, type Prefix, prefixContains } from '../lib/ip.ts';

/**
 * The addresses whose answer on a subnet proves that this host is not cut off there: those of `gossip.reference` that are
 * in it, or without that key its gateways, of which a v6 one has a link-local address, of no subnet.
 */
export function referencesOf(
  subnet: Prefix,
  configured: readonly Ip[] | undefined,
  gateways: readonly Ip[],
): readonly Ip[] {
  const isNear = (ip: Ip): boolean => familyOf(subnet.network) === 'v6' && prefixContains(LINK_LOCAL, ip);
  return (configured ?? gateways).filter((ip) => prefixContains(subnet, ip) || isNear(ip));
}
