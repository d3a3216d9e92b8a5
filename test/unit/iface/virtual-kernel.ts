import assert from 'node:assert/strict';
import {
  IFA_F_SECONDARY,
  IFF_UP,
  RT_SCOPE_LINK,
  RT_TABLE_MAIN,
  RTPROT_KERNEL,
} from '../../../src/iface/netlink-constants.ts';
import { isAddressRequest, isRouteRequest } from '../../../src/iface/netlink-requests.ts';
import { type AddressKey, addressKey, type Observed } from '../../../src/iface/observed.ts';
import type {
  AddressRequest,
  IfIndex,
  KernelAddress,
  KernelRequest,
  KernelRoute,
  Link,
  LinkRequest,
  Mac,
  RouteRequest,
} from '../../../src/iface/types.ts';
import type { VirtualOutcome } from '../../../src/iface/virtual-addresses.ts';
import {
  FAMILY_BITS,
  type Family,
  familyOf,
  formatPrefix,
  type Ip,
  type Prefix,
  prefixOf,
} from '../../../src/lib/ip.ts';
import { link } from '../../support/fake-host.ts';

/**
 * As much of Linux as virtual addresses meet: links by name, v4 addresses with a primary one for each subnet, v6 addresses
 * that are on a link once, connected routes, routes of a table. What is wrong here shows in test/netns/virtual.test.ts.
 */
export class VirtualKernel implements Observed {
  readonly links = new Map<IfIndex, Link>();
  readonly addresses = new Map<AddressKey, KernelAddress>();
  ownRoutes: KernelRoute[] = [];
  /** Routes of prefixes that somebody took away. */
  readonly lostRoutes = new Set<string>();
  routesKnown = true;
  readonly v6Count = 0;
  readonly routes = [];
  /** Kinds of links that it does not know. */
  readonly missing = new Set<string>();
  /** Without one family, as with `ipv6.disable=1`. */
  readonly missingFamilies = new Set<Family>();
  /** Of links that were configured. */
  readonly promotes = new Set<IfIndex>();
  /** By kind of request. */
  readonly errors = new Map<KernelRequest['kind'], string>();
  readonly asked: KernelRequest[] = [];
  /** Addresses that a request of ours removed, in order. */
  promotions = 0;
  #nextIndex = 10;

  addLink(name: string, kind: string | undefined, mac: string, change: Partial<Link> = {}): Link {
    const index = this.#nextIndex as IfIndex;
    this.#nextIndex += 1;
    const added = link(index, name, { flags: 0, mac: mac as Mac, kind, ...change });
    this.links.set(index, added);
    return added;
  }

  deleteLink(index: IfIndex): void {
    this.links.delete(index);
    for (const [key, address] of this.addresses) if (address.ifIndex === index) this.addresses.delete(key);
    this.ownRoutes = this.ownRoutes.filter(({ ifIndex }) => ifIndex !== index);
  }

  linkOf(name: string): Link | undefined {
    return [...this.links.values()].find((link) => link.name === name);
  }

  setFlags(index: IfIndex, flags: number): void {
    const link = this.links.get(index);
    if (link === undefined) return;
    this.links.set(index, { ...link, flags });
    if ((flags & IFF_UP) !== 0) return;
    this.ownRoutes = this.ownRoutes.filter(({ ifIndex }) => ifIndex !== index);
    for (const [key, { ifIndex, ip }] of this.addresses)
      if (ifIndex === index && familyOf(ip) === 'v6') this.addresses.delete(key);
  }

