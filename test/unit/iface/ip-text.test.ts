import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ipFromWire } from '../../../src/iface/ip-text.ts';
import { ipFromBytes } from '../../../src/lib/ip.ts';

test('ipFromWire() gives the same text as ipFromBytes() for every address', () => {
  // Zero bytes are what makes v6 text hard.
  const byte = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(255));
  const address = fc.oneof(
    fc.array(byte, { minLength: 16, maxLength: 16 }),
    fc.array(byte, { minLength: 4, maxLength: 4 }),
  );
  fc.assert(
    fc.property(address, (drawn) => {
      const bytes = Uint8Array.from(drawn);
      assert.equal(ipFromWire(bytes), ipFromBytes(bytes));
    }),
    { numRuns: 5_000 },
  );
});

test('ipFromWire() shortens the first of the longest runs of zeros, and no single group', () => {
  const text = (...groups: number[]) =>
    ipFromWire(Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])));
  assert.equal(text(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1), '2001:db8::1:0:0:1');
  assert.equal(text(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1), '2001:db8:0:1:1:1:1:1');
  assert.equal(text(0xfe80, 0, 0, 0, 0, 0, 0, 0), 'fe80::');
  assert.equal(text(0, 0, 0, 0, 0, 0, 0, 1), '::1');
});

test('ipFromWire() gives nothing for bytes that are no address', () => {
  for (const length of [0, 3, 5, 15, 17]) assert.equal(ipFromWire(new Uint8Array(length)), undefined);
});
