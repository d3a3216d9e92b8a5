import { Address6 } from 'ip-address';
import { assert } from './assert.ts';
import { fail, ok, type Result } from './result.ts';

/**
 * An address in its one canonical text: dotted decimal, or RFC 5952 for v6. Canonical text makes an address a map
 * key, a JSON value and a log field at once; arithmetic goes through `ipToNumber()`.
 */
export type Ip = string & { readonly __brand: 'Ip' };

export type Family = 'v4' | 'v6';

/** A subnet: `network` has no host bits set. */
export type Prefix = { readonly network: Ip; readonly length: number };

/** All addresses from `first` to `last`, both included, of one family; never enumerated. */
export type IpRange = { readonly first: Ip; readonly last: Ip };

export const FAMILY_BITS: Readonly<Record<Family, number>> = { v4: 32, v6: 128 };

const LONGEST_ADDRESS_TEXT = 64;

/**
 * The address that `text` names, or undefined. Takes no prefix length, zone, port or white space, and v4 only as four
 * decimal numbers without leading zeros (inet_aton's octal reading of them is how wrong addresses get announced).
 */
export function parseIp(text: string): Ip | undefined {
  if (text.length > LONGEST_ADDRESS_TEXT || !/^[0-9a-fA-F:.]+$/.test(text)) return undefined;
  if (!text.includes(':')) return isDottedDecimal(text) ? (text as Ip) : undefined;
  if (!Address6.isValid(text)) return undefined;
  return new Address6(text).correctForm() as Ip;
}

