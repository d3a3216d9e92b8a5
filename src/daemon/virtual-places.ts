import type { PoolConfig } from '../config/types.ts';
import { type HostView, localSubnets } from '../iface/nic-selection.ts';
import { LINGER_MS, Locality, type RememberedSubnet } from '../iface/virtual-locality.ts';
import {
  FAMILY_BITS,
  familyOf,
  formatPrefix,
  type Ip,
  ipToNumber,
  meaningIn,
  overlap,
  type Prefix,
  prefixContains,
  prefixOf,
} from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';

/**
 * For each address whether it is local or virtual, and what routers are told of a virtual one. Remembers what it found
 * out until something changes that decides it, because there are thousands of addresses and few changes.
 */

export type VirtualPlace = {
  /** The pool's aggregate that holds the address, or the address alone. */
  readonly route: Prefix;
  /** Why it is not the aggregate, though the pool has one. */
  readonly reason: string | undefined;
  /** Why no Service should get this address: it means something else in its aggregate. */
  readonly reserved: string | undefined;
  /** Whether it is in a pool of this configuration. */
  readonly isPooled: boolean;
};

/** One range of a pool, by number, which is how an address finds its pool quickly. */
type PoolRange = {
  readonly first: bigint;
  readonly last: bigint;
  readonly pool: string;
  readonly aggregate: number | undefined;
};

export class VirtualPlaces {
  readonly #locality = new Locality();
  #ranges: Readonly<Record<'v4' | 'v6', readonly PoolRange[]>> = { v4: [], v6: [] };
  #host: HostView | undefined;
  #known = new Map<Ip, VirtualPlace | 'local'>();
  #generation = -1;
  /** Addresses that some host owned when this one ended. */
  #claimed: ReadonlySet<Ip> = new Set();
  #claimedUntil: Instant = NEVER;

  setPools(pools: readonly PoolConfig[]): void {
    const all = pools.flatMap(({ name, ranges, aggregate }) =>
      ranges.map(({ first, last }) => {
        const family = familyOf(first);
        return {
          family,
          first: ipToNumber(first),
          last: ipToNumber(last),
          pool: name,
          aggregate: aggregate[family],
        };
      }),
    );
    all.sort((left, right) => (left.first < right.first ? -1 : 1));
    this.#ranges = {
      v4: all.filter(({ family }) => family === 'v4'),
      v6: all.filter(({ family }) => family === 'v6'),
    };
    this.#known.clear();
  }

  /** The subnets that an earlier run knew: local is what was, until it is known to be no more. Before the first update. */
  restore(subnets: readonly RememberedSubnet[], now: Instant): void {
    this.#locality.restore(subnets, now);
  }

  /** Addresses that hosts owned when this one ended: local to somebody, for as long as a subnet that went. */
  restoreClaimed(ips: Iterable<Ip>, now: Instant): void {
    this.#claimed = new Set(ips);
    this.#claimedUntil = this.#claimed.size === 0 ? NEVER : after(now, LINGER_MS);
    this.#known.clear();
  }

  /** What the next run is to know. */
  remembered(): readonly RememberedSubnet[] {
    return this.#locality.remembered();
  }

  /** What the host is now, and which subnets other members have. */
  update(host: HostView, others: readonly Prefix[], now: Instant): void {
    this.#locality.update([...localSubnets(host), ...others], now);
    if (now >= this.#claimedUntil) this.restoreClaimed([], now);
    if (host.signature === this.#host?.signature && this.#generation === this.#locality.generation) return;
    this.#host = host;
    this.#generation = this.#locality.generation;
    this.#known.clear();
  }

  /** When to update again though nothing changed. */
  deadline(): Instant {
    return earliest(this.#locality.deadline(), this.#claimedUntil);
  }

  /** The place of a virtual address; undefined for a local one, which includes those of this very host. */
  of(ip: Ip): VirtualPlace | undefined {
    const known = this.#known.get(ip);
    if (known !== undefined) return known === 'local' ? undefined : known;
    const place = this.#find(ip);
    this.#known.set(ip, place ?? 'local');
    return place;
  }

  /** Remembers nothing of other addresses. */
  keepOnly(isWanted: (ip: Ip) => boolean): void {
    for (const ip of this.#known.keys()) if (!isWanted(ip)) this.#known.delete(ip);
  }

  #find(ip: Ip): VirtualPlace | undefined {
    const host = this.#host;
    // Before the host is known, nothing is in no subnet of it.
    if (host === undefined || host.ownAddresses.has(ip) || host.gateways.has(ip)) return undefined;
    if (this.#locality.isLocal(ip) || this.#claimed.has(ip)) return undefined;
    const alone: Prefix = { network: ip, length: FAMILY_BITS[familyOf(ip)] };
    const range = this.#rangeOf(ip);
    const common = { isPooled: range !== undefined };
    if (range?.aggregate === undefined)
      return { ...common, route: alone, reason: undefined, reserved: undefined };
    const route = prefixOf(ip, range.aggregate);
    const harm = harmOf(route, host);
    if (harm !== undefined) {
      const reason = `routed alone: the aggregate ${formatPrefix(route)} of pool "${range.pool}" ${harm}`;
      return { ...common, route: alone, reason, reserved: undefined };
    }
    const meaning = meaningIn(route, ip);
    const reserved =
      meaning && `${ip} is the ${meaning} of ${formatPrefix(route)}, an aggregate of pool "${range.pool}"`;
    return { ...common, route, reason: reserved, reserved };
  }

  /** The last range that begins at or before the address: ranges of pools do not overlap. */
  #rangeOf(ip: Ip): PoolRange | undefined {
    const ranges = this.#ranges[familyOf(ip)];
    const value = ipToNumber(ip);
    let low = 0;
    let high = ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ranges[middle]?.first ?? value) <= value) low = middle + 1;
      else high = middle;
    }
    const range = ranges[low - 1];
    return range !== undefined && value <= range.last ? range : undefined;
  }
}

/**
 * What this host would lose by a route of its own for all of `aggregate`: everything in it that is elsewhere would be
 * sent to lbd's link, where it ends.
 */
function harmOf(aggregate: Prefix, host: HostView): string | undefined {
  for (const { name, subnets } of [...host.nics, ...(host.unusable ?? [])]) {
    const subnet = subnets.find((other) => overlap(aggregate, other));
    if (subnet !== undefined) return `overlaps ${formatPrefix(subnet)} of ${name}`;
  }
  for (const gateway of host.gateways)
    if (prefixContains(aggregate, gateway))
      return `holds ${gateway}, the gateway of one of this host's routes`;
  for (const [own, name] of host.ownAddresses)
    if (prefixContains(aggregate, own)) return `holds ${own}, which is on ${name}`;
  return undefined;
}
