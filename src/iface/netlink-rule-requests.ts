import { ByteWriter } from '../lib/bytes.ts';
import { type Family, familyOf, ipToBytes } from '../lib/ip.ts';
import {
  FR_ACT_TO_TBL,
  FRA_PRIORITY,
  FRA_PROTOCOL,
  FRA_SRC,
  FRA_SUPPRESS_PREFIXLEN,
  FRA_TABLE,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  RT_SCOPE_UNIVERSE,
  RT_TABLE_COMPAT,
  RTA_GATEWAY,
  RTA_OIF,
  RTA_TABLE,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_GETRULE,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  RTN_UNICAST,
} from './netlink-constants.ts';
import {
  beginMessage,
  endMessage,
  wireFamily,
  writeAttribute,
  writeU32Attribute,
} from './netlink-message.ts';
import type { SourceRequest, SourceRoute, SourceRule } from './source-routing.ts';
import { LBD_PROTOCOL } from './types.ts';

/** Requests about routing rules and about the default routes that they lead to. One request fills one datagram. */

const DATAGRAM_BYTES = 128;

/** RTM_GETRULE for one family. */
export function encodeDumpRules(sequence: number, family: Family): Uint8Array {
  const writer = new ByteWriter(32);
  const start = beginMessage(writer, RTM_GETRULE, NLM_F_REQUEST | NLM_F_DUMP, sequence);
  writer.u8(wireFamily(family)).zeros(11);
  return endMessage(writer, start).finish();
}

export function encodeSourceRequest(sequence: number, request: SourceRequest): Uint8Array {
  switch (request.kind) {
    case 'add-rule':
      return encodeRule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, sequence, request.rule);
    case 'delete-rule':
      return encodeRule(RTM_DELRULE, 0, sequence, request.rule);
    case 'replace-source-route':
      return encodeRoute(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sequence, request.route);
    case 'delete-source-route':
      return encodeRoute(RTM_DELROUTE, 0, sequence, request.route);
    default:
      return request satisfies never;
  }
}

/** struct fib_rule_hdr (linux/fib_rules.h). The kernel deletes only what has all of these attributes, the protocol too. */
function encodeRule(type: number, flags: number, sequence: number, rule: SourceRule): Uint8Array {
  const { from, priority, table, suppressPrefixLength } = rule;
  const writer = new ByteWriter(DATAGRAM_BYTES);
  const start = beginMessage(writer, type, flags | NLM_F_REQUEST | NLM_F_ACK, sequence);
  writer
    .u8(wireFamily(familyOf(from.network)))
    .u8(0)
    .u8(from.length)
    .u8(0)
    .u8(table <= 0xff ? table : RT_TABLE_COMPAT)
    .zeros(2)
    .u8(FR_ACT_TO_TBL)
    .u32Host(0);
  if (from.length > 0) writeAttribute(writer, FRA_SRC, ipToBytes(from.network));
  writeU32Attribute(writer, FRA_PRIORITY, priority);
  writeU32Attribute(writer, FRA_TABLE, table);
  if (suppressPrefixLength !== undefined)
    writeU32Attribute(writer, FRA_SUPPRESS_PREFIXLEN, suppressPrefixLength);
  writeAttribute(writer, FRA_PROTOCOL, Uint8Array.of(LBD_PROTOCOL));
  return endMessage(writer, start).finish();
}

/** A default route over a gateway. */
function encodeRoute(type: number, flags: number, sequence: number, route: SourceRoute): Uint8Array {
  const { gateway, ifIndex, table } = route;
  const writer = new ByteWriter(DATAGRAM_BYTES);
  const start = beginMessage(writer, type, flags | NLM_F_REQUEST | NLM_F_ACK, sequence);
  writer
    .u8(wireFamily(familyOf(gateway)))
    .zeros(3)
    .u8(RT_TABLE_COMPAT)
    .u8(LBD_PROTOCOL)
    .u8(RT_SCOPE_UNIVERSE)
    .u8(RTN_UNICAST)
    .u32Host(0);
  writeAttribute(writer, RTA_GATEWAY, ipToBytes(gateway));
  writeU32Attribute(writer, RTA_OIF, ifIndex);
  writeU32Attribute(writer, RTA_TABLE, table);
  return endMessage(writer, start).finish();
}
