import type { MemberName } from './types.ts';

/**
 * Weighted rendezvous hashing (highest random weight: Thaler and Ravishankar 1998; weights after Schindelhauer and
 * Schomaker 2005): every member draws a number for every address, and the best draw has it. All hosts compute the same
 * without asking each other; a member that goes moves only what it had, and its addresses spread over all the others.
 *
 * Names and addresses are hashed once and kept as 32-bit numbers, because the draws of 10,000 addresses for 100
 * members are a million.
 */

/** FNV-1a with the finalizer of MurmurHash3: short texts that differ in one digit end far apart. */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return mix(hash);
}

/** MurmurHash3's fmix32: a bijection of 32 bits in which every bit of the input moves half of those of the output. */
export function mix(value: number): number {
  let mixed = value ^ (value >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** The draw of a member for an address, 32 bits; both are given by their `hashText()`. */
export function draw(addressHash: number, nameHash: number): number {
  return mix(Math.imul(addressHash, 0x9e3779b1) + mix(nameHash ^ addressHash));
}

/**
 * The draw with its weight: the higher, the better; always negative. A member of twice the weight has the best score
 * for twice as many addresses.
 */
function score(draw: number, weight: number): number {
  return Math.log((draw + 0.5) / 4_294_967_296) / weight;
}

/** What a member has for one address. */
type Ticket = { readonly name: MemberName; readonly weight: number };

/**
 * Whether `left` comes before `right` with these draws. Of equal weights the draws alone tell it, without a logarithm.
 * Equal draws happen once in 2^32; then the name decides, so that all hosts still agree.
 */
export function ranksBefore(left: Ticket, leftDraw: number, right: Ticket, rightDraw: number): boolean {
  const lead =
    left.weight === right.weight
      ? leftDraw - rightDraw
      : score(leftDraw, left.weight) - score(rightDraw, right.weight);
  return lead > 0 || (lead === 0 && left.name < right.name);
}

/** Whether `left` wins `ip` from `right` at equal epochs. Weights play no part: hosts may see them differently for a while. */
export function winsTie(ip: string, left: MemberName, right: MemberName): boolean {
  const address = hashText(ip);
  const lead = draw(address, hashText(left)) - draw(address, hashText(right));
  return lead > 0 || (lead === 0 && left < right);
}
