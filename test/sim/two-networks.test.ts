import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Cluster,
  clusterAtRest,
  comeBack,
  disagreement,
  forSeeds,
  longest,
  mostMoves,
  ownedBy,
  ownerOf,
  ownersOf,
  percentile,
  seeds,
  spread,
} from './support/scenario.ts';

/** Hosts that gossip on a network for management, and serve on another: liveness is that of the NIC that serves. */
describe('a host with a network for management', () => {
  for (const [how, management] of [
    ['its port goes dead', 'segment'],
    ['its port goes dead', 'gossip'],
    ['its cable is pulled', 'segment'],
    ['its cable is pulled', 'gossip'],
  ] as const) {
    test(`(${management}) hands its addresses to others when the NIC that serves fails: ${how}`, (t) => {
      const gaps: number[] = [];
      const letGo: number[] = [];
      forSeeds(seeds(500, 60), (seed) => {
        const hosts = 3 + (seed % 3);
        const cluster = clusterAtRest({ seed, hosts, addresses: 9, management });
        const { world, ips } = cluster;
        const owner = ownerOf(world, cluster.first);
        const owned = ownedBy(cluster, owner);
        const plug = (isIn: boolean): void => {
          if (how === 'its cable is pulled') owner.setCarrier(isIn);
          else world.lan.setPort(owner.port, { up: isIn });
        };
        plug(false);
        letGo.push(world.runUntil(() => owned.every((ip) => !owner.kernel.has(ip)), 1_000));
        world.run(3_000);
        gaps.push(longest(cluster, owned, 'longestGapMs'));
        for (const ip of ips) assert.notEqual(ownerOf(world, ip), owner);
        assertNobodyDied(cluster);
        world.run(20_000 * world.random());
        world.measure();
        plug(true);
        world.run(8_000);
        assertUndisturbed(cluster);
        assert.deepEqual(ownedBy(cluster, owner), []);
      });
      t.diagnostic(`let go after ${spread(letGo)}`);
      t.diagnostic(`gap ${spread(gaps)}`);
      assert.ok(percentile(letGo, 1) <= 200, spread(letGo));
      assert.ok(percentile(gaps, 0.5) <= 300, spread(gaps));
      assert.ok(percentile(gaps, 1) <= 450, spread(gaps));
    });
  }

  test('keeps its addresses while only the network for management fails, for it or for all', () => {
    forSeeds(seeds(100, 20), (seed) => {
      const management = seed % 4 < 2 ? 'segment' : 'gossip';
      const cluster = clusterAtRest({ seed, hosts: 5, addresses: 10, management });
      const { world } = cluster;
      const cut = seed % 2 === 0 ? world.hosts : [ownerOf(world, cluster.first)];
      for (const host of cut) world.lanOf('management').setPort(host.portOn('management'), { up: false });
      world.run(30_000);
      assertNobodyDied(cluster);
      for (const host of cut) world.lanOf('management').setPort(host.portOn('management'), { up: true });
      world.run(20_000);
      assertUndisturbed(cluster);
    });
  });

  test('has its own back after the switch that serves was rebooted, and nobody anything else', (t) => {
    const durations: number[] = [];
    forSeeds(seeds(100, 20), (seed) => {
      const management = seed % 2 === 0 ? 'segment' : 'gossip';
      const cluster = clusterAtRest({ seed, hosts: 8, addresses: 24, management });
      const { world, ips } = cluster;
      const owners = ownersOf(cluster);
      for (const host of world.hosts) world.lan.setPort(host.port, { up: false });
      world.run(30_000);
      world.measure();
      durations.push(comeBack(cluster, owners));
      world.run(15_000);
      assert.equal(mostMoves(cluster, ips), 0, 'moved');
      assert.equal(disagreement(cluster), undefined);
    });
    t.diagnostic(`all back ${spread(durations)} after the first port could be`);
  });
});

function assertUndisturbed(cluster: Cluster): void {
  assert.equal(mostMoves(cluster, cluster.ips), 0, 'moved');
  assert.equal(longest(cluster, cluster.ips, 'longestGapMs'), 0, 'a gap');
  assert.equal(longest(cluster, cluster.ips, 'longestDoubleMs'), 0, 'two answered');
  assert.equal(disagreement(cluster), undefined);
}

/** Their management network lives, and all know that. */
function assertNobodyDied({ world }: Cluster): void {
  for (const { process } of world.hosts) {
    for (const { state, name } of process?.election.swim.members().values() ?? [])
      assert.equal(state, 'alive', name);
  }
}
