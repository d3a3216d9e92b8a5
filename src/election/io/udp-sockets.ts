import { errorText } from '../../lib/errors.ts';
import { familyOf, type Ip, ipFromBytes, ipToBytes } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import { after, type Instant } from '../../lib/time.ts';
import { assemble, JUMP_EQUAL, LOAD_BYTE, RETURN } from '../../sys/bpf.ts';
import { bootTimeMs, realTimeMs } from '../../sys/clock.ts';
import {
  AF_INET,
  AF_INET6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_RCVBUF,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_TIMESTAMPNS,
  SOCK_DGRAM,
  SOL_SOCKET,
} from '../../sys/constants.ts';
import { sockaddrInet, sockaddrInet6 } from '../../sys/sockaddr.ts';
import { type Datagram, RawSocket } from '../../sys/socket.ts';
import { isSystemError } from '../../sys/system-error.ts';
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

/** More at once than neighbours send: whoever sends so many is read as he sends, for a while. */
const FLOOD_PACKETS = 256;
const FLOOD_MS = 1_000;
/** The kernel stamps a packet a moment before it can be read. */
const STAMP_SLACK_MS = 5;

export type UdpOptions = {
  readonly port: number;
  /** With which a packet begins that may wait; see `keep()`. */
  readonly routineByte: number;
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
  /** When it was read or, of one that waited, when it came. */
  readonly at: Instant;
};

/** The sockets of one address, which share its port: the kernel gives routine packets to one of their own, if there is one. */
type Pair = { readonly prompt: RawSocket; readonly routine: RawSocket | undefined };

type Read = {
  readonly socket: RawSocket;
  readonly ip: Ip;
  readonly datagram: Datagram;
  readonly at: Instant;
};

/**
 * The datagram sockets of one port: those that the configuration wants, and one for each address in a segment, so that a
 * packet for a segment leaves from the address there. SO_REUSEPORT lets them share the port among themselves, and unlike SO_REUSEADDR
 * with no process of another user.
 *
 * Of Node's own datagrams each costs twice as much processor time, and heartbeats are most of what an idle lbd does: most
 * of what is left is to be woken for each. So they come to sockets of their own, which need not wake anybody while all is calm.
 */
export class UdpSockets {
  readonly #options: UdpOptions;
  readonly #listeners: Listeners<Pair>;
  /** Where a packet goes out for which no address is named, or one that has no socket yet. */
  #fallback: Readonly<Record<'v4' | 'v6', Ip | undefined>>;
  readonly #destinations = new Map<Ip, { readonly port: number; readonly bytes: Uint8Array }>();
  readonly #sources = new Map<string | number, string>();
  #sendFailures = 0;
  #overflows = 0;
  /** Read and not yet told. */
  #reads: Read[] = [];
  #isGathering = false;
  #gathered = 0;
  #gatheredAt: Instant = bootTimeMs();
  /** For how long routine packets may wait; undefined: not at all. */
  #waitLimitMs: number | undefined;
  #floodUntil: Instant = bootTimeMs();
  #isPaused = false;

