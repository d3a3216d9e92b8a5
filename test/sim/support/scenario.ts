import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import type { SimHost } from './host.ts';
import { World, type WorldOptions } from './world.ts';

/** What the scenarios have in common: a cluster that is at rest, and how often to try. */

/** `LBD_SIM=full` runs as many seeds as the figures ask for; by default there are fewer, and always the same. */
const IS_FULL = process.env['LBD_SIM'] === 'full';

export function seeds(full: number, quick: number): readonly number[] {
  return Array.from({ length: IS_FULL ? full : quick }, (_, index) => index + 1);
}

export function vips(count: number): readonly Ip[] {
  return Array.from({ length: count }, (_, index) => ipFromNumber('v4', BigInt(0x0ac80000 + index)));
}

export type Cluster = { readonly world: World; readonly ips: readonly Ip[]; readonly first: Ip };

const START_MS = 3_500;
const START_LIMIT_MS = 20_000;
/** How long a phase of periodic things is, so that what happens meets each of their states. */
const PHASE_MS = 500;

/** Hosts that all run lbd, every address held by exactly one, at a random phase of what is periodic. */
export function clusterAtRest(options: WorldOptions & { readonly addresses: number }): Cluster {
  const world = new World(options);
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

export function ownedBy(cluster: Cluster, host: SimHost): readonly Ip[] {
  return cluster.ips.filter((ip) => cluster.world.client.judge.holder(ip) === host.index);
}

/** The longest time over the addresses and clients, of what `measure` says of one. */
export function longest(
  { world }: Cluster,
  ips: readonly Ip[],
  measure: 'longestGapMs' | 'longestDoubleMs' | 'longestUnservedMs',
): number {
  let found = 0;
  for (const client of world.clients) {
    for (const ip of ips) {
      const ms = measure === 'longestUnservedMs' ? client.longestUnservedMs(ip) : client.judge[measure](ip);
      if (ms > found) found = ms;
    }
  }
  return found;
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
