import { fileURLToPath } from 'node:url';
import { createLab, type Lab } from '../test/support/lab.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import type { Lbd } from '../test/support/lab-lbd.ts';
import { Prober } from '../test/support/prober.ts';
import { type Figures, median, percentile } from './harness.ts';
import { cpuShare, memoryOf } from './process-figures.ts';

/**
 * One host, from a Service to an answer on the wire, and what it costs. The real binary in the lab, beside a client
 * that asks for the address every millisecond.
 */

const BENCH = 'first-light';
const BINARY = fileURLToPath(new URL('../build/lbd', import.meta.url));
const ADD_ADDRESSES = fileURLToPath(new URL('add-addresses.ts', import.meta.url));

const SERVICES_TIMED = 60;
const COLD_STARTS = 30;
const ADDRESSES_ADDED = 4_000;
const ADD_ROUNDS = 30;
const SERVICES_AT_START = [0, 1_000, 10_000] as const;
const START_ROUNDS = 3;
const IDLE_MS = 10_000;
const QUIET_MS = 5_000;

export async function run(figures: Figures): Promise<void> {
  await timeServices(figures);
  await timeAddressesAdded(figures);
  await timeColdStarts(figures);
  for (const count of SERVICES_AT_START) await timeServicesAtStart(figures, count);
}

/** A lab whose segment has room for 10,000 addresses. */
function createWideLab(): Promise<Lab> {
  return createLab({
    segments: { lan: { v4: '10.77.0.0/16', v6: null } },
    hosts: { api: {}, node1: {}, client: {} },
  });
}

function config(addresses: string): string {
  return `[[pool]]\nname = "bench"\naddresses = ["${addresses}"]\n`;
}

async function settled(lbd: Lbd): Promise<void> {
  await lbd.waitForStatus((status) => status.kubernetes.allocator.self, { describe: 'the allocator Lease' });
}

async function timeServices(figures: Figures): Promise<void> {
  await using lab = await createWideLab();
  const api = await lab.startApiServer('api');
  const lbd = await lab.startLbd('node1', { toml: config('10.77.1.1-10.77.1.250'), binary: BINARY });
  await settled(lbd);
  const toStatus: number[] = [];
  const toAnswer: number[] = [];
  const serverMs: number[] = [];
  for (let index = 0; index <= SERVICES_TIMED; index++) {
    const ip = `10.77.1.${index + 1}`;
    await using prober = await Prober.start(lab.host('client'), { addresses: [ip], intervalMs: 1 });
    await api.resetStats();
    const { sentAtMs } = await lab.api.createService({ name: `web-${index}` });
    const { addresses, atMs } = await lab.api.waitForAddresses(`web-${index}`);
    if (addresses[0] !== ip)
      throw new Error(`expected ${ip} as the lowest free address, got ${addresses[0]}`);
    const answer = await prober.firstAnswer(ip);
    // The first Service warms the connections and the compiled code of three processes.
    if (index === 0) continue;
    toStatus.push(atMs - sentAtMs);
    toAnswer.push(answer.atMs - sentAtMs);
    serverMs.push(await serverTimeMs(api));
  }
  const record = (name: string, value: number, atMost: number | undefined, against: string) =>
    figures.record({
      bench: BENCH,
      case: name,
      value,
      unit: 'ms',
      target: atMost === undefined ? undefined : { atMost },
      against,
    });
  record(
    'created → status written, median',
    median(toStatus),
    12,
    'MetalLB 13 ms, PureLB 17 ms (real API server)',
  );
  record('created → status written, p99', percentile(toStatus, 0.99), 60, '');
  record(
    'created → first ARP answer, median',
    median(toAnswer),
    16,
    'MetalLB 17 ms, PureLB 20 ms (real API server)',
  );
  record('created → first ARP answer, p99', percentile(toAnswer, 0.99), 60, '');
  record("of that the API server's own time, median", median(serverMs), undefined, 'create and status patch');
}

/** What the API server itself took for the two writes of one Service. */
async function serverTimeMs(api: Awaited<ReturnType<Lab['startApiServer']>>): Promise<number> {
  const { recent } = await api.stats();
  const writes = recent.filter(({ verb, resource }) => {
    return (
      (verb === 'create' && resource === 'services') || (verb === 'patch' && resource === 'services/status')
    );
  });
  return writes.reduce((sum, { serverMs }) => sum + serverMs, 0);
}

