import {
  type Family,
  familyOf,
  formatPrefix,
  type Ip,
  type IpRange,
  meaningIn,
  overlap,
  type Prefix,
  prefixContains,
  rangeContains,
} from '../lib/ip.ts';
import { HostSubnets } from './host-subnets.ts';
import { isLinkUp } from './link-damping.ts';
import { type Candidate, type NicRule, type NicRules, nicMatcher } from './nic-rules.ts';
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

const IFF_LOOPBACK = 0x8;
const IFF_POINTOPOINT = 0x10;
const IFF_NOARP = 0x80;
const ARPHRD_ETHER = 1;

/** kube-proxy in IPVS mode binds every Service address here; that is no sign of another holder. */
const KUBE_IPVS_DEVICE = 'kube-ipvs0';

/** A NIC that may carry local addresses, with the subnets of the host's own addresses on it. */
export type Nic = {
  readonly ifIndex: IfIndex;
  readonly name: string;
  /** Under which it was selected before it was renamed: what is configured for that name is for this NIC. */
  readonly formerName?: string;
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
  readonly selected: Selected;
  /** In place of `selected`, for the addresses of pools that name their interfaces. */
  readonly pools?: readonly PoolSelection[];
  /** Links with subnets that never carry addresses, and why; for messages. */
  readonly unusable?: readonly UnusableLink[];
  /** The host's own addresses (not lbd's) and where they are. */
  readonly ownAddresses: ReadonlyMap<Ip, string>;
  readonly gateways: ReadonlySet<Ip>;
  readonly macs: ReadonlySet<Mac>;
  readonly signature: string;
};

export type Selected = Readonly<Record<Family, ReadonlySet<IfIndex>>>;

export type PoolSelection = {
  readonly name: string;
  readonly ranges: readonly IpRange[];
  readonly selected: Selected;
};

