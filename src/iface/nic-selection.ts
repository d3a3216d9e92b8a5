import {
  broadcastOf,
  type Family,
  familyOf,
  formatPrefix,
  type Ip,
  type Prefix,
  prefixContains,
} from '../lib/ip.ts';
import { HostSubnets } from './host-subnets.ts';
import {
  type IfIndex,
  type KernelAddress,
  type KernelRoute,
  LBD_PROTOCOL,
  type Link,
  type Mac,
} from './types.ts';
import { isVirtualLink } from './virtual-link.ts';

/**
 * Which NIC an address belongs on: the one whose own subnet holds it. Pure; computed once for each change of links,
 * of the host's own addresses or of its routes, never for the addresses that lbd itself puts and renews.
 */

const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_POINTOPOINT = 0x10;
const IFF_NOARP = 0x80;
const IFF_LOWER_UP = 0x10000;
const ARPHRD_ETHER = 1;

/** kube-proxy in IPVS mode binds every Service address here; that is no sign of another holder. */
const KUBE_IPVS_DEVICE = 'kube-ipvs0';

/** A NIC that may carry local addresses, with the subnets of the host's own addresses on it. */
export type Nic = {
  readonly ifIndex: IfIndex;
  readonly name: string;
  readonly mac: Mac;
  /** Administratively up and with carrier. */
  readonly up: boolean;
  readonly subnets: readonly Prefix[];
  /**
   * Those of the v4 ones in which the host's own address is not the primary one of the kernel, so that it has neither a
   * route nor a say: somebody else's came first.
   */
  readonly displaced?: readonly Prefix[];
};

/** All that decides where addresses go; equal `signature` means equal decisions. */
export type HostView = {
  readonly nics: readonly Nic[];
  /** Selected for a family: by configuration, or as the NIC with that family's default route. */
  readonly selected: Readonly<Record<Family, ReadonlySet<IfIndex>>>;
  /** The host's own addresses (not lbd's) and where they are. */
  readonly ownAddresses: ReadonlyMap<Ip, string>;
  readonly gateways: ReadonlySet<Ip>;
  readonly macs: ReadonlySet<Mac>;
  readonly signature: string;
};

export type NicSelection =
  | { readonly kind: 'nic'; readonly nic: Nic; readonly subnet: Prefix }
  /** Not here: no selected NIC has the subnet, or the one that has it is down. */
  | { readonly kind: 'none'; readonly reason: string }
  /** Never, whoever asks: the address belongs to this host, to its gateway or to the subnet itself. */
  | { readonly kind: 'blocked'; readonly reason: string };

export type HostFacts = {
  readonly links: Iterable<Link>;
  readonly addresses: Iterable<KernelAddress>;
  readonly routes: readonly KernelRoute[];
};

export const EMPTY_HOST: HostView = {
  nics: [],
  selected: { v4: new Set(), v6: new Set() },
  ownAddresses: new Map(),
  gateways: new Set(),
  macs: new Set(),
  signature: '',
};

/**
 * Reduces what the kernel has to what decides. `isOurs` tells lbd's addresses from the host's own; `patterns` are NIC
 * names with `*` and `?`, and an empty list means the NIC with the default route, or any NIC where the host has none.
 */
