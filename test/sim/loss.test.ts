import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterAtRest, longest, mostMoves, ownerOf, seeds } from './support/scenario.ts';

const IS_FULL = seeds(2, 1).length === 2;

/** Scenario 4: packets get lost, and nothing happens. */
describe('5 % loss', () => {
  for (const { hosts, minutes } of [
    { hosts: 10, minutes: 60 },
    { hosts: 100, minutes: IS_FULL ? 60 : 6 },
    ...(IS_FULL ? [{ hosts: 1_000, minutes: 5 }] : []),
  ]) {
    test(`for ${minutes} min among ${hosts} hosts: nobody dies, nothing moves`, (t) => {
      const lan = { loss: 0.05 };
      const cluster = clusterAtRest({ seed: hosts, hosts, addresses: 100, lan });
      const { world, ips } = cluster;
      const owners = new Map(ips.map((ip) => [ip, ownerOf(world, ip)]));
      const counts = new Map<string, number>();
      world.onReport = (_host, { kind }) => counts.set(kind, (counts.get(kind) ?? 0) + 1);
      world.run(minutes * 60_000);
      t.diagnostic(`reports: ${[...counts].map(([kind, count]) => `${kind} ${count}`).join(', ') || 'none'}`);
      assert.equal(counts.get('died') ?? 0, 0);
      assert.equal(counts.get('isolated') ?? 0, 0);
      assert.equal(counts.get('claimed') ?? 0, 0);
      assert.equal(mostMoves(cluster, ips), 0);
      for (const [ip, owner] of owners) assert.equal(ownerOf(world, ip), owner);
      assert.equal(longest(cluster, ips, 'longestGapMs'), 0);
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
    });
  }
});