function isDottedDecimal(text: string): boolean {
  const parts = text.split('.');
  return parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

export function familyOf(ip: Ip): Family {
  return ip.includes(':') ? 'v6' : 'v4';
}

/** The address as a number in network order: 32 or 128 bits. */
export function ipToNumber(ip: Ip): bigint {
  return familyOf(ip) === 'v4' ? BigInt(v4ToNumber(ip)) : new Address6(ip).bigInt();
}

/** The inverse of `ipToNumber()`; asserts that the number fits the family. */
export function ipFromNumber(family: Family, value: bigint): Ip {
  assert(value >= 0n && value >> BigInt(FAMILY_BITS[family]) === 0n, `${value} is no ${family} address`);
  if (family === 'v4') return v4FromNumber(Number(value));
  return Address6.fromBigInt(value).correctForm() as Ip;
}

/** 4 or 16 bytes in network order; no 128-bit arithmetic, as messages with 10,000 addresses are made of them. */
export function ipToBytes(ip: Ip): Uint8Array {
  return familyOf(ip) === 'v4' ? v4ToBytes(ip) : v6ToBytes(ip);
}

/** The address in 4 or 16 bytes, or undefined for any other length; no 128-bit arithmetic either. */
export function ipFromBytes(bytes: Uint8Array): Ip | undefined {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip;
  return bytes.length === 16 ? v6FromBytes(bytes) : undefined;
}

/** Ascending by number, v4 before v6: the order of lists that people read. */
export function compareIps(left: Ip, right: Ip): number {
  const leftFamily = familyOf(left);
  if (leftFamily !== familyOf(right)) return leftFamily === 'v4' ? -1 : 1;
  if (leftFamily === 'v4') return v4ToNumber(left) - v4ToNumber(right);
  const difference = ipToNumber(left) - ipToNumber(right);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** `a.b.c.d/n` or its v6 form; host bits are an error, because they mostly mean a typing mistake. */
export function parsePrefix(text: string): Result<Prefix, string> {
  const slash = text.indexOf('/');
  const ip = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (slash < 0 || ip === undefined) return fail('expected a prefix such as 192.0.2.0/24 or 2001:db8::/64');
  const lengthText = text.slice(slash + 1);
  const bits = FAMILY_BITS[familyOf(ip)];
  if (!/^(0|[1-9]\d{0,2})$/.test(lengthText) || Number(lengthText) > bits) {
    return fail(`expected a prefix length of 0 to ${bits}`);
  }
  const prefix = prefixOf(ip, Number(lengthText));
  if (prefix.network !== ip) return fail(`expected no host bits, as in ${formatPrefix(prefix)}`);
  return ok(prefix);
}

/** The subnet of the given length that holds `ip`. */
export function prefixOf(ip: Ip, length: number): Prefix {
  const family = familyOf(ip);
  const hostBits = BigInt(FAMILY_BITS[family] - length);
  return { network: ipFromNumber(family, (ipToNumber(ip) >> hostBits) << hostBits), length };
}

export function formatPrefix(prefix: Prefix): string {
  return `${prefix.network}/${prefix.length}`;
}

export function prefixContains(prefix: Prefix, ip: Ip): boolean {
  const family = familyOf(ip);
  if (family !== familyOf(prefix.network)) return false;
  const hostBits = BigInt(FAMILY_BITS[family] - prefix.length);
  return ipToNumber(ip) >> hostBits === ipToNumber(prefix.network) >> hostBits;
}

/** Whether they have an address in common. */
export function overlap(left: Prefix, right: Prefix): boolean {
  return prefixContains(left, right.network) || prefixContains(right, left.network);
}

export function prefixRange(prefix: Prefix): IpRange {
  const family = familyOf(prefix.network);
  const first = ipToNumber(prefix.network);
  const size = 1n << BigInt(FAMILY_BITS[family] - prefix.length);
  return { first: prefix.network, last: ipFromNumber(family, first + size - 1n) };
}

/** The v4 subnet's all-ones address (RFC 919), or undefined where there is none (v6, /31 and /32: RFC 3021). */
export function broadcastOf(prefix: Prefix): Ip | undefined {
  if (familyOf(prefix.network) === 'v6' || prefix.length >= 31) return undefined;
  return prefixRange(prefix).last;
}

/** What `ip` is in its subnet besides an address of a host (RFC 919; RFC 4291 2.6.1); undefined for nothing else. */
export function meaningIn(prefix: Prefix, ip: Ip): string | undefined {
  if (broadcastOf(prefix) === ip) return 'broadcast address';
  if (prefix.network !== ip) return undefined;
  if (familyOf(ip) === 'v6') return prefix.length < 127 ? 'subnet-router anycast address' : undefined;
  return prefix.length < 31 ? 'network address' : undefined;
}

/** A prefix, or `first-last`; the failure says what was expected. */
export function parseRange(text: string): Result<IpRange, string> {
  const dash = text.indexOf('-');
  if (dash < 0) {
    const prefix = parsePrefix(text);
    return prefix.ok ? ok(prefixRange(prefix.value)) : prefix;
  }
  const first = parseIp(text.slice(0, dash).trim());
  const last = parseIp(text.slice(dash + 1).trim());
  if (first === undefined || last === undefined) {
    return fail('expected a range such as 192.0.2.10-192.0.2.20, with one address on each side');
  }
  if (familyOf(first) !== familyOf(last)) {
    return fail(
      `expected both ends of one family, ${first} is ${familyOf(first)} and ${last} is ${familyOf(last)}`,
    );
  }
  if (compareIps(first, last) > 0) return fail(`expected the lower address first, as in ${last}-${first}`);
  return ok({ first, last });
}

export function formatRange(range: IpRange): string {
  return range.first === range.last ? range.first : `${range.first}-${range.last}`;
}

export function rangeContains(range: IpRange, ip: Ip): boolean {
  return (
    familyOf(ip) === familyOf(range.first) &&
    compareIps(range.first, ip) <= 0 &&
    compareIps(ip, range.last) <= 0
  );
}

export function rangesOverlap(left: IpRange, right: IpRange): boolean {
  if (familyOf(left.first) !== familyOf(right.first)) return false;
  return compareIps(left.first, right.last) <= 0 && compareIps(right.first, left.last) <= 0;
}

/** How many addresses the range holds: exact, because a v6 range exceeds every float. */
export function rangeSize(range: IpRange): bigint {
  return ipToNumber(range.last) - ipToNumber(range.first) + 1n;
}

/** Why no Service may have this address on any network, or undefined when nothing speaks against it. */
export function unusableReason(ip: Ip): string | undefined {
  const value = ipToNumber(ip);
  const rule = UNUSABLE[familyOf(ip)].find((candidate) => prefixHolds(candidate.prefix, value));
  return rule?.reason;
}

type UnusableRule = {
  readonly prefix: { readonly value: bigint; readonly shift: bigint };
  readonly reason: string;
};

function prefixHolds(prefix: UnusableRule['prefix'], value: bigint): boolean {
  return value >> prefix.shift === prefix.value >> prefix.shift;
}

function unusable(text: string, reason: string): UnusableRule {
  const parsed = parsePrefix(text);
  assert(parsed.ok, text);
  const bits = FAMILY_BITS[familyOf(parsed.value.network)];
  return {
    prefix: { value: ipToNumber(parsed.value.network), shift: BigInt(bits - parsed.value.length) },
    reason,
  };
}

/** IANA special-purpose registries (RFC 6890): what is never a unicast address that a neighbour can reach. */
const UNUSABLE: Readonly<Record<Family, readonly UnusableRule[]>> = {
  v4: [
    unusable('0.0.0.0/8', 'it means "this network" (RFC 1122 3.2.1.3)'),
    unusable('127.0.0.0/8', 'it is a loopback address (RFC 1122 3.2.1.3)'),
    unusable('224.0.0.0/4', 'it is a multicast address (RFC 5771)'),
    unusable('240.0.0.0/4', 'it is reserved or broadcast (RFC 1112 4)'),
  ],
  v6: [
    unusable('::/128', 'it is the unspecified address (RFC 4291 2.5.2)'),
    unusable('::1/128', 'it is the loopback address (RFC 4291 2.5.3)'),
    unusable('::ffff:0:0/96', 'it is an IPv4-mapped address (RFC 4291 2.5.5.2)'),
    unusable('fe80::/10', 'it is a link-local address (RFC 4291 2.5.6), which means nothing beyond one link'),
    unusable('ff00::/8', 'it is a multicast address (RFC 4291 2.7)'),
  ],
};

function v4ToNumber(ip: Ip): number {
  let value = 0;
  for (const part of ip.split('.')) value = value * 256 + Number(part);
  return value;
}

function v4FromNumber(value: number): Ip {
  return `${value >>> 24}.${(value >>> 16) & 0xff}.${(value >>> 8) & 0xff}.${value & 0xff}` as Ip;
}

const DOT = 0x2e;
const COLON = 0x3a;

function v4ToBytes(ip: Ip): Uint8Array {
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

/** Canonical text has hexadecimal groups only, and one gap at most. */
function v6ToBytes(ip: Ip): Uint8Array {
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

function v6FromBytes(bytes: Uint8Array): Ip {
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

/** `192.0.2.1:80`, `[2001:db8::1]:80` (RFC 3986 3.2.2). */
export function formatEndpoint(ip: Ip, port: number): string {
  return familyOf(ip) === 'v6' ? `[${ip}]:${port}` : `${ip}:${port}`;
}
