import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ipFromWire, ipToWire } from '../../../src/election/codec-ip.ts';
import { type Ip, ipFromBytes, ipToBytes } from '../../../src/lib/ip.ts';

/** Mostly zeros and a few values, so that every run of zero groups comes up. */
const v6 = fc
  .array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff])));
const v4 = fc.uint8Array({ minLength: 4, maxLength: 4 });

test('ipFromWire() and ipToWire() agree with lib/ip.ts on every address', () => {
  fc.assert(
    fc.property(fc.oneof(v6, v4), (bytes) => {
      const ip = ipFromWire(bytes);
      assert.equal(ip, ipFromBytes(bytes));
      assert.deepEqual(ipToWire(ip), bytes);
      assert.deepEqual(ipToWire(ip), ipToBytes(ip));
    }),
    { numRuns: 2000 },
  );
});

test('ipToWire() reads the notations at the edges', () => {
  for (const text of [
    '::',
    '::1',
    '1::',
    'fe80::1',
    '1:2:3:4:5:6:7:8',
    '::ffff:a00:1',
    '0:0:1::',
    '255.255.255.255',
  ]) {
    assert.deepEqual(ipToWire(text as Ip), ipToBytes(text as Ip), text);
  }
});
