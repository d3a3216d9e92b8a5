import { parseMac } from './mac.ts';
import type { RouteFilter } from './netlink-requests.ts';
import type { KernelRoute, Link, Mac } from './types.ts';

/**
 * The link of virtual addresses, `kube-lb0`, and how lbd knows it for its own: by a hardware address that it gives at
 * creation, in the same request, so that there is no moment in which a link of lbd's is nobody's. It needs no memory
 * but the kernel's: `lbd cleanup` finds the link when the daemon and its configuration are gone. A running daemon still
 * knows it when somebody gives it another one, and gives it its own again.
 *
 *   02:6c:62:64:PP:TT   locally administered, "lbd" in ASCII, PP the protocol and TT the table (its bytes, XORed) of the
 *                       routes that lbd makes over it, 00:00 when it makes none and the kernel's own are all
 *
 * No frame ever carries it, so it does not matter that each host has the same. The routes are in it because those of a
 * former configuration would otherwise be nobody's: a link that says other ones is made anew, and they go with it.
 */

const MARK = '02:6c:62:64';

/** Kinds of link that can be it. A bridge without ports is what every kernel of a Kubernetes host has. */
export type VirtualLinkType = 'dummy' | 'bridge';

/** The hardware address of lbd's link. */
export function virtualMac(routes: RouteFilter | undefined): Mac {
  const { protocol, table } = routes ?? { protocol: 0, table: 0 };
  const folded = (table ^ (table >>> 8) ^ (table >>> 16) ^ (table >>> 24)) & 0xff;
  return parseMac(`${MARK}:${hex(protocol)}:${hex(folded)}`) as Mac;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

/** What to do about a kernel that has none of the kind. */
export function loadModule(type: VirtualLinkType): string {
  return `run "modprobe ${type}" (and put "${type}" into /etc/modules-load.d/ for the next boot)`;
}

/** Why a bridge of `type = "auto"` is no dummy. */
export const WHY_BRIDGE =
  'the kernel had no dummy device when lbd made it; after "modprobe dummy" (and "dummy" in /etc/modules-load.d/), a stop and a start of lbd make it one';

/** Why another's link of the name of lbd's own cannot be it. */
export function strangerReason({ name, kind }: Pick<Link, 'name' | 'kind'>): string {
  const what = kind === undefined ? 'an interface' : `a ${kind}`;
  return `${name} is ${what} that lbd did not make: remove it, or give lbd's another name with [virtual] interface`;
}

/** Whether lbd made this link. */
export function isVirtualLink(link: Link): boolean {
  return (link.kind === 'dummy' || link.kind === 'bridge') && link.mac?.startsWith(`${MARK}:`) === true;
}

/** The protocol of the routes that lbd made over its link; undefined when it made none. */
export function routeProtocolOf({ mac }: Pick<Link, 'mac'>): number | undefined {
  const protocol = Number.parseInt(mac?.split(':')[4] ?? '', 16);
  return protocol > 0 ? protocol : undefined;
}

/** Whether lbd made this route over its link, as far as protocol and table tell. */
export function hasMade(link: Link, { ifIndex, table, protocol }: KernelRoute): boolean {
  return ifIndex === link.index && isVirtualLink(link) && link.mac === virtualMac({ table, protocol });
}
