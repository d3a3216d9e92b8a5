import { assert } from '../lib/assert.ts';
import { ByteWriter } from '../lib/bytes.ts';
import { FAMILY_BITS, familyOf, ipToBytes } from '../lib/ip.ts';
import { AF_INET, AF_INET6 } from '../sys/constants.ts';
import { padding } from './netlink-codec.ts';
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
} from './netlink-constants.ts';
import type { AddressRequest } from './types.ts';

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

/** RTM_GETROUTE for the main table of one family; the kernel filters by table when NETLINK_GET_STRICT_CHK is set. */
export function encodeDumpRoutes(sequence: number, family: 'v4' | 'v6'): Uint8Array {
  const writer = new ByteWriter(48);
  const start = beginMessage(writer, RTM_GETROUTE, DUMP_FLAGS, sequence);
  writer.u8(wireFamily(family)).zeros(11);
  writeU32Attribute(writer, RTA_TABLE, RT_TABLE_MAIN);
  return endMessage(writer, start).finish();
}

const REQUEST_TYPES = { add: RTM_NEWADDR, replace: RTM_NEWADDR, delete: RTM_DELADDR } as const;
const REQUEST_FLAGS = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  // The kernel creates an absent address whether or not NLM_F_CREATE is there.
  replace: NLM_F_REPLACE,
  delete: 0,
} as const;

/** The largest request: RTM_NEWADDR of a v6 address. */
const LARGEST_REQUEST_BYTES = 104;

/**
 * Writes requests into one datagram, numbered from `firstSequence` on, as many as fit into `limitBytes` and at least
 * one; returns how many. The kernel answers each that fails, and the last in any case: it works in order, so an answer
 * to the last one says that the others without an answer succeeded.
 */
export function writeAddressRequests(
  writer: ByteWriter,
  firstSequence: number,
  requests: readonly AddressRequest[],
  limitBytes: number,
): number {
  let count = 0;
  let lastStart = 0;
  for (const request of requests) {
    if (count > 0 && writer.length + LARGEST_REQUEST_BYTES > limitBytes) break;
    lastStart = writer.length;
    writeAddressRequest(writer, firstSequence + count, request);
    count += 1;
  }
  const last = requests[count - 1];
  if (last !== undefined) writer.patchU16Host(lastStart + 6, requestFlags(last) | NLM_F_ACK);
  return count;
}

function requestFlags(request: AddressRequest): number {
  return REQUEST_FLAGS[request.kind] | NLM_F_REQUEST;
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

function wireFamily(family: 'v4' | 'v6'): number {
  return family === 'v4' ? AF_INET : AF_INET6;
}

function beginMessage(writer: ByteWriter, type: number, flags: number, sequence: number): number {
  const start = writer.length;
  writer.u32Host(0).u16Host(type).u16Host(flags).u32Host(sequence).u32Host(0);
  return start;
}

function endMessage(writer: ByteWriter, start: number): ByteWriter {
  writer.patchU32Host(start, writer.length - start);
  return writer.zeros(padding(writer.length));
}

function writeAttribute(writer: ByteWriter, type: number, value: Uint8Array): void {
  const length = value.length + 4;
  writer.u16Host(length).u16Host(type).bytes(value).zeros(padding(length));
}

function writeU32Attribute(writer: ByteWriter, type: number, value: number): void {
  writer.u16Host(8).u16Host(type).u32Host(value);
}
