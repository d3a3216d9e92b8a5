import { assert } from '../lib/assert.ts';
import type { Ip } from '../lib/ip.ts';
import { byAge, type Claimant } from './claimant.ts';
import { Holders } from './holders.ts';
import {
  comparePlaces,
  isInPool,
  type Place,
  type Pool,
  type PoolPlace,
  type Pools,
  type Range,
} from './pools.ts';
import { mayShare, PortTable } from './sharing.ts';
import type { Refusal } from './types.ts';

/**
 * Who has which address, during one recomputation. First every Service claims what its status says, then `resolve()`
 * settles the claims that exclude each other, then new addresses are taken. Nothing is given back within one run: an
 * address that leaves a status is free in the next one, when the API server has confirmed that it left.
 */
export class Ledger {
  /** The only holder, or the oldest one; a stranger where nobody of ours has the address. */
  readonly #holders: Holders;
  /** All Services that claim an address which more than one claims; after `resolve()`, those that share it. */
  readonly #contested = new Map<Ip, Claimant[]>();
  readonly #strangers = new Map<Ip, Claimant>();
  readonly #ports = new Map<Ip, PortTable>();
  readonly #byKey = new Map<string, { readonly places: PoolPlace[]; sorted: boolean }>();
  /** Chosen in this run while the wire had not been asked about them. */
  readonly #asking = new Set<Ip>();
  readonly #allocated: number[];

  constructor(pools: Pools) {
    this.#holders = new Holders(pools);
    this.#allocated = pools.list.map(() => 0);
  }

  /** What the status of a Service of ours says. */
  claim(claimant: Claimant): void {
    for (const standing of claimant.standing) {
      const first = this.#holders.get(standing);
      if (first === undefined) this.#hold(standing, claimant);
      else this.#contend(standing.ip, first, claimant);
    }
  }

  /** What the status of a Service that is not ours says: nobody else gets it. */
  claimStranger(claimant: Claimant): void {
    for (const { ip } of claimant.standing) {
      const known = this.#strangers.get(ip);
      if (known === undefined || byAge(claimant, known) < 0) this.#strangers.set(ip, claimant);
    }
  }

  /**
   * Ends the claims: of Services that cannot have an address together the older keeps it. A stranger never takes an
   * address from a Service of ours (safety rule 6), but that there is one is a conflict to be seen.
   */
  resolve(): Disputes {
    const disputes: Disputes = new Map();
    for (const [ip, claimants] of this.#contested) {
      claimants.sort(byAge);
      const oldest = assertedFirst(claimants);
      const winners = this.#compatible(ip, oldest, claimants);
      const place = placeOf(oldest, ip);
      if (this.#holders.get(place)?.sharingKey !== oldest.sharingKey) this.#offer(place, oldest.sharingKey);
      this.#holders.set(place, oldest);
      this.#contested.set(ip, [...winners]);
      for (const claimant of claimants)
        if (!winners.has(claimant)) disputeOf(disputes, claimant).lost.push(ip);
    }
    for (const [ip, stranger] of this.#strangers) {
      const place = placeOf(stranger, ip);
      const holder = this.#holders.get(place);
      if (holder === undefined) {
        this.#holders.set(place, stranger);
        this.#count(place);
        continue;
      }
      for (const each of this.#contested.get(ip) ?? [holder]) {
        disputeOf(disputes, each).strangers.set(ip, stranger);
      }
    }
    return disputes;
  }

  /** Whether anybody has `ip`. */
  has(place: Place): boolean {
    return this.#holders.get(place) !== undefined;
  }

  /** Why `claimant` cannot have `ip` because of those who have it, or undefined when it can. */
  objection(place: Place, claimant: Claimant): Refusal | undefined {
    const { ip } = place;
    const stranger = this.#strangers.get(ip);
    if (stranger !== undefined) return { code: 'address-taken', reason: describeStranger(ip, stranger) };
    const holder = this.#holders.get(place);
    if (holder === undefined) return undefined;
    if (!mayShare(holder, claimant)) {
      const hint =
        claimant.sharingKey === undefined ? '' : `, whose sharing key is ${describeKey(holder.sharingKey)}`;
      return { code: 'address-taken', reason: `${ip} is taken by ${holder.service.key}${hint}` };
    }
    const clash = this.#portsOf(ip, holder).clash(claimant);
    if (clash === undefined) return undefined;
    const reason = `${ip} is shared under key ${describeKey(holder.sharingKey)}, but ${clash.port} of it belongs to ${clash.holder.service.key}`;
    return { code: 'address-conflict', reason };
  }

  /** Gives `ip` to `claimant`, about whom there must be no `objection()`. */
  take(place: PoolPlace, claimant: Claimant, asking: boolean): void {
    const { ip } = place;
    const first = this.#holders.get(place);
    if (first === undefined) {
      this.#hold(place, claimant);
    } else {
      const table = this.#portsOf(ip, first);
      this.#contend(ip, first, claimant);
      table.add(claimant);
    }
    if (asking) this.#asking.add(ip);
  }

  /** Whether `ip` was chosen in this run without the wire's word. */
  isAsking(ip: Ip): boolean {
    return this.#asking.has(ip);
  }

  /** Addresses that Services with `key` have, lowest first; bounded, because each may have to be refused. */
  shareable(key: string): readonly PoolPlace[] {
    const known = this.#byKey.get(key);
    if (known === undefined) return [];
    if (!known.sorted) known.places.sort(comparePlaces);
    known.sorted = true;
    return known.places.length > SHAREABLE_TRIED ? known.places.slice(0, SHAREABLE_TRIED) : known.places;
  }

  /** The first offset from `from` up that may be free; `has()` tells whether it is. */
  nextFree(range: Range, from: number): number {
    return this.#holders.nextFree(range, from);
  }

  /** How many addresses of the pool somebody holds. */
  allocated(pool: Pool): number {
    return this.#allocated[pool.index] ?? 0;
  }

  #hold(place: Place, claimant: Claimant): void {
    this.#holders.set(place, claimant);
    this.#count(place);
    if (claimant.sharingKey !== undefined) this.#offer(place, claimant.sharingKey);
  }

