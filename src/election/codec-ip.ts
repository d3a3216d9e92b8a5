import { assert } from '../lib/assert.ts';
import { type Ip, ipToBytes } from '../lib/ip.ts';

/**
 * Canonical address text from bytes and back without the 128-bit arithmetic of `lib/ip.ts`: the claims for 10,000 v6 addresses
 * come in one message, and a host that reads it must not miss its own heartbeats over it.
 */

/** 4 or 16 bytes in network order. */
export function ipFromWire(bytes: Uint8Array): Ip {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip;
  assert(bytes.length === 16, `an address of ${bytes.length} bytes`);
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
  const run = longestZeroRun(groups);
  if (run.length < 2) return joinHex(groups, 0, 8) as Ip;
  return `${joinHex(groups, 0, run.start)}::${joinHex(groups, run.start + run.length, 8)}` as Ip;
}

/** RFC 5952 4.2.3: the longest run of zero groups is shortened, the first of equals. */
function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (let index = 0; index < groups.length; index++) {
    if (groups[index] !== 0) start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  }
  return best;
}

function joinHex(groups: readonly number[], from: number, to: number): string {
  let text = '';
  for (let index = from; index < to; index++) {
    if (index > from) text += ':';
    text += (groups[index] ?? 0).toString(16);
  }
  return text;
}

const DOT = 0x2e;
const COLON = 0x3a;

/** 4 or 16 bytes of an address in canonical text. */
export function ipToWire(ip: Ip): Uint8Array {
  if (ip.includes('.')) return ip.includes(':') ? ipToBytes(ip) : v4ToWire(ip);
  const bytes = new Uint8Array(16);
  let at = 0;
  let group = 0;
  let digits = 0;
  let gapAt = -1;
  for (let index = 0; index < ip.length; index++) {
    const code = ip.charCodeAt(index);
    if (code !== COLON) {
      group = (group << 4) | (code <= 0x39 ? code - 0x30 : (code | 0x20) - 0x57);
      digits++;
      continue;
    }
    if (digits > 0) at = putGroup(bytes, at, group);
    else gapAt = at;
    group = 0;
    digits = 0;
  }
  if (digits > 0) at = putGroup(bytes, at, group);
  if (gapAt >= 0) {
    bytes.copyWithin(16 - (at - gapAt), gapAt, at);
    bytes.fill(0, gapAt, 16 - (at - gapAt));
  }
  return bytes;
}

function putGroup(bytes: Uint8Array, at: number, group: number): number {
  bytes[at] = group >> 8;
  bytes[at + 1] = group & 0xff;
  return at + 2;
}

function v4ToWire(ip: Ip): Uint8Array {
  const bytes = new Uint8Array(4);
  let at = 0;
  let value = 0;
  for (let index = 0; index < ip.length; index++) {
    const code = ip.charCodeAt(index);
    if (code === DOT) {
      bytes[at++] = value;
      value = 0;
    } else value = value * 10 + (code - 0x30);
  }
  bytes[at] = value;
  return bytes;
}
