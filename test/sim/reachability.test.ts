import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { SimHost } from './support/host.ts';
import { clusterAtRest, isHeldByOne, longest, ownerOf, seeds } from './support/scenario.ts';
import type { World } from './support/world.ts';

/** Scenarios 7 and 8: some reach some, and not others. */
describe('a host that', () => {
  test('is deaf lets go, claims nothing, and the others take over', () => {
    for (const seed of seeds(100, 20)) {
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10 });
      const { world, ips } = cluster;
      const deaf = ownerOf(world, cluster.first);
      world.lan.setPort(deaf.port, { hears: false });
      world.run(3_000);
      for (const ip of ips) {
        assert.ok(isHeldByOne(world, ip), `${ip}, seed ${seed}`);
        assert.notEqual(ownerOf(world, ip), deaf);
      }
      assert.ok(ips.every((ip) => !deaf.kernel.has(ip)));
      assert.ok(longest(cluster, ips, 'longestDoubleMs') <= 50, `seed ${seed}`);
      assertHealthy(world, [deaf]);
    }
  });

  test('is mute is replaced, and drops nobody', () => {
    for (const seed of seeds(100, 20)) {
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10 });
      const { world, ips } = cluster;
      const mute = ownerOf(world, cluster.first);
      world.lan.setPort(mute.port, { speaks: false });
      world.run(3_000);
      for (const ip of ips) assert.notEqual(ownerOf(world, ip), mute, `${ip}, seed ${seed}`);
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0, `seed ${seed}`);
      assertHealthy(world, [mute]);
    }
  });

  test('does not reach one other one stays, and so does that one', () => {
    for (const seed of seeds(100, 20)) {
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10 });
      const { world, ips } = cluster;
      const first = ownerOf(world, cluster.first);
      const second = world.hosts.find((host) => host !== first) ?? first;
      world.lan.block(first.port, second.port);
      world.lan.block(second.port, first.port);
      world.run(30_000);
      assertNothingHappened(cluster.world, ips.length, seed);
      assert.equal(longest(cluster, ips, 'longestGapMs'), 0);
    }
  });

  test('is the only bridge between two halves keeps them together', () => {
    for (const seed of seeds(100, 20)) {
      const cluster = clusterAtRest({ seed, hosts: 7, addresses: 14 });
      const { world, ips } = cluster;
      for (const left of world.hosts.slice(0, 3))
        for (const right of world.hosts.slice(4)) {
          world.lan.block(left.port, right.port);
          world.lan.block(right.port, left.port);
        }
      world.run(30_000);
      assertNothingHappened(world, ips.length, seed);
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
    }
  });
});

describe('a segment cut in two', () => {
  for (const { hosts, runs } of [
    { hosts: 10, runs: seeds(20, 3) },
    { hosts: 100, runs: seeds(5, 1) },
    { hosts: 1_000, runs: seeds(1, 0) },
  ]) {
    test(`with ${hosts} hosts heals by itself: one view, one owner each`, (t) => {
      for (const seed of runs) {
        const cluster = clusterAtRest({ seed, hosts, addresses: 40, clients: 2 });
        const { world, ips } = cluster;
        const half = world.hosts.slice(hosts / 2);
        for (const port of [...half.map((host) => host.port), world.clients[1]?.port ?? 0])
          world.lan.setPort(port, { group: 1 });
        world.run(600_000);
        for (const client of world.clients)
          for (const ip of ips)
            assert.equal(client.judge.record(ip).answering.size, 1, `apart, seed ${seed}`);
        for (const port of [...half.map((host) => host.port), world.clients[1]?.port ?? 0])
          world.lan.setPort(port, { group: 0 });
        const isHealed = () => ips.every((ip) => isHeldByOne(world, ip)) && allAlive(world);
        const healedMs = world.runUntil(isHealed, 60_000, 10);
        t.diagnostic(`seed ${seed}: healed after ${healedMs} ms`);
        assert.ok(healedMs <= 10_000, `healed after ${healedMs} ms, seed ${seed}`);
        world.run(5_000);
        for (const ip of ips) {
          assert.ok(isHeldByOne(world, ip));
          for (const client of world.clients) assert.ok(client.isServed(ip), `${ip} served, seed ${seed}`);
        }
      }
    });
  }
});

function allAlive(world: World): boolean {
  return world.hosts.every(({ process }) => {
    if (process === undefined) return true;
    for (const { state } of process.election.swim.members().values()) if (state !== 'alive') return false;
    return process.election.swim.members().size === world.hosts.length;
  });
}

/** No healthy host is dropped by a healthy one; a suspicion that is refuted in time is how SWIM works. */
function assertHealthy(world: World, ill: readonly SimHost[]): void {
  for (const host of world.hosts) {
    if (ill.includes(host) || host.process === undefined) continue;
    for (const member of host.process.election.swim.members().values()) {
      if (ill.some(({ name }) => name === member.name)) continue;
      assert.notEqual(member.state, 'dead', `${member.name} to ${host.name}, seed ${world.seed}`);
    }
  }
}

function assertNothingHappened(world: World, addresses: number, seed: number): void {
  assertHealthy(world, []);
  for (const ip of world.client.judge.addresses()) {
    assert.equal(world.client.judge.record(ip).moves, 0, `${ip} of ${addresses} moved, seed ${seed}`);
  }
}
