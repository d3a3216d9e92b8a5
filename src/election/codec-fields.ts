import { assert } from '../lib/assert.ts';
import { ByteReader, type ByteWriter } from '../lib/bytes.ts';
import { type Ip, ipFromBytes, ipToBytes, type Prefix } from '../lib/ip.ts';
import type { Endpoint, MemberName } from './types.ts';

/** The fields that messages are made of: numbers, names, addresses. `codec.ts` has the messages. */

/** Why bytes are no message. `offset` counts from the first byte of the message. */
export type Malformed = {
  readonly code: 'version' | 'kind' | 'truncated' | 'trailing' | 'limit' | 'value';
  readonly offset: number;
  readonly detail: string;
};

export const MAX_NAME_BYTES = 63;
/** Of a Node object's name (RFC 1123 subdomain). */
export const MAX_NODE_BYTES = 253;
export const MAX_VERSION_BYTES = 63;
/** 2^53 - 1 takes eight groups of seven bits. */
const MAX_VARINT_BYTES = 8;
const U32_MAX = 0xffff_ffff;
/**
 * Of incarnations, epochs and sequence numbers that are taken from others: far below what a number holds, so that whoever raises
 * one that somebody made up never comes to the end.
 */
export const MAX_COUNTER = 2 ** 48 - 1;
const MAC_BYTES = 6;
/** In the byte of a prefix's length, v6 starts after the 33 lengths of v4. */
const V6_LENGTHS_FROM = 33;

/**
 * Reads fields and remembers the first that is none; reads after that give empty values, so that a decoder reads a whole
 * structure, stops its loops at `malformed`, and looks once before it believes anything.
 */
export class FieldReader {
  readonly #in: ByteReader;
  #malformed: Malformed | undefined;

  constructor(bytes: Uint8Array) {
    this.#in = new ByteReader(bytes);
  }

  get malformed(): Malformed | undefined {
    return this.#malformed;
  }

  get remaining(): number {
    return this.#in.remaining;
  }

  get offset(): number {
    return this.#in.offset;
  }

  refuse(code: Malformed['code'], detail: string): void {
    this.#malformed ??= { code, offset: this.#in.offset, detail };
  }

  u8(): number {
    return this.#checked(this.#in.u8());
  }

  u16(): number {
    return this.#checked(this.#in.u16());
  }

  u32(): number {
    return this.#checked(this.#in.u32());
  }

  /** At most `max`; longer forms of a small number are refused, so that every value has one encoding. */
  varint(max: number, what: string): number {
    let value = 0;
    let scale = 1;
    for (let count = 1; count <= MAX_VARINT_BYTES; count++) {
      const byte = this.u8();
      if (this.#malformed !== undefined) return 0;
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte >= 0x80) continue;
      if (byte === 0 && count > 1) this.refuse('value', `${what} in a longer form than needed`);
      else if (value > max) this.refuse('limit', `${what} ${value}, at most ${max}`);
      return this.#malformed === undefined ? value : 0;
    }
    this.refuse('value', `${what} in more than ${MAX_VARINT_BYTES} bytes`);
    return 0;
  }

  /** A duration; U32_MAX, which stands for none, is none here. */
  ms(what: string): number {
    const value = this.u32();
    if (value === U32_MAX) this.refuse('value', `${what} beyond every limit`);
    return value;
  }

  /** A duration of fixed width; U32_MAX stands for none. */
  optionalMs(): number | undefined {
    const value = this.u32();
    return value === U32_MAX ? undefined : value;
  }

