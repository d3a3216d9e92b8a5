import type { Claimant } from './claimant.ts';

/**
 * Whether both Services say that they share addresses with each other (safety rule 6). Their ports are another matter:
 * `PortTable`. Equality of keys makes this transitive, so that one holder speaks for all.
 */
export function mayShare(left: Claimant, right: Claimant): boolean {
  return left.sharingKey !== undefined && left.sharingKey === right.sharingKey;
}

/** Which port of one shared address belongs to which Service. */
export class PortTable {
  readonly #holders = new Map<string, Claimant>();

  constructor(holders: readonly Claimant[]) {
    for (const holder of holders) this.add(holder);
  }

  add(claimant: Claimant): void {
    for (const port of portsOf(claimant)) this.#holders.set(port, claimant);
  }

  /** A port of `claimant` that another Service has here already. */
  clash(claimant: Claimant): { readonly port: string; readonly holder: Claimant } | undefined {
    for (const port of portsOf(claimant)) {
      const holder = this.#holders.get(port);
      if (holder !== undefined && holder !== claimant) return { port, holder };
    }
    return undefined;
  }
}

function* portsOf(claimant: Claimant): Iterable<string> {
  for (const { protocol, port } of claimant.service.ports) yield `${protocol}/${port}`;
}
