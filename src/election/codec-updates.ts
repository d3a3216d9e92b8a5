import { assert } from '../lib/assert.ts';
import type { ByteWriter } from '../lib/bytes.ts';
import {
  endpointBytes,
  type FieldReader,
  ipBytes,
  isV6,
  MAX_COUNTER,
  MAX_NODE_BYTES,
  MAX_VERSION_BYTES,
  prefixBytes,
  textBytes,
  varintBytes,
  writeEndpoint,
  writeHex,
  writeIp,
  writeMac,
  writeMs,
  writeName,
  writeOptionalMs,
  writePrefix,
  writeText,
  writeVarint,
} from './codec-fields.ts';
import {
  type ClaimUpdate,
  MAX_META_BYTES,
  MAX_SEGMENTS,
  MAX_UNREADY,
  type MemberUpdate,
  type SilenceUpdate,
  type Update,
} from './message.ts';
import type { Claim, MemberMeta, MemberName, MemberState, Segment, Silence } from './types.ts';

/**
 * What gossip carries: a byte of tag, then the fields.
 *
 *   member   0 0 0 S B M s s    s: state, M: with meta, B: with by, S: with silence
 *            name, incarnation, [meta], [by], [silence]
 *   claim    1 0 0 0 0 0 O 6    6: v6, O: with owner
 *            address, epoch, [owner]
 *
 * A list of claims names each owner once, in the order of first use, and each claim refers to it by number.
 */

const TAG_CLAIM = 0x80;
const TAG_V6 = 0x01;
const TAG_OWNER = 0x02;
const TAG_STATE = 0x03;
const TAG_META = 0x04;
const TAG_BY = 0x08;
const TAG_SILENCE = 0x10;
const MEMBER_TAG_BITS = 0x1f;
const CLAIM_TAG_BITS = 0x83;

const STATES: readonly MemberState[] = ['alive', 'suspect', 'dead', 'left'];
const WHYS: readonly Silence['why'][] = ['silent', 'process-gone', 'restarting', 'isolated'];
const META_DRAINED = 0x01;
const META_UNREADY_ALL = 0x02;
/** A count and as many hashes follow the lifetime. */
const META_UNREADY = 0x04;
const META_UNREADY_BITS = META_UNREADY_ALL | META_UNREADY;
const META_FLAGS = META_DRAINED | META_UNREADY_BITS;
/** Why, since when, and how long the addresses stay. */
const SILENCE_BYTES = 1 + 4 + 4;
const DIGEST_BYTES = 4;
const MAX_WEIGHT = 1000;

export function writeUpdate(out: ByteWriter, update: Update): void {
  if (update.kind === 'claim') writeClaimUpdate(out, update);
  else writeMember(out, update);
}

export function readUpdate(reader: FieldReader): Update {
  const tag = reader.u8();
  return (tag & TAG_CLAIM) === 0 ? readMemberAfter(tag, reader) : readClaimAfter(tag, reader);
}

/** Exactly what `writeUpdate()` writes, in bytes, and the same for every age that a silence may have. */
export function updateBytes(update: Update): number {
  if (update.kind === 'claim') {
    const { ip, epoch, owner } = update;
    return 1 + ipBytes(ip) + varintBytes(epoch) + (owner === undefined ? 0 : textBytes(owner));
  }
  const { name, incarnation, meta, by, silence } = update;
  return (
    1 +
    textBytes(name) +
    varintBytes(incarnation) +
    (meta === undefined ? 0 : metaBytes(meta)) +
    (by === undefined ? 0 : textBytes(by)) +
    (silence === undefined ? 0 : SILENCE_BYTES)
  );
}

export function writeMember(out: ByteWriter, update: MemberUpdate): void {
  const { name, incarnation, state, meta, by, silence } = update;
  let tag = STATES.indexOf(state);
  if (meta !== undefined) tag |= TAG_META;
  if (by !== undefined) tag |= TAG_BY;
  if (silence !== undefined) tag |= TAG_SILENCE;
  out.u8(tag);
  writeName(out, name);
  writeVarint(out, incarnation);
  if (meta !== undefined) writeMeta(out, meta);
  if (by !== undefined) writeName(out, by);
  if (silence !== undefined) writeSilence(out, silence);
}

export function readMember(reader: FieldReader): MemberUpdate {
  return readMemberAfter(reader.u8(), reader);
}

function readMemberAfter(tag: number, reader: FieldReader): MemberUpdate {
  if ((tag & ~MEMBER_TAG_BITS) !== 0) reader.refuse('value', `update tag ${tag}`);
  return {
    kind: 'member',
    name: reader.name('name of a member'),
    incarnation: reader.varint(MAX_COUNTER, 'incarnation'),
    state: STATES[tag & TAG_STATE] ?? 'alive',
    meta: (tag & TAG_META) === 0 ? undefined : readMeta(reader),
    by: (tag & TAG_BY) === 0 ? undefined : reader.name('name of a suspecter'),
    silence: (tag & TAG_SILENCE) === 0 ? undefined : readSilence(reader),
  };
}

