import type { Election } from '../election/election.ts';
import { viewAddresses } from '../election/explain.ts';
import type { Member, MemberName } from '../election/types.ts';
import { formatPrefix } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import type { ElectionStatus, MemberStatus, OwnerStatus } from './types.ts';

export type ElectionFacts = {
  readonly name: MemberName;
  readonly draining: boolean;
  readonly encrypted: boolean;
  readonly stateProblem: string | undefined;
  readonly counters: ElectionStatus['traffic'];
  readonly now: Instant;
};

/** The readable side of the election: members, segments, and who owns each address. Pure. */
export function electionStatus(election: Election, facts: ElectionFacts): ElectionStatus {
  const { now } = facts;
  const members = [...election.swim.members().values()].map((member) =>
    memberStatus(election, member, facts),
  );
  members.sort((left, right) => (left.name < right.name ? -1 : 1));
  return {
    name: facts.name,
    incarnation: election.swim.incarnation,
    drained: facts.draining,
    drainDone: facts.draining && election.ownership.drainDone(),
    encrypted: facts.encrypted,
    stateProblem: facts.stateProblem,
    healthScore: election.swim.healthScore,
    segments: election.segments().map((segment) => {
      const key = formatPrefix(segment.subnet) as Parameters<typeof election.watch.isIsolated>[0];
      return {
        subnet: key,
        ip: segment.ip,
        isolated: election.watch.isIsolated(key),
        confirmed: election.watch.isConfirmed(key),
        neighbours: election.watch.neighbours(key),
      };
    }),
    members,
    owners: viewAddresses(election.ownership.inspect()).map((view): OwnerStatus => {
      const { ip, state, owner, epoch, heir, reason } = view;
      const sinceMs = view.since === undefined ? undefined : Math.round(now - view.since);
      return { ip, state, owner, epoch, sinceMs, heir, reason };
    }),
    drift: configDrift(members, facts.name),
    traffic: facts.counters,
  };
}

function memberStatus(election: Election, member: Member, facts: ElectionFacts): MemberStatus {
  const { name, state, incarnation, since, meta } = member;
  const peers = election.watch.peers().filter((peer) => peer.name === name);
  const heard = peers.map((peer) => facts.now - peer.lastHeardAt);
  const rtts = peers.flatMap(({ rttMs }) => rttMs ?? []);
  return {
    name,
    state: name === facts.name && state !== 'left' ? 'alive' : state,
    isSelf: name === facts.name,
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
    drained: meta.drained,
    weight: meta.weight,
    configDigest: meta.configDigest,
    addresses: election.ownership.claims().ownedBy(name).size,
  };
}

/** Members whose configuration of pools differs from this host's. */
function configDrift(members: readonly MemberStatus[], self: MemberName): readonly string[] {
  const own = members.find(({ name }) => name === self)?.configDigest;
  return members
    .filter(({ state, configDigest }) => state === 'alive' && configDigest !== own)
    .map(({ name }) => name);
}
