import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Cluster,
  clusterAtRest,
  countClaims,
  disagreement,
  forSeeds,
  longest,
  ownedBy,
  ownerOf,
  percentile,
  seeds,
  spread,
} from './support/scenario.ts';

/** Scenario 5: a host, or only its lbd, does not run for a while. */
const SHORT_MS = 500;
const LONGEST_MS = 10_000;
const LET_GO_MS = 200;

describe('a pause of an owner', () => {
  for (const what of ['process', 'host', 'host whose clock does not show it'] as const) {
    test(`of its ${what} ends with one owner, soon`, (t) => {
      const letGo: number[] = [];
      const doubles: number[] = [];
      const settled: number[] = [];
      let checks = 0;
      forSeeds(seeds(500, 60), (seed) => {
        const cluster = clusterAtRest({ seed, hosts: 10, addresses: 10 });
        const { world, ips } = cluster;
        world.invariants.limits = { ...world.invariants.limits, doubleMs: LET_GO_MS };
        const owner = ownerOf(world, cluster.first);
        const owned = ownedBy(cluster, owner);
        const claims = countClaims(world);
        const isShort = seed % 3 === 0;
        const pauseMs = 200 + (isShort ? SHORT_MS - 200 : LONGEST_MS - 200) * world.random();
        if (what === 'process') owner.stopProcess();
        else owner.pause();
        world.run(pauseMs);
        if (what === 'process') owner.continueProcess();
        else owner.resume(what === 'host');
        const wokeAt = world.now;
        const lost = owned.filter((ip) => world.hosts.some((host) => host !== owner && host.answersFor(ip)));
        while (lost.some((ip) => owner.kernel.has(ip)) && world.now - wokeAt < 2_000) world.run(1);
        letGo.push(world.now - wokeAt);
        settled.push(settledAfter(cluster, wokeAt));
        world.run(5_000);
        doubles.push(longest(cluster, ips, 'longestDoubleMs'));
        checks += world.invariants.looked.get('asked') ?? 0;
        assert.equal(disagreement(cluster), undefined);
        if (what === 'process' && isShort) {
          assert.equal(claims.size, 0, 'moved for a short pause');
          assert.equal(longest(cluster, ips, 'longestGapMs'), 0, 'a gap for a short pause');
        }
        for (const [ip, count] of claims) assert.ok(count <= 1, `${ip} was claimed ${count} times`);
      });
      t.diagnostic(`the one that woke let go of what others had after ${spread(letGo)}`);
      t.diagnostic(`two answered for ${spread(doubles)}`);
      t.diagnostic(`clients were answered by one MAC, for good, after ${spread(settled)}`);
      assert.ok(percentile(letGo, 1) <= LET_GO_MS, spread(letGo));
      assert.ok(percentile(settled, 1) <= 1_000, spread(settled));
      // Of a host that was paused as a whole others have all that it had.
      if (what === 'process') assert.ok(checks > 0, 'nothing was renewed');
    });
  }
});

/** How long after the waking every client was served by the one that answers, and went on to be. */
function settledAfter({ world, ips }: Cluster, wokeAt: number): number {
  let lastAt = wokeAt;
  while (world.now < wokeAt + 2_000) {
    const isSettled = ips.every(
      (ip) => world.client.judge.record(ip).answering.size === 1 && world.client.isServed(ip),
    );
    if (!isSettled) lastAt = world.now + 1;
    world.run(1);
  }
  return lastAt - wokeAt;
}
