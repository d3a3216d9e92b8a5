import {
  FAMILY_BITS,
  type Family,
  familyOf,
  formatPrefix,
  type Ip,
  type Prefix,
  prefixContains,
  prefixOf,
} from '../lib/ip.ts';
import { LINK_LOCAL } from './host-subnets.ts';
import {
  IFA_F_NODAD,
  IFA_F_NOPREFIXROUTE,
  IFA_F_SECONDARY,
  IFF_UP,
  RT_SCOPE_LINK,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_MAIN,
  RTPROT_KERNEL,
} from './netlink-constants.ts';
import type { AddressKey, Observed } from './observed.ts';
import {
  type AddressRequest,
  type IfIndex,
  type KernelAddress,
  type KernelRequest,
  LBD_PROTOCOL,
  type Link,
  type LinkRequest,
  type RouteRequest,
} from './types.ts';
import { isVirtualLink, strangerReason, type VirtualLinkType, virtualMac } from './virtual-link.ts';
import type { DesiredVirtual, VirtualSettings } from './virtual-types.ts';

/**
 * The virtual addresses of one host: what the kernel has to be asked so that it has what is wanted. Pure and whole: the
 * same state of the kernel gives the same requests, and none when it is as it should be.
 *
 * Each address is permanent, because virtual addresses harm nobody when they outlive their daemon (safety rule 10), and
 * has its route's prefix length, so that the kernel makes one connected route for all addresses of an aggregate and
 * removes it with the last; somebody else may remove it before. With routes of lbd's own, addresses are /32 and /128 without a route, and lbd makes them.
 *
 * v4 keeps the first address of an aggregate as its primary one and the others as secondary. Removing the primary makes
 * another one primary, at a cost that grows with their number (85 µs each, Linux 6.18): secondary ones are removed first.
 */

/** The metric of a prefix's route (net/ipv6/addrconf.c, include/uapi/linux/ipv6_route.h). */
const IP6_RT_PRIO_ADDRCONF = 256;

export type VirtualInput = {
  readonly settings: VirtualSettings;
  /** What to make when there is no link. */
  readonly type: VirtualLinkType;
  readonly desired: ReadonlyMap<Ip, DesiredVirtual>;
  /** Whether an address of ours that is not in `desired` is to go. */
  readonly isComplete: boolean;
  /** Whether an address is known to be local to some host: it goes, also when the list is not complete. */
  readonly isLocal: (ip: Ip) => boolean;
  readonly observed: Observed;
  readonly isOurs: (address: KernelAddress) => boolean;
  /** Whether this kernel keeps IFA_PROTO. */
  readonly kernelTags: boolean;
};

export type LinkState =
  /** Lbd's own, and as it is configured. */
  | { readonly kind: 'ready'; readonly link: Link }
  | { readonly kind: 'missing' }
  /** Lbd's own, but made for another configuration. */
  | { readonly kind: 'outdated'; readonly link: Link }
  /** Somebody else's; or lbd's own which cannot be removed. */
  | { readonly kind: 'obstructed'; readonly reason: string };

export type VirtualPlan = {
  readonly link: LinkState;
  /** In an order in which nothing is announced before it works, or works no more while it is announced. */
  readonly requests: readonly KernelRequest[];
  /** Addresses that are in the kernel, at most with another prefix length than they should have. */
  readonly present: ReadonlySet<Ip>;
  /** Of the routes that lbd makes itself, as text: those that are wanted and there. */
  readonly routes: ReadonlySet<string>;
};

export function planVirtual(input: VirtualInput): VirtualPlan {
  const link = findLink(input);
  const own = [...input.observed.links.values()].filter(isVirtualLink);
  const others = own.filter(({ name }) => name !== input.settings.interface);
  const requests: KernelRequest[] = others.flatMap((other) =>
    occupantOf(other, input) === undefined ? [{ kind: 'delete-link', ifIndex: other.index }] : [],
  );
  if (link.kind === 'ready') return planAddresses(link.link, input, requests);
  if (link.kind === 'outdated') requests.push({ kind: 'delete-link', ifIndex: link.link.index });
  const isNeeded = input.desired.values().some(({ standing }) => standing === 'here');
  if (link.kind !== 'obstructed' && isNeeded) {
    const { interface: name, routes } = input.settings;
    requests.push({ kind: 'create-link', name, type: input.type, mac: virtualMac(routes) });
  }
  return { link, requests, present: new Set(), routes: new Set() };
}

/** Everything of ours away, the link with all that is on it. */
export function planRemoval(
  input: Omit<VirtualInput, 'desired' | 'isComplete' | 'isLocal'>,
): readonly KernelRequest[] {
  return [...input.observed.links.values()].filter(isVirtualLink).flatMap((link) => {
    if (occupantOf(link, input) === undefined) return [{ kind: 'delete-link', ifIndex: link.index }];
    const plan = planAddresses(link, { ...input, ...NOTHING_WANTED }, []);
    return [...plan.requests];
  });
}

