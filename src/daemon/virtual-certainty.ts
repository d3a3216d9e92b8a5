import type { HostView } from '../iface/nic-selection.ts';
import { type Family, familyOf, type Ip, type Prefix, prefixContains, unusableReason } from '../lib/ip.ts';
import { after, type Instant } from '../lib/time.ts';

/**
 * Whether this host knows enough to call an address virtual. Of one that is in no subnet known here, a host that has just
 * booted cannot tell: its NIC may be without its address yet, and the members that have the subnet unheard. What is put on
 * kube-lb0 then may be answered for beside its owner. Once certain, it stays so: subnets that were seen are remembered.
 */

/** A port of a switch with spanning tree forwards nothing for so long (2 x 15 s), and a host behind it hears of nobody. */
export const NETWORK_WAIT_MS = 30_000;

/** What a host gives itself where nobody gives it an address (RFC 3927). */
const SELF_GIVEN: Prefix = { network: '169.254.0.0' as Ip, length: 16 };

export type CertaintyFacts = {
  readonly host: HostView;
  /** The cold start of the election is over; true on a host that does not gossip. */
  readonly isSettled: boolean;
  /** So many members there were when this host ended, this one among them. */
  readonly memberCount: number;
  /** Another member is heard. */
  readonly hasCompany: boolean;
};

export class Certainty {
  readonly #waitUntil: Instant;
  readonly #certain = new Set<Family>();
  #hadCompany = false;

  constructor(startedAt: Instant) {
    this.#waitUntil = after(startedAt, NETWORK_WAIT_MS);
  }

  /** Why it is too early for the addresses of each family; undefined when it is not. */
  reasons(facts: CertaintyFacts, now: Instant): Readonly<Record<Family, string | undefined>> {
    this.#hadCompany ||= facts.hasCompany;
    return { v4: this.#reason('v4', facts, now), v6: this.#reason('v6', facts, now) };
  }

  #reason(family: Family, facts: CertaintyFacts, now: Instant): string | undefined {
    if (this.#certain.has(family)) return undefined;
    const reason = this.#doubt(family, facts, now);
    if (reason === undefined) this.#certain.add(family);
    return reason;
  }

  #doubt(family: Family, { host, isSettled, memberCount }: CertaintyFacts, now: Instant): string | undefined {
    const families = ownFamilies(host);
    // Without any address the network is not there yet, however long that takes; without one of a family, it may have none.
    const isWaitOver = now >= this.#waitUntil && families.size > 0;
    if (!families.has(family) && !isWaitOver)
      return `this host has no ${family === 'v4' ? 'IPv4' : 'IPv6'} address yet, so its subnets are not known`;
    if (!isSettled || (memberCount > 1 && !this.#hadCompany && !isWaitOver))
      return 'it is not known yet whether it is in a subnet of another host';
    return undefined;
  }
}

/** The families of which the host has an address that somebody gave it, be it a /32 on the loopback. */
function ownFamilies({ ownAddresses }: HostView): ReadonlySet<Family> {
  const families = new Set<Family>();
  for (const ip of ownAddresses.keys()) {
    if (unusableReason(ip) === undefined && !prefixContains(SELF_GIVEN, ip)) families.add(familyOf(ip));
  }
  return families;
}
