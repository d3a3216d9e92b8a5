import { assert } from '../lib/assert.ts';
import { ByteReader, ByteWriter } from '../lib/bytes.ts';
import { AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX } from './constants.ts';

/** sun_path of struct sockaddr_un (linux/un.h), in bytes. */
const UNIX_PATH_MAX = 108;
/** sll_addr of struct sockaddr_ll (linux/if_packet.h), in bytes. */
const LINK_LAYER_ADDRESS_MAX = 8;

/** struct sockaddr_nl (netlink(7)). To the kernel: pid 0, groups 0. `groups` is the legacy mask of the first 32. */
export function sockaddrNetlink(pid = 0, groups = 0): Uint8Array {
  return new ByteWriter(12).u16Host(AF_NETLINK).u16(0).u32Host(pid).u32Host(groups).finish();
}

/** The sender of a netlink datagram; undefined when it is not a sockaddr_nl. Only pid 0 is the kernel. */
export function parseSockaddrNetlink(
  bytes: Uint8Array,
): { readonly pid: number; readonly groups: number } | undefined {
  const reader = new ByteReader(bytes);
  const family = reader.u16Host();
  reader.skip(2);
  const parsed = { pid: reader.u32Host(), groups: reader.u32Host() };
  return reader.overrun || family !== AF_NETLINK ? undefined : parsed;
}

/**
 * struct sockaddr_ll (packet(7)). `protocol` is an ETH_P_* number in host order, as written in if_ether.h.
 * For bind: interface index and protocol. For a SOCK_DGRAM send: also the destination's hardware address.
 */
export function sockaddrPacket(
  ifIndex: number,
  protocol: number,
  destination: Uint8Array = new Uint8Array(0),
): Uint8Array {
  assert(
    destination.length <= LINK_LAYER_ADDRESS_MAX,
    `hardware address of ${destination.length} bytes, at most 8`,
  );
  return new ByteWriter(20)
    .u16Host(AF_PACKET)
    .u16(protocol)
    .i32Host(ifIndex)
    .u16(0) // sll_hatype
    .u8(0) // sll_pkttype
    .u8(destination.length)
    .bytes(destination)
    .zeros(LINK_LAYER_ADDRESS_MAX - destination.length)
    .finish();
}

/** The sender of a packet(7) datagram. */
export type PacketSender = {
  readonly ifIndex: number;
  /** ETH_P_*, host order. */
  readonly protocol: number;
  /** ARPHRD_*. */
  readonly hardwareType: number;
  /** PACKET_HOST, PACKET_BROADCAST, PACKET_OUTGOING, ... */
  readonly packetType: number;
  readonly hardwareAddress: Uint8Array;
};

/** Undefined when the bytes are not a sockaddr_ll. */
export function parseSockaddrPacket(bytes: Uint8Array): PacketSender | undefined {
  const reader = new ByteReader(bytes);
  const family = reader.u16Host();
  const protocol = reader.u16();
  const ifIndex = reader.i32Host();
  const hardwareType = reader.u16Host();
  const packetType = reader.u8();
  const hardwareAddress = reader.bytes(reader.u8());
  if (reader.overrun || family !== AF_PACKET) return undefined;
  return { ifIndex, protocol, hardwareType, packetType, hardwareAddress };
}

/** struct sockaddr_in (ip(7)); `address` are 4 bytes in network order. */
export function sockaddrInet(address: Uint8Array, port: number): Uint8Array {
  assert(address.length === 4, `IPv4 address of ${address.length} bytes`);
  return new ByteWriter(16).u16Host(AF_INET).u16(port).bytes(address).zeros(8).finish();
}

/** struct sockaddr_in6 (ipv6(7)); `scopeId` is the interface index, needed for link-local addresses. */
export function sockaddrInet6(address: Uint8Array, port: number, scopeId = 0): Uint8Array {
  assert(address.length === 16, `IPv6 address of ${address.length} bytes`);
  return new ByteWriter(28)
    .u16Host(AF_INET6)
    .u16(port)
    .u32(0) // sin6_flowinfo
    .bytes(address)
    .u32Host(scopeId)
    .finish();
}

/** Undefined when the bytes are not a sockaddr_in6. */
export function parseSockaddrInet6(
  bytes: Uint8Array,
): { readonly address: Uint8Array; readonly port: number; readonly scopeId: number } | undefined {
  const reader = new ByteReader(bytes);
  const family = reader.u16Host();
  const port = reader.u16();
  reader.skip(4);
  const address = reader.bytes(16);
  const scopeId = reader.u32Host();
  return reader.overrun || family !== AF_INET6 ? undefined : { address, port, scopeId };
}

/** struct sockaddr_un (unix(7)); a leading `@` means the abstract namespace. Undefined when the path is too long or empty. */
export function sockaddrUnix(path: string): Uint8Array | undefined {
  const isAbstract = path.startsWith('@');
  const name = new TextEncoder().encode(isAbstract ? path.slice(1) : path);
  // Either the NUL before an abstract name or the one after a path counts.
  if (name.length === 0 || name.length + 1 > UNIX_PATH_MAX || name.includes(0)) return undefined;
  const writer = new ByteWriter(2 + UNIX_PATH_MAX).u16Host(AF_UNIX);
  return isAbstract ? writer.u8(0).bytes(name).finish() : writer.bytes(name).u8(0).finish();
}
