import { assert } from '../../lib/assert.ts';
import { errorText } from '../../lib/errors.ts';
import type { Instant } from '../../lib/time.ts';
import { SO_RCVBUF, SOL_SOCKET } from '../../sys/constants.ts';
import { parseSockaddrNetlink } from '../../sys/sockaddr.ts';
import type { Datagram, RawSocket } from '../../sys/socket.ts';
import { isSystemError } from '../../sys/system-error.ts';
import { decodeDatagram, type NetlinkMessage } from '../netlink-codec.ts';
import { isFromKernel, openRequestSocket } from './netlink-socket.ts';

/** Room for the answers to one exchange, before the kernel doubles it for its own bookkeeping. */
const RECEIVE_BUFFER_BYTES = 1024 * 1024;
/** What an error with its text costs of the receive buffer, at most (the kernel counts whole allocations). */
const ANSWER_COST_BYTES = 2048;
const IN_FLIGHT_LIMIT = 400;
const IN_FLIGHT_MINIMUM = 4;
/**
 * The kernel works within sendmsg, where the event loop stands still; on a NIC with 10,000 addresses each request
 * takes it 0.2 ms. The next send is smaller after one that took longer than this.
 */
const SEND_LIMIT_MS = 10;
/**
 * The kernel answers within sendmsg or, for a dump, within recvmsg, so an answer is either there or lost. Far beyond
 * any wait for the event loop; a bound so that nothing can wait for ever.
 */
const EXCHANGE_TIMEOUT_MS = 5_000;

/** What became of one send. */
export type Exchange =
  /** Every answer has come. */
  | { readonly kind: 'answered'; readonly messages: readonly NetlinkMessage[] }
  /** The kernel got nothing. `errno` is ETIME when the deadline had come. */
  | { readonly kind: 'not-sent'; readonly errno: string; readonly text: string }
  /** The kernel got it and did what it did; answers after `messages` are lost. */
  | {
      readonly kind: 'lost';
      readonly errno: string;
      readonly text: string;
      readonly messages: readonly NetlinkMessage[];
    };

type Pending = {
  readonly first: number;
  readonly last: number;
  readonly messages: NetlinkMessage[];
  readonly resolve: (exchange: Exchange) => void;
  readonly timer: NodeJS.Timeout;
};

/** A netlink socket on which one exchange at a time happens. Opens itself when used, and anew after any failure. */
export class RequestSocket {
  #socket: RawSocket | undefined;
  #pending: Pending | undefined;
  #roomLimit = IN_FLIGHT_LIMIT;
  #paceLimit = IN_FLIGHT_LIMIT;
  #lastSequence = 0;
  #closed = false;
  /** The netlink port of the last socket, and of the one before: what that asked for may still be told of. */
  #ports: readonly number[] = [];

  /** Whether what the kernel tells was asked for here. */
  isOwnPort(portId: number): boolean {
    return this.#ports.includes(portId);
  }

