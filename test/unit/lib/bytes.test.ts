import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AssertionFailure } from '../../../src/lib/assert.ts';
import { ByteReader, ByteWriter } from '../../../src/lib/bytes.ts';

const READS = {
  u8: 1,
  u16: 2,
  u32: 4,
  u16Host: 2,
  u32Host: 4,
  i32Host: 4,
} as const;
type NumberRead = keyof typeof READS;

test('ByteReader reads numbers in network order, and in host order where the name says so', () => {
  const reader = new ByteReader(
    Uint8Array.of(1, 1, 2, 1, 2, 3, 4, 2, 1, 4, 3, 2, 1, 0xfe, 0xff, 0xff, 0xff, 7, 8),
  );
  assert.equal(reader.u8(), 1);
  assert.equal(reader.u16(), 0x0102);
  assert.equal(reader.u32(), 0x01020304);
  assert.equal(reader.u16Host(), 0x0102);
  assert.equal(reader.u32Host(), 0x01020304);
  assert.equal(reader.i32Host(), -2);
  assert.deepEqual([...reader.bytes(2)], [7, 8]);
  assert.equal(reader.remaining, 0);
  assert.equal(reader.overrun, false);
});

test('ByteReader stays within a view on a larger buffer', () => {
  const packet = Uint8Array.of(9, 9, 1, 2, 9, 9).subarray(2, 4);
  const reader = new ByteReader(packet);
  assert.equal(reader.u16(), 0x0102);
  assert.equal(reader.u8(), 0);
  assert.equal(reader.overrun, true);
  assert.equal(new ByteReader(packet).bytes(3).length, 0);
});

test('bytes() gives a view on the packet, not a copy', () => {
  const packet = Uint8Array.of(1, 2, 3);
  const view = new ByteReader(packet).bytes(2);
  packet[1] = 42;
  assert.deepEqual([...view], [1, 42]);
});

test('an overrun is sticky: nothing is read any more, not even what would have fitted', () => {
  const reader = new ByteReader(Uint8Array.of(1, 2, 3));
  assert.equal(reader.u32(), 0);
  assert.equal(reader.overrun, true);
  assert.equal(reader.remaining, 0);
  assert.equal(reader.u8(), 0);
  reader.skip(0);
  assert.equal(reader.overrun, true);
});

test('a negative length is an overrun, and so is one that is no number', () => {
  for (const length of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    const reader = new ByteReader(Uint8Array.of(1, 2, 3));
    assert.equal(reader.bytes(length).length, 0);
    assert.equal(reader.overrun, true, `${length}`);
    assert.equal(reader.offset, 3);
  }
});

test('property: a reader never throws nor leaves its bounds, and overruns exactly when more was asked than there is', () => {
  const step = fc.oneof(
    fc.constantFrom(...(Object.keys(READS) as NumberRead[])).map((name) => ({ name, length: READS[name] })),
    fc.nat({ max: 20 }).map((length) => ({ name: 'bytes' as const, length })),
    fc.nat({ max: 20 }).map((length) => ({ name: 'skip' as const, length })),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.array(step, { maxLength: 30 }), (packet, steps) => {
      const around = new Uint8Array(packet.length + 16).fill(0xaa);
      around.set(packet, 8);
      const reader = new ByteReader(around.subarray(8, 8 + packet.length));
      let expected: number | undefined = 0;
      for (const { name, length } of steps) {
        const fits: boolean = expected !== undefined && expected + length <= packet.length;
        if (name === 'skip') reader.skip(length);
        else if (name === 'bytes') {
          assert.deepEqual(
            [...reader.bytes(length)],
            fits ? [...packet.subarray(expected, (expected ?? 0) + length)] : [],
          );
        } else if (!fits) assert.equal(reader[name](), 0);
        else assert.equal(reader[name](), numberAt(packet, expected ?? 0, name));
        expected = fits ? (expected ?? 0) + length : undefined;
        assert.equal(reader.overrun, expected === undefined);
        assert.equal(reader.offset, expected ?? packet.length);
        assert.equal(reader.offset + reader.remaining, packet.length);
      }
    }),
  );
});

