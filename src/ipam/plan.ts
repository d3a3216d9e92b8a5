import { type Family, familyOf, type Ip, unusableReason } from '../lib/ip.ts';
import {
  describePool,
  isInPool,
  locate,
  type Place,
  type Pool,
  type PoolPlace,
  type Pools,
} from './pools.ts';
import {
  ADDRESSES_ANNOTATION,
  type AddressRequest,
  type FamilyRequest,
  POOL_ANNOTATION,
  quote,
} from './requests.ts';
import type { Refusal, RefusalCode } from './types.ts';

/** What has to happen for one Service, as far as that can be said without looking at other Services or at the wire. */
export type Plan =
  | { readonly kind: 'impossible'; readonly refusal: Refusal }
  | {
      readonly kind: 'possible';
      /** Standing addresses that stay; the others leave status. */
      readonly keep: readonly Place[];
      /** Addresses asked for by name, each in a pool and usable, that it does not have yet. */
      readonly exact: readonly PoolPlace[];
      /** Families that get an address of one of `sources`. */
      readonly fill: readonly Family[];
      /** In the order in which they are tried. */
      readonly sources: readonly Pool[];
      readonly need: 'all' | 'any';
    };

export type Asked = {
  readonly families: FamilyRequest;
  readonly request: AddressRequest;
  readonly poolName: string | undefined;
};

/**
 * The plan for a Service that asks for `asked` and rightly has `standing`. Safety rule 6 is decided here: an address
 * that stands is dropped only when the Service asks for another one, for another pool, or not for that family. One that
 * is in no pool is never dropped for the sake of a pool: it is the configuration that changed, not the Service.
 */
export function planFor(asked: Asked, standing: readonly Place[], pools: Pools): Plan {
  if (asked.request.kind === 'invalid') return { kind: 'impossible', refusal: asked.request.refusal };
  const named = asked.poolName === undefined ? undefined : pools.byName.get(asked.poolName);
  if (asked.poolName !== undefined && named === undefined) return unknownPool(asked.poolName, pools);

  const keep: Place[] = [];
  const exact: PoolPlace[] = [];
  const requested = asked.request.kind === 'exact' ? asked.request.addresses : [];
  for (const ip of requested) {
    const stands = standing.find((each) => each.ip === ip);
    const verdict = stands === undefined ? judgeRequest(ip, asked, named, pools) : undefined;
    if (stands !== undefined) keep.push(stands);
    else if (verdict?.kind === 'exact') exact.push(verdict.exact);
    else if (verdict !== undefined) return verdict;
  }
  const fill: Family[] = [];
  for (const family of asked.families.families) {
    if (requested.some((ip) => familyOf(ip) === family)) continue;
    const kept = standing.filter((each) => familyOf(each.ip) === family && mayStay(each, named));
    keep.push(...kept);
    if (kept.length === 0) fill.push(family);
  }
  return withSources({ keep, exact, fill, need: asked.families.need }, named, pools);
}

function mayStay(standing: Place, named: Pool | undefined): boolean {
  return named === undefined || standing.range === undefined || standing.range.pool === named;
}

function judgeRequest(
  ip: Ip,
  asked: Asked,
  named: Pool | undefined,
  pools: Pools,
): { readonly kind: 'exact'; readonly exact: PoolPlace } | Extract<Plan, { kind: 'impossible' }> {
  const source = asked.request.kind === 'exact' ? asked.request.source : ADDRESSES_ANNOTATION;
  const families = asked.families.families;
  if (!families.includes(familyOf(ip))) {
    return impossible(
      'family-unavailable',
      `${source} asks for ${ip}, but the Service is ${families.join(' and ')} only (spec.ipFamilies, spec.ipFamilyPolicy)`,
    );
  }
  const unusable = unusableReason(ip);
  if (unusable !== undefined) {
    return impossible('address-unusable', `${source} asks for ${ip}, which no Service can have: ${unusable}`);
  }
  const place = locate(pools, ip);
  if (!isInPool(place)) {
    return impossible(
      'address-not-in-pool',
      `${source} asks for ${ip}, which is in no pool; ${knownPools(pools)}`,
    );
  }
  if (named !== undefined && place.range.pool !== named) {
    return impossible(
      'address-not-in-pool',
      `${source} asks for ${ip} of pool "${place.range.pool.name}", but ${POOL_ANNOTATION} names "${named.name}"`,
    );
  }
  return { kind: 'exact', exact: place };
}

