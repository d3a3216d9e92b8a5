import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Cluster } from '../test/support/cluster.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import { SOURCE_ENVIRONMENT } from '../test/support/lab-source.ts';
import { labTimeMs } from '../test/support/lab-time.ts';
import { PingLoop } from '../test/support/ping-loop.ts';
import { Prober } from '../test/support/prober.ts';
import { onNic } from '../test/support/scenario.ts';
import { type Figures, median } from './harness.ts';
import { VRRP_VIP, VrrpPair } from './keepalived.ts';
import { cpuShare, memoryOf } from './process-figures.ts';

/**
 * Who has an address when its owner dies, is cut off, hangs or is drained: gaps as an ARP prober sees them, and as a client
 * with a warm neighbour entry does (ping through the kernel). Three hosts, real binary, keepalived beside it.
 */

const BENCH = 'ownership';
const ROUNDS = Number(process.env['ROUNDS'] ?? 20);
const PROBE_MS = 2;
const PING_MS = 5;
const LIFETIME_MS = 4_000;
const IDLE_MS = 15_000;
const HTTP_LOAD = fileURLToPath(new URL('../test/support/http-load.ts', import.meta.url));
const WEB_SERVER = `require('node:http').createServer((q, r) => r.end('ok'))
  .listen({ port: 80, host: '0.0.0.0', backlog: 1024 }, () => console.log('listening'))`;

export async function run(figures: Figures): Promise<void> {
  const record = (name: string, value: number, unit: string, atMost: number | undefined, against = '') =>
    figures.record({
      bench: BENCH,
      case: name,
      value,
      unit,
      target: atMost === undefined ? undefined : { atMost },
      against,
    });
  const vrrp = new Map<number, number>();
  for (const advertS of [0.1, 1]) vrrp.set(advertS, await vrrpCut(advertS, record));
  await withCluster(3, async (cluster) => {
    await cut(cluster, record, vrrp.get(0.1) ?? Number.NaN);
    await kill(cluster, record);
    await restart(cluster, record);
    await freeze(cluster, record);
    await drain(cluster, record);
  });
  await withCluster(7, (cluster) => idle(cluster, record));
}

type Record = (
  name: string,
  value: number,
  unit: string,
  atMost: number | undefined,
  against?: string,
) => void;

async function withCluster(hosts: number, use: (cluster: Cluster) => Promise<void>): Promise<void> {
  const cluster = await Cluster.start({ hosts, toml: `[local]\nlifetime = "${LIFETIME_MS / 1_000}s"` });
  try {
    await cluster.startAll();
    await use(cluster);
  } finally {
    await cluster.close();
  }
}

/** What clients saw of one address since `fromMs`. */
type Seen = { readonly gapMs: number; readonly warmMs: number; readonly doubleMs: number };

async function watched(client: LabHost, ip: string, act: (prober: Prober) => Promise<number>): Promise<Seen> {
  await using prober = await Prober.start(client, { addresses: [ip], intervalMs: PROBE_MS });
  await prober.firstAnswer(ip);
  const pings = await PingLoop.start(client, ip, PING_MS);
  const fromMs = await act(prober);
  const { longestLossMs } = await pings.stop();
  const gap = prober.longestGap(ip, { fromMs });
  return { gapMs: gap?.ms ?? Number.NaN, warmMs: longestLossMs, doubleMs: prober.duplicates(ip).overlapMs };
}

function recordGaps(
  record: Record,
  name: string,
  seen: readonly Seen[],
  bounds: readonly [number?, number?],
) {
  const gaps = seen.map(({ gapMs }) => gapMs);
  const [medianMs, maxMs] = bounds;
  record(`${name}: gap of ARP answers, median`, median(gaps), 'ms', medianMs, `${seen.length} times`);
  record(`${name}: gap of ARP answers, max`, Math.max(...gaps), 'ms', maxMs);
  const warm = seen.map(({ warmMs }) => warmMs);
  record(`${name}: pings lost in a row, median`, median(warm), 'ms', undefined);
  record(`${name}: pings lost in a row, max`, Math.max(...warm), 'ms', undefined);
}

async function vrrpCut(advertS: number, record: Record): Promise<number> {
  const pair = await VrrpPair.start(advertS);
  const seen: Seen[] = [];
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const result = await watched(pair.client, VRRP_VIP, async (prober) => {
        const { mac } = await prober.firstAnswer(VRRP_VIP, { sinceMs: labTimeMs() });
        const owner = pair.hosts.find((host) => host.nic('eth0').mac === mac);
        if (owner === undefined) throw new Error(`nobody has ${mac}`);
        const cutAt = labTimeMs();
        await pair.lab.segment().disconnect(owner);
        const other = await firstOther(prober, VRRP_VIP, mac, cutAt, 30_000);
        await sleep(500);
        await pair.lab.segment().connect(owner);
        await sleep(Math.max(1_000, 3 * advertS * 1_000));
        void other;
        return cutAt;
      });
      seen.push(result);
      await sleep(1_000);
    }
  } finally {
    await pair.close();
  }
  recordGaps(record, `keepalived, adverts every ${advertS} s: host cut off`, seen, []);
  const doubles = seen.map(({ doubleMs }) => doubleMs);
  record(`keepalived, adverts every ${advertS} s: two answering, max`, Math.max(...doubles), 'ms', undefined);
  return median(seen.map(({ gapMs }) => gapMs));
}

