import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Instant } from '../../lib/time.ts';
import {
  assemble,
  DROP,
  type Instruction,
  JUMP_EQUAL,
  KEEP_ALL,
  LOAD_BYTE,
  PACKET_TYPE,
  RETURN,
} from '../../sys/bpf.ts';
import { bootTimeMs } from '../../sys/clock.ts';
import {
  AF_PACKET,
  ETH_P_ARP,
  ETH_P_IPV6,
  IPPROTO_ICMPV6,
  PACKET_IGNORE_OUTGOING,
  PACKET_OTHERHOST,
  SO_RCVBUF,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
} from '../../sys/constants.ts';
import { sockaddrPacket } from '../../sys/sockaddr.ts';
import { type Datagram, type OutgoingDatagram, RawSocket } from '../../sys/socket.ts';
import { isSystemError } from '../../sys/system-error.ts';
import { type ArpMessage, type ArpProblem, decodeArp } from '../arp-codec.ts';
import { decodeNd, type NdMessage, type NdProblem } from '../nd-codec.ts';
import type { IfIndex, Mac } from '../types.ts';

/**
 * ARP and neighbour discovery on the wire of the NICs that carry local addresses: packet sockets, two for each NIC.
 * They hear what every neighbour says, not only what the kernel would keep, and send what the kernel would not.
 *
 * A NIC that goes down and comes back keeps its sockets (packet(7)); one that goes for good breaks them, and they are
 * opened again in case the index comes back, until `unwatch()`.
 */

/** An ARP frame has 42 bytes, a neighbour advertisement 86; options may follow. Longer ones are cut and refused. */
const FRAME_LIMIT_BYTES = 1518;
/** A storm fills this and no more: the kernel drops what comes beyond. */
const RECEIVE_BUFFER_BYTES = 512 * 1024;
const REOPEN_INTERVAL_MS = 1_000;
const ETHERTYPE_OFFSET = 12;

export type WireOptions = {
  readonly logger: Logger;
  /** Every valid frame of a neighbour, and when it was read. */
  readonly onFrame: (ifIndex: IfIndex, message: ArpMessage | NdMessage, at: Instant) => void;
};

export type SendResult = {
  readonly sent: number;
  /** Which ones did not leave, by their place among all. */
  readonly unsent: readonly number[];
  /** Why, in words, when any did not. */
  readonly error?: string;
};

/** `own`: it came from this NIC itself. */
type Refusal = ArpProblem | NdProblem | 'own';

export type WireCounters = {
  readonly received: number;
  readonly sent: number;
  /** Frames that were to be sent, and that the NIC did not take. */
  readonly unsent: number;
  /** Frames that were refused, by reason. */
  readonly refused: Readonly<Partial<Record<Refusal, number>>>;
};

type Protocol = { readonly name: 'arp' | 'nd'; readonly etherType: number };

const PROTOCOLS: readonly Protocol[] = [
  { name: 'arp', etherType: ETH_P_ARP },
  { name: 'nd', etherType: ETH_P_IPV6 },
];

type Watched = {
  readonly ifIndex: IfIndex;
  mac: Mac;
  readonly sockets: Map<Protocol, RawSocket>;
  /** Why not every socket is open; logged once. */
  failure: string | undefined;
};

export class Wire {
  readonly #logger: Logger;
  readonly #onFrame: WireOptions['onFrame'];
  readonly #watched = new Map<IfIndex, Watched>();
  #reopenTimer: NodeJS.Timeout | undefined;
  #received = 0;
  #sent = 0;
  #unsent = 0;
  readonly #refused: Partial<Record<Refusal, number>> = {};

  constructor(options: WireOptions) {
    this.#logger = options.logger;
    this.#onFrame = options.onFrame;
  }

  /** Listens on a NIC, by its present hardware address; harmless when it does already. */
  watch(ifIndex: IfIndex, mac: Mac): void {
    const known = this.#watched.get(ifIndex);
    if (known !== undefined) known.mac = mac;
    const watched = known ?? { ifIndex, mac, sockets: new Map(), failure: undefined };
    this.#watched.set(ifIndex, watched);
    this.#open(watched);
  }

  unwatch(ifIndex: IfIndex): void {
    const watched = this.#watched.get(ifIndex);
    if (watched === undefined) return;
    this.#watched.delete(ifIndex);
    for (const socket of watched.sockets.values()) socket.close();
  }

  /**
   * Sends whole Ethernet frames, in order. What the NIC does not take at once is dropped and counted, and its
   * sender told: a probe or an announcement that waits is worth nothing.
   */
  send(ifIndex: IfIndex, frames: readonly Uint8Array[]): SendResult {
    const watched = this.#watched.get(ifIndex);
    const unsent: number[] = [];
    let error: string | undefined;
    for (const protocol of PROTOCOLS) {
      const group = frames.flatMap((bytes, place) =>
        etherTypeOf(bytes) === protocol.etherType ? [{ bytes, place }] : [],
      );
      if (group.length === 0) continue;
      const outcome = sendGroup(watched?.sockets.get(protocol), group);
      for (const { place } of group.slice(outcome.sent)) unsent.push(place);
      error ??= outcome.error;
    }
    const sent = frames.length - unsent.length;
    this.#sent += sent;
    this.#unsent += unsent.length;
    if (unsent.length === 0) return { sent, unsent };
    return { sent, unsent, error: watched?.failure ?? error ?? `interface ${ifIndex} is not watched` };
  }

