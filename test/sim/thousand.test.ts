import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MemberName } from '../../src/election/types.ts';
import type { SimHost } from './support/host.ts';
import { clusterAtRest, percentile, seeds, seedsOf, spread } from './support/scenario.ts';
import type { World } from './support/world.ts';

/** Scenario 1, and what of 4, 8 and 9 needs as many hosts as one cluster may have. */
describe('of 1,000 hosts', () => {
  test('one dies, and all others agree on that within 3 s', (t) => {
    const { world } = clusterAtRest({ seed: 1, hosts: 1_000, addresses: 10 });
    const times: number[] = [];
    for (const _ of seeds(40, 4)) {
      const victim = world.host(Math.floor(world.random() * world.hosts.length));
      victim.powerOff();
      times.push(world.runUntil(() => agreeOnDeath(world, victim), 20_000, 20));
      victim.powerOn();
      victim.start(seedsOf(world));
      world.run(2_000 + 500 * world.random());
    }
    t.diagnostic(`agreed after ${spread(times)}`);
    assert.ok(percentile(times, 1) <= 3_000, spread(times));
  });
});

function agreeOnDeath(world: World, victim: SimHost): boolean {
  return world.hosts.every(({ process }) => {
    return process === undefined || process.election.swim.member(victim.name as MemberName)?.state === 'dead';
  });
}
