import { FAMILY_BITS, familyOf, formatPrefix, type Ip, ipToNumber, type Prefix } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';

/**
 * Which addresses are local to somebody, so that nobody may serve them as virtual ones: those in a subnet of this host's
 * NICs or, with gossip, of a member's. A subnet counts long after it went: a NIC that failed or is set up anew, or a
 * member that died, does not make its addresses virtual, which would only look as if they were served.
 */

export const LINGER_MS = 3_600_000;
/** Remembered subnets. Overflow: the one that went first is forgotten. */
export const SUBNETS_MAX = 1_000;

type Subnet = {
  readonly subnet: Prefix;
  readonly contains: (ip: Ip) => boolean;
  /** When it went; undefined while somebody has it. */
  goneAt: Instant | undefined;
};

/** A subnet that some host has, or had. */
export type RememberedSubnet = {
  readonly subnet: Prefix;
  /** When it went; undefined while somebody has it. */
  readonly goneAt: Instant | undefined;
};

export class Locality {
  /** By their text, those that went first before others. At most SUBNETS_MAX besides those that hosts have. */
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
        this.#subnets.set(key, { subnet, contains: containment(subnet), goneAt: undefined });
        this.#generation += 1;
      }
    }
    this.#forget(missing, now);
  }

  /** What an earlier run remembered; what somebody had then counts as gone since `now`. Before the first `update()`. */
  restore(remembered: readonly RememberedSubnet[], now: Instant): void {
    const gone = remembered.map(({ subnet, goneAt }) => ({ subnet, goneAt: earliest(goneAt ?? now, now) }));
    gone.sort((left, right) => left.goneAt - right.goneAt);
    for (const { subnet, goneAt } of gone)
      this.#subnets.set(formatPrefix(subnet), { subnet, contains: containment(subnet), goneAt });
    this.#generation += 1;
  }

  /** What the next run is to know. */
  remembered(): readonly RememberedSubnet[] {
    return Array.from(this.#subnets.values(), ({ subnet, goneAt }) => ({ subnet, goneAt }));
  }

  #forget(missing: ReadonlySet<string>, now: Instant): void {
    for (const key of missing) {
      const subnet = this.#subnets.get(key);
      if (subnet === undefined || subnet.goneAt !== undefined) continue;
      this.#subnets.delete(key);
      this.#subnets.set(key, { ...subnet, goneAt: now });
    }
    let excess = missing.size - SUBNETS_MAX;
    for (const [key, { goneAt }] of this.#subnets) {
      if (goneAt === undefined) continue;
      excess -= 1;
      if (now < after(goneAt, LINGER_MS) && excess < 0) continue;
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
