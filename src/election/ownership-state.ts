import type { Ip } from '../lib/ip.ts';
import type { Item } from './address-rules.ts';
import type { Eligibility, Place } from './eligibility.ts';
import type { OutgoingHandOvers } from './hand-over-out.ts';
import type { Holdings } from './holdings.ts';
import type { Settling } from './settling.ts';
import type { Standings } from './standings.ts';
import type { Member, MemberMeta, MemberName, SegmentKey } from './types.ts';

/** What explanations are made of: live, for looking only. */
export type OwnershipState = {
  readonly name: MemberName;
  readonly meta: MemberMeta;
  readonly items: ReadonlyMap<Ip, Item>;
  readonly holdings: Holdings;
  readonly eligibility: Eligibility;
  readonly standings: Standings;
  readonly settling: Settling;
  readonly outgoing: OutgoingHandOvers;
  readonly members: () => ReadonlyMap<MemberName, Member>;
  /** Of this host, those that hear somebody and hold the address. */
  readonly segmentsHere: (place: Place) => readonly SegmentKey[];
};
