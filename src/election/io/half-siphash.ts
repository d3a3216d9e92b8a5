/**
 * HalfSipHash-2-4 with a result of 32 bits (J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF"). Enough to turn
 * away who has no key, not to prove who has one.
 */

/** The hash of `bytes` from `from` up to `to`, under a key of two words; unsigned. */
export function halfSipHash(k0: number, k1: number, bytes: DataView, from: number, to: number): number {
  let v0 = k0;
  let v1 = k1;
  let v2 = 0x6c796765 ^ k0;
  let v3 = 0x74656462 ^ k1;
  const wholeTo = to - ((to - from) & 3);
  for (let at = from; at <= wholeTo; at += 4) {
    const word = at < wholeTo ? bytes.getInt32(at, true) : lastWord(bytes, from, wholeTo, to);
    v3 ^= word;
    for (let round = 0; round < 2; round++) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    v0 ^= word;
  }
  v2 ^= 0xff;
  for (let round = 0; round < 4; round++) {
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
  }
  return (v1 ^ v3) >>> 0;
}

/** What is left of the bytes, and their number in the highest byte. */
function lastWord(bytes: DataView, from: number, wholeTo: number, to: number): number {
  let word = ((to - from) & 0xff) << 24;
  for (let at = wholeTo; at < to; at++) word |= bytes.getUint8(at) << ((at - wholeTo) * 8);
  return word;
}
