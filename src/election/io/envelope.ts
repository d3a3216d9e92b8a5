import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  hkdfSync,
  type KeyObject,
} from 'node:crypto';
import { assert } from '../../lib/assert.ts';
import { halfSipHash } from './half-siphash.ts';
import type { GossipKey } from './key-ring.ts';

/**
 * What stands around a message on the wire (docs/adr/0006-gossip-security.md): a header in the clear, then what AES-256-GCM
 * makes of the rest, with its tag.
 *
 *    0      1            4              12         16        20
 *   ┌──────┬────────────┬──────────────┬──────────┬─────────┐
 *   │ kind │ label hash │ session      │ number   │ check   │
 *   └──────┴────────────┴──────────────┴──────────┴─────────┘
 *
 * Session and number are the nonce. The check is two short hashes under the key, of the header and of the whole packet: who has
 * none is turned away for the price of that, also with a packet of a member that he changed. Without keys (`insecure`) check and tag are zero and absent, and all else is the same.
 */

export const HEADER_BYTES = 20;
export const TAG_BYTES = 16;
export const SESSION_BYTES = 8;
export const SESSION_AT = 4;
const NUMBER_AT = 12;
const CHECK_AT = 16;
const NONCE_BYTES = 12;

/** High half of the first byte: version and whether the rest is sealed. */
const SEALED = 0x10;
const PLAIN = 0x20;

/** `routine` is data with which the receiver may take its time: it shows without any decryption. */
export type PacketKind = 'data' | 'challenge' | 'echo' | 'stream' | 'routine';
/** In the low half of the first byte; append only. */
const KINDS: readonly PacketKind[] = ['data', 'challenge', 'echo', 'stream', 'routine'];

/** Why bytes of the network change nothing. */
export type Refusal =
  /** Too short or too long for any. */
  | 'size'
  /** Another version, or nothing of lbd at all. */
  | 'version'
  /** Sealed although this host has no key, or plain although it has. */
  | 'sealing'
  /** Of another cluster. */
  | 'label'
  /** Under a key that this host has not, or made up. */
  | 'key'
  /** The header is authentic, the rest is not. */
  | 'forged'
  /** Sent by this host itself. */
  | 'own'
  | 'replayed'
  /** Echoes nothing that this host asked for. */
  | 'unasked'
  /** More challenges than anybody needs. */
  | 'flood';

/** What follows from one key and the label: another label makes other keys. */
type DerivedKey = { readonly cipher: KeyObject; readonly check: readonly [number, number] };

export type Header = { readonly kind: PacketKind; readonly number: number };

export class Envelope {
  readonly #label: string;
  readonly #labelHash: number;
  #keys: readonly DerivedKey[];
  readonly #sealed: boolean;

  /** `keys` undefined: nothing is sealed. */
  constructor(label: string, keys: readonly GossipKey[] | undefined) {
    this.#label = label;
    this.#labelHash = createHash('sha256').update(label).digest().readUIntBE(0, 3);
    this.#sealed = keys !== undefined;
    this.#keys = (keys ?? []).map((key) => derive(key, label));
  }

