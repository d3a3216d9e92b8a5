import { Figures } from './harness.ts';

/**
 * Runs every benchmark, or the one named and its parts: `network` is `network-policy`, `network-takeover` and `network-v6` as well. JSON lines
 * as they are measured, then a table.
 * Exit status: 0 when all targets are met, 1 when one is missed, 2 for an unknown name.
 */
const BENCHES: Readonly<Record<string, () => Promise<{ run(figures: Figures): Promise<void> }>>> = {
  'first-light': () => import('./first-light.ts'),
  'gossip-wire': () => import('./gossip-wire.ts'),
  network: () => import('./network.ts'),
  'network-policy': () => import('./network-policy.ts'),
  'network-takeover': () => import('./network-takeover.ts'),
  'network-v6': async () => ({ run: (await import('./network.ts')).runV6 }),
  ownership: () => import('./ownership.ts'),
  package: () => import('./package.ts'),
  simulation: () => import('./simulation.ts'),
};

const only = process.argv[2];
const chosen = Object.keys(BENCHES).filter(
  (name) => only === undefined || name === only || name.startsWith(`${only}-`),
);
const names = chosen.length > 0 ? chosen : [only ?? ''];
const figures = new Figures();
for (const name of names) {
  const load = BENCHES[name];
  if (load === undefined) {
    process.stderr.write(`no benchmark "${name}"; there are: ${Object.keys(BENCHES).join(', ')}\n`);
    process.exit(2);
  }
  const bench = await load();
  await bench.run(figures);
}
process.stdout.write(`\n${figures.table()}\n`);
process.exit(figures.allMet ? 0 : 1);