  constructor(options: UdpOptions) {
    const { port, logger } = options;
    this.#options = options;
    this.#fallback = firstOfEach(options.bind.length === 0 ? EVERY_ADDRESS : options.bind);
    this.#listeners = new Listeners({
      protocol: 'UDP',
      port,
      logger,
      open: async (ip) => this.#open(ip),
      close: closePair,
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
    const pair = named ?? (fallback === undefined ? undefined : this.#listeners.get(fallback));
    if (pair === undefined) {
      this.#sendFailures++;
      return;
    }
    try {
      // When the kernel takes no more, packets are dropped as the network would.
      if (pair.prompt.send(packet, this.#destination(to)) === 'blocked') this.#overflows++;
    } catch {
      this.#sendFailures++;
    }
  }

  /**
   * From now on routine packets wait for `takeKept()`, which comes at least once in `limitMs`, or for another packet.
   * Undefined: no more wait.
   */
  keep(limitMs: number | undefined): void {
    if (this.#waitLimitMs === undefined) this.#gatheredAt = bootTimeMs();
    this.#waitLimitMs = limitMs;
    this.#pause();
  }

  /** Gives what waits to `onPacket`, by the time at which it came. */
  takeKept(): void {
    this.#gather();
    this.#deliver();
  }

  close(): void {
    this.#listeners.close();
  }

  #open(ip: Ip): Pair {
    const prompt = this.#bind(ip);
    const routine = this.#bindRoutine(ip);
    const pair = { prompt, routine };
    const isHere = () => this.#listeners.get(ip) === pair;
    this.#poll(prompt, isHere, ip, (datagrams) => {
      // What has waited came before.
      this.#gather();
      for (const datagram of datagrams)
        this.#reads.push({ socket: prompt, ip, datagram, at: datagram.receivedAt });
      this.#deliver();
    });
    if (routine === undefined) return pair;
    this.#poll(routine, isHere, ip, (datagrams) => {
      for (const datagram of datagrams)
        this.#reads.push({ socket: routine, ip, datagram, at: this.#arrivalOf(datagram) });
      this.#gathered += datagrams.length;
      if (!this.#isGathering) this.#deliver();
    });
    routine.pausePolling(this.#isPaused);
    return pair;
  }

  #bind(ip: Ip): RawSocket {
    const v6 = familyOf(ip) === 'v6';
    const socket = new RawSocket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
    try {
      if (v6) socket.setOption(IPPROTO_IPV6, IPV6_V6ONLY, 1);
      socket.setOption(SOL_SOCKET, SO_REUSEPORT, 1);
      socket.setOption(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
      socket.setOption(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);
      socket.bind(sockaddrOf({ ip, port: this.#options.port }));
      return socket;
    } catch (thrown) {
      socket.close();
      throw thrown;
    }
  }

  /**
   * After the other of its address, so that it is number 1 of both. Undefined on a kernel that does not tell them apart,
   * and for every address: heartbeats come to the one in a segment.
   */
  #bindRoutine(ip: Ip): RawSocket | undefined {
    if (EVERY_ADDRESS.includes(ip)) return undefined;
    let socket: RawSocket | undefined;
    try {
      socket = this.#bind(ip);
      socket.setOption(SOL_SOCKET, SO_TIMESTAMPNS, 1);
      socket.attachReuseportFilter(routineSecond(this.#options.routineByte));
      return socket;
    } catch (thrown) {
      socket?.close();
      if (!isSystemError(thrown)) throw thrown;
      this.#options.logger.debug({ ip, error: errorText(thrown) }, 'gossip.routine-socket.refused');
      return undefined;
    }
  }

  #poll(
    socket: RawSocket,
    isHere: () => boolean,
    ip: Ip,
    onDatagrams: (all: readonly Datagram[]) => void,
  ): void {
    socket.startPolling({
      onDatagrams,
      onError: (error) => {
        if (error.stopped && isHere()) this.#listeners.failed(ip, error);
      },
      onThrow: (thrown) => {
        throw thrown;
      },
    });
  }

  /** Reads what waits in the kernel. */
  #gather(): void {
    if (this.#waitLimitMs === undefined) return;
    this.#gathered = 0;
    this.#isGathering = true;
    for (const [, { routine }] of this.#listeners.open()) routine?.deliverNow();
    this.#isGathering = false;
    this.#gatheredAt = bootTimeMs();
    if (this.#gathered > FLOOD_PACKETS) this.#floodUntil = after(this.#gatheredAt, FLOOD_MS);
    this.#pause();
  }

  #pause(): void {
    const isPaused = this.#waitLimitMs !== undefined && this.#gatheredAt >= this.#floodUntil;
    if (isPaused === this.#isPaused) return;
    this.#isPaused = isPaused;
    for (const [, { routine }] of this.#listeners.open()) routine?.pausePolling(isPaused);
  }

  /**
   * By the kernel's stamp, as far as that can be: not before what came was last looked for. Where that was too long ago this
   * host did not run, and has heard nobody meanwhile; and the wall clock may have been set.
   */
  #arrivalOf({ receivedAt, timestampMs }: Datagram): Instant {
    const sinceMs = receivedAt - this.#gatheredAt;
    if (!this.#isPaused || timestampMs === undefined || sinceMs > (this.#waitLimitMs ?? 0)) return receivedAt;
    const ageMs = realTimeMs() - timestampMs;
    if (ageMs < 0 || ageMs > sinceMs + STAMP_SLACK_MS) return receivedAt;
    return after(receivedAt, -Math.min(ageMs, sinceMs));
  }

  /** Tells what was read, in the order in which it came. */
  #deliver(): void {
    const reads = this.#reads;
    if (reads.length === 0) return;
    this.#reads = [];
    if (reads.length > 1) reads.sort((left, right) => left.at - right.at);
    for (const { socket, ip, datagram, at } of reads) {
      // What is told of one packet may close the socket.
      const pair = this.#listeners.get(ip);
      if (pair === undefined || (pair.prompt !== socket && pair.routine !== socket)) continue;
      const { bytes, sender } = datagram;
      const packet = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#options.onPacket(packet, {
        address: this.#source(sender),
        port: ((sender[PORT_AT] ?? 0) << 8) | (sender[PORT_AT + 1] ?? 0),
        localIp: EVERY_ADDRESS.includes(ip) ? undefined : ip,
        at,
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

function closePair({ prompt, routine }: Pair): void {
  prompt.close();
  routine?.close();
}

/** Of two sockets on one port, the second is for datagrams that begin with that byte. */
function routineSecond(routineByte: number): Uint8Array {
  return assemble([
    [LOAD_BYTE, 0, 0, 0],
    [JUMP_EQUAL, 0, 1, routineByte],
    [RETURN, 0, 0, 1],
    [RETURN, 0, 0, 0],
  ]);
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
