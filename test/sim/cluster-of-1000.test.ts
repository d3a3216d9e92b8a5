import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MemberName } from '../../src/election/types.ts';
import type { SimHost } from './support/host.ts';
import { cutInTwo, type HealFigures } from './support/partition.ts';
import {
  type Cluster,
  clusterAtRest,
  forSeeds,
  IS_FULL,
  longest,
  mostMoves,
  percentile,
  seeds,
  seedsOf,
  spread,
  times,
} from './support/scenario.ts';
import type { World } from './support/world.ts';

/**
 * Scenarios 1, 8 and the end of 9 with as many hosts as one cluster may have. A cold start of 1,000 is a million records
 * read: the quick run does it once and kills hosts, and cuts and rejoins 100.
 */
describe('of 1,000 hosts', () => {
  test('nobody dies while packets are lost; one dies, and all others agree on that', (t) => {
    const durations: number[] = [];
    forSeeds(seeds(4, 1), (seed) => {
      const cluster = clusterAtRest({ seed, hosts: 1_000, addresses: 500, clients: 2 });
      const { world } = cluster;
      loseSome(cluster, IS_FULL ? 60_000 : 5_000);
      for (const _ of times(10, 3)) {
        const victim = world.host(Math.floor(world.random() * world.hosts.length));
        victim.powerOff();
        durations.push(world.runUntil(() => agreeOnDeath(world, victim), 20_000, 20));
        victim.powerOn();
        victim.start(seedsOf(world));
        world.run(1_000 + 500 * world.random());
      }
    });
    t.diagnostic(`agreed after ${spread(durations)}`);
    assert.ok(percentile(durations, 1) <= 3_000, spread(durations));
  });

  test('halves heal; all rejoin at once, and nothing moves', (t) => {
    const figures: HealFigures = { healed: [], doubles: [] };
    forSeeds(seeds(2, 1), (seed) => {
      const hosts = IS_FULL ? 1_000 : 100;
      const cluster = clusterAtRest({ seed, hosts, addresses: 500, clients: 2 });
      const { world, ips } = cluster;
      cutInTwo(cluster, IS_FULL ? 600_000 : 20_000, figures);
      world.run(5_000);
      world.measure();
      for (const host of world.hosts) host.stopForRestart();
      world.run(200);
      for (const host of world.hosts) host.start(seedsOf(world));
      world.run(10_000);
      assert.equal(mostMoves(cluster, ips), 0, 'moved though everybody came back');
      assert.equal(longest(cluster, ips, 'longestGapMs'), 0);
    });
    t.diagnostic(`healed after ${spread(figures.healed)}; two answered for ${spread(figures.doubles)}`);
    assert.ok(percentile(figures.healed, 1) <= 10_000, spread(figures.healed));
  });
});

/** Scenario 4 in small; `loss.test.ts` has it for longer. */
function loseSome(cluster: Cluster, forMs: number): void {
  const { world, ips } = cluster;
  const { settings } = world.lan;
  const dead: string[] = [];
  world.onReport = (host, report) => {
    if (report.kind === 'died') dead.push(`${report.member.name} to ${host.name}`);
  };
  world.lan.settings = { ...settings, loss: 0.05 };
  world.run(forMs);
  world.lan.settings = settings;
  world.onReport = undefined;
  assert.deepEqual(dead, []);
  assert.equal(mostMoves(cluster, ips), 0, 'moved for lost packets');
  assert.equal(longest(cluster, ips, 'longestGapMs'), 0);
  assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
}

function agreeOnDeath(world: World, victim: SimHost): boolean {
  return world.hosts.every(({ process }) => {
    return process === undefined || process.election.swim.member(victim.name as MemberName)?.state === 'dead';
  });
}
