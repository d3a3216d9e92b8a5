import { assert } from './assert.ts';

/**
 * Reads a packet from the network or the kernel without ever leaving its bounds and without throwing.
 *
 * A read past the end returns zeros and sets `overrun`, which stays set: a decoder reads a whole structure and
 * checks `overrun` once, before it uses anything. Multi-byte reads are network order unless the name says `Host`
 * (netlink speaks host order; every platform lbd supports is little-endian, which `src/sys` asserts at start).
 */
export class ByteReader {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  #offset = 0;
  #overrun = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** True once any read went past the end; values read since then are zeros and must not be used. */
  get overrun(): boolean {
    return this.#overrun;
  }

  /** Where the next read starts, in bytes from the beginning. */
  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  u8(): number {
    const at = this.#take(1);
    return at < 0 ? 0 : this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return at < 0 ? 0 : this.#view.getUint16(at);
  }

  u32(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getUint32(at);
  }

  u16Host(): number {
    const at = this.#take(2);
    return at < 0 ? 0 : this.#view.getUint16(at, true);
  }

  u32Host(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getUint32(at, true);
  }

  i32Host(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getInt32(at, true);
  }

  /** `length` bytes as a view on the packet (not a copy); empty on overrun. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return at < 0 ? new Uint8Array(0) : this.#bytes.subarray(at, at + length);
  }

  skip(length: number): void {
    this.#take(length);
  }

  #take(length: number): number {
    if (!(length >= 0 && this.#offset + length <= this.#bytes.length)) {
      this.#overrun = true;
      this.#offset = this.#bytes.length;
      return -1;
    }
    const at = this.#offset;
    this.#offset += length;
    return at;
  }
}

/** Builds a packet; grows as needed. Values out of range are bugs and assert. */
export class ByteWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): this {
    assertUnsigned(value, 0xff, 'u8');
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    assertUnsigned(value, 0xffff, 'u16');
    const at = this.#reserve(2);
    this.#view.setUint16(at, value);
    return this;
  }

  u32(value: number): this {
    assertUnsigned(value, 0xffff_ffff, 'u32');
    const at = this.#reserve(4);
    this.#view.setUint32(at, value);
    return this;
  }

  u16Host(value: number): this {
    assertUnsigned(value, 0xffff, 'u16');
    const at = this.#reserve(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32Host(value: number): this {
    assertUnsigned(value, 0xffff_ffff, 'u32');
    const at = this.#reserve(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  i32Host(value: number): this {
    assert(value === (value | 0), `i32 out of range: ${value}`);
    const at = this.#reserve(4);
    this.#view.setInt32(at, value, true);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  zeros(count: number): this {
    assert(Number.isInteger(count) && count >= 0, `no number of bytes: ${count}`);
    const at = this.#reserve(count);
    this.#bytes.fill(0, at, this.#length);
    return this;
  }

  /** Writes a u32 in host order over what already stands at `offset`: for lengths known only afterwards. */
  patchU32Host(offset: number, value: number): this {
    assertUnsigned(value, 0xffff_ffff, 'u32');
    this.#assertWritten(offset, 4);
    this.#view.setUint32(offset, value, true);
    return this;
  }

  patchU16Host(offset: number, value: number): this {
    assertUnsigned(value, 0xffff, 'u16');
    this.#assertWritten(offset, 2);
    this.#view.setUint16(offset, value, true);
    return this;
  }

  patchU16(offset: number, value: number): this {
    assertUnsigned(value, 0xffff, 'u16');
    this.#assertWritten(offset, 2);
    this.#view.setUint16(offset, value);
    return this;
  }

  /** What was written so far, as a view: further writes may move it, so take it last. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #assertWritten(offset: number, length: number): void {
    assert(offset >= 0 && offset + length <= this.#length, `patch outside of what was written: ${offset}`);
  }

  /** May put other memory in place of `#bytes` and `#view`: call it before either is read. */
  #reserve(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, at + count));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = at + count;
    return at;
  }
}

function assertUnsigned(value: number, max: number, what: string): void {
  assert(Number.isInteger(value) && value >= 0 && value <= max, `${what} out of range: ${value}`);
}
