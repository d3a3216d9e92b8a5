import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ArpMessage,
  decodeArp,
  encodeArp,
  encodeArpAnnouncement,
  encodeArpProbe,
  encodeArpRequest,
} from '../../../src/iface/arp-codec.ts';
import { MAC_BROADCAST, MAC_ZERO, macFromBytes, macToBytes, parseMac } from '../../../src/iface/mac.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { claimOf } from '../../../src/iface/wire-claims.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import * as vectors from './frame-vectors.ts';

const ONE = '02:00:00:00:00:01' as Mac;
const TWO = '02:00:00:00:00:02' as Mac;
const IP_ONE = '192.0.2.1' as Ip;
const IP_TWO = '192.0.2.2' as Ip;

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

function decoded(hex: string): ArpMessage {
  const result = decodeArp(bytes(hex));
  assert.ok(result.ok, JSON.stringify(result));
  return result.value;
}

/** What a real peer sent, without the padding that some append. */
function unpadded(hex: string): string {
  return hex.slice(0, 84);
}

test('decodeArp() reads what arping and Linux say to each other', () => {
  assert.deepEqual(decoded(vectors.arpWhoHas), {
    kind: 'arp',
    operation: 'request',
    ethernetSource: ONE,
    ethernetDestination: MAC_BROADCAST,
    senderMac: ONE,
    senderIp: IP_ONE,
    targetMac: MAC_ZERO,
    targetIp: IP_TWO,
  });
  assert.deepEqual(decoded(vectors.arpReply), {
    kind: 'arp',
    operation: 'reply',
    ethernetSource: TWO,
    ethernetDestination: ONE,
    senderMac: TWO,
    senderIp: IP_TWO,
    targetMac: ONE,
    targetIp: IP_ONE,
  });
  assert.equal(decoded(vectors.arpProbeReply).targetIp, '0.0.0.0');
});

test('encodeArp…() writes the bytes that real peers write', () => {
  const hex = (frame: Uint8Array) => Buffer.from(frame).toString('hex');
  assert.equal(hex(encodeArpProbe(ONE, IP_TWO)), unpadded(vectors.arpProbe));
  assert.equal(hex(encodeArpRequest(ONE, IP_ONE, IP_TWO)), unpadded(vectors.arpWhoHas));
  assert.equal(hex(encodeArp(decoded(vectors.arpReply))), unpadded(vectors.arpReply));
});

test('encodeArpAnnouncement() claims the address to everybody in both forms', () => {
  for (const form of ['request', 'reply'] as const) {
    const result = decodeArp(encodeArpAnnouncement(ONE, IP_ONE, form));
    assert.ok(result.ok);
    // arping has ff:ff:… as the target's MAC; RFC 5227 and 5944 say what it is here.
    const peers = decoded(form === 'request' ? vectors.arpGratuitousRequest : vectors.arpGratuitousReply);
    assert.deepEqual(result.value, { ...peers, targetMac: form === 'request' ? MAC_ZERO : ONE });
  }
});

test('claimOf() tells a holder from one who probes', () => {
  assert.deepEqual(claimOf(decoded(vectors.arpReply)), { ip: IP_TWO, mac: TWO, kind: 'has' });
  assert.deepEqual(claimOf(decoded(vectors.arpWhoHas)), { ip: IP_ONE, mac: ONE, kind: 'has' });
  assert.deepEqual(claimOf(decoded(vectors.arpGratuitousReply)), { ip: IP_ONE, mac: ONE, kind: 'has' });
  assert.deepEqual(claimOf(decoded(vectors.arpProbe)), { ip: IP_TWO, mac: ONE, kind: 'wants' });
});

test('decodeArp() names why a frame is none', () => {
  const altered = (at: number, ...values: number[]) => {
    const frame = bytes(vectors.arpReply);
    frame.set(values, at);
    return frame;
  };
  const cases: [string, Uint8Array, number][] = [
    ['truncated', bytes(vectors.arpReply).subarray(0, 41), 41],
    ['truncated', new Uint8Array(0), 0],
    ['not-arp', altered(12, 0x86, 0xdd), 12],
    ['not-ethernet', altered(15, 6), 14],
    ['not-ethernet', altered(18, 8), 14],
    ['not-ipv4', altered(16, 0x86, 0xdd), 16],
    ['not-ipv4', altered(19, 16), 16],
    ['other-operation', altered(21, 3), 20],
    ['bad-sender-mac', altered(22, 1), 22],
    ['bad-sender-mac', altered(22, 0, 0, 0, 0, 0, 0), 22],
  ];
  for (const [code, frame, offset] of cases) {
    const result = decodeArp(frame);
    assert.ok(!result.ok);
    assert.deepEqual([result.error.code, result.error.offset], [code, offset]);
  }
});

const mac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map(
    (drawn) =>
      macFromBytes(Uint8Array.from(drawn, (byte, at) => (at === 0 ? (byte & 0xfe) | 2 : byte))) as Mac,
  );

test('decodeArp() undoes encodeArp()', () => {
  const message = fc.record({
    kind: fc.constant('arp' as const),
    operation: fc.constantFrom('request' as const, 'reply' as const),
    ethernetSource: mac,
    ethernetDestination: mac,
    senderMac: mac,
    senderIp: fc.ipV4() as fc.Arbitrary<Ip>,
    targetMac: mac,
    targetIp: fc.ipV4() as fc.Arbitrary<Ip>,
  });
  fc.assert(
    fc.property(message, fc.nat(20), (drawn, paddingLength) => {
      const frame = new Uint8Array([...encodeArp(drawn), ...new Uint8Array(paddingLength)]);
      assert.deepEqual(decodeArp(frame), { ok: true, value: { ...drawn } });
    }),
  );
});

test('decodeArp() returns for every mutation, and what it takes it can write again', () => {
  const changes = fc.array(fc.tuple(fc.nat(59), fc.nat(255)), { maxLength: 6 });
  fc.assert(
    fc.property(changes, fc.nat(60), (drawn, length) => {
      const frame = bytes(vectors.arpWhoHas).subarray(0, length);
      for (const [at, value] of drawn) if (at < frame.length) frame[at] = value;
      const result = decodeArp(frame);
      if (result.ok) assert.deepEqual(encodeArp(result.value), frame.slice(0, 42));
      else assert.ok(result.error.offset <= frame.length);
    }),
    { numRuns: 5_000 },
  );
});

test('parseMac() takes six hexadecimal bytes in either case and nothing else', () => {
  assert.equal(parseMac('02:AB:cd:00:00:01'), '02:ab:cd:00:00:01');
  for (const text of ['02:ab:cd:00:00', '02-ab-cd-00-00-01', '02:ab:cd:00:00:0g', '']) {
    assert.equal(parseMac(text), undefined);
  }
  assert.deepEqual(macToBytes(ONE), Uint8Array.of(2, 0, 0, 0, 0, 1));
  assert.equal(macFromBytes(new Uint8Array(20)), undefined);
});
