import type { Socket } from 'node:net';
import type { Ip } from '../../lib/ip.ts';
import { MAX_STATE_BYTES } from '../message.ts';
import type { Envelope } from './envelope.ts';
import { SealedStream, type StreamFailure } from './sealed-stream.ts';

/** What a peer may leave unread before it is too slow for everybody else's good: one whole state and some messages. */
const MAX_UNREAD_BYTES = MAX_STATE_BYTES + 65_536;
/** Messages that wait for the peer's preamble. */
const MAX_WAITING = 16;

/** How a connection ended: closed by the peer, refused or reset, or anything that tells nothing of the peer's process. */
export type LinkEnd = 'fin' | 'rst' | 'timeout';

export type LinkEvents = {
  /** Both preambles are there: the peer's process runs. */
  readonly onOpen: () => void;
  readonly onBytes: (message: Uint8Array) => void;
  /** Once, and not when this side closed it. `failure` is what the peer did wrong, if that was it. */
  readonly onEnd: (how: LinkEnd, failure: string | undefined) => void;
};

/** One TCP connection that carries sealed messages, from either side. */
export class Link {
  readonly id: number;
  readonly remoteIp: Ip;
  readonly #socket: Socket;
  readonly #stream: SealedStream;
  readonly #events: LinkEvents;
  readonly #waiting: Uint8Array[] = [];
  #timer: NodeJS.Timeout | undefined;
  #end: LinkEnd | undefined;
  #failure: string | undefined;
  #refusal: StreamFailure | undefined;
  #isDone = false;

  constructor(id: number, remoteIp: Ip, socket: Socket, envelope: Envelope, events: LinkEvents) {
    this.id = id;
    this.remoteIp = remoteIp;
    this.#socket = socket;
    this.#stream = new SealedStream(envelope);
    this.#events = events;
    socket.setNoDelay(true);
    socket.write(this.#stream.preamble());
    socket.on('data', (data: Buffer) => this.#read(data));
    socket.on('end', () => {
      this.#end ??= 'fin';
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      this.#end ??= endOf(error);
      this.#failure ??= error.code ?? error.message;
    });
    socket.on('close', () => this.#finish());
  }

  /** Why nothing that the peer says is believed; undefined when it is. */
  get refusal(): StreamFailure | undefined {
    return this.#refusal;
  }

  get isOpen(): boolean {
    return this.#stream.isOpen;
  }

  /** This host's address of the connection, once there is one. */
  get localIp(): Ip | undefined {
    return this.#socket.localAddress as Ip | undefined;
  }

  /** Sends a message, at once or when the peer has said its preamble; false when the peer takes too little. */
  send(message: Uint8Array): boolean {
    if (this.#isDone) return false;
    if (!this.#stream.isOpen) {
      if (this.#waiting.length >= MAX_WAITING) return false;
      this.#waiting.push(message);
      return true;
    }
    if (this.#socket.writableLength + message.length > MAX_UNREAD_BYTES) {
      this.#fail('reads too slowly');
      return false;
    }
    this.#socket.write(this.#stream.seal(message));
    return true;
  }

  /** Ends the connection as `timeout` unless this is called again within `ms`; undefined lets it be. */
  expectWithin(ms: number | undefined, what: string): void {
    clearTimeout(this.#timer);
    if (ms !== undefined) this.#timer = setTimeout(() => this.#fail(`no ${what} in ${ms} ms`), ms);
  }

  /** Lets the kernel find out that the peer's host is gone, some time. */
  keepAlive(afterMs: number): void {
    this.#socket.setKeepAlive(true, afterMs);
  }

  /** Ends it from this side, after what was sent; no event follows. */
  close(): void {
    if (this.#isDone) return;
    this.#isDone = true;
    clearTimeout(this.#timer);
    // One to a host that is not there would stay until the kernel gives up.
    if (this.#socket.connecting) this.#socket.destroy();
    else this.#socket.destroySoon();
  }

  /** Ends it because of what the peer said; the event follows. */
  refuse(failure: string): void {
    this.#fail(failure);
  }

  #read(data: Buffer): void {
    if (this.#isDone) return;
    const wasOpen = this.#stream.isOpen;
    const messages = this.#stream.push(data);
    if (!wasOpen && this.#stream.isOpen) {
      for (const message of this.#waiting.splice(0)) this.send(message);
      this.#events.onOpen();
    }
    if (typeof messages === 'string') {
      this.#refusal = messages;
      return this.#fail(describe(messages));
    }
    for (const message of messages) {
      if (this.#isDone) return;
      this.#events.onBytes(message);
    }
  }

  #fail(failure: string): void {
    this.#end ??= 'timeout';
    this.#failure ??= failure;
    this.#socket.destroy();
  }

  #finish(): void {
    clearTimeout(this.#timer);
    if (this.#isDone) return;
    this.#isDone = true;
    this.#events.onEnd(this.#end ?? 'timeout', this.#failure);
  }
}

function endOf(error: NodeJS.ErrnoException): LinkEnd {
  return ['ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(error.code ?? '') ? 'rst' : 'timeout';
}

function describe(failure: StreamFailure): string {
  return `refused: ${failure}`;
}
