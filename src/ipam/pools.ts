import type { PoolConfig } from '../config/types.ts';
import { assert } from '../lib/assert.ts';
import {
  type Family,
  familyOf,
  type Ip,
  type IpRange,
  ipFromNumber,
  ipToNumber,
  unusableReason,
} from '../lib/ip.ts';

/** The pools of a configuration in the form that allocation reads: ranges sorted, sizes counted, nothing enumerated. */
export type Pools = {
  /** In configuration order. */
  readonly list: readonly Pool[];
  readonly byName: ReadonlyMap<string, Pool>;
  /** All ranges of all pools, v4 before v6, ascending; `Range.index` is the place in here. */
  readonly ranges: readonly Range[];
  readonly byFamily: Readonly<Record<Family, readonly Range[]>>;
};

export type Pool = {
  readonly index: number;
  readonly name: string;
  readonly autoAssign: boolean;
  /** As written, for messages. */
  readonly addresses: readonly string[];
  readonly ranges: Readonly<Record<Family, readonly Range[]>>;
  readonly sizes: Readonly<Record<Family, bigint>>;
};

export type Range = {
  readonly index: number;
  readonly pool: Pool;
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
  /** How many addresses can be reached by an offset: the size, or 2^53 - 1 where that is less. */
  readonly count: number;
  readonly members: Map<number, Member>;
};

/**
 * An address and where it is in the pools: `range` is undefined when it is in none (any more), `offset` counts from the
 * first address of the range, and is `count` where it exceeds that. One flat object, because 10,000 are read per run.
 */
export type Place = { readonly ip: Ip; readonly range: Range | undefined; readonly offset: number };

/** An address that is in a pool. */
export type PoolPlace = Place & { readonly range: Range };

/** An address of a pool, with what speaks against it on any network. */
export type Member = PoolPlace & { readonly unusable: string | undefined };

/** Overflow: the range's cache of texts starts anew. */
const MEMBERS_CACHED = 4_096;

const compiled = new WeakMap<readonly PoolConfig[], Pools>();

/** Remembered for the array it is given: the same configuration costs nothing the second time. */
export function compilePools(config: readonly PoolConfig[]): Pools {
  const known = compiled.get(config);
  if (known !== undefined) return known;
  const list = config.map(poolWithoutRanges);
  const ranges = config.flatMap((pool, index) => pool.ranges.map((range) => draftRange(range, list[index])));
  ranges.sort(compareDrafts);
  const sorted = ranges.map((draft, index): Range => ({ ...draft, index, members: new Map() }));
  for (const range of sorted) {
    const pool = list[range.pool.index];
    if (pool === undefined) continue;
    pool.ranges[range.family].push(range);
    pool.sizes[range.family] += range.last - range.first + 1n;
  }
  const pools: Pools = {
    list,
    byName: new Map(list.map((pool) => [pool.name, pool])),
    ranges: sorted,
    byFamily: {
      v4: sorted.filter((range) => range.family === 'v4'),
      v6: sorted.filter((range) => range.family === 'v6'),
    },
  };
  compiled.set(config, pools);
  return pools;
}

type GrowingPool = Pool & {
  readonly ranges: Record<Family, Range[]>;
  readonly sizes: Record<Family, bigint>;
};

function poolWithoutRanges(config: PoolConfig, index: number): GrowingPool {
  return {
    index,
    name: config.name,
    autoAssign: config.autoAssign,
    addresses: config.addresses,
    ranges: { v4: [], v6: [] },
    sizes: { v4: 0n, v6: 0n },
  };
}

type RangeDraft = Omit<Range, 'index' | 'members'>;

function draftRange(range: IpRange, pool: Pool | undefined): RangeDraft {
  assert(pool !== undefined, 'a range belongs to a pool');
  const first = ipToNumber(range.first);
  const last = ipToNumber(range.last);
  return { pool, family: familyOf(range.first), first, last, count: reachable(last - first + 1n) };
}

function compareDrafts(left: RangeDraft, right: RangeDraft): number {
  if (left.family !== right.family) return left.family === 'v4' ? -1 : 1;
  return left.first < right.first ? -1 : left.first > right.first ? 1 : 0;
}

function reachable(size: bigint): number {
  return size > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(size);
}

/** Where `ip` is in the pools. */
export function locate(pools: Pools, ip: Ip): Place {
  const value = ipToNumber(ip);
  const ranges = pools.byFamily[familyOf(ip)];
  let low = 0;
  let high = ranges.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const range = ranges[middle];
    if (range === undefined) break;
    if (value < range.first) high = middle - 1;
    else if (value > range.last) low = middle + 1;
    else return { ip, range, offset: offsetIn(range, value) };
  }
  return { ip, range: undefined, offset: 0 };
}

function offsetIn(range: Range, value: bigint): number {
  const offset = value - range.first;
  return offset < BigInt(range.count) ? Number(offset) : range.count;
}

/** The address at `offset` (below `range.count`). Remembered, because a v6 text costs microseconds. */
export function memberAt(range: Range, offset: number): Member {
  const known = range.members.get(offset);
  if (known !== undefined) return known;
  const ip = ipFromNumber(range.family, range.first + BigInt(offset));
  const member: Member = { ip, range, offset, unusable: unusableReason(ip) };
  if (range.members.size >= MEMBERS_CACHED) range.members.clear();
  range.members.set(offset, member);
  return member;
}

export function isInPool(place: Place): place is PoolPlace {
  return place.range !== undefined;
}

/** Ascending by number, v4 before v6. */
export function comparePlaces(left: PoolPlace, right: PoolPlace): number {
  return left.range.index - right.range.index || left.offset - right.offset;
}

/** `pool "web" (192.0.2.0/28, 16 addresses)`, for messages. */
export function describePool(pool: Pool): string {
  const size = pool.sizes.v4 + pool.sizes.v6;
  const listed = pool.addresses.slice(0, 4).join(', ') + (pool.addresses.length > 4 ? ', …' : '');
  return `pool "${pool.name}" (${listed}, ${size} ${size === 1n ? 'address' : 'addresses'})`;
}

export function familyOfPool(pool: Pool): 'v4' | 'v6' | 'dual' {
  if (pool.ranges.v6.length === 0) return 'v4';
  return pool.ranges.v4.length === 0 ? 'v6' : 'dual';
}