  counters(): WireCounters {
    return {
      received: this.#received,
      sent: this.#sent,
      unsent: this.#unsent,
      refused: { ...this.#refused },
    };
  }

  close(): void {
    clearTimeout(this.#reopenTimer);
    for (const ifIndex of [...this.#watched.keys()]) this.unwatch(ifIndex);
  }

  #open(watched: Watched): void {
    for (const protocol of PROTOCOLS) {
      if (watched.sockets.has(protocol)) continue;
      try {
        watched.sockets.set(protocol, this.#openSocket(watched, protocol));
      } catch (thrown) {
        if (!isSystemError(thrown)) throw thrown;
        return this.#failed(watched, errorText(thrown));
      }
    }
    watched.failure = undefined;
  }

  #openSocket(watched: Watched, protocol: Protocol): RawSocket {
    // Protocol 0 hears nothing: no frame of another NIC gets in before bind, none past the filter.
    const socket = new RawSocket(AF_PACKET, SOCK_RAW, 0);
    try {
      socket.setOption(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
      socket.setOption(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
      socket.attachFilter(protocol.name === 'nd' ? NEIGHBOR_DISCOVERY_FILTER : ARP_FILTER);
      socket.bind(sockaddrPacket(watched.ifIndex, protocol.etherType));
      socket.startPolling(
        {
          onDatagrams: (datagrams) => this.#receive(watched, protocol, datagrams),
          onError: (error) => this.#broken(watched, protocol, socket, error.code, error.stopped),
          onThrow: (thrown) => {
            throw thrown;
          },
        },
        { maxDatagramBytes: FRAME_LIMIT_BYTES },
      );
      return socket;
    } catch (thrown) {
      socket.close();
      throw thrown;
    }
  }

  #receive(watched: Watched, protocol: Protocol, datagrams: readonly Datagram[]): void {
    const at = bootTimeMs();
    for (const { bytes } of datagrams) {
      // Inside onFrame the NIC may have been given up.
      if (this.#watched.get(watched.ifIndex) !== watched) return;
      const decoded = protocol.name === 'arp' ? decodeArp(bytes) : decodeNd(bytes);
      if (!decoded.ok) {
        this.#refused[decoded.error.code] = (this.#refused[decoded.error.code] ?? 0) + 1;
        continue;
      }
      // A loop in the fabric brings our own frames back; they say nothing about anybody else.
      if (decoded.value.ethernetSource === watched.mac) {
        this.#refused.own = (this.#refused.own ?? 0) + 1;
        continue;
      }
      this.#received += 1;
      this.#onFrame(watched.ifIndex, decoded.value, at);
    }
  }

  /** ENETDOWN: the NIC went down, or for good. Only in the latter case is the socket of no more use. */
  #broken(watched: Watched, protocol: Protocol, socket: RawSocket, errno: string, stopped: boolean): void {
    if (errno === 'ENETDOWN' && !stopped && boundIndex(socket) === watched.ifIndex) return;
    if (errno === 'ENOBUFS' && !stopped) return;
    socket.close();
    if (watched.sockets.get(protocol) === socket) watched.sockets.delete(protocol);
    this.#failed(watched, `the ${protocol.name} socket of interface ${watched.ifIndex} broke: ${errno}`);
  }

  #failed(watched: Watched, failure: string): void {
    if (watched.failure !== failure) {
      this.#logger.warn({ ifIndex: watched.ifIndex, error: failure }, 'wire.unavailable');
    }
    watched.failure = failure;
    this.#reopenTimer ??= setTimeout(() => this.#reopen(), REOPEN_INTERVAL_MS);
  }

  #reopen(): void {
    this.#reopenTimer = undefined;
    for (const watched of this.#watched.values()) if (watched.failure !== undefined) this.#open(watched);
  }
}

function sendGroup(
  socket: RawSocket | undefined,
  frames: readonly OutgoingDatagram[],
): { readonly sent: number; readonly error: string | undefined } {
  if (socket === undefined) return { sent: 0, error: undefined };
  const { sent, failure } = socket.sendMany(frames);
  return { sent, error: failure === undefined ? undefined : `sendmmsg: ${failure}` };
}

function etherTypeOf(frame: Uint8Array): number {
  return ((frame[ETHERTYPE_OFFSET] ?? 0) << 8) | (frame[ETHERTYPE_OFFSET + 1] ?? 0);
}

/** sll_ifindex; -1 once the interface was unregistered. */
function boundIndex(socket: RawSocket): number {
  const address = socket.localAddress();
  return new DataView(address.buffer, address.byteOffset).getInt32(4, true);
}

/**
 * Frames of VLANs that the host does not have come in on the NIC of the trunk, and by then the kernel has taken the tag
 * off: only that they are others' tells (__netif_receive_skb_core in net/core/dev.c). arp_rcv() and ip6_rcv_core() drop
 * them as well. Those of VLANs that the host has are their interfaces'.
 */
const NOT_OTHERS: readonly Instruction[] = [
  [LOAD_BYTE, 0, 0, PACKET_TYPE],
  [JUMP_EQUAL, 0, 1, PACKET_OTHERHOST],
  [RETURN, 0, 0, DROP],
];

const ARP_FILTER = assemble([...NOT_OTHERS, [RETURN, 0, 0, KEEP_ALL]]);

/** IPv6 whose next header is ICMPv6 and whose ICMPv6 type is 135 or 136. Frames start at the Ethernet header. */
const NEIGHBOR_DISCOVERY_FILTER = assemble([
  ...NOT_OTHERS,
  [LOAD_BYTE, 0, 0, 14 + 6],
  [JUMP_EQUAL, 0, 4, IPPROTO_ICMPV6],
  [LOAD_BYTE, 0, 0, 14 + 40],
  [JUMP_EQUAL, 1, 0, 135],
  [JUMP_EQUAL, 0, 1, 136],
  [RETURN, 0, 0, KEEP_ALL],
  [RETURN, 0, 0, DROP],
]);
