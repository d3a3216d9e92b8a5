import type { Family, Ip } from '../lib/ip.ts';
import type { Ledger } from './ledger.ts';
import { type Member, memberAt, type Pool, type PoolPlace, type Range } from './pools.ts';
import type { Verdict } from './types.ts';

/** An address that a Service could get now; `asking` while the wire has not been asked about it. */
export type Candidate = { readonly place: PoolPlace; readonly asking: boolean };

/** Blocked addresses passed over in one pool and family. Overflow: the search ends, and the refusal says so. */
export const BLOCKED_TRIES = 4_096;
/** Blocked addresses remembered per pool. Overflow: the further ones are passed over without being listed. */
export const BLOCKED_LISTED = 64;

type Blocked = { readonly ip: Ip; readonly reason: string };

/**
 * The lowest free address of each pool and family. Within one run addresses are only taken, so a search only moves up;
 * it costs what is used and blocked below the answer, never the size of the pool.
 */
export class Candidates {
  readonly #ledger: Ledger;
  readonly #verdict: (ip: Ip) => Verdict;
  readonly #searches = new Map<Pool, Readonly<Record<Family, Search>>>();
  readonly #blocked = new Map<Pool, Map<Ip, string>>();

  constructor(ledger: Ledger, verdict: (ip: Ip) => Verdict) {
    this.#ledger = ledger;
    this.#verdict = verdict;
  }

  /** What a Service that needs an address of this pool gets. */
  lowest(pool: Pool, family: Family): Candidate | undefined {
    const search = this.#search(pool, family);
    return search.next(search.position);
  }

  /** The next `count` addresses that Services to come would get. */
  ahead(pool: Pool, family: Family, count: number): Ip[] {
    const search = this.#search(pool, family);
    const position = { ...search.position };
    const found: Ip[] = [];
    while (found.length < count) {
      const candidate = search.next(position);
      if (candidate === undefined) break;
      found.push(candidate.place.ip);
      position.offset += 1;
    }
    return found;
  }

  /** What speaks against one address: a rule, the wire or this host. */
  judge({ ip, range, unusable }: Member): Verdict {
    const verdict: Verdict =
      unusable === undefined ? this.#verdict(ip) : { kind: 'blocked', reason: unusable };
    if (verdict.kind === 'blocked') this.#list(range.pool, ip, verdict.reason);
    return verdict;
  }

  /** Addresses that were passed over, lowest first as far as one search met them. */
  blocked(pool: Pool): readonly Blocked[] {
    return [...(this.#blocked.get(pool) ?? [])].map(([ip, reason]) => ({ ip, reason }));
  }

  /** The first address of the pool that was passed over, as an example for a message. */
  firstBlocked(pool: Pool): Blocked | undefined {
    const first = this.#blocked.get(pool)?.entries().next();
    return first === undefined || first.done ? undefined : { ip: first.value[0], reason: first.value[1] };
  }

  /** Whether a search ended because too many addresses in a row of the pool were blocked. */
  gaveUp(pool: Pool): boolean {
    const searches = this.#searches.get(pool);
    if (searches === undefined) return false;
    return searches.v4.position.blocked >= BLOCKED_TRIES || searches.v6.position.blocked >= BLOCKED_TRIES;
  }

  #list(pool: Pool, ip: Ip, reason: string): void {
    const known = this.#blocked.get(pool);
    if (known === undefined) this.#blocked.set(pool, new Map([[ip, reason]]));
    else if (known.size < BLOCKED_LISTED) known.set(ip, reason);
  }

  #search(pool: Pool, family: Family): Search {
    const known = this.#searches.get(pool);
    if (known !== undefined) return known[family];
    const created = {
      v4: new Search(pool.ranges.v4, this.#ledger, this),
      v6: new Search(pool.ranges.v6, this.#ledger, this),
    };
    this.#searches.set(pool, created);
    return created[family];
  }
}

type Position = { range: number; offset: number; blocked: number };

class Search {
  readonly position: Position = { range: 0, offset: 0, blocked: 0 };
  readonly #ranges: readonly Range[];
  readonly #ledger: Ledger;
  readonly #judge: Pick<Candidates, 'judge'>;

  constructor(ranges: readonly Range[], ledger: Ledger, judge: Pick<Candidates, 'judge'>) {
    this.#ranges = ranges;
    this.#ledger = ledger;
    this.#judge = judge;
  }

  /** Moves `position` up to the first address that can be given, and returns that. */
  next(position: Position): Candidate | undefined {
    for (; position.range < this.#ranges.length; position.range += 1, position.offset = 0) {
      const range = this.#ranges[position.range];
      if (range === undefined) return undefined;
      for (; position.offset < range.count; position.offset += 1) {
        position.offset = this.#ledger.nextFree(range, position.offset);
        if (position.offset >= range.count) break;
        const member = memberAt(range, position.offset);
        if (this.#ledger.has(member)) continue;
        if (position.blocked >= BLOCKED_TRIES) return undefined;
        const verdict = this.#judge.judge(member);
        if (verdict.kind !== 'blocked') return { place: member, asking: verdict.kind === 'unknown' };
        position.blocked += 1;
      }
    }
    return undefined;
  }
}
