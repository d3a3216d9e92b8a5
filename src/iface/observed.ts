import { FAMILY_BITS, familyOf, formatPrefix, prefixOf } from '../lib/ip.ts';
import { HostRoutes } from './host-routes.ts';
import { isLinkUp } from './link-damping.ts';
import type { NetlinkMessage } from './netlink-codec.ts';
import {
  IFA_F_NOPREFIXROUTE,
  IFA_F_SECONDARY,
  RT_TABLE_LOCAL,
  RT_TABLE_MAIN,
  RTN_UNICAST,
  RTPROT_KERNEL,
} from './netlink-constants.ts';
import { ALL_TABLES, type RouteFilter } from './netlink-requests.ts';
import { type IfIndex, type KernelAddress, type KernelRoute, LBD_PROTOCOL, type Link } from './types.ts';
import { isVirtualLink } from './virtual-link.ts';

/**
 * What the kernel has, as its messages tell it. Links and addresses follow each notification; routes do not, but for
 * those in `host-routes.ts`, because the kernel drops v4 routes without a word when a link goes down or a source address goes (fib_sync_down_dev,
 * fib_sync_down_addr in net/ipv4/fib_semantics.c): whatever may have changed them only makes `routesStale` true, and
 * a new dump then replaces them.
 *
 * The state is mutable and owned by the instance, because hosts hold 10,000 addresses. Bounded by what the kernel has.
 */

/** `${ifIndex} ${ip}/${prefixLength}`: one NIC may have an address more than once, with different prefix lengths. */
export type AddressKey = string & { readonly __brand: 'AddressKey' };

export function addressKey(address: Pick<KernelAddress, 'ifIndex' | 'ip' | 'prefixLength'>): AddressKey {
  return `${address.ifIndex} ${address.ip}/${address.prefixLength}` as AddressKey;
}

/** What a message is about: an address, a link, or all routes together. */
export type Subject = AddressKey | `link ${number}` | 'routes';

/** What may be different after that message. A link that goes takes its addresses and routes along. */
export function subjectsOf(message: NetlinkMessage): readonly Subject[] {
  if (message.kind === 'link') return [linkSubject(message.link), 'routes'];
  if (message.kind === 'address') return [addressKey(message.address), 'routes'];
  return message.kind === 'route' ? ['routes'] : [];
}

export function linkSubject({ index }: Pick<Link, 'index'>): Subject {
  return `link ${index}`;
}

export type Observed = {
  readonly links: ReadonlyMap<IfIndex, Link>;
  readonly addresses: ReadonlyMap<AddressKey, KernelAddress>;
  /** How many of them are of v6. */
  readonly v6Count: number;
  /**
   * The main table's unicast routes that are default routes or have no gateway; one entry for each next hop. Without
   * those over a link of lbd's own, which may be thousands and say nothing of the host.
   */
  readonly routes: readonly KernelRoute[];
  /** The routes that lbd makes over a link of its own. */
  readonly ownRoutes: readonly KernelRoute[];
  /**
   * The routes that the kernel makes over a link of lbd's own for the prefixes of its addresses, without those of one
   * address alone. Undefined while they may have changed since they were last read.
   */
  readonly connectedRoutes: readonly KernelRoute[] | undefined;
  /** The IPv6 addresses of lbd's own link, or without one, for which the kernel has the route to them alone. */
  readonly hostRoutes: ReadonlySet<AddressKey>;
};

/** What is different since the last changes were taken; of several changes of one thing, only the last counts. */
export type ObservedChanges = {
  readonly links: { readonly present: readonly Link[]; readonly gone: readonly Link[] };
  /** How often each link came up or went down, though it may be now as it was before. */
  readonly linkTurns?: ReadonlyMap<IfIndex, number>;
  /** `present` holds new, altered and renewed ones: a renewal differs by its lifetime. */
  readonly addresses: { readonly present: readonly KernelAddress[]; readonly gone: readonly KernelAddress[] };
  readonly routesChanged: boolean;
  /**
   * The netlink ports of those who asked for changes of links, addresses and routes over a link of lbd's own, lbd itself
   * left out; of some the kernel does not tell.
   */
  readonly askedBy?: ReadonlyMap<Subject, number>;
};

/** Everything a dump told, to take the place of what was known. */
export type KernelDump = {
  readonly links: readonly Link[];
  readonly addresses: readonly KernelAddress[];
  readonly routes: readonly KernelRoute[];
};

