import { type HostView, interfacesInUse } from './nic-selection.ts';
import type { IfIndex } from './types.ts';

/**
 * The names under which NICs were found that carry addresses: one that is renamed under a running lbd stays selected by
 * its old name, because its addresses are in use. Bounded by the NICs of the host.
 */
export class NicNames {
  #names: ReadonlyMap<IfIndex, string> = new Map();

  get all(): ReadonlyMap<IfIndex, string> {
    return this.#names;
  }

  /** A NIC that went takes its name along: another one may come with its number. */
  learn(host: HostView): void {
    const inUse = interfacesInUse(host).filter(({ up }) => up);
    const present = host.nics.flatMap(({ ifIndex }) => {
      const name = this.#names.get(ifIndex) ?? inUse.find((nic) => nic.ifIndex === ifIndex)?.name;
      return name === undefined ? [] : [[ifIndex, name] as const];
    });
    this.#names = new Map(present);
  }

  /** The configuration was read anew, with the names of today in mind. */
  forget(): void {
    this.#names = new Map();
  }
}
