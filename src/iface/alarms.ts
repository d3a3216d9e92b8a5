import { type Instant, NEVER } from '../lib/time.ts';

type Alarm<Key> = { readonly key: Key; readonly at: Instant; readonly order: number };

/** Below this many outdated alarms, clearing them out is not worth it. */
const OUTDATED_MINIMUM = 64;

/**
 * At most one instant for each key, the earliest found without looking at all: a binary heap, in which alarms that were
 * set anew or cancelled stay until they come up or outnumber the others. Equal instants come up in the order of setting.
 */
export class Alarms<Key> {
  readonly #current = new Map<Key, Alarm<Key>>();
  #heap: Alarm<Key>[] = [];
  #order = 0;

  get size(): number {
    return this.#current.size;
  }

  get(key: Key): Instant {
    return this.#current.get(key)?.at ?? NEVER;
  }

  has(key: Key): boolean {
    return this.#current.has(key);
  }

  /** In place of what was set for `key` before; NEVER cancels. */
  set(key: Key, at: Instant): void {
    if (at === NEVER) return this.cancel(key);
    const alarm = { key, at, order: this.#order };
    this.#order += 1;
    this.#current.set(key, alarm);
    if (this.#heap.length > 2 * this.#current.size + OUTDATED_MINIMUM) this.#rebuild();
    else this.#push(alarm);
  }

  cancel(key: Key): void {
    this.#current.delete(key);
  }

  /** When the next one is due; NEVER when none is set. */
  first(): Instant {
    return this.#top()?.at ?? NEVER;
  }

  /** The next key that is due at `now`; it stays set. */
  peekDue(now: Instant): Key | undefined {
    const top = this.#top();
    return top !== undefined && top.at <= now ? top.key : undefined;
  }

  /** All that are due at `now`, in their order; they are set no more. */
  takeDue(now: Instant): readonly Key[] {
    const due: Key[] = [];
    for (let top = this.#top(); top !== undefined && top.at <= now; top = this.#top()) {
      due.push(top.key);
      this.#current.delete(top.key);
    }
    return due;
  }

  #top(): Alarm<Key> | undefined {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (this.#current.get(top.key) === top) return top;
      this.#pop();
    }
    return undefined;
  }

  #rebuild(): void {
    this.#heap = [];
    for (const alarm of this.#current.values()) this.#push(alarm);
  }

  #push(alarm: Alarm<Key>): void {
    const heap = this.#heap;
    let at = heap.length;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || isBefore(parent, alarm)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = alarm;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      const [left, right] = [heap[2 * at + 1], heap[2 * at + 2]];
      if (left === undefined) break;
      const isRight = right !== undefined && isBefore(right, left);
      const lesser = isRight ? right : left;
      if (isBefore(last, lesser)) break;
      heap[at] = lesser;
      at = 2 * at + (isRight ? 2 : 1);
    }
    heap[at] = last;
  }
}

function isBefore<Key>(left: Alarm<Key>, right: Alarm<Key>): boolean {
  return left.at === right.at ? left.order < right.order : left.at < right.at;
}