  put(address: KernelAddress): void {
    this.addresses.set(addressKey(address), this.#withRank(address));
    const { ip, prefixLength, ifIndex } = address;
    // A new subnet's first address brings its route anew.
    const route = formatPrefix(prefixOf(ip, prefixLength));
    if (
      this.on(ifIndex).filter((other) => formatPrefix(prefixOf(other.ip, other.prefixLength)) === route)
        .length === 1
    )
      this.lostRoutes.delete(route);
  }

  on(index: IfIndex): readonly KernelAddress[] {
    return [...this.addresses.values()].filter(({ ifIndex }) => ifIndex === index);
  }

  /** What `ip route` shows of the link, as a routing daemon sees it. */
  connected(index: IfIndex): readonly string[] {
    const routes = this.on(index).map(({ ip, prefixLength }) => formatPrefix(prefixOf(ip, prefixLength)));
    return [...new Set(routes)].filter((text) => !this.lostRoutes.has(text)).sort();
  }

  get connectedRoutes(): readonly KernelRoute[] | undefined {
    if (!this.routesKnown) return undefined;
    return [...this.links.keys()].flatMap((ifIndex) =>
      this.connected(ifIndex)
        .map(prefix)
        .filter(({ network, length }) => length < FAMILY_BITS[familyOf(network)])
        .map((destination) => ({
          family: familyOf(destination.network),
          destination,
          gateway: undefined,
          ifIndex,
          metric: 0,
          table: RT_TABLE_MAIN,
          protocol: RTPROT_KERNEL,
          type: 1,
        })),
    );
  }

  get hostRoutes(): ReadonlySet<AddressKey> {
    const alone = [...this.addresses.values()].filter(
      ({ ip, prefixLength }) => familyOf(ip) === 'v6' && prefixLength === FAMILY_BITS.v6,
    );
    return new Set(alone.filter(({ ip }) => !this.lostRoutes.has(`${ip}/${FAMILY_BITS.v6}`)).map(addressKey));
  }

  apply(requests: readonly KernelRequest[]): readonly VirtualOutcome[] {
    return requests.map((request) => {
      this.asked.push(request);
      const errno = this.errors.get(request.kind) ?? this.#applyOne(request);
      if (errno === undefined) return { ok: true, request };
      return { ok: false, request, errno, message: `${request.kind}: ${errno}` };
    });
  }

  #applyOne(request: KernelRequest): string | undefined {
    if (isAddressRequest(request)) return this.#applyAddress(request);
    return isRouteRequest(request) ? this.#applyRoute(request) : this.#applyLink(request);
  }

