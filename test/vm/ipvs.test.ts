import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import { Prober } from '../support/prober.ts';
import { waitFor } from '../support/wait.ts';
import { proxyByIpvs } from './support/kube-proxy.ts';
import type { Machine } from './support/machine.ts';
import { MachineLab } from './support/machine-lab.ts';
import { buildRepository } from './support/package.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { CONFIG, configure, holds, serve, VIP } from './support/story.ts';

/** Of the prober: two seconds. */
const MANY_ANSWERS = 200;
/** lbd looks at the sysctls every second. */
const GUARD_MS = 2_000;

/**
 * kube-proxy in IPVS mode gives every node the addresses of all Services, on `kube-ipvs0`: who answers for them is up to
 * the ARP sysctls alone.
 */
describe('an address that kube-proxy in IPVS mode has on every node', { skip: SKIP_LONG }, () => {
  let lab: MachineLab;
  let holder: Machine;
  let other: Machine;
  let prober: Prober;

  before(async () => {
    lab = await MachineLab.start({ installed: await buildRepository('0.1.0'), machines: ['m1', 'm2'] });
    holder = lab.machine('m1');
    other = lab.machine('m2');
    await startLbd(holder);
    assert.equal(await serve(lab), VIP);
    await holds(holder, VIP);
    await startLbd(other);
    await Promise.all([proxyByIpvs(holder, VIP), proxyByIpvs(other, VIP)]);
    prober = await Prober.start(lab.client, { addresses: [VIP] });
    await prober.firstAnswer(VIP);
  });
  after(() => lab?.close());

  async function startLbd(machine: Machine): Promise<void> {
    await configure(lab, machine);
    await machine.run('systemctl enable --now lbd');
  }

  /** The MACs behind so many answers from now on. */
  async function answerers(count: number): Promise<ReadonlySet<string>> {
    const sinceMs = labTimeMs();
    const answers = await waitFor(
      () => {
        const since = prober.answers(VIP).filter(({ atMs }) => atMs >= sinceMs);
        return since.length >= count ? since : undefined;
      },
      { describe: `${count} answers`, timeoutMs: 180_000 },
    );
    return new Set(answers.map(({ mac }) => mac));
  }

  async function setSysctls(machine: Machine, value: number): Promise<void> {
    await machine.run(
      `for key in arp_ignore arp_announce; do echo ${value} >/proc/sys/net/ipv4/conf/eth0/$key; done`,
    );
  }

  async function enforce(machine: Machine, isEnforced: boolean): Promise<void> {
    const section = isEnforced ? '' : '\n[arp]\nenforce_sysctls = false\n';
    await machine.writeFile('/etc/lbd.toml', `${CONFIG}${section}`);
    await machine.run('systemctl reload lbd');
  }

  test('is answered by the one host that holds it, and served through IPVS', async () => {
    for (const machine of [holder, other])
      assert.match(await machine.output('ip -o addr show dev kube-ipvs0'), / 10\.77\.0\.200\/32 /);
    assert.deepEqual([...(await answerers(MANY_ANSWERS))], [holder.mac]);
    const { stdout: page } = await lab.client.run(['curl', '-sf', '--max-time', '10', `http://${VIP}/`]);
    assert.equal(page, `${holder.name} through IPVS\n`);
    assert.doesNotMatch(await other.output('ip -o addr show dev eth0'), / 10\.77\.0\.200\//);
    assert.deepEqual(prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
  });

  test('is answered by two while one host has no strict ARP, and lbd check there says so', async (t) => {
    await enforce(other, false);
    const sinceMs = labTimeMs();
    await setSysctls(other, 0);
    await prober.firstAnswer(VIP, { sinceMs, mac: other.mac });
    assert.deepEqual(await answerers(MANY_ANSWERS), new Set([holder.mac, other.mac]));
    const { probes, overlapMs } = prober.duplicates(VIP);
    t.diagnostic(`two answered ${probes} times within ${Math.round(overlapMs)} ms`);
    assert.ok(probes > 0);
    assert.match(
      await other.output('lbd check --offline'),
      /WARNING: net\.ipv4\.conf\.eth0\.arp_ignore is in effect 0/,
    );
  });

  test('is answered by one again once lbd may set the sysctls', async (t) => {
    const sinceMs = labTimeMs();
    await prober.firstAnswer(VIP, { sinceMs, mac: other.mac });
    await enforce(other, true);
    const reloadedMs = labTimeMs();
    await waitFor(async () => (await answerers(MANY_ANSWERS)).size === 1, {
      describe: 'only one host to answer',
      timeoutMs: 120_000,
    });
    const lastMs = prober.answers(VIP).findLast(({ mac }) => mac === other.mac)?.atMs ?? 0;
    t.diagnostic(
      `the reload took ${Math.round(reloadedMs - sinceMs)} ms, and ${Math.round(lastMs - sinceMs)} ms until one host was left`,
    );
    assert.ok(lastMs < reloadedMs + GUARD_MS);
  });

  test('is answered by two for no longer than a second or two when somebody sets the sysctls back', async (t) => {
    const sinceMs = labTimeMs();
    // By the machine's own clock: while it works, ours may go ten times as fast.
    const [from, to] = (
      await other.output(
        `cd /proc/sys/net/ipv4/conf/eth0; cut -d ' ' -f 1 /proc/uptime; echo 0 >arp_ignore; echo 0 >arp_announce
        until [ "$(cat arp_ignore arp_announce)" = $'1\\n2' ]; do sleep 0.02; done; cut -d ' ' -f 1 /proc/uptime`,
      )
    ).split('\n');
    const tookMs = Math.round((Number(to) - Number(from)) * 1_000);
    assert.deepEqual([...(await answerers(MANY_ANSWERS))], [holder.mac]);
    const wrong = prober.answers(VIP).filter(({ mac, atMs }) => mac === other.mac && atMs >= sinceMs);
    t.diagnostic(
      `the other host was without strict ARP for ${tookMs} ms, and answered ${wrong.length} times`,
    );
    assert.ok(wrong.length > 0, 'the other host answered while it had no strict ARP');
    assert.ok(tookMs < GUARD_MS, `the other host was without strict ARP for ${tookMs} ms`);
  });
});
