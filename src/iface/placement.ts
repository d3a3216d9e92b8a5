import { FAMILY_BITS, familyOf, formatPrefix, type Ip } from '../lib/ip.ts';
import type { Target } from './local-types.ts';
import {
  EMPTY_HOST,
  type HostView,
  isNicUp,
  type NicSelection,
  nicOf,
  selectNic,
  stayOnNic,
} from './nic-selection.ts';
import type { IfIndex, Mac } from './types.ts';

/** A place in the kernel for an address, or why there is none on this host. */
export type Place =
  | { readonly kind: 'target'; readonly target: Target }
  | Extract<NicSelection, { readonly reason: string }>;

/** Where each address belongs on the host as it is now. What was found out once is remembered until the host changes. */
export class Placement {
  #host: HostView = EMPTY_HOST;
  #selections = new Map<Ip, NicSelection>();

  get host(): HostView {
    return this.#host;
  }

  /** Returns the NICs that came up or have another hardware address since, or undefined when nothing changed that matters. */
  replace(host: HostView): readonly IfIndex[] | undefined {
    if (host.signature === this.#host.signature) return undefined;
    const renewed = this.#host.nics.flatMap(({ ifIndex, up, mac }) => {
      const now = host.nics.find((other) => other.ifIndex === ifIndex);
      return now?.up === true && !(up && now.mac === mac) ? [ifIndex] : [];
    });
    this.#host = host;
    this.#selections = new Map();
    return renewed;
  }

  select(ip: Ip): NicSelection {
    const known = this.#selections.get(ip);
    if (known !== undefined) return known;
    const selection = selectNic(ip, this.#host);
    this.#selections.set(ip, selection);
    return selection;
  }

  nicOf(ip: Ip): IfIndex | undefined {
    return nicOf(this.select(ip));
  }

  /** Remembers nothing of other addresses. */
  keepOnly(isWanted: (ip: Ip) => boolean): void {
    for (const ip of this.#selections.keys()) if (!isWanted(ip)) this.#selections.delete(ip);
  }

  /** Where `ip` belongs; one that is held on `heldOn` stays there as long as that is no worse. */
  of(ip: Ip, prefix: 'host' | 'subnet', heldOn: IfIndex | undefined): Place {
    const chosen = this.select(ip);
    const selection = heldOn === undefined ? chosen : stayOnNic(ip, this.#host, heldOn, chosen);
    if (selection.kind !== 'nic') return selection;
    if (prefix === 'subnet' && selection.nic.displaced?.includes(selection.subnet) === true) {
      const { nic, subnet } = selection;
      return {
        kind: 'none',
        reason: `the host's own address in ${formatPrefix(subnet)} of ${nic.name} is not the primary one, and lbd steps aside for it`,
      };
    }
    const prefixLength = prefix === 'subnet' ? selection.subnet.length : FAMILY_BITS[familyOf(ip)];
    return { kind: 'target', target: { ifIndex: selection.nic.ifIndex, prefixLength } };
  }

  isUp(ifIndex: IfIndex): boolean {
    return isNicUp(this.#host, ifIndex);
  }

  macOf(ifIndex: IfIndex): Mac | undefined {
    return this.#host.nics.find((nic) => nic.ifIndex === ifIndex)?.mac;
  }
}

/**
 * Whether it is one more address of the host's subnet for the kernel. Without the host's own it would become the primary
 * one, and the host's own a secondary one without a route when it comes back.
 */
export function isSecondary(ip: Ip, { prefixLength }: Target): boolean {
  return familyOf(ip) === 'v4' && prefixLength < FAMILY_BITS.v4;
}
