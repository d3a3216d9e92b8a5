import { type Family, familyOf, type Ip } from '../lib/ip.ts';
import type { Candidates } from './candidates.ts';
import { choose, type Pick } from './choose.ts';
import { byAge, type Claimant, settle } from './claimant.ts';
import { type Dispute, describeStranger, type Ledger } from './ledger.ts';
import { type Plan, planFor } from './plan.ts';
import { isInPool, type Place, type Pools } from './pools.ts';
import { quote } from './requests.ts';
import type { Allocation, Refusal } from './types.ts';

/** A Service that is not simply as it should be. */
export type Pending = {
  readonly claimant: Claimant;
  /** The addresses of its status that are rightly its own. */
  readonly standing: readonly Place[];
  readonly lost: readonly Ip[];
  readonly plan: Plan;
  /** Services that are not ours and claim addresses of this one too. */
  readonly strangers: ReadonlyMap<Ip, Claimant>;
};

/** What has to be decided about `claimant`, given what its claims came to. */
export function pendingOf(claimant: Claimant, dispute: Dispute | undefined, pools: Pools): Pending {
  const { lost, strangers } = dispute ?? UNDISPUTED;
  if (lost.length === 0) {
    return { claimant, standing: claimant.standing, lost, plan: claimant.plan, strangers };
  }
  const standing = claimant.standing.filter((each) => !lost.includes(each.ip));
  return { claimant, standing, lost, plan: planFor(claimant, standing, pools), strangers };
}

const UNDISPUTED: Dispute = { lost: [], strangers: new Map() };

/** Services that name an address choose first, then the older ones: no Service that takes any address should take theirs. */
export function byPrecedence(left: Pending, right: Pending): number {
  return Number(namesAddress(right)) - Number(namesAddress(left)) || byAge(left.claimant, right.claimant);
}

function namesAddress(pending: Pending): boolean {
  return pending.plan.kind === 'possible' && pending.plan.exact.length > 0;
}

/** The decision, taken in the ledger. Undefined for a Service that goes away and has nothing. */
export function decide(pending: Pending, ledger: Ledger, candidates: Candidates): Allocation | undefined {
  const { claimant, standing, plan } = pending;
  if (claimant.service.deleting) {
    const unmet = conflictAmong(pending, standing);
    return standing.length === 0 ? undefined : settle(claimant, standing, unmet);
  }
  if (plan.kind === 'impossible') return refuse(pending, plan.refusal);
  const choice = choose(claimant, plan, ledger, candidates);
  if (choice.kind === 'refused') return refuse(pending, choice.refusal);
  if (choice.picks.length === 0) return keep(pending, plan.keep, undefined);
  return give(pending, plan.keep, choice.picks);
}

/** Something to be seen about the addresses that it keeps. */
function conflictAmong(pending: Pending, kept: readonly Place[]): Refusal | undefined {
  for (const { ip } of kept) {
    const stranger = pending.strangers.get(ip);
    if (stranger !== undefined) return { code: 'address-conflict', reason: describeStranger(ip, stranger) };
  }
  return undefined;
}

/** What it asks for cannot be: it keeps what it has, if anything. */
function refuse(pending: Pending, refusal: Refusal): Allocation {
  const { claimant, standing } = pending;
  if (standing.length > 0) return keep(pending, standing, refusal);
  const stale = [...claimant.standing.map((each) => each.ip), ...claimant.rubbish];
  return {
    kind: 'refused',
    service: claimant.service.key,
    ...refusal,
    stale,
  };
}

/** Keeps `kept` and nothing else; status is written only when it says more than that. */
function keep(pending: Pending, kept: readonly Place[], refusal: Refusal | undefined): Allocation {
  const { claimant } = pending;
  const unmet = refusal ?? conflictAmong(pending, kept);
  const leaving = explainLeaving(pending, kept);
  if (leaving.length === 0) return settle(claimant, kept, unmet);
  const addresses = kept.map((each) => each.ip);
  return {
    kind: 'assign',
    service: claimant.service.key,
    addresses,
    // What leaves is served until status says so: the Service has it as long as nobody could write that it has not.
    standing: pending.standing.map((each) => each.ip),
    pool: kept.find(isInPool)?.range.pool.name,
    unmet,
    explain: `keeps ${addresses.join(', ')}; ${leaving.join('; ')}`,
  };
}

function give(pending: Pending, kept: readonly Place[], picks: readonly Pick[]): Allocation {
  const { claimant } = pending;
  const chosen = [...kept, ...picks.map((pick) => pick.place)];
  const families = claimant.families.families;
  const addresses = families.flatMap((family) => ofFamily(chosen, family));
  const asking = picks.filter((pick) => pick.asking).map((pick) => pick.place.ip);
  const shared = {
    service: claimant.service.key,
    addresses,
    standing: pending.standing.map((each) => each.ip),
    pool: chosen.find(isInPool)?.range.pool.name,
    explain: explainGift(pending, kept, picks),
  };
  if (asking.length > 0) return { kind: 'probing', ...shared, asking };
  return { kind: 'assign', ...shared, unmet: conflictAmong(pending, kept) };
}

function ofFamily(standings: readonly Place[], family: Family): Ip[] {
  return standings.filter((each) => familyOf(each.ip) === family).map((each) => each.ip);
}

function explainGift(pending: Pending, kept: readonly Place[], picks: readonly Pick[]): string {
  const parts = picks.map((pick) => `${pick.place.ip}: ${pick.why}${pick.asking ? ', being probed' : ''}`);
  if (kept.length > 0) parts.unshift(`keeps ${kept.map((each) => each.ip).join(', ')}`);
  return [...parts, ...explainLeaving(pending, kept)].join('; ');
}

/** Why each entry of status that is not in `kept` goes. */
function explainLeaving({ claimant, lost }: Pending, kept: readonly Place[]): string[] {
  const leaving: string[] = [];
  for (const each of claimant.standing) {
    if (kept.includes(each)) continue;
    const reason = lost.includes(each.ip) ? 'an older Service has it' : 'not asked for any more';
    leaving.push(`${each.ip} leaves status: ${reason}`);
  }
  for (const text of claimant.rubbish) leaving.push(`${quote(text)} leaves status: no usable address`);
  return leaving;
}