export function viewHost(
  facts: HostFacts,
  patterns: readonly string[],
  isOurs: (address: KernelAddress) => boolean,
): HostView {
  const links = new Map([...facts.links].map((link) => [link.index, link]));
  const ownAddresses = new Map<Ip, string>();
  const subnets = new HostSubnets();
  for (const address of facts.addresses) {
    const link = links.get(address.ifIndex);
    if (isOurs(address) || link === undefined || isVirtualLink(link)) continue;
    if (link.name === KUBE_IPVS_DEVICE) continue;
    const other = ownAddresses.get(address.ip);
    if (other === undefined || link.name < other) ownAddresses.set(address.ip, link.name);
    subnets.addOwn(address);
  }
  for (const route of facts.routes) subnets.addRoute(route);
  const nics: Nic[] = [];
  for (const link of links.values()) {
    if (!canCarryAddresses(link) || link.mac === undefined) continue;
    const up = (link.flags & IFF_UP) !== 0 && (link.flags & IFF_LOWER_UP) !== 0;
    const displaced = subnets.displaced(link.index);
    nics.push({
      ifIndex: link.index,
      name: link.name,
      mac: link.mac,
      up,
      subnets: subnets.of(link.index),
      ...(displaced.length === 0 ? {} : { displaced }),
    });
  }
  nics.sort((left, right) => left.ifIndex - right.ifIndex);
  const selected = {
    v4: selectedFor('v4', nics, patterns, facts.routes),
    v6: selectedFor('v6', nics, patterns, facts.routes),
  };
  const gateways = new Set(
    facts.routes.flatMap((route) => (route.gateway === undefined ? [] : [route.gateway])),
  );
  const macs = new Set([...links.values()].flatMap((link) => (link.mac === undefined ? [] : [link.mac])));
  const signature = JSON.stringify([
    nics,
    [...selected.v4].sort(byIndex),
    [...selected.v6].sort(byIndex),
    [...ownAddresses].sort(),
    [...gateways].sort(),
    [...macs].sort(),
  ]);
  return { nics, selected, ownAddresses, gateways, macs, signature };
}

function byIndex(left: IfIndex, right: IfIndex): number {
  return left - right;
}

/** Ethernet with ARP, and not a member of a bridge or bond: there the master carries the addresses. */
function canCarryAddresses(link: Link): boolean {
  const excluded = IFF_LOOPBACK | IFF_POINTOPOINT | IFF_NOARP;
  if (link.type !== ARPHRD_ETHER || (link.flags & excluded) !== 0) return false;
  return link.master === undefined && !isVirtualLink(link);
}

function selectedFor(
  family: Family,
  nics: readonly Nic[],
  patterns: readonly string[],
  routes: readonly KernelRoute[],
): ReadonlySet<IfIndex> {
  if (patterns.length > 0) {
    const matchers = patterns.map(patternToRegExp);
    return new Set(nics.filter((nic) => matchers.some((m) => m.test(nic.name))).map((nic) => nic.ifIndex));
  }
  const defaults = routes
    // A default route into a tunnel says nothing about the segment that this host is on.
    .filter((route) => route.family === family && route.destination.length === 0 && isOnNic(route, nics))
    .sort((left, right) => left.metric - right.metric);
  const best = defaults[0];
  if (best?.ifIndex === undefined) return new Set(nics.map((nic) => nic.ifIndex));
  // Equal metrics are a multipath default route: each of its NICs counts.
  return new Set(
    defaults.flatMap((route) =>
      route.metric === best.metric && route.ifIndex !== undefined ? [route.ifIndex] : [],
    ),
  );
}

function isOnNic(route: KernelRoute, nics: readonly Nic[]): boolean {
  return nics.some((nic) => nic.ifIndex === route.ifIndex);
}

/** A NIC name with `*` and `?`. */
export function patternToRegExp(pattern: string): RegExp {
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`);
}

/** Where `ip` belongs on this host, or why it belongs nowhere. The longest matching subnet wins, on an up NIC if two have it. */
export function selectNic(ip: Ip, host: HostView): NicSelection {
  const holder = host.ownAddresses.get(ip);
  if (holder !== undefined) {
    return { kind: 'blocked', reason: `${ip} is already on ${holder} and was not put there by lbd` };
  }
  if (host.gateways.has(ip))
    return { kind: 'blocked', reason: `${ip} is the gateway of one of this host's routes` };
  const family = familyOf(ip);
  const match = longestMatch(ip, host.nics, host.selected[family]);
  if (match === undefined) return { kind: 'none', reason: missingReason(ip, host) };
  const reserved = reservedReason(ip, match.subnet);
  if (reserved !== undefined) return { kind: 'blocked', reason: reserved };
  if (!match.nic.up) return { kind: 'none', reason: `${match.nic.name}, whose subnet holds ${ip}, is down` };
  return { kind: 'nic', ...match };
}

