import type { Random } from '../lib/prng.ts';

/** Where something stands in its schedule; kept by the schedule, so that removing needs no search. */
export type Placed = { place: number };

/**
 * Who is probed next (SWIM 4.3): a round robin over a shuffled list, shuffled anew each round. A newcomer gets a random
 * place among those still to come, so that each is probed within two rounds, whoever comes and goes.
 *
 * `#items[0 .. #next)` had their turn in this round.
 */
export class ProbeSchedule<T extends Placed> {
  readonly #items: T[] = [];
  readonly #random: Random;
  #next = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    const last = this.#items.length;
    const place = this.#next + this.#below(last - this.#next + 1);
    const displaced = this.#items[place];
    if (displaced !== undefined) this.#put(displaced, last);
    this.#put(item, place);
  }

  /** `item` takes the place that it carries from the one before it. */
  replace(item: T): void {
    this.#items[item.place] = item;
  }

  remove(item: T): void {
    let hole = item.place;
    if (hole < this.#next) {
      this.#next -= 1;
      const moved = this.#items[this.#next];
      if (moved !== undefined) this.#put(moved, hole);
      hole = this.#next;
    }
    const last = this.#items.pop();
    if (last !== undefined && hole < this.#items.length) this.#put(last, hole);
  }

  next(): T | undefined {
    if (this.#next >= this.#items.length) this.#shuffle();
    const item = this.#items[this.#next];
    if (item !== undefined) this.#next += 1;
    return item;
  }

  /** At most `count` different ones at random for which `accepts` holds; fewer when they are hard to find. */
  sample(count: number, accepts: (item: T) => boolean): T[] {
    const found: T[] = [];
    const size = this.#items.length;
    if (size <= 2 * count) {
      // A short list is walked from a random place.
      const start = this.#below(size);
      for (let step = 0; step < size && found.length < count; step++) {
        const item = this.#items[(start + step) % size];
        if (item !== undefined && accepts(item)) found.push(item);
      }
      return found;
    }
    for (let tries = 4 * count + 8; tries > 0 && found.length < count; tries--) {
      const item = this.#items[this.#below(size)];
      if (item !== undefined && !found.includes(item) && accepts(item)) found.push(item);
    }
    return found;
  }

  #shuffle(): void {
    for (let index = this.#items.length - 1; index > 0; index--) {
      const other = this.#below(index + 1);
      const here = this.#items[index];
      const there = this.#items[other];
      if (here === undefined || there === undefined) continue;
      this.#put(there, index);
      this.#put(here, other);
    }
    this.#next = 0;
  }

  #put(item: T, place: number): void {
    this.#items[place] = item;
    item.place = place;
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }
}
