import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { clusterAtRest, longest, ownedBy, ownerOf, percentile, seeds, spread } from './support/scenario.ts';

/** Scenario 5: a host, or only its lbd, does not run for a while. */
describe('a pause of an owner', () => {
  for (const what of ['process', 'host', 'host whose clock does not show it'] as const) {
    test(`of its ${what} ends with one owner, soon`, (t) => {
      const letGo: number[] = [];
      const doubles: number[] = [];
      for (const seed of seeds(500, 60)) {
        const cluster = clusterAtRest({ seed, hosts: 10, addresses: 10 });
        const { world, ips } = cluster;
        const owner = ownerOf(world, cluster.first);
        const owned = ownedBy(cluster, owner);
        const isShort = seed % 3 === 0;
        const pauseMs = isShort ? 200 + 300 * world.random() : 200 + 9_800 * world.random();
        if (what === 'process') owner.stopProcess();
        else owner.pause();
        world.run(pauseMs);
        if (what === 'process') owner.continueProcess();
        else owner.resume(what === 'host');
        const wokeAt = world.now;
        const lost = owned.filter((ip) => world.hosts.some((host) => host !== owner && host.answersFor(ip)));
        while (lost.some((ip) => owner.kernel.has(ip)) && world.now - wokeAt < 2_000) world.run(1);
        letGo.push(world.now - wokeAt);
        world.run(Math.max(0, wokeAt + 1_000 - world.now));
        for (const ip of ips) {
          assert.equal(world.client.judge.record(ip).answering.size, 1, `${ip} a second later, seed ${seed}`);
          assert.ok(world.client.isServed(ip), `${ip} is not served a second later, seed ${seed}`);
        }
        doubles.push(longest(cluster, ips, 'longestDoubleMs'));
        world.run(4_000);
        const moves = Math.max(...ips.map((ip) => world.client.judge.record(ip).moves));
        assert.ok(moves <= (what === 'process' ? 0 : 2), `moved ${moves} times, seed ${seed}`);
        if (what === 'process' && isShort)
          assert.equal(longest(cluster, ips, 'longestGapMs'), 0, `a gap for a short pause, seed ${seed}`);
      }
      t.diagnostic(`the one that woke let go of what others had after ${spread(letGo)}`);
      t.diagnostic(`two answered for ${spread(doubles)}`);
      assert.ok(percentile(letGo, 1) <= 200, spread(letGo));
    });
  }
});
