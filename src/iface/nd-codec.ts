import { assert } from '../lib/assert.ts';
import { ByteReader, ByteWriter } from '../lib/bytes.ts';
import { familyOf, type Ip, ipFromBytes, ipToBytes } from '../lib/ip.ts';
import { fail, ok, type Result } from '../lib/result.ts';
import { ETH_P_IPV6, IPPROTO_ICMPV6 } from '../sys/constants.ts';
import type { FrameProblem } from './arp-codec.ts';
import { isUnicastMac, MAC_LENGTH, macFromBytes, macToBytes } from './mac.ts';
import type { Mac } from './types.ts';

/** Neighbour solicitations and advertisements over Ethernet (RFC 4861 4.3 and 4.4, RFC 2464), as address detection uses them (RFC 4862 5.4). */

const NEIGHBOR_SOLICITATION = 135;
const NEIGHBOR_ADVERTISEMENT = 136;
const OPTION_SOURCE_LINK_LAYER = 1;
const OPTION_TARGET_LINK_LAYER = 2;
const NA_ROUTER = 0x8000_0000;
const NA_SOLICITED = 0x4000_0000;
const NA_OVERRIDE = 0x2000_0000;
/** RFC 4861 3.1: a packet that a router forwarded cannot have it. */
const HOP_LIMIT = 255;
const ETHERNET_HEADER = 14;
const IPV6_HEADER = 40;
/** ICMPv6 header, flags and target. */
const ND_HEADER = 24;
const V6_LENGTH = 16;
const V6_UNSPECIFIED = '::' as Ip;
const V6_ALL_NODES = 'ff02::1' as Ip;
/** ff02::1:ff00:0/104, in RFC 5952 text. */
const SOLICITED_NODE = /^ff02::1:ff[0-9a-f]{2}:/;

export type NdMessage = {
  readonly kind: 'nd';
  readonly type: 'solicitation' | 'advertisement';
  readonly ethernetSource: Mac;
  readonly ethernetDestination: Mac;
  /** `::` in a probe (RFC 4862 5.4.2). */
  readonly sourceIp: Ip;
  readonly destinationIp: Ip;
  readonly target: Ip;
  /** All false in a solicitation. */
  readonly router: boolean;
  readonly solicited: boolean;
  readonly override: boolean;
  /** The source link-layer address option of a solicitation, the target's of an advertisement. */
  readonly linkLayer: Mac | undefined;
};

export type NdProblem =
  | 'truncated'
  | 'not-ipv6'
  | 'not-neighbor-discovery'
  | 'bad-hop-limit'
  | 'bad-checksum'
  | 'bad-code'
  | 'bad-target'
  | 'bad-option'
  | 'bad-source'
  | 'bad-flags';

type Decoded = Result<NdMessage, FrameProblem<NdProblem>>;

/**
 * Reads one Ethernet frame and validates it as RFC 4861 7.1.1 and 7.1.2 demand. Total: never throws. A packet with
 * extension headers is not taken for neighbour discovery, which has no use for them.
 */
export function decodeNd(frame: Uint8Array): Decoded {
  const reader = new ByteReader(frame);
  const ethernetDestination = macFromBytes(reader.bytes(MAC_LENGTH));
  const ethernetSource = macFromBytes(reader.bytes(MAC_LENGTH));
  const etherType = reader.u16();
  if (!reader.overrun && etherType !== ETH_P_IPV6) return problem('not-ipv6', 12, `EtherType ${etherType}`);
  const version = reader.u32() >>> 28;
  const payloadLength = reader.u16();
  const nextHeader = reader.u8();
  const hopLimit = reader.u8();
  const source = reader.bytes(V6_LENGTH);
  const destination = reader.bytes(V6_LENGTH);
  if (reader.overrun || payloadLength > reader.remaining) return truncated(frame);
  if (version !== 6) return problem('not-ipv6', ETHERNET_HEADER, `version ${version}`);
  if (nextHeader !== IPPROTO_ICMPV6) {
    return problem('not-neighbor-discovery', ETHERNET_HEADER + 6, `next header ${nextHeader}`);
  }
  if (ethernetSource === undefined || ethernetDestination === undefined) return truncated(frame);
  const sourceIp = ipFromBytes(source);
  const destinationIp = ipFromBytes(destination);
  if (sourceIp === undefined || destinationIp === undefined) return truncated(frame);
  const icmp = reader.bytes(payloadLength);
  const envelope = { ethernetSource, ethernetDestination, sourceIp, destinationIp };
  return decodeIcmp(icmp, hopLimit, checksum(source, destination, icmp), envelope);
}

type Envelope = Pick<NdMessage, 'ethernetSource' | 'ethernetDestination' | 'sourceIp' | 'destinationIp'>;