  /** Visible ASCII of `min` to `max` bytes after a byte that tells how many. */
  text(min: number, max: number, what: string): string {
    const length = this.u8();
    if (this.#malformed !== undefined) return '';
    if (length < min || length > max) {
      this.refuse('limit', `${what} of ${length} bytes, expected ${min} to ${max}`);
      return '';
    }
    const bytes = this.#in.bytes(length);
    this.#checked(0);
    let text = '';
    for (const byte of bytes) {
      if (byte < 0x21 || byte > 0x7e) {
        this.refuse('value', `${what} with byte ${byte}, expected visible ASCII`);
        return '';
      }
      text += String.fromCharCode(byte);
    }
    return text;
  }

  name(what: string): MemberName {
    return this.text(1, MAX_NAME_BYTES, what) as MemberName;
  }

  ip(v6: boolean): Ip {
    const bytes = this.#in.bytes(v6 ? 16 : 4);
    this.#checked(0);
    return this.#malformed === undefined ? (ipFromBytes(bytes) ?? EMPTY_IP) : EMPTY_IP;
  }

  endpoint(): Endpoint {
    const family = this.u8();
    if (family !== 4 && family !== 6) this.refuse('value', `address family ${family}, expected 4 or 6`);
    const ip = this.ip(family === 6);
    const port = this.u16();
    if (port === 0) this.refuse('value', 'port 0');
    return { ip, port };
  }

  /** Only as many bytes as the length has; the bits after it must be clear. */
  prefix(): Prefix {
    const start = this.u8();
    const v6 = start >= V6_LENGTHS_FROM;
    const length = v6 ? start - V6_LENGTHS_FROM : start;
    if (length > 128) this.refuse('value', `prefix length byte ${start}`);
    if (this.#malformed !== undefined) return EMPTY_PREFIX;
    const given = this.#in.bytes((length + 7) >> 3);
    this.#checked(0);
    const spare = length & 7;
    if (spare !== 0 && ((given.at(-1) ?? 0) & (0xff >> spare)) !== 0) {
      this.refuse('value', `prefix with bits set after its length ${length}`);
    }
    if (this.#malformed !== undefined) return EMPTY_PREFIX;
    const whole = new Uint8Array(v6 ? 16 : 4);
    whole.set(given);
    return { network: ipFromBytes(whole) ?? EMPTY_IP, length };
  }

  /** Lower-case text, two digits a byte, `separator` between them. */
  hex(bytes: number, separator: '' | ':'): string {
    const given = this.#in.bytes(bytes);
    this.#checked(0);
    let text = '';
    for (const byte of given) text += (text === '' ? '' : separator) + HEX_BYTES[byte];
    return text;
  }

  mac(): string {
    return this.hex(MAC_BYTES, ':');
  }

  #checked(value: number): number {
    if (!this.#in.overrun) return value;
    this.refuse('truncated', 'the message ends in the middle of a field');
    return 0;
  }
}

/** Stand in for what was refused; never part of a message. */
const EMPTY_IP = '0.0.0.0' as Ip;
const EMPTY_PREFIX: Prefix = { network: EMPTY_IP, length: 0 };

const HEX_BYTES: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  byte.toString(16).padStart(2, '0'),
);

export function writeVarint(out: ByteWriter, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, `varint out of range: ${value}`);
  let rest = value;
  while (rest >= 0x80) {
    out.u8(0x80 | (rest % 128));
    rest = Math.floor(rest / 128);
  }
  out.u8(rest);
}

export function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) count++;
  return count;
}

/** Whole milliseconds that fit; `round` decides what a fraction becomes. */
export function writeMs(out: ByteWriter, ms: number, round: 'up' | 'down'): void {
  const whole = round === 'up' ? Math.ceil(ms) : Math.floor(ms);
  out.u32(Math.min(Math.max(whole, 0), U32_MAX - 1));
}

export function writeOptionalMs(out: ByteWriter, ms: number | undefined): void {
  if (ms === undefined) out.u32(U32_MAX);
  else writeMs(out, ms, 'up');
}

export function writeText(out: ByteWriter, text: string, min: number, max: number): void {
  assert(text.length >= min && text.length <= max, `text of ${text.length} bytes: ${text}`);
  out.u8(text.length);
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    assert(code >= 0x21 && code <= 0x7e, `text with another character than visible ASCII: ${text}`);
    out.u8(code);
  }
}

export function writeName(out: ByteWriter, name: MemberName): void {
  writeText(out, name, 1, MAX_NAME_BYTES);
}

export function textBytes(text: string): number {
  return 1 + text.length;
}

export function writeIp(out: ByteWriter, ip: Ip): void {
  out.bytes(ipToBytes(ip));
}

export function ipBytes(ip: Ip): number {
  return isV6(ip) ? 16 : 4;
}

export function isV6(ip: Ip): boolean {
  return ip.includes(':');
}

export function writeEndpoint(out: ByteWriter, { ip, port }: Endpoint): void {
  assert(port > 0, 'port 0');
  out.u8(isV6(ip) ? 6 : 4);
  writeIp(out, ip);
  out.u16(port);
}

export function endpointBytes({ ip }: Endpoint): number {
  return 1 + ipBytes(ip) + 2;
}

export function writePrefix(out: ByteWriter, { network, length }: Prefix): void {
  const v6 = isV6(network);
  assert(length >= 0 && length <= (v6 ? 128 : 32), `prefix length ${length} of ${network}`);
  out.u8(length + (v6 ? V6_LENGTHS_FROM : 0));
  out.bytes(ipToBytes(network).subarray(0, (length + 7) >> 3));
}

export function prefixBytes({ length }: Prefix): number {
  return 1 + ((length + 7) >> 3);
}

/** The bytes that `text` has in pairs of hex digits, with or without `:` between them. */
export function writeHex(out: ByteWriter, text: string, bytes: number): void {
  const digits = text.replaceAll(':', '');
  assert(digits.length === bytes * 2 && /^[0-9a-f]*$/.test(digits), `${bytes} bytes in hex: ${text}`);
  for (let at = 0; at < digits.length; at += 2) out.u8(Number.parseInt(digits.slice(at, at + 2), 16));
}

export function writeMac(out: ByteWriter, mac: string): void {
  writeHex(out, mac, MAC_BYTES);
}