  #offer(place: Place, key: string | undefined): void {
    if (key === undefined || !isInPool(place)) return;
    const known = this.#byKey.get(key);
    if (known === undefined) this.#byKey.set(key, { places: [place], sorted: true });
    else {
      known.places.push(place);
      known.sorted = false;
    }
  }

  #count(place: Place): void {
    if (place.range === undefined) return;
    const index = place.range.pool.index;
    this.#allocated[index] = (this.#allocated[index] ?? 0) + 1;
  }

  #contend(ip: Ip, first: Claimant, claimant: Claimant): void {
    const others = this.#contested.get(ip);
    if (others === undefined) this.#contested.set(ip, [first, claimant]);
    else others.push(claimant);
  }

  #compatible(ip: Ip, oldest: Claimant, claimants: readonly Claimant[]): ReadonlySet<Claimant> {
    const winners = new Set([oldest]);
    const table = new PortTable([oldest]);
    for (const claimant of claimants) {
      if (!mayShare(oldest, claimant) || table.clash(claimant) !== undefined) continue;
      winners.add(claimant);
      table.add(claimant);
    }
    this.#ports.set(ip, table);
    return winners;
  }

  #portsOf(ip: Ip, holder: Claimant): PortTable {
    const known = this.#ports.get(ip);
    if (known !== undefined) return known;
    const table = new PortTable([holder]);
    this.#ports.set(ip, table);
    return table;
  }
}

/** Addresses of one sharing key that a Service tries to join. Overflow: it gets one of its own. */
export const SHAREABLE_TRIED = 64;

/** What came out of claims that exclude each other, for the Services that they touch. */
export type Disputes = Map<Claimant, Dispute>;

export type Dispute = {
  /** Addresses that status says, but that an older Service keeps. */
  readonly lost: Ip[];
  /** Addresses of this one that a Service which is not ours claims too. */
  readonly strangers: Map<Ip, Claimant>;
};

function disputeOf(disputes: Disputes, claimant: Claimant): Dispute {
  const known = disputes.get(claimant);
  if (known !== undefined) return known;
  const dispute: Dispute = { lost: [], strangers: new Map() };
  disputes.set(claimant, dispute);
  return dispute;
}

function assertedFirst(claimants: readonly Claimant[]): Claimant {
  const first = claimants[0];
  assert(first !== undefined, 'a contested address has claimants');
  return first;
}

function placeOf(claimant: Claimant, ip: Ip): Place {
  const place = claimant.standing.find((each) => each.ip === ip);
  assert(place !== undefined, `${claimant.service.key} claims ${ip}`);
  return place;
}

/** `192.0.2.1 is in the status of …`, for a Service that is not ours. */
export function describeStranger(ip: Ip, stranger: Claimant): string {
  const { key, type, loadBalancerClass } = stranger.service;
  const who =
    type !== 'LoadBalancer'
      ? 'which is no LoadBalancer any more and has not given it back yet'
      : loadBalancerClass === undefined
        ? 'which has no load balancer class and belongs to another controller'
        : `which belongs to the load balancer class ${JSON.stringify(loadBalancerClass)}`;
  return `${ip} is in the status of ${key}, ${who}`;
}

function describeKey(key: string | undefined): string {
  return key === undefined ? 'not set' : JSON.stringify(key);
}
