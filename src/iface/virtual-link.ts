import { parseMac } from './mac.ts';
import type { Link, Mac } from './types.ts';

/**
 * The link of virtual addresses, `kube-lb0`, and how lbd knows it for its own: by a hardware address that it gives at
 * creation, in the same request, so that there is no moment in which a link of lbd's is nobody's. It needs no memory
 * but the kernel's: `lbd cleanup` finds the link when the daemon and its configuration are gone.
 *
 *   02:6c:62:64:PP:00   locally administered, "lbd" in ASCII, PP the protocol of the routes that lbd makes over it
 *                       (`[virtual] protocol`), 00 when it makes none and the kernel's connected routes are all
 *
 * No frame ever carries it, so it does not matter that each host has the same. The protocol is in it because routes of a
 * former configuration would otherwise be nobody's: a link that says another protocol is made anew, and they go with it.
 */

const MARK = '02:6c:62:64';

/** Kinds of link that can be it. A bridge without ports is what every kernel of a Kubernetes host has. */
export type VirtualLinkType = 'dummy' | 'bridge';

/** The hardware address of lbd's link; `routeProtocol` is 0 or from 1 to 255. */
export function virtualMac(routeProtocol: number): Mac {
  return parseMac(`${MARK}:${routeProtocol.toString(16).padStart(2, '0')}:00`) as Mac;
}

/** Whether lbd made this link. */
export function isVirtualLink(link: Link): boolean {
  return (link.kind === 'dummy' || link.kind === 'bridge') && link.mac?.startsWith(`${MARK}:`) === true;
}