async function timeAddressesAdded(figures: Figures): Promise<void> {
  await using lab = await createWideLab();
  const host = lab.host('node1');
  const addresses = Array.from(
    { length: ADDRESSES_ADDED },
    (_, index) => `10.77.${32 + (index >> 8)}.${index & 255}`,
  );
  const batch = (verb: string) => addresses.map((ip) => `addr ${verb} ${ip}/32 dev eth0`).join('\n');
  await host.writeFile('/run/lab-add', batch('add'));
  await host.writeFile('/run/lab-del', batch('del'));
  const lbd: number[] = [];
  const ip: number[] = [];
  for (let round = 0; round < ADD_ROUNDS; round++) {
    const { stdout } = await host.run([
      process.execPath,
      ADD_ADDRESSES,
      'eth0',
      ...addresses.slice(0, 1),
      String(ADDRESSES_ADDED),
    ]);
    lbd.push(Number(stdout));
    ip.push(await timed(host, ['ip', '-batch', '/run/lab-add']));
    await host.run(['ip', '-batch', '/run/lab-del']);
  }
  const ratios = lbd.map((ms, index) => ms / (ip[index] ?? Number.NaN));
  const against = `ip -batch: median ${median(ip).toFixed(1)} ms, lbd ${median(lbd).toFixed(1)} ms`;
  figures.record({
    bench: BENCH,
    case: `${ADDRESSES_ADDED} addresses added, median ratio to ip -batch`,
    value: median(ratios),
    unit: '×',
    target: { atMost: 1.5 },
    against,
  });
  figures.record({
    bench: BENCH,
    case: `${ADDRESSES_ADDED} addresses added, p99`,
    value: percentile(lbd, 0.99),
    unit: 'ms',
    target: undefined,
    against: `ip -batch p99 ${percentile(ip, 0.99).toFixed(1)} ms`,
  });
}

/** Milliseconds of a command inside a host, measured there, so that entering the host does not count. */
async function timed(host: LabHost, argv: readonly string[]): Promise<number> {
  const script =
    'import("node:child_process").then(({ spawnSync }) => { const t = performance.now(); const r = spawnSync(process.argv[1], process.argv.slice(2)); if (r.status !== 0) throw new Error(r.stderr); console.log(performance.now() - t); })';
  const { stdout } = await host.run([process.execPath, '-e', script, ...argv]);
  return Number(stdout);
}

async function timeColdStarts(figures: Figures): Promise<void> {
  await using lab = await createWideLab();
  await lab.startApiServer('api');
  const samples: number[] = [];
  for (let round = 0; round < COLD_STARTS; round++) {
    const lbd = await lab.startLbd('node1', { toml: config('10.77.1.1-10.77.1.250'), binary: BINARY });
    samples.push(await lbd.ready());
    await lbd.stop('SIGINT');
  }
  const record = (name: string, value: number, atMost: number | undefined) =>
    figures.record({
      bench: BENCH,
      case: name,
      value,
      unit: 'ms',
      target: atMost === undefined ? undefined : { atMost },
      against: '',
    });
  record('cold start of the executable to READY, median', median(samples), 300);
  record('cold start of the executable to READY, p99', percentile(samples, 0.99), undefined);
}

async function timeServicesAtStart(figures: Figures, count: number): Promise<void> {
  const samples: number[] = [];
  const rounds = count === 1_000 ? START_ROUNDS : 1;
  for (let round = 0; round < rounds; round++) {
    await using lab = await createWideLab();
    const api = await lab.startApiServer('api');
    await api.load(Array.from({ length: count }, (_, index) => loadBalancer(`web-${index}`)));
    const started = performance.now();
    const lbd = await lab.startLbd('node1', { toml: config('10.77.64.0/18'), binary: BINARY });
    const isDone = (states: readonly { readonly state: string }[]) =>
      states.length === count && states.every(({ state }) => state === 'announced');
    await lbd.waitForStatus(({ services }) => isDone(services), {
      describe: `${count} announced`,
      timeoutMs: 120_000,
    });
    samples.push(performance.now() - started);
    if (round < rounds - 1) continue;
    await quiet(api);
    await recordIdle(figures, lbd, count);
  }
  if (count === 0) return;
  figures.record({
    bench: BENCH,
    case: `${count} Services at start: all programmed, all statuses written, median of ${rounds}`,
    value: median(samples) / 1000,
    unit: 's',
    target: count === 1_000 ? { atMost: 5 } : undefined,
    against: '',
  });
}

/** Resolves when lbd has told the API server all it had to: it paces its Events, and idle begins after the last. */
async function quiet(api: Awaited<ReturnType<Lab['startApiServer']>>): Promise<void> {
  const writes = async () => {
    const { requests } = await api.stats();
    const counted = Object.entries(requests).filter(
      ([key]) => /^(create|patch) /.test(key) && !key.endsWith('leases'),
    );
    return counted.reduce((sum, [, { count }]) => sum + count, 0);
  };
  for (let before = -1, now = await writes(); before !== now; now = await writes()) {
    before = now;
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
  }
}

async function recordIdle(figures: Figures, lbd: Lbd, count: number): Promise<void> {
  const share = await cpuShare(lbd.pid, IDLE_MS);
  const memory = memoryOf(lbd.pid);
  const targets: Readonly<Record<number, number>> = { 0: 45, 1000: 70 };
  const rssTarget = targets[count];
  const record = (name: string, value: number, unit: string, atMost: number | undefined) =>
    figures.record({
      bench: BENCH,
      case: `${name}, ${count} Services`,
      value,
      unit,
      target: atMost === undefined ? undefined : { atMost },
      against: '',
    });
  record('idle CPU', share * 100, '% of a core', count === 1_000 ? 1 : undefined);
  record('RssAnon', memory.anonymousMb, 'MB', rssTarget);
  record('VmRSS', memory.residentMb, 'MB', undefined);
}

function loadBalancer(name: string): unknown {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { type: 'LoadBalancer', ports: [{ port: 80 }], allocateLoadBalancerNodePorts: false },
  };
}