export class ObservedState implements Observed {
  readonly #ownRouteFilter: RouteFilter | undefined;
  readonly #links = new Map<IfIndex, Link>();
  readonly #addresses = new Map<AddressKey, KernelAddress>();
  #v6Count = 0;
  #routes: readonly KernelRoute[] = [];
  #ownRoutes: readonly KernelRoute[] = [];
  #connectedRoutes: readonly KernelRoute[] = [];
  #connectedPrefixes: ReadonlySet<string> = new Set();
  readonly #hostRoutes = new HostRoutes<AddressKey>();
  /** Nothing has happened since they were last read that may have changed routes. */
  #routesCurrent = true;
  #routesSignature = '';
  #routesStale = false;
  /** As for those over a link of lbd's own: what others change on the host all the time is no matter for these. */
  #ownRoutesStale = false;
  #hasLostRoute = false;
  #routesChanged = false;
  /** What was touched since `takeChanges()`, with the value it last had. */
  #touchedLinks = new Map<IfIndex, Link>();
  #touchedAddresses = new Map<AddressKey, KernelAddress>();
  #askedBy = new Map<Subject, number>();
  #linkTurns = new Map<IfIndex, number>();
  readonly #isOwnPort: (portId: number) => boolean;

  /**
   * `ownRoutes`: the table and protocol of the routes that lbd makes; undefined when it makes none. `isOwnPort`: whether
   * lbd itself asks by that netlink port.
   */
  constructor(ownRoutes?: RouteFilter, isOwnPort: (portId: number) => boolean = () => false) {
    this.#ownRouteFilter = ownRoutes;
    this.#isOwnPort = isOwnPort;
  }

  get links(): ReadonlyMap<IfIndex, Link> {
    return this.#links;
  }

  get addresses(): ReadonlyMap<AddressKey, KernelAddress> {
    return this.#addresses;
  }

  get v6Count(): number {
    return this.#v6Count;
  }

  get routes(): readonly KernelRoute[] {
    return this.#routes;
  }

  get ownRoutes(): readonly KernelRoute[] {
    return this.#ownRoutes;
  }

  get connectedRoutes(): readonly KernelRoute[] | undefined {
    return this.#routesCurrent ? this.#connectedRoutes : undefined;
  }

  get hostRoutes(): ReadonlySet<AddressKey> {
    return this.#hostRoutes.all;
  }

  /** True when something happened that may have changed routes, until `beginRouteDump()`. */
  get routesStale(): boolean {
    return this.#routesStale;
  }

  /** True when a route over a link of lbd's own went, until `beginRouteDump()`: it is to be put back soon. */
  get hasLostRoute(): boolean {
    return this.#hasLostRoute;
  }

  /** From here on the routes are being read: what happens from now on makes them stale anew. */
  beginRouteDump(): void {
    this.#routesAreRead();
    this.#hostRoutes.beginDump();
  }

  /** Takes one message; answers to requests (`ack`, `done`, `overrun`) say nothing about the state. */
  apply(message: NetlinkMessage): void {
    if (message.kind === 'link') {
      this.#noteAsker(linkSubject(message.link), message.portId);
      if (message.event === 'new') this.#setLink(message.link);
      else this.#removeLink(message.link);
    } else if (message.kind === 'address') {
      this.#noteAsker(addressKey(message.address), message.portId);
      if (message.event === 'new') this.#setAddress(this.#asKnown(message.address));
      else this.#removeAddress(message.address);
    } else if (message.kind === 'route') {
      for (const route of message.routes) this.#hearRoute(route, message.event === 'new', message.portId);
    }
  }

  /** The kernel has these addresses, and is yet to tell of them. Returns whether there are any. */
  assume(addresses: readonly KernelAddress[]): boolean {
    for (const address of addresses) this.#setAddress(address);
    return addresses.length > 0;
  }

