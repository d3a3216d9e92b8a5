import type { Grant } from '../election/types.ts';
import type { Event } from '../iface/local-types.ts';
import type { DesiredAddress } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';

/**
 * Between the election and the local addresses of a host: of all addresses that Services have, this host holds those
 * that it was granted, each in the way that the grant says. Pure; the caller delivers the events.
 */
export class Entitlement {
  readonly #grants: () => ReadonlyMap<Ip, Grant>;
  #desired: readonly DesiredAddress[] | undefined;
  #candidates: readonly Ip[] = [];
  #granted: ReadonlySet<Ip> = new Set();

  constructor(grants: () => ReadonlyMap<Ip, Grant>) {
    this.#grants = grants;
  }

  /** What the plan wants somebody to hold; to be called after the election was told of it. */
  planned(desired: readonly DesiredAddress[], candidates: readonly Ip[]): readonly Event[] {
    this.#desired = desired;
    this.#candidates = candidates;
    return this.grantsChanged();
  }

  /** What this host lost goes first and at once; before the first plan nothing new is known to be wanted. */
  grantsChanged(): readonly Event[] {
    const grants = this.#grants();
    const lost: Ip[] = [];
    for (const ip of this.#granted) if (!grants.has(ip)) lost.push(ip);
    this.#granted = new Set(grants.keys());
    const events: Event[] = lost.length === 0 ? [] : [{ kind: 'withdraw', ips: lost }];
    if (this.#desired === undefined) return events;
    const addresses: DesiredAddress[] = [];
    for (const { ip, services } of this.#desired) {
      const grant = grants.get(ip);
      if (grant !== undefined) addresses.push({ ip, services, entry: grant.entry });
    }
    events.push({ kind: 'desired-changed', addresses, candidates: this.#candidates });
    return events;
  }
}
