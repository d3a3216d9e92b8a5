import { ByteReader, ByteWriter } from '../lib/bytes.ts';
import { type Ip, ipFromBytes, ipToBytes } from '../lib/ip.ts';
import { fail, ok, type Result } from '../lib/result.ts';
import { ETH_P_ARP, ETH_P_IP } from '../sys/constants.ts';
import { isUnicastMac, MAC_BROADCAST, MAC_LENGTH, MAC_ZERO, macFromBytes, macToBytes } from './mac.ts';
import type { Mac } from './types.ts';

/** ARP for IPv4 over Ethernet (RFC 826), with the probes and announcements of RFC 5227. */

const ARPHRD_ETHER = 1;
const ARPOP_REQUEST = 1;
const ARPOP_REPLY = 2;
const V4_LENGTH = 4;
/** RFC 5227 1.1: the sender of a probe. */
const V4_UNSPECIFIED = '0.0.0.0' as Ip;

export type ArpMessage = {
  readonly kind: 'arp';
  readonly operation: 'request' | 'reply';
  readonly ethernetSource: Mac;
  readonly ethernetDestination: Mac;
  readonly senderMac: Mac;
  /** `0.0.0.0` in a probe. */
  readonly senderIp: Ip;
  readonly targetMac: Mac;
  readonly targetIp: Ip;
};

export type ArpProblem =
  | 'truncated'
  | 'not-arp'
  | 'not-ethernet'
  | 'not-ipv4'
  | 'other-operation'
  /** A group or all-zero address, which no station has (RFC 1812 3.3.2). */
  | 'bad-sender-mac';

export type FrameProblem<Code> = { readonly code: Code; readonly offset: number; readonly detail: string };

/** Reads one Ethernet frame (without FCS; trailing padding is normal). Total: never throws. */
export function decodeArp(frame: Uint8Array): Result<ArpMessage, FrameProblem<ArpProblem>> {
  const reader = new ByteReader(frame);
  const ethernetDestination = macFromBytes(reader.bytes(MAC_LENGTH));
  const ethernetSource = macFromBytes(reader.bytes(MAC_LENGTH));
  const etherType = reader.u16();
  if (!reader.overrun && etherType !== ETH_P_ARP) return problem('not-arp', 12, `EtherType ${etherType}`);
  const hardware = reader.u16();
  const protocol = reader.u16();
  const hardwareLength = reader.u8();
  const protocolLength = reader.u8();
  const operation = reader.u16();
  if (reader.overrun) return truncated(frame);
  if (hardware !== ARPHRD_ETHER || hardwareLength !== MAC_LENGTH) {
    return problem('not-ethernet', 14, `ar$hrd ${hardware}, ar$hln ${hardwareLength}`);
  }
  if (protocol !== ETH_P_IP || protocolLength !== V4_LENGTH) {
    return problem('not-ipv4', 16, `ar$pro ${protocol}, ar$pln ${protocolLength}`);
  }
  if (operation !== ARPOP_REQUEST && operation !== ARPOP_REPLY) {
    return problem('other-operation', 20, `ar$op ${operation}`);
  }
  const senderMac = macFromBytes(reader.bytes(MAC_LENGTH));
  const senderIp = ipFromBytes(reader.bytes(V4_LENGTH));
  const targetMac = macFromBytes(reader.bytes(MAC_LENGTH));
  const targetIp = ipFromBytes(reader.bytes(V4_LENGTH));
  if (ethernetSource === undefined || ethernetDestination === undefined) return truncated(frame);
  if (senderMac === undefined || senderIp === undefined) return truncated(frame);
  if (targetMac === undefined || targetIp === undefined) return truncated(frame);
  if (!isUnicastMac(senderMac)) return problem('bad-sender-mac', 22, senderMac);
  return ok({
    kind: 'arp',
    operation: operation === ARPOP_REQUEST ? 'request' : 'reply',
    ethernetSource,
    ethernetDestination,
    senderMac,
    senderIp,
    targetMac,
    targetIp,
  });
}

function problem(code: ArpProblem, offset: number, detail: string): Result<never, FrameProblem<ArpProblem>> {
  return fail({ code, offset, detail });
}

function truncated(frame: Uint8Array): Result<never, FrameProblem<ArpProblem>> {
  return problem('truncated', frame.length, `${frame.length} bytes, expected at least 42`);
}

export function encodeArp(message: ArpMessage): Uint8Array {
  const writer = new ByteWriter(42);
  writer.bytes(macToBytes(message.ethernetDestination)).bytes(macToBytes(message.ethernetSource));
  writer.u16(ETH_P_ARP).u16(ARPHRD_ETHER).u16(ETH_P_IP).u8(MAC_LENGTH).u8(V4_LENGTH);
  writer.u16(message.operation === 'request' ? ARPOP_REQUEST : ARPOP_REPLY);
  writer.bytes(macToBytes(message.senderMac)).bytes(ipToBytes(message.senderIp));
  writer.bytes(macToBytes(message.targetMac)).bytes(ipToBytes(message.targetIp));
  return writer.finish();
}

/** Asks whether anybody has `ip`, without claiming it: sender 0.0.0.0 fills nobody's cache (RFC 5227 2.1.1). */
export function encodeArpProbe(mac: Mac, ip: Ip, to = MAC_BROADCAST): Uint8Array {
  return encodeArpRequest(mac, V4_UNSPECIFIED, ip, to);
}

/** Who has `targetIp`, tell `senderIp`: asked of everybody or, as RFC 1122 2.3.2.1 polls, of one station. */
export function encodeArpRequest(mac: Mac, senderIp: Ip, targetIp: Ip, to = MAC_BROADCAST): Uint8Array {
  return encodeArp({
    kind: 'arp',
    operation: 'request',
    ethernetSource: mac,
    ethernetDestination: to,
    senderMac: mac,
    senderIp,
    targetMac: MAC_ZERO,
    targetIp,
  });
}

/**
 * Gratuitous ARP: `ip` is at `mac`, to everybody. Both forms are in use (RFC 5227 3, RFC 5944 4.6): most stacks take
 * the request, some believe only the reply.
 */
export function encodeArpAnnouncement(mac: Mac, ip: Ip, form: 'request' | 'reply'): Uint8Array {
  return encodeArp({
    kind: 'arp',
    operation: form,
    ethernetSource: mac,
    ethernetDestination: MAC_BROADCAST,
    senderMac: mac,
    senderIp: ip,
    // RFC 5944 4.6: unused in a request, the address to be cached in a reply.
    targetMac: form === 'request' ? MAC_ZERO : mac,
    targetIp: ip,
  });
}
