import { randomBytes } from 'node:crypto';
import { assert } from '../../lib/assert.ts';
import { MAX_STATE_BYTES } from '../message.ts';
import {
  type Envelope,
  HEADER_BYTES,
  nonceFor,
  type Refusal,
  SESSION_AT,
  SESSION_BYTES,
} from './envelope.ts';

/**
 * Messages over a TCP connection. Each side first sends a header with a session of its own for this connection; what follows is
 * bound to both, so that nothing recorded from another connection fits, and a side that has heard a record knows that the
 * other one is there now. A record is its length (4 bytes), then sealed: a byte that tells whether the message goes on in the next record,
 * and a part of the message. The number of a record is its place, from 1 on.
 */

/** What an unauthenticated peer can make this host keep. */
export const MAX_RECORD_BYTES = 65_536;
const LENGTH_BYTES = 4;
const LAST = 0;
const MORE = 1;

export type StreamFailure = Refusal | 'length';

export class SealedStream {
  readonly #envelope: Envelope;
  readonly #session = randomBytes(SESSION_BYTES);
  #peerSession: Buffer | undefined;
  #sent = 0;
  #received = 0;
  #key = 0;
  #input: Buffer[] = [];
  #inputBytes = 0;
  /** Of the record that is under way, once its length came. */
  #recordBytes: number | undefined;
  #parts: Buffer[] = [];
  #partBytes = 0;

  constructor(envelope: Envelope) {
    this.#envelope = envelope;
  }

  /** To be sent first. */
  preamble(): Buffer {
    const header = Buffer.alloc(HEADER_BYTES);
    this.#envelope.writeHeader(header, 'stream', this.#session, 0);
    this.#envelope.writeCheck(header);
    return header;
  }

  /** Whether the peer's preamble came: before it, nothing can be sealed for this connection. */
  get isOpen(): boolean {
    return this.#peerSession !== undefined;
  }

  /** The records for a message; only once the stream is open. */
  seal(message: Uint8Array): Buffer {
    assert(this.#peerSession !== undefined, 'a record before the preamble of the peer');
    const bound = boundTo(this.#session, this.#peerSession);
    const out: Uint8Array[] = [];
    const chunk = MAX_RECORD_BYTES - 1 - this.#envelope.tagBytes;
    for (let at = 0; at === 0 || at < message.length; at += chunk) {
      const part = message.subarray(at, at + chunk);
      const flag = Buffer.of(at + chunk < message.length ? MORE : LAST);
      const nonce = nonceFor(this.#session, ++this.#sent);
      const sealed = this.#envelope.encrypt(nonce, bound, [flag, part]);
      const length = Buffer.allocUnsafe(LENGTH_BYTES);
      length.writeUInt32BE(
        sealed.reduce((sum, piece) => sum + piece.length, 0),
        0,
      );
      out.push(length, ...sealed);
    }
    return Buffer.concat(out);
  }

  /** Takes what came; the messages that are complete, or why the connection is to be closed. Never throws. */
  push(data: Buffer): readonly Uint8Array[] | StreamFailure {
    this.#input.push(data);
    this.#inputBytes += data.length;
    if (this.#peerSession === undefined) {
      const refusal = this.#readPreamble();
      if (refusal !== undefined) return refusal;
    }
    const messages: Uint8Array[] = [];
    while (this.#peerSession !== undefined) {
      const record = this.#nextRecord();
      if (record === undefined) return messages;
      if (typeof record === 'string') return record;
      const message = this.#openRecord(record, this.#peerSession);
      if (typeof message === 'string') return message;
      if (message !== undefined) messages.push(message);
    }
    return messages;
  }

  #readPreamble(): Refusal | undefined {
    if (this.#inputBytes < HEADER_BYTES) return undefined;
    const preamble = this.#take(HEADER_BYTES);
    const header = this.#envelope.readHeader(preamble);
    if (typeof header === 'string') return header;
    if (header.kind !== 'stream') return 'version';
    const key = this.#envelope.keyOf(preamble);
    if (key === undefined) return 'forged';
    const session = preamble.subarray(SESSION_AT, SESSION_AT + SESSION_BYTES);
    if (session.equals(this.#session)) return 'own';
    this.#key = key;
    this.#peerSession = session;
    return undefined;
  }

  /** Undefined until a whole one came. */
  #nextRecord(): Buffer | StreamFailure | undefined {
    if (this.#recordBytes === undefined) {
      if (this.#inputBytes < LENGTH_BYTES) return undefined;
      const length = this.#take(LENGTH_BYTES).readUInt32BE(0);
      if (length > MAX_RECORD_BYTES || length < 1 + this.#envelope.tagBytes) return 'length';
      this.#recordBytes = length;
    }
    if (this.#inputBytes < this.#recordBytes) return undefined;
    const record = this.#take(this.#recordBytes);
    this.#recordBytes = undefined;
    return record;
  }

  #openRecord(record: Buffer, peerSession: Buffer): Uint8Array | StreamFailure | undefined {
    const plain = this.#decrypt(record, peerSession);
    if (plain === undefined) return 'forged';
    const flag = plain[0];
    if (flag !== LAST && flag !== MORE) return 'version';
    this.#parts.push(plain.subarray(1));
    this.#partBytes += plain.length - 1;
    if (this.#partBytes > MAX_STATE_BYTES) return 'length';
    if (flag === MORE) return undefined;
    const [only] = this.#parts;
    const message = this.#parts.length === 1 && only !== undefined ? only : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#partBytes = 0;
    return message;
  }

  /** Under the key of the last record, or under any other: the peer may have changed its own meanwhile. */
  #decrypt(record: Buffer, peerSession: Buffer): Buffer | undefined {
    const nonce = nonceFor(peerSession, ++this.#received);
    const bound = boundTo(peerSession, this.#session);
    const count = this.#envelope.keyCount;
    for (let tried = 0; tried < count; tried++) {
      const key = (this.#key + tried) % count;
      const plain = this.#envelope.decrypt(key, nonce, bound, record);
      if (plain === undefined) continue;
      this.#key = key;
      return plain;
    }
    return undefined;
  }

  #joined(): Buffer {
    const [only] = this.#input;
    if (this.#input.length === 1 && only !== undefined) return only;
    const joined = Buffer.concat(this.#input);
    this.#input = [joined];
    return joined;
  }

  #take(length: number): Buffer {
    const joined = this.#joined();
    const rest = joined.subarray(length);
    this.#input = rest.length > 0 ? [rest] : [];
    this.#inputBytes -= length;
    return joined.subarray(0, length);
  }
}

function boundTo(from: Buffer, to: Buffer): Buffer {
  return Buffer.concat([from, to]);
}
