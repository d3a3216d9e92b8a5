import { getSystemErrorName } from 'node:util';
import { assert } from '../lib/assert.ts';
import { type Instant, instant } from '../lib/time.ts';
import { MSG_TRUNC } from './constants.ts';
import {
  EVENT_DATAGRAMS,
  EVENT_ERROR,
  EVENT_WRITABLE,
  loadNative,
  type NativeAddon,
  type SocketHandle,
} from './native.ts';
import type { SystemError } from './system-error.ts';

/** Received at once: up to 64 datagrams, in views on one ArrayBuffer. Copy what is kept for long: a view keeps all. */
export type Datagram = {
  readonly bytes: Uint8Array;
  /** The sender's sockaddr, for `parseSockaddr...`; empty from an unnamed unix socket. */
  readonly sender: Uint8Array;
  /** The datagram was longer than `maxDatagramBytes`: `bytes` is its beginning. */
  readonly isTruncated: boolean;
  /** Bytes it had on arrival. */
  readonly fullLength: number;
  /** msg_flags of recvmsg(2). */
  readonly flags: number;
  /** When the kernel took it in, CLOCK_REALTIME ms; only with SO_TIMESTAMPNS. */
  readonly timestampMs: number | undefined;
  /** IPV6_HOPLIMIT or IP_TTL of the packet; only with IPV6_RECVHOPLIMIT or IP_RECVTTL. */
  readonly hopLimit: number | undefined;
  /** When it was read, as `bootTimeMs()` tells it. */
  readonly receivedAt: Instant;
};

/** Who is told what happens on a polled socket. The socket may be closed inside each of them. */
export type SocketListener = {
  onDatagrams?(datagrams: readonly Datagram[]): void;
  /**
   * A receive failed: ENOBUFS (netlink lost notifications: resynchronise), ENETDOWN (the link of a packet socket went
   * down). Receiving goes on, unless `stopped` is true: then the descriptor is broken and the socket is to be reopened.
   */
  onError?(error: SystemError & { readonly stopped: boolean }): void;
  /** Once after each `watchWritable()`. */
  onWritable?(): void;
  /** Another function of this listener threw this. When this one throws as well, it is an uncaughtException. */
  onThrow(thrown: unknown): void;
};

/** `blocked`: the socket is full for now (EAGAIN); send again after `onWritable`. */
export type SendOutcome = 'sent' | 'blocked';

/** `expired`: the deadline had come before the datagram could leave. */
export type SendBeforeOutcome = SendOutcome | 'expired';

export type OutgoingDatagram = { readonly bytes: Uint8Array; readonly address?: Uint8Array | undefined };

/** Enough for every datagram that can exist: netlink sends at most 32 KiB at once, an IP packet has at most 64. */
const DEFAULT_DATAGRAM_BYTES = 65_536;

/** Of 64 datagrams: beyond that, others of the loop come first. */
const BATCHES_AT_ONCE = 1_024;

/** Doubles per datagram in a batch, in the order of struct row in native/receive.c. */
const ROW_DOUBLES = 9;

/**
 * A non-blocking datagram or raw socket. Every method throws `SystemError` when the system call behind it fails, and
 * EBADF after `close()`. Addresses are sockaddr bytes from `sockaddr.ts`.
 */
export class RawSocket {
  readonly #native: NativeAddon;
  readonly #handle: SocketHandle;

  /** socket(2), close-on-exec and non-blocking. `protocol` of AF_PACKET is in network order: use `ethernetProtocol()`. */
  constructor(domain: number, type: number, protocol = 0, native: NativeAddon = loadNative()) {
    this.#native = native;
    this.#handle = native.openSocket(domain, type, protocol);
  }

  bind(address: Uint8Array): void {
    this.#native.bind(this.#handle, address);
  }

  /** `pending`: a stream that takes time; `onWritable` comes when it has ended, and SO_ERROR says how. */
  connect(address: Uint8Array): 'connected' | 'pending' {
    return this.#native.connect(this.#handle, address) === 0 ? 'connected' : 'pending';
  }

  /** The socket's own address, as sockaddr bytes. */
  localAddress(): Uint8Array {
    return this.#native.getsockname(this.#handle);
  }

  /** setsockopt(2); a number becomes a C int. */
  setOption(level: number, option: number, value: number | Uint8Array): void {
    this.#native.setsockopt(this.#handle, level, option, optionBytes(value));
  }

  /** getsockopt(2) with room for `length` bytes; returns as many as the kernel gave. */
  option(level: number, option: number, length: number): Uint8Array {
    return this.#native.getsockopt(this.#handle, level, option, length);
  }

  /** getsockopt(2) of a C int. */
  numberOption(level: number, option: number): number {
    const bytes = this.option(level, option, 4);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getInt32(0, true);
  }

  /** SO_ATTACH_FILTER: a classic BPF program as 8-byte instructions (struct sock_filter, linux/filter.h). */
  attachFilter(program: Uint8Array): void {
    this.#native.attachFilter(this.#handle, program);
  }

  /**
   * SO_ATTACH_REUSEPORT_CBPF: a program over the payload of a datagram for the sockets that share this one's port and
   * address (SO_REUSEPORT). It returns which of them gets it, in the order in which they were bound.
   */
  attachReuseportFilter(program: Uint8Array): void {
    this.#native.attachReuseportFilter(this.#handle, program);
  }

  /** Sends one datagram to `address`, or to where the socket is connected. */
  send(bytes: Uint8Array, address?: Uint8Array, flags = 0): SendOutcome {
    return this.#native.send(this.#handle, bytes, address, flags) < 0 ? 'blocked' : 'sent';
  }

