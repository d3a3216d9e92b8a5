import { assert } from '../lib/assert.ts';
import { ByteWriter } from '../lib/bytes.ts';
import { fail, ok, type Result } from '../lib/result.ts';
import {
  FieldReader,
  MAX_COUNTER,
  type Malformed,
  writeEndpoint,
  writeMs,
  writeName,
  writeOptionalMs,
  writePrefix,
  writeVarint,
} from './codec-fields.ts';
import {
  readBoolean,
  readClaims,
  readMember,
  readSilence,
  readUpdate,
  writeClaims,
  writeMember,
  writeSilence,
  writeUpdate,
} from './codec-updates.ts';
import {
  type Farewell,
  type Heartbeat,
  MAX_HANDOVER_CLAIMS,
  MAX_STATE_BYTES,
  type MemberUpdate,
  type Message,
  type State,
  type Update,
  type Verdict,
} from './message.ts';
import { segmentKey, segmentSubnet } from './segment-key.ts';
import type { SegmentKey } from './types.ts';

/**
 * Messages as bytes: the version, the kind, the sender's name, the fields of the kind in the order of `message.ts`. Numbers that
 * count are varints (seven bits a byte, low ones first), digests and durations have four bytes, a name its length before
 * it, a prefix as many bytes as it needs. Each message has exactly one encoding.
 *
 * Durations are whole milliseconds: a fraction is lost in encoding, towards the side that waits longer.
 */

/** Raised when a message changes its meaning; members of two versions refuse each other's packets. */
export const CODEC_VERSION = 1;
/** As many as a table of members and one of claims may have. */
export const MAX_STATE_MEMBERS = 4_096;
export const MAX_STATE_CLAIMS = 65_536;
const MAX_UPDATES = 255;

/** What stands on the wire for each kind; append only. */
const KINDS = [
  'heartbeat',
  'ping',
  'ping-request',
  'ack',
  'nack',
  'gossip',
  'verdict',
  'offer',
  'taken',
  'declined',
  'request',
  'released',
  'state',
  'hello',
  'farewell',
] as const satisfies readonly Message['kind'][];
const CODES: ReadonlyMap<Message['kind'], number> = new Map(KINDS.map((kind, code) => [kind, code]));

const FLAG_URGENT = 0x01;
const FLAG_ISOLATED = 0x02;
const FLAG_CLAIMS_MATCH = 0x04;
const HEARTBEAT_FLAGS = 0x07;
const FAREWELLS: readonly Farewell['why'][] = ['restarting', 'leaving'];

/** Asserts that the message is within its limits: what lbd builds itself is. */
export function encodeMessage(message: Message): Uint8Array {
  const out = new ByteWriter(message.kind === 'heartbeat' ? 128 : 1_400);
  out.u8(CODEC_VERSION).u8(CODES.get(message.kind) ?? KINDS.length);
  writeName(out, message.from);
  writeBody(out, message);
  assert(out.length <= MAX_STATE_BYTES, `a message of ${out.length} bytes`);
  return out.finish();
}

/** The message that the bytes are, all of them, or why they are none. Never throws. */
export function decodeMessage(bytes: Uint8Array): Result<Message, Malformed> {
  const reader = new FieldReader(bytes);
  if (bytes.length > MAX_STATE_BYTES) {
    return fail({ code: 'limit', offset: 0, detail: `${bytes.length} bytes, at most ${MAX_STATE_BYTES}` });
  }
  const version = reader.u8();
  if (reader.malformed === undefined && version !== CODEC_VERSION) {
    return fail({ code: 'version', offset: 0, detail: `version ${version}, expected ${CODEC_VERSION}` });
  }
  const code = reader.u8();
  const kind = KINDS[code];
  if (reader.malformed === undefined && kind === undefined) {
    return fail({ code: 'kind', offset: 1, detail: `kind ${code}` });
  }
  const message = readBody(reader, kind ?? 'nack');
  if (reader.malformed === undefined && reader.remaining > 0) {
    reader.refuse('trailing', `${reader.remaining} bytes after the message`);
  }
  return reader.malformed === undefined ? ok(message) : fail(reader.malformed);
}

export { metaBytes, updateBytes } from './codec-updates.ts';

function writeBody(out: ByteWriter, message: Message): void {
  switch (message.kind) {
    case 'heartbeat':
      return writeHeartbeat(out, message);
    case 'ping':
      writeVarint(out, message.seq);
      writeName(out, message.target);
      return writeUpdates(out, message.updates);
    case 'ping-request':
      writeVarint(out, message.seq);
      writeName(out, message.target);
      writeEndpoint(out, message.targetEndpoint);
      return writeUpdates(out, message.updates);
    case 'ack':
      writeVarint(out, message.seq);
      return writeUpdates(out, message.updates);
    case 'nack':
    case 'released':
      return writeVarint(out, message.seq);
    case 'gossip':
      return writeUpdates(out, message.updates);
    case 'verdict':
      return writeVerdict(out, message);
    case 'offer':
    case 'taken':
    case 'declined':
    case 'request':
      assert(message.claims.length <= MAX_HANDOVER_CLAIMS, `a hand-over of ${message.claims.length}`);
      writeVarint(out, message.seq);
      return writeClaims(out, message.claims);
    case 'state':
      return writeState(out, message);
    case 'hello':
      return writeVarint(out, message.incarnation);
    case 'farewell':
      writeVarint(out, message.incarnation);
      out.u8(FAREWELLS.indexOf(message.why));
      return writeOptionalMs(out, message.leaseLeftMs);
    default:
      message satisfies never;
  }
}

