import { clusterAtRest, ownerOf, seedsOf } from './support/scenario.ts';

/**
 * How fast the simulation is: `bench/simulation.ts` runs this in a process of its own and reads its only line, the
 * simulated time for each unit of processor time in each of several rounds.
 */

const HOSTS = 10;
const ROUNDS = 7;
const ROUND_MS = 300_000;
const DEATH_EVERY_MS = 10_000;
const DEAD_MS = 1_000;

const cluster = clusterAtRest({ seed: 1, hosts: HOSTS, addresses: HOSTS });
const { world } = cluster;

/** The first round is for the compiler. */
function ratios(round: () => void): readonly number[] {
  round();
  return Array.from({ length: ROUNDS }, () => {
    const simulatedFrom = world.now;
    const from = process.cpuUsage();
    round();
    const { user, system } = process.cpuUsage(from);
    return (world.now - simulatedFrom) / ((user + system) / 1_000);
  });
}

const atRest = ratios(() => world.run(ROUND_MS));
const withDeaths = ratios(() => {
  for (let left = ROUND_MS; left > 0; left -= DEATH_EVERY_MS) {
    const owner = ownerOf(world, cluster.first);
    owner.powerOff();
    world.run(DEAD_MS);
    owner.powerOn();
    owner.start(seedsOf(world));
    world.run(DEATH_EVERY_MS - DEAD_MS);
  }
});
console.log(JSON.stringify({ hosts: HOSTS, atRest, withDeaths }));
