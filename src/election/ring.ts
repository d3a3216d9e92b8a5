import type { Random } from '../lib/prng.ts';
import type { Endpoint, MemberName, SegmentKey } from './types.ts';

/**
 * Who watches whom on one segment: its members in the order of a hash of segment and name, each next to two others.
 * The order is the same on every host that knows the same members, so watching is mutual: one heartbeat each way.
 * Members come and go by binary search; nothing scans.
 */

export type RingMember = {
  readonly name: MemberName;
  readonly place: number;
  /** Its own address on the segment. */
  readonly to: Endpoint;
  /** Where it is reached for everything else. */
  gossip: Endpoint;
  incarnation: number;
  /** As the members see it: alive, not suspected. */
  alive: boolean;
  /** Under a verdict from here, also when it is no neighbour any more. */
  silent: boolean;
};

/** Suspected or silent neighbours that are still watched, on each side. */
const PASSED_LIMIT = 2;
export const NEIGHBOUR_LIMIT = 2 * (PASSED_LIMIT + 1);

export class Ring {
  readonly #segment: SegmentKey;
  readonly #self: { readonly name: MemberName; readonly place: number };
  readonly #members = new Map<MemberName, RingMember>();
  /** All but this host. */
  readonly #order: RingMember[] = [];

  constructor(segment: SegmentKey, self: MemberName) {
    this.#segment = segment;
    this.#self = { name: self, place: placeOf(segment, self) };
  }

  get size(): number {
    return this.#order.length;
  }

  get(name: MemberName): RingMember | undefined {
    return this.#members.get(name);
  }

  /** A member that moved to another address is a new one. Returns whether who is next to whom can have changed. */
  put(name: MemberName, to: Endpoint, gossip: Endpoint, incarnation: number, alive: boolean): boolean {
    const known = this.#members.get(name);
    if (known !== undefined) {
      if (known.to.ip === to.ip && known.to.port === to.port) {
        const changed = known.alive !== alive;
        known.gossip = gossip;
        known.incarnation = incarnation;
        known.alive = alive;
        return changed;
      }
      this.remove(name);
    }
    const place = placeOf(this.#segment, name);
    const member: RingMember = { name, place, to, gossip, incarnation, alive, silent: false };
    this.#members.set(name, member);
    this.#order.splice(this.#indexOf(member), 0, member);
    return true;
  }

  remove(name: MemberName): boolean {
    const member = this.#members.get(name);
    if (member === undefined) return false;
    this.#members.delete(name);
    this.#order.splice(this.#indexOf(member), 1);
    return true;
  }

  /**
   * The next and the previous member; where these are suspected or silent, up to PASSED_LIMIT such on each side, and the
   * nearest beyond. None twice.
   */
  neighbours(): readonly RingMember[] {
    const found: RingMember[] = [];
    const start = this.#indexOf(this.#self);
    this.#collect(start, 1, found);
    this.#collect(start - 1, -1, found);
    return found;
  }

  /** Up to `count` members other than `target` that could ask it: first those next to it, then any. */
  relays(target: MemberName, count: number, random: Random): readonly RingMember[] {
    const found: RingMember[] = [];
    const { length } = this.#order;
    const member = this.#members.get(target);
    if (member !== undefined && length > 1) {
      const at = this.#indexOf(member);
      for (const step of [1, length - 1]) addRelay(found, this.#order[(at + step) % length], target, count);
    }
    const start = Math.floor(random() * length);
    for (let step = 0; step < length && found.length < count && step < RELAY_STEPS; step++) {
      addRelay(found, this.#order[(start + step) % length], target, count);
    }
    return found;
  }

  /** Any member but this host; undefined when there is none. */
  any(random: Random): RingMember | undefined {
    return this.#order[Math.floor(random() * this.#order.length)];
  }

  #collect(start: number, step: 1 | -1, found: RingMember[]): void {
    const { length } = this.#order;
    for (let walked = 0; walked < length; walked++) {
      const member = this.#order[(((start + walked * step) % length) + length) % length];
      if (member === undefined) return;
      const present = member.alive && !member.silent;
      if ((walked < PASSED_LIMIT || present) && !found.includes(member)) found.push(member);
      if (present) return;
    }
  }

  /** Where the first member is that does not come before `member`. */
  #indexOf(member: { readonly name: MemberName; readonly place: number }): number {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#order[middle];
      if (other !== undefined && comesBefore(other, member)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** How far to look for members to ask; suspected ones on the way are passed. */
const RELAY_STEPS = 16;

function addRelay(found: RingMember[], member: RingMember | undefined, target: MemberName, count: number) {
  if (member === undefined || found.length >= count || member.name === target) return;
  if (member.alive && !member.silent && !found.includes(member)) found.push(member);
}

type Place = { readonly name: MemberName; readonly place: number };

function comesBefore(left: Place, right: Place): boolean {
  return left.place === right.place ? left.name < right.name : left.place < right.place;
}

/** FNV-1a over the UTF-16 units, then mixed, as FNV leaves names that differ in the last letter close together. */
function placeOf(segment: SegmentKey, name: MemberName): number {
  let hash = 0x811c9dc5;
  for (const text of [segment, ' ', name]) {
    for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
