import { type Ip, ipFromBytes } from '../lib/ip.ts';

/**
 * The address in 4 or 16 bytes of network order, or undefined for any other length: the same text as `ipFromBytes()`
 * gives, without its 128-bit arithmetic, because a dump of 10,000 v6 addresses must not stop the event loop.
 */
export function ipFromWire(bytes: Uint8Array): Ip | undefined {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` as Ip;
  if (bytes.length !== 16) return undefined;
  // The v4-mapped and v4-compatible blocks have notations of their own, and no address lbd cares for.
  if (isZero(bytes, 0, 10)) return ipFromBytes(bytes);
  return v6Text(bytes);
}

/** RFC 5952 4: lower case, no leading zeros, the longest run of zero groups (the first of equals) shortened. */
function v6Text(bytes: Uint8Array): Ip {
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0));
  const run = longestZeroRun(groups);
  if (run.length < 2) return joinHex(groups, 0, 8) as Ip;
  return `${joinHex(groups, 0, run.start)}::${joinHex(groups, run.start + run.length, 8)}` as Ip;
}

function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
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

function isZero(bytes: Uint8Array, from: number, to: number): boolean {
  for (let index = from; index < to; index++) if (bytes[index] !== 0) return false;
  return true;
}
