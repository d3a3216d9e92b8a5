import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { electionOverview } from '../../src/daemon/election-status.ts';
import { viewAddress } from '../../src/election/explain.ts';
import type { MemberName } from '../../src/election/types.ts';
import type { SimHost } from './support/host.ts';
import { SEGMENTS } from './support/lan-plan.ts';
import {
  type Cluster,
  clusterAtRest,
  disagreement,
  forSeeds,
  longest,
  mostMoves,
  ownedBy,
  ownerOf,
  percentile,
  seeds,
  seedsOf,
  spread,
} from './support/scenario.ts';
import type { World } from './support/world.ts';

/** Longer than a host waits for somebody on a segment before it counts itself as isolated there. */
const GIVEN_UP_MS = 2_500;
const STALL_MS = 120;

/** A VLAN that is patched wrongly, or a firewall that is closed for one of two networks. */
function setManagement(world: World, up: boolean): void {
  for (const host of world.hosts) world.lanOf('management').setPort(host.portOn('management'), { up });
}

function rollingRestart(world: World): void {
  for (const host of world.hosts) {
    host.stopForRestart();
    world.run(100);
    host.start(seedsOf(world));
    world.run(GIVEN_UP_MS);
  }
}

function stallEach(world: World): void {
  for (const host of world.hosts) {
    host.stopProcess();
    world.run(STALL_MS);
    host.continueProcess();
    world.run(500);
  }
}

function segmentOf(host: SimHost, link: 'data' | 'management') {
  const { process } = host;
  assert.ok(process !== undefined);
  const overview = electionOverview(process.election, {
    name: host.name as MemberName,
    draining: false,
    encrypted: true,
    stateProblem: undefined,
    nameConflict: undefined,
    counters: { sent: 0, sentBytes: 0, received: 0, receivedBytes: 0, refused: {} },
    drift: () => undefined,
    now: host.clock(),
  });
  const segment = overview.segments.find(({ subnet }) => subnet === SEGMENTS[link]);
  assert.ok(segment !== undefined);
  return segment;
}

/** The power of an owner fails: how long its addresses are without an answer. */
function gapOfDeath(cluster: Cluster): number {
  const { world } = cluster;
  const owner = ownerOf(world, cluster.first);
  const owned = ownedBy(cluster, owner);
  world.measure();
  owner.powerOff();
  world.run(6_000);
  for (const ip of owned) assert.ok(world.client.isServed(ip), `${ip} is served`);
  return longest(cluster, owned, 'longestGapMs');
}

describe('a segment on which nobody is ever heard', () => {
  for (const [what, happens] of [
    ['each lbd was restarted', rollingRestart],
    ['each lbd stalled for a moment', stallEach],
  ] as const) {
    test(`keeps no address of another one from being taken over after ${what}`, (t) => {
      const gaps: number[] = [];
      forSeeds(seeds(200, 20), (seed) => {
        const isDeadFromStart = seed % 2 === 0;
        const before = (world: World): void => setManagement(world, !isDeadFromStart);
        const hosts = 4 + (seed % 2);
        const cluster = clusterAtRest({
          ...{ seed, hosts, addresses: 10, before },
          ...{ management: 'segment', gossip: 'data' },
        });
        const { world } = cluster;
        setManagement(world, false);
        world.run(1_000);
        world.measure();
        happens(world);
        assert.equal(mostMoves(cluster, cluster.ips), 0, 'moved');
        gaps.push(gapOfDeath(cluster));
        world.run(3_000);
        assert.equal(disagreement(cluster), undefined);
        // What was never heard may be repaired.
        for (const host of world.hosts) {
          if (host.process === undefined) continue;
          const { isolated, neverHeard } = segmentOf(host, 'management');
          assert.deepEqual(
            { isolated, neverHeard },
            { isolated: true, neverHeard: happens === rollingRestart || isDeadFromStart },
          );
        }
        world.measure();
        setManagement(world, true);
        world.run(5_000);
        for (const host of world.hosts) {
          if (host.process === undefined) continue;
          const { isolated, neverHeard, confirmed } = segmentOf(host, 'management');
          assert.deepEqual(
            { isolated, neverHeard, confirmed },
            { isolated: false, neverHeard: false, confirmed: true },
          );
        }
        assert.equal(mostMoves(cluster, cluster.ips), 0, 'moved when it was repaired');
      });
      t.diagnostic(`gap ${spread(gaps)}`);
      assert.ok(percentile(gaps, 0.5) <= 300, spread(gaps));
      assert.ok(percentile(gaps, 1) <= 450, spread(gaps));
    });
  }

  test('is told to others, so that nobody waits for a host that cannot take anything there', (t) => {
    const gaps: number[] = [];
    forSeeds(seeds(200, 20), (seed) => {
      const management = seed % 2 === 0 ? 'segment' : 'gossip';
      const cluster = clusterAtRest({ seed, hosts: 4, addresses: 24, management });
      const { world } = cluster;
      const deaf = world.host(3);
      world.lan.setPort(deaf.port, { up: false });
      world.run(1_000);
      deaf.stopForRestart();
      deaf.start(seedsOf(world));
      world.run(500);
      const { process } = deaf;
      assert.ok(process !== undefined);
      // Until then its lbd says why it does not take what it is the heir of.
      assert.deepEqual(segmentOf(deaf, 'data').isolated, false);
      assert.deepEqual(segmentOf(deaf, 'data').neverHeard, true);
      world.run(GIVEN_UP_MS);
      assert.deepEqual(segmentOf(deaf, 'data').isolated, true);
      assert.equal(viewAddress(process.election.ownership.inspect(), cluster.first)?.state, 'theirs');
      gaps.push(gapOfDeath(cluster));
      assert.deepEqual(ownedBy(cluster, deaf), []);
    });
    t.diagnostic(`gap ${spread(gaps)}`);
    assert.ok(percentile(gaps, 1) <= 450, spread(gaps));
  });
});
