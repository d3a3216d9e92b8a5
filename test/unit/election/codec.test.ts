import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeMessage,
  encodeMessage,
  MAX_STATE_CLAIMS,
  metaBytes,
  updateBytes,
} from '../../../src/election/codec.ts';
import {
  type Heartbeat,
  MAX_META_BYTES,
  MAX_STATE_BYTES,
  type Message,
  type Update,
} from '../../../src/election/message.ts';
import type { Claim, MemberMeta, MemberName, SegmentKey } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { message, meta, update } from './codec-messages.ts';

const ALICE = 'alice' as MemberName;
const BOB = 'bob' as MemberName;

const HEARTBEAT: Heartbeat = {
  kind: 'heartbeat',
  from: ALICE,
  incarnation: 3,
  segment: '10.0.0.0/24' as SegmentKey,
  seq: 1000,
  ackSeq: 999,
  gapMs: 51,
  urgent: true,
  isolated: false,
  claimsMatch: true,
  ownDigest: 0x0102_0304,
  tableDigest: 0xffff_ffff,
  leaseLeftMs: 29_000,
};

const HEARTBEAT_HEX =
  '0100' + // version 1, heartbeat
  '05616c696365' + // alice
  '03' + // incarnation
  '180a0000' + // 10.0.0.0/24
  'e807' + // seq 1000
  'e707' + // ackSeq 999
  '00000033' + // gapMs
  '05' + // urgent, claimsMatch
  '01020304' +
  'ffffffff' +
  '00007148'; // leaseLeftMs

