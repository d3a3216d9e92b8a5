import { randomBytes } from 'node:crypto';
import { RecentSet } from '../../lib/recent-set.ts';
import {
  boundOf,
  type Envelope,
  HEADER_BYTES,
  nonceOf,
  type PacketKind,
  type Refusal,
  SESSION_AT,
  SESSION_BYTES,
  TAG_BYTES,
} from './envelope.ts';
import { Sessions } from './sessions.ts';

/**
 * Seals and opens datagrams. Inside of the envelope: the sender's time since its session began (4 bytes, ms), then the message;
 * in a challenge eight random bytes and the session that is to prove itself, in its echo the random bytes. `Sessions` decides
 * which authentic packets are new.
 */

const TIME_BYTES = 4;
/** What a message gets around it on its way. */
export const PACKET_OVERHEAD_BYTES = HEADER_BYTES + TIME_BYTES + TAG_BYTES;
/** Nothing that anybody sends in one datagram is longer. */
const MAX_PACKET_BYTES = 65_507;
const ECHO_BYTES = 8;
/** A session ends before its numbers or its time do. */
const LAST_NUMBER = 0xffff_fff0;
const LONGEST_SESSION_MS = 2 ** 31;
/** Enough for everybody to start at once. */
const ECHOES_PER_SECOND = 2_000;
/** Twice as many challenges as members send in a second at most, for a recorded one to be known before it is decrypted. */
const CHALLENGES_REMEMBERED = 4_096;

export type Opened<Context> =
  | { readonly kind: 'fresh'; readonly body: Uint8Array }
  /** It waits for its sender's proof, for which the answer asks. */
  | { readonly kind: 'held'; readonly answer: Uint8Array | undefined }
  /** The sender wants proof: send it the answer. */
  | { readonly kind: 'challenged'; readonly answer: Uint8Array }
  /** The sender has proven its session: what was held, in its order. */
  | { readonly kind: 'proven'; readonly held: readonly Held<Context>[] }
  | { readonly kind: 'refused'; readonly why: Refusal };

export type Held<Context> = { readonly body: Uint8Array; readonly context: Context };

const REFUSED: Readonly<Record<Refusal, Opened<never>>> = {
  size: { kind: 'refused', why: 'size' },
  version: { kind: 'refused', why: 'version' },
  sealing: { kind: 'refused', why: 'sealing' },
  label: { kind: 'refused', why: 'label' },
  key: { kind: 'refused', why: 'key' },
  forged: { kind: 'refused', why: 'forged' },
  own: { kind: 'refused', why: 'own' },
  replayed: { kind: 'refused', why: 'replayed' },
  unasked: { kind: 'refused', why: 'unasked' },
  flood: { kind: 'refused', why: 'flood' },
};

export class Sealer<Context> {
  readonly #envelope: Envelope;
  readonly #nowMs: () => number;
  readonly #sessions = new Sessions<Held<Context>>(() => randomBytes(ECHO_BYTES));
  #session = randomBytes(SESSION_BYTES);
  #sessionId = idOf(this.#session, 0);
  #sessionStartMs: number;
  #number = 0;
  /** By session and number: those that were authentic. */
  readonly #challenges = new RecentSet<string>(CHALLENGES_REMEMBERED);
  #echoesSinceMs = 0;
  #echoes = 0;

  /** `nowMs` is a clock that never goes back. */
  constructor(envelope: Envelope, nowMs: () => number) {
    this.#envelope = envelope;
    this.#nowMs = nowMs;
    this.#sessionStartMs = nowMs();
  }

  get sessions(): { readonly proven: number; readonly unproven: number; readonly held: number } {
    return this.#sessions.size;
  }

  /** Authentic packets that came too late to mean anything. */
  get lateCount(): number {
    return this.#sessions.lateCount;
  }

  /** The packet for a message. */
  seal(body: Uint8Array, kind: 'data' | 'routine' = 'data'): Uint8Array {
    return this.#seal(kind, body);
  }

