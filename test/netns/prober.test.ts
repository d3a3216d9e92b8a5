import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLab } from '../support/lab.ts';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { PingLoop } from '../support/ping-loop.ts';
import { Prober } from '../support/prober.ts';
import { type Answer, duplicates, longestGap, tenures } from '../support/prober-log.ts';
import { sleep, waitFor } from '../support/wait.ts';

const V4 = '10.77.0.200';
const V6 = 'fd77::200';
const HOSTS = { h1: {}, h2: {}, client: {} };

test('Prober sees the kernel answer for a v4 and a v6 address from when it is added until it is removed', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  const h1 = lab.host('h1');
  await using prober = await Prober.start(lab.host('client'), { addresses: [V4, V6] });
  const addedAfterMs = labTimeMs();
  await add(h1);
  for (const ip of [V4, V6]) {
    const first = await prober.firstAnswer(ip);
    assert.equal(first.mac, h1.nic('eth0').mac);
    assert.ok(first.atMs > addedAfterMs && first.atMs < labTimeMs(), `answered at ${first.atMs}`);
    assert.ok(first.atMs >= first.sentAtMs && first.atMs - first.sentAtMs < 1000, JSON.stringify(first));
  }
  await h1.run(['ip', 'addr', 'del', `${V4}/32`, 'dev', 'eth0']);
  const removedBeforeMs = labTimeMs();
  const lastMs = await prober.silence(V4);
  assert.ok(lastMs !== undefined && lastMs < removedBeforeMs);
  assert.deepEqual(
    prober.macs(V4).map(({ mac }) => mac),
    [h1.nic('eth0').mac],
  );
  assert.deepEqual(prober.duplicates(V4), { probes: 0, overlapMs: 0 });
  await prober.stop();
});

test('Prober asks about every intervalMs', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  await add(lab.host('h1'));
  for (const intervalMs of [10, 1]) {
    await using prober = await Prober.start(lab.host('client'), { addresses: [V4], intervalMs });
    await prober.firstAnswer(V4, { sinceMs: labTimeMs() + 300 });
    const answers = prober.answers(V4);
    const meanMs = ((answers.at(-1)?.atMs ?? 0) - (answers[0]?.atMs ?? 0)) / (answers.length - 1);
    assert.ok(meanMs > intervalMs * 0.8 && meanMs < intervalMs * 2, `every ${meanMs} ms, not ${intervalMs}`);
  }
});

test('Prober sees a duplicate while two hosts have the address, and for how long', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  const [h1, h2] = [lab.host('h1'), lab.host('h2')];
  await using prober = await Prober.start(lab.host('client'), { addresses: [V4, V6] });
  await add(h1);
  await prober.firstAnswer(V4);
  await add(h2);
  const second = await prober.firstAnswer(V4, { mac: h2.nic('eth0').mac });
  await prober.firstAnswer(V6, { mac: h2.nic('eth0').mac });
  await prober.firstAnswer(V4, { sinceMs: second.atMs + 200, mac: h2.nic('eth0').mac });
  await h1.run(['ip', 'addr', 'del', `${V4}/32`, 'dev', 'eth0']);
  const removedMs = labTimeMs();
  await prober.firstAnswer(V4, { sinceMs: removedMs + 50 });
  const found = prober.duplicates(V4);
  assert.ok(found.probes >= 5, `${found.probes} questions answered twice`);
  assert.ok(
    found.overlapMs >= 150 && found.overlapMs <= removedMs - second.atMs + 20,
    `${found.overlapMs} ms`,
  );
  assert.deepEqual(
    prober.macs(V4).map(({ mac }) => mac),
    [h1.nic('eth0').mac, h2.nic('eth0').mac],
  );
  assert.ok(prober.duplicates(V6).probes > 0);
});

test('Prober measures the gap while a host is cut off', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  const h1 = lab.host('h1');
  await add(h1);
  await using prober = await Prober.start(lab.host('client'), { addresses: [V4] });
  await prober.firstAnswer(V4);
  const pings = await PingLoop.start(lab.host('client'), h1.ip);
  const cutMs = labTimeMs();
  await lab.segment().disconnect(h1);
  await sleep(200);
  await lab.segment().connect(h1);
  await prober.firstAnswer(V4, { sinceMs: labTimeMs() });
  const gap = prober.longestGap(V4);
  const outageMs = labTimeMs() - cutMs;
  assert.ok(gap !== undefined && gap.ms >= 190 && gap.ms <= outageMs + 20, `${gap?.ms} of ${outageMs} ms`);
  await prober.firstAnswer(V4, { sinceMs: labTimeMs() + 50 });
  const { sent, received, longestLossMs } = await pings.stop();
  assert.ok(longestLossMs >= 100 && longestLossMs <= outageMs + 100, `${longestLossMs} ms without ping`);
  assert.ok(sent > received);
});

