import { setTimeout as sleep } from 'node:timers/promises';
import { lifetimeFor } from '../src/iface/lifetime.ts';
import { Cluster, macOf } from '../test/support/cluster.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import { labTimeMs } from '../test/support/lab-time.ts';
import { Prober } from '../test/support/prober.ts';
import { waitFor } from '../test/support/wait.ts';
import { type Figures, median } from './harness.ts';

/**
 * How soon the other one of two hosts answers for all of many v6 addresses, whose lifetimes have grown with their number
 * (ADR 8): after their owner was cut off, and after the kernel of an owner whose lbd hangs has ended them.
 */

const BENCH = 'network-takeover';
const POOL = 'fd77::1:0/112';
/** `COUNTS=1000,3000`. */
const COUNTS = (process.env['COUNTS'] ?? '300,1000').split(',').map(Number);
/** Whose end is waited for: with 3,000 it takes more than six minutes. */
const HANGING_MAX = 1_000;
/** As many as a prober can ask without being late. */
const PROBED = 20;
/** After a join: until neighbours watch each other, the end of one is only suspected for over a second. */
const SETTLED_MS = 3_000;
const LIFETIME = '[local]\nlifetime = "4s"';

export async function run(figures: Figures): Promise<void> {
  for (const count of COUNTS) await takeOver(figures, count);
}

async function takeOver(figures: Figures, count: number): Promise<void> {
  const cluster = await Cluster.start({ hosts: 2, pool: [POOL], toml: LIFETIME });
  try {
    const [first, second] = cluster.hosts as [LabHost, LabHost];
    await cluster.startLbd(first);
    await serve(cluster, count);
    await allOn(first, count);
    // One that joins takes nothing.
    await cluster.startLbd(second);
    await cluster.joined();
    await sleep(SETTLED_MS);
    const record = (name: string, value: number, unit = 'ms', atMost?: number): void =>
      figures.record({
        bench: BENCH,
        case: `${count} v6: ${name}`,
        value,
        unit,
        target: atMost === undefined ? undefined : { atMost },
        against: `${PROBED} of them probed`,
      });
    const cut = await during(cluster, first, second, count, async () => {
      await cluster.lab.segment().disconnect(first);
    });
    record('owner cut off: half are answered by the heir after', median(cut.answeredMs));
    record('owner cut off: all are answered by the heir after', Math.max(...cut.answeredMs));
    record('owner cut off: all in the kernel of the heir after', cut.allMs);
    // What its heir has not claimed when it is back stays its own.
    await claimedBy(cluster, second, count);
    await cluster.lab.segment().connect(first);
    if (count > HANGING_MAX) return;
    await waitFor(async () => (await on(first)).length === 0, {
      describe: `${first.name} to let go`,
      timeoutMs: 60_000,
    });
    await cluster.joined();
    await sleep(SETTLED_MS);
    const lifetimeMs = await grown(second, count);
    const hung = await during(cluster, second, first, count, async () => {
      cluster.lbd(second).kill('SIGSTOP');
    });
    cluster.lbd(second).kill('SIGCONT');
    record('lbd stopped (SIGSTOP): the lifetime', lifetimeMs);
    record(
      'lbd stopped (SIGSTOP): its kernel answered on for',
      Math.max(...hung.servedMs),
      'ms',
      lifetimeMs + 1_100,
    );
    record('lbd stopped (SIGSTOP): no answer for, median', median(hung.gapsMs), 'ms', 50);
    record('lbd stopped (SIGSTOP): no answer for, max', Math.max(...hung.gapsMs), 'ms');
  } finally {
    await cluster.close();
  }
}

type Seen = {
  /** Until each probed address was answered by the heir, since the end of the owner. */
  readonly answeredMs: readonly number[];
  /** For how long the owner answered for each. */
  readonly servedMs: readonly number[];
  readonly gapsMs: readonly number[];
  readonly allMs: number;
};

async function during(
  cluster: Cluster,
  owner: LabHost,
  heir: LabHost,
  count: number,
  end: () => Promise<void>,
): Promise<Seen> {
  const all = await on(owner);
  const probed = Array.from({ length: PROBED }, (_, at) => all[Math.floor((at * count) / PROBED)] ?? '');
  await using prober = await Prober.start(cluster.lab.host('judge'), { addresses: probed, intervalMs: 5 });
  for (const ip of probed) await prober.firstAnswer(ip);
  const fromMs = labTimeMs();
  await end();
  await allOn(heir, count);
  const allMs = labTimeMs() - fromMs;
  const options = { notOf: macOf(owner), sinceMs: fromMs };
  const answers = await Promise.all(probed.map((ip) => prober.firstAnswer(ip, options)));
  return {
    answeredMs: answers.map(({ atMs }) => atMs - fromMs),
    servedMs: probed.map((ip) => {
      const last = prober.answers(ip).findLast(({ mac }) => mac === macOf(owner));
      return (last?.atMs ?? fromMs) - fromMs;
    }),
    gapsMs: probed.map((ip) => prober.longestGap(ip, { fromMs })?.ms ?? Number.POSITIVE_INFINITY),
    allMs,
  };
}

async function serve(cluster: Cluster, count: number): Promise<void> {
  const spec = { ipFamilies: ['IPv6'], ipFamilyPolicy: 'SingleStack' };
  for (let from = 0; from < count; from += 100) {
    const names = Array.from({ length: Math.min(100, count - from) }, (_, at) => `web-${from + at}`);
    await Promise.all(names.map((name) => cluster.lab.api.createService({ name, spec })));
  }
}

async function allOn(host: LabHost, count: number): Promise<void> {
  await waitFor(async () => (await on(host)).length === count, {
    describe: `${count} addresses on ${host.name}`,
    timeoutMs: 600_000,
    everyMs: 20,
  });
}

/** Waits until `host` owns them all by its own word: one in its kernel may still be given up as long as it is not claimed. */
async function claimedBy(cluster: Cluster, host: LabHost, count: number): Promise<void> {
  await cluster
    .lbd(host)
    .waitForStatus(
      ({ election }) => election?.owners.filter(({ owner }) => owner === host.name).length === count,
      { describe: `${count} addresses claimed by ${host.name}`, timeoutMs: 600_000 },
    );
}

/** The addresses of the pool on this host. */
async function on(host: LabHost): Promise<readonly string[]> {
  return (await shown(host)).map(([, ip = '']) => ip);
}

async function shown(host: LabHost): Promise<readonly RegExpExecArray[]> {
  const { stdout } = await host.run(['ip', '-6', '-o', 'address', 'show', 'dev', 'eth0', 'to', POOL]);
  return [...stdout.matchAll(/ inet6 ([0-9a-f:]+)\/128 .* valid_lft (\d+)sec/g)];
}

/** Waits until all have the lifetime that comes with their number; resolves with it. */
async function grown(host: LabHost, count: number): Promise<number> {
  const leftOf = async () => (await shown(host)).map(([, , left]) => Number(left));
  const lifetimeMs = lifetimeFor(4_000, { v4: 0, v6: count, v6OfHost: count });
  await waitFor(async () => Math.min(...(await leftOf())) * 1_000 >= lifetimeMs * 0.7, {
    describe: `a lifetime of ${lifetimeMs} ms`,
    timeoutMs: 120_000,
    everyMs: 200,
  });
  return lifetimeMs;
}
