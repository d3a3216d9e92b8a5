import { ByteReader } from '../lib/bytes.ts';
import { FAMILY_BITS, familyOf, type Ip, ipFromBytes, prefixOf } from '../lib/ip.ts';
import { AF_INET, AF_INET6 } from '../sys/constants.ts';
import { macFromBytes } from './mac.ts';
import {
  AF_UNSPEC,
  FR_ACT_TO_TBL,
  FRA_PRIORITY,
  FRA_PROTOCOL,
  FRA_SRC,
  FRA_SUPPRESS_PREFIXLEN,
  FRA_TABLE,
  IFA_ADDRESS,
  IFA_CACHEINFO,
  IFA_FLAGS,
  IFA_LOCAL,
  IFA_PROTO,
  IFLA_ADDRESS,
  IFLA_IFNAME,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_WIRELESS,
  INFINITY_LIFE_TIME,
  NLA_TYPE_MASK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NLMSG_OVERRUN,
  NLMSGERR_ATTR_MSG,
  NLMSGERR_ATTR_OFFS,
  RTA_DST,
  RTA_GATEWAY,
  RTA_MULTIPATH,
  RTA_OIF,
  RTA_PRIORITY,
  RTA_TABLE,
  RTA_VIA,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_F_CLONED,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
  RTM_NEWRULE,
} from './netlink-constants.ts';
import type { IfIndex, KernelAddress, KernelRoute, KernelRule, Link, Mac } from './types.ts';

/**
 * rtnetlink on the wire, in host byte order: what the kernel answers and notifies (requests: `netlink-requests.ts`).
 * A datagram holds several messages; each is a header, a fixed body and attributes (type, length, value).
 */

/** What every message carries, whatever its kind. */
type Header = {
  /** Of the request that this answers or, in a notification, that caused it, whoever made that. */
  readonly sequence: number;
  /** nlmsg_pid: in an answer, the socket that asked; in a notification, that of whoever asked for the change, 0 when nobody did or the kernel does not tell (v6 addresses). */
  readonly portId: number;
  /** The kernel's tables changed during this dump, which may lack or repeat entries (NLM_F_DUMP_INTR). */
  readonly interrupted: boolean;
};

/** The kernel's word on one request. */
export type NetlinkStatus = {
  /** 0 is success; otherwise a positive errno value. */
  readonly errno: number;
  /** NLMSGERR_ATTR_MSG: the kernel's own sentence. */
  readonly text: string | undefined;
  /** NLMSGERR_ATTR_OFFS: where in the request the attribute is that the kernel means. */
  readonly attributeOffset: number | undefined;
};

export type NetlinkMessage =
  | (Header & { readonly kind: 'link'; readonly event: 'new' | 'del'; readonly link: Link })
  | (Header & { readonly kind: 'address'; readonly event: 'new' | 'del'; readonly address: KernelAddress })
  /** One entry for each next hop. */
  | (Header & {
      readonly kind: 'route';
      readonly event: 'new' | 'del';
      readonly routes: readonly KernelRoute[];
    })
  | (Header & { readonly kind: 'rule'; readonly event: 'new' | 'del'; readonly rule: KernelRule })
  | (Header & { readonly kind: 'ack'; readonly status: NetlinkStatus })
  | (Header & { readonly kind: 'done'; readonly status: NetlinkStatus })
  | (Header & { readonly kind: 'overrun' });

/** Why bytes were not understood; `offset` counts from the start of the datagram. */
export type NetlinkProblem = {
  readonly code: 'truncated-header' | 'bad-length' | 'bad-body' | 'bad-attribute';
  readonly offset: number;
  readonly detail: string;
};

export type DecodedDatagram = {
  readonly messages: readonly NetlinkMessage[];
  /** Well-formed messages that mean nothing to lbd: other types, other families. */
  readonly ignored: number;
  readonly problems: readonly NetlinkProblem[];
};

/** Everything that one datagram from the kernel says. Total: never throws, whatever the bytes. */
export function decodeDatagram(datagram: Uint8Array): DecodedDatagram {
  const messages: NetlinkMessage[] = [];
  const problems: NetlinkProblem[] = [];
  let ignored = 0;
  const reader = new ByteReader(datagram);
  while (reader.remaining > 0) {
    const offset = reader.offset;
    const length = reader.u32Host();
    const type = reader.u16Host();
    const flags = reader.u16Host();
    const sequence = reader.u32Host();
    const portId = reader.u32Host();
    if (reader.overrun) {
      problems.push({ code: 'truncated-header', offset, detail: `${datagram.length - offset} bytes left` });
      break;
    }
    if (length < NLMSG_HDRLEN || length > datagram.length - offset) {
      const detail = `nlmsg_len ${length} with ${datagram.length - offset} bytes left`;
      problems.push({ code: 'bad-length', offset, detail });
      break;
    }
    const header: Header = { sequence, portId, interrupted: (flags & NLM_F_DUMP_INTR) !== 0 };
    const decoded = decodeBody(type, flags, header, new ByteReader(reader.bytes(length - NLMSG_HDRLEN)));
    if (decoded === undefined) ignored += 1;
    else if (typeof decoded === 'string') {
      problems.push({ code: decoded, offset, detail: `nlmsg_type ${type}, nlmsg_len ${length}` });
    } else messages.push(decoded);
    reader.skip(Math.min(padding(length), reader.remaining));
  }
  return { messages, ignored, problems };
}

