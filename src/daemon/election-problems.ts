import { MAX_SEGMENTS } from '../election/message.ts';
import { SILENCE_WORDS } from '../election/silence.ts';
import type { AddressStatus } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';
import type {
  AbsentSubnet,
  ElectionStatus,
  MemberStatus,
  OwnerStatus,
  SegmentStatus,
  ServiceStatus,
} from './types.ts';

/** What an operator should know of gossip and of who owns what, in words. Pure. */

export type ElectionProblemSources = {
  /** Undefined on a host that does not gossip. */
  readonly election: ElectionStatus | undefined;
  readonly hostName: string;
  readonly allocator: { readonly holder: string | undefined; readonly self: boolean };
  readonly services: readonly ServiceStatus[];
  readonly addresses: readonly AddressStatus[];
};

/** Texts of one kind are one list, so that whoever shows them can cut each of them. */
export type ElectionProblems = {
  readonly errors: readonly (readonly string[])[];
  readonly warnings: readonly (readonly string[])[];
};

/** Of 8; from here on the host waits about five times as long as others before it judges anybody. */
const UNHEALTHY_SCORE = 4;

export function electionProblems(sources: ElectionProblemSources): ElectionProblems {
  const { election } = sources;
  if (election === undefined) return { errors: [loneliness(sources)], warnings: [] };
  const { segments, members, owners } = election;
  const local = new Map(sources.addresses.map((address) => [address.ip, address]));
  return {
    errors: [
      nameConflict(election),
      segments.filter(({ isolated }) => isolated).map(isolation),
      owners
        .filter(({ state }) => state === 'nobody')
        .map((owner) => `${owner.ip} has no owner: ${why(owner)}`),
    ],
    warnings: [
      segments.filter(({ isolated, neverHeard }) => !isolated && neverHeard).map(unheard),
      segments
        .filter(({ isolated, neverHeard, confirmed }) => !isolated && !neverHeard && !confirmed)
        .map(doubt),
      (election.absent ?? []).map(absentSubnet),
      members.flatMap(memberProblem),
      owners
        .filter(({ state }) => state === 'orphaned' || state === 'free')
        .map((owner) => `${owner.ip} has no owner now: ${local.get(owner.ip)?.reason ?? why(owner)}`),
      withoutSubnet(sources.services, owners, local),
      members.flatMap(({ name, state, drift }) =>
        drift === undefined || state !== 'alive' ? [] : [`${name} has another configuration: ${drift}`],
      ),
      strangeAllocator(sources, members),
      (election.refusedLately ?? []).flatMap(refusal),
      slowness(election),
      election.drained ? ['this host is drained: it takes no address until "lbctl undrain"'] : [],
      election.drainProblem === undefined ? [] : [election.drainProblem],
      election.stateProblem === undefined
        ? []
        : [`claims and epochs would not survive a restart: ${election.stateProblem}`],
    ],
  };
}

/** The member with the hardware address that `text` speaks of. */
export function memberOfMac(text: string, election: ElectionStatus | undefined): string | undefined {
  const mac = /\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b/.exec(text)?.[0];
  if (mac === undefined) return undefined;
  return election?.members.find(({ isSelf, macs }) => !isSelf && macs.includes(mac))?.name;
}

/** Two hosts without gossip both hold every local address: the Lease tells of the other one. */
function loneliness({ hostName, allocator, addresses }: ElectionProblemSources): readonly string[] {
  // Virtual addresses are every host's, and need no gossip.
  if (addresses.length > 0 && addresses.every(({ kind }) => kind === 'virtual')) return [];
  const { holder, self } = allocator;
  if (self || holder === undefined || holder === hostName) return [];
  return [
    `${holder} runs lbd for this cluster too, and this host has no [gossip]: both take the same addresses; give every host a table [gossip]`,
  ];
}

function strangeAllocator(
  { hostName, allocator }: ElectionProblemSources,
  members: readonly MemberStatus[],
): readonly string[] {
  const { holder, self } = allocator;
  if (self || holder === undefined || holder === hostName) return [];
  if (members.some(({ name }) => name === holder)) return [];
  return [
    `the allocator ${holder} is no member here: it takes the same addresses unless it gossips with these hosts`,
  ];
}

