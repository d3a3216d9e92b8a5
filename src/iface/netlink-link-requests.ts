import { assert } from '../lib/assert.ts';
import type { ByteWriter } from '../lib/bytes.ts';
import { type Family, familyOf, ipToBytes } from '../lib/ip.ts';
import { AF_INET, AF_INET6 } from '../sys/constants.ts';
import { macToBytes } from './mac.ts';
import {
  IFF_UP,
  IFLA_ADDRESS,
  IFLA_AF_SPEC,
  IFLA_IFNAME,
  IFLA_INET_CONF,
  IFLA_INET6_ADDR_GEN_MODE,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IN6_ADDR_GEN_MODE_NONE,
  IPV4_DEVCONF_PROMOTE_SECONDARIES,
  NLM_F_CREATE,
  NLM_F_EXCL,
  RT_SCOPE_LINK,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_COMPAT,
  RTA_DST,
  RTA_OIF,
  RTA_PREFSRC,
  RTA_PRIORITY,
  RTA_TABLE,
  RTM_DELLINK,
  RTM_DELROUTE,
  RTM_NEWLINK,
  RTM_NEWROUTE,
  RTM_SETLINK,
  RTN_UNICAST,
} from './netlink-constants.ts';
import {
  beginMessage,
  endMessage,
  wireFamily,
  writeAttribute,
  writeNested,
  writeU32Attribute,
} from './netlink-message.ts';
import type { IfIndex, LinkRequest, RouteRequest } from './types.ts';

/** Requests about the link of virtual addresses and about routes over it. */

/** With its final NUL (linux/if.h). */
const IFNAMSIZ = 16;

const LINK_TYPES = {
  'create-link': RTM_NEWLINK,
  'configure-link': RTM_SETLINK,
  'raise-link': RTM_SETLINK,
  'mark-link': RTM_SETLINK,
  'delete-link': RTM_DELLINK,
} as const;

export function linkRequestFlags(request: LinkRequest): number {
  return request.kind === 'create-link' ? NLM_F_CREATE | NLM_F_EXCL : 0;
}

/** `flags` are those of the header. */
export function writeLinkRequest(
  writer: ByteWriter,
  sequence: number,
  flags: number,
  request: LinkRequest,
): void {
  const start = beginMessage(writer, LINK_TYPES[request.kind], flags, sequence);
  switch (request.kind) {
    case 'create-link':
      writeHeader(writer, 0 as IfIndex, 0);
      writeName(writer, IFLA_IFNAME, request.name);
      writeAttribute(writer, IFLA_ADDRESS, macToBytes(request.mac));
      writeNested(writer, IFLA_LINKINFO, () => writeName(writer, IFLA_INFO_KIND, request.type));
      break;
    case 'configure-link':
      writeHeader(writer, request.ifIndex, 0);
      writeNested(writer, IFLA_AF_SPEC, () => writeFamilySettings(writer, request.family));
      break;
    case 'raise-link':
      writeHeader(writer, request.ifIndex, IFF_UP);
      break;
    case 'mark-link':
      writeHeader(writer, request.ifIndex, 0);
      writeAttribute(writer, IFLA_ADDRESS, macToBytes(request.mac));
      break;
    case 'delete-link':
      writeHeader(writer, request.ifIndex, 0);
      break;
    default:
      request satisfies never;
  }
  endMessage(writer, start);
}

function writeFamilySettings(writer: ByteWriter, family: Family): void {
  if (family === 'v4')
    writeNested(writer, AF_INET, () =>
      writeNested(writer, IFLA_INET_CONF, () =>
        writeU32Attribute(writer, IPV4_DEVCONF_PROMOTE_SECONDARIES, 1),
      ),
    );
  else
    writeNested(writer, AF_INET6, () =>
      writeAttribute(writer, IFLA_INET6_ADDR_GEN_MODE, Uint8Array.of(IN6_ADDR_GEN_MODE_NONE)),
    );
}

/** struct ifinfomsg; `raise` are the flags to be set, and no other changes. */
function writeHeader(writer: ByteWriter, ifIndex: IfIndex, raise: number): void {
  writer.zeros(4).u32Host(ifIndex).u32Host(raise).u32Host(raise);
}

function writeName(writer: ByteWriter, type: number, name: string): void {
  const bytes = new TextEncoder().encode(`${name}\0`);
  assert(bytes.length > 1 && bytes.length <= IFNAMSIZ, `the name "${name}"`);
  writeAttribute(writer, type, bytes);
}

export function routeRequestFlags(request: RouteRequest): number {
  return request.kind === 'add-route' ? NLM_F_CREATE | NLM_F_EXCL : 0;
}

/** A route without a gateway, as the kernel makes it for an address with a prefix. */
export function writeRouteRequest(
  writer: ByteWriter,
  sequence: number,
  flags: number,
  request: RouteRequest,
): void {
  const { destination, table, protocol, ifIndex, source, metric } = request;
  const family = familyOf(destination.network);
  const type = request.kind === 'add-route' ? RTM_NEWROUTE : RTM_DELROUTE;
  const start = beginMessage(writer, type, flags, sequence);
  writer
    .u8(wireFamily(family))
    .u8(destination.length)
    .u8(0)
    .u8(0)
    .u8(table <= 0xff ? table : RT_TABLE_COMPAT)
    .u8(protocol)
    .u8(family === 'v4' ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE)
    .u8(RTN_UNICAST)
    .u32Host(0);
  if (destination.length > 0) writeAttribute(writer, RTA_DST, ipToBytes(destination.network));
  writeU32Attribute(writer, RTA_OIF, ifIndex);
  if (source !== undefined) writeAttribute(writer, RTA_PREFSRC, ipToBytes(source));
  if (metric !== undefined) writeU32Attribute(writer, RTA_PRIORITY, metric);
  writeU32Attribute(writer, RTA_TABLE, table);
  endMessage(writer, start);
}
