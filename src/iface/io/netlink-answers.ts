import { formatPrefix } from '../../lib/ip.ts';
import { fail, ok, type Result } from '../../lib/result.ts';
import type { NetlinkMessage } from '../netlink-codec.ts';
import { errnoName } from '../netlink-constants.ts';
import { isAddressRequest, isRouteRequest } from '../netlink-requests.ts';
import type { KernelDump } from '../observed.ts';
import type { IfIndex, KernelRequest, KernelRoute, Link } from '../types.ts';
import type { Exchange } from './request-socket.ts';

/** What the kernel's answers mean, and what was asked, in words. */

/** All messages of one dump, or why there are none. */
export function readDump(what: string, exchange: Exchange): Result<readonly NetlinkMessage[], string> {
  if (exchange.kind !== 'answered') return fail(`dump of ${what}: ${exchange.errno}: ${exchange.text}`);
  const end = exchange.messages.at(-1);
  if (end === undefined || !('status' in end) || end.status.errno === 0) return ok(exchange.messages);
  const errno = errnoName(end.status.errno);
  // A family that this kernel does not have, or a table in which there was never a route.
  if (errno === 'ENOENT' || errno === 'EOPNOTSUPP' || errno === 'EAFNOSUPPORT') return ok([]);
  return fail(`dump of ${what}: ${errno}${end.status.text === undefined ? '' : `: ${end.status.text}`}`);
}

/** The links and addresses of these messages. */
export function sortDump(messages: readonly NetlinkMessage[], routes: readonly KernelRoute[]): KernelDump {
  return {
    links: messages.flatMap((message) => (message.kind === 'link' ? [message.link] : [])),
    addresses: messages.flatMap((message) => (message.kind === 'address' ? [message.address] : [])),
    routes,
  };
}

/** `add 192.0.2.10/32 on eth0`. */
export function describeRequest(request: KernelRequest, links: ReadonlyMap<IfIndex, Link>): string {
  if (request.kind === 'create-link') return `create ${request.name} of type ${request.type}`;
  const link = links.get(request.ifIndex)?.name ?? `interface ${request.ifIndex}`;
  const verb = request.kind.split('-')[0];
  if (isAddressRequest(request)) return `${verb} ${request.ip}/${request.prefixLength} on ${link}`;
  if (!isRouteRequest(request)) return `${verb} ${link}`;
  return `${verb} the route ${formatPrefix(request.destination)} over ${link} in table ${request.table}`;
}
