import { fileURLToPath } from 'node:url';
import { createLab, type Lab } from '../test/support/lab.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import { type Figures, median } from './harness.ts';

/** The network layer of one host with thousands of addresses: added, taken over, renewed, repaired. */

const BENCH = 'network';
const INSIDE = fileURLToPath(new URL('network-host.ts', import.meta.url));
const ROUNDS = 10;
/** Adding and removing thousands of v6 addresses takes the kernel seconds. */
const V6_ROUNDS = 3;
const COUNT = 10_000;
const V6_COUNT = 1_000;
/** So long after a restart whatever it wrote has been told. */
const WATCH_MS = 1_000;
const COMMAND_TIMEOUT_MS = 120_000;

type Family = 'v4' | 'v6';
type Counts = { readonly family: Family; readonly local: number; readonly virtual: number };

export async function run(figures: Figures): Promise<void> {
  const all = { family: 'v4', local: COUNT, virtual: COUNT } as const;
  await using lab = await createHost();
  const host = lab.host('node1');
  for (const [count, share] of [
    [1_000, 2],
    [COUNT, 5],
  ] as const) {
    await timeRenewals(figures, host, { family: 'v4', local: count, virtual: 0 }, ROUNDS, share);
  }
  await timePrograms(figures, host, all, ROUNDS, 1.5);
  // What the last round added is there still.
  await timeRestarts(figures, host, all);
  await timeRepairs(figures, host);
}

export async function runV6(figures: Figures): Promise<void> {
  await using lab = await createHost();
  const host = lab.host('node1');
  await timePrograms(figures, host, { family: 'v6', local: V6_COUNT, virtual: V6_COUNT }, V6_ROUNDS, 1.5);
  for (const count of [300, 1_000, 3_000])
    await timeRenewals(figures, host, { family: 'v6', local: count, virtual: 0 }, V6_ROUNDS, 5);
}

function createHost(): Promise<Lab> {
  return createLab({
    segments: { lan: { v4: '10.77.0.0/16', v6: 'fd00:77::/64' } },
    hosts: { node1: {} },
  });
}

/** Runs a command of `network-host.ts`. */
async function inside<Result>(
  host: LabHost,
  command: string,
  counts: Counts,
  rounds?: number,
): Promise<Result> {
  const { family, local, virtual } = counts;
  const argv = [process.execPath, INSIDE, command, family, String(local), String(virtual)];
  const { stdout } = await host.run(rounds === undefined ? argv : [...argv, String(rounds)], {
    timeoutMs: COMMAND_TIMEOUT_MS,
  });
  return JSON.parse(stdout) as Result;
}

/** Away with all that was added, and with its NICs, because that is much faster than to remove each address. */
async function clear(host: LabHost): Promise<void> {
  await host.run(['ip', 'link', 'del', 'kube-lb0'], { mayFail: true });
  await host.removeNic();
  await host.restoreNic();
}

async function timePrograms(
  figures: Figures,
  host: LabHost,
  counts: Counts,
  rounds: number,
  atMost: number,
): Promise<void> {
  await host.writeFile('/run/lab-add', batch(counts));
  const ratios: number[] = [];
  const lbd: number[] = [];
  const ip: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await clear(host);
    ip.push(await timed(host, ['ip', '-batch', '/run/lab-add']));
    await clear(host);
    lbd.push((await inside<{ totalMs: number }>(host, 'program', counts)).totalMs);
    ratios.push((lbd.at(-1) ?? 0) / (ip.at(-1) ?? Number.NaN));
  }
  const { family, local, virtual } = counts;
  figures.record({
    bench: BENCH,
    case: `${local} local and ${virtual} virtual ${family} addresses from nothing, median of ${rounds}`,
    value: median(ratios),
    unit: '×',
    target: { atMost },
    against: `ip -batch: median ${seconds(median(ip))}, lbd ${seconds(median(lbd))}`,
  });
}