export type UnusableLink = {
  readonly name: string;
  readonly subnets: readonly Prefix[];
  /** `it is a member of br0` */
  readonly why: string;
  /** Of a bridge, a bond or a VRF: what asks for an address of its subnets asks by ARP, and nobody answers. */
  readonly isMember: boolean;
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
 * Reduces what the kernel has to what decides. `isOurs` tells lbd's addresses from the host's own; without rules, the NIC
 * with the default route counts, or any NIC where the host has none. `formerNames` select a NIC as its name does.
 */
export function viewHost(
  facts: HostFacts,
  rules: NicRules,
  isOurs: (address: KernelAddress) => boolean,
  formerNames: ReadonlyMap<IfIndex, string> = NO_NAMES,
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
  const unusable: UnusableLink[] = [];
  for (const link of links.values()) {
    const why = unusableReason(link, links);
    if (link.mac === undefined || why !== undefined) {
      if ((link.flags & IFF_LOOPBACK) === 0 && !isVirtualLink(link) && subnets.of(link.index).length > 0)
        unusable.push({
          name: link.name,
          subnets: subnets.of(link.index),
          why: why ?? 'it has no hardware address',
          isMember: link.master !== undefined,
        });
      continue;
    }
    const up = isLinkUp(link);
    const displaced = subnets.displaced(link.index);
    const formerName = formerNames.get(link.index);
    nics.push({
      ifIndex: link.index,
      name: link.name,
      mac: link.mac,
      up,
      subnets: subnets.of(link.index),
      ...(displaced.length === 0 ? {} : { displaced }),
      ...(formerName === undefined || formerName === link.name ? {} : { formerName }),
    });
  }
  nics.sort((left, right) => left.ifIndex - right.ifIndex);
  const selectBy = (interfaces: readonly NicRule[]) => selectedBy(interfaces, nics, facts.routes);
  const selected = selectBy(rules.interfaces);
  const pools = (rules.pools ?? [])
    .filter(({ interfaces }) => interfaces.length > 0)
    .map(({ name, ranges, interfaces }) => ({ name, ranges, selected: selectBy(interfaces) }));
  const gateways = new Set(
    facts.routes.flatMap((route) => (route.gateway === undefined ? [] : [route.gateway])),
  );
  const macs = new Set([...links.values()].flatMap((link) => (link.mac === undefined ? [] : [link.mac])));
  const signature = JSON.stringify([
    nics,
    signatureOf(selected),
    pools.map((pool) => [pool.name, pool.ranges, signatureOf(pool.selected)]),
    unusable,
    [...ownAddresses].sort(),
    [...gateways].sort(),
    [...macs].sort(),
  ]);
  return { nics, selected, pools, unusable, ownAddresses, gateways, macs, signature };
}

function byIndex(left: IfIndex, right: IfIndex): number {
  return left - right;
}

const NO_NAMES: ReadonlyMap<IfIndex, string> = new Map();

function signatureOf(selected: Selected): readonly (readonly IfIndex[])[] {
  return [[...selected.v4].sort(byIndex), [...selected.v6].sort(byIndex)];
}

/** Why a link carries no addresses: it is not Ethernet with ARP, or a member of another one, which carries them. */
function unusableReason(link: Link, links: ReadonlyMap<IfIndex, Link>): string | undefined {
  if (link.master !== undefined) {
    const master = links.get(link.master);
    const what = master?.kind === 'vrf' ? 'in the VRF' : 'a member of';
    return `it is ${what} ${master?.name ?? `interface ${link.master}`}`;
  }
  if (isVirtualLink(link)) return 'it is for virtual addresses';
  if ((link.flags & IFF_POINTOPOINT) !== 0) return 'it is point-to-point';
  if ((link.flags & IFF_NOARP) !== 0) return 'it has no ARP';
  return link.type !== ARPHRD_ETHER || (link.flags & IFF_LOOPBACK) !== 0 ? 'it is not Ethernet' : undefined;
}

/** As rules see it. */
export function candidateOf({ name, formerName, subnets }: Nic): Candidate {
  return { names: formerName === undefined ? [name] : [name, formerName], subnets };
}

function selectedBy(
  rules: readonly NicRule[],
  nics: readonly Nic[],
  routes: readonly KernelRoute[],
): Selected {
  if (rules.length === 0)
    return { v4: withDefaultRoute('v4', nics, routes), v6: withDefaultRoute('v6', nics, routes) };
  const matches = nicMatcher(rules);
  const named = nics.filter((nic) => matches(candidateOf(nic)));
  const selected = new Set(named.map(({ ifIndex }) => ifIndex));
  return { v4: selected, v6: selected };
}

function withDefaultRoute(
  family: Family,
  nics: readonly Nic[],
  routes: readonly KernelRoute[],
): ReadonlySet<IfIndex> {
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

/** The subnets in which addresses are not virtual on this host, whether it can serve them or not. */
export function localSubnets(host: HostView): readonly Prefix[] {
  return [...host.nics, ...memberLinks(host)].flatMap(({ subnets }) => subnets);
}

export function memberLinks({ unusable = [] }: HostView): readonly UnusableLink[] {
  return unusable.filter(({ isMember }) => isMember);
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
  const match = longestMatch(ip, host.nics, allowedFor(ip, host).selected[family]);
  if (match === undefined) return { kind: 'none', reason: missingReason(ip, host) };
  const meaning = meaningIn(match.subnet, ip);
  if (meaning !== undefined)
    return { kind: 'blocked', reason: `${ip} is the ${meaning} of ${formatPrefix(match.subnet)}` };
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
  const match = longestMatch(ip, present, allowedFor(ip, host).selected[familyOf(ip)]);
  return match?.subnet.length === chosen.subnet.length ? { kind: 'nic', ...match } : chosen;
}

/** The NIC that it came to. */
export function nicOf(selection: NicSelection): IfIndex | undefined {
  return selection.kind === 'nic' ? selection.nic.ifIndex : undefined;
}

/** The NICs that are selected for `ip`, and where the configuration selects them. */
export function allowedFor(
  ip: Ip,
  host: HostView,
): { readonly selected: Selected; readonly configuredIn: string } {
  const pool = host.pools?.find(({ ranges }) => ranges.some((range) => rangeContains(range, ip)));
  if (pool === undefined) return { selected: host.selected, configuredIn: '[local] interfaces' };
  return { selected: pool.selected, configuredIn: `the interfaces of the pool "${pool.name}"` };
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
  const { selected, configuredIn } = allowedFor(ip, host);
  const allowed = selected[familyOf(ip)];
  const considered = host.nics.filter((nic) => allowed.has(nic.ifIndex)).map((nic) => nic.name);
  if (other !== undefined) {
    return (
      `${other.nic.name} has the subnet ${formatPrefix(other.subnet)} of ${ip}, but ` +
      `${considered.length === 0 ? 'no NIC' : `only ${considered.join(', ')}`} is selected: add "${other.nic.name}" to ${configuredIn}`
    );
  }
  const link = host.unusable?.find(({ subnets }) => subnets.some((subnet) => prefixContains(subnet, ip)));
  const subnet = link?.subnets.find((each) => prefixContains(each, ip));
  if (link !== undefined && subnet !== undefined)
    return `${link.name} has the subnet ${formatPrefix(subnet)} of ${ip}, but ${link.why}`;
  const where =
    considered.length === 0 ? 'this host has no usable NIC' : `looked at ${considered.join(', ')}`;
  return `no NIC of this host has a subnet that holds ${ip} (${where})`;
}

/** NICs that carry addresses or may be asked to, and so need somebody who listens on their wire. */
export function interfacesInUse(host: HostView): readonly Nic[] {
  return host.nics.filter((nic) => isInUse(nic, 'v4', host) || isInUse(nic, 'v6', host));
}

/** Selected for a family of which it has a subnet: for the other one it has nothing to carry. */
function isInUse({ ifIndex, subnets }: Nic, family: Family, { selected, pools = [] }: HostView): boolean {
  if (!subnets.some(({ network }) => familyOf(network) === family)) return false;
  return selected[family].has(ifIndex) || pools.some((pool) => pool.selected[family].has(ifIndex));
}

/**
 * NICs that must not answer ARP for what is on other devices of the host: those in use for IPv4 and, selected or not,
 * those that share a subnet with one of them, which says that they are on the same segment.
 */
export function strictArpNics(host: HostView): readonly Nic[] {
  const inUse = host.nics.filter((nic) => isInUse(nic, 'v4', host));
  const shared = inUse.flatMap(v4Subnets);
  return host.nics.filter(
    (nic) => inUse.includes(nic) || v4Subnets(nic).some((own) => shared.some((other) => overlap(own, other))),
  );
}

export function v4Subnets({ subnets }: Nic): readonly Prefix[] {
  return subnets.filter(({ network }) => familyOf(network) === 'v4');
}

export function isNicUp(host: HostView, ifIndex: IfIndex): boolean {
  return host.nics.some((nic) => nic.ifIndex === ifIndex && nic.up);
}

/** Whether lbd put this address there, by the kernel's own tag. */
export function hasLbdTag(address: KernelAddress): boolean {
  return address.protocol === LBD_PROTOCOL;
}
