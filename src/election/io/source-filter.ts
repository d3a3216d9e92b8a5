import { BlockList } from 'node:net';
import { familyOf, type Prefix } from '../../lib/ip.ts';

/** A host talks to no more than there can be members; who sends from more addresses only costs this memory. */
const MAX_REMEMBERED = 4_096;

/** Which source addresses may talk to this host at all; none given means everybody who has the key. */
export class SourceFilter {
  readonly #list: BlockList | undefined;
  readonly #known = new Map<string, boolean>();

  constructor(allow: readonly Prefix[]) {
    if (allow.length === 0) return;
    this.#list = new BlockList();
    for (const { network, length } of allow) this.#list.addSubnet(network, length, familyName(network));
  }

  /** `address` as a socket gives it, without a zone. */
  allows(address: string): boolean {
    if (this.#list === undefined) return true;
    const known = this.#known.get(address);
    if (known !== undefined) return known;
    if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
    const allowed = this.#list.check(address, familyName(address));
    this.#known.set(address, allowed);
    return allowed;
  }
}

function familyName(address: string): 'ipv4' | 'ipv6' {
  return familyOf(address as Prefix['network']) === 'v4' ? 'ipv4' : 'ipv6';
}
