import { type Instant, NEVER } from '../lib/time.ts';

type Slot<K> = { readonly key: K; readonly at: Instant };

/** Stale slots that are kept before the heap is built anew. */
const STALE_SLOTS = 64;

/**
 * One instant per key, the earliest first: a binary heap. A key that is moved or deleted leaves its slot behind, which
 * is skipped when it comes to the top.
 */
export class Deadlines<K> {
  readonly #at = new Map<K, Instant>();
  #heap: Slot<K>[] = [];

  get size(): number {
    return this.#at.size;
  }

  set(key: K, at: Instant): void {
    if (this.#at.get(key) === at) return;
    this.#at.set(key, at);
    if (this.#heap.length > 2 * this.#at.size + STALE_SLOTS) this.#rebuild();
    else this.#push({ key, at });
  }

  delete(key: K): void {
    this.#at.delete(key);
    if (this.#at.size === 0) this.#heap = [];
  }

  /** All instants moved later by `ms`. */
  shift(ms: number): void {
    for (const [key, at] of this.#at) this.#at.set(key, (at + ms) as Instant);
    this.#rebuild();
  }

  first(): Instant {
    this.#skipStale();
    return this.#heap[0]?.at ?? NEVER;
  }

  /** The earliest key that is due, which is then no longer kept. */
  takeDue(now: Instant): K | undefined {
    if (this.first() > now) return undefined;
    const key = this.#heap[0]?.key;
    this.#pop();
    if (key !== undefined) this.delete(key);
    return key;
  }

  #skipStale(): void {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (this.#at.get(top.key) === top.at) return;
      this.#pop();
    }
  }

  #rebuild(): void {
    this.#heap = [];
    for (const [key, at] of this.#at) this.#push({ key, at });
  }

  #push(slot: Slot<K>): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(slot);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || above.at <= slot.at) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = slot;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      const right = heap[child + 1];
      let below = heap[child];
      if (below === undefined) break;
      if (right !== undefined && right.at < below.at) {
        child += 1;
        below = right;
      }
      if (below.at >= last.at) break;
      heap[index] = below;
      index = child;
    }
    heap[index] = last;
  }
}
