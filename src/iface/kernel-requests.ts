import type { Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { isAltered } from './address-request.ts';
import { type Adopted, KernelAddresses } from './kernel-addresses.ts';
import type { Effect, Program, Target } from './local-types.ts';
import { type AddressKey, addressKey } from './observed.ts';
import { retryAfterRefusal } from './refusal-pace.ts';
import type { KernelAddress } from './types.ts';

type Refused = {
  readonly address: Adopted;
  readonly attempts: number;
  /** NEVER while it is asked for again. */
  at: Instant;
};

/**
 * What the kernel has of ours, and what it is to be asked in one step. Whatever may create an address has a deadline
 * (safety rule 2): after a freeze the world may be another one, and the wire is asked again first.
 */
export class KernelRequests {
  readonly #present = new KernelAddresses();
  /** Removals that no notification has confirmed; bounded by the addresses that were there. */
  readonly #leaving = new Map<AddressKey, Adopted>();
  /** Removals that the kernel refused; bounded alike. */
  readonly #refused = new Map<AddressKey, Refused>();
  #removals: Program[] = [];
  #creations: Program[] = [];
  #deadline: Instant = NEVER;

  get(ip: Ip, target: Target): Adopted | undefined {
    return this.#present.get(ip, target);
  }

  has(ip: Ip): boolean {
    return this.#present.ofIp(ip).length > 0;
  }

  all(): readonly Adopted[] {
    return this.#present.all();
  }

  /** The kernel has it, by its answer to an addition, which follows the removals that were asked for. */
  appeared(address: Adopted): void {
    this.#leaving.delete(placeKey(address.ip, address));
    this.#refused.delete(placeKey(address.ip, address));
    this.#present.set(address);
  }

  /** The kernel has it, by its answer to a renewal, which may have come before a removal that was asked for. */
  renewed(address: Adopted): void {
    if (!this.#leaving.has(placeKey(address.ip, address))) this.#present.set(address);
  }

  /** The kernel has it, by a notification, which may be older than a removal that was asked for. */
  noticed(address: KernelAddress, now: Instant): void {
    const { ip, ifIndex, prefixLength, validSeconds } = address;
    if (this.#leaving.has(placeKey(ip, address))) return;
    const validUntil = after(now, validSeconds * 1000);
    const isUnrouted = address.hasLostRoute === true;
    this.#present.set({ ip, ifIndex, prefixLength, validUntil, isAltered: isAltered(address), isUnrouted });
  }

  /** The kernel has it no more, by its own word. */
  vanished(ip: Ip, target: Target): void {
    this.#leaving.delete(placeKey(ip, target));
    this.#refused.delete(placeKey(ip, target));
    this.#present.delete(ip, target);
  }

  /** A removal was refused: it is asked for again, less and less often. */
  kept(ip: Ip, target: Target, now: Instant): void {
    const key = placeKey(ip, target);
    const address = this.#leaving.get(key);
    this.#leaving.delete(key);
    if (address === undefined) return;
    const attempts = (this.#refused.get(key)?.attempts ?? 0) + 1;
    const at = retryAfterRefusal(attempts, now);
    this.#refused.set(key, { address, attempts, at });
  }

  /** What counts as there again, because it is time to ask once more for its removal. */
  takeKept(now: Instant): readonly Adopted[] {
    const due = [...this.#refused.values()].filter(({ at }) => at <= now);
    for (const refused of due) {
      refused.at = NEVER;
      this.#present.set(refused.address);
    }
    return due.map(({ address }) => address);
  }

  /** When `takeKept()` has something. */
  get keptUntil(): Instant {
    let first: Instant = NEVER;
    for (const { at } of this.#refused.values()) first = earliest(first, at);
    return first;
  }

  /** `add` fails if the address exists, `renew` does not care; neither is sent after `deadline`. */
  create(op: 'add' | 'renew', ip: Ip, target: Target, lifetimeMs: number, deadline: Instant): void {
    const { ifIndex, prefixLength } = target;
    this.#creations.push({ op, ip, ifIndex, prefixLength, lifetimeMs });
    this.#deadline = earliest(this.#deadline, deadline);
  }

  /** Nothing is asked when the kernel does not have it. */
  remove(ip: Ip, target: Target): void {
    const address = this.#present.get(ip, target);
    if (address === undefined) return;
    this.#present.delete(ip, target);
    this.#leaving.set(placeKey(ip, target), address);
    const { ifIndex, prefixLength } = target;
    this.#removals.push({ op: 'remove', ip, ifIndex, prefixLength, lifetimeMs: 0 });
  }

  removeAllOf(ip: Ip): void {
    for (const place of this.#present.ofIp(ip)) this.remove(ip, place);
  }

  /** The requests of this step. Removals first: an address that moves must not be in two places. */
  take(): readonly Effect[] {
    const batches: Effect[] = [];
    if (this.#removals.length > 0) {
      batches.push({ kind: 'program', requests: this.#removals, deadline: undefined });
    }
    if (this.#creations.length > 0) {
      const deadline = this.#deadline === NEVER ? undefined : this.#deadline;
      batches.push({ kind: 'program', requests: this.#creations, deadline });
    }
    this.#removals = [];
    this.#creations = [];
    this.#deadline = NEVER;
    return batches;
  }
}

function placeKey(ip: Ip, { ifIndex, prefixLength }: Target): AddressKey {
  return addressKey({ ip, ifIndex, prefixLength });
}
