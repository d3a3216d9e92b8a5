import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterAtRest, longest, ownedBy, ownerOf, seeds, seedsOf } from './support/scenario.ts';

/** Scenarios 9 and 11: who has how much, and what moves when hosts come, go and are restarted. */
describe('addresses', () => {
  test('are spread over 100 equal hosts; a death moves only what the dead one had, its return nothing', (t) => {
    const cluster = clusterAtRest({ seed: 1, hosts: 100, addresses: 10_000 });
    const { world, ips } = cluster;
    const counts = world.hosts.map((host) => ownedBy(cluster, host).length);
    const ratio = Math.max(...counts) / (ips.length / world.hosts.length);
    t.diagnostic(`max/mean ${ratio.toFixed(2)}`);
    assert.ok(ratio <= 1.35);
    const victim = world.host(7);
    const owned = new Set(ownedBy(cluster, victim));
    const before = new Map(ips.map((ip) => [ip, ownerOf(world, ip)]));
    victim.powerOff();
    world.run(5_000);
    for (const ip of ips) {
      if (owned.has(ip)) assert.notEqual(ownerOf(world, ip), victim);
      else assert.equal(ownerOf(world, ip), before.get(ip), 'of another host');
    }
    const then = new Map(ips.map((ip) => [ip, ownerOf(world, ip)]));
    victim.powerOn();
    victim.start(seedsOf(world));
    world.run(6_000);
    for (const ip of ips) assert.equal(ownerOf(world, ip), then.get(ip), 'moved for a join');
  });

  test('go to a host of twice the weight twice as often', (t) => {
    const weight = (index: number) => (index === 3 ? 200 : 100);
    const cluster = clusterAtRest({ seed: 2, hosts: 20, addresses: 10_000, host: { weight } });
    const heavy = ownedBy(cluster, cluster.world.host(3)).length;
    const fair = cluster.ips.length / (cluster.world.hosts.length + 1);
    t.diagnostic(`${(heavy / fair).toFixed(2)} times the share of the others`);
    assert.ok(heavy / fair >= 1.8 && heavy / fair <= 2.2);
  });

  test('stay where they are while 100 hosts are restarted one after the other', (t) => {
    for (const seed of seeds(5, 1)) {
      const cluster = clusterAtRest({ seed, hosts: 100, addresses: 1_000 });
      const { world, ips } = cluster;
      for (const host of world.hosts) {
        host.stopForRestart();
        world.run(100 + 200 * world.random());
        host.start(seedsOf(world));
        world.run(300);
      }
      world.run(5_000);
      const moves = Math.max(...ips.map((ip) => world.client.judge.record(ip).moves));
      t.diagnostic(`longest gap ${longest(cluster, ips, 'longestGapMs').toFixed(0)} ms, moves ${moves}`);
      assert.ok(moves <= 1);
      assert.ok(longest(cluster, ips, 'longestGapMs') <= 50);
      assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
    }
  });

  test('stay where they are when every host rejoins at once', () => {
    const hosts = seeds(1_000, 200).length;
    const cluster = clusterAtRest({ seed: 3, hosts, addresses: 500 });
    const { world, ips } = cluster;
    for (const host of world.hosts) host.stopForRestart();
    world.run(200);
    for (const host of world.hosts) host.start(seedsOf(world));
    world.run(20_000);
    for (const ip of ips) assert.equal(world.client.judge.record(ip).moves, 0, ip);
    assert.equal(longest(cluster, ips, 'longestGapMs'), 0);
    assert.equal(longest(cluster, ips, 'longestDoubleMs'), 0);
  });
});
