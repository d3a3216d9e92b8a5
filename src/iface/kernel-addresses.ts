import type { Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import type { Target } from './local-types.ts';

export type Adopted = Target & {
  readonly ip: Ip;
  /** When the kernel removes it; NEVER when it is permanent. */
  readonly validUntil: Instant;
  /** Somebody changed more of it than its lifetime. */
  readonly isAltered?: boolean;
  /** Its route of the local table is gone, which it gets by being added anew. */
  readonly isUnrouted?: boolean;
};

/** The addresses with lbd's tag that the kernel has now: mostly one place for each address, but any number may be found. */
export class KernelAddresses {
  readonly #places = new Map<Ip, readonly Adopted[]>();

  get(ip: Ip, target: Target): Adopted | undefined {
    return this.ofIp(ip).find((place) => samePlace(place, target));
  }

  ofIp(ip: Ip): readonly Adopted[] {
    return this.#places.get(ip) ?? [];
  }

  all(): readonly Adopted[] {
    return [...this.#places.values()].flat();
  }

  set(address: Adopted): void {
    const others = this.ofIp(address.ip).filter((place) => !samePlace(place, address));
    this.#places.set(address.ip, [...others, address]);
  }

  /** Returns whether it was there. */
  delete(ip: Ip, target: Target): boolean {
    const places = this.ofIp(ip);
    const others = places.filter((place) => !samePlace(place, target));
    if (others.length === 0) this.#places.delete(ip);
    else this.#places.set(ip, others);
    return others.length < places.length;
  }
}

export function samePlace(left: Target, right: Target): boolean {
  return left.ifIndex === right.ifIndex && left.prefixLength === right.prefixLength;
}
