import type { Family } from '../lib/ip.ts';
import { BLOCKED_TRIES, type Candidates } from './candidates.ts';
import type { Claimant } from './claimant.ts';
import type { Ledger } from './ledger.ts';
import type { Plan } from './plan.ts';
import { describePool, type Pool, type PoolPlace } from './pools.ts';
import type { Refusal } from './types.ts';

export type PossiblePlan = Extract<Plan, { kind: 'possible' }>;

/** An address for a Service that does not have it yet, and why it is this one. */
export type Pick = {
  readonly place: PoolPlace;
  readonly asking: boolean;
  readonly why: string;
};

export type Choice =
  | { readonly kind: 'chosen'; readonly picks: readonly Pick[] }
  | { readonly kind: 'refused'; readonly refusal: Refusal };

/** Finds the addresses that `plan` lacks and takes them in the ledger: all that it needs, or none. */
export function choose(
  claimant: Claimant,
  plan: PossiblePlan,
  ledger: Ledger,
  candidates: Candidates,
): Choice {
  const exact: Pick[] = [];
  for (const wanted of plan.exact) {
    const pick = pickExact(claimant, wanted, ledger, candidates);
    if ('code' in pick) return { kind: 'refused', refusal: pick };
    exact.push(pick);
  }
  const filled = fill(claimant, plan, ledger, candidates);
  if (filled === undefined) return { kind: 'refused', refusal: exhausted(plan, ledger, candidates) };
  const picks = [...exact, ...filled];
  for (const pick of picks) ledger.take(pick.place, claimant, pick.asking);
  return { kind: 'chosen', picks };
}

function pickExact(
  claimant: Claimant,
  place: PoolPlace,
  ledger: Ledger,
  candidates: Candidates,
): Pick | Refusal {
  const { ip } = place;
  const source = claimant.request.kind === 'exact' ? claimant.request.source : '';
  const objection = ledger.objection(place, claimant);
  if (objection !== undefined) {
    return { code: objection.code, reason: `${source} asks for ${ip}: ${objection.reason}` };
  }
  const why = `asked for by ${source}`;
  if (ledger.has(place)) return { place, asking: ledger.isAsking(ip), why: `${why}, shared` };
  const verdict = candidates.judge({ ...place, unusable: undefined });
  if (verdict.kind === 'blocked') {
    return { code: 'address-taken', reason: `${source} asks for ${ip}: ${verdict.reason}` };
  }
  return { place, asking: verdict.kind === 'unknown', why };
}

/** One pool for all families that are missing: the first that has all it offers of them, or else, if that will do, some. */
function fill(
  claimant: Claimant,
  plan: PossiblePlan,
  ledger: Ledger,
  candidates: Candidates,
): readonly Pick[] | undefined {
  if (plan.fill.length === 0) return [];
  let best: readonly Pick[] = [];
  for (const pool of sourcesFor(claimant, plan, ledger)) {
    const offered = plan.fill.filter((family) => pool.ranges[family].length > 0);
    const picks: Pick[] = [];
    for (const family of offered) {
      const pick = joinable(claimant, pool, family, ledger) ?? lowest(pool, family, candidates);
      if (pick !== undefined) picks.push(pick);
    }
    if (picks.length === offered.length) return picks;
    if (best.length === 0) best = picks;
  }
  if (plan.need === 'all') return undefined;
  const fixed = plan.keep.length + plan.exact.length > 0;
  return fixed || best.length > 0 ? best : undefined;
}

/** A pool with an address that the Service can share comes before one with a free address. */
function sourcesFor(claimant: Claimant, plan: PossiblePlan, ledger: Ledger): readonly Pool[] {
  if (claimant.sharingKey === undefined || plan.sources.length < 2) return plan.sources;
  const canJoin = (pool: Pool) =>
    plan.fill.some((family) => joinable(claimant, pool, family, ledger) !== undefined);
  const joined = plan.sources.filter(canJoin);
  return [...joined, ...plan.sources.filter((pool) => !joined.includes(pool))];
}

function joinable(claimant: Claimant, pool: Pool, family: Family, ledger: Ledger): Pick | undefined {
  const key = claimant.sharingKey;
  if (key === undefined) return undefined;
  for (const place of ledger.shareable(key)) {
    if (place.range.pool !== pool || place.range.family !== family) continue;
    if (ledger.objection(place, claimant) !== undefined) continue;
    return { place, asking: ledger.isAsking(place.ip), why: `shared under key ${JSON.stringify(key)}` };
  }
  return undefined;
}

function lowest(pool: Pool, family: Family, candidates: Candidates): Pick | undefined {
  const candidate = candidates.lowest(pool, family);
  return candidate && { ...candidate, why: `lowest free address of pool "${pool.name}"` };
}

const POOLS_DESCRIBED = 4;

function exhausted(plan: PossiblePlan, ledger: Ledger, candidates: Candidates): Refusal {
  const parts = plan.sources
    .slice(0, POOLS_DESCRIBED)
    .map((pool) => describeExhausted(pool, plan.fill, ledger, candidates));
  if (plan.sources.length > POOLS_DESCRIBED)
    parts.push(`so are ${plan.sources.length - POOLS_DESCRIBED} more`);
  return { code: 'pool-exhausted', reason: parts.join('; ') };
}

function describeExhausted(
  pool: Pool,
  families: readonly Family[],
  ledger: Ledger,
  candidates: Candidates,
): string {
  const missing = families.filter((family) => candidates.lowest(pool, family) === undefined);
  const kind = pool.ranges.v4.length > 0 && pool.ranges.v6.length > 0 ? `${missing.join(' and ')} ` : '';
  const parts = [`${ledger.allocated(pool)} with Services`];
  const example = candidates.firstBlocked(pool);
  if (example !== undefined) {
    const which = candidates.gaveUp(pool) ? `the ${BLOCKED_TRIES} lowest others` : 'the others';
    parts.push(`${which} blocked, such as ${example.ip}: ${example.reason}`);
  }
  return `${describePool(pool)} has no free ${kind}address: ${parts.join(', ')}`;
}