  /** From now on the first of these seals and each of them opens. */
  setKeys(keys: readonly GossipKey[]): void {
    assert(this.#sealed && keys.length > 0, 'keys are for those who seal');
    this.#keys = keys.map((key) => derive(key, this.#label));
  }

  get tagBytes(): number {
    return this.#sealed ? TAG_BYTES : 0;
  }

  /** With which every packet of that kind begins. */
  firstByte(kind: PacketKind): number {
    return (this.#sealed ? SEALED : PLAIN) | KINDS.indexOf(kind);
  }

  /** Writes the header of a packet at the start of `out`, but for its check. */
  writeHeader(out: Buffer, kind: PacketKind, session: Buffer, number: number): void {
    out[0] = this.firstByte(kind);
    out.writeUIntBE(this.#labelHash, 1, 3);
    session.copy(out, SESSION_AT);
    out.writeUInt32BE(number, NUMBER_AT);
  }

  /** The last thing to write, as it is of all the rest of the packet. */
  writeCheck(packet: Buffer): void {
    const [first] = this.#keys;
    const view = viewOf(packet);
    const check = first === undefined ? 0 : checkOf(view, headerHash(view, first.check), first.check);
    view.setUint32(CHECK_AT, check);
  }

  /** The header at the start of `packet`, or why it is none of this cluster's: without any decryption. */
  readHeader(packet: Buffer): Header | Refusal {
    if (packet.length < HEADER_BYTES) return 'size';
    const first = packet[0] ?? 0;
    const kind = KINDS[first & 0x0f];
    const sealing = first & 0xf0;
    if (kind === undefined || (sealing !== SEALED && sealing !== PLAIN)) return 'version';
    if (sealing !== (this.#sealed ? SEALED : PLAIN)) return 'sealing';
    if (packet.readUIntBE(1, 3) !== this.#labelHash) return 'label';
    const check = packet.readUInt32BE(CHECK_AT);
    const view = viewOf(packet);
    const isKnown = this.#sealed
      ? this.#keys.some((key) => headerHash(view, key.check) >>> 16 === check >>> 16)
      : check === 0;
    return isKnown ? { kind, number: packet.readUInt32BE(NUMBER_AT) } : 'key';
  }

  /** The place of the key under which a packet with such a header was made; undefined when it was changed since. */
  keyOf(packet: Buffer): number | undefined {
    if (!this.#sealed) return 0;
    const check = packet.readUInt32BE(CHECK_AT);
    const view = viewOf(packet);
    const key = this.#keys.findIndex(({ check: key }) => {
      const header = headerHash(view, key);
      return header >>> 16 === check >>> 16 && checkOf(view, header, key) === check;
    });
    return key < 0 ? undefined : key;
  }

  /** Ciphertext and tag of `plain` under the first key. */
  encrypt(nonce: Buffer, bound: Buffer, plain: readonly Uint8Array[]): readonly Uint8Array[] {
    const [first] = this.#keys;
    if (first === undefined) return plain;
    const cipher = createCipheriv('aes-256-gcm', first.cipher, nonce);
    cipher.setAAD(bound);
    const parts: Uint8Array[] = plain.map((part) => cipher.update(part));
    cipher.final();
    parts.push(cipher.getAuthTag());
    return parts;
  }

  /** The inverse of `encrypt()` under the key of that place; undefined when it is not authentic. */
  decrypt(key: number, nonce: Buffer, bound: Buffer, sealed: Buffer): Buffer | undefined {
    // A copy, as what is decrypted is: packets that wait must not keep the buffer that they came in.
    if (!this.#sealed) return Buffer.from(sealed);
    const derived = this.#keys[key];
    if (derived === undefined || sealed.length < TAG_BYTES) return undefined;
    const decipher = createDecipheriv('aes-256-gcm', derived.cipher, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(bound);
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
    const plain = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
    return isAuthentic(decipher) ? plain : undefined;
  }

  /** How many keys there are to try where nothing tells which; at least one. */
  get keyCount(): number {
    return Math.max(1, this.#keys.length);
  }
}

/** What the tag of a packet covers beside its own bytes: the header without the check, which is made last. */
export function boundOf(header: Buffer): Buffer {
  return header.subarray(0, CHECK_AT);
}

/** The nonce of a packet is in its header. */
export function nonceOf(header: Buffer): Buffer {
  return header.subarray(SESSION_AT, SESSION_AT + NONCE_BYTES);
}

export function nonceFor(session: Buffer, number: number): Buffer {
  const nonce = Buffer.allocUnsafe(NONCE_BYTES);
  session.copy(nonce);
  nonce.writeUInt32BE(number, SESSION_BYTES);
  return nonce;
}

function derive({ secret }: GossipKey, label: string): DerivedKey {
  const expand = (purpose: string, length: number): Buffer =>
    Buffer.from(hkdfSync('sha256', secret, label, `lbd gossip 1 ${purpose}`, length));
  const check = expand('check', 8);
  return {
    cipher: createSecretKey(expand('seal', 32)),
    check: [check.readUInt32LE(0) | 0, check.readUInt32LE(4) | 0],
  };
}

/** Half of a hash of the header, then half of one of the rest that is bound to the header. */
function checkOf(packet: DataView, header: number, [k0, k1]: DerivedKey['check']): number {
  const rest = halfSipHash(k0 ^ header, k1, packet, HEADER_BYTES, packet.byteLength);
  return ((header & 0xffff_0000) | (rest >>> 16)) >>> 0;
}

function headerHash(packet: DataView, [k0, k1]: DerivedKey['check']): number {
  return halfSipHash(k0, k1, packet, 0, CHECK_AT);
}

function viewOf(packet: Buffer): DataView {
  return new DataView(packet.buffer, packet.byteOffset, packet.length);
}

function isAuthentic(decipher: { final(): unknown }): boolean {
  // Nobody looks at the stack of this error, and taking it costs as much as the decryption.
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    decipher.final();
    return true;
  } catch {
    return false;
  } finally {
    Error.stackTraceLimit = limit;
  }
}