function readBody(reader: FieldReader, kind: Message['kind']): Message {
  const from = reader.name('name of the sender');
  switch (kind) {
    case 'heartbeat':
      return readHeartbeat(reader, from);
    case 'ping':
      return { kind, from, seq: readSeq(reader), target: readTarget(reader), updates: readUpdates(reader) };
    case 'ping-request': {
      const seq = readSeq(reader);
      const target = readTarget(reader);
      const targetEndpoint = reader.endpoint();
      return { kind, from, seq, target, targetEndpoint, updates: readUpdates(reader) };
    }
    case 'ack':
      return { kind, from, seq: readSeq(reader), updates: readUpdates(reader) };
    case 'nack':
    case 'released':
      return { kind, from, seq: readSeq(reader) };
    case 'gossip':
      return { kind, from, updates: readUpdates(reader) };
    case 'verdict':
      return readVerdict(reader, from);
    case 'offer':
    case 'taken':
    case 'declined':
    case 'request':
      return { kind, from, seq: readSeq(reader), claims: readClaims(reader, MAX_HANDOVER_CLAIMS) };
    case 'state':
      return readState(reader, from);
    case 'hello':
      return { kind, from, incarnation: readIncarnation(reader) };
    case 'farewell':
      return readFarewell(reader, from);
  }
}

function writeHeartbeat(out: ByteWriter, message: Heartbeat): void {
  writeVarint(out, message.incarnation);
  writePrefix(out, segmentSubnet(message.segment));
  writeVarint(out, message.seq);
  writeVarint(out, message.ackSeq);
  writeMs(out, message.gapMs, 'up');
  out.u8(
    (message.urgent ? FLAG_URGENT : 0) |
      (message.isolated ? FLAG_ISOLATED : 0) |
      (message.claimsMatch ? FLAG_CLAIMS_MATCH : 0),
  );
  out.u32(message.ownDigest).u32(message.tableDigest);
  writeOptionalMs(out, message.leaseLeftMs);
}

function readHeartbeat(reader: FieldReader, from: Heartbeat['from']): Heartbeat {
  const incarnation = readIncarnation(reader);
  const segment = readSegment(reader);
  const seq = readSeq(reader);
  const ackSeq = readSeq(reader);
  const gapMs = reader.ms('gap');
  const flags = reader.u8();
  if ((flags & ~HEARTBEAT_FLAGS) !== 0) reader.refuse('value', `heartbeat flags ${flags}`);
  return {
    kind: 'heartbeat',
    from,
    incarnation,
    segment,
    seq,
    ackSeq,
    gapMs,
    urgent: (flags & FLAG_URGENT) !== 0,
    isolated: (flags & FLAG_ISOLATED) !== 0,
    claimsMatch: (flags & FLAG_CLAIMS_MATCH) !== 0,
    ownDigest: reader.u32(),
    tableDigest: reader.u32(),
    leaseLeftMs: reader.optionalMs(),
  };
}

function writeVerdict(out: ByteWriter, { target, incarnation, segment, silence }: Verdict): void {
  writeName(out, target);
  writeVarint(out, incarnation);
  writePrefix(out, segmentSubnet(segment));
  writeSilence(out, silence);
}

function readVerdict(reader: FieldReader, from: Verdict['from']): Verdict {
  const target = readTarget(reader);
  const incarnation = readIncarnation(reader);
  const segment = readSegment(reader);
  return { kind: 'verdict', from, target, incarnation, segment, silence: readSilence(reader) };
}

function readFarewell(reader: FieldReader, from: Farewell['from']): Farewell {
  const incarnation = readIncarnation(reader);
  const code = reader.u8();
  const why = FAREWELLS[code];
  if (why === undefined) reader.refuse('value', `kind of farewell ${code}`);
  return { kind: 'farewell', from, incarnation, why: why ?? 'leaving', leaseLeftMs: reader.optionalMs() };
}

function writeState(out: ByteWriter, { wantsReply, members, claims }: State): void {
  assert(members.length <= MAX_STATE_MEMBERS, `a state of ${members.length} members`);
  assert(claims.length <= MAX_STATE_CLAIMS, `a state of ${claims.length} claims`);
  out.u8(wantsReply ? 1 : 0);
  writeVarint(out, members.length);
  for (const member of members) writeMember(out, member);
  writeClaims(out, claims);
}

function readState(reader: FieldReader, from: State['from']): State {
  const wantsReply = readBoolean(reader, 'wish for a reply');
  const members: MemberUpdate[] = [];
  const count = reader.varint(MAX_STATE_MEMBERS, 'number of members');
  for (let index = 0; index < count && reader.malformed === undefined; index++) {
    members.push(readMember(reader));
  }
  return { kind: 'state', from, wantsReply, members, claims: readClaims(reader, MAX_STATE_CLAIMS) };
}

function writeUpdates(out: ByteWriter, updates: readonly Update[]): void {
  assert(updates.length <= MAX_UPDATES, `${updates.length} updates in a packet`);
  out.u8(updates.length);
  for (const update of updates) writeUpdate(out, update);
}

function readUpdates(reader: FieldReader): readonly Update[] {
  const updates: Update[] = [];
  const count = reader.u8();
  for (let index = 0; index < count && reader.malformed === undefined; index++) {
    updates.push(readUpdate(reader));
  }
  return updates;
}

function readSeq(reader: FieldReader): number {
  return reader.varint(MAX_COUNTER, 'sequence number');
}

function readIncarnation(reader: FieldReader): number {
  return reader.varint(MAX_COUNTER, 'incarnation');
}

function readTarget(reader: FieldReader): Verdict['target'] {
  return reader.name('name of the target');
}

function readSegment(reader: FieldReader): SegmentKey {
  return segmentKey(reader.prefix());
}
