import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterAtRest, longest, ownedBy, ownerOf, seeds, seedsOf } from './support/scenario.ts';

describe('a host that is cut off', () => {
  test('and whose lbd is started again takes nothing back before it hears somebody', () => {
    for (const seed of seeds(100, 20)) {
      const cluster = clusterAtRest({ seed, hosts: 3, addresses: 9 });
      const { world, ips } = cluster;
      const owner = ownerOf(world, cluster.first);
      const owned = ownedBy(cluster, owner);
      world.lan.setPort(owner.port, { up: false });
      world.run(2_000);
      owner.kill();
      owner.start(seedsOf(world));
      world.run(8_000);
      assert.ok(
        owned.every((ip) => !owner.kernel.has(ip)),
        `it took addresses while cut off, seed ${seed}`,
      );
      world.lan.setPort(owner.port, { up: true });
      world.run(10_000);
      assert.ok(longest(cluster, ips, 'longestDoubleMs') <= 50, `two answered, seed ${seed}`);
      for (const ip of ips) assert.ok(world.client.isServed(ip), `${ip} served, seed ${seed}`);
    }
  });
});
