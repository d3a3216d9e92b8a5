/**
 * The /128 routes that the kernel makes over lbd's own link, one for each IPv6 address that stands alone; of IPv4 it makes
 * none. They may be thousands, so that they follow each notification in place of being read again: the kernel tells of
 * each that comes, before its address, and of each that goes, after its address (inet6_addr_add and ipv6_del_addr in
 * net/ipv6/addrconf.c). Where it is told not to (skip_notify_on_dev_down), the addresses went as well.
 *
 * Bounded by what the kernel has.
 */
export class HostRoutes<Key> {
  #known = new Set<Key>();
  /** What was told since the reading began, which may be older than that or newer. */
  #told: Map<Key, boolean> | undefined;

  get all(): ReadonlySet<Key> {
    return this.#known;
  }

  /** Returns whether that is news. */
  told(key: Key, isThere: boolean): boolean {
    this.#told?.set(key, isThere);
    if (this.#known.has(key) === isThere) return false;
    if (isThere) this.#known.add(key);
    else this.#known.delete(key);
    return true;
  }

  /** From here on they are being read. */
  beginDump(): void {
    this.#told = new Map();
  }

  /** What was read; the last word on each is the kernel's. Returns whether it differs from what was known. */
  replace(keys: Iterable<Key>): boolean {
    const read = new Set(keys);
    for (const [key, isThere] of this.#told ?? []) {
      if (isThere) read.add(key);
      else read.delete(key);
    }
    this.#told = undefined;
    const before = this.#known;
    this.#known = read;
    return read.size !== before.size || [...read].some((key) => !before.has(key));
  }
}