/** The encoded size of a meta, which must be at most MAX_META_BYTES. */
export function metaBytes(meta: MemberMeta): number {
  let bytes = endpointBytes(meta.endpoint) + textBytes(meta.node) + textBytes(meta.version) + 2;
  for (const segments of [meta.segments, meta.cutOff ?? []])
    for (const { subnet, ip } of segments) bytes += prefixBytes(subnet) + ipBytes(ip) + 6;
  const unready = Array.isArray(meta.unready) && meta.unready.length > 0 ? 1 + 4 * meta.unready.length : 0;
  return bytes + 1 + 2 + DIGEST_BYTES + 4 + unready;
}

function writeMeta(out: ByteWriter, meta: MemberMeta): void {
  const start = out.length;
  writeEndpoint(out, meta.endpoint);
  writeText(out, meta.node, 0, MAX_NODE_BYTES);
  writeText(out, meta.version, 0, MAX_VERSION_BYTES);
  writeSegments(out, meta.segments);
  writeSegments(out, meta.cutOff ?? []);
  assert(meta.weight >= 1 && meta.weight <= MAX_WEIGHT, `weight ${meta.weight}`);
  const { unready = [] } = meta;
  const unreadyFlag = unready === 'all' ? META_UNREADY_ALL : unready.length > 0 ? META_UNREADY : 0;
  out.u8((meta.drained ? META_DRAINED : 0) | unreadyFlag).u16(meta.weight);
  writeHex(out, meta.configDigest, DIGEST_BYTES);
  writeMs(out, meta.lifetimeMs, 'up');
  if (unready !== 'all' && unready.length > 0) writeUnready(out, unready);
  assert(out.length - start <= MAX_META_BYTES, `meta of ${out.length - start} bytes`);
}

function writeUnready(out: ByteWriter, hashes: readonly number[]): void {
  assert(hashes.length <= MAX_UNREADY, `${hashes.length} addresses that are unready`);
  out.u8(hashes.length);
  for (const hash of hashes) out.u32(hash);
}

function readUnready(reader: FieldReader): readonly number[] {
  const count = reader.u8();
  if (count < 1 || count > MAX_UNREADY)
    reader.refuse('limit', `${count} addresses that are unready, expected 1 to ${MAX_UNREADY}`);
  const hashes: number[] = [];
  for (let index = 0; index < count && reader.malformed === undefined; index++) {
    const hash = reader.u32();
    if (hash <= (hashes.at(-1) ?? -1)) reader.refuse('value', 'unready addresses out of order');
    hashes.push(hash);
  }
  return hashes;
}

function writeSegments(out: ByteWriter, segments: readonly Segment[]): void {
  assert(segments.length <= MAX_SEGMENTS, `${segments.length} segments`);
  out.u8(segments.length);
  for (const { subnet, ip, mac } of segments) {
    assert(isV6(subnet.network) === isV6(ip), `${ip} in a segment of the other family`);
    writePrefix(out, subnet);
    writeIp(out, ip);
    writeMac(out, mac);
  }
}

function readMeta(reader: FieldReader): MemberMeta {
  const start = reader.offset;
  const endpoint = reader.endpoint();
  const node = reader.text(0, MAX_NODE_BYTES, 'name of a node');
  const version = reader.text(0, MAX_VERSION_BYTES, 'version');
  const segments = readSegments(reader);
  const cutOff = readSegments(reader);
  const flags = reader.u8();
  if (flags > META_FLAGS || (flags & META_UNREADY_BITS) === META_UNREADY_BITS)
    reader.refuse('value', `flags ${flags} of a member`);
  const weight = reader.u16();
  if (weight < 1 || weight > MAX_WEIGHT)
    reader.refuse('value', `weight ${weight}, expected 1 to ${MAX_WEIGHT}`);
  const configDigest = reader.hex(DIGEST_BYTES, '');
  const lifetimeMs = reader.ms('lifetime');
  const listed = (flags & META_UNREADY) === 0 ? [] : readUnready(reader);
  const unready = (flags & META_UNREADY_ALL) === 0 ? listed : 'all';
  const bytes = reader.offset - start;
  if (bytes > MAX_META_BYTES) reader.refuse('limit', `meta of ${bytes} bytes, at most ${MAX_META_BYTES}`);
  const drained = (flags & META_DRAINED) !== 0;
  const meta = { endpoint, node, version, segments, drained, weight, configDigest, lifetimeMs };
  return {
    ...meta,
    ...(cutOff.length === 0 ? {} : { cutOff }),
    ...(unready.length === 0 ? {} : { unready }),
  };
}