function bytes(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

function codeOf(input: Uint8Array): string {
  const decoded = decodeMessage(input);
  return decoded.ok ? decoded.value.kind : decoded.error.code;
}

test('encodeMessage() and decodeMessage() agree with the layout that the documentation gives', () => {
  assert.equal(Buffer.from(encodeMessage(HEARTBEAT)).toString('hex'), HEARTBEAT_HEX);
  assert.deepEqual(decodeMessage(bytes(HEARTBEAT_HEX)), { ok: true, value: HEARTBEAT });
});

test('decodeMessage() gives back what encodeMessage() was given', () => {
  fc.assert(
    fc.property(message, (original) => {
      const encoded = withMeasuredMetas(original) ? encodeMessage(original) : undefined;
      if (encoded === undefined) return;
      assert.deepEqual(decodeMessage(encoded), { ok: true, value: structuredClone(original) });
    }),
    { numRuns: 500 },
  );
});

/** Whether every meta in it is within the limit that encodeMessage() asserts. */
function withMeasuredMetas(original: Message): boolean {
  const updates: readonly Update[] =
    'updates' in original ? original.updates : 'members' in original ? original.members : [];
  return updates.every(
    (one) => one.kind === 'claim' || one.meta === undefined || metaBytes(one.meta) <= MAX_META_BYTES,
  );
}

test('updateBytes() counts what an update adds to a packet', () => {
  const empty = encodeMessage({ kind: 'gossip', from: ALICE, updates: [] }).length;
  fc.assert(
    fc.property(update, (one) => {
      const { length } = encodeMessage({ kind: 'gossip', from: ALICE, updates: [one] });
      assert.equal(length - empty, updateBytes(one));
    }),
  );
});

test('a meta of more than MAX_META_BYTES is measured, and encodeMessage() asserts', () => {
  fc.assert(
    fc.property(meta, (one) => {
      const gossip: Message = { kind: 'gossip', from: ALICE, updates: [memberUpdate(one)] };
      if (metaBytes(one) <= MAX_META_BYTES) assert.doesNotThrow(() => encodeMessage(gossip));
      else assert.throws(() => encodeMessage(gossip), /meta of \d+ bytes/);
    }),
  );
});

function memberUpdate(one: MemberMeta): Update {
  return {
    kind: 'member',
    name: BOB,
    incarnation: 1,
    state: 'alive',
    meta: one,
    by: undefined,
    silence: undefined,
  };
}

test('durations lose their fractions towards the side that waits longer', () => {
  const verdict: Message = {
    kind: 'verdict',
    from: ALICE,
    target: BOB,
    incarnation: 1,
    segment: '10.0.0.0/24' as SegmentKey,
    silence: { why: 'silent', silentMs: 150.7, leaseLeftMs: -3.2 },
  };
  const decoded = decodeMessage(encodeMessage(verdict));
  assert.ok(decoded.ok && decoded.value.kind === 'verdict');
  assert.deepEqual(decoded.value.silence, { why: 'silent', silentMs: 150, leaseLeftMs: 0 });
  const heartbeat = decodeMessage(encodeMessage({ ...HEARTBEAT, gapMs: 0.1, leaseLeftMs: 28_999.5 }));
  assert.ok(heartbeat.ok && heartbeat.value.kind === 'heartbeat');
  assert.equal(heartbeat.value.gapMs, 1);
  assert.equal(heartbeat.value.leaseLeftMs, 29_000);
});

test('decodeMessage() refuses what is none, with a reason', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ['nothing', '', 'truncated'],
    ['another version', `02${HEARTBEAT_HEX.slice(2)}`, 'version'],
    ['an unknown kind', `01ff${HEARTBEAT_HEX.slice(4)}`, 'kind'],
    ['a missing byte', HEARTBEAT_HEX.slice(0, -2), 'truncated'],
    ['a byte too many', `${HEARTBEAT_HEX}00`, 'trailing'],
    ['an empty name', '0104' + '00' + '01', 'limit'],
    ['a name of 64 bytes', `0104${'40'}${'61'.repeat(64)}01`, 'limit'],
    ['a name with a space', `0104${'01'}2001`, 'value'],
    ['a name with a control character', `0104${'01'}1b01`, 'value'],
    ['a name beyond ASCII', `0104${'02'}c3a901`, 'value'],
    ['a number in a longer form', `0104${'0161'}8100`, 'value'],
    ['a number of nine groups', `0104${'0161'}${'ff'.repeat(8)}01`, 'value'],
    ['a number beyond 2^53', `0104${'0161'}${'ff'.repeat(7)}7f`, 'limit'],
    ['a number of 2^48', `0104${'0161'}${'80'.repeat(6)}40`, 'limit'],
    ['host bits in a prefix', HEARTBEAT_HEX.replace('180a0000', '170a0001'), 'value'],
    ['unknown heartbeat flags', HEARTBEAT_HEX.replace('0000003305', '0000003385'), 'value'],
    ['a gap beyond every limit', HEARTBEAT_HEX.replace('00000033', 'ffffffff'), 'value'],
    ['a gossip with fewer updates than said', '0105' + '0161' + '01', 'truncated'],
    ['an unknown update tag', '0105' + '0161' + '01' + '20', 'value'],
    ['an unknown claim tag', '0105' + '0161' + '01' + 'c0', 'value'],
    ['a claim of epoch 0', '0105' + '0161' + '01' + '80' + '0a000001' + '00', 'value'],
    [
      'an endpoint of no family',
      '0102' + '0161' + '01' + '0162' + '05' + '0a000001' + '1f0a' + '00',
      'value',
    ],
    ['an endpoint with port 0', '0102' + '0161' + '01' + '0162' + '04' + '0a000001' + '0000' + '00', 'value'],
    ['an owner that owns nothing', '0107' + '0161' + '01' + '01' + '0162' + '00', 'value'],
    ['an owner named twice', `0107016101${'02'}01620162${'02'}020a00000101${'04'}0a00000201`, 'value'],
    ['owners out of order', `0107016101${'02'}01620163${'02'}040a00000101${'02'}0a00000201`, 'value'],
    ['an owner that is not named', `0107016101${'00'}${'01'}020a00000101`, 'value'],
    ['65 claims in a hand-over', `0107016101${'00'}${'41'}${'000a00000101'.repeat(65)}`, 'limit'],
    ['an unknown silence', `010601610162${'01'}180a0000${'04'}00000000ffffffff`, 'value'],
    ['a wish that is no boolean', '010c' + '0161' + '02' + '00' + '0000', 'value'],
    ['an unknown farewell', '010e' + '0161' + '01' + '02' + 'ffffffff', 'value'],
  ];
  for (const [what, hex, code] of cases) assert.equal(codeOf(bytes(hex)), code, what);
});

test('decodeMessage() takes the smallest messages of the cases that it refuses', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['0104016101', 'nack'],
    ['0105' + '0161' + '01' + '80' + '0a000001' + '01', 'gossip'],
    ['0102' + '0161' + '01' + '0162' + '04' + '0a000001' + '1f0a' + '00', 'ping-request'],
    [`0107016101${'02'}01620163${'02'}020a00000101${'04'}0a00000201`, 'offer'],
    [`010601610162${'01'}180a0000${'00'}00000000ffffffff`, 'verdict'],
    ['010c' + '0161' + '01' + '00' + '0000', 'state'],
    ['010e' + '0161' + '01' + '01' + 'ffffffff', 'farewell'],
  ];
  for (const [hex, kind] of cases) assert.equal(codeOf(bytes(hex)), kind);
});

