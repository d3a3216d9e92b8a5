import { formatPrefix, type Ip, type Prefix, prefixContains } from '../lib/ip.ts';
import { earliest, type Instant, NEVER } from '../lib/time.ts';
import { nextRenewal } from './lifetime.ts';
import type { IfIndex } from './types.ts';

/**
 * When all addresses are renewed next, on which NICs that is allowed, and how long what was renewed lasts. A host that
 * did not run for a while, or that hears nobody, must first know that its addresses are still its own: until then
 * nothing is renewed or added on that NIC, and the lifetimes run.
 */
export class Renewals {
  #at: Instant = NEVER;
  #isAllowed = true;
  readonly #forbidden = new Map<string, { readonly ifIndex: IfIndex; readonly subnet: Prefix | undefined }>();
  #leaseEndsAt: Instant | undefined;
  #renewedAt: Instant | undefined;

  /** In one subnet of a NIC; of all its subnets, or on all NICs, when they are undefined. Returns whether that changes anything. */
  allow(allowed: boolean, ifIndex: IfIndex | undefined, subnet?: Prefix): boolean {
    const before = this.#isAllowed && this.#forbidden.size === 0;
    if (ifIndex === undefined) {
      const isNews = allowed ? !before : this.#isAllowed;
      this.#isAllowed = allowed;
      if (allowed) this.#forbidden.clear();
      return isNews;
    }
    const key = `${ifIndex} ${subnet === undefined ? '' : formatPrefix(subnet)}`;
    const isNews = this.#forbidden.has(key) === allowed;
    if (allowed) this.#forbidden.delete(key);
    else this.#forbidden.set(key, { ifIndex, subnet });
    return isNews;
  }

  isAllowed(ifIndex: IfIndex, ip: Ip): boolean {
    if (!this.#isAllowed) return false;
    for (const place of this.#forbidden.values()) {
      if (place.ifIndex !== ifIndex) continue;
      if (place.subnet === undefined || prefixContains(place.subnet, ip)) return false;
    }
    return true;
  }

  get at(): Instant {
    return this.#at;
  }

  /** Renew by `at` at the latest. */
  by(at: Instant): void {
    this.#at = earliest(this.#at, at);
  }

  /** All that may be was asked for at `now`; the next time is a fraction of the lifetime later, if any is held. */
  done(now: Instant, lifetimeMs: number, anyHeld: boolean): void {
    this.#at = anyHeld ? nextRenewal(now, lifetimeMs) : NEVER;
  }

  /** The kernel confirmed a lifetime that was asked for at `sentAt`. */
  confirmed(validUntil: Instant, sentAt: Instant): void {
    this.#renewedAt = sentAt;
    this.found(validUntil);
  }

  /** The kernel has an address until then. */
  found(validUntil: Instant): void {
    if (this.#leaseEndsAt === undefined || validUntil > this.#leaseEndsAt) this.#leaseEndsAt = validUntil;
  }

  /** What was confirmed before means nothing: other lifetimes, or none held. */
  forgetLease(): void {
    this.#leaseEndsAt = undefined;
  }

  /** How long the last of them stays in the kernel unless renewed; undefined when one is permanent. */
  leaseLeftMs(now: Instant): number | undefined {
    const endsAt = this.#leaseEndsAt ?? now;
    return endsAt === NEVER ? undefined : Math.max(0, endsAt - now);
  }

  get lastRenewedAt(): Instant | undefined {
    return this.#renewedAt;
  }
}