  /** How many requests may go in one send: their answers fit the receive buffer, and it ends soon. */
  get inFlightLimit(): number {
    return Math.min(this.#roomLimit, this.#paceLimit);
  }

  /** The first of `count` sequence numbers in a row, for one exchange. */
  takeSequences(count: number): number {
    if (this.#lastSequence + count > 0xffff_ffff) this.#lastSequence = 0;
    const first = this.#lastSequence + 1;
    this.#lastSequence += count;
    return first;
  }

  /**
   * Sends requests with the sequence numbers `first` to `last` in one datagram; the answer to the last one ends the
   * exchange, as the kernel answers in order. With a deadline, sends nothing once that has come. Never rejects.
   */
  exchange(bytes: Uint8Array, first: number, last: number, deadline?: Instant): Promise<Exchange> {
    assert(this.#pending === undefined, 'one exchange at a time');
    const startedMs = performance.now();
    const unsent = this.#send(bytes, deadline);
    if (unsent !== undefined) return Promise.resolve(unsent);
    this.#pace(last - first + 1, performance.now() - startedMs);
    return new Promise((resolve) => {
      const timer = setTimeout(
        () => this.#lose('ETIMEDOUT', `no answer within ${EXCHANGE_TIMEOUT_MS} ms`),
        EXCHANGE_TIMEOUT_MS,
      );
      this.#pending = { first, last, messages: [], resolve, timer };
    });
  }

  close(): void {
    this.#closed = true;
    this.#lose('ECANCELED', 'lbd closed the netlink socket');
  }

  #pace(count: number, tookMs: number): void {
    const affordable = Math.floor((count * SEND_LIMIT_MS) / tookMs);
    // A short send says little about a long one: the limit rises slowly and falls at once.
    if (affordable < count) this.#paceLimit = Math.max(IN_FLIGHT_MINIMUM, affordable);
    else this.#paceLimit = Math.min(IN_FLIGHT_LIMIT, Math.max(this.#paceLimit, count * 2));
  }

  #send(bytes: Uint8Array, deadline: Instant | undefined): Exchange | undefined {
    if (this.#closed) return { kind: 'not-sent', errno: 'ECANCELED', text: 'the netlink socket is closed' };
    try {
      const socket = this.#open();
      const outcome =
        deadline === undefined ? socket.send(bytes) : socket.sendBefore(bytes, undefined, deadline);
      if (outcome === 'sent') return undefined;
      if (outcome === 'expired') {
        return { kind: 'not-sent', errno: 'ETIME', text: 'the deadline had passed, so it was not sent' };
      }
      return { kind: 'not-sent', errno: 'EAGAIN', text: 'the netlink socket takes no more data' };
    } catch (thrown) {
      if (!isSystemError(thrown)) throw thrown;
      this.#reset();
      return { kind: 'not-sent', errno: thrown.code, text: errorText(thrown) };
    }
  }

  #open(): RawSocket {
    if (this.#socket !== undefined) return this.#socket;
    const socket = openRequestSocket(RECEIVE_BUFFER_BYTES);
    this.#socket = socket;
    const port = parseSockaddrNetlink(socket.localAddress())?.pid;
    this.#ports = [...(port === undefined ? [] : [port]), ...this.#ports].slice(0, 2);
    const room = socket.numberOption(SOL_SOCKET, SO_RCVBUF);
    this.#roomLimit = Math.max(1, Math.floor(room / ANSWER_COST_BYTES));
    socket.startPolling({
      onDatagrams: (datagrams) => this.#receive(datagrams),
      onError: (error) => this.#lose(error.code, errorText(error)),
      onThrow: (thrown) => {
        throw thrown;
      },
    });
    return socket;
  }

  #receive(datagrams: readonly Datagram[]): void {
    for (const datagram of datagrams) {
      if (!isFromKernel(datagram)) continue;
      if (datagram.isTruncated) return this.#lose('EMSGSIZE', `an answer of ${datagram.fullLength} bytes`);
      const { messages, problems } = decodeDatagram(datagram.bytes);
      const problem = problems[0];
      if (problem !== undefined) {
        return this.#lose('EPROTO', `${problem.code} at byte ${problem.offset}: ${problem.detail}`);
      }
      for (const message of messages) this.#take(message);
    }
  }

  #take(message: NetlinkMessage): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    if (message.sequence < pending.first || message.sequence > pending.last) return;
    if (message.kind === 'overrun') return this.#lose('ENOBUFS', 'NLMSG_OVERRUN');
    pending.messages.push(message);
    const ends = message.kind === 'ack' || message.kind === 'done';
    if (!ends || message.sequence !== pending.last) return;
    this.#pending = undefined;
    clearTimeout(pending.timer);
    pending.resolve({ kind: 'answered', messages: pending.messages });
  }

  /** Answers are lost: what was asked ends so, and a new socket is opened, on which none of them can turn up late. */
  #lose(errno: string, text: string): void {
    this.#reset();
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    clearTimeout(pending.timer);
    pending.resolve({ kind: 'lost', errno, text, messages: pending.messages });
  }

  #reset(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }
}