/** A message; undefined for one that lbd has no use for; a string for one that is broken. */
type Body = NetlinkMessage | undefined | 'bad-body' | 'bad-attribute';

function decodeBody(type: number, flags: number, header: Header, reader: ByteReader): Body {
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return decodeLink(type === RTM_NEWLINK ? 'new' : 'del', header, reader);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return decodeAddress(type === RTM_NEWADDR ? 'new' : 'del', header, reader);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return decodeRoute(type === RTM_NEWROUTE ? 'new' : 'del', header, reader);
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return decodeRule(type === RTM_NEWRULE ? 'new' : 'del', header, reader);
    case NLMSG_ERROR:
      return decodeAck(flags, header, reader);
    case NLMSG_DONE:
      return decodeDone(flags, header, reader);
    case NLMSG_OVERRUN:
      return { ...header, kind: 'overrun' };
    default:
      return undefined;
  }
}

/**
 * Walks attributes: `next()` moves to one and says whether it is there, then `value()` or `reader` reads it. An
 * attribute that claims more than is left ends the walk and sets `malformed`.
 */
class Attributes {
  readonly #reader: ByteReader;
  #nextAt: number;
  type = 0;
  length = 0;
  malformed = false;

  constructor(reader: ByteReader) {
    this.#reader = reader;
    this.#nextAt = reader.offset;
  }