  #hearRoute(route: KernelRoute, isThere: boolean, portId: number): void {
    if (route.table === RT_TABLE_LOCAL) return isThere ? undefined : this.#loseLocalRoute(route, portId);
    if (this.#isHostRoute(route)) {
      const key = hostRouteKey(route);
      // Of an address that goes, the route goes with it.
      const isNews = this.#hostRoutes.told(key, isThere) && this.#addresses.has(key);
      if (!isNews) return;
      this.#routesChanged = true;
    } else if (this.#isRelevant(route)) {
      this.#routesMayDiffer(this.#isOverOwnLink(route));
      if (!isThere && this.#isOverOwnLink(route)) this.#hasLostRoute = true;
    } else return;
    if (this.#isOverOwnLink(route)) this.#noteAsker('routes', portId);
  }

  /** Only those that somebody deletes are told of, which is rare. */
  #loseLocalRoute({ ifIndex, destination }: KernelRoute, portId: number): void {
    for (const [key, address] of this.#addresses) {
      if (address.ifIndex !== ifIndex || address.ip !== destination.network) continue;
      if (address.protocol !== LBD_PROTOCOL || destination.length !== FAMILY_BITS[familyOf(address.ip)])
        continue;
      this.#setAddress({ ...address, hasLostRoute: true });
      this.#noteAsker(key, portId);
    }
  }

  #noteAsker(subject: Subject, portId: number): void {
    if (portId !== 0 && !this.#isOwnPort(portId)) this.#askedBy.set(subject, portId);
  }

