import { setTimeout as sleep } from 'node:timers/promises';
import type { SeenByClients } from '../test/support/clients.ts';
import { Cluster, macOf } from '../test/support/cluster.ts';
import { failuresOf, HttpLoad } from '../test/support/http-requests.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import { labTimeMs } from '../test/support/lab-time.ts';
import { onNic } from '../test/support/scenario.ts';
import { type Figures, median } from './harness.ts';
import { type VrrpFault, VrrpHosts } from './keepalived.ts';
import { cpuShare, memoryOf, sleepsOf } from './process-figures.ts';

/**
 * Who has an address when its owner dies, is cut off, hangs or is drained: gaps as an ARP prober sees them, and as a client
 * with a warm neighbour entry does (ping through the kernel). Three hosts, real binary, keepalived beside it in the same
 * lab. `ROUNDS` is how often each is done, `PARTS` which of `failures`, `keepalived-1s`
 * (its adverts every second, as it comes) and `idle` (all).
 */

const BENCH = 'ownership';
const ROUNDS = Number(process.env['ROUNDS'] ?? 20);
const PARTS = process.env['PARTS']?.split(',') ?? ['failures', 'keepalived-1s', 'idle'];
const PROBE = { probeMs: 2, pingMs: 5 };
const LIFETIME_MS = 4_000;
const LOSSY_MS = 60_000;
const IDLE_MS = 30_000;
const GOSSIP = 'udp dport 7946';

export async function run(figures: Figures): Promise<void> {
  const record: Record = (name, value, unit, atMost, against = '') =>
    figures.record({
      bench: BENCH,
      case: name,
      value,
      unit,
      target: atMost === undefined ? undefined : { atMost },
      against,
    });
  if (PARTS.includes('failures')) await failures(record);
  if (PARTS.includes('keepalived-1s')) await vrrp(1, record);
  if (PARTS.includes('idle')) await withCluster(7, (cluster) => idle(cluster, record));
}

