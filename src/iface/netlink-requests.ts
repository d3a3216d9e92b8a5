import { assert } from '../lib/assert.ts';
import { ByteWriter } from '../lib/bytes.ts';
import { FAMILY_BITS, familyOf, ipToBytes } from '../lib/ip.ts';
import {
  IFA_ADDRESS,
  IFA_CACHEINFO,
  IFA_FLAGS,
  IFA_LOCAL,
  IFA_PROTO,
  IFLA_EXT_MASK,
  INFINITY_LIFE_TIME,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_TABLE_MAIN,
  RTA_TABLE,
  RTEXT_FILTER_SKIP_STATS,
  RTM_DELADDR,
  RTM_GETADDR,
  RTM_GETLINK,
  RTM_GETROUTE,
  RTM_NEWADDR,
  RTPROT_UNSPEC,
} from './netlink-constants.ts';
import {
  linkRequestFlags,
  routeRequestFlags,
  writeLinkRequest,
  writeRouteRequest,
} from './netlink-link-requests.ts';
import {
  beginMessage,
  endMessage,
  wireFamily,
  writeAttribute,
  writeU32Attribute,
} from './netlink-message.ts';
import type { AddressRequest, KernelRequest, RouteRequest } from './types.ts';

/** The rtnetlink requests that lbd makes; NLM_F_REQUEST is in all of them. What the kernel says: `netlink-codec.ts`. */

const DUMP_FLAGS = NLM_F_REQUEST | NLM_F_DUMP;

/** RTM_GETLINK for all links, without their statistics. */
export function encodeDumpLinks(sequence: number): Uint8Array {
  const writer = new ByteWriter(48);
  const start = beginMessage(writer, RTM_GETLINK, DUMP_FLAGS, sequence);
  writer.zeros(16);
  writeU32Attribute(writer, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return endMessage(writer, start).finish();
}

/** RTM_GETADDR for all addresses of one family. */
export function encodeDumpAddresses(sequence: number, family: 'v4' | 'v6'): Uint8Array {
  const writer = new ByteWriter(32);
  const start = beginMessage(writer, RTM_GETADDR, DUMP_FLAGS, sequence);
  writer.u8(wireFamily(family)).zeros(7);
  return endMessage(writer, start).finish();
}

/** Which routes to dump; the kernel filters by both when NETLINK_GET_STRICT_CHK is set. */
export type RouteFilter = { readonly table: number; readonly protocol: number };

/** In place of one table (RT_TABLE_UNSPEC). */
export const ALL_TABLES = 0;

export const MAIN_ROUTES: RouteFilter = { table: RT_TABLE_MAIN, protocol: RTPROT_UNSPEC };

/** RTM_GETROUTE for one family. */
export function encodeDumpRoutes(sequence: number, family: 'v4' | 'v6', filter: RouteFilter): Uint8Array {
  const writer = new ByteWriter(48);
  const start = beginMessage(writer, RTM_GETROUTE, DUMP_FLAGS, sequence);
  writer.u8(wireFamily(family)).zeros(4).u8(filter.protocol).zeros(6);
  writeU32Attribute(writer, RTA_TABLE, filter.table);
  return endMessage(writer, start).finish();
}

const REQUEST_TYPES = { add: RTM_NEWADDR, replace: RTM_NEWADDR, delete: RTM_DELADDR } as const;
const REQUEST_FLAGS = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  // The kernel creates an absent address whether or not NLM_F_CREATE is there.
  replace: NLM_F_REPLACE,
  delete: 0,
} as const;

/** The largest request: RTM_NEWADDR of a v6 address. One that creates a link is smaller, whatever its name. */
const LARGEST_REQUEST_BYTES = 104;

/**
 * Writes requests into one datagram, numbered from `firstSequence` on, as many as fit into `limitBytes` and at least
 * one; returns how many. The kernel answers each that fails, and the last in any case: it works in order, so an answer
 * to the last one says that the others without an answer succeeded.
 */
export function writeRequests(
  writer: ByteWriter,
  firstSequence: number,
  requests: readonly KernelRequest[],
  limitBytes: number,
): number {
  let count = 0;
  let lastStart = 0;
  for (const request of requests) {
    if (count > 0 && writer.length + LARGEST_REQUEST_BYTES > limitBytes) break;
    lastStart = writer.length;
    writeRequest(writer, firstSequence + count, request);
    count += 1;
  }
  const last = requests[count - 1];
  if (last !== undefined) writer.patchU16Host(lastStart + 6, requestFlags(last) | NLM_F_ACK);
  return count;
}

function requestFlags(request: KernelRequest): number {
  if (isAddressRequest(request)) return REQUEST_FLAGS[request.kind] | NLM_F_REQUEST;
  const flags = isRouteRequest(request) ? routeRequestFlags(request) : linkRequestFlags(request);
  return flags | NLM_F_REQUEST;
}

export function isAddressRequest(request: KernelRequest): request is AddressRequest {
  return request.kind === 'add' || request.kind === 'replace' || request.kind === 'delete';
}

export function isRouteRequest(request: KernelRequest): request is RouteRequest {
  return request.kind === 'add-route' || request.kind === 'delete-route';
}

function writeRequest(writer: ByteWriter, sequence: number, request: KernelRequest): void {
  const flags = requestFlags(request);
  if (isAddressRequest(request)) writeAddressRequest(writer, sequence, request);
  else if (isRouteRequest(request)) writeRouteRequest(writer, sequence, flags, request);
  else writeLinkRequest(writer, sequence, flags, request);
}

/** IFA_BROADCAST is never set: a /32 has none, and lbd's other addresses need none. */
function writeAddressRequest(writer: ByteWriter, sequence: number, request: AddressRequest): void {
  const family = familyOf(request.ip);
  const { kind, prefixLength } = request;
  assert(prefixLength >= 0 && prefixLength <= FAMILY_BITS[family], `${request.ip}/${prefixLength}`);
  const start = beginMessage(writer, REQUEST_TYPES[kind], requestFlags(request), sequence);
  const scope = request.kind === 'delete' ? 0 : request.scope;
  const flags = request.kind === 'delete' ? 0 : request.flags;
  writer
    .u8(wireFamily(family))
    .u8(prefixLength)
    .u8(flags & 0xff)
    .u8(scope)
    .u32Host(request.ifIndex);
  const bytes = ipToBytes(request.ip);
  writeAttribute(writer, IFA_LOCAL, bytes);
  writeAttribute(writer, IFA_ADDRESS, bytes);
  if (request.kind !== 'delete') {
    const { preferredSeconds, validSeconds } = request;
    assert(validSeconds > 0 && preferredSeconds <= validSeconds, `${preferredSeconds} of ${validSeconds} s`);
    writeU32Attribute(writer, IFA_FLAGS, flags);
    writer.u16Host(20).u16Host(IFA_CACHEINFO);
    writer.u32Host(lifetimeToWire(preferredSeconds)).u32Host(lifetimeToWire(validSeconds)).zeros(8);
    writer.u16Host(5).u16Host(IFA_PROTO).u8(request.protocol).zeros(3);
  }
  endMessage(writer, start);
}

function lifetimeToWire(seconds: number): number {
  if (seconds === Number.POSITIVE_INFINITY) return INFINITY_LIFE_TIME;
  assert(Number.isInteger(seconds) && seconds >= 0, `a lifetime of ${seconds} s`);
  return Math.min(seconds, INFINITY_LIFE_TIME - 1);
}
