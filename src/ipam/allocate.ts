import type { PoolConfig } from '../config/types.ts';
import type { Service } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';
import { Candidates } from './candidates.ts';
import { type Claimant, claimantsOf } from './claimant.ts';
import { byPrecedence, decide, type Pending, pendingOf } from './decide.ts';
import { Ledger } from './ledger.ts';
import { compilePools, familyOfPool, type Pools } from './pools.ts';
import type { Allocation, PoolUsage, Verdict } from './types.ts';

/**
 * Which Service has which addresses: worked out whole, from what the Services and their status say, each time anything
 * changes. There is no other memory, so that a restart, another allocator or a second run come to the same end.
 *
 *   1. what status says is kept (claimant.ts, plan.ts), conflicts go to the older Service (ledger.ts)
 *   2. the Services that lack something, those that name an address first, then by age, choose (decide.ts, choose.ts)
 *      among shared addresses (sharing.ts) and the lowest free ones (candidates.ts)
 *
 * Two rules for the caller. While a status write is under way, what it says has to stand in the Service's ingress
 * before what stands there already: otherwise another Service may be given the new address, or the old one, which is
 * not given back until the API server says so. And `pools` and the Services have to be the same objects as long as
 * they say the same, because what is read from them is remembered per object.
 */
export function allocate(input: AllocationInput): AllocationResult {
  const pools = compilePools(input.pools);
  const ledger = new Ledger(pools);
  const candidates = new Candidates(ledger, input.verdict);
  const allocations: Allocation[] = [];
  const owners: Claimant[] = [];
  for (const claimant of claimantsOf(input.services, pools, input.loadBalancerClass)) {
    if (claimant.role === 'owner') {
      ledger.claim(claimant);
      owners.push(claimant);
    } else if (claimant.role === 'stranger') {
      ledger.claimStranger(claimant);
      if (claimant.decided !== undefined) allocations.push(claimant.decided);
    }
  }
  const disputes = ledger.resolve();
  const pending: Pending[] = [];
  for (const claimant of owners) {
    const dispute = disputes.size === 0 ? undefined : disputes.get(claimant);
    if (claimant.decided !== undefined && dispute === undefined) allocations.push(claimant.decided);
    else pending.push(pendingOf(claimant, dispute, pools));
  }
  pending.sort(byPrecedence);
  const asking: Ip[] = [];
  for (const each of pending) {
    const allocation = decide(each, ledger, candidates);
    if (allocation === undefined) continue;
    allocations.push(allocation);
    if (allocation.kind === 'probing') for (const ip of allocation.asking) asking.push(ip);
  }
  const probeAhead = addressesToProbe(pools, candidates, asking, input.probeAheadCount);
  return { allocations, usage: usageOf(pools, ledger, candidates), probeAhead };
}

export type AllocationInput = {
  readonly pools: readonly PoolConfig[];
  /** In any order, each Service once. */
  readonly services: Iterable<Service>;
  /** Services of this class are ours; undefined means those without class. */
  readonly loadBalancerClass: string | undefined;
  /** Asked only about addresses that no Service has. The same answer for the same address throughout one call. */
  readonly verdict: (ip: Ip) => Verdict;
  /** Free addresses to be probed ahead, per pool and family. */
  readonly probeAheadCount: number;
};

export type AllocationResult = {
  /** Settled and released ones first, in input order; the others in the order in which they chose. */
  readonly allocations: readonly Allocation[];
  /** In configuration order. */
  readonly usage: readonly PoolUsage[];
  /**
   * What the wire should be asked about, most urgent first, each once, at most `PROBE_AHEAD_LIMIT`: what is chosen and
   * unknown, what Services to come would get, and what is blocked, so that its end is noticed.
   */
  readonly probeAhead: readonly Ip[];
};

/** Overflow: the least urgent are left out, and probed when a Service gets that far. */
export const PROBE_AHEAD_LIMIT = 4_096;

function addressesToProbe(
  pools: Pools,
  candidates: Candidates,
  asking: readonly Ip[],
  count: number,
): readonly Ip[] {
  const wanted = new Set(asking);
  for (const pool of pools.list) {
    if (wanted.size >= PROBE_AHEAD_LIMIT) break;
    for (const ip of candidates.ahead(pool, 'v4', count)) wanted.add(ip);
    for (const ip of candidates.ahead(pool, 'v6', count)) wanted.add(ip);
  }
  for (const pool of pools.list) for (const { ip } of candidates.blocked(pool)) wanted.add(ip);
  return wanted.size <= PROBE_AHEAD_LIMIT ? [...wanted] : [...wanted].slice(0, PROBE_AHEAD_LIMIT);
}

function usageOf(pools: Pools, ledger: Ledger, candidates: Candidates): PoolUsage[] {
  return pools.list.map((pool) => ({
    name: pool.name,
    addresses: pool.addresses,
    family: familyOfPool(pool),
    size: String(pool.sizes.v4 + pool.sizes.v6),
    allocated: ledger.allocated(pool),
    blocked: candidates.blocked(pool),
  }));
}