  /**
   * As `send`, unless `deadline` (CLOCK_BOOTTIME, see `bootTimeMs`) has come: the clock is read in native code right
   * before the system call, after anything that may have held the event loop up.
   */
  sendBefore(bytes: Uint8Array, address: Uint8Array | undefined, deadline: Instant): SendBeforeOutcome {
    const result = this.#native.sendBefore(this.#handle, bytes, address, deadline);
    if (result >= 0) return 'sent';
    return getSystemErrorName(result) === 'EAGAIN' ? 'blocked' : 'expired';
  }

  /**
   * sendmmsg(2): the datagrams in order, as many as go. `failure` is the errno name that the first one not sent met,
   * undefined when all went. At most 65,536 of them.
   */
  sendMany(datagrams: readonly OutgoingDatagram[]): {
    readonly sent: number;
    readonly failure: string | undefined;
  } {
    const { sent, errno } = this.#native.sendMany(this.#handle, datagrams);
    return { sent, failure: errno === 0 ? undefined : getSystemErrorName(errno) };
  }

  /**
   * Delivers what arrives, and keeps the process running until `stopPolling()` or `close()`. With
   * `maxDatagramBytes: 0` nothing is read and only `onWritable` can come; a stream can only be polled so.
   */
  startPolling(
    listener: SocketListener,
    options: { readonly maxDatagramBytes?: number | undefined } = {},
  ): void {
    const onEvent = (kind: number, payload: unknown): void => {
      switch (kind) {
        case EVENT_DATAGRAMS:
          assert(payload instanceof ArrayBuffer, 'a batch is an ArrayBuffer');
          listener.onDatagrams?.(readBatch(payload));
          break;
        case EVENT_ERROR:
          listener.onError?.(payload as SystemError & { readonly stopped: boolean });
          break;
        case EVENT_WRITABLE:
          listener.onWritable?.();
          break;
      }
    };
    this.#native.startPolling(
      this.#handle,
      onEvent,
      (thrown) => listener.onThrow(thrown),
      options.maxDatagramBytes ?? DEFAULT_DATAGRAM_BYTES,
    );
  }

  /** Harmless when not polling. */
  stopPolling(): void {
    this.#native.stopPolling(this.#handle);
  }

  /** Asks for one `onWritable`. Needs `startPolling()`. On an unconnected unix socket it tells nothing of the receiver. */
  watchWritable(): void {
    this.#native.watchWritable(this.#handle);
  }

  /**
   * While paused, what arrives waits in the kernel for `deliverNow()` or for the end of the pause, and wakes nobody. Needs
   * `startPolling()`.
   */
  pausePolling(paused: boolean): void {
    this.#native.pausePolling(this.#handle, paused ? 1 : 0);
  }

  /**
   * Delivers what has arrived by now, as if the loop had woken for it: whoever knows that something was sent to this
   * socket need not wait for its turn. Harmless when not polling.
   */
  deliverNow(): void {
    for (let batch = 0; batch < BATCHES_AT_ONCE && this.#native.deliverNow(this.#handle); batch++);
  }

  /** Gives the descriptor away: the caller closes it (or a `net.Socket` made of it). This object is closed. */
  release(): number {
    return this.#native.release(this.#handle);
  }

  /** Harmless when closed. */
  close(): void {
    this.#native.close(this.#handle);
  }
}

/** An ETH_P_* number as socket(2) of AF_PACKET wants it: network order in a host-order int. */
export function ethernetProtocol(protocol: number): number {
  return ((protocol & 0xff) << 8) | (protocol >> 8);
}

/** setsockopt(2) on a descriptor that Node owns, such as a `net.Socket`'s: TCP_MD5SIG, IP_TTL. */
export function setSocketOptionOnFd(
  fd: number,
  level: number,
  option: number,
  value: number | Uint8Array,
): void {
  loadNative().setSocketOptionOnFd(fd, level, option, optionBytes(value));
}

/** getsockopt(2) on a descriptor that Node owns. */
export function socketOptionOnFd(fd: number, level: number, option: number, length: number): Uint8Array {
  return loadNative().getSocketOptionOnFd(fd, level, option, length);
}

function optionBytes(value: number | Uint8Array): Uint8Array {
  return typeof value === 'number' ? new Uint8Array(Int32Array.of(value).buffer) : value;
}

function readBatch(payload: ArrayBuffer): Datagram[] {
  // Where the bytes of the first datagram begin, the table ends.
  const tableBytes = cell(new Float64Array(payload, 0, 1), 0);
  const table = new Float64Array(payload, 0, tableBytes / Float64Array.BYTES_PER_ELEMENT);
  const datagrams: Datagram[] = [];
  for (let at = 0; at < table.length; at += ROW_DOUBLES) {
    const flags = cell(table, at + 5);
    datagrams.push({
      bytes: new Uint8Array(payload, cell(table, at), cell(table, at + 1)),
      sender: new Uint8Array(payload, cell(table, at + 3), cell(table, at + 4)),
      isTruncated: (flags & MSG_TRUNC) !== 0,
      fullLength: cell(table, at + 2),
      flags,
      timestampMs: optionalCell(table, at + 6),
      hopLimit: optionalCell(table, at + 7),
      receivedAt: instant(cell(table, at + 8)),
    });
  }
  return datagrams;
}

function cell(table: Float64Array, index: number): number {
  return table[index] ?? 0;
}

function optionalCell(table: Float64Array, index: number): number | undefined {
  const value = cell(table, index);
  return Number.isNaN(value) ? undefined : value;
}
