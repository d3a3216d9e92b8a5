import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import type { SimHost } from './host.ts';
import { World, type WorldOptions } from './world.ts';

/** What the scenarios have in common: a cluster that is at rest, and how often to try. */

/** `LBD_SIM=full` runs as many seeds as the figures ask for; by default there are fewer, and always the same. */
export const IS_FULL = process.env['LBD_SIM'] === 'full';
/** `LBD_SIM_SEED=7` runs that seed alone: what a failure prints. */
const ONLY_SEED = process.env['LBD_SIM_SEED'];

export function seeds(full: number, quick: number): readonly number[] {
  if (ONLY_SEED !== undefined) return [Number(ONLY_SEED)];
  return Array.from({ length: IS_FULL ? full : quick }, (_, index) => index + 1);
}

/** As many times as it says, in one world. */
export function times(full: number, quick: number): readonly undefined[] {
  return Array.from({ length: IS_FULL ? full : quick }, () => undefined);
}

/** Runs a scenario with each seed; what fails says with which, and how to see it again. */
export function forSeeds(runs: readonly number[], scenario: (seed: number) => void): void {
  for (const seed of runs) {
    try {
      scenario(seed);
    } catch (error) {
      const again = `LBD_SIM_SEED=${seed} runs it again`;
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error} (${again})`, {
        cause: error,
      });
    }
  }
}

export function vips(count: number): readonly Ip[] {
  return Array.from({ length: count }, (_, index) => ipFromNumber('v4', BigInt(0x0ac80000 + index)));
}

export type Cluster = { readonly world: World; readonly ips: readonly Ip[]; readonly first: Ip };

const START_MS = 3_500;
const START_LIMIT_MS = 20_000;
/** How long a phase of periodic things is, so that what happens meets each of their states. */
const PHASE_MS = 500;

export type ClusterOptions = WorldOptions & {
  readonly addresses: number;
  /** What is so before any lbd starts. */
  readonly before?: (world: World) => void;
};

/** Hosts that all run lbd, every address held by exactly one, at a random phase of what is periodic. */
export function clusterAtRest(options: ClusterOptions): Cluster {
  const world = new World(options);
  options.before?.(world);
  const ips = vips(options.addresses);
  world.want(ips);
  for (const host of world.hosts) host.start(seedsOf(world));
  world.run(START_MS);
  world.runUntil(() => ips.every((ip) => isHeldByOne(world, ip)), START_LIMIT_MS, 10);
  world.run(world.random() * PHASE_MS);
  world.measure();
  const [first] = ips;
  if (first === undefined) throw new Error('a cluster without addresses');
  return { world, ips, first };
}

/** The hosts that all know by configuration. */
export function seedsOf(world: World): readonly SimHost[] {
  return world.hosts.slice(0, 3);
}

/** Whether every client gets an answer, and from the same one host. */
export function isHeldByOne(world: World, ip: Ip): boolean {
  const holder = world.client.judge.holder(ip);
  return holder !== undefined && world.clients.every((client) => client.judge.holder(ip) === holder);
}

export function ownerOf(world: World, ip: Ip): SimHost {
  const holder = world.client.judge.holder(ip);
  if (holder === undefined) {
    const answering = [...world.client.judge.record(ip).answering].join(', ');
    throw new Error(`seed ${world.seed}, ${world.now} ms: ${ip} is answered by [${answering}]`);
  }
  return world.host(holder);
}

/** Who owns each address. */
export function ownersOf({ world, ips }: Cluster): ReadonlyMap<Ip, SimHost> {
  return new Map(ips.map((ip) => [ip, ownerOf(world, ip)]));
}

/** How often each address was claimed anew, by any host, from now on. */
export function countClaims(world: World): ReadonlyMap<Ip, number> {
  const counts = new Map<Ip, number>();
  world.onReport = (_host, report) => {
    if (report.kind === 'claimed') counts.set(report.claim.ip, (counts.get(report.claim.ip) ?? 0) + 1);
  };
  return counts;
}

/** All that run know the same claims, and each address is held by the one that they say. */
export function disagreement({ world, ips }: Cluster): string | undefined {
  let digest: number | undefined;
  for (const { process, name } of world.hosts) {
    if (process === undefined) continue;
    const claims = process.election.ownership.claims();
    digest ??= claims.digest();
    if (claims.digest() !== digest) return `${name} knows other claims`;
    for (const ip of ips) {
      const holder = world.client.judge.holder(ip);
      const owner = claims.get(ip)?.owner;
      if (holder === undefined || owner !== world.host(holder).name)
        return `${name}: ${ip} is of ${owner}, and answered by ${holder === undefined ? 'not one' : world.host(holder).name}`;
    }
  }
  return undefined;
}

export function ownedBy(cluster: Cluster, host: SimHost): readonly Ip[] {
  return cluster.ips.filter((ip) => cluster.world.client.judge.holder(ip) === host.index);
}

/** The longest time over the addresses and clients, of what `measure` says of one. */
export function longest(
  { world }: Cluster,
  ips: readonly Ip[],
  measure: 'longestGapMs' | 'longestDoubleMs' | 'longestUnservedMs' | 'longestStaleMs',
): number {
  let found = 0;
  for (const client of world.clients) {
    for (const ip of ips) {
      const isOfCache = measure === 'longestUnservedMs' || measure === 'longestStaleMs';
      const ms = isOfCache ? client[measure](ip) : client.judge[measure](ip);
      if (ms > found) found = ms;
    }
  }
  return found;
}

/** The most times that any of the addresses went from one host to another. */
export function mostMoves({ world }: Cluster, ips: readonly Ip[]): number {
  return Math.max(...ips.map((ip) => world.client.judge.record(ip).moves));
}

export function percentile(samples: readonly number[], fraction: number): number {
  const sorted = [...samples].sort((left, right) => left - right);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)] ?? Number.NaN;
}

/** `p50 …, p99 …, max …` in ms. */
export function spread(samples: readonly number[]): string {
  const [p50, p99, max] = [0.5, 0.99, 1].map((fraction) => percentile(samples, fraction).toFixed(0));
  return `p50 ${p50}, p99 ${p99}, max ${max} ms (${samples.length} times)`;
}

/** A switch starts again: ports come up in random order over 5 s. Returns after how long each host has its own back, in ms. */
export function comeBack(cluster: Cluster, owners: ReadonlyMap<Ip, SimHost>): number {
  const { world } = cluster;
  const backAt = world.now;
  for (const host of world.hosts)
    world.queue.in(5_000 * world.random(), () => world.lan.setPort(host.port, { up: true }));
  world.run(5_000);
  world.runUntil(() => haveTheirOwn(cluster, owners), 10_000, 5);
  return world.now - backAt;
}

export function haveTheirOwn({ world, ips }: Cluster, owners: ReadonlyMap<Ip, SimHost>): boolean {
  return ips.every((ip) => world.client.judge.holder(ip) === owners.get(ip)?.index);
}
