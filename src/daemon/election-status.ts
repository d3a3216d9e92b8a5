import type { Election } from '../election/election.ts';
import type { Place } from '../election/eligibility.ts';
import { type AddressView, explainAddress, type MemberView, viewAddress } from '../election/explain.ts';
import type { OwnershipState } from '../election/ownership-state.ts';
import { segmentKey } from '../election/segment-key.ts';
import type { Member, MemberName } from '../election/types.ts';
import type { PeerView } from '../election/watch-types.ts';
import { formatPrefix, type Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import { withoutHost } from './endpoint-words.ts';
import type { ElectionOverview, MemberStatus, OwnerStatus } from './types.ts';

export type ElectionFacts = {
  readonly name: MemberName;
  readonly draining: boolean;
  readonly drainProblem?: string | undefined;
  readonly encrypted: boolean;
  readonly stateProblem: string | undefined;
  readonly nameConflict: readonly string[] | undefined;
  readonly counters: ElectionOverview['traffic'];
  readonly refusedLately?: ElectionOverview['refusedLately'];
  readonly absent?: ElectionOverview['absent'];
  /** How a member's configuration differs from this host's, by the digest that it tells. */
  readonly drift: (configDigest: string) => string | undefined;
  readonly now: Instant;
};

/** The readable side of the election: members and segments. Pure. */
export function electionOverview(election: Election, facts: ElectionFacts): ElectionOverview {
  const neighbours = Map.groupBy(election.watch.peers(), ({ name }) => name);
  const members = [...election.swim.members().values()].map((member) =>
    memberStatus(election, member, neighbours.get(member.name) ?? [], facts),
  );
  members.sort((left, right) => (left.name < right.name ? -1 : 1));
  const { sent, sentBytes, received, receivedBytes, refused } = facts.counters;
  return {
    name: facts.name,
    incarnation: election.swim.incarnation,
    drained: facts.draining,
    drainDone: facts.draining && election.ownership.drainDone(),
    drainProblem: facts.drainProblem,
    encrypted: facts.encrypted,
    stateProblem: facts.stateProblem,
    healthScore: election.swim.healthScore,
    segments: election.segments().map(({ subnet, ip }) => {
      const key = segmentKey(subnet);
      return {
        subnet: key,
        ip,
        isolated: election.watch.isIsolated(key),
        neverHeard: election.isNeverHeard(key),
        mayRenew: election.mayRenew(key),
        confirmed: election.watch.isConfirmed(key),
        neighbours: election.watch.neighbours(key),
      };
    }),
    absent: facts.absent?.length === 0 ? undefined : facts.absent,
    members,
    nameConflict: facts.nameConflict,
    refusedLately: facts.refusedLately?.length === 0 ? undefined : facts.refusedLately,
    traffic: { sent, sentBytes, received, receivedBytes, refused },
  };
}

/**
 * To find an heir is to look at every candidate, 50 ns each. For so many in all it is done: a host that stands still for
 * longer is missed by its neighbours.
 */
const HEIR_BUDGET = 200_000;

/**
 * Who owns each address of a Service that is in some host's subnet. With thousands of addresses among hundreds of hosts,
 * the heirs of the last ones are left out.
 */
export function ownerStatuses(
  election: Election,
  now: Instant,
  heirBudget: number = HEIR_BUDGET,
): readonly OwnerStatus[] {
  const state = election.ownership.inspect();
  const thorough = Math.floor(heirBudget / Math.max(1, state.members().size));
  return [...state.items].flatMap(([ip, { place }], index): readonly OwnerStatus[] => {
    if (place.groups.length === 0) return [];
    if (index >= thorough) return [withoutHeir(state, place, now)];
    const view = viewAddress(state, ip);
    return view === undefined ? [] : [toOwnerStatus(state, view, now)];
  });
}

const NOT_LOOKED_INTO = 'there are too many addresses to look into each; "lbctl explain" does for one';

function withoutHeir(state: OwnershipState, place: Place, now: Instant): OwnerStatus {
  const { ip } = place;
  const claim = state.holdings.claims.get(ip);
  const since = state.holdings.claims.since(ip);
  const owner = claim?.owner;
  const known = {
    ip,
    owner,
    epoch: claim?.epoch ?? 0,
    sinceMs: since === undefined ? undefined : Math.round(now - since),
    heir: undefined,
  };
  if (owner === undefined) return { ...known, state: 'free', reason: NOT_LOOKED_INTO };
  if (owner === state.name) {
    const isHeld = state.holdings.local(ip) === 'held' && state.outgoing.moveOf(ip) === undefined;
    return { ...known, state: 'mine', reason: isHeld ? undefined : NOT_LOOKED_INTO };
  }
  const { member, isGone } = state.standings.of(owner);
  const serves = member !== undefined && !isGone && state.eligibility.reaches(owner, place);
  return serves
    ? { ...known, state: 'theirs', reason: undefined }
    : { ...known, state: 'orphaned', reason: NOT_LOOKED_INTO };
}

/** The addresses that no host may have now. Quick where there are few, however many others there are. */
export function homelessAddresses(election: Election, now: Instant): readonly OwnerStatus[] {
  const state = election.ownership.inspect();
  if (!state.settling.isSettled) return [];
  const unowned = [...state.items.keys()].filter((ip) => {
    const owner = state.holdings.claims.get(ip)?.owner;
    return owner === undefined || (owner !== state.name && state.standings.of(owner).isGone);
  });
  return unowned.flatMap((ip) => {
    const view = viewAddress(state, ip);
    return view?.state === 'nobody' ? [toOwnerStatus(state, view, now)] : [];
  });
}

/** The same of one address; undefined when it is in no host's subnet, or no Service has it. */
export function ownerStatus(election: Election, ip: Ip, now: Instant): OwnerStatus | undefined {
  const state = election.ownership.inspect();
  const view = viewAddress(state, ip);
  return view && toOwnerStatus(state, view, now);
}

/** What each member has to do with an address, the owner first. */
export function membersOf(election: Election, ip: Ip): readonly MemberView[] {
  return explainAddress(election.ownership.inspect(), ip);
}

function toOwnerStatus(inspected: OwnershipState, view: AddressView, now: Instant): OwnerStatus {
  const { ip, state, owner, epoch, heir } = view;
  const nodes = state === 'nobody' ? inspected.items.get(ip)?.place.nodes : undefined;
  const reason = nodes === undefined ? view.reason : withoutHost(nodes);
  const sinceMs = view.since === undefined ? undefined : Math.round(now - view.since);
  return { ip, state, owner, epoch, sinceMs, heir, reason };
}

function memberStatus(
  election: Election,
  member: Member,
  peers: readonly PeerView[],
  facts: ElectionFacts,
): MemberStatus {
  const { name, state, incarnation, since, meta } = member;
  const isSelf = name === facts.name;
  const isSame = meta.configDigest === election.swim.member(facts.name)?.meta.configDigest;
  const heard = peers.map((peer) => facts.now - peer.lastHeardAt);
  const rtts = peers.flatMap(({ rttMs }) => rttMs ?? []);
  return {
    name,
    state: isSelf && state !== 'left' ? 'alive' : state,
    isSelf,
    incarnation,
    sinceMs: Math.round(facts.now - since),
    rttMs: rtts.length > 0 ? Math.min(...rtts) : election.swim.rttMs(name),
    heardMsAgo: heard.length > 0 ? Math.round(Math.min(...heard)) : undefined,
    isNeighbour: peers.length > 0,
    udpLost: peers.some(({ udpLost }) => udpLost),
    silence: (election.swim.silence(name) ?? peers.find((peer) => peer.silence !== undefined)?.silence)?.why,
    version: meta.version,
    node: meta.node,
    endpoint: meta.endpoint,
    segments: meta.segments.map(({ subnet }) => formatPrefix(subnet)),
    macs: [...new Set(meta.segments.map(({ mac }) => mac))],
    drained: meta.drained,
    weight: meta.weight,
    configDigest: meta.configDigest,
    drift: isSame ? undefined : facts.drift(meta.configDigest),
    addresses: election.ownership.claims().ownedBy(name).size,
  };
}
