import { familyOf, type Ip, ipFromBytes, ipToBytes } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Instant } from '../../lib/time.ts';
import {
  AF_INET,
  AF_INET6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_RCVBUF,
  SO_REUSEPORT,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOL_SOCKET,
} from '../../sys/constants.ts';
import { sockaddrInet, sockaddrInet6 } from '../../sys/sockaddr.ts';
import { type Datagram, RawSocket } from '../../sys/socket.ts';
import type { Endpoint } from '../types.ts';
import { EVERY_ADDRESS, Listeners } from './listeners.ts';

/** Half a second of a thousand members that all speak at once. The kernel cuts it at net.core.rmem_max. */
const RECEIVE_BUFFER_BYTES = 1 << 20;
/** One message to each of a thousand members; the kernel cuts it at net.core.wmem_max. */
const SEND_BUFFER_BYTES = 1 << 20;
/** Addresses in both notations: members, and then some. */
const MAX_REMEMBERED = 2_048;
/** Where port and address are in a struct sockaddr_in and sockaddr_in6, and the interface of a link-local address. */
const PORT_AT = 2;
const V4_AT = 4;
const V6_AT = 8;
const SCOPE_AT = 24;

export type UdpOptions = {
  readonly port: number;
  /** Empty: every address of the host. */
  readonly bind: readonly Ip[];
  readonly logger: Logger;
  /**
   * `address` is canonical, but for a link-local one, which has a zone; `localIp` is undefined for what came to a socket
   * that is bound to no address. The packet is valid until the call returns.
   */
  readonly onPacket: (packet: Buffer, from: PacketSource) => void;
};

export type PacketSource = {
  readonly address: string;
  readonly port: number;
  readonly localIp: Ip | undefined;
  /** When it was read. */
  readonly at: Instant;
};

type Read = { readonly socket: RawSocket; readonly ip: Ip; readonly datagram: Datagram };

/**
 * The datagram sockets of one port: those that the configuration wants, and one for each address in a segment, so that a
 * packet for a segment leaves from the address there. SO_REUSEPORT lets them share the port among themselves, and unlike SO_REUSEADDR
 * with no process of another user.
 *
 * Of Node's own datagrams each costs twice as much processor time, and heartbeats are most of what an idle lbd does.
 */
export class UdpSockets {
  readonly #options: UdpOptions;
  readonly #listeners: Listeners<RawSocket>;
  /** Where a packet goes out for which no address is named, or one that has no socket yet. */
  #fallback: Readonly<Record<'v4' | 'v6', Ip | undefined>>;
  readonly #destinations = new Map<Ip, { readonly port: number; readonly bytes: Uint8Array }>();
  readonly #sources = new Map<string | number, string>();
  #sendFailures = 0;
  #overflows = 0;
  #keptByte: number | undefined;

