import {
  compareIps,
  familyOf,
  formatRange,
  type IpRange,
  parseRange,
  rangeSize,
  rangesOverlap,
  unusableReason,
} from '../lib/ip.ts';
import { type KeyPath, quote } from './problem.ts';

/** Twenty bits of IPv4 addresses: beyond it, a prefix length is more likely mistyped than meant. */
const LARGE_V4_POOL = 1n << 20n;

export type PoolProblem = {
  readonly severity: 'error' | 'warning';
  readonly path: KeyPath;
  readonly message: string;
};

/** How a message names the other side: its key, and where that is. */
export type Places = {
  readonly key: (path: KeyPath) => string;
  readonly place: (path: KeyPath) => string;
};

/** One element of a pool's `addresses` that is right in itself. */
type Entry = {
  readonly path: KeyPath;
  readonly pool: number;
  readonly text: string;
  readonly range: IpRange;
};

/**
 * What is wrong among pools rather than within one value: names and addresses given twice, addresses no Service can
 * have. Takes the document before it is checked, so that these show together with whatever else is wrong; what has not
 * the right shape is passed over here. Never enumerates a range.
 */
export function poolProblems(pools: unknown, places: Places): readonly PoolProblem[] {
  if (!Array.isArray(pools)) return [];
  const entries = pools.flatMap((pool, index) => entriesOf(pool, index));
  return [
    ...repeatedNames(pools, places),
    ...overlaps(entries, (index) => nameOf(pools[index]), places),
    ...entries.flatMap(unusableAddresses),
    ...largePools(entries),
  ];
}

function entriesOf(pool: unknown, index: number): readonly Entry[] {
  const addresses = field(pool, 'addresses');
  if (!Array.isArray(addresses)) return [];
  return addresses.flatMap((text: unknown, position) => {
    const range = typeof text === 'string' ? parseRange(text) : undefined;
    if (typeof text !== 'string' || !range?.ok) return [];
    return [{ path: ['pool', index, 'addresses', position], pool: index, text, range: range.value }];
  });
}

function repeatedNames(pools: readonly unknown[], { key, place }: Places): readonly PoolProblem[] {
  const first = new Map<string, number>();
  return pools.flatMap((pool, index) => {
    const name = nameOf(pool);
    if (name === undefined) return [];
    const owner = first.get(name);
    if (owner === undefined) {
      first.set(name, index);
      return [];
    }
    const path = ['pool', owner, 'name'];
    const message = `expected a name of its own, got ${quote(name)}, which is ${key(path)} on ${place(path)} too`;
    return [{ severity: 'error', path: ['pool', index, 'name'], message }];
  });
}

/** Each entry against the one before it that reaches furthest: as many messages as entries to correct, not as pairs. */
function overlaps(
  entries: readonly Entry[],
  poolName: (index: number) => string | undefined,
  places: Places,
): readonly PoolProblem[] {
  const problems: PoolProblem[] = [];
  let reach: Entry | undefined;
  for (const entry of entries.toSorted((left, right) => compareIps(left.range.first, right.range.first))) {
    if (reach !== undefined && rangesOverlap(reach.range, entry.range)) {
      problems.push(overlap(reach, entry, poolName, places));
    }
    if (reach === undefined || compareIps(entry.range.last, reach.range.last) > 0) reach = entry;
  }
  return problems;
}

function overlap(
  left: Entry,
  right: Entry,
  poolName: (index: number) => string | undefined,
  { key, place }: Places,
): PoolProblem {
  const [earlier, later] = comparePaths(left, right) < 0 ? [left, right] : [right, left];
  const shared = {
    first: right.range.first,
    last: compareIps(left.range.last, right.range.last) < 0 ? left.range.last : right.range.last,
  };
  const same = earlier.pool === later.pool;
  const name = (entry: Entry): string => {
    const known = poolName(entry.pool);
    return known === undefined ? key(['pool', entry.pool]) : `pool ${quote(known)}`;
  };
  const expected = same ? 'expected each address once' : 'expected addresses that are in no other pool';
  const other = `${quote(earlier.text)} of ${same ? 'the same pool' : name(earlier)} on ${place(earlier.path)}`;
  const message = `${expected}, got ${quote(later.text)} of ${name(later)}, which shares ${formatRange(shared)} with ${other}`;
  return { severity: 'error', path: later.path, message };
}

function comparePaths(left: Entry, right: Entry): number {
  return left.pool - right.pool || Number(left.path.at(-1)) - Number(right.path.at(-1));
}

function unusableAddresses(entry: Entry): readonly PoolProblem[] {
  const { first, last } = entry.range;
  const [firstReason, lastReason] = [unusableReason(first), unusableReason(last)];
  if (firstReason === undefined && lastReason === undefined) return [];
  const which = firstReason === undefined ? last : first;
  const why = `${which} cannot be given to a Service, ${firstReason ?? lastReason}`;
  const message = `expected addresses that a Service can have, got ${quote(entry.text)}: ${why}`;
  // The blocks are contiguous and each has its own reason, so equal reasons at both ends mean that nothing is left.
  if (firstReason === lastReason) return [{ severity: 'error', path: entry.path, message }];
  return [{ severity: 'warning', path: entry.path, message: `${message}; such addresses are skipped` }];
}

function largePools(entries: readonly Entry[]): readonly PoolProblem[] {
  const sizes = new Map<number, bigint>();
  for (const { pool, range } of entries) {
    if (familyOf(range.first) === 'v4') sizes.set(pool, (sizes.get(pool) ?? 0n) + rangeSize(range));
  }
  return [...sizes].flatMap(([pool, size]) => {
    if (size <= LARGE_V4_POOL) return [];
    const message = `expected at most ${LARGE_V4_POOL} IPv4 addresses, got ${size}; is a prefix length mistyped?`;
    return [{ severity: 'warning', path: ['pool', pool, 'addresses'], message }];
  });
}

function nameOf(pool: unknown): string | undefined {
  const name = field(pool, 'name');
  return typeof name === 'string' ? name : undefined;
}

function field(table: unknown, key: string): unknown {
  if (typeof table !== 'object' || table === null || !Object.hasOwn(table, key)) return undefined;
  return (table as Record<string, unknown>)[key];
}
