import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  clusterAtRest,
  disagreement,
  forSeeds,
  haveTheirOwn,
  longest,
  mostMoves,
  ownedBy,
  ownerOf,
  ownersOf,
  percentile,
  seeds,
  spread,
} from './support/scenario.ts';

/** Where losing the network between hosts is likelier than harm by a host that is cut off. */
const HOLD = { isolation: 'hold' } as const;

describe('isolation = "hold"', () => {
  test('a host that is cut off keeps what it has; heirs serve the others, and its return ends that', (t) => {
    const gaps: number[] = [];
    const doubles: number[] = [];
    forSeeds(seeds(300, 30), (seed) => {
      const hosts = [3, 5, 10][seed % 3] ?? 3;
      const cluster = clusterAtRest({ seed, hosts, addresses: 9, host: HOLD });
      const { world, ips } = cluster;
      const owner = ownerOf(world, cluster.first);
      const owned = ownedBy(cluster, owner);
      world.lan.setPort(owner.port, { up: false });
      world.run(1_000 + 29_000 * world.random());
      for (const ip of owned) {
        assert.ok(owner.kernel.has(ip), `${ip} is held`);
        assert.notEqual(ownerOf(world, ip), owner);
      }
      gaps.push(longest(cluster, owned, 'longestGapMs'));
      world.measure();
      world.lan.setPort(owner.port, { up: true });
      world.run(8_000);
      doubles.push(longest(cluster, ips, 'longestDoubleMs'));
      assert.equal(disagreement(cluster), undefined);
      assert.deepEqual([...owner.kernel.addresses()], []);
    });
    t.diagnostic(`gap ${spread(gaps)}`);
    t.diagnostic(`two answered after the return for ${spread(doubles)}`);
    assert.ok(percentile(gaps, 1) <= 450, spread(gaps));
    assert.ok(percentile(doubles, 1) <= 50, spread(doubles));
  });

  test('a switch that reboots moves nothing: each host answers the moment its port is up', (t) => {
    const gaps: number[] = [];
    forSeeds(seeds(100, 10), (seed) => {
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 15, host: HOLD });
      const { world, ips } = cluster;
      const owners = ownersOf(cluster);
      for (const { port } of world.hosts) world.lan.setPort(port, { up: false });
      world.run(30_000);
      for (const [ip, host] of owners) assert.ok(host.kernel.has(ip), `${ip} is held`);
      world.measure();
      const upAt = world.now;
      for (const { port } of world.hosts) world.lan.setPort(port, { up: true });
      world.runUntil(() => haveTheirOwn(cluster, owners), 5_000);
      gaps.push(world.now - upAt);
      world.run(15_000);
      assert.equal(mostMoves(cluster, ips), 0, 'moved');
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0, 'two answered');
      assert.equal(disagreement(cluster), undefined);
    });
    t.diagnostic(`answered again ${spread(gaps)} after the switch was back`);
    assert.ok(percentile(gaps, 1) <= 50, spread(gaps));
  });
});
