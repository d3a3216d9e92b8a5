import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterAtRest, longest, ownedBy, ownerOf, seeds, seedsOf } from './support/scenario.ts';

/** What an lbd finds in its kernel and has no memory of. */
describe('a host whose state was lost with its lbd', () => {
  test('keeps what the others know to be its own', () => {
    for (const seed of seeds(50, 10)) {
      const cluster = clusterAtRest({ seed, hosts: 3, addresses: 6 });
      const { world, ips } = cluster;
      const owner = ownerOf(world, cluster.first);
      const owned = ownedBy(cluster, owner);
      owner.kill();
      owner.forget();
      world.run(100 + 400 * world.random());
      owner.start(seedsOf(world));
      world.run(10_000);
      assert.deepEqual(ownedBy(cluster, owner), owned, `seed ${seed}`);
      assert.equal(longest(cluster, ips, 'longestGapMs'), 0, `seed ${seed}`);
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0, `seed ${seed}`);
    }
  });

  test('keeps what nobody knows anything of, when all lose their state at once', () => {
    for (const seed of seeds(50, 10)) {
      const cluster = clusterAtRest({ seed, hosts: 3, addresses: 6 });
      const { world, ips } = cluster;
      const before = ips.map((ip) => ownerOf(world, ip).index);
      for (const host of world.hosts) {
        host.kill();
        host.forget();
      }
      world.run(300);
      for (const host of world.hosts) host.start(seedsOf(world));
      world.run(10_000);
      assert.deepEqual(
        ips.map((ip) => ownerOf(world, ip).index),
        before,
        `seed ${seed}`,
      );
      assert.equal(longest(cluster, ips, 'longestGapMs'), 0, `seed ${seed}`);
    }
  });
});