const NOTHING_WANTED = { desired: new Map(), isComplete: true, isLocal: () => true };

function findLink(input: VirtualInput): LinkState {
  const { settings, observed } = input;
  const link = [...observed.links.values()].find(({ name }) => name === settings.interface);
  if (link === undefined) return { kind: 'missing' };
  if (!isVirtualLink(link)) return { kind: 'obstructed', reason: strangerReason(link) };
  const isOfType = settings.type === 'auto' || settings.type === link.kind;
  if (isOfType && link.mac === virtualMac(settings.routes)) return { kind: 'ready', link };
  const occupant = occupantOf(link, input);
  if (occupant === undefined) return { kind: 'outdated', link };
  const reason = `${link.name} has to be made anew for the changed [virtual], but ${occupant} is on it and was not put there by lbd`;
  return { kind: 'obstructed', reason };
}

/** What somebody else put on a link of ours, which therefore cannot go. */
export function occupantOf(
  link: Pick<Link, 'index'>,
  { observed, isOurs }: Pick<VirtualInput, 'observed' | 'isOurs'>,
): string | undefined {
  for (const { name, master } of observed.links.values()) if (master === link.index) return name;
  for (const address of observed.addresses.values()) {
    if (address.ifIndex !== link.index || isOurs(address)) continue;
    if (prefixContains(LINK_LOCAL, address.ip)) continue;
    return `${address.ip}/${address.prefixLength}`;
  }
  return undefined;
}

type RoutePlan = { readonly requests: readonly RouteRequest[]; readonly present: ReadonlySet<string> };

/** An address with the route that it brings, as it is in the kernel. */
type Routed = Pick<DesiredVirtual, 'ip' | 'route'>;

type Changes = {
  readonly removals: KernelAddress[];
  /** Present with another prefix length than wanted. */
  readonly moves: KernelAddress[];
  readonly alterations: AddressRequest[];
  readonly present: Set<Ip>;
  /** Of ours and in nobody's list, which may be incomplete. */
  readonly kept: Ip[];
  /** By prefix: an address of it for which the kernel made the route, and that stays. */
  readonly connected: Map<string, Routed>;
  /** Alone, and the kernel has no more the route that it made for it. */
  readonly unrouted: Routed[];
};

function planAddresses(link: Link, input: VirtualInput, before: readonly KernelRequest[]): VirtualPlan {
  const { desired } = input;
  const changes = compare(link, input);
  const { removals, moves, alterations, present } = changes;
  const toRemove = removals.sort(secondaryFirst);
  const toMove = moves.sort(secondaryFirst);
  const settled = new Set([...present, ...[...moves, ...alterations].map(({ ip }) => ip)]);
  const additions: AddressRequest[] = [];
  for (const wanted of desired.values()) {
    if (wanted.standing !== 'here' || settled.has(wanted.ip)) continue;
    additions.push(addressRequest('add', link.index, wanted, input.settings));
  }
  const { requests: routes, present: ownRoutes } = planRoutes(link, input, changes);
  const needsPromotion = [...toRemove, ...toMove].some(isPrimary);
  const isUp = (link.flags & IFF_UP) !== 0;
  const requests: readonly KernelRequest[] = [
    ...before,
    ...(link.hasLostMark === true ? [markOf(link, input)] : []),
    ...(isUp && !needsPromotion ? [] : [configuration(link, 'v4')]),
    ...(isUp ? [] : [configuration(link, 'v6'), { kind: 'raise-link' as const, ifIndex: link.index }]),
    ...routes.filter(({ kind }) => kind === 'delete-route'),
    ...toRemove.map(deletionOf),
    ...toMove.flatMap((address) => moveOf(address, input)),
    ...alterations,
    ...additions,
    ...routes.filter(({ kind }) => kind === 'add-route'),
  ];
  for (const { ip } of moves) present.add(ip);
  return { link: { kind: 'ready', link }, requests, present, routes: ownRoutes };
}

function markOf({ index }: Link, { settings }: VirtualInput): LinkRequest {
  return { kind: 'mark-link', ifIndex: index, mac: virtualMac(settings.routes) };
}

function configuration({ index }: Link, family: Family): LinkRequest {
  return { kind: 'configure-link', ifIndex: index, family };
}