  #applyLink(request: LinkRequest): string | undefined {
    if (request.kind === 'create-link') {
      if (this.missing.has(request.type)) return 'EOPNOTSUPP';
      if (this.linkOf(request.name) !== undefined) return 'EEXIST';
      this.addLink(request.name, request.type, request.mac);
      return undefined;
    }
    if (!this.links.has(request.ifIndex)) return 'ENODEV';
    if (request.kind === 'configure-link') {
      if (this.missingFamilies.has(request.family)) return 'EAFNOSUPPORT';
      if (request.family === 'v4') this.promotes.add(request.ifIndex);
    }
    if (request.kind === 'delete-link') this.deleteLink(request.ifIndex);
    if (request.kind === 'mark-link') this.#mark(request.ifIndex, request.mac);
    if (request.kind === 'raise-link') this.setFlags(request.ifIndex, IFF_UP);
    return undefined;
  }

  #mark(index: IfIndex, mac: Mac): void {
    const { hasLostMark, ...known } = this.links.get(index) ?? assert.fail();
    assert.equal(mac, known.mac);
    if (hasLostMark) this.links.set(index, known);
  }

  #applyAddress(request: AddressRequest): string | undefined {
    const { ifIndex, ip, prefixLength } = request;
    if (!this.links.has(ifIndex)) return 'ENODEV';
    const key = addressKey(request);
    const known = this.addresses.get(key);
    if (request.kind === 'delete') {
      if (known === undefined) return 'EADDRNOTAVAIL';
      this.addresses.delete(key);
      this.#promote(known);
      return undefined;
    }
    const v6 = familyOf(ip) === 'v6';
    const isElsewhere = this.on(ifIndex).some(
      (other) => other.ip === ip && other.prefixLength !== prefixLength,
    );
    if ((known !== undefined && request.kind === 'add') || (v6 && isElsewhere)) return 'EEXIST';
    if (!v6 && this.#subnetOf(request).some(({ scope }) => scope !== request.scope)) return 'EINVAL';
    const { scope, flags, preferredSeconds, validSeconds, protocol } = request;
    const kept = v6 ? undefined : known;
    const fresh = { ifIndex, ip, prefixLength, scope: kept?.scope ?? scope, flags: kept?.flags ?? flags };
    this.put({ ...fresh, protocol, preferredSeconds, validSeconds });
    return undefined;
  }

  #applyRoute({ kind, ifIndex, destination, table, protocol, source }: RouteRequest): string | undefined {
    if (((this.links.get(ifIndex)?.flags ?? 0) & IFF_UP) === 0) return 'ENETDOWN';
    if (protocol === RTPROT_KERNEL) {
      if (source !== undefined && !this.on(ifIndex).some(({ ip }) => ip === source)) return 'EINVAL';
      return this.lostRoutes.delete(formatPrefix(destination)) ? undefined : 'EEXIST';
    }
    const isSame = (route: KernelRoute) =>
      route.table === table && formatPrefix(route.destination) === formatPrefix(destination);
    const isKnown = this.ownRoutes.some(isSame);
    if (kind === 'delete-route') {
      this.ownRoutes = this.ownRoutes.filter((route) => !isSame(route));
      return isKnown ? undefined : 'ESRCH';
    }
    if (isKnown) return 'EEXIST';
    const family = familyOf(destination.network);
    const route = { family, destination, gateway: undefined, ifIndex, metric: 0, table, protocol, type: 1 };
    this.ownRoutes = [...this.ownRoutes, route];
    return undefined;
  }

  #withRank(address: KernelAddress): KernelAddress {
    if (familyOf(address.ip) === 'v6' || address.prefixLength === FAMILY_BITS.v4) return address;
    const others = this.#subnetOf(address).filter((other) => addressKey(other) !== addressKey(address));
    const hasPrimary = others.some(({ flags }) => (flags & IFA_F_SECONDARY) === 0);
    const flags = address.flags & ~IFA_F_SECONDARY;
    return { ...address, flags: hasPrimary ? flags | IFA_F_SECONDARY : flags };
  }

  /** With promote_secondaries, which lbd sets on its link. */
  #promote(gone: KernelAddress): void {
    if (familyOf(gone.ip) === 'v6' || (gone.flags & IFA_F_SECONDARY) !== 0) return;
    const [first] = this.#subnetOf(gone);
    if (first === undefined) return;
    this.promotions += 1;
    this.addresses.set(addressKey(first), { ...first, flags: first.flags & ~IFA_F_SECONDARY });
  }

  #subnetOf({
    ifIndex,
    ip,
    prefixLength,
  }: Pick<KernelAddress, 'ifIndex' | 'ip' | 'prefixLength'>): KernelAddress[] {
    if (prefixLength === FAMILY_BITS[familyOf(ip)]) return [];
    const subnet = formatPrefix(prefixOf(ip, prefixLength));
    return this.on(ifIndex).filter(
      (other) =>
        familyOf(other.ip) === familyOf(ip) &&
        other.prefixLength === prefixLength &&
        formatPrefix(prefixOf(other.ip, prefixLength)) === subnet,
    );
  }
}

export function prefix(text: string): Prefix {
  const [network = '', length = ''] = text.split('/');
  return { network: network as Ip, length: Number(length) };
}

/** An address that somebody else put there. */
export function foreignAddress(ifIndex: IfIndex, text: string): KernelAddress {
  const { network: ip, length: prefixLength } = prefix(text);
  const forever = Number.POSITIVE_INFINITY;
  return {
    ifIndex,
    ip,
    prefixLength,
    scope: RT_SCOPE_LINK,
    flags: 0,
    protocol: undefined,
    preferredSeconds: forever,
    validSeconds: forever,
  };
}
