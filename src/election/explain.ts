import type { Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import type { Place } from './eligibility.ts';
import type { MoveReason } from './hand-over-out.ts';
import type { OwnershipState } from './ownership-state.ts';
import { SILENCE_WORDS } from './silence.ts';
import type { Grant, LocalState, MemberName } from './types.ts';
import { isReadyFor } from './unready.ts';

/**
 * Who owns an address and why, in words, from what decides it: for `lbctl status` and `lbctl explain`. Nothing here is
 * computed unless somebody asks.
 */

export type AddressView = {
  readonly ip: Ip;
  /**
   * `mine` and `theirs`: the owner lives. `orphaned`: it does not, and the heir has yet to take over. `free`: nobody
   * claims it. `nobody`: there is no host that may have it.
   */
  readonly state: 'mine' | 'theirs' | 'orphaned' | 'free' | 'nobody';
  readonly owner: MemberName | undefined;
  /** 0 when there never was a claim. */
  readonly epoch: number;
  /** When this host learnt of that. */
  readonly since: Instant | undefined;
  /** Who has it next: if the owner goes, or now when there is none. */
  readonly heir: MemberName | undefined;
  /** What this host is entitled to, and how far it is. */
  readonly grant: Grant | undefined;
  readonly local: LocalState;
  /** On its way to another host. */
  readonly move:
    | { readonly reason: MoveReason; readonly to: MemberName; readonly isOffered: boolean }
    | undefined;
  /** Why it is not where it should be, or what is waited for; undefined when nothing is. */
  readonly reason: string | undefined;
};

export type MemberView = {
  readonly name: MemberName;
  readonly role: 'owner' | 'heir' | 'candidate' | 'ineligible';
  /** From 0, among the candidates; undefined for who is none. */
  readonly rank: number | undefined;
  /** Why it is what it is. */
  readonly reason: string;
};

/** Undefined when no Service wants `ip`, or no host has its subnet: then it is not the election's. */
export function viewAddress(state: OwnershipState, ip: Ip): AddressView | undefined {
  const place = state.items.get(ip)?.place;
  if (place === undefined || place.groups.length === 0) return undefined;
  const claim = state.holdings.claims.get(ip);
  const owner = claim?.owner;
  const heir = state.eligibility.heir(place, owner === undefined ? undefined : new Set([owner]));
  const standing = ownerState(state, place, owner);
  const isOrphan = standing === 'free' || standing === 'orphaned';
  const view = {
    ip,
    state: isOrphan && heir === undefined ? ('nobody' as const) : standing,
    owner,
    epoch: claim?.epoch ?? 0,
    since: state.holdings.claims.since(ip),
    heir,
    grant: state.holdings.grants.get(ip),
    local: state.holdings.local(ip),
    move: state.outgoing.moveOf(ip),
  };
  return { ...view, reason: addressReason(state, place, view) };
}

/** Each member, the owner first, then by rank, then those that may not have the address. */
export function explainAddress(state: OwnershipState, ip: Ip): readonly MemberView[] {
  const place = state.items.get(ip)?.place;
  if (place === undefined) return [];
  const owner = state.holdings.claims.get(ip)?.owner;
  const names = new Set([state.name, ...state.members().keys()]);
  const views = [...names].map((name) => explainMember(state, place, name, owner));
  const last = Number.MAX_SAFE_INTEGER;
  return views.sort((left, right) => {
    if ((left.role === 'owner') !== (right.role === 'owner')) return left.role === 'owner' ? -1 : 1;
    return (left.rank ?? last) - (right.rank ?? last) || (left.name < right.name ? -1 : 1);
  });
}

function explainMember(
  state: OwnershipState,
  place: Place,
  name: MemberName,
  owner: MemberName | undefined,
): MemberView {
  const rank = state.eligibility.rankOf(name, place);
  const obstacle = whyNot(state, place, name);
  if (name === owner) {
    const reason = obstacle === undefined ? 'owns it' : `owns it, but ${obstacle}`;
    return { name, role: 'owner', rank, reason };
  }
  if (rank === undefined) return { name, role: 'ineligible', rank, reason: obstacle ?? 'it may not have it' };
  const heir = state.eligibility.heir(place, owner === undefined ? undefined : new Set([owner]));
  if (name === heir)
    return { name, role: 'heir', rank, reason: 'ranks first of those that may have it next' };
  return { name, role: 'candidate', rank, reason: 'may have it, others rank before it' };
}

/** What speaks against a member, the gravest first; undefined when nothing does. */
function whyNot(state: OwnershipState, place: Place, name: MemberName): string | undefined {
  const isSelf = name === state.name;
  const meta = isSelf ? state.meta : state.members().get(name)?.meta;
  if (meta === undefined) return 'it is not known';
  const gone = isSelf ? undefined : whyGone(state, name);
  if (gone !== undefined) return gone;
  if (!state.eligibility.reaches(name, place)) return `it has no NIC that is up in a subnet with ${place.ip}`;
  if (isSelf && state.segmentsHere(place).length === 0) return 'it hears nobody on the NIC of that subnet';
  if (meta.drained) return 'it is drained';
  if (state.eligibility.isExcluded(meta.node)) return `its node ${meta.node} is excluded from load balancing`;
  if (place.nodes?.has(meta.node) === false) {
    return `its node ${meta.node} has no usable endpoint (externalTrafficPolicy: Local)`;
  }
  if (!isReadyFor(meta, place)) {
    return `kube-proxy of its node ${meta.node} is not ready for it (healthCheckNodePort)`;
  }
  return undefined;
}

function whyGone(state: OwnershipState, name: MemberName): string | undefined {
  const { member, silence, isGone } = state.standings.of(name);
  if (member === undefined) return 'it is not known';
  if (!isGone) return undefined;
  if (member.state === 'left') return 'it has left';
  return silence === undefined ? 'it is dead' : SILENCE_WORDS[silence.why];
}

function ownerState(
  state: OwnershipState,
  place: Place,
  owner: MemberName | undefined,
): 'mine' | 'theirs' | 'orphaned' | 'free' {
  if (owner === undefined) return 'free';
  if (owner === state.name) return 'mine';
  const { member, isGone } = state.standings.of(owner);
  const serves = member !== undefined && !isGone && state.eligibility.reaches(owner, place);
  return serves ? 'theirs' : 'orphaned';
}

const SETTLING_REASONS = {
  'cold-start': 'lbd started just now and waits for the other hosts',
  returning: 'this host was isolated and waits for others to return',
  unheard: 'this host has heard nobody yet on the NIC of that subnet',
  paused: 'this host was paused and waits for a neighbour to confirm its claims',
} as const;

function addressReason(
  state: OwnershipState,
  place: Place,
  view: Omit<AddressView, 'reason'>,
): string | undefined {
  const { owner, heir, grant, local, move } = view;
  if (view.state === 'nobody') return 'no host may have it now';
  if (view.state === 'mine') {
    if (move !== undefined) return `is ${move.isOffered ? 'being' : 'to be'} handed over to ${move.to}`;
    if (grant !== undefined) return localReason(local);
    return whyNot(state, place, state.name) ?? settlingReason(state, place);
  }
  if (view.state === 'theirs') return undefined;
  const isMissing = owner !== undefined && state.members().get(owner) === undefined;
  const lost = isMissing ? 'its owner is not known' : `${owner}: ${owner && whyNot(state, place, owner)}`;
  const next = heir === state.name ? takingReason(state, place, grant, local) : `${heir} is to take it`;
  return owner === undefined ? next : `${lost}; ${next}`;
}

function takingReason(
  state: OwnershipState,
  place: Place,
  grant: Grant | undefined,
  local: LocalState,
): string {
  if (grant === undefined)
    return settlingReason(state, place) ?? 'this host is to take it, and waits after a failure';
  return localReason(local) ?? 'this host takes it';
}

function localReason(local: LocalState): string | undefined {
  switch (local) {
    case 'held':
      return undefined;
    case 'absent':
    case 'taking':
      return 'this host asks the wire and takes it';
    case 'conflict':
      return 'another host on the wire answers for it';
    case 'failed':
      return 'the kernel refuses it';
    default:
      return local satisfies never;
  }
}

function settlingReason(state: OwnershipState, place: Place): string | undefined {
  const reason = state.settling.reason(state.segmentsHere(place));
  return reason && SETTLING_REASONS[reason];
}