  next(): boolean {
    const reader = this.#reader;
    // What the caller did not read of the last attribute, and its padding.
    if (this.#nextAt > reader.offset) reader.skip(Math.min(this.#nextAt - reader.offset, reader.remaining));
    if (reader.remaining === 0 || this.malformed) return false;
    const length = reader.u16Host();
    this.type = reader.u16Host() & NLA_TYPE_MASK;
    this.length = length - 4;
    if (reader.overrun || length < 4 || length - 4 > reader.remaining) {
      this.malformed = true;
      return false;
    }
    this.#nextAt = reader.offset + this.length + padding(length);
    return true;
  }

  value(): Uint8Array {
    return this.#reader.bytes(this.length);
  }

  u32(): number {
    if (this.length === 4) return this.#reader.u32Host();
    this.malformed = true;
    return 0;
  }

  u8(): number {
    if (this.length >= 1) return this.#reader.u8();
    this.malformed = true;
    return 0;
  }

  text(): string {
    const bytes = this.value();
    const end = bytes.indexOf(0);
    return utf8.decode(end < 0 ? bytes : bytes.subarray(0, end));
  }
}

const utf8 = new TextDecoder();

/** How many bytes follow: messages and attributes start at multiples of four (NLMSG_ALIGNTO, NLA_ALIGNTO). */
export function padding(length: number): number {
  return -length & 3;
}

function decodeLink(event: 'new' | 'del', header: Header, reader: ByteReader): Body {
  const family = reader.u8();
  reader.skip(1);
  const type = reader.u16Host();
  const index = reader.u32Host() as IfIndex;
  const flags = reader.u32Host();
  reader.skip(4);
  if (reader.overrun) return 'bad-body';
  // AF_BRIDGE tells of a port of a bridge: its RTM_DELLINK means that the link left the bridge, not that it went.
  if (family !== AF_UNSPEC) return undefined;
  let name = '';
  let mac: Mac | undefined;
  let master: IfIndex | undefined;
  let kind: string | undefined;
  const attributes = new Attributes(reader);
  while (attributes.next()) {
    if (attributes.type === IFLA_IFNAME) name = attributes.text();
    else if (attributes.type === IFLA_ADDRESS) mac = macFromBytes(attributes.value());
    else if (attributes.type === IFLA_MASTER) master = attributes.u32() as IfIndex;
    else if (attributes.type === IFLA_LINKINFO) kind = decodeLinkKind(attributes.value());
    // A wireless event (net/wireless/wext-core.c) is a link message without most of the link.
    else if (attributes.type === IFLA_WIRELESS) return undefined;
  }
  if (attributes.malformed) return 'bad-attribute';
  const link: Link = { index, name, flags, type, mac, master, kind };
  return { ...header, kind: 'link', event, link };
}

function decodeLinkKind(linkInfo: Uint8Array): string | undefined {
  const attributes = new Attributes(new ByteReader(linkInfo));
  while (attributes.next()) if (attributes.type === IFLA_INFO_KIND) return attributes.text();
  return undefined;
}

function decodeAddress(event: 'new' | 'del', header: Header, reader: ByteReader): Body {
  const family = reader.u8();
  const prefixLength = reader.u8();
  let flags = reader.u8();
  const scope = reader.u8();
  const ifIndex = reader.u32Host() as IfIndex;
  if (reader.overrun) return 'bad-body';
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  let ip: Ip | undefined;
  let local: Ip | undefined;
  let protocol: number | undefined;
  let preferredSeconds = Number.POSITIVE_INFINITY;
  let validSeconds = Number.POSITIVE_INFINITY;
  let addedCs: number | undefined;
  const attributes = new Attributes(reader);
  while (attributes.next()) {
    if (attributes.type === IFA_ADDRESS) ip = ipFromBytes(attributes.value());
    else if (attributes.type === IFA_LOCAL) local = ipFromBytes(attributes.value());
    else if (attributes.type === IFA_FLAGS) flags = attributes.u32();
    else if (attributes.type === IFA_PROTO) protocol = attributes.u8();
    else if (attributes.type === IFA_CACHEINFO && attributes.length >= 8) {
      preferredSeconds = lifetimeFromWire(reader.u32Host());
      validSeconds = lifetimeFromWire(reader.u32Host());
      // 0 is what requests have.
      if (attributes.length >= 12) addedCs = reader.u32Host() || undefined;
    }
  }
  // With a peer, IFA_ADDRESS is the peer's. v6 has IFA_LOCAL only then, v4 always.
  const own = local ?? ip;
  if (attributes.malformed || own === undefined) return 'bad-attribute';
  const ownFamily = familyOf(own);
  if ((ownFamily === 'v4') !== (family === AF_INET) || prefixLength > FAMILY_BITS[ownFamily]) {
    return 'bad-body';
  }
  const address: KernelAddress = {
    ifIndex,
    ip: own,
    prefixLength,
    scope,
    flags,
    protocol,
    preferredSeconds,
    validSeconds,
    ...(addedCs === undefined ? {} : { addedCs }),
  };
  return { ...header, kind: 'address', event, address };
}

function lifetimeFromWire(seconds: number): number {
  return seconds === INFINITY_LIFE_TIME ? Number.POSITIVE_INFINITY : seconds;
}

function decodeRoute(event: 'new' | 'del', header: Header, reader: ByteReader): Body {
  const family = reader.u8();
  const length = reader.u8();
  reader.skip(2);
  let table = reader.u8();
  const protocol = reader.u8();
  reader.skip(1);
  const type = reader.u8();
  const flags = reader.u32Host();
  if (reader.overrun) return 'bad-body';
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  if ((flags & RTM_F_CLONED) !== 0) return undefined;
  let destination: Ip = family === AF_INET ? V4_ANY : V6_ANY;
  let metric = 0;
  let hop: Hop = { gateway: undefined, ifIndex: undefined };
  let hops: readonly Hop[] | undefined;
  const attributes = new Attributes(reader);
  while (attributes.next()) {
    if (attributes.type === RTA_DST) destination = ipFromBytes(attributes.value()) ?? destination;
    else if (attributes.type === RTA_PRIORITY) metric = attributes.u32();
    else if (attributes.type === RTA_TABLE) table = attributes.u32();
    else if (attributes.type === RTA_OIF) hop = { ...hop, ifIndex: attributes.u32() as IfIndex };
    else if (attributes.type === RTA_GATEWAY) hop = { ...hop, gateway: ipFromBytes(attributes.value()) };
    else if (attributes.type === RTA_VIA) hop = { ...hop, gateway: viaGateway(attributes.value()) };
    else if (attributes.type === RTA_MULTIPATH) hops = decodeHops(attributes.value());
  }
  if (attributes.malformed) return 'bad-attribute';
  const ipFamily = family === AF_INET ? 'v4' : 'v6';
  if (familyOf(destination) !== ipFamily || length > FAMILY_BITS[ipFamily]) return 'bad-body';
  // The kernel keeps no host bits in a destination, but its word is not taken for it: a Prefix has none.
  const network = length === 0 ? destination : prefixOf(destination, length).network;
  const common = {
    family: ipFamily,
    destination: { network, length },
    metric,
    table,
    protocol,
    type,
  } as const;
  return { ...header, kind: 'route', event, routes: (hops ?? [hop]).map((each) => ({ ...common, ...each })) };
}

/** A rule that looks up a table by where a packet comes from; of others, what lbd's do not have makes them none of its. */
function decodeRule(event: 'new' | 'del', header: Header, reader: ByteReader): Body {
  const family = reader.u8();
  const destinationLength = reader.u8();
  const length = reader.u8();
  reader.skip(1);
  let table = reader.u8();
  reader.skip(2);
  const action = reader.u8();
  reader.skip(4);
  if (reader.overrun) return 'bad-body';
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  if (action !== FR_ACT_TO_TBL || destinationLength > 0) return undefined;
  let source: Ip = family === AF_INET ? V4_ANY : V6_ANY;
  let priority = 0;
  let protocol = 0;
  let suppressed: number | undefined;
  const attributes = new Attributes(reader);
  while (attributes.next()) {
    if (attributes.type === FRA_SRC) source = ipFromBytes(attributes.value()) ?? source;
    else if (attributes.type === FRA_PRIORITY) priority = attributes.u32();
    else if (attributes.type === FRA_TABLE) table = attributes.u32();
    else if (attributes.type === FRA_PROTOCOL) protocol = attributes.u8();
    else if (attributes.type === FRA_SUPPRESS_PREFIXLEN) suppressed = attributes.u32();
  }
  if (attributes.malformed) return 'bad-attribute';
  const ipFamily = family === AF_INET ? 'v4' : 'v6';
  if (familyOf(source) !== ipFamily || length > FAMILY_BITS[ipFamily]) return 'bad-body';
  const network = length === 0 ? source : prefixOf(source, length).network;
  // Without suppression the kernel says 2^32 - 1.
  const suppressPrefixLength = suppressed === 0xffff_ffff ? undefined : suppressed;
  const rule = { priority, from: { network, length }, table, protocol, suppressPrefixLength };
  return { ...header, kind: 'rule', event, rule };
}

type Hop = Pick<KernelRoute, 'gateway' | 'ifIndex'>;

const V4_ANY = '0.0.0.0' as Ip;
const V6_ANY = '::' as Ip;

/** struct rtvia: a gateway of the other family (RFC 5549). */
function viaGateway(value: Uint8Array): Ip | undefined {
  return ipFromBytes(value.subarray(2));
}

/** RTA_MULTIPATH: struct rtnexthop records, each with attributes of its own. */
function decodeHops(value: Uint8Array): readonly Hop[] {
  const hops: Hop[] = [];
  const reader = new ByteReader(value);
  while (reader.remaining > 0) {
    const length = reader.u16Host();
    reader.skip(2);
    const ifIndex = reader.u32Host() as IfIndex;
    const attributeBytes = reader.bytes(length - 8);
    if (reader.overrun) break;
    let gateway: Ip | undefined;
    const attributes = new Attributes(new ByteReader(attributeBytes));
    while (attributes.next()) {
      if (attributes.type === RTA_GATEWAY) gateway = ipFromBytes(attributes.value());
      else if (attributes.type === RTA_VIA) gateway = viaGateway(attributes.value());
    }
    hops.push({ gateway, ifIndex });
    reader.skip(Math.min(padding(length), reader.remaining));
  }
  return hops;
}

function decodeAck(flags: number, header: Header, reader: ByteReader): Body {
  const errno = -reader.i32Host();
  const requestLength = reader.u32Host();
  reader.skip(NLMSG_HDRLEN - 4);
  if (reader.overrun || errno < 0) return 'bad-body';
  // Uncapped, the request itself follows its header and stands before the attributes.
  if ((flags & NLM_F_CAPPED) === 0 && errno !== 0) {
    const rest = Math.max(0, requestLength - NLMSG_HDRLEN);
    reader.skip(Math.min(rest + padding(rest), reader.remaining));
  }
  return { ...header, kind: 'ack', status: readStatus(errno, flags, reader) };
}

function decodeDone(flags: number, header: Header, reader: ByteReader): Body {
  // A kernel before 2.6.33 may send the header alone.
  const errno = reader.remaining >= 4 ? -reader.i32Host() : 0;
  // Some dumps end with a positive count of what they sent.
  return { ...header, kind: 'done', status: readStatus(Math.max(0, errno), flags, reader) };
}

function readStatus(errno: number, flags: number, reader: ByteReader): NetlinkStatus {
  let text: string | undefined;
  let attributeOffset: number | undefined;
  if ((flags & NLM_F_ACK_TLVS) !== 0) {
    const attributes = new Attributes(reader);
    while (attributes.next()) {
      if (attributes.type === NLMSGERR_ATTR_MSG) text = attributes.text();
      else if (attributes.type === NLMSGERR_ATTR_OFFS) attributeOffset = attributes.u32();
    }
  }
  // `-0` would be a second kind of success.
  return { errno: errno === 0 ? 0 : errno, text, attributeOffset };
}