function compare(link: Link, input: VirtualInput): Changes {
  const { desired, isComplete, settings } = input;
  const changes: Changes = {
    removals: [],
    moves: [],
    alterations: [],
    present: new Set(),
    kept: [],
    connected: new Map(),
    unrouted: [],
  };
  const misplaced: KernelAddress[] = [];
  for (const [key, address] of input.observed.addresses) {
    if (address.ifIndex !== link.index) continue;
    const wanted = desired.get(address.ip);
    const isOurs = input.isOurs(address);
    if (wanted === undefined || !mayStay(wanted)) {
      if (!isOurs) continue;
      if (isComplete || wanted !== undefined || input.isLocal(address.ip)) changes.removals.push(address);
      else changes.kept.push(address.ip);
      continue;
    }
    const isMisplaced = address.prefixLength !== prefixLengthOf(wanted, settings);
    if (!isMisplaced && isAsMeant(address, input)) {
      changes.present.add(address.ip);
      noteRoute(changes, key, address, input);
    } else if (wanted.standing !== 'here') {
      // It stays as it is, also under another aggregate, until it is known that the address belongs here.
      if (!isOurs) continue;
      changes.present.add(address.ip);
      noteRoute(changes, key, address, input);
      changes.alterations.push(...rescoping(address, wanted, settings));
    } else if (!isMisplaced) changes.alterations.push(...alteration(address, wanted, settings));
    else if (isOurs) misplaced.push(address);
  }
  // A v4 address on its way to another prefix length can be there with both.
  for (const address of misplaced) {
    const isMoved = changes.present.has(address.ip);
    (isMoved ? changes.removals : changes.moves).push(address);
  }
  return changes;
}

/** The kernel's routes go by what an address is, not by what it should be. */
function noteRoute(
  changes: Changes,
  key: AddressKey,
  address: KernelAddress,
  { observed }: VirtualInput,
): void {
  const { ip, prefixLength } = address;
  const routed = () => ({ ip, route: prefixOf(ip, prefixLength) });
  if (bringsRoute(address)) changes.connected.set(formatPrefix(routed().route), routed());
  else if (bringsHostRoute(address) && !observed.hostRoutes.has(key)) changes.unrouted.push(routed());
}

function mayStay({ standing }: DesiredVirtual): boolean {
  return standing === 'here' || standing === 'unknown' || standing === 'kept';
}

/** Whether everything but the prefix length is as lbd gives it. */
function isAsMeant(address: KernelAddress, { settings, kernelTags }: VirtualInput): boolean {
  const v6 = familyOf(address.ip) === 'v6';
  if (address.validSeconds !== Number.POSITIVE_INFINITY || address.hasLostRoute === true) return false;
  if (address.preferredSeconds !== (v6 ? 0 : Number.POSITIVE_INFINITY)) return false;
  if (!v6 && address.scope !== RT_SCOPE_LINK) return false;
  if (hasOwnRoute(address) !== (settings.routes === undefined)) return false;
  return !kernelTags || (address.protocol === LBD_PROTOCOL && address.hasLostTag !== true);
}

function hasOwnRoute({ flags }: KernelAddress): boolean {
  return (flags & IFA_F_NOPREFIXROUTE) === 0;
}

/** The scope of a v4 address stays as it is for its life, and so do its flags. */
function alteration(
  address: KernelAddress,
  wanted: DesiredVirtual,
  settings: VirtualSettings,
): readonly AddressRequest[] {
  const { ifIndex, ip, scope } = address;
  if (address.hasLostRoute === true) return anew(address, wanted, settings);
  if (
    familyOf(ip) === 'v6' ||
    (scope === RT_SCOPE_LINK && hasOwnRoute(address) === (settings.routes === undefined))
  )
    return [addressRequest('replace', ifIndex, wanted, settings)];
  return anew(address, wanted, settings);
}

/**
 * Somebody changed the scope of an address that stays as it is: no other of its subnet could be added beside it (EINVAL of
 * __inet_insert_ifa in net/ipv4/devinet.c).
 */
function rescoping(
  address: KernelAddress,
  wanted: DesiredVirtual,
  settings: VirtualSettings,
): readonly AddressRequest[] {
  const { ip, scope, hasLostRoute } = address;
  const isRight = familyOf(ip) === 'v6' || scope === RT_SCOPE_LINK;
  return isRight && hasLostRoute !== true ? [] : anew(address, wanted, settings);
}

/** Away and back, with the prefix length that it has. */
function anew(
  address: KernelAddress,
  wanted: DesiredVirtual,
  settings: VirtualSettings,
): readonly AddressRequest[] {
  const { ifIndex, prefixLength } = address;
  return [deletionOf(address), { ...addressRequest('add', ifIndex, wanted, settings), prefixLength }];
}

/** v4 can have an address with both prefix lengths, so that it is never absent; v6 cannot. */
function moveOf(address: KernelAddress, input: VirtualInput): readonly AddressRequest[] {
  const wanted = input.desired.get(address.ip);
  if (wanted === undefined) return [];
  const addition = addressRequest('replace', address.ifIndex, wanted, input.settings);
  const deletion = deletionOf(address);
  return familyOf(address.ip) === 'v4' ? [addition, deletion] : [deletion, addition];
}

