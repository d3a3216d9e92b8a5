import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { SIMULATION_FLAGS } from '../scripts/simulation-flags.ts';
import { type Figures, median } from './harness.ts';

/** How much simulated time the simulation of ten hosts (`test/sim`) has for each unit of processor time. */

const PROGRAM = join(import.meta.dirname, '../test/sim/speed.ts');
const AT_LEAST = 1_000;

type Speed = {
  readonly hosts: number;
  readonly atRest: readonly number[];
  readonly withDeaths: readonly number[];
};

export async function run(figures: Figures): Promise<void> {
  const text = execFileSync(process.execPath, [...SIMULATION_FLAGS, PROGRAM], { encoding: 'utf8' });
  const { hosts, atRest, withDeaths } = JSON.parse(text) as Speed;
  const record = (what: string, ratios: readonly number[], atLeast: number | undefined): void =>
    figures.record({
      bench: 'simulation',
      case: `${hosts} hosts ${what}, median of ${ratios.length}`,
      value: median(ratios),
      unit: '× real time',
      target: atLeast === undefined ? undefined : { atLeast },
      against: `${Math.round(Math.min(...ratios))} to ${Math.round(Math.max(...ratios))}`,
    });
  record('at rest', atRest, AT_LEAST);
  record('of which one dies and returns every 10 s', withDeaths, undefined);
}