function nameConflict({ name, nameConflict: endpoints }: ElectionStatus): readonly string[] {
  if (endpoints === undefined) return [];
  return [`several hosts call themselves ${name}: ${endpoints.join(', ')}; give each its own host.name`];
}

function isolation({ subnet, mayRenew, neverHeard }: SegmentStatus): string {
  const end = mayRenew ? 'the addresses there are held all the same' : 'the addresses there are let go';
  if (!neverHeard) return `isolated on ${subnet}: neither a member nor a reference address is heard; ${end}`;
  return `isolated on ${subnet}: neither a member nor a reference address was heard there since lbd started; ${end}; is the [gossip] port open there, UDP and TCP, and the VLAN the same on every host?`;
}

function unheard({ subnet }: SegmentStatus): string {
  return `nobody has been heard on ${subnet} yet: the addresses there wait for a member or a reference address`;
}

function doubt({ subnet }: SegmentStatus): string {
  return `this host did not run for a moment: a neighbour on ${subnet} has yet to confirm what it owns`;
}

function absentSubnet({ subnet, ip, why }: AbsentSubnet): string {
  const reason =
    why === 'bind'
      ? `[gossip] bind does not name ${ip}, its own there, so nobody can watch it`
      : `a host shares out addresses in at most ${MAX_SEGMENTS} subnets, and this is one too many: name fewer NICs in [local] interfaces`;
  return `this host takes no address in ${subnet}: ${reason}`;
}

/** Why a member counts as gone, for people; undefined when nothing is known against it. */
export function silenceWords(silence: string | undefined): string | undefined {
  return silence === undefined
    ? undefined
    : ((SILENCE_WORDS as Readonly<Record<string, string>>)[silence] ?? silence);
}

function memberProblem(member: MemberStatus): readonly string[] {
  const { name, state, isSelf, udpLost, endpoint } = member;
  if (isSelf || state === 'left') return [];
  const silence = silenceWords(member.silence);
  if (state === 'dead') return [`${name} is dead${silence === undefined ? '' : `: ${silence}`}`];
  if (state === 'suspect') return [`${name} is suspected${silence === undefined ? '' : `: ${silence}`}`];
  if (silence !== undefined) return [`${name} does not serve its addresses: ${silence}`];
  if (!udpLost) return [];
  return [`${name} is heard over TCP only: UDP port ${endpoint.port} is blocked between it and this host`];
}

/** What an operator can set right; the rest is duplicates, attacks and broken networks, which the counters have. */
const REFUSAL_WORDS: Readonly<Record<string, string>> = {
  version: 'does not speak as this version of lbd does',
  sealing: 'has keys where this host has none, or the reverse: give both the same [gossip] key_file',
  label: 'has another [gossip] label',
  key: 'has another key: compare "lbctl keys list" there and here',
  source: 'is not among the addresses of [gossip] allow',
};

function refusal({ why: reason, from }: { readonly why: string; readonly from: string }): readonly string[] {
  const words = REFUSAL_WORDS[reason];
  return words === undefined ? [] : [`${from} is not believed: it ${words}`];
}

function withoutSubnet(
  services: readonly ServiceStatus[],
  owners: readonly OwnerStatus[],
  local: ReadonlyMap<Ip, AddressStatus>,
): readonly string[] {
  const owned = new Set(owners.map(({ ip }) => ip));
  const ips = new Set(services.flatMap(({ state, addresses }) => (state === 'refused' ? [] : addresses)));
  return [...ips]
    .filter((ip) => !owned.has(ip) && !local.has(ip))
    .map((ip) => `${ip} is announced by nobody: ${NO_SUBNET}`);
}

export const NO_SUBNET = 'no host has a NIC that is up in a subnet with it';

function slowness({ healthScore, segments }: ElectionStatus): readonly string[] {
  // Who is cut off misses every answer, however quick it is.
  if (healthScore < UNHEALTHY_SCORE || segments.some(({ isolated }) => isolated)) return [];
  return [
    `this host answers others too slowly (health score ${healthScore} of 8): it waits longer before it judges anybody`,
  ];
}

function why({ reason }: OwnerStatus): string {
  return reason ?? 'it is not known why';
}
