import type { Ip } from '../lib/ip.ts';
import type { Claimant } from './claimant.ts';
import { isInPool, type Place, type PoolPlace, type Pools, type Range } from './pools.ts';

/**
 * Which Service has which address, fast enough to be filled anew on each change: the low addresses of each range,
 * where allocation puts them, are slots of an array; the others are in a map. An array grows only while that many of
 * its slots are in use, so the whole stays in proportion to the number of addresses in use, not to the size of a pool.
 */
export class Holders {
  /** Slot 0 means nobody, n the claimant n - 1. */
  readonly #claimants: Claimant[] = [];
  readonly #slots: Int32Array[];
  readonly #used: number[];
  readonly #elsewhere = new Map<Ip, Claimant>();

  constructor(pools: Pools) {
    this.#slots = pools.ranges.map(() => NO_SLOTS);
    this.#used = pools.ranges.map(() => 0);
  }

  get(place: Place): Claimant | undefined {
    const slot = place.range === undefined ? undefined : this.#slots[place.range.index]?.[place.offset];
    if (slot !== undefined && slot > 0) return this.#claimants[slot - 1];
    return this.#elsewhere.size === 0 ? undefined : this.#elsewhere.get(place.ip);
  }

  /** Gives the address to `claimant`, whoever had it. */
  set(place: Place, claimant: Claimant): void {
    const slots = isInPool(place) ? this.#slotsReaching(place) : undefined;
    if (!isInPool(place) || slots === undefined) {
      this.#elsewhere.set(place.ip, claimant);
      return;
    }
    slots[place.offset] = this.#claimants.push(claimant);
    this.#used[place.range.index] = (this.#used[place.range.index] ?? 0) + 1;
    if (this.#elsewhere.size > 0) this.#elsewhere.delete(place.ip);
  }

  /** The first offset from `from` up that may be free: what is in the slots is passed over, the map is not asked. */
  nextFree(range: Range, from: number): number {
    const slots = this.#slots[range.index] ?? NO_SLOTS;
    let offset = from;
    while (offset < slots.length && slots[offset] !== 0) offset += 1;
    return offset;
  }

  #slotsReaching(place: PoolPlace): Int32Array | undefined {
    const index = place.range.index;
    const slots = this.#slots[index] ?? NO_SLOTS;
    if (place.offset < slots.length) return slots;
    if (place.offset >= SLOTS_AT_FIRST + SLOTS_PER_USED * (this.#used[index] ?? 0)) return undefined;
    const length = Math.max(SLOTS_AT_FIRST, 2 ** Math.ceil(Math.log2(place.offset + 1)));
    const grown = new Int32Array(Math.min(length, place.range.count));
    grown.set(slots);
    this.#slots[index] = grown;
    return grown;
  }
}

const NO_SLOTS = new Int32Array(0);
const SLOTS_AT_FIRST = 1_024;
const SLOTS_PER_USED = 4;
