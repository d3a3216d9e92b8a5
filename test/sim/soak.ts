import { chaos } from './support/chaos.ts';

/**
 * Random clusters with random faults, for as long as one likes: `make soak SECONDS=60`. Each seed is printed; one that
 * fails prints everything that happened. `make soak SEED=7` runs that one alone, and it is the same again.
 */

const { SECONDS, SEED } = process.env;
const SEEDS = 2 ** 31;

/** Returns whether it went well. */
function run(seed: number): boolean {
  const startedAt = performance.now();
  try {
    const { hosts, simulatedMs, trace } = chaos(seed);
    const speed = (simulatedMs / (performance.now() - startedAt)).toFixed(0);
    console.log(`seed ${seed}: well, ${hosts} hosts, ${speed} times real time, trace ${trace}`);
    return true;
  } catch (error) {
    console.log(`${error instanceof Error ? error.message : error}\nmake soak SEED=${seed} runs it again`);
    return false;
  }
}

function soak(seconds: number): boolean {
  const endAt = performance.now() + 1_000 * seconds;
  let runs = 0;
  const failed: number[] = [];
  while (performance.now() < endAt) {
    const seed = Math.floor(Math.random() * SEEDS);
    runs += 1;
    if (!run(seed)) failed.push(seed);
  }
  console.log(
    `${runs} seeds in ${seconds} s, ${failed.length} failed${failed.length > 0 ? `: ${failed}` : ''}`,
  );
  return failed.length === 0;
}

const isWell = SEED === undefined || SEED === '' ? soak(Number(SECONDS ?? 60)) : run(Number(SEED));
process.exitCode = isWell ? 0 : 1;
