import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeNd,
  encodeNaAnnouncement,
  encodeNd,
  encodeNsProbe,
  encodeNsRequest,
  type NdMessage,
  solicitedNodeAddress,
} from '../../../src/iface/nd-codec.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { claimOf } from '../../../src/iface/wire-claims.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import * as vectors from './frame-vectors.ts';

const ONE = '02:00:00:00:00:01' as Mac;
const TWO = '02:00:00:00:00:02' as Mac;
const THREE = '02:00:00:00:00:03' as Mac;
const IP_ONE = '2001:db8::1' as Ip;
const IP_TWO = '2001:db8::2' as Ip;

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

function hex(frame: Uint8Array): string {
  return Buffer.from(frame).toString('hex');
}

function decoded(frame: string | Uint8Array): NdMessage {
  const result = decodeNd(typeof frame === 'string' ? bytes(frame) : frame);
  assert.ok(result.ok, JSON.stringify(result));
  return result.value;
}

/** A vector with bytes replaced and the ICMPv6 checksum made right again. */
function altered(vector: string, at: number, ...values: number[]): Uint8Array {
  const frame = bytes(vector);
  frame.set(values, at);
  frame.set([0, 0], 56);
  let sum = frame.length - 54 + 58;
  for (let word = 22; word < frame.length; word += 2) {
    sum += ((frame[word] ?? 0) << 8) | (frame[word + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame.set([(~sum >>> 8) & 0xff, ~sum & 0xff], 56);
  return frame;
}

test('decodeNd() reads what Linux hosts say to each other', () => {
  assert.deepEqual(decoded(vectors.nsRequest), {
    kind: 'nd',
    type: 'solicitation',
    ethernetSource: ONE,
    ethernetDestination: '33:33:ff:00:00:02',
    sourceIp: IP_ONE,
    destinationIp: 'ff02::1:ff00:2',
    target: IP_TWO,
    router: false,
    solicited: false,
    override: false,
    linkLayer: ONE,
  });
  const reply = decoded(vectors.naReply);
  assert.deepEqual(
    [reply.type, reply.target, reply.router, reply.solicited, reply.override, reply.linkLayer],
    ['advertisement', IP_TWO, false, true, true, TWO],
  );
  const probe = decoded(vectors.nsProbe);
  assert.deepEqual([probe.sourceIp, probe.target, probe.linkLayer], ['::', '2001:db8::99', undefined]);
});

test('encodeN…() writes the bytes that Linux writes', () => {
  assert.equal(hex(encodeNsRequest(ONE, IP_ONE, IP_TWO)), vectors.nsRequest);
  assert.equal(hex(encodeNaAnnouncement(TWO, IP_TWO)), vectors.naDefence);
  assert.equal(hex(encodeNaAnnouncement(THREE, IP_ONE)), vectors.naUnsolicited);
  assert.equal(hex(encodeNd(decoded(vectors.naReply))), vectors.naReply);
});

test('encodeNsProbe() asks as Linux does, without its nonce', () => {
  const probe = decoded(encodeNsProbe(TWO, '2001:db8::99' as Ip));
  assert.deepEqual(probe, decoded(vectors.nsProbe));
});

test('claimOf() tells a holder from one who probes', () => {
  assert.deepEqual(claimOf(decoded(vectors.naReply)), { ip: IP_TWO, mac: TWO, kind: 'has' });
  assert.deepEqual(claimOf(decoded(vectors.nsRequest)), { ip: IP_ONE, mac: ONE, kind: 'has' });
  assert.deepEqual(claimOf(decoded(vectors.nsProbe)), { ip: '2001:db8::99', mac: TWO, kind: 'wants' });
});

test('solicitedNodeAddress() keeps the last three bytes', () => {
  assert.equal(solicitedNodeAddress('2001:db8::abcd:ef01' as Ip), 'ff02::1:ffcd:ef01');
  assert.equal(solicitedNodeAddress('2001:db8::' as Ip), 'ff02::1:ff00:0');
});

test('decodeNd() refuses what RFC 4861 7.1 refuses, and says why', () => {
  const flipped = bytes(vectors.naReply);
  flipped[85] = 9;
  const cases: [string, Uint8Array][] = [
    ['truncated', new Uint8Array(0)],
    ['truncated', bytes(vectors.naReply).subarray(0, 60)],
    ['not-ipv6', bytes(vectors.arpReply)],
    ['not-ipv6', altered(vectors.naReply, 14, 0x40)],
    ['not-neighbor-discovery', altered(vectors.naReply, 20, 0)],
    ['not-neighbor-discovery', bytes(vectors.routerSolicitation)],
    ['bad-hop-limit', altered(vectors.naReply, 21, 254)],
    ['bad-checksum', flipped],
    ['bad-code', altered(vectors.naReply, 55, 1)],
    ['bad-target', altered(vectors.naReply, 62, 0xff, 2)],
    ['bad-option', altered(vectors.naReply, 79, 0)],
    ['bad-option', altered(vectors.naReply, 79, 2)],
    ['bad-option', altered(vectors.naReply, 80, 1)],
    ['bad-source', altered(vectors.naReply, 22, 0xff, 2)],
    ['bad-source', altered(vectors.naReply, 22, ...new Uint8Array(16))],
    ['bad-source', altered(vectors.nsProbe, 38, 0xff, 2, ...new Uint8Array(13), 1)],
    ['bad-option', altered(vectors.nsProbe, 78, 1, 1, 2, 0, 0, 0, 0, 1)],
    ['bad-flags', altered(vectors.naDefence, 58, 0x60)],
  ];
  for (const [code, frame] of cases) {
    const result = decodeNd(frame);
    assert.ok(!result.ok, code);
    assert.equal(result.error.code, code);
  }
});

test('decodeNd() skips options that it does not know', () => {
  assert.equal(decoded(altered(vectors.naReply, 78, 200)).linkLayer, undefined);
});

const ip = fc
  .uint8Array({ minLength: 8, maxLength: 8 })
  .map((drawn) => `2001:db8:${Buffer.from(drawn).toString('hex').match(/.{4}/g)?.join(':')}:1:2` as const);

test('decodeNd() undoes encodeNd()', () => {
  fc.assert(
    fc.property(ip, fc.boolean(), fc.boolean(), fc.boolean(), (text, router, override, withOption) => {
      const base = decoded(encodeNaAnnouncement(ONE, IP_TWO));
      const target = decoded(encodeNsProbe(ONE, text as Ip)).target;
      const linkLayer = withOption ? TWO : undefined;
      const message: NdMessage = { ...base, target, sourceIp: target, router, override, linkLayer };
      assert.deepEqual(decodeNd(encodeNd(message)), { ok: true, value: message });
    }),
  );
});

test('decodeNd() returns for every mutation of every vector', () => {
  const samples = Object.values(vectors);
  const changes = fc.array(fc.tuple(fc.nat(90), fc.nat(255)), { maxLength: 6 });
  fc.assert(
    fc.property(fc.nat(samples.length - 1), changes, fc.nat(90), (sample, drawn, length) => {
      const frame = bytes(samples[sample] ?? '').subarray(0, length);
      for (const [at, value] of drawn) if (at < frame.length) frame[at] = value;
      const result = decodeNd(frame);
      if (!result.ok) assert.ok(result.error.offset <= frame.length);
      // With the checksum repaired the options are reached as well.
      if (frame.length > 60) decodeNd(altered(hex(frame), 20, 58, 255));
    }),
    { numRuns: 5_000 },
  );
});
