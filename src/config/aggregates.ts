import {
  compareIps,
  FAMILY_BITS,
  type Family,
  familyOf,
  formatPrefix,
  type IpRange,
  parseRange,
  prefixOf,
  prefixRange,
  rangesOverlap,
} from '../lib/ip.ts';
import type { Places, PoolProblem } from './pools.ts';
import { quote } from './problem.ts';

/** All that the aggregates of one pool and family cover, cut where that has gaps. */
type Cover = {
  readonly pool: number;
  readonly name: string;
  readonly family: Family;
  readonly length: number;
  readonly range: IpRange;
};

/**
 * What is doubtful among the aggregates of pools. As `poolProblems()`, it takes the document before it is checked and
 * passes over what has not the right shape. Never enumerates a range.
 */
export function aggregateProblems(pools: unknown, places: Places): readonly PoolProblem[] {
  if (!Array.isArray(pools)) return [];
  const covers = pools.flatMap((pool, index) => coversOf(pool, index));
  return [...missingFamilies(pools), ...overlaps(covers, places)];
}

/** An aggregate for addresses that the pool does not have. */
function missingFamilies(pools: readonly unknown[]): readonly PoolProblem[] {
  return pools.flatMap((pool, index) => {
    const ranges = rangesOf(pool);
    if (ranges.length === 0) return [];
    return (['v4', 'v6'] as const).flatMap((family): readonly PoolProblem[] => {
      if (lengthOf(pool, family) === undefined) return [];
      if (ranges.some(({ first }) => familyOf(first) === family)) return [];
      const message = `expected no ${family} in a pool without ${family === 'v4' ? 'IPv4' : 'IPv6'} addresses`;
      return [{ severity: 'warning', path: ['pool', index, 'aggregate', family], message }];
    });
  });
}

function coversOf(pool: unknown, index: number): readonly Cover[] {
  const name = field(pool, 'name');
  const covers: Cover[] = [];
  for (const range of rangesOf(pool).toSorted((left, right) => compareIps(left.first, right.first))) {
    const family = familyOf(range.first);
    const length = lengthOf(pool, family);
    if (length === undefined) continue;
    const { first } = prefixRange(prefixOf(range.first, length));
    const { last } = prefixRange(prefixOf(range.last, length));
    const before = covers.at(-1);
    if (before !== undefined && rangesOverlap(before.range, { first, last })) {
      const reach = compareIps(before.range.last, last) > 0 ? before.range.last : last;
      covers[covers.length - 1] = { ...before, range: { first: before.range.first, last: reach } };
    } else {
      const known = typeof name === 'string' ? name : String(index);
      covers.push({ pool: index, name: known, family, length, range: { first, last } });
    }
  }
  return covers;
}

/** Each pair of pools once. */
function overlaps(covers: readonly Cover[], places: Places): readonly PoolProblem[] {
  const found = new Map<string, PoolProblem>();
  let reach: Cover | undefined;
  for (const cover of covers.toSorted((left, right) => compareIps(left.range.first, right.range.first))) {
    if (reach !== undefined && reach.pool !== cover.pool && rangesOverlap(reach.range, cover.range)) {
      const [earlier, later] = reach.pool < cover.pool ? [reach, cover] : [cover, reach];
      const pair = `${earlier.pool} ${later.pool}`;
      if (!found.has(pair)) found.set(pair, overlap(earlier, later, cover, places));
    }
    if (reach === undefined || compareIps(cover.range.last, reach.range.last) > 0) reach = cover;
  }
  return [...found.values()];
}

function overlap(earlier: Cover, later: Cover, inner: Cover, { place }: Places): PoolProblem {
  const { family, length } = later;
  const [own, other] = [later, earlier].map((cover) =>
    formatPrefix(prefixOf(inner.range.first, cover.length)),
  );
  const consequence =
    earlier.length === length
      ? 'one route serves both, and stays until the last address of both is gone'
      : 'where both are routed, the longer prefix wins';
  const at = ['pool', later.pool, 'aggregate', family];
  const otherPlace = place(['pool', earlier.pool, 'aggregate', family]);
  const message =
    `expected an aggregate of its own, got ${length}, whose ${own} overlaps ${other} ` +
    `of pool ${quote(earlier.name)} on ${otherPlace}: ${consequence}`;
  return { severity: 'warning', path: at, message };
}

function rangesOf(pool: unknown): readonly IpRange[] {
  const addresses = field(pool, 'addresses');
  if (!Array.isArray(addresses)) return [];
  return addresses.flatMap((text: unknown) => {
    const range = typeof text === 'string' ? parseRange(text) : undefined;
    return range?.ok ? [range.value] : [];
  });
}

function lengthOf(pool: unknown, family: Family): number | undefined {
  const length = field(field(pool, 'aggregate'), family);
  if (typeof length !== 'number' || !Number.isInteger(length)) return undefined;
  return length >= 0 && length <= FAMILY_BITS[family] ? length : undefined;
}

function field(table: unknown, key: string): unknown {
  if (typeof table !== 'object' || table === null || !Object.hasOwn(table, key)) return undefined;
  return (table as Record<string, unknown>)[key];
}