/** The same addresses on the same link, with the scopes and flags that `network-host.ts` gives them. */
function batch({ family, local, virtual }: Counts): string {
  const addresses = (count: number, text: (at: number) => string) =>
    Array.from({ length: count }, (_, at) => text(at));
  const v4 = (at: number) => `${at >> 8}.${at & 255}`;
  const hex = (at: number) => at.toString(16);
  const link = ['link add kube-lb0 type bridge', 'link set kube-lb0 up'];
  const lines =
    family === 'v4'
      ? [
          ...addresses(
            local,
            (at) => `10.77.${v4(at + (64 << 8))}/32 dev eth0 valid_lft 600 preferred_lft 600 noprefixroute`,
          ),
          ...addresses(virtual, (at) => `198.18.${v4(at)}/32 dev kube-lb0 scope link`),
        ]
      : [
          ...addresses(
            local,
            (at) => `fd00:77::1:${hex(at)}/128 dev eth0 valid_lft 600 preferred_lft 0 nodad noprefixroute`,
          ),
          ...addresses(virtual, (at) => `fd00:78::${hex(at)}/128 dev kube-lb0 preferred_lft 0 nodad`),
        ];
  return [...link, ...lines.map((line) => `addr add ${line}`)].join('\n');
}

async function timeRestarts(figures: Figures, host: LabHost, counts: Counts): Promise<void> {
  const monitor = await host.spawn(['ip', '-o', 'monitor', 'link', 'address', 'route']);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const { heldMs, held } = await inside<{ heldMs: number; held: number }>(host, 'restart', counts);
    if (held !== counts.local + counts.virtual) throw new Error(`${held} addresses held after a restart`);
    times.push(heldMs);
  }
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const writes = monitor.lines.length;
  monitor.kill('SIGTERM');
  const name = `restart with ${counts.local} local and ${counts.virtual} virtual addresses there`;
  figures.record({
    bench: BENCH,
    case: `${name}: all held, median of ${ROUNDS}`,
    value: median(times) / 1000,
    unit: 's',
    target: { atMost: 1 },
    against: 'from the first look at the kernel',
  });
  figures.record({
    bench: BENCH,
    case: `${name}: changes in the kernel, of ${ROUNDS}`,
    value: writes,
    unit: '',
    target: { atMost: 0 },
    against: writes === 0 ? '' : `first: ${monitor.lines[0]?.text}`,
  });
}

async function timeRepairs(figures: Figures, host: LabHost): Promise<void> {
  const counts = { family: 'v4', local: COUNT, virtual: COUNT } as const;
  const { backMs } = await inside<{ backMs: number }>(host, 'repair', counts, ROUNDS);
  figures.record({
    bench: BENCH,
    case: `one of ${COUNT} local addresses deleted by hand: back, median of ${ROUNDS}`,
    value: backMs,
    unit: 'ms',
    target: { atMost: 20 },
    against: '',
  });
}

async function timeRenewals(
  figures: Figures,
  host: LabHost,
  counts: Counts,
  rounds: number,
  sharePercent: number,
): Promise<void> {
  await clear(host);
  await inside(host, 'program', counts);
  const { cpuMs, lifetimeMs } = await inside<{ cpuMs: number; lifetimeMs: number }>(
    host,
    'renew',
    counts,
    rounds,
  );
  const { family, local } = counts;
  figures.record({
    bench: BENCH,
    case: `renewing ${local} ${family} addresses, median of ${rounds}`,
    value: (cpuMs / (lifetimeMs / 4)) * 100,
    unit: '% of a core',
    target: { atMost: sharePercent },
    against: `${cpuMs.toFixed(0)} ms each ${lifetimeMs / 4000} s; the kernel keeps them ${lifetimeMs / 1000} s without lbd`,
  });
}

/** Milliseconds of a command inside a host, measured there, so that entering the host does not count. */
async function timed(host: LabHost, argv: readonly string[]): Promise<number> {
  const script =
    'import("node:child_process").then(({ spawnSync }) => { const t = performance.now(); const r = spawnSync(process.argv[1], process.argv.slice(2)); if (r.status !== 0) throw new Error(r.stderr); console.log(performance.now() - t); })';
  const { stdout } = await host.run([process.execPath, '-e', script, ...argv], {
    timeoutMs: COMMAND_TIMEOUT_MS,
  });
  return Number(stdout);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
