import assert from 'node:assert/strict';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Cluster, disagreement, isHeldByOne, longest } from './scenario.ts';
import type { World } from './world.ts';

/** A segment whose halves do not hear each other for a while, and what comes after. */

export type HealFigures = { readonly healed: number[]; readonly doubles: number[] };

/** One view and one owner per address are due so long after the segment is whole again. */
const HEALED_WITHIN_MS = 10_000;

/** Each half serves every address so long after the cut. */
const SERVED_WITHIN_MS = 60_000;

/** The second half of the hosts goes with the second client, and comes back after `forMs`. */
export function cutInTwo(cluster: Cluster, forMs: number, { healed, doubles }: HealFigures): void {
  const { world, ips } = cluster;
  const ports = world.hosts.slice(world.hosts.length / 2).map((host) => host.port);
  const other = world.clients[1];
  assert.ok(other !== undefined, 'each half has a client');
  // Both halves serve what they want, which the clients in between learn at once when they are one again.
  world.invariants.limits = { ...world.invariants.limits, doubleMs: HEALED_WITHIN_MS };
  for (const port of [...ports, other.port]) world.lan.setPort(port, { group: 1 });
  // Of 1,000, one host in four has both its watchers in the other half: gossip has to find that out.
  const isServed = () =>
    world.clients.every((client) => ips.every((ip) => client.judge.holder(ip) !== undefined));
  world.run(forMs - Math.min(forMs, world.runUntil(isServed, SERVED_WITHIN_MS, 100)));
  const due = ownersByEpoch(cluster);
  for (const port of [...ports, other.port]) world.lan.setPort(port, { group: 0 });
  world.measure();
  const isHealed = () => ips.every((ip) => isHeldByOne(world, ip)) && allAlive(world);
  healed.push(world.runUntil(isHealed, 60_000, 10));
  world.run(5_000);
  assert.equal(disagreement(cluster), undefined);
  for (const [ip, owner] of due) {
    const found = world.hosts[0]?.process?.election.ownership.claims().get(ip)?.owner;
    assert.equal(found, owner, `${ip}: the higher epoch decides`);
  }
  for (const ip of ips) {
    for (const client of world.clients) assert.ok(client.isServed(ip), `${ip} is not served after the cut`);
  }
  doubles.push(longest(cluster, ips, 'longestDoubleMs'));
}

/** Who owns by the higher epoch of both halves what both claim, where these differ. */
function ownersByEpoch({ world, ips }: Cluster): ReadonlyMap<Ip, string | undefined> {
  const [left, right] = [world.hosts[0], world.hosts.at(-1)].map((host) =>
    host?.process?.election.ownership.claims(),
  );
  const owners = new Map<Ip, string | undefined>();
  for (const ip of ips) {
    const [one, other] = [left?.get(ip), right?.get(ip)];
    if (one === undefined || other === undefined || one.epoch === other.epoch) continue;
    owners.set(ip, (one.epoch > other.epoch ? one : other).owner);
  }
  assert.ok(owners.size > 0, 'the halves claim with different epochs');
  return owners;
}

export function allAlive(world: World): boolean {
  return world.hosts.every(({ process }) => {
    if (process === undefined) return true;
    for (const { state } of process.election.swim.members().values()) if (state !== 'alive') return false;
    return process.election.swim.members().size === world.hosts.length;
  });
}
