/** Remembers at least the last `size` values that were added, and at most twice as many. */
export class RecentSet<Value> {
  readonly #size: number;
  #young = new Set<Value>();
  #old = new Set<Value>();

  constructor(size: number) {
    this.#size = size;
  }

  has(value: Value): boolean {
    return this.#young.has(value) || this.#old.has(value);
  }

  add(value: Value): void {
    if (this.#young.size >= this.#size) {
      this.#old = this.#young;
      this.#young = new Set();
    }
    this.#young.add(value);
  }
}