/** Waits for an answer of another host than `mac`. */
async function firstOther(prober: Prober, ip: string, mac: string, sinceMs: number, timeoutMs: number) {
  const deadline = labTimeMs() + timeoutMs;
  for (;;) {
    const found = prober.answers(ip).findLast((answer) => answer.atMs >= sinceMs && answer.mac !== mac);
    if (found !== undefined) return found;
    if (labTimeMs() > deadline) throw new Error(`nobody else answered for ${ip} within ${timeoutMs} ms`);
    await sleep(2);
  }
}

async function cut(cluster: Cluster, record: Record, vrrpMs: number): Promise<void> {
  const { ip } = await cluster.serve({ name: 'cut' });
  const seen: Seen[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const owner = await cluster.ownerOf(ip);
    const { mac } = owner.nic('eth0');
    seen.push(
      await watched(cluster.client, ip, async (prober) => {
        const cutAt = labTimeMs();
        await cluster.lab.segment().disconnect(owner);
        await firstOther(prober, ip, mac, cutAt, 5_000);
        await onNic(owner, ip, false, 2_000);
        await sleep(500 + 1_000 * Math.random());
        await cluster.lab.segment().connect(owner);
        await cluster.joined();
        return cutAt;
      }),
    );
    // A host that is back claims nothing of others for a while, and may be the next heir.
    await sleep(4_000);
  }
  recordGaps(record, 'host cut off', seen, [250, 400]);
  record('host cut off and back: two answering, max', Math.max(...seen.map((one) => one.doubleMs)), 'ms', 50);
  const ratio = median(seen.map(({ gapMs }) => gapMs)) / vrrpMs;
  record('host cut off: median gap beside keepalived at 0.1 s', ratio, '', 1, 'median / median');
}

async function kill(cluster: Cluster, record: Record): Promise<void> {
  const { ip } = await cluster.serve({ name: 'kill' });
  const seen: Seen[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const owner = await cluster.ownerOf(ip);
    const { mac } = owner.nic('eth0');
    seen.push(
      await watched(cluster.client, ip, async (prober) => {
        const killedAt = labTimeMs();
        await cluster.lbd(owner).stop('SIGKILL');
        await firstOther(prober, ip, mac, killedAt, LIFETIME_MS + 5_000);
        await sleep(500);
        return killedAt;
      }),
    );
    await cluster.startLbd(owner);
    await cluster.joined();
  }
  recordGaps(record, 'lbd killed, not started again', seen, [50, 50]);
  record('lbd killed: two answering, max', Math.max(...seen.map((one) => one.doubleMs)), 'ms', 0);
}

async function restart(cluster: Cluster, record: Record): Promise<void> {
  const { ip, owner } = await cluster.serve({ name: 'restart' });
  const seen: Seen[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    seen.push(
      await watched(cluster.client, ip, async () => {
        const killedAt = labTimeMs();
        await cluster.lbd(owner).stop(round % 2 === 0 ? 'SIGKILL' : 'SIGTERM');
        await cluster.startLbd(owner);
        await cluster.joined();
        await sleep(LIFETIME_MS + 1_500 - Math.min(3_000, labTimeMs() - killedAt));
        return killedAt;
      }),
    );
    if ((await cluster.ownerOf(ip)) !== owner) throw new Error(`${ip} moved for a restart`);
  }
  recordGaps(record, 'lbd killed or stopped, started again', seen, [50, 50]);
}

async function freeze(cluster: Cluster, record: Record): Promise<void> {
  const { ip } = await cluster.serve({ name: 'freeze' });
  const removed: number[] = [];
  const gaps: number[] = [];
  const doubles: number[] = [];
  const released: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const owner = await cluster.ownerOf(ip);
    const lbd = cluster.lbd(owner);
    const { mac } = owner.nic('eth0');
    const seen = await watched(cluster.client, ip, async (prober) => {
      const stoppedAt = labTimeMs();
      lbd.kill('SIGSTOP');
      await firstOther(prober, ip, mac, stoppedAt, LIFETIME_MS + 5_000);
      const last = prober.answers(ip).findLast((answer) => answer.mac === mac);
      removed.push((last?.atMs ?? Number.NaN) - stoppedAt);
      const wokenAt = labTimeMs();
      lbd.kill('SIGCONT');
      await lbd.waitForStatus(
        (status) => status.election?.owners.find((one) => one.ip === ip)?.state === 'theirs',
        { describe: 'the new owner known to the old one' },
      );
      const again = prober.answers(ip).findLast((answer) => answer.mac === mac && answer.atMs > wokenAt);
      released.push(again === undefined ? 0 : again.atMs - wokenAt);
      return stoppedAt;
    });
    gaps.push(seen.gapMs);
    doubles.push(seen.doubleMs);
    await cluster.joined();
  }
  record(
    'lbd stopped (SIGSTOP): its kernel answered on for, max',
    Math.max(...removed),
    'ms',
    LIFETIME_MS + 1_000,
  );
  record('lbd stopped: gap of ARP answers, median', median(gaps), 'ms', 50, `${ROUNDS} times`);
  record('lbd stopped: gap of ARP answers, max', Math.max(...gaps), 'ms', 50);
  record('lbd stopped: two answering, max', Math.max(...doubles), 'ms', 0);
  record('lbd continued: answered on for, max', Math.max(...released), 'ms', 200);
}