function decodeIcmp(icmp: Uint8Array, hopLimit: number, sum: number, envelope: Envelope): Decoded {
  const base = ETHERNET_HEADER + IPV6_HEADER;
  const reader = new ByteReader(icmp);
  const type = reader.u8();
  const code = reader.u8();
  reader.skip(2);
  if (type !== NEIGHBOR_SOLICITATION && type !== NEIGHBOR_ADVERTISEMENT) {
    return problem('not-neighbor-discovery', base, `ICMPv6 type ${type}`);
  }
  const flags = reader.u32();
  const target = ipFromBytes(reader.bytes(V6_LENGTH));
  if (reader.overrun || target === undefined) return problem('truncated', base, `${icmp.length} of 24 bytes`);
  if (hopLimit !== HOP_LIMIT) return problem('bad-hop-limit', ETHERNET_HEADER + 7, `${hopLimit}`);
  if (sum !== 0) return problem('bad-checksum', base + 2, `sum ${sum.toString(16)}`);
  if (code !== 0) return problem('bad-code', base + 1, `${code}`);
  if (isMulticast(target)) return problem('bad-target', base + 8, target);
  const solicitation = type === NEIGHBOR_SOLICITATION;
  const wanted = solicitation ? OPTION_SOURCE_LINK_LAYER : OPTION_TARGET_LINK_LAYER;
  const option = readLinkLayerOption(reader, wanted);
  if (option === 'bad')
    return problem('bad-option', base + reader.offset, 'an option of no or too much length');
  if (isMulticast(envelope.sourceIp)) return problem('bad-source', ETHERNET_HEADER + 8, envelope.sourceIp);
  const message: NdMessage = {
    kind: 'nd',
    type: solicitation ? 'solicitation' : 'advertisement',
    ...envelope,
    target,
    router: !solicitation && (flags & NA_ROUTER) !== 0,
    solicited: !solicitation && (flags & NA_SOLICITED) !== 0,
    override: !solicitation && (flags & NA_OVERRIDE) !== 0,
    linkLayer: option,
  };
  const broken = solicitation ? brokenSolicitation(message) : brokenAdvertisement(message);
  return broken ?? ok(message);
}

/** RFC 4861 7.1.1: a probe goes to the solicited-node address and gives no link-layer address. */
function brokenSolicitation(message: NdMessage): Decoded | undefined {
  if (message.sourceIp !== V6_UNSPECIFIED) return undefined;
  if (!SOLICITED_NODE.test(message.destinationIp)) {
    return problem('bad-source', ETHERNET_HEADER + 8, `a probe to ${message.destinationIp}`);
  }
  if (message.linkLayer !== undefined) {
    return problem(
      'bad-option',
      ETHERNET_HEADER + IPV6_HEADER + ND_HEADER,
      'a probe with a link-layer address',
    );
  }
  return undefined;
}

/** RFC 4861 7.1.2: nobody can have solicited what goes to everybody. */
function brokenAdvertisement(message: NdMessage): Decoded | undefined {
  if (message.sourceIp === V6_UNSPECIFIED) return problem('bad-source', ETHERNET_HEADER + 8, '::');
  if (isMulticast(message.destinationIp) && message.solicited) {
    return problem('bad-flags', ETHERNET_HEADER + IPV6_HEADER + 4, `solicited, to ${message.destinationIp}`);
  }
  return undefined;
}

/** The link-layer address of the first option of type `wanted`; options of other types are skipped. */
function readLinkLayerOption(reader: ByteReader, wanted: number): Mac | undefined | 'bad' {
  let mac: Mac | undefined;
  while (reader.remaining > 0) {
    const type = reader.u8();
    const length = reader.u8() * 8;
    const value = reader.bytes(length - 2);
    if (reader.overrun) return 'bad';
    if (type !== wanted || mac !== undefined) continue;
    mac = macFromBytes(value.subarray(0, MAC_LENGTH));
    if (length !== 8 || mac === undefined || !isUnicastMac(mac)) return 'bad';
  }
  return mac;
}

function problem(code: NdProblem, offset: number, detail: string): Decoded {
  return fail({ code, offset, detail });
}

function truncated(frame: Uint8Array): Decoded {
  return problem('truncated', frame.length, `${frame.length} bytes`);
}

function isMulticast(ip: Ip): boolean {
  return ip.startsWith('ff') && ip.indexOf(':') === 4;
}

