import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createLab, type Lab } from '../test/support/lab.ts';
import type { Lbd } from '../test/support/lab-lbd.ts';
import { type Figures, median } from './harness.ts';
import { partsOf, partsOfImports } from './memory.ts';
import { memoryOf } from './process-figures.ts';

/** What a host pays for lbd: the package, its start, its return after a kill, its memory, and how long lbctl takes. */

const BENCH = 'package';
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BINARY = join(ROOT, 'build/lbd');
const LBCTL = join(ROOT, 'build/lbctl');
const UNIT = join(ROOT, 'packaging/systemd/lbd.service');
const SOCKET = '/run/lbd/lbd.sock';
const ROUNDS = 15;
const SETTLE_MS = 5_000;
const MEMORY: readonly {
  readonly services: number;
  readonly anonymousMb: number;
  readonly residentMb: number;
}[] = [
  { services: 0, anonymousMb: 45, residentMb: 115 },
  { services: 1_000, anonymousMb: 70, residentMb: 140 },
];
const CONFIG = '[[pool]]\nname = "default"\naddresses = ["10.77.64.0/18"]\n';

export async function run(figures: Figures): Promise<void> {
  recordSizes(figures);
  record(figures, `lbctl version, median of ${ROUNDS}`, median(times(LBCTL, ['version'])), 'ms', 80);
  await timeStartAndReturn(figures);
  for (const expected of MEMORY) await recordMemory(figures, expected);
  for (const { name, mb } of partsOfImports()) record(figures, name, mb, 'MB', undefined);
}

function recordSizes(figures: Figures): void {
  const deb = execFileSync(process.execPath, ['scripts/build-deb.ts', '--output', 'build/bench'], {
    cwd: ROOT,
    encoding: 'utf8',
  }).trim();
  const kibibytes = Number(
    execFileSync('dpkg-deb', ['-f', join(ROOT, deb), 'Installed-Size'], { encoding: 'utf8' }),
  );
  record(figures, 'package', statSync(join(ROOT, deb)).size / 1e6, 'MB', 45);
  record(figures, 'installed', (kibibytes * 1024) / 1e6, 'MB', 160);
}

/** As systemd does it, without systemd's own time: ExecStopPost=, the pause, the start. */
async function timeStartAndReturn(figures: Figures): Promise<void> {
  await using lab = await startLab();
  const host = lab.host('node1');
  const options = { toml: CONFIG, binary: BINARY };
  const starts: number[] = [];
  const stopPosts: number[] = [];
  const returns: number[] = [];
  const stopPost = stopPostCommand();
  const pauseMs = restartPauseMs();
  let lbd = await lab.startLbd(host, options);
  for (let round = 0; round < ROUNDS; round++) {
    const killedAt = performance.now();
    await lbd.stop('SIGKILL');
    await host.run(['sh', '-c', stopPost], { env: { SERVICE_RESULT: 'signal' } });
    stopPosts.push(performance.now() - killedAt);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    lbd = await lab.startLbd(host, options);
    returns.push(performance.now() - killedAt);
    starts.push(await lbd.ready());
  }
  const what = `median of ${ROUNDS}`;
  record(figures, `start to READY, ${what}`, median(starts), 'ms', 400);
  record(figures, `SIGKILL to the end of ExecStopPost=, ${what}`, median(stopPosts), 'ms', undefined);
  record(figures, `SIGKILL to READY, without systemd's own time, ${what}`, median(returns), 'ms', 300);
}

/** How long a command takes from its start to its end, in ms, when the executable has been read from the disk. */
function times(command: string, args: readonly string[]): readonly number[] {
  const once = () => {
    const startedAt = performance.now();
    execFileSync(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    return performance.now() - startedAt;
  };
  once();
  return Array.from({ length: ROUNDS }, once);
}

/** The shell command of ExecStopPost= as systemd would hand it to sh. */
function stopPostCommand(): string {
  const command = ofUnit(/^ExecStopPost=\/bin\/sh -c '(.*)'$/m, 'ExecStopPost= with a shell command');
  return command.replaceAll('$$', '$').replaceAll('%n', 'lbd.service');
}

/** How long systemd waits between the end of lbd and its next start. */
function restartPauseMs(): number {
  return Number(ofUnit(/^RestartSec=(\d+)ms$/m, 'RestartSec= in milliseconds'));
}

function ofUnit(pattern: RegExp, what: string): string {
  const [, value] = pattern.exec(readFileSync(UNIT, 'utf8')) ?? [];
  if (value === undefined) throw new Error(`${UNIT}: expected ${what}, found none`);
  return value;
}

async function recordMemory(figures: Figures, expected: (typeof MEMORY)[number]): Promise<void> {
  const { services, anonymousMb, residentMb } = expected;
  await using lab = await startLab();
  await lab.apiServer.load(Array.from({ length: services }, (_, index) => loadBalancer(`web-${index}`)));
  const lbd = await startServing(lab, services);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const memory = memoryOf(lbd.pid);
  record(figures, `RssAnon, ${services} Services`, memory.anonymousMb, 'MB', anonymousMb);
  record(figures, `VmRSS, ${services} Services`, memory.residentMb, 'MB', residentMb);
  for (const { name, mb } of await partsOf(lbd))
    record(figures, `${name}, ${services} Services`, mb, 'MB', undefined);
  await lbd.stop();
  // Another one: that of the memory has a debugger open.
  const { host } = await startServing(lab, services);
  const status = times(LBCTL, ['--socket', host.outside(SOCKET), 'status']);
  record(figures, `lbctl status, ${services} Services, median of ${ROUNDS}`, median(status), 'ms', 150);
}

async function startServing(lab: Lab, services: number): Promise<Lbd> {
  const lbd = await lab.startLbd('node1', { toml: CONFIG, binary: BINARY });
  const isServed = (states: readonly { readonly state: string }[]) =>
    states.length === services && states.every(({ state }) => state === 'announced');
  await lbd.waitForStatus((status) => isServed(status.services), {
    describe: `${services} announced`,
    timeoutMs: 60_000,
  });
  return lbd;
}

async function startLab(): Promise<Lab> {
  if (!existsSync(BINARY)) throw new Error(`${BINARY} is not there: run make binary`);
  const lab = await createLab({
    segments: { lan: { v4: '10.77.0.0/16', v6: null } },
    hosts: { api: {}, node1: {} },
  });
  await lab.startApiServer('api');
  return lab;
}

function loadBalancer(name: string): unknown {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { type: 'LoadBalancer', ports: [{ port: 80, protocol: 'TCP' }] },
  };
}

function record(
  figures: Figures,
  name: string,
  value: number,
  unit: string,
  atMost: number | undefined,
): void {
  const target = atMost === undefined ? undefined : { atMost };
  figures.record({ bench: BENCH, case: name, value, unit, target, against: '' });
}
