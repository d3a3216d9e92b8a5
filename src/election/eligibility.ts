import { FAMILY_BITS, familyOf, type Ip, ipToNumber, type Prefix } from '../lib/ip.ts';
import { draw, hashText, ranksBefore } from './rank.ts';
import { segmentKey } from './segment-key.ts';
import type { Member, MemberMeta, MemberName, Segment, SegmentKey } from './types.ts';
import { allows, sameUnready, type Unready, unreadyOf } from './unready.ts';

/**
 * Which members may own which addresses, and in which order. A member is a candidate while it is usable (the caller's
 * word: it lives), not drained and its node is not excluded; it may own an address in one of its subnets for which its
 * node is not ruled out. Members are grouped by subnet, and each address knows the groups that hold it, so that finding
 * an heir looks at those who could be it and at nobody else.
 */

type Candidate = {
  readonly name: MemberName;
  readonly hash: number;
  readonly weight: number;
  readonly node: string;
  readonly unready: Unready;
};

type Group = {
  readonly key: SegmentKey;
  readonly contains: (number: number | bigint) => boolean;
  readonly candidates: Candidate[];
  readonly places: Set<Place>;
  /** Members that have this subnet, candidates or not. */
  members: number;
};

type Known = {
  meta: MemberMeta;
  groups: readonly Group[];
  isUsable: boolean;
  candidate: Candidate | undefined;
};

/** A wanted address among the subnets. */
export type Place = {
  readonly ip: Ip;
  readonly hash: number;
  readonly number: number | bigint;
  nodes: ReadonlySet<string> | undefined;
  groups: readonly Group[];
};

export class Eligibility {
  readonly #known = new Map<MemberName, Known>();
  readonly #groups = new Map<SegmentKey, Group>();
  readonly #places = new Map<Ip, Place>();
  #excludedNodes: ReadonlySet<string> = new Set();

  /** Takes in a member as it is now; `undefined` forgets it. Returns whether the candidates for anything changed. */
  memberChanged(name: MemberName, meta: MemberMeta | undefined, isUsable: boolean): boolean {
    const known = this.#known.get(name);
    if (meta === undefined) {
      if (known === undefined) return false;
      const wasCandidate = known.candidate !== undefined;
      this.#setCandidate(known, undefined);
      this.#leaveGroups(known.groups);
      this.#known.delete(name);
      return wasCandidate;
    }
    if (known === undefined) {
      const groups = this.#joinGroups(meta.segments);
      const added: Known = { meta, groups, isUsable, candidate: undefined };
      this.#known.set(name, added);
      return this.#reconsider(name, added);
    }
    known.isUsable = isUsable;
    const isMoved = known.meta !== meta && !sameSubnets(known.meta.segments, meta.segments);
    known.meta = meta;
    const wasCandidate = known.candidate !== undefined;
    if (isMoved) {
      this.#setCandidate(known, undefined);
      const before = known.groups;
      known.groups = this.#joinGroups(meta.segments);
      this.#leaveGroups(before);
    }
    return this.#reconsider(name, known) || (isMoved && wasCandidate);
  }