function numberAt(packet: Uint8Array, offset: number, name: NumberRead): number {
  const bytes = [...packet.subarray(offset, offset + READS[name])];
  if (name.endsWith('Host')) bytes.reverse();
  const value = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
  return name === 'i32Host' ? value | 0 : value;
}

test('a writer that has to grow writes what one with room enough writes', () => {
  const write = (writer: ByteWriter) =>
    writer
      .u8(1)
      .u16(0x0203)
      .u32(0x04050607)
      .u16Host(0x0908)
      .u32Host(0x0d0c0b0a)
      .i32Host(-1)
      .bytes(Uint8Array.of(20, 21, 22))
      .zeros(40)
      .patchU16(1, 0xabcd)
      .finish();
  const roomy = write(new ByteWriter(1_000));
  for (let capacity = 0; capacity < 70; capacity++) {
    assert.deepEqual(write(new ByteWriter(capacity)), roomy, `capacity ${capacity}`);
  }
  assert.deepEqual([...roomy.subarray(0, 9)], [1, 0xab, 0xcd, 4, 5, 6, 7, 8, 9]);
  assert.equal(roomy.length, 60);
});

test('ByteWriter asserts on values that do not fit, so that no packet says something else than meant', () => {
  const writer = new ByteWriter(16).zeros(8);
  const wrong: readonly (() => unknown)[] = [
    () => writer.u8(256),
    () => writer.u8(-1),
    () => writer.u8(1.5),
    () => writer.u8(Number.NaN),
    () => writer.u16(0x10000),
    () => writer.u32(2 ** 32),
    () => writer.u16Host(0x10000),
    () => writer.u32Host(-1),
    () => writer.i32Host(2 ** 31),
    () => writer.zeros(-1),
    () => writer.patchU16(0, 0x10000),
    () => writer.patchU16Host(0, 0x10000),
    () => writer.patchU32Host(0, 2 ** 32),
  ];
  for (const [index, write] of wrong.entries()) assert.throws(write, AssertionFailure, `case ${index}`);
  assert.deepEqual(writer.finish(), new Uint8Array(8));
});

test('a patch overwrites in place, in the order that its name says', () => {
  const writer = new ByteWriter(2).zeros(10).patchU32Host(0, 1).patchU16Host(4, 2).patchU16(6, 3);
  assert.deepEqual([...writer.finish()], [1, 0, 0, 0, 2, 0, 0, 3, 0, 0]);
  assert.equal(writer.length, 10);
});

test('a patch outside of what was written asserts, even where there is room', () => {
  const writer = new ByteWriter(64).zeros(4);
  for (const offset of [1, 4, -1]) {
    assert.throws(() => writer.patchU32Host(offset, 0), AssertionFailure);
  }
  for (const offset of [3, 4, -1]) {
    assert.throws(() => writer.patchU16(offset, 0), AssertionFailure);
    assert.throws(() => writer.patchU16Host(offset, 0), AssertionFailure);
  }
});

test('property: what was written is read again', () => {
  const item = fc.oneof(
    fc.record({ name: fc.constant('u8' as const), value: fc.nat({ max: 0xff }) }),
    fc.record({ name: fc.constantFrom('u16' as const, 'u16Host' as const), value: fc.nat({ max: 0xffff }) }),
    fc.record({
      name: fc.constantFrom('u32' as const, 'u32Host' as const),
      value: fc.integer({ min: 0, max: 0xffff_ffff }),
    }),
    fc.record({ name: fc.constant('i32Host' as const), value: fc.integer() }),
  );
  fc.assert(
    fc.property(fc.array(item), fc.nat({ max: 8 }), (items, capacity) => {
      const writer = new ByteWriter(capacity);
      for (const { name, value } of items) writer[name](value);
      const reader = new ByteReader(writer.finish());
      for (const { name, value } of items) assert.equal(reader[name](), value);
      assert.equal(reader.remaining, 0);
      assert.equal(reader.overrun, false);
    }),
  );
});