function readSegments(reader: FieldReader): readonly Segment[] {
  const count = reader.u8();
  if (count > MAX_SEGMENTS) reader.refuse('limit', `${count} segments, at most ${MAX_SEGMENTS}`);
  const segments: Segment[] = [];
  for (let index = 0; index < count && reader.malformed === undefined; index++) {
    const subnet = reader.prefix();
    const ip = reader.ip(isV6(subnet.network));
    segments.push({ subnet, ip, mac: reader.mac() as Segment['mac'] });
  }
  return segments;
}

export function writeSilence(out: ByteWriter, { why, silentMs, leaseLeftMs }: SilenceUpdate): void {
  out.u8(WHYS.indexOf(why));
  // Rounded to the side that waits longer.
  writeMs(out, silentMs, 'down');
  writeOptionalMs(out, leaseLeftMs);
}

export function readSilence(reader: FieldReader): SilenceUpdate {
  const code = reader.u8();
  const why = WHYS[code];
  if (why === undefined) reader.refuse('value', `kind of silence ${code}`);
  const silentMs = reader.ms('silence');
  return { why: why ?? 'silent', silentMs, leaseLeftMs: reader.optionalMs() };
}

function writeClaimUpdate(out: ByteWriter, { ip, epoch, owner }: ClaimUpdate): void {
  assert(epoch >= 1, `epoch ${epoch}`);
  out.u8(TAG_CLAIM | (isV6(ip) ? TAG_V6 : 0) | (owner === undefined ? 0 : TAG_OWNER));
  writeIp(out, ip);
  writeVarint(out, epoch);
  if (owner !== undefined) writeName(out, owner);
}

function readClaimAfter(tag: number, reader: FieldReader): ClaimUpdate {
  if ((tag & ~CLAIM_TAG_BITS) !== 0) reader.refuse('value', `update tag ${tag}`);
  const ip = reader.ip((tag & TAG_V6) !== 0);
  const epoch = readEpoch(reader);
  const owner = (tag & TAG_OWNER) === 0 ? undefined : reader.name('name of an owner');
  return { kind: 'claim', ip, owner, epoch };
}

function readEpoch(reader: FieldReader): number {
  const epoch = reader.varint(MAX_COUNTER, 'epoch');
  if (epoch === 0) reader.refuse('value', 'epoch 0');
  return epoch;
}

export function writeClaims(out: ByteWriter, claims: readonly Claim[]): void {
  const owners = ownersOf(claims);
  writeVarint(out, owners.size);
  for (const owner of owners.keys()) writeName(out, owner);
  writeVarint(out, claims.length);
  for (const { ip, epoch, owner } of claims) {
    assert(epoch >= 1, `epoch ${epoch}`);
    const number = owner === undefined ? 0 : (owners.get(owner) ?? 0);
    writeVarint(out, number * 2 + (isV6(ip) ? 1 : 0));
    writeIp(out, ip);
    writeVarint(out, epoch);
  }
}

export function readClaims(reader: FieldReader, max: number): readonly Claim[] {
  const owners: MemberName[] = [];
  const ownerCount = reader.varint(max, 'number of owners');
  for (let index = 0; index < ownerCount && reader.malformed === undefined; index++) {
    owners.push(reader.name('name of an owner'));
  }
  if (new Set(owners).size !== owners.length) reader.refuse('value', 'an owner is named twice');
  const claims: Claim[] = [];
  const count = reader.varint(max, 'number of claims');
  let used = 0;
  for (let index = 0; index < count && reader.malformed === undefined; index++) {
    const code = reader.varint((owners.length + 1) * 2, 'number of an owner');
    const number = Math.floor(code / 2);
    if (number > Math.min(used + 1, owners.length)) reader.refuse('value', `owner ${number} out of order`);
    used = Math.max(used, number);
    const ip = reader.ip(code % 2 === 1);
    claims.push({ ip, owner: owners[number - 1], epoch: readEpoch(reader) });
  }
  if (used !== owners.length) reader.refuse('value', 'an owner that owns nothing');
  return claims;
}

function ownersOf(claims: readonly Claim[]): ReadonlyMap<MemberName, number> {
  const owners = new Map<MemberName, number>();
  for (const { owner } of claims) {
    if (owner !== undefined && !owners.has(owner)) owners.set(owner, owners.size + 1);
  }
  return owners;
}

export function readBoolean(reader: FieldReader, what: string): boolean {
  const value = reader.u8();
  if (value > 1) reader.refuse('value', `${what} ${value}, expected 0 or 1`);
  return value === 1;
}