async function failures(record: Record): Promise<void> {
  const vrrpMs = await vrrp(0.1, record);
  await withCluster(3, async (cluster) => {
    await cut(cluster, record, vrrpMs);
    await kill(cluster, record);
    await restart(cluster, record);
    await freeze(cluster, record);
    await drain(cluster, record);
    await lossy(cluster, record);
    await blocked(cluster, record);
  });
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

async function rounds<Result>(once: () => Promise<Result>): Promise<readonly Result[]> {
  const results: Result[] = [];
  for (let round = 0; round < ROUNDS; round++) results.push(await once());
  return results;
}

/** Bounds in ms; undefined for a figure that is only printed. */
type Bounds = { readonly median?: number; readonly max?: number; readonly double?: number };

function recordSeen(record: Record, name: string, seen: readonly SeenByClients[], bounds: Bounds = {}): void {
  const gaps = seen.map(({ gap }) => gap.ms);
  record(`${name}: gap of ARP answers, median`, median(gaps), 'ms', bounds.median, `${seen.length} times`);
  record(`${name}: gap of ARP answers, max`, Math.max(...gaps), 'ms', bounds.max);
  const warm = seen.map(({ warmMs }) => warmMs);
  record(`${name}: gap of a warm client, median`, median(warm), 'ms', undefined);
  record(`${name}: gap of a warm client, max`, Math.max(...warm), 'ms', undefined);
  const doubles = seen.map(({ doubleMs }) => doubleMs);
  record(`${name}: two answering, max`, Math.max(...doubles), 'ms', bounds.double);
  const excused = Math.max(...seen.map(({ excuseMs }) => excuseMs));
  record(`${name}: no processor for lbd or the prober, max`, excused, 'ms', undefined, 'within the gap');
}

// --- keepalived ------------------------------------------------------------------------------------------------------

/** Resolves with the median gap of a host that is cut off. */
async function vrrp(advertS: number, record: Record): Promise<number> {
  const hosts = await VrrpHosts.start(advertS);
  const medians = new Map<VrrpFault, number>();
  try {
    for (const fault of ['host cut off', 'SIGTERM', 'SIGKILL'] as const) {
      const seen = await rounds(() => hosts.round(fault, PROBE));
      recordSeen(record, `keepalived, adverts every ${advertS} s, ${fault}`, seen);
      medians.set(fault, median(seen.map(({ gap }) => gap.ms)));
    }
  } finally {
    await hosts.close();
  }
  return medians.get('host cut off') ?? Number.NaN;
}

// --- lbd -------------------------------------------------------------------------------------------------------------

async function cut(cluster: Cluster, record: Record, vrrpMs: number): Promise<void> {
  const { ip } = await cluster.serve({ name: 'cut' });
  let lostAtReturn = 0;
  const seen = await rounds(async () => {
    const owner = await cluster.ownerOf(ip);
    const clients = await cluster.watch(ip, PROBE);
    const fromMs = labTimeMs();
    await cluster.lab.segment().disconnect(owner);
    await clients.firstOther(macOf(owner), fromMs);
    await onNic(owner, ip, false, 2_000);
    await sleep(500 + 1_000 * Math.random());
    const returnMs = labTimeMs();
    await cluster.lab.segment().connect(owner);
    await cluster.joined();
    await sleep(500);
    const found = await clients.stop(fromMs);
    for (const loss of found.losses) if (loss.toMs > returnMs) lostAtReturn += loss.pings;
    // A host that is back claims nothing of others for a while, and may be the next heir.
    await sleep(3_500);
    return found;
  });
  recordSeen(record, 'host cut off', seen, { median: 250, max: 400, double: 50 });
  record('host cut off: pings lost when it returns', lostAtReturn, '', 0);
  const ratio = median(seen.map(({ gap }) => gap.ms)) / vrrpMs;
  record('host cut off: median gap beside keepalived at 0.1 s', ratio, '', 1, 'median / median');
}

async function kill(cluster: Cluster, record: Record): Promise<void> {
  const { ip } = await cluster.serve({ name: 'kill' });
  const seen = await rounds(async () => {
    const owner = await cluster.ownerOf(ip);
    const clients = await cluster.watch(ip, PROBE);
    await sleep(1_500 * Math.random());
    const fromMs = labTimeMs();
    await cluster.lbd(owner).stop('SIGKILL');
    await clients.firstOther(macOf(owner), fromMs);
    await sleep(500);
    const found = await clients.stop(fromMs);
    await cluster.startLbd(owner);
    await cluster.joined();
    await sleep(500);
    return found;
  });
  recordSeen(record, 'lbd killed, not started again', seen, { median: 50, max: 50, double: 0 });
}

async function restart(cluster: Cluster, record: Record): Promise<void> {
  const { ip, owner } = await cluster.serve({ name: 'restart' });
  let signal: NodeJS.Signals = 'SIGTERM';
  let moves = 0;
  const seen = await rounds(async () => {
    signal = signal === 'SIGTERM' ? 'SIGKILL' : 'SIGTERM';
    const before = await cluster.ownerOf(ip);
    const clients = await cluster.watch(ip, PROBE);
    const fromMs = labTimeMs();
    await cluster.lbd(before).stop(signal);
    await cluster.startLbd(before);
    await cluster.joined();
    // Past the end of the lifetime that the last life gave it.
    await sleep(Math.max(0, fromMs + LIFETIME_MS + 1_200 - labTimeMs()));
    const found = await clients.stop(fromMs);
    if ((await cluster.ownerOf(ip)) !== before) moves += 1;
    return found;
  });
  recordSeen(record, 'lbd killed or stopped, started again', seen, { median: 50, max: 50, double: 0 });
  record('lbd started again: addresses moved', moves, '', 0, `of ${owner.name}`);
}

async function freeze(cluster: Cluster, record: Record): Promise<void> {
  const { ip } = await cluster.serve({ name: 'freeze' });
  const removed: number[] = [];
  const released: number[] = [];
  const seen = await rounds(async () => {
    const owner = await cluster.ownerOf(ip);
    const lbd = cluster.lbd(owner);
    const clients = await cluster.watch(ip, PROBE);
    const fromMs = labTimeMs();
    lbd.kill('SIGSTOP');
    await clients.firstOther(macOf(owner), fromMs);
    removed.push((clients.lastOf(macOf(owner)) ?? Number.NaN) - fromMs);
    await sleep(200);
    const wokenMs = labTimeMs();
    lbd.kill('SIGCONT');
    await lbd.waitForStatus(
      ({ election }) => election?.owners.find((one) => one.ip === ip)?.state === 'theirs',
      { describe: 'the new owner known to the old one' },
    );
    await sleep(300);
    const again = clients.lastOf(macOf(owner)) ?? 0;
    released.push(Math.max(0, again - wokenMs));
    const found = await clients.stop(fromMs);
    await cluster.joined();
    return found;
  });
  const lifetime = LIFETIME_MS + 1_000;
  record('lbd stopped (SIGSTOP): its kernel answered on for, max', Math.max(...removed), 'ms', lifetime);
  recordSeen(record, 'lbd stopped (SIGSTOP)', seen, { median: 50, max: 50, double: 0 });
  record('lbd continued (SIGCONT): answered on for, max', Math.max(...released), 'ms', 200);
}

async function drain(cluster: Cluster, record: Record): Promise<void> {
  await cluster.startWebServers();
  const { ip } = await cluster.serve({ name: 'drain' });
  const overlaps: number[] = [];
  const counts = { answered: 0, atSwitch: 0, others: 0 };
  const seen = await rounds(async () => {
    const owner = await cluster.ownerOf(ip);
    const clients = await cluster.watch(ip, PROBE);
    const load = await HttpLoad.start(cluster.client, ip);
    await sleep(500);
    const fromMs = labTimeMs();
    await cluster.lbd(owner).lbctl(['drain', '--wait']);
    const taken = await clients.firstOther(macOf(owner), fromMs);
    await sleep(700);
    const requests = await load.stop();
    const found = await clients.stop(fromMs);
    const announced = clients.prober.seen(ip, 'arp-announcement').find(({ mac }) => mac === taken.mac);
    const overlap = {
      fromMs: Math.min(announced?.atMs ?? taken.atMs, taken.atMs),
      toMs: clients.lastOf(macOf(owner)) ?? taken.atMs,
    };
    overlaps.push(overlap.toMs - overlap.fromMs);
    const { atSwitch, others } = failuresOf(requests, overlap);
    counts.atSwitch += atSwitch.length;
    counts.others += others.length;
    counts.answered += requests.length - atSwitch.length - others.length;
    await cluster.undrain(owner);
    await sleep(300);
    return found;
  });
  const gaps = seen.map(({ gap }) => gap.ms);
  const probes = `${ROUNDS} times; asked every ${PROBE.probeMs} ms`;
  record('drain: gap of ARP answers, median', median(gaps), 'ms', 10, probes);
  record('drain: gap of ARP answers, max', Math.max(...gaps), 'ms', 20);
  const pings = seen.flatMap(({ losses }) => losses).reduce((sum, loss) => sum + loss.pings, 0);
  record('drain: pings lost', pings, '', 0, `one every ${PROBE.pingMs} ms`);
  record('drain: both answering, median', median(overlaps), 'ms', 50);
  record('drain: both answering, max', Math.max(...overlaps), 'ms', 50);
  record('drain: requests failed, begun outside the overlap', counts.others, '', 0, `of ${counts.answered}`);
  record('drain: requests failed, under way at the switch', counts.atSwitch, '', undefined);
}

/** Epochs of all addresses as each host has them: what moved, or was claimed anew, shows in them. */
async function epochs(cluster: Cluster): Promise<ReadonlyMap<string, string>> {
  const known = new Map<string, string>();
  for (const host of cluster.hosts) {
    const { election } = await cluster.lbd(host).status();
    for (const { ip, owner, epoch } of election?.owners ?? [])
      known.set(`${host.name} ${ip}`, `${owner} ${epoch}`);
  }
  return known;
}

async function lossy(cluster: Cluster, record: Record): Promise<void> {
  const { ip } = await cluster.serve({ name: 'lossy' });
  await cluster.settled();
  const name = `30 % of gossip lost for ${LOSSY_MS / 1_000} s`;
  await undisturbed(cluster, ip, name, record, async () => {
    const fault = await cluster.lab.segment().drop({ match: GOSSIP, percent: 30 });
    await sleep(LOSSY_MS);
    await fault.remove();
  });
}

async function blocked(cluster: Cluster, record: Record): Promise<void> {
  const { ip, owner } = await cluster.serve({ name: 'blocked' });
  await cluster.settled();
  await undisturbed(cluster, ip, 'UDP of the owner blocked for 10 s', record, async () => {
    const segment = cluster.lab.segment();
    const faults = [
      await segment.drop({ from: owner, match: GOSSIP }),
      await segment.drop({ to: owner, match: GOSSIP }),
    ];
    await sleep(10_000);
    for (const fault of faults) await fault.remove();
  });
}

async function undisturbed(
  cluster: Cluster,
  ip: string,
  name: string,
  record: Record,
  act: () => Promise<void>,
): Promise<void> {
  const before = await epochs(cluster);
  const clients = await cluster.watch(ip, PROBE);
  const fromMs = labTimeMs();
  await act();
  const { gap, doubleMs, excuseMs } = await clients.stop(fromMs);
  const after = await epochs(cluster);
  const moved = [...before].filter(([key, owner]) => after.get(key) !== owner).length;
  record(`${name}: addresses moved`, moved, '', 0, `of ${before.size / cluster.hosts.length}`);
  const busy = `no processor for ${Math.round(excuseMs)} ms of it`;
  record(`${name}: gap of ARP answers`, gap.ms, 'ms', 50, busy);
  record(`${name}: two answering`, doubleMs, 'ms', 0);
}

async function idle(cluster: Cluster, record: Record): Promise<void> {
  for (let index = 0; index < 7; index++) await cluster.serve({ name: `idle-${index}` });
  await sleep(5_000);
  const [host] = cluster.hosts;
  if (host === undefined) throw new Error('no hosts');
  const { pid } = cluster.lbd(host);
  const before = await traffic(cluster, host);
  const sleepsBefore = sleepsOf(pid);
  const share = await cpuShare(pid, IDLE_MS);
  const sleeps = sleepsOf(pid) - sleepsBefore;
  const after = await traffic(cluster, host);
  const seconds = (after.atMs - before.atMs) / 1_000;
  // On the wire each packet has 42 more: Ethernet, IPv4 and UDP headers.
  const rate = (bytes: number, packets: number) => (bytes + 42 * packets) / seconds / 1_000;
  const sent = rate(after.sentBytes - before.sentBytes, after.sent - before.sent);
  const received = rate(after.receivedBytes - before.receivedBytes, after.received - before.received);
  record('seven hosts idle: gossip sent', sent, 'kB/s', 15, 'UDP, with headers');
  record('seven hosts idle: gossip received', received, 'kB/s', 15, 'UDP, with headers');
  record(
    'seven hosts idle: woken',
    sleeps / seconds,
    'times/s',
    undefined,
    '20 of them by its own heartbeats',
  );
  record('seven hosts idle: CPU', 100 * share, '% of a core', 1, `${IDLE_MS / 1_000} s, gossip and all else`);
  record('seven hosts idle: VmRSS', memoryOf(pid).residentMb, 'MB', undefined);
}

async function traffic(cluster: Cluster, host: LabHost) {
  const { election } = await cluster.lbd(host).status();
  if (election === undefined) throw new Error('no traffic in the status');
  return { ...election.traffic, atMs: labTimeMs() };
}