async function drain(cluster: Cluster, record: Record): Promise<void> {
  for (const host of cluster.hosts) {
    const web = await host.spawn([process.execPath, '-e', WEB_SERVER]);
    await web.waitForLine(/listening/);
  }
  const { ip } = await cluster.serve({ name: 'drain' });
  const gaps: number[] = [];
  const overlaps: number[] = [];
  let failedOutside = 0;
  let failedInside = 0;
  let answered = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const owner = await cluster.ownerOf(ip);
    const { mac } = owner.nic('eth0');
    await using prober = await Prober.start(cluster.client, { addresses: [ip], intervalMs: PROBE_MS });
    await prober.firstAnswer(ip);
    const load = await cluster.client.spawn([process.execPath, HTTP_LOAD, ip, '200'], {
      env: SOURCE_ENVIRONMENT,
    });
    await load.waitForLine(/started/);
    await sleep(500);
    const fromMs = labTimeMs();
    await cluster.lbd(owner).lbctl(['drain', '--wait']);
    await firstOther(prober, ip, mac, fromMs, 5_000);
    await sleep(700);
    await load.stop('SIGINT');
    gaps.push(prober.longestGap(ip, { fromMs })?.ms ?? Number.NaN);
    const [lastOfOld, firstOfNew] = [
      prober.answers(ip).findLast((answer) => answer.mac === mac)?.atMs ?? Number.NaN,
      prober.answers(ip).find((answer) => answer.mac !== mac)?.atMs ?? Number.NaN,
    ];
    overlaps.push(Math.max(0, lastOfOld - firstOfNew));
    for (const line of load.stdout.split('\n')) {
      if (!line.startsWith('{')) continue;
      const { at, error } = JSON.parse(line) as { at: number; error?: string };
      if (error === undefined) answered += 1;
      else if (at >= firstOfNew - PROBE_MS && at <= lastOfOld + PROBE_MS) failedInside += 1;
      else failedOutside += 1;
    }
    await cluster.lbd(owner).lbctl(['undrain']);
    await sleep(300);
  }
  const probe = `probes every ${PROBE_MS} ms`;
  record('drain: gap of ARP answers, max', Math.max(...gaps), 'ms', 20, `${ROUNDS} times; ${probe}`);
  record('drain: both answering, max', Math.max(...overlaps), 'ms', 50);
  record(
    'drain: requests failed, begun outside the overlap',
    failedOutside,
    '',
    0,
    `of ${answered} answered`,
  );
  record('drain: requests failed, begun inside it', failedInside, '', undefined);
}

async function idle(cluster: Cluster, record: Record): Promise<void> {
  for (let index = 0; index < 7; index++) await cluster.serve({ name: `idle-${index}` });
  await sleep(5_000);
  const host = cluster.hosts[0];
  if (host === undefined) throw new Error('no hosts');
  const lbd = cluster.lbd(host);
  const before = (await lbd.status()).election?.traffic;
  const startedAt = labTimeMs();
  const share = await cpuShare(lbd.pid, IDLE_MS);
  const after = (await lbd.status()).election?.traffic;
  if (before === undefined || after === undefined) throw new Error('no traffic in the status');
  const seconds = (labTimeMs() - startedAt) / 1_000;
  // On the wire each packet has 42 more: Ethernet, IPv4 and UDP headers.
  const rate = (bytes: number, packets: number) => (bytes + 42 * packets) / seconds / 1_000;
  const sent = rate(after.sentBytes - before.sentBytes, after.sent - before.sent);
  const received = rate(after.receivedBytes - before.receivedBytes, after.received - before.received);
  record('seven hosts idle: gossip sent', sent, 'kB/s', 15, 'on the wire');
  record('seven hosts idle: gossip received', received, 'kB/s', 15, 'on the wire');
  record('seven hosts idle: CPU', 100 * share, '% of a core', 1);
  record('seven hosts idle: VmRSS', memoryOf(lbd.pid).residentMb, 'MB', undefined);
}
