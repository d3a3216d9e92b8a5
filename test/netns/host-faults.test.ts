import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { Lbd } from '../support/lab-lbd.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { Prober } from '../support/prober.ts';
import {
  addressOf,
  FOREVER,
  held,
  inState,
  onNic,
  Scenario,
  SKIP,
  shown,
  sysctlOf,
  VIP,
} from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

const IGNORE = 'net.ipv4.conf.eth0.arp_ignore';
const ANNOUNCE = 'net.ipv4.conf.eth0.arp_announce';

/** What happens to a host under a running lbd, by hand or by itself, and how lbd puts it right. */
describe('a running lbd', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  test('puts back an address that somebody removed', async (context) => {
    const { host, client } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    await using prober = await Prober.start(client, { addresses: [ip], intervalMs: 1 });
    await prober.firstAnswer(ip);
    const before = (await held(lbd, ip)).announcements;
    for (const command of [`addr del ${ip}/32 dev eth0`, 'addr flush dev eth0 to 10.77.0.200/29']) {
      const fromMs = labTimeMs();
      await host.ipBatch([command]);
      await prober.firstAnswer(ip, { sinceMs: labTimeMs() });
      const gap = prober.longestGap(ip, { fromMs });
      context.diagnostic(`ip ${command}: ${gap?.ms.toFixed(1)} ms without an answer`);
      assert.ok(gap !== undefined && gap.ms < 500, `${gap?.ms} ms without an answer`);
      const { noprefixroute, valid_life_time: valid } = (await shown(host, ip)) ?? {};
      assert.equal(noprefixroute, true);
      assert.ok(valid !== undefined && valid <= 30);
    }
    assert.deepEqual(await scenario.tagged(), [`${ip}/32 eth0`]);
    await scenario.event('web', /^AddressRepaired: .*removed on eth0/);
    await waitFor(async () => ((await held(lbd, ip)).announcements ?? 0) > before, {
      describe: 'another announcement',
    });
  });

  test('gives an address its lifetime back that somebody made permanent', async () => {
    const { host, client } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    await using prober = await Prober.start(client, { addresses: [ip] });
    await prober.firstAnswer(ip);
    const fromMs = labTimeMs();
    // Stopped meanwhile, or lbd is faster than the look at what was done.
    lbd.kill('SIGSTOP');
    await host.ipBatch([`addr change ${ip}/32 dev eth0 valid_lft forever preferred_lft forever`]);
    assert.equal((await shown(host, ip))?.valid_life_time, FOREVER);
    lbd.kill('SIGCONT');
    await waitFor(async () => ((await shown(host, ip))?.valid_life_time ?? FOREVER) <= 30, {
      describe: 'the finite lifetime',
    });
    assert.deepEqual(await scenario.tagged(), [`${ip}/32 eth0`]);
    assert.equal((await shown(host, ip))?.noprefixroute, true);
    await held(lbd, ip);
    await prober.firstAnswer(ip, { sinceMs: labTimeMs() });
    const gap = prober.longestGap(ip, { fromMs });
    const lateMs = Math.max(0, ...prober.late.map(({ ms }) => ms));
    assert.ok(gap !== undefined && gap.ms < Math.max(60, lateMs + 30), `${gap?.ms} ms without an answer`);
  });

  test('leaves alone what somebody puts in the place of an address that he removed', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    // Both in one turn of lbd, which then sees only the outcome.
    lbd.kill('SIGSTOP');
    await host.ipBatch([`addr del ${ip}/32 dev eth0`, `addr add ${ip}/32 dev eth0`]);
    lbd.kill('SIGCONT');
    const address = await inState(lbd, ip, 'foreign');
    assert.match(address.reason ?? '', /was not put there by lbd/);
    await scenario.event('web', /^NotAnnounced: .*was not put there by lbd/);
    assert.equal((await shown(host, ip))?.valid_life_time, FOREVER);
    await lbd.stop('SIGINT');
    assert.equal((await shown(host, ip))?.valid_life_time, FOREVER);
    assert.deepEqual(await scenario.tagged(), []);
  });

  test('comes back with its addresses after all of the NIC were flushed, the own one too', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    await host.run(['ip', 'addr', 'flush', 'dev', 'eth0']);
    await host.linkUp();
    await held(lbd, ip);
    await onNic(host, ip);
    await scenario.ping(ip);
  });

  test('takes an address away when its subnet is gone for good, and back when it returns', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    const removedMs = labTimeMs();
    await host.ipBatch([`addr del ${host.ip}/24 dev eth0`]);
    const address = await inState(lbd, ip, 'no-interface', 10_000);
    const graceMs = labTimeMs() - removedMs;
    assert.ok(graceMs > 4_500 && graceMs < 7_000, `given up after ${graceMs} ms`);
    assert.match(address.reason ?? '', /no NIC of this host has a subnet that holds/);
    await onNic(host, ip, false);
    await host.linkUp();
    await held(lbd, ip);
    await scenario.ping(ip);
  });

  test('says that the NIC is down and takes the address up again with it', async () => {
    const { host, client } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    await host.linkDown();
    const address = await inState(lbd, ip, 'no-interface');
    assert.match(address.reason ?? '', /eth0.* is down/);
    await host.linkUp();
    await held(lbd, ip, 10_000);
    await onNic(host, ip);
    await scenario.ping(ip);
    // The API server hears of it when it can be reached again.
    await scenario.event('web', /^NotAnnounced: .*eth0.* is down/, 10_000);
    // By the cable: the addresses of the host stay, the carrier goes.
    await scenario.lab.segment().carrierDown(host);
    await inState(lbd, ip, 'no-interface');
    await scenario.lab.segment().carrierUp(host);
    await held(lbd, ip, 10_000);
    await client.run(['ip', 'neigh', 'flush', 'all']);
    await scenario.ping(ip);
  });

  test('has its addresses within 100 ms of the last of 300 link flaps', async (context) => {
    const { host } = scenario;
    // The host's own address of v6 stays, as it does on a host that lost its carrier.
    await scenario.sysctl('net/ipv6/conf/eth0/keep_addr_on_down', 1);
    const spec = { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' };
    const pool = ['10.77.0.200-10.77.0.220', 'fd77::200-fd77::220'];
    const { lbd, ip } = await scenario.startWithService({ pool }, { spec });
    await held(lbd, 'fd77::200');
    const script = `for flap in $(seq 300); do ip link set eth0 down; ip link set eth0 up; done
      from=$(date +%s%3N)
      until ip -o addr show dev eth0 >/tmp/shown; grep -q '${ip}/32 ' /tmp/shown && grep -q 'fd77::200/128 ' /tmp/shown
      do :; done
      echo $(($(date +%s%3N) - from))`;
    const { stdout } = await host.run(['sh', '-c', script]);
    context.diagnostic(`there ${stdout.trim()} ms after the last`);
    assert.ok(Number(stdout) <= 100, `${stdout} ms`);
    await held(lbd, ip);
    await held(lbd, 'fd77::200');
    await scenario.ping(ip);
    await scenario.sysctl('net/ipv6/conf/eth0/keep_addr_on_down', 0);
  });

  test('follows a NIC that is renamed', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    // A link cannot be renamed while it is up, unless the kernel allows it (6.x does).
    const rename = (from: string, to: string) => host.run(['ip', 'link', 'set', from, 'name', to]);
    await rename('eth0', 'lan0');
    try {
      await lbd.waitForStatus(
        (status) => {
          const address = addressOf(status, ip);
          return address?.state === 'held' && address.interface === 'lan0';
        },
        { describe: 'the address on lan0' },
      );
      await scenario.ping(ip);
      const renamed = await lbd.waitForStatus(
        (status) => sysctlOf(status, 'net.ipv4.conf.lan0.arp_ignore')?.current === '1',
        { describe: 'the sysctls of lan0' },
      );
      assert.equal(sysctlOf(renamed, IGNORE), undefined);
      const other = await scenario.serve({ name: 'other' });
      assert.equal((await held(lbd, other)).interface, 'lan0');
    } finally {
      await rename('lan0', 'eth0');
    }
    await lbd.waitForStatus((status) => addressOf(status, ip)?.interface === 'eth0', {
      describe: 'the address on eth0',
    });
  });

  test('survives that the NIC is removed, and uses the one that comes in its place', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    await host.removeNic();
    const address = await inState(lbd, ip, 'no-interface');
    assert.match(address.reason ?? '', /no NIC|no usable NIC/);
    assert.equal(lbd.process.exited, undefined);
    const removedMs = labTimeMs();
    await host.restoreNic();
    await held(lbd, ip, 10_000);
    assert.ok(labTimeMs() - removedMs < 10_000);
    assert.deepEqual(await scenario.tagged(), [`${ip}/32 eth0`]);
    await scenario.ping(ip);
    const other = await scenario.serve({ name: 'other' });
    await held(lbd, other);
    await scenario.ping(other);
    await lbd.waitForStatus((status) => sysctlOf(status, IGNORE)?.current === '1', {
      describe: 'the sysctls of the new NIC',
    });
  });

  test('sets the ARP sysctls, shows what they were, and puts a drift right', async (context) => {
    const { host } = scenario;
    await scenario.sysctl('net/ipv4/conf/eth0/arp_announce', 1);
    const lbd = await scenario.startLbd();
    assert.deepEqual(await values(), ['1', '2']);
    const status = await lbd.status();
    assert.deepEqual(sysctlOf(status, IGNORE), {
      interface: 'eth0',
      key: IGNORE,
      expected: '1 or 2',
      current: '1',
      before: '0',
      drifts: 0,
    });
    assert.equal(sysctlOf(status, ANNOUNCE)?.before, '1');
    const table = await lbd.lbctl(['status']);
    assert.match(table.stdout, /arp_ignore.* 1 .* 0 /);

    const file = '/proc/sys/net/ipv4/conf/eth0/arp_ignore';
    const weaken = `sysctl -qw ${IGNORE}=0; from=$(date +%s%3N); until grep -q 1 ${file}; do :; done`;
    const { stdout } = await host.run(['sh', '-c', `${weaken}; echo $(($(date +%s%3N) - from))`]);
    context.diagnostic(`put right after ${stdout.trim()} ms`);
    assert.ok(Number(stdout) <= 100, `${stdout} ms`);
    await lbd.waitForStatus((document) => sysctlOf(document, IGNORE)?.drifts === 1, { describe: 'a drift' });
    assert.deepEqual(await values(), ['1', '2']);
    await lbd.waitForLog('sysctl.drift', { key: IGNORE, was: '0' });

    await lbd.stop('SIGINT');
    assert.deepEqual(await values(), ['1', '2'], 'never restored');
    const again = await scenario.startLbd();
    const kept = sysctlOf(await again.status(), IGNORE);
    assert.equal(kept?.before, '0', 'what it was before the first run');
    assert.equal(kept?.drifts, 0);

    function values(): Promise<readonly string[]> {
      return sysctlValues(host);
    }
  });

  test('keeps a stricter arp_ignore, puts a weak one right, and leaves one that silences as an error', async () => {
    const { host } = scenario;
    await scenario.sysctl('net/ipv4/conf/eth0/arp_ignore', 2);
    const lbd = await scenario.startLbd();
    assert.deepEqual(await sysctlValues(host), ['2', '2']);
    assert.equal(sysctlOf(await lbd.status(), IGNORE)?.error, undefined);

    await scenario.sysctl('net/ipv4/conf/eth0/arp_ignore', 3);
    await waitFor(async () => (await sysctlValues(host))[0] === '1', { describe: 'arp_ignore=1' });

    await scenario.sysctl('net/ipv4/conf/eth0/arp_ignore', 8);
    const silent = await lbd.waitForStatus((status) => sysctlOf(status, IGNORE)?.error, {
      describe: 'the error about 8',
    });
    assert.match(sysctlOf(silent, IGNORE)?.error ?? '', /eth0\.arp_ignore is 8: .*no address at all/);
    assert.ok(silent.problems.some(({ severity, text }) => severity === 'error' && /is 8/.test(text)));
    assert.deepEqual(await sysctlValues(host), ['8', '2'], 'somebody wants it so');
  });

  test('puts conf.all right where no value of the NIC could', async () => {
    await scenario.sysctl('net/ipv4/conf/all/arp_ignore', 3);
    const lbd = await scenario.startLbd();
    const all = 'net.ipv4.conf.all.arp_ignore';
    assert.equal((await sysctlValues(scenario.host, 'all'))[0], '1');
    assert.equal(sysctlOf(await lbd.status(), all)?.before, '3');
  });

  test('says clearly that it may not write the sysctls, and goes on', async () => {
    const { host } = scenario;
    await host.run(['mount', '--bind', '-o', 'ro', '/proc/sys', '/proc/sys']);
    const { lbd, ip } = await scenario.startWithService();
    await scenario.ping(ip);
    const status = await lbd.status();
    const { error } = sysctlOf(status, IGNORE) ?? {};
    assert.match(error ?? '', /arp_ignore/);
    assert.match(error ?? '', /EROFS|read-only/);
    assert.ok(
      status.problems.some(({ severity, text }) => severity === 'error' && text === error),
      JSON.stringify(status.problems),
    );
    assert.deepEqual(await sysctlValues(host), ['0', '0']);
    await lbd.waitForLog('sysctl.write-failed', { key: IGNORE });
    await host.run(['umount', '/proc/sys']);
    await lbd.waitForStatus((document) => sysctlOf(document, IGNORE)?.current === '1', {
      describe: 'the sysctls once they may be written',
    });
    assert.equal(sysctlOf(await lbd.status(), IGNORE)?.error, undefined);
  });

  test('is told by a NIC that is not selected which one has the subnet', async () => {
    const { lbd } = await startUnserved(scenario, '[local]\ninterfaces = ["wan*"]');
    const address = await inState(lbd, VIP, 'no-interface');
    assert.match(address.reason ?? '', /eth0 has the subnet 10\.77\.0\.0\/24 .*add "eth0"/);
    await lbd.reload(scenario.toml({ toml: '[local]\ninterfaces = ["eth?"]' }));
    await held(lbd, VIP);
  });
});

async function startUnserved(scenario: Scenario, toml: string): Promise<{ readonly lbd: Lbd }> {
  const lbd = await scenario.startLbd({ toml });
  await scenario.serve({ name: 'web' });
  return { lbd };
}

/** Read by a process of the host: /proc/sys/net shows the network namespace of whoever reads it. */
async function sysctlValues(host: Scenario['host'], nic = 'eth0'): Promise<readonly string[]> {
  const paths = ['arp_ignore', 'arp_announce'].map((key) => `/proc/sys/net/ipv4/conf/${nic}/${key}`);
  return (await host.run(['cat', ...paths])).stdout.trim().split('\n');
}