test('decodeMessage() refuses a message beyond MAX_STATE_BYTES before it reads it', () => {
  const decoded = decodeMessage(new Uint8Array(MAX_STATE_BYTES + 1));
  assert.ok(!decoded.ok);
  assert.equal(decoded.error.code, 'limit');
});

test('a state of as many claims as there may be fits its limits', () => {
  const claims = Array.from({ length: MAX_STATE_CLAIMS }, (_, index): Claim => {
    const ip = ipFromNumber('v6', (0x2001_0db8n << 96n) + BigInt(index));
    return { ip, owner: `owner-${index % 1000}`.padEnd(63, 'x') as MemberName, epoch: 1 + index };
  });
  const state: Message = { kind: 'state', from: ALICE, wantsReply: true, members: [], claims };
  const encoded = encodeMessage(state);
  assert.ok(encoded.length < MAX_STATE_BYTES / 2, `${encoded.length} bytes`);
  const decoded = decodeMessage(encoded);
  assert.ok(decoded.ok && decoded.value.kind === 'state');
  assert.deepEqual(decoded.value.claims.at(-1), claims.at(-1));
});

test('a hand-over of 64 claims for IPv6 addresses fits a packet', () => {
  const claims = Array.from({ length: 64 }, (_, index): Claim => {
    const ip = `2001:db8:1:2:3:4:5:${(0x1000 + index).toString(16)}` as Ip;
    return { ip, owner: 'b'.repeat(63) as MemberName, epoch: 9_999 };
  });
  const offer: Message = { kind: 'taken', from: 'b'.repeat(63) as MemberName, seq: 100, claims };
  const { length } = encodeMessage(offer);
  assert.ok(length <= 1_360, `${length} bytes`);
});

test('decodeMessage() neither throws on mutated messages nor takes a second form of one', () => {
  const random = seededRandom(20_260_729);
  const samples = fc.sample(message, { numRuns: 200, seed: 7 }).filter(withMeasuredMetas).map(encodeMessage);
  let accepted = 0;
  for (let count = 0; count < 100_000; count++) {
    const sample = samples[Math.floor(random() * samples.length)] ?? new Uint8Array(0);
    const mutated = mutate(sample, random);
    const decoded = decodeMessage(mutated);
    if (!decoded.ok) continue;
    accepted++;
    if (count % 16 === 0) assert.deepEqual(encodeMessage(decoded.value), mutated);
  }
  // Half of the bytes of a packet are addresses and names, where any value is as good as another.
  assert.ok(accepted > 1_000 && accepted < 90_000, `${accepted} accepted`);
});

function mutate(sample: Uint8Array, random: () => number): Uint8Array {
  const length = random() < 0.2 ? Math.floor(random() * (sample.length + 4)) : sample.length;
  const mutated = new Uint8Array(length);
  mutated.set(sample.subarray(0, length));
  for (let flips = 1 + Math.floor(random() * 4); flips > 0; flips--) {
    const at = Math.floor(random() * Math.min(length, random() < 0.5 ? 24 : length));
    if (length > 0) mutated[at] = random() < 0.5 ? Math.floor(random() * 256) : (mutated[at] ?? 0) ^ 1;
  }
  return mutated;
}

test('a meta says every MAC and weight that a NIC and a configuration can have', () => {
  const one: MemberMeta = {
    endpoint: { ip: '10.0.0.1' as Ip, port: 7946 },
    node: 'node-1',
    version: '0.1.0',
    segments: [
      {
        subnet: { network: '10.0.0.0' as Ip, length: 24 },
        ip: '10.0.0.1' as Ip,
        mac: '02:00:00:00:00:01' as Mac,
      },
      {
        subnet: { network: 'fd00::' as Ip, length: 64 },
        ip: 'fd00::1' as Ip,
        mac: '02:00:00:00:00:01' as Mac,
      },
    ],
    drained: false,
    weight: 1000,
    configDigest: '0123abcd',
    lifetimeMs: 30_000,
  };
  assert.equal(metaBytes(one), 7 + 7 + 6 + 2 + (4 + 4 + 6) + (9 + 16 + 6) + 1 + 2 + 4 + 4);
  const gossip: Message = { kind: 'gossip', from: ALICE, updates: [memberUpdate(one)] };
  assert.deepEqual(decodeMessage(encodeMessage(gossip)), { ok: true, value: gossip });
});
