import type { Ip } from '../lib/ip.ts';
import { MAX_UNREADY } from './message.ts';
import { hashText } from './rank.ts';
import type { MemberMeta } from './types.ts';

/** What a member says of addresses that are bound to endpoints and that it is not ready for. */

type Bound = { readonly hash: number; readonly nodes: ReadonlySet<string> | undefined };

/** With the list as a set, for those who ask often. */
export type Unready = {
  readonly list: MemberMeta['unready'];
  readonly hashes: ReadonlySet<number> | undefined;
};

export function unreadyOf({ unready: list }: MemberMeta): Unready {
  return { list, hashes: list === undefined || list === 'all' ? undefined : new Set(list) };
}

/** Whether an address may be on that node, by its endpoints and by what the member there says. */
export function allows({ nodes, hash }: Bound, node: string, { list, hashes }: Unready): boolean {
  if (nodes === undefined) return true;
  return nodes.has(node) && list !== 'all' && hashes?.has(hash) !== true;
}

export function isReadyFor({ unready }: MemberMeta, { nodes, hash }: Bound): boolean {
  return nodes === undefined || (unready !== 'all' && unready?.includes(hash) !== true);
}

export function sameUnready(one: MemberMeta['unready'], other: MemberMeta['unready']): boolean {
  if (one === other) return true;
  if (one === undefined || other === undefined || one === 'all' || other === 'all') return false;
  return one.length === other.length && one.every((hash, index) => hash === other[index]);
}

/** What a host tells of these addresses: no more than a packet takes, beyond which it is not ready for any. */
export function toldUnready(ips: Iterable<Ip>): MemberMeta['unready'] {
  const hashes = new Set<number>();
  for (const ip of ips) hashes.add(hashText(ip));
  if (hashes.size === 0) return undefined;
  return hashes.size > MAX_UNREADY ? 'all' : [...hashes].sort((left, right) => left - right);
}
