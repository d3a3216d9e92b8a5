import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { MemberName } from '../../src/election/types.ts';
import type { SimHost } from './support/host.ts';
import {
  type Cluster,
  clusterAtRest,
  forSeeds,
  longest,
  ownedBy,
  ownerOf,
  percentile,
  seeds,
  spread,
} from './support/scenario.ts';

/** Its own pauses break a take-over off, because silence during them says nothing: it begins again. */
const PAUSES = 3;
const SHORTEST_MS = 60;
const LONGEST_MS = 120;
/** They begin while the owner is missed, asked for, judged and replaced. */
const WITHIN_MS = 350;

describe('an heir that stands still for a moment, again and again, while it takes over', () => {
  for (const { hosts, runs } of [
    { hosts: 3, runs: seeds(1_000, 200) },
    { hosts: 10, runs: seeds(1_000, 50) },
  ]) {
    test(`of ${hosts}: the addresses are answered again in time, by one`, (t) => {
      const gaps: number[] = [];
      forSeeds(runs, (seed) => {
        const cluster = clusterAtRest({ seed, hosts, addresses: hosts });
        const { world, ips } = cluster;
        const owner = ownerOf(world, cluster.first);
        const owned = ownedBy(cluster, owner);
        const heir = heirOf(cluster, owner);
        owner.powerOff();
        let pauseMs = WITHIN_MS * world.random();
        for (let pause = 0; pause < PAUSES; pause++) {
          world.queue.in(pauseMs, () => heir.stopProcess());
          pauseMs += SHORTEST_MS + (LONGEST_MS - SHORTEST_MS) * world.random();
          world.queue.in(pauseMs, () => heir.continueProcess());
          pauseMs += 10 + 200 * world.random();
        }
        world.run(2_000);
        gaps.push(longest(cluster, owned, 'longestGapMs'));
        assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0, 'two answered');
      });
      t.diagnostic(`gap ${spread(gaps)}`);
      assert.ok(percentile(gaps, 1) <= 800, spread(gaps));
    });
  }
});

/** One of those who are to take what `owner` has. */
function heirOf({ world }: Cluster, owner: SimHost): SimHost {
  const other = world.hosts.find((host) => host !== owner);
  const names = other?.process?.election.ownership.heirsOf(owner.name as MemberName) ?? [];
  const heir = world.hosts.find(({ name }) => [...names].includes(name as MemberName));
  assert.ok(heir !== undefined, 'an heir');
  return heir;
}
