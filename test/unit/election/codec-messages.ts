import fc from 'fast-check';
import type {
  ClaimUpdate,
  Farewell,
  HandOver,
  MemberUpdate,
  Message,
  SilenceUpdate,
  Update,
} from '../../../src/election/message.ts';
import type { Claim, Endpoint, MemberMeta, MemberName, SegmentKey } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import {
  formatPrefix,
  type Ip,
  ipFromBytes,
  ipFromNumber,
  type Prefix,
  prefixOf,
} from '../../../src/lib/ip.ts';

/** Arbitrary messages, every field over the whole of its range. */

const visible = Array.from({ length: 0x7e - 0x21 + 1 }, (_, index) => String.fromCharCode(0x21 + index));

function text(minLength: number, maxLength: number): fc.Arbitrary<string> {
  return fc.string({ unit: fc.constantFrom(...visible), minLength, maxLength });
}

const name = text(1, 63) as fc.Arbitrary<MemberName>;
const counter = fc.oneof(fc.nat(300), fc.nat(2 ** 48 - 1));
const ms = fc.oneof(fc.nat(10_000), fc.nat(0xffff_fffe));
const lease = fc.option(ms, { nil: undefined });
const u32 = fc.nat(0xffff_ffff);
const v4 = fc.nat(0xffff_ffff).map((value) => ipFromNumber('v4', BigInt(value)));
const v6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => ipFromBytes(bytes) ?? ('::' as Ip));
const mapped = v4.map((ip) => ipFromNumber('v6', 0xffff_0000_0000n + BigInt(`0x${hexOf(ip)}`)));
const ip = fc.oneof(v4, v6, mapped);
const mac = fc
  .uint8Array({ minLength: 6, maxLength: 6 })
  .map((bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':') as Mac);

function hexOf(address: Ip): string {
  return address
    .split('.')
    .map((part) => Number(part).toString(16).padStart(2, '0'))
    .join('');
}

function prefixFor(address: fc.Arbitrary<Ip>, bits: number): fc.Arbitrary<Prefix> {
  return fc.tuple(address, fc.nat(bits)).map(([within, length]) => prefixOf(within, length));
}

const prefix = fc.oneof(prefixFor(v4, 32), prefixFor(v6, 128));
const segmentKey = prefix.map((subnet) => formatPrefix(subnet) as SegmentKey);
const endpoint: fc.Arbitrary<Endpoint> = fc.record({ ip, port: fc.integer({ min: 1, max: 65_535 }) });

const segment = fc.oneof(
  fc.record({ subnet: prefixFor(v4, 32), ip: v4, mac }),
  fc.record({ subnet: prefixFor(v6, 128), ip: v6, mac }),
);

const wholeMeta = fc.record({
  endpoint,
  node: text(0, 63),
  version: text(0, 20),
  segments: fc.array(segment, { maxLength: 8 }),
  drained: fc.boolean(),
  weight: fc.integer({ min: 1, max: 1000 }),
  configDigest: u32.map((value) => value.toString(16).padStart(8, '0')),
  lifetimeMs: ms,
});

const unready: fc.Arbitrary<MemberMeta['unready']> = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(undefined, 'all' as const) },
  fc
    .uniqueArray(u32, { minLength: 1, maxLength: 64 })
    .map((list) => list.sort((left, right) => left - right)),
);

/** All eight segments fit together, whichever of them are cut off. */
export const meta: fc.Arbitrary<MemberMeta> = fc
  .tuple(wholeMeta, fc.nat(8), unready)
  .map(([known, cutOff, unready]) => {
    const whole = unready === undefined ? known : { ...known, unready };
    const { segments } = whole;
    const parts = { segments: segments.slice(cutOff), cutOff: segments.slice(0, cutOff) };
    return parts.cutOff.length === 0 ? whole : { ...whole, ...parts };
  });

const silence: fc.Arbitrary<SilenceUpdate> = fc.record({
  why: fc.constantFrom('silent', 'process-gone', 'restarting', 'isolated'),
  silentMs: ms,
  leaseLeftMs: lease,
});

const member: fc.Arbitrary<MemberUpdate> = fc.record({
  kind: fc.constant('member'),
  name,
  incarnation: counter,
  state: fc.constantFrom('alive', 'suspect', 'dead', 'left'),
  meta: fc.option(meta, { nil: undefined }),
  by: fc.option(name, { nil: undefined }),
  silence: fc.option(silence, { nil: undefined }),
});

const epoch = counter.map((value) => Math.max(1, value));
const claim: fc.Arbitrary<Claim> = fc.record({
  ip,
  owner: fc.option(fc.oneof(name, fc.constantFrom('a' as MemberName, 'b' as MemberName)), { nil: undefined }),
  epoch,
});
const claimUpdate: fc.Arbitrary<ClaimUpdate> = claim.map((one) => ({ kind: 'claim', ...one }));
export const update: fc.Arbitrary<Update> = fc.oneof(member, claimUpdate);
const updates = fc.array(update, { maxLength: 12 });
const claims = fc.array(claim, { maxLength: 64 });

const handOver: fc.Arbitrary<HandOver> = fc.record({
  kind: fc.constantFrom('offer', 'taken', 'declined', 'request'),
  from: name,
  seq: counter,
  claims,
});

const farewell: fc.Arbitrary<Farewell> = fc.record({
  kind: fc.constant('farewell'),
  from: name,
  incarnation: counter,
  why: fc.constantFrom('restarting', 'leaving'),
  leaseLeftMs: lease,
});

export const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    kind: fc.constant('heartbeat' as const),
    from: name,
    incarnation: counter,
    segment: segmentKey,
    seq: counter,
    ackSeq: counter,
    gapMs: ms,
    urgent: fc.boolean(),
    isolated: fc.boolean(),
    claimsMatch: fc.boolean(),
    ownDigest: u32,
    tableDigest: u32,
    leaseLeftMs: lease,
  }),
  fc.record({ kind: fc.constant('ping' as const), from: name, seq: counter, target: name, updates }),
  fc.record({
    kind: fc.constant('ping-request' as const),
    from: name,
    seq: counter,
    target: name,
    targetEndpoint: endpoint,
    updates,
  }),
  fc.record({ kind: fc.constant('ack' as const), from: name, seq: counter, updates }),
  fc.record({ kind: fc.constantFrom('nack' as const, 'released' as const), from: name, seq: counter }),
  fc.record({ kind: fc.constant('gossip' as const), from: name, updates }),
  fc.record({
    kind: fc.constant('verdict' as const),
    from: name,
    target: name,
    incarnation: counter,
    segment: segmentKey,
    silence,
  }),
  handOver,
  fc.record({
    kind: fc.constant('state' as const),
    from: name,
    wantsReply: fc.boolean(),
    members: fc.array(member, { maxLength: 12 }),
    claims,
  }),
  fc.record({ kind: fc.constant('hello' as const), from: name, incarnation: counter }),
  farewell,
);