  /** Returns whether the candidates for anything changed. */
  excludedNodesChanged(nodes: ReadonlySet<string>): boolean {
    this.#excludedNodes = nodes;
    let changed = false;
    for (const [name, known] of this.#known) if (this.#reconsider(name, known)) changed = true;
    return changed;
  }

  isExcluded(node: string): boolean {
    return this.#excludedNodes.has(node);
  }

  addPlace(ip: Ip, nodes: ReadonlySet<string> | undefined): Place {
    const number = familyOf(ip) === 'v4' ? Number(ipToNumber(ip)) : ipToNumber(ip);
    const groups: Group[] = [];
    const place: Place = { ip, hash: hashText(ip), number, nodes, groups };
    for (const group of this.#groups.values()) {
      if (!group.contains(number)) continue;
      groups.push(group);
      group.places.add(place);
    }
    this.#places.set(ip, place);
    return place;
  }

  removePlace(place: Place): void {
    this.#places.delete(place.ip);
    for (const group of place.groups) group.places.delete(place);
  }

  /** The wanted addresses in a subnet. */
  placesIn(key: SegmentKey): ReadonlySet<Place> {
    return this.#groups.get(key)?.places ?? NOWHERE;
  }

  /** The subnets of any member that hold the address; none for a virtual address. */
  keysOf(place: Place): readonly SegmentKey[] {
    return place.groups.map((group) => group.key);
  }

  /** Whether nothing but the wish of its operator speaks against it. */
  isOnlyDrained(name: MemberName, place: Place): boolean {
    const known = this.#known.get(name);
    if (known?.meta.drained !== true || this.#excludedNodes.has(known.meta.node)) return false;
    return allows(place, known.meta.node, unreadyOf(known.meta)) && shares(place, known.groups);
  }

  isCandidate(name: MemberName, place: Place): boolean {
    const known = this.#known.get(name);
    if (known?.candidate === undefined || !shares(place, known.groups)) return false;
    return allows(place, known.candidate.node, known.candidate.unready);
  }

  /** Whether the member has a subnet that holds the address, candidate or not. */
  reaches(name: MemberName, place: Place): boolean {
    const known = this.#known.get(name);
    return known !== undefined && shares(place, known.groups);
  }

  /** The best candidate for an address but for those in `skipped`; undefined when there is none. */
  heir(place: Place, skipped?: ReadonlySet<MemberName>): MemberName | undefined {
    let best: Candidate | undefined;
    let bestDraw = 0;
    for (const group of place.groups) {
      for (const candidate of group.candidates) {
        if (!allows(place, candidate.node, candidate.unready) || skipped?.has(candidate.name) === true)
          continue;
        const drawn = draw(place.hash, candidate.hash);
        if (best !== undefined && !ranksBefore(candidate, drawn, best, bestDraw)) continue;
        best = candidate;
        bestDraw = drawn;
      }
    }
    return best?.name;
  }

  /** How many candidates come before this member: 0 is the heir. Undefined when it is no candidate itself. */
  rankOf(name: MemberName, place: Place): number | undefined {
    if (!this.isCandidate(name, place)) return undefined;
    const self = this.#known.get(name)?.candidate;
    if (self === undefined) return undefined;
    const own = draw(place.hash, self.hash);
    let rank = 0;
    for (const group of place.groups) {
      for (const candidate of group.candidates) {
        if (candidate === self || !allows(place, candidate.node, candidate.unready)) continue;
        if (ranksBefore(candidate, draw(place.hash, candidate.hash), self, own)) rank += 1;
      }
    }
    return rank;
  }

  #reconsider(name: MemberName, known: Known): boolean {
    const { node, weight, drained } = known.meta;
    const { candidate } = known;
    if (!known.isUsable || drained || this.#excludedNodes.has(node)) {
      if (candidate === undefined) return false;
      this.#setCandidate(known, undefined);
      return known.groups.length > 0;
    }
    const isSame = candidate?.node === node && candidate.weight === weight;
    if (isSame && sameUnready(candidate.unready.list, known.meta.unready)) return false;
    const unready = unreadyOf(known.meta);
    this.#setCandidate(known, { name, hash: candidate?.hash ?? hashText(name), weight, node, unready });
    return known.groups.length > 0;
  }

  #setCandidate(known: Known, next: Candidate | undefined): void {
    const before = known.candidate;
    known.candidate = next;
    for (const { candidates } of known.groups) {
      const index = before === undefined ? -1 : candidates.indexOf(before);
      if (next !== undefined) candidates[index < 0 ? candidates.length : index] = next;
      else if (index >= 0) removeAt(candidates, index);
    }
  }

  #joinGroups(segments: readonly Segment[]): readonly Group[] {
    return segments.map(({ subnet }) => {
      const key = segmentKey(subnet);
      const group = this.#groups.get(key) ?? this.#newGroup(key, subnet);
      group.members += 1;
      return group;
    });
  }

  #newGroup(key: SegmentKey, subnet: Prefix): Group {
    const group: Group = {
      key,
      contains: containment(subnet),
      candidates: [],
      places: new Set(),
      members: 0,
    };
    this.#groups.set(key, group);
    for (const place of this.#places.values()) {
      if (!group.contains(place.number)) continue;
      place.groups = [...place.groups, group];
      group.places.add(place);
    }
    return group;
  }

  #leaveGroups(groups: readonly Group[]): void {
    for (const group of groups) {
      group.members -= 1;
      if (group.members > 0) continue;
      this.#groups.delete(group.key);
      for (const place of group.places) place.groups = place.groups.filter((other) => other !== group);
    }
  }
}

/** Whether a member counts for anything: it lives, and no watcher says otherwise. */
export function isUsable(member: Member, isSilent: boolean): boolean {
  return member.state === 'alive' || (member.state === 'suspect' && !isSilent);
}

function shares(place: Place, groups: readonly Group[]): boolean {
  for (const group of place.groups) if (groups.includes(group)) return true;
  return false;
}

/** Numbers for v4, which are ten times as fast as the big integers that v6 needs. */
function containment({ network, length }: Prefix): Group['contains'] {
  const family = familyOf(network);
  const hostBits = FAMILY_BITS[family] - length;
  if (family === 'v4') {
    const size = 2 ** hostBits;
    const value = Math.floor(Number(ipToNumber(network)) / size);
    return (number) => typeof number === 'number' && Math.floor(number / size) === value;
  }
  const shift = BigInt(hostBits);
  const value = ipToNumber(network) >> shift;
  return (number) => typeof number === 'bigint' && number >> shift === value;
}

function sameSubnets(left: readonly Segment[], right: readonly Segment[]): boolean {
  return (
    left.length === right.length &&
    left.every(({ subnet }, index) => {
      const other = right[index]?.subnet;
      return subnet.network === other?.network && subnet.length === other.length;
    })
  );
}

function removeAt(candidates: Candidate[], index: number): void {
  const last = candidates.pop();
  if (last !== undefined && index < candidates.length) candidates[index] = last;
}

const NOWHERE: ReadonlySet<Place> = new Set();
