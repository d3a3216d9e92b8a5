import {
  FAMILY_BITS,
  familyOf,
  formatPrefix,
  type Ip,
  type Prefix,
  prefixContains,
  prefixOf,
} from '../lib/ip.ts';
import { IFA_F_SECONDARY } from './netlink-constants.ts';
import type { IfIndex, KernelAddress, KernelRoute } from './types.ts';

export const LINK_LOCAL: Prefix = { network: 'fe80::' as Ip, length: 10 };

/** The subnets that each link of the host has by the host's own addresses and by what routers told it. */
export class HostSubnets {
  readonly #subnets = new Map<IfIndex, Map<string, Prefix>>();
  /** Those v4 ones of which an own address is the primary one, by link and subnet. */
  readonly #led = new Set<string>();

  /** An address of the host itself. */
  addOwn(address: KernelAddress): void {
    const { ifIndex, ip, prefixLength, flags } = address;
    if (prefixLength >= FAMILY_BITS[familyOf(ip)] || prefixContains(LINK_LOCAL, ip)) return;
    const subnet = prefixOf(ip, prefixLength);
    this.#add(ifIndex, subnet);
    if ((flags & IFA_F_SECONDARY) === 0) this.#led.add(`${ifIndex} ${formatPrefix(subnet)}`);
  }

  /** An address by DHCPv6 is a /128: its subnet is known only by the on-link route of a router advertisement. */
  addRoute({ ifIndex, family, destination, gateway }: KernelRoute): void {
    if (family !== 'v6' || ifIndex === undefined || gateway !== undefined) return;
    const isSubnet = destination.length > 0 && destination.length < FAMILY_BITS.v6;
    if (isSubnet && !prefixContains(LINK_LOCAL, destination.network)) this.#add(ifIndex, destination);
  }

  /** In an order that is always the same: the kernel's own changes when an address goes and comes back. */
  of(ifIndex: IfIndex): readonly Prefix[] {
    return [...(this.#subnets.get(ifIndex) ?? [])]
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([, subnet]) => subnet);
  }

  /**
   * The v4 subnets in which the kernel has the host's address as a secondary one of somebody else's. On v6 there is no
   * such thing.
   */
  displaced(ifIndex: IfIndex): readonly Prefix[] {
    return this.of(ifIndex).filter(
      (subnet) => familyOf(subnet.network) === 'v4' && !this.#led.has(`${ifIndex} ${formatPrefix(subnet)}`),
    );
  }

  #add(ifIndex: IfIndex, subnet: Prefix): void {
    const known = this.#subnets.get(ifIndex) ?? new Map<string, Prefix>();
    known.set(formatPrefix(subnet), subnet);
    this.#subnets.set(ifIndex, known);
  }
}