/**
 * Where a held address belongs: where it is, as long as that is no worse than what `selectNic()` chose anew. Of two NICs
 * in one subnet, the one that comes back takes nothing away from the one that works.
 */
export function stayOnNic(ip: Ip, host: HostView, ifIndex: IfIndex, chosen: NicSelection): NicSelection {
  if (chosen.kind !== 'nic' || chosen.nic.ifIndex === ifIndex) return chosen;
  const present = host.nics.filter((nic) => nic.ifIndex === ifIndex && nic.up);
  const match = longestMatch(ip, present, host.selected[familyOf(ip)]);
  return match?.subnet.length === chosen.subnet.length ? { kind: 'nic', ...match } : chosen;
}

/** The NIC that it came to. */
export function nicOf(selection: NicSelection): IfIndex | undefined {
  return selection.kind === 'nic' ? selection.nic.ifIndex : undefined;
}

type SubnetMatch = { readonly nic: Nic; readonly subnet: Prefix };

/** The NIC and subnet that hold `ip`; `allowed` limits the NICs. */
export function longestMatch(
  ip: Ip,
  nics: readonly Nic[],
  allowed?: ReadonlySet<IfIndex>,
): SubnetMatch | undefined {
  let best: SubnetMatch | undefined;
  for (const nic of nics) {
    if (allowed !== undefined && !allowed.has(nic.ifIndex)) continue;
    for (const subnet of nic.subnets) {
      if (!prefixContains(subnet, ip)) continue;
      if (best === undefined || isBetter({ nic, subnet }, best)) best = { nic, subnet };
    }
  }
  return best;
}

function isBetter(match: SubnetMatch, best: SubnetMatch): boolean {
  if (match.subnet.length !== best.subnet.length) return match.subnet.length > best.subnet.length;
  return match.nic.up && !best.nic.up;
}

function missingReason(ip: Ip, host: HostView): string {
  const other = longestMatch(ip, host.nics);
  const allowed = host.selected[familyOf(ip)];
  const considered = host.nics.filter((nic) => allowed.has(nic.ifIndex)).map((nic) => nic.name);
  if (other !== undefined) {
    return (
      `${other.nic.name} has the subnet ${formatPrefix(other.subnet)} of ${ip}, but ` +
      `${considered.length === 0 ? 'no NIC' : `only ${considered.join(', ')}`} is selected: add "${other.nic.name}" to [local] interfaces`
    );
  }
  const where =
    considered.length === 0 ? 'this host has no usable NIC' : `looked at ${considered.join(', ')}`;
  return `no NIC of this host has a subnet that holds ${ip} (${where})`;
}

/** The subnet's own addresses: network and broadcast (RFC 919), and the subnet-router anycast (RFC 4291 2.6.1). */
function reservedReason(ip: Ip, subnet: Prefix): string | undefined {
  if (broadcastOf(subnet) === ip) return `${ip} is the broadcast address of ${formatPrefix(subnet)}`;
  if (subnet.network !== ip) return undefined;
  if (familyOf(ip) === 'v6') {
    return subnet.length < 127
      ? `${ip} is the subnet-router anycast address of ${formatPrefix(subnet)}`
      : undefined;
  }
  return subnet.length < 31 ? `${ip} is the network address of ${formatPrefix(subnet)}` : undefined;
}

/** NICs that carry addresses or may be asked to, and so need strict ARP and somebody who listens on their wire. */
export function interfacesInUse(host: HostView): readonly Nic[] {
  const isSelected = (nic: Nic) => host.selected.v4.has(nic.ifIndex) || host.selected.v6.has(nic.ifIndex);
  return host.nics.filter((nic) => isSelected(nic) && nic.subnets.length > 0);
}

export function isNicUp(host: HostView, ifIndex: IfIndex): boolean {
  return host.nics.some((nic) => nic.ifIndex === ifIndex && nic.up);
}

/** Whether lbd put this address there, by the kernel's own tag. */
export function hasLbdTag(address: KernelAddress): boolean {
  return address.protocol === LBD_PROTOCOL;
}
