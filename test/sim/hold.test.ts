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

/** docs/election.md, "What is not promised": with three hosts or more a reference counts as somebody. */
describe('an owner that no other host reaches', () => {
  // As after any cut in two, what both sides own is settled when they hear of each other again.
  for (const [reference, doubleMs, what] of [
    [true, 1_000, 'keeps its addresses while its gateway answers, and gives way when the cut heals'],
    [false, 50, 'lets go of them without a reference, though its gateway is there'],
  ] as const) {
    test(what, (t) => {
      const doubles: number[] = [];
      forSeeds(seeds(100, 20), (seed) => {
        const hosts = 3 + (seed % 3);
        const host = { reference };
        const cluster = clusterAtRest({ seed, hosts, addresses: 6, clients: 2, gateway: true, host });
        const { world, ips, first } = cluster;
        const owner = ownerOf(world, first);
        const owned = ownedBy(cluster, owner);
        const [near, far] = world.clients;
        assert.ok(near !== undefined && far !== undefined);
        // The gateway stays with the owner.
        const others = [far.port, ...world.hosts.filter((other) => other !== owner).map(({ port }) => port)];
        const setGroup = (group: number): void => {
          for (const port of others) world.lan.setPort(port, { group });
        };
        setGroup(1);
        world.run(10_000);
        for (const ip of owned) {
          assert.equal(owner.kernel.has(ip), reference, `${ip} on the owner`);
          assert.notEqual(far.judge.holder(ip), owner.index);
          assert.ok(far.isServed(ip), `${ip} is served on the other side`);
        }
        world.measure();
        world.invariants.limits = { ...world.invariants.limits, doubleMs };
        setGroup(0);
        world.run(10_000);
        doubles.push(longest(cluster, ips, 'longestDoubleMs'));
        assert.equal(disagreement(cluster), undefined);
      });
      t.diagnostic(`two answered after the cut for ${spread(doubles)}`);
      assert.ok(percentile(doubles, 1) <= doubleMs, spread(doubles));
    });
  }
});