  /**
   * Puts a whole dump in place of what was known; what differs counts as changed, and is returned. Every finite
   * lifetime differs, unless `lifetimesRun`: then it may have got shorter, as it does with time.
   */
  replaceAll(dump: KernelDump, lifetimesRun = false): ReadonlySet<Subject> {
    const differing = new Set<Subject>();
    const links = new Set(dump.links.map((link) => link.index));
    for (const link of [...this.#links.values()]) {
      if (links.has(link.index)) continue;
      differing.add(linkSubject(link));
      this.#removeLink(link);
    }
    for (const link of dump.links) if (this.#setLink(link)) differing.add(linkSubject(link));
    const addresses = new Set(dump.addresses.map(addressKey));
    for (const [key, address] of [...this.#addresses]) {
      if (addresses.has(key)) continue;
      differing.add(key);
      this.#removeAddress(address);
    }
    for (const dumped of dump.addresses) {
      const known = this.#addresses.get(addressKey(dumped));
      // Of what happened in between, a dump tells nothing: without its tag it is lbd's only if it was never away.
      const isSame = known?.addedCs !== undefined && known.addedCs === dumped.addedCs;
      const address = isSame ? this.#asKnown(dumped) : dumped;
      if (known !== undefined && sameAddress(known, address, lifetimesRun)) continue;
      differing.add(addressKey(address));
      this.#setAddress(address);
    }
    this.#routesAreRead();
    if (this.replaceRoutes(dump.routes)) differing.add('routes');
    return differing;
  }

  /** Returns whether they differ from what was known. */
  replaceRoutes(routes: readonly KernelRoute[]): boolean {
    // Whoever waits to know looks again, also when it is as it was when they were last read.
    if (!this.#routesCurrent && !this.#ownRoutesStale) this.#routesChanged = true;
    this.#routesCurrent = !this.#ownRoutesStale;
    const hosts = routes.filter((route) => this.#isHostRoute(route)).map(hostRouteKey);
    const areOthers = this.#hostRoutes.replace(hosts);
    if (areOthers) this.#routesChanged = true;
    const relevant = routes.filter((route) => this.#isRelevant(route));
    const signature = relevant.map(routeSignature).sort().join('\n');
    if (signature === this.#routesSignature) return areOthers;
    this.#routes = relevant.filter((route) => !this.#isOverOwnLink(route));
    this.#connectedRoutes = relevant.filter((route) => this.#isConnected(route));
    this.#connectedPrefixes = new Set(
      this.#connectedRoutes.map(({ destination }) => formatPrefix(destination)),
    );
    this.#ownRoutes = relevant.filter((route) => this.#isOwn(route));
    this.#routesSignature = signature;
    this.#routesChanged = true;
    return true;
  }

  /** The changes since the last call, or undefined when there are none. */
  takeChanges(): ObservedChanges | undefined {
    const routesChanged = this.#routesChanged;
    if (this.#touchedLinks.size === 0 && this.#touchedAddresses.size === 0 && !routesChanged)
      return undefined;
    const links = partition(this.#touchedLinks, this.#links);
    const addresses = partition(this.#touchedAddresses, this.#addresses);
    this.#touchedLinks = new Map();
    const askedBy = this.#askedBy;
    this.#touchedAddresses = new Map();
    this.#askedBy = new Map();
    // Whoever changed routes is told with the change, once they have been read.
    const routesBy = routesChanged ? undefined : askedBy.get('routes');
    if (routesBy !== undefined) this.#askedBy.set('routes', routesBy);
    this.#routesChanged = false;
    const linkTurns = this.#linkTurns;
    this.#linkTurns = new Map();
    const changes = { links, addresses, routesChanged };
    return {
      ...changes,
      ...(askedBy.size === 0 ? {} : { askedBy }),
      ...(linkTurns.size === 0 ? {} : { linkTurns }),
    };
  }

  #isRelevant(route: KernelRoute): boolean {
    if (!this.#isOverOwnLink(route)) return saysOfHost(route);
    return this.#isOwn(route) || this.#isConnected(route);
  }

  #isConnected(route: KernelRoute): boolean {
    const { family, destination, protocol } = route;
    if (protocol !== RTPROT_KERNEL || destination.length === FAMILY_BITS[family]) return false;
    return saysOfHost(route) && this.#isOverOwnLink(route);
  }

  /** The route of one IPv6 address that stands alone on lbd's link, as the kernel makes it. */
  #isHostRoute(route: KernelRoute): boolean {
    const { family, destination, protocol } = route;
    if (family !== 'v6' || protocol !== RTPROT_KERNEL || destination.length !== FAMILY_BITS.v6) return false;
    return saysOfHost(route) && this.#isOverOwnLink(route);
  }

  /** `ofOwn`: also those over a link of lbd's own. */
  #routesMayDiffer(ofOwn: boolean): void {
    this.#routesStale = true;
    if (!ofOwn) return;
    this.#ownRoutesStale = true;
    this.#routesCurrent = false;
  }

  #routesAreRead(): void {
    this.#routesStale = false;
    this.#ownRoutesStale = false;
    this.#hasLostRoute = false;
  }

  #isOwn(route: KernelRoute): boolean {
    const own = this.#ownRouteFilter;
    if (own === undefined || route.protocol !== own.protocol) return false;
    if (own.table !== ALL_TABLES && own.table !== route.table) return false;
    return this.#isOverOwnLink(route);
  }

  #isOverOwnLink({ ifIndex }: Pick<KernelRoute, 'ifIndex'>): boolean {
    const link = ifIndex === undefined ? undefined : this.#links.get(ifIndex);
    return link !== undefined && isVirtualLink(link);
  }

  /** Returns whether that is news. */
  #setLink(told: Link): boolean {
    const known = this.#links.get(told.index);
    const link = asKnownLink(told, known);
    if (known !== undefined && sameLink(known, link)) return false;
    // Going down or losing the carrier takes routes along.
    if (known !== undefined && known.flags !== link.flags) this.#routesMayDiffer(isVirtualLink(link));
    if (known !== undefined && isLinkUp(known) !== isLinkUp(link))
      this.#linkTurns.set(link.index, (this.#linkTurns.get(link.index) ?? 0) + 1);
    this.#links.set(link.index, link);
    this.#touchedLinks.set(link.index, link);
    return true;
  }

  #removeLink(link: Link): void {
    if (!this.#links.delete(link.index)) return;
    this.#touchedLinks.set(link.index, link);
    this.#routesMayDiffer(isVirtualLink(link));
    for (const address of [...this.#addresses.values()]) {
      if (address.ifIndex === link.index) this.#removeAddress(address);
    }
  }

  #setAddress(address: KernelAddress): void {
    const key = addressKey(address);
    if (familyOf(address.ip) === 'v6' && !this.#addresses.has(key)) this.#v6Count += 1;
    this.#addresses.set(key, address);
    this.#touchedAddresses.set(key, address);
    if (!this.#ownRoutesStale && this.#bringsRoute(address)) this.#routesMayDiffer(true);
  }

  /** The kernel tells of an address of lbd's link first, and then of the route that it made for it. */
  #bringsRoute({ ifIndex, ip, prefixLength, flags }: KernelAddress): boolean {
    if (prefixLength === FAMILY_BITS[familyOf(ip)] || !this.#isOverOwnLink({ ifIndex })) return false;
    if ((flags & IFA_F_NOPREFIXROUTE) !== 0 || (familyOf(ip) === 'v4' && (flags & IFA_F_SECONDARY) !== 0))
      return false;
    return !this.#connectedPrefixes.has(formatPrefix(prefixOf(ip, prefixLength)));
  }

  /**
   * Whoever changes an address without naming a tag takes its tag off (`ip addr change`; inet_rtm_newaddr in
   * net/ipv4/devinet.c, inet6_addr_modify in net/ipv6/addrconf.c). It is the same address all the same, and still lbd's
   * to put right; one that somebody else puts there was gone before.
   */
  #asKnown(address: KernelAddress): KernelAddress {
    const known = this.#addresses.get(addressKey(address));
    if (known?.protocol !== LBD_PROTOCOL || (address.protocol ?? LBD_PROTOCOL) !== LBD_PROTOCOL)
      return address;
    // A renewal brings no route.
    const told = known.hasLostRoute === true ? { ...address, hasLostRoute: true as const } : address;
    return told.protocol === undefined ? { ...told, protocol: LBD_PROTOCOL, hasLostTag: true } : told;
  }

  /**
   * Of the route of an aggregate, which the kernel takes away with it and tells nobody (fib_sync_down_addr in
   * net/ipv4/fib_semantics.c). lbd's other addresses are no route's source, and they may be thousands.
   */
  #mayBeSource({ ifIndex, ip, prefixLength }: KernelAddress): boolean {
    return familyOf(ip) === 'v4' && prefixLength < FAMILY_BITS.v4 && this.#isOverOwnLink({ ifIndex });
  }

  #removeAddress(address: KernelAddress): void {
    const key = addressKey(address);
    if (!this.#addresses.delete(key)) return;
    if (familyOf(address.ip) === 'v6') this.#v6Count -= 1;
    this.#touchedAddresses.set(key, address);
    if (address.protocol !== LBD_PROTOCOL || this.#mayBeSource(address))
      this.#routesMayDiffer(this.#isOverOwnLink(address));
  }
}

/**
 * A link of lbd's stays that with another MAC (`ip link set address`), to be given its own again; one of somebody else's
 * has another index.
 */
function asKnownLink(link: Link, known: Link | undefined): Link {
  if (known === undefined || !isVirtualLink(known) || isVirtualLink(link)) return link;
  return link.kind === known.kind ? { ...link, mac: known.mac, hasLostMark: true } : link;
}

/** Which of the touched are there now, and which are not. */
function partition<Key, Value>(
  touched: ReadonlyMap<Key, Value>,
  current: ReadonlyMap<Key, Value>,
): { readonly present: readonly Value[]; readonly gone: readonly Value[] } {
  const present: Value[] = [];
  const gone: Value[] = [];
  for (const [key, last] of touched) {
    const now = current.get(key);
    if (now === undefined) gone.push(last);
    else present.push(now);
  }
  return { present, gone };
}

function hostRouteKey({ ifIndex, destination }: KernelRoute): AddressKey {
  return `${ifIndex} ${destination.network}/${destination.length}` as AddressKey;
}

/** Whether it may be a default route, or that of a subnet. */
function saysOfHost(route: KernelRoute): boolean {
  if (route.table !== RT_TABLE_MAIN || route.type !== RTN_UNICAST) return false;
  return route.destination.length === 0 || route.gateway === undefined;
}

function routeSignature(route: KernelRoute): string {
  const { destination, gateway, ifIndex, metric, protocol, table } = route;
  return `${formatPrefix(destination)} via ${gateway} dev ${ifIndex} metric ${metric} proto ${protocol} table ${table}`;
}

function sameLink(left: Link, right: Link): boolean {
  return (
    left.name === right.name &&
    left.flags === right.flags &&
    left.type === right.type &&
    left.mac === right.mac &&
    left.hasLostMark === right.hasLostMark &&
    left.master === right.master &&
    left.kind === right.kind
  );
}

function sameAddress(before: KernelAddress, now: KernelAddress, lifetimesRun: boolean): boolean {
  const isSameLifetime = (then: number, left: number) =>
    then === left || (lifetimesRun && Number.isFinite(then) && left > 0 && left < then);
  return (
    before.flags === now.flags &&
    before.scope === now.scope &&
    before.protocol === now.protocol &&
    before.hasLostTag === now.hasLostTag &&
    before.hasLostRoute === now.hasLostRoute &&
    isSameLifetime(before.preferredSeconds, now.preferredSeconds) &&
    isSameLifetime(before.validSeconds, now.validSeconds)
  );
}