  constructor(options: UdpOptions) {
    const { port, logger } = options;
    this.#options = options;
    this.#fallback = firstOfEach(options.bind.length === 0 ? EVERY_ADDRESS : options.bind);
    this.#listeners = new Listeners({
      protocol: 'UDP',
      port,
      logger,
      open: async (ip) => this.#open(ip),
      close: (socket) => socket.close(),
    });
  }

  get failures(): { readonly send: number; readonly overflow: number } {
    return { send: this.#sendFailures, overflow: this.#overflows };
  }

  /** Rejects with an LbdError when the port cannot be had; a family that the host has not is passed over. */
  start(): Promise<void> {
    const { bind } = this.#options;
    return bind.length === 0 ? this.#listeners.startEverywhere() : this.#listeners.start(bind);
  }

  /** The addresses to have a socket of their own from now on. */
  setAddresses(addresses: readonly Ip[]): void {
    if (this.#options.bind.length > 0) this.#fallback = firstOfEach(addresses);
    this.#listeners.set(new Set(addresses));
  }

  /** From the given address of this host, or from any while that has no socket. Failures are counted, as losses are. */
  send(packet: Uint8Array, to: Endpoint, from: Ip | undefined): void {
    const family = familyOf(to.ip);
    const fallback = this.#fallback[family];
    const named = from !== undefined && familyOf(from) === family ? this.#listeners.get(from) : undefined;
    const socket = named ?? (fallback === undefined ? undefined : this.#listeners.get(fallback));
    if (socket === undefined) {
      this.#sendFailures++;
      return;
    }
    try {
      // When the kernel takes no more, packets are dropped as the network would.
      if (socket.send(packet, this.#destination(to)) === 'blocked') this.#overflows++;
    } catch {
      this.#sendFailures++;
    }
  }

  /** Packets that begin with this byte wait for `takeKept()` from now on, or for another packet; undefined: none do. */
  keep(firstByte: number | undefined): void {
    this.#keptByte = firstByte;
    for (const [, socket] of this.#listeners.open()) socket.keepDatagrams(firstByte);
  }

  /** Gives what waits to `onPacket`, by the time at which it was read. */
  takeKept(): void {
    this.#deliver([]);
  }

  close(): void {
    this.#listeners.close();
  }

  #open(ip: Ip): RawSocket {
    const v6 = familyOf(ip) === 'v6';
    const socket = new RawSocket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
    try {
      if (v6) socket.setOption(IPPROTO_IPV6, IPV6_V6ONLY, 1);
      socket.setOption(SOL_SOCKET, SO_REUSEPORT, 1);
      socket.setOption(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
      socket.setOption(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);
      socket.bind(sockaddrOf({ ip, port: this.#options.port }));
      socket.startPolling({
        onDatagrams: (datagrams) => this.#deliver(datagrams.map((datagram) => ({ socket, ip, datagram }))),
        onError: (error) => {
          if (error.stopped && this.#listeners.get(ip) === socket) this.#listeners.failed(ip, error);
        },
        onThrow: (thrown) => {
          throw thrown;
        },
      });
      socket.keepDatagrams(this.#keptByte);
      return socket;
    } catch (thrown) {
      socket.close();
      throw thrown;
    }
  }

  /** What was just read, after what has waited on any socket and came before it. */
  #deliver(read: Read[]): void {
    let sockets = read.length === 0 ? 0 : 1;
    for (const [ip, socket] of this.#listeners.open()) {
      const kept = socket.takeDatagrams();
      if (kept.length === 0) continue;
      sockets += 1;
      for (const datagram of kept) read.push({ socket, ip, datagram });
    }
    if (sockets > 1) read.sort((left, right) => left.datagram.receivedAt - right.datagram.receivedAt);
    for (const { socket, ip, datagram } of read) {
      // What is told of one packet may close the socket.
      if (this.#listeners.get(ip) !== socket) continue;
      const { bytes, sender, receivedAt } = datagram;
      const packet = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#options.onPacket(packet, {
        address: this.#source(sender),
        port: ((sender[PORT_AT] ?? 0) << 8) | (sender[PORT_AT + 1] ?? 0),
        localIp: EVERY_ADDRESS.includes(ip) ? undefined : ip,
        at: receivedAt,
      });
    }
  }

  /** To write an address as text takes longer than all else of a packet. */
  #source(sender: Uint8Array): string {
    const key = sender.length > SCOPE_AT ? v6Key(sender) : v4Key(sender);
    const known = this.#sources.get(key);
    if (known !== undefined) return known;
    const source = sourceOf(sender);
    if (this.#sources.size >= MAX_REMEMBERED) this.#sources.clear();
    this.#sources.set(key, source);
    return source;
  }

  #destination(to: Endpoint): Uint8Array {
    const known = this.#destinations.get(to.ip);
    if (known !== undefined && known.port === to.port) return known.bytes;
    const bytes = sockaddrOf(to);
    if (this.#destinations.size >= MAX_REMEMBERED) this.#destinations.clear();
    this.#destinations.set(to.ip, { port: to.port, bytes });
    return bytes;
  }
}

function firstOfEach(addresses: readonly Ip[]): Readonly<Record<'v4' | 'v6', Ip | undefined>> {
  return {
    v4: addresses.find((ip) => familyOf(ip) === 'v4'),
    v6: addresses.find((ip) => familyOf(ip) === 'v6'),
  };
}

function sockaddrOf({ ip, port }: Endpoint): Uint8Array {
  const bytes = ipToBytes(ip);
  return bytes.length === 4 ? sockaddrInet(bytes, port) : sockaddrInet6(bytes, port);
}

function v4Key(sender: Uint8Array): number {
  return (
    ((sender[V4_AT] ?? 0) << 24) |
    ((sender[V4_AT + 1] ?? 0) << 16) |
    ((sender[V4_AT + 2] ?? 0) << 8) |
    (sender[V4_AT + 3] ?? 0)
  );
}

function v6Key(sender: Uint8Array): string {
  return Buffer.from(sender.buffer, sender.byteOffset + V6_AT, SCOPE_AT + 4 - V6_AT).toString('latin1');
}

function sourceOf(sender: Uint8Array): string {
  if (sender.length <= SCOPE_AT) return ipFromBytes(sender.subarray(V4_AT, V4_AT + 4)) ?? '';
  const ip = ipFromBytes(sender.subarray(V6_AT, V6_AT + 16)) ?? '';
  const scope = new DataView(sender.buffer, sender.byteOffset + SCOPE_AT, 4).getUint32(0, true);
  return scope === 0 ? ip : `${ip}%${scope}`;
}
