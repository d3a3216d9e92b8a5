import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SimHost } from './support/host.ts';
import { cutInTwo, type HealFigures } from './support/partition.ts';
import {
  type Cluster,
  clusterAtRest,
  forSeeds,
  haveTheirOwn,
  IS_FULL,
  isHeldByOne,
  longest,
  mostMoves,
  ownerOf,
  ownersOf,
  percentile,
  seeds,
  spread,
} from './support/scenario.ts';
import type { World } from './support/world.ts';

/** Scenarios 7 and 8: some reach some, and not others. */
describe('a host that', () => {
  test('is deaf lets go, claims nothing, and the others take over', () => {
    forSeeds(seeds(100, 20), (seed) => {
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10 });
      const { world, ips } = cluster;
      const deaf = ownerOf(world, cluster.first);
      const seen = follow(world, [deaf]);
      world.lan.setPort(deaf.port, { hears: false });
      world.run(3_000);
      for (const ip of ips) {
        assert.ok(isHeldByOne(world, ip), ip);
        assert.notEqual(ownerOf(world, ip), deaf);
      }
      assert.ok(ips.every((ip) => !deaf.kernel.has(ip)));
      assert.ok(longest(cluster, ips, 'longestDoubleMs') <= 50);
      assert.deepEqual(seen.deaths, []);
      assert.ok(!seen.claimers.has(deaf.name), 'who cannot hear claimed');
    });
  });

  test('is mute is replaced, and drops nobody', () => {
    forSeeds(seeds(100, 20), (seed) => {
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10 });
      const { world, ips } = cluster;
      const mute = ownerOf(world, cluster.first);
      const seen = follow(world, [mute]);
      world.lan.setPort(mute.port, { speaks: false });
      world.run(3_000);
      for (const ip of ips) assert.notEqual(ownerOf(world, ip), mute, ip);
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
      assert.deepEqual(seen.deaths, []);
      assert.ok(!seen.claimers.has(mute.name), 'who is not heard claimed');
    });
  });

  test('comes back and hears others takes nothing back before it is heard as well', () => {
    forSeeds(seeds(100, 20), (seed) => {
      const cluster = clusterAtRest({ seed, hosts: 3 + (seed % 3), addresses: 10 });
      const { world } = cluster;
      const owners = ownersOf(cluster);
      const mute = ownerOf(world, cluster.first);
      for (const { port } of world.hosts) world.lan.setPort(port, { up: false });
      world.run(2_000);
      world.lan.setPort(mute.port, { speaks: false });
      for (const { port } of world.hosts) world.lan.setPort(port, { up: true });
      world.run(300 + 500 * world.random());
      assert.equal(mute.process?.election.grants().size, 0, 'it asked for addresses while nobody heard it');
      world.lan.setPort(mute.port, { speaks: true });
      world.run(500);
      assert.ok(haveTheirOwn(cluster, owners), 'not taken back');
      world.run(5_000);
      assert.equal(longest(cluster, cluster.ips, 'longestDoubleMs'), 0);
    });
  });

  for (const ways of [1, 2]) {
    test(`does not reach one other one, ${ways === 1 ? 'one way' : 'both ways'}, stays, and so does that one`, () => {
      forSeeds(seeds(100, 20), (seed) => {
        const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10 });
        const { world } = cluster;
        const first = ownerOf(world, cluster.first);
        const second = world.hosts.find((host) => host !== first) ?? first;
        const seen = follow(world, []);
        world.lan.block(first.port, second.port);
        if (ways === 2) world.lan.block(second.port, first.port);
        world.run(30_000);
        assertNothing(cluster, seen);
      });
    });
  }

  test('is the only bridge between two halves keeps them together', () => {
    forSeeds(seeds(100, 20), (seed) => {
      const cluster = clusterAtRest({ seed, hosts: 7, addresses: 14 });
      const { world } = cluster;
      const seen = follow(world, []);
      for (const left of world.hosts.slice(0, 3))
        for (const right of world.hosts.slice(4)) {
          world.lan.block(left.port, right.port);
          world.lan.block(right.port, left.port);
        }
      world.run(30_000);
      assertNothing(cluster, seen);
    });
  });
});

describe('a segment cut in two', () => {
  for (const { hosts, minutes, runs } of [
    { hosts: 10, minutes: 10, runs: seeds(20, 3) },
    { hosts: 100, minutes: IS_FULL ? 10 : 2, runs: seeds(3, 1) },
  ]) {
    test(`for ${minutes} min, with ${hosts} hosts, heals by itself: one view, one owner each`, (t) => {
      const figures: HealFigures = { healed: [], doubles: [] };
      forSeeds(runs, (seed) => {
        const cluster = clusterAtRest({ seed, hosts, addresses: 40, clients: 2 });
        cutInTwo(cluster, minutes * 60_000, figures);
      });
      t.diagnostic(`healed after ${spread(figures.healed)}`);
      t.diagnostic(`two answered for ${spread(figures.doubles)}`);
      assert.ok(percentile(figures.healed, 1) <= 10_000, spread(figures.healed));
    });
  }
});

type Seen = {
  /** Healthy members that were declared dead by healthy ones; a suspicion that is refuted in time is how SWIM works. */
  readonly deaths: string[];
  readonly claimers: Set<string>;
};

/** What is reported from now on, at any time. */
function follow(world: World, ill: readonly SimHost[]): Seen {
  const seen: Seen = { deaths: [], claimers: new Set() };
  const isIll = (name: string): boolean => ill.some((host) => host.name === name);
  world.onReport = (host, report) => {
    if (report.kind === 'claimed') seen.claimers.add(host.name);
    if (report.kind === 'died' && !isIll(host.name) && !isIll(report.member.name))
      seen.deaths.push(`${report.member.name} to ${host.name}`);
  };
  return seen;
}

function assertNothing(cluster: Cluster, { deaths, claimers }: Seen): void {
  const { ips } = cluster;
  assert.deepEqual(deaths, []);
  assert.deepEqual([...claimers], []);
  assert.equal(mostMoves(cluster, ips), 0);
  assert.equal(longest(cluster, ips, 'longestGapMs'), 0);
  assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
}