function deletionOf({ ifIndex, ip, prefixLength }: KernelAddress): AddressRequest {
  return { kind: 'delete', ifIndex, ip, prefixLength };
}

function isPrimary({ ip, prefixLength, flags }: KernelAddress): boolean {
  return familyOf(ip) === 'v4' && prefixLength < FAMILY_BITS.v4 && (flags & IFA_F_SECONDARY) === 0;
}

/** Whether the kernel made a route for this address, which may be that of others as well. */
function bringsRoute(address: KernelAddress): boolean {
  if (familyOf(address.ip) === 'v4') return isPrimary(address) && hasOwnRoute(address);
  return address.prefixLength < FAMILY_BITS.v6 && hasOwnRoute(address);
}

/** Whether the kernel made a route for this address alone, which it does for v6. */
function bringsHostRoute(address: KernelAddress): boolean {
  const { ip, prefixLength } = address;
  return familyOf(ip) === 'v6' && prefixLength === FAMILY_BITS.v6 && hasOwnRoute(address);
}

function secondaryFirst(left: KernelAddress, right: KernelAddress): number {
  return Number(isPrimary(left)) - Number(isPrimary(right));
}

/** With which prefix length the address goes into the kernel. */
export function prefixLengthOf({ ip, route }: DesiredVirtual, settings: VirtualSettings): number {
  return settings.routes === undefined ? route.length : FAMILY_BITS[familyOf(ip)];
}

/**
 * v4 with the scope of the link, so that a host without an address of its own does not come to use it as a source
 * (inet_select_addr in net/ipv4/devinet.c); v6 without kernel DAD and with a preferred lifetime of 0, for the same.
 */
function addressRequest(
  kind: 'add' | 'replace',
  ifIndex: IfIndex,
  wanted: DesiredVirtual,
  settings: VirtualSettings,
): AddressRequest {
  const v6 = familyOf(wanted.ip) === 'v6';
  return {
    kind,
    ifIndex,
    ip: wanted.ip,
    prefixLength: prefixLengthOf(wanted, settings),
    scope: v6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
    flags: (settings.routes === undefined ? 0 : IFA_F_NOPREFIXROUTE) | (v6 ? IFA_F_NODAD : 0),
    preferredSeconds: v6 ? 0 : Number.POSITIVE_INFINITY,
    validSeconds: Number.POSITIVE_INFINITY,
    protocol: LBD_PROTOCOL,
  };
}

/**
 * Routes that the kernel made with an address and that are gone though the address is not: as the kernel makes them, so
 * that it takes them away with the last address of their prefix, which it finds by protocol, scope and source
 * (fib_del_ifaddr in net/ipv4/fib_frontend.c, cleanup_prefix_route in net/ipv6/addrconf.c).
 */
function missingConnected(
  link: Link,
  { observed }: VirtualInput,
  { connected, unrouted }: Changes,
): readonly RouteRequest[] {
  if ((link.flags & IFF_UP) === 0) return [];
  const missing = [...unrouted];
  if (observed.connectedRoutes !== undefined) {
    for (const { ifIndex, destination } of observed.connectedRoutes)
      if (ifIndex === link.index) connected.delete(formatPrefix(destination));
    missing.push(...connected.values());
  }
  return missing.map(({ ip, route }) => ({
    kind: 'add-route',
    ifIndex: link.index,
    destination: route,
    table: RT_TABLE_MAIN,
    protocol: RTPROT_KERNEL,
    ...(familyOf(ip) === 'v4' ? { source: ip } : { metric: IP6_RT_PRIO_ADDRCONF }),
  }));
}

/** The routes of lbd's own, each once for all its addresses. */
function planRoutes(link: Link, input: VirtualInput, changes: Changes): RoutePlan {
  const { settings, desired, observed } = input;
  if (settings.routes === undefined)
    return { requests: missingConnected(link, input, changes), present: new Set() };
  const { kept } = changes;
  const wanted = new Map<string, Prefix>();
  for (const { ip, route, standing } of desired.values()) {
    if (standing === 'here' || changes.present.has(ip)) wanted.set(formatPrefix(route), route);
  }
  const { table, protocol } = settings.routes;
  const common = { ifIndex: link.index, table, protocol } as const;
  const requests: RouteRequest[] = [];
  const present = new Set<string>();
  for (const { destination, ifIndex } of observed.ownRoutes) {
    if (ifIndex !== link.index) continue;
    const text = formatPrefix(destination);
    if (wanted.delete(text)) present.add(text);
    else if (!kept.some((ip) => prefixContains(destination, ip)))
      requests.push({ kind: 'delete-route', destination, ...common });
  }
  for (const destination of wanted.values()) requests.push({ kind: 'add-route', destination, ...common });
  return { requests, present };
}