test('Prober reports announcements and probes that go by', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  const h1 = lab.host('h1');
  await using prober = await Prober.start(lab.host('client'), { addresses: [V4] });
  const arping = (...args: string[]) =>
    h1.run(['arping', '-q', '-c', '1', '-i', 'eth0', ...args], { mayFail: true });
  // Duplicate detection by the kernel, at once instead of after a second or two.
  const sysctls =
    'cd /proc/sys/net/ipv6; echo 1 >conf/eth0/ndisc_notify; echo 0 >conf/eth0/router_solicitation_delay; echo 20 >neigh/eth0/retrans_time_ms';
  await h1.run(['sh', '-c', sysctls]);
  await add(h1);
  await h1.run(['ip', 'addr', 'add', 'fd77::201/128', 'dev', 'eth0']);
  await Promise.all([
    arping('-U', '-S', V4, V4),
    arping('-U', '-P', '-S', V4, V4),
    arping('-0', '10.77.0.201'),
  ]);
  for (const [ip, kind] of [
    [V4, 'arp-announcement'],
    [V4, 'arp-announcement-reply'],
    ['10.77.0.201', 'arp-probe'],
    ['fd77::201', 'ns-probe'],
    ['fd77::201', 'na-unsolicited'],
  ] as const) {
    const seen = await waitFor(() => prober.seen(ip, kind)[0], { describe: `${kind} of ${ip}` });
    assert.equal(seen.mac, h1.nic('eth0').mac, `${kind} of ${ip}`);
  }
});

test('Prober.add() asks for further addresses', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  await add(lab.host('h1'));
  await using prober = await Prober.start(lab.host('client'), { addresses: [] });
  prober.add([V4]);
  await prober.firstAnswer(V4);
});

test('longestGap() counts the ends of the window', () => {
  const answers = answersAt('a', [10, 20, 50, 60]);
  assert.deepEqual(longestGap(answers), { ms: 30, fromMs: 20, toMs: 50 });
  assert.deepEqual(longestGap(answers, { fromMs: 15, toMs: 200 }), { ms: 140, fromMs: 60, toMs: 200 });
  assert.equal(longestGap([]), undefined);
  assert.deepEqual(longestGap([], { fromMs: 1, toMs: 5 }), { ms: 4, fromMs: 1, toMs: 5 });
});

test('tenures() begins a new one after a pause, and keeps MACs apart', () => {
  const answers = merge(answersAt('a', [0, 10, 20, 200, 210]), answersAt('b', [15, 25]));
  assert.deepEqual(tenures(answers, 50), [
    { mac: 'a', firstMs: 0, lastMs: 20, answers: 3 },
    { mac: 'b', firstMs: 15, lastMs: 25, answers: 2 },
    { mac: 'a', firstMs: 200, lastMs: 210, answers: 2 },
  ]);
});

test('duplicates() counts questions answered twice and the time that tenures share', () => {
  const apart = merge(answersAt('a', [0, 10, 20]), answersAt('b', [30, 40]));
  assert.deepEqual(duplicates(apart, 50), { probes: 0, overlapMs: 0 });
  const together = merge(answersAt('a', [0, 10, 20, 30]), answersAt('b', [11, 21, 31, 41]));
  assert.deepEqual(duplicates(together, 50), { probes: 3, overlapMs: 19 });
});

async function add(host: LabHost): Promise<void> {
  await host.ipBatch([`addr add ${V4}/32 dev eth0`, `addr add ${V6}/128 dev eth0 nodad`]);
}

/** Answers at these times, to a question every 10 ms. */
function answersAt(mac: string, times: readonly number[]): readonly Answer[] {
  return times.map((atMs) => {
    const probe = Math.floor(atMs / 10);
    return { atMs, mac, probe, sentAtMs: probe * 10 };
  });
}

function merge(...lists: readonly (readonly Answer[])[]): readonly Answer[] {
  return lists.flat().sort((left, right) => left.atMs - right.atMs);
}