type Draft = Omit<Extract<Plan, { kind: 'possible' }>, 'kind' | 'sources'>;

/** Adds where the missing families come from: the pool of what is there already, so that one Service has one pool. */
function withSources(draft: Draft, named: Pool | undefined, pools: Pools): Plan {
  const { keep, exact, fill, need } = draft;
  if (fill.length === 0) return { kind: 'possible', ...draft, sources: [] };
  const home = named ?? homeOf(keep, exact);
  const fixed = keep.length + exact.length > 0;
  if (fixed && need === 'any') {
    // It has an address: the other family is taken where it is to be had, and not searched for.
    const offered = home === undefined ? [] : fill.filter((family) => home.ranges[family].length > 0);
    return { kind: 'possible', ...draft, fill: offered, sources: home === undefined ? [] : [home] };
  }
  const candidates = home === undefined ? pools.list.filter((pool) => pool.autoAssign) : [home];
  if (candidates.length === 0) return impossible('no-pool', noPoolReason(pools));
  const sources = candidates.filter((pool) =>
    need === 'all'
      ? fill.every((family) => pool.ranges[family].length > 0)
      : fill.some((family) => pool.ranges[family].length > 0),
  );
  if (sources.length === 0) return impossible('family-unavailable', noFamilyReason(fill, need, candidates));
  return { kind: 'possible', ...draft, sources };
}

function homeOf(keep: readonly Place[], exact: readonly PoolPlace[]): Pool | undefined {
  for (const { range } of [...exact, ...keep]) if (range !== undefined) return range.pool;
  return undefined;
}

function impossible(code: RefusalCode, reason: string): Extract<Plan, { kind: 'impossible' }> {
  return { kind: 'impossible', refusal: { code, reason } };
}

function unknownPool(name: string, pools: Pools): Plan {
  return impossible(
    'unknown-pool',
    `${POOL_ANNOTATION} names ${quote(name)}, which is no pool; ${knownPools(pools)}`,
  );
}

const POOLS_NAMED = 8;

function knownPools(pools: Pools): string {
  if (pools.list.length === 0) return 'no pool is configured';
  return pools.list.length === 1
    ? `the one pool is ${poolNames(pools.list)}`
    : `the pools are ${poolNames(pools.list)}`;
}

function noPoolReason(pools: Pools): string {
  if (pools.list.length === 0) return 'no pool is configured: add a [[pool]] with addresses';
  return `every pool has auto_assign = false: name one with ${POOL_ANNOTATION}; ${knownPools(pools)}`;
}

function noFamilyReason(fill: readonly Family[], need: 'all' | 'any', candidates: readonly Pool[]): string {
  const families = fill.join(need === 'all' ? ' and ' : ' or ');
  if (candidates.length === 1 && candidates[0] !== undefined) {
    return `${describePool(candidates[0])} has no ${families} addresses, which the Service needs`;
  }
  return `no pool has ${families} addresses, which the Service needs; searched were ${poolNames(candidates)}`;
}

/** The names, bounded. */
function poolNames(pools: readonly Pool[]): string {
  const names = pools.slice(0, POOLS_NAMED).map((pool) => `"${pool.name}"`);
  if (pools.length > POOLS_NAMED) names.push(`${pools.length - POOLS_NAMED} more`);
  return names.join(', ');
}