  /** What a packet is; `context` comes back with its message when that has to wait. Never throws. */
  open(packet: Buffer, context: Context): Opened<Context> {
    if (packet.length > MAX_PACKET_BYTES) return REFUSED.size;
    const header = this.#envelope.readHeader(packet);
    if (typeof header === 'string') return REFUSED[header];
    if (header.kind === 'stream') return REFUSED.version;
    const id = idOf(packet, SESSION_AT);
    if (id === this.#sessionId) return REFUSED.own;
    const { kind, number } = header;
    const refused = this.#refusedUnread(kind, id, number);
    if (refused !== undefined) return REFUSED[refused];
    const key = this.#envelope.keyOf(packet);
    if (key === undefined) return REFUSED.forged;
    const sealed = packet.subarray(HEADER_BYTES);
    const plain = this.#envelope.decrypt(key, nonceOf(packet), boundOf(packet), sealed);
    if (plain === undefined) return REFUSED.forged;
    if (plain.length < TIME_BYTES) return REFUSED.size;
    const sentAtMs = plain.readUInt32BE(0);
    const body = plain.subarray(TIME_BYTES);
    if (kind === 'data' || kind === 'routine') return this.#openData(id, number, sentAtMs, { body, context });
    if (kind === 'challenge') return this.#answer(challengeKey(id, number), body);
    if (body.length !== ECHO_BYTES) return REFUSED.size;
    const held = this.#sessions.prove(id, number, sentAtMs, body, this.#nowMs());
    return held === undefined ? REFUSED.unasked : { kind: 'proven', held };
  }

  /** Why a packet needs no decryption: what is recorded and sent again is to cost nothing. */
  #refusedUnread(kind: PacketKind, id: string, number: number): Refusal | undefined {
    if (kind === 'challenge') return this.#challenges.has(challengeKey(id, number)) ? 'replayed' : undefined;
    if (this.#sessions.isReplay(id, number)) return 'replayed';
    return kind === 'echo' && !this.#sessions.isChallenged(id) ? 'unasked' : undefined;
  }

  #openData(id: string, number: number, sentAtMs: number, item: Held<Context>): Opened<Context> {
    const arrival = this.#sessions.arrive(id, number, sentAtMs, item, this.#nowMs());
    switch (arrival.kind) {
      case 'fresh':
        return { kind: 'fresh', body: item.body };
      case 'replayed':
        return REFUSED.replayed;
      case 'held': {
        const { challenge } = arrival;
        if (challenge === undefined) return { kind: 'held', answer: undefined };
        const session = Buffer.from(id, 'latin1');
        return { kind: 'held', answer: this.#seal('challenge', Buffer.concat([challenge, session])) };
      }
    }
  }

  /** Each challenge is answered once, and only by the session that it names: one that was recorded gets no second echo. */
  #answer(key: string, body: Buffer): Opened<Context> {
    if (body.length !== ECHO_BYTES + SESSION_BYTES) return REFUSED.size;
    this.#challenges.add(key);
    if (idOf(body, ECHO_BYTES) !== this.#sessionId) return REFUSED.replayed;
    const nowMs = this.#nowMs();
    if (nowMs - this.#echoesSinceMs >= 1_000) {
      this.#echoesSinceMs = nowMs;
      this.#echoes = 0;
    }
    if (this.#echoes >= ECHOES_PER_SECOND) return REFUSED.flood;
    this.#echoes++;
    return { kind: 'challenged', answer: this.#seal('echo', body.subarray(0, ECHO_BYTES)) };
  }

  #seal(kind: PacketKind, body: Uint8Array): Uint8Array {
    const nowMs = this.#nowMs();
    if (this.#number >= LAST_NUMBER || nowMs - this.#sessionStartMs >= LONGEST_SESSION_MS) {
      this.#renewSession(nowMs);
    }
    this.#number++;
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    this.#envelope.writeHeader(header, kind, this.#session, this.#number);
    const time = Buffer.allocUnsafe(TIME_BYTES);
    time.writeUInt32BE(Math.floor(nowMs - this.#sessionStartMs), 0);
    const sealed = this.#envelope.encrypt(nonceOf(header), boundOf(header), [time, body]);
    const packet = Buffer.concat([header, ...sealed]);
    this.#envelope.writeCheck(packet);
    return packet;
  }

  #renewSession(nowMs: number): void {
    this.#session = randomBytes(SESSION_BYTES);
    this.#sessionId = idOf(this.#session, 0);
    this.#sessionStartMs = nowMs;
    this.#number = 0;
  }
}

function idOf(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, at + SESSION_BYTES);
}

function challengeKey(id: string, number: number): string {
  return `${id}${number}`;
}