/** RFC 4443 2.3: over the pseudo-header and the message. Over a message that has its checksum in place, it is 0. */
function checksum(source: Uint8Array, destination: Uint8Array, icmp: Uint8Array): number {
  let sum = addWords(addWords(icmp.length + IPPROTO_ICMPV6, source), destination);
  sum = addWords(sum, icmp);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

function addWords(sum: number, bytes: Uint8Array): number {
  let total = sum;
  for (let at = 0; at < bytes.length; at += 2) total += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return total;
}

export function encodeNd(message: NdMessage): Uint8Array {
  assert(familyOf(message.target) === 'v6', `${message.target} is no v6 address`);
  const source = ipToBytes(message.sourceIp);
  const destination = ipToBytes(message.destinationIp);
  const icmp = encodeIcmp(message);
  new DataView(icmp.buffer, icmp.byteOffset).setUint16(2, checksum(source, destination, icmp));
  const writer = new ByteWriter(ETHERNET_HEADER + IPV6_HEADER + icmp.length);
  writer.bytes(macToBytes(message.ethernetDestination)).bytes(macToBytes(message.ethernetSource));
  writer.u16(ETH_P_IPV6).u32(0x6000_0000).u16(icmp.length).u8(IPPROTO_ICMPV6).u8(HOP_LIMIT);
  return writer.bytes(source).bytes(destination).bytes(icmp).finish();
}

function encodeIcmp(message: NdMessage): Uint8Array {
  const solicitation = message.type === 'solicitation';
  const flags =
    (message.router ? NA_ROUTER : 0) +
    (message.solicited ? NA_SOLICITED : 0) +
    (message.override ? NA_OVERRIDE : 0);
  const writer = new ByteWriter(32);
  writer
    .u8(solicitation ? NEIGHBOR_SOLICITATION : NEIGHBOR_ADVERTISEMENT)
    .u8(0)
    .u16(0);
  writer.u32(solicitation ? 0 : flags).bytes(ipToBytes(message.target));
  if (message.linkLayer !== undefined) {
    writer.u8(solicitation ? OPTION_SOURCE_LINK_LAYER : OPTION_TARGET_LINK_LAYER).u8(1);
    writer.bytes(macToBytes(message.linkLayer));
  }
  return writer.finish();
}

/** RFC 4291 2.7.1: `ff02::1:ff` and the last three bytes of the address. */
export function solicitedNodeAddress(ip: Ip): Ip {
  const bytes = new Uint8Array(V6_LENGTH);
  bytes.set([0xff, 0x02]);
  bytes.set([1, 0xff], 11);
  bytes.set(ipToBytes(ip).subarray(13), 13);
  const address = ipFromBytes(bytes);
  assert(address !== undefined, 'sixteen bytes are an address');
  return address;
}

/** RFC 2464 7: `33:33` and the last four bytes of the group. */
function multicastMac(group: Ip): Mac {
  const bytes = Uint8Array.of(0x33, 0x33, ...ipToBytes(group).subarray(12));
  const mac = macFromBytes(bytes);
  assert(mac !== undefined, 'six bytes are a MAC address');
  return mac;
}

const PLAIN = { kind: 'nd', router: false, solicited: false, override: false } as const;

/** Asks whether anybody has `ip`, without claiming it: from `::`, with no link-layer address (RFC 4862 5.4.2). */
export function encodeNsProbe(mac: Mac, ip: Ip, to?: Mac): Uint8Array {
  return encodeSolicitation(mac, V6_UNSPECIFIED, ip, undefined, to);
}

/** Who has `target`, tell `sourceIp`: asked of the group, or of the one station `to` of it. */
export function encodeNsRequest(mac: Mac, sourceIp: Ip, target: Ip, to?: Mac): Uint8Array {
  return encodeSolicitation(mac, sourceIp, target, mac, to);
}

function encodeSolicitation(
  mac: Mac,
  sourceIp: Ip,
  target: Ip,
  linkLayer: Mac | undefined,
  to: Mac | undefined,
): Uint8Array {
  const destinationIp = solicitedNodeAddress(target);
  const ethernet = { ethernetSource: mac, ethernetDestination: to ?? multicastMac(destinationIp) };
  return encodeNd({
    ...PLAIN,
    ...ethernet,
    type: 'solicitation',
    sourceIp,
    destinationIp,
    target,
    linkLayer,
  });
}

/**
 * Unsolicited advertisement: `ip` is at `mac`, to all nodes, overriding what they have cached (RFC 4861 7.2.6). The
 * router flag stays clear: nobody has a Service's address as its default router.
 */
export function encodeNaAnnouncement(mac: Mac, ip: Ip): Uint8Array {
  return encodeNd({
    ...PLAIN,
    type: 'advertisement',
    ethernetSource: mac,
    ethernetDestination: multicastMac(V6_ALL_NODES),
    sourceIp: ip,
    destinationIp: V6_ALL_NODES,
    target: ip,
    override: true,
    linkLayer: mac,
  });
}
