import { FAMILY_BITS, familyOf, formatPrefix, type Ip, ipToNumber, type Prefix } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';

/**
 * Which addresses are local to somebody, so that nobody may serve them as virtual ones: those in a subnet of this host's
 * NICs or, with gossip, of a member's. A subnet counts for a while after it went: one that is gone for as long as a NIC
 * is set up anew, or a member restarts, does not make its addresses virtual.
 */

/** Twice as long as a host waits with a local address for its subnet to come back (SUBNET_GRACE_MS). */
export const LINGER_MS = 10_000;

type Subnet = {
  readonly contains: (ip: Ip) => boolean;
  /** When it went; undefined while somebody has it. */
  goneAt: Instant | undefined;
};

export class Locality {
  /** By their text. Bounded by what hosts have, and had LINGER_MS ago. */
  readonly #subnets = new Map<string, Subnet>();
  #generation = 0;

  /** All the subnets that somebody has now. */
  update(subnets: Iterable<Prefix>, now: Instant): void {
    const missing = new Set(this.#subnets.keys());
    for (const subnet of subnets) {
      const key = formatPrefix(subnet);
      missing.delete(key);
      const known = this.#subnets.get(key);
      if (known !== undefined) known.goneAt = undefined;
      else {
        this.#subnets.set(key, { contains: containment(subnet), goneAt: undefined });
        this.#generation += 1;
      }
    }
    for (const key of missing) {
      const subnet = this.#subnets.get(key);
      if (subnet === undefined) continue;
      subnet.goneAt ??= now;
      if (now < after(subnet.goneAt, LINGER_MS)) continue;
      this.#subnets.delete(key);
      this.#generation += 1;
    }
  }

  /** Another number whenever `isLocal()` may answer otherwise than before. */
  get generation(): number {
    return this.#generation;
  }

  isLocal(ip: Ip): boolean {
    return this.#subnets.values().some(({ contains }) => contains(ip));
  }

  /** When to update again because a subnet that is gone counts no more. */
  deadline(): Instant {
    let at = NEVER;
    for (const { goneAt } of this.#subnets.values())
      if (goneAt !== undefined) at = earliest(at, after(goneAt, LINGER_MS));
    return at;
  }
}

function containment({ network, length }: Prefix): (ip: Ip) => boolean {
  const family = familyOf(network);
  const shift = BigInt(FAMILY_BITS[family] - length);
  const value = ipToNumber(network) >> shift;
  return (ip) => familyOf(ip) === family && ipToNumber(ip) >> shift === value;
}
