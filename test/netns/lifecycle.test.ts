import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { lbdCommand } from '../support/lab-lbd.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { PingLoop } from '../support/ping-loop.ts';
import { Prober } from '../support/prober.ts';
import { addressOf, BINARY, held, inState, onNic, Scenario, SKIP, shown } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

const SHORT = '[local]\nlifetime = "2s"';
const SHORT_MS = 2_000;
const SOCKET = '/run/lbd/lbd.sock';
const DROP_IN = '/etc/lbd.d/90-new.toml';

/** What is wrong with a configuration in ways that are found at different times, and what is said of it. */
const REFUSED = [
  {
    what: 'a file that is no TOML',
    file: '/etc/lbd.toml',
    text: '[[pool]\n',
    said: /^\/etc\/lbd\.toml:1:8: expected "\]"/,
  },
  {
    what: 'a drop-in that is no TOML',
    file: DROP_IN,
    text: '[log\n',
    said: /^\/etc\/lbd\.d\/90-new\.toml:1:5: expected "\]"/,
  },
  {
    what: 'a drop-in with a bad value',
    file: DROP_IN,
    text: '\n[log]\nlevel = "loud"\n',
    said: /^\/etc\/lbd\.d\/90-new\.toml:3: log\.level: expected .*"loud"/,
  },
  {
    what: 'a drop-in with an address of a pool in the file',
    file: DROP_IN,
    text: '[[pool]]\nname = "more"\naddresses = ["10.77.0.200/32"]\n',
    said: /^\/etc\/lbd\.d\/90-new\.toml:3: pool\[0\]\.addresses.*10\.77\.0\.200.*\/etc\/lbd\.toml:\d+/,
  },
] as const;

/** The ends and beginnings of lbd, and what they do to the addresses that it holds. */
describe('lbd', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    test(`leaves its addresses on ${signal} and adopts them when it is started again, without a gap or a probe`, async (context) => {
      const { host, client } = scenario;
      const { lbd: first, ip } = await scenario.startWithService();
      await using prober = await Prober.start(client, { addresses: [ip], intervalMs: 5 });
      await prober.firstAnswer(ip);
      const pings = await PingLoop.start(client, ip);
      const fromMs = labTimeMs();
      const status = await first.stop(signal);
      if (signal === 'SIGTERM') {
        assert.deepEqual(status, { code: 0, signal: null });
        assert.ok(first.notifications.received.some(({ text }) => text === 'STOPPING=1'));
      }
      assert.ok(await shown(host, ip), 'still on the NIC');
      const second = await scenario.startLbd();
      await held(second, ip);
      const line = await second.waitForLog('address.held', { ip });
      assert.equal(line['how'], 'adopted');
      // It is fresh: that the new one renews it when it is due is in lifetimes.test.ts.
      assert.ok(((await shown(host, ip))?.valid_life_time ?? 0) >= 15);
      await prober.firstAnswer(ip, { sinceMs: labTimeMs() });
      const gap = prober.longestGap(ip, { fromMs });
      const lateMs = Math.max(0, ...prober.late.map(({ ms }) => ms));
      const ping = await pings.stop();
      context.diagnostic(
        `longest gap ${gap?.ms.toFixed(1)} ms, of the prober itself ${lateMs.toFixed(1)} ms; ` +
          `${ping.sent - ping.received} of ${ping.sent} pings lost`,
      );
      assert.ok(gap !== undefined && gap.ms <= Math.max(50, lateMs + 20), `a gap of ${gap?.ms} ms`);
      // The last one may still be under way when ping is stopped.
      assert.ok(ping.sent - ping.received <= 1, JSON.stringify(ping));
      const mac = host.nic('eth0').mac;
      assert.deepEqual(
        prober.seen(ip, 'arp-probe').filter((one) => one.mac === mac && one.atMs > fromMs),
        [],
      );
      assert.equal(addressOf(await second.status(), ip)?.services[0], 'default/web');
    });
  }

  test('that is killed and does not come back loses its addresses to the kernel within lifetime + 1 s', async (context) => {
    const { client, host } = scenario;
    const v6 = 'fd77::200';
    const lbd = await scenario.startLbd({ toml: SHORT, pool: ['10.77.0.200/29', 'fd77::200-fd77::20f'] });
    const spec = { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' };
    await scenario.api.createService({ name: 'web', spec });
    const { addresses } = await scenario.api.waitForAddresses('web', { count: 2 });
    assert.deepEqual(addresses, ['10.77.0.200', v6]);
    for (const ip of addresses) await held(lbd, ip);
    await using prober = await Prober.start(client, { addresses });
    for (const ip of addresses) await prober.firstAnswer(ip);
    lbd.kill('SIGKILL');
    const killedMs = labTimeMs();
    for (const ip of addresses) {
      const lastMs = (await prober.silence(ip, { quietMs: 500 })) ?? Number.NaN;
      const tookMs = lastMs - killedMs;
      context.diagnostic(`${ip} answered for ${Math.round(tookMs)} ms after the kill`);
      assert.ok(tookMs > SHORT_MS / 2 && tookMs <= SHORT_MS + 1_000 + 50, `${tookMs} ms`);
    }
    assert.deepEqual(await scenario.tagged(), []);
    assert.equal(await shown(host, v6), undefined);
  });

  test('that crashes again and again is back at once four times, then waits before it starts, and keeps its address', async (context) => {
    const { host, client } = scenario;
    const env = { RUNTIME_DIRECTORY: '/run/lbd' };
    const { lbd: first, ip } = await scenario.startWithService({ env });
    await using prober = await Prober.start(client, { addresses: [ip] });
    await prober.firstAnswer(ip);
    const fromMs = labTimeMs();
    let lbd = first;
    for (let crash = 1; crash < 4; crash++) {
      // As assertions of V8 and of the addon end it, which no handler in lbd sees.
      await lbd.stop('SIGABRT');
      lbd = await scenario.startLbd({ env });
      assert.ok(!lbd.logs.some(({ event }) => event === 'daemon.crash-loop'), `after ${crash} crashes`);
    }
    await lbd.stop('SIGABRT');
    const startedMs = labTimeMs();
    const fifth = await scenario.startLbd({ env });
    const waitedMs = labTimeMs() - startedMs;
    context.diagnostic(`the fifth start took ${Math.round(waitedMs)} ms`);
    assert.ok(waitedMs >= 1_000, `the fifth start took ${waitedMs} ms`);
    const line = await fifth.waitForLog('daemon.crash-loop');
    assert.deepEqual([line['crashes'], line['pause_ms']], [4, 1_000]);
    assert.ok(
      fifth.notifications.received.some(({ text }) =>
        /^STATUS=crashed 4 times within a minute; starts in 1 s, or when the configuration changes$/.test(
          text,
        ),
      ),
    );
    await held(fifth, ip);
    assert.equal((await fifth.waitForLog('address.held', { ip }))['how'], 'adopted');
    const gap = prober.longestGap(ip, { fromMs });
    assert.ok(gap !== undefined && gap.ms < 1_000, `a gap of ${gap?.ms} ms`);
    await fifth.stop('SIGTERM');
    await assert.rejects(host.run(['test', '-e', '/run/lbd/starts.json']), 'an end in order counts as none');
  });

  test('cleanup takes off whatever lbd put there, and nothing else, without configuration and daemon', async () => {
    const { host } = scenario;
    const lbd = await scenario.startLbd({ pool: ['10.77.0.200/29', 'fd77::200-fd77::20f'] });
    const spec = { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' };
    await scenario.api.createService({ name: 'web', spec });
    const { addresses } = await scenario.api.waitForAddresses('web', { count: 2 });
    for (const ip of addresses) await held(lbd, ip);
    await lbd.stop('SIGTERM');
    await host.ipBatch(['addr add 10.77.0.250/32 dev eth0']);
    await host.run(['sh', '-c', 'rm -rf /etc/lbd.toml /etc/lbd /var/lib/lbd/*']);
    const own = await shown(host, host.ip);
    const done = await scenario.command('lbd', ['cleanup']);
    assert.deepEqual(done, {
      code: 0,
      stdout: 'removed 10.77.0.200/32 from eth0\nremoved fd77::200/128 from eth0\n',
      stderr: '',
    });
    assert.deepEqual(await scenario.tagged(), []);
    assert.ok(await shown(host, '10.77.0.250'));
    assert.deepEqual(await shown(host, host.ip), own);
    const again = await scenario.command('lbd', ['cleanup']);
    assert.deepEqual(again, { code: 0, stdout: 'nothing of lbd is on this host\n', stderr: '' });
  });

  test('takes its addresses with it on SIGINT', async () => {
    const { lbd, ip } = await scenario.startWithService();
    assert.deepEqual(await lbd.stop('SIGINT'), { code: 0, signal: null });
    assert.equal(await shown(scenario.host, ip), undefined);
    assert.deepEqual(await scenario.tagged(), []);
  });

  test('takes its addresses with it on SIGTERM too when it runs in the foreground', async () => {
    const { lbd, ip } = await scenario.startWithService({ args: ['--foreground'] });
    assert.deepEqual(await lbd.stop('SIGTERM'), { code: 0, signal: null });
    assert.equal(await shown(scenario.host, ip), undefined);
  });

  test('that was stopped for longer than the lifetime does not revive an address that another host took', async () => {
    const { host, rival, client } = scenario;
    const { lbd, ip } = await scenario.startWithService({ toml: SHORT });
    await using prober = await Prober.start(client, { addresses: [ip] });
    await prober.firstAnswer(ip);
    lbd.kill('SIGSTOP');
    await onNic(host, ip, false);
    await scenario.rivalTakes(ip);
    await prober.firstAnswer(ip, { mac: rival.nic('eth0').mac });
    const continuedMs = labTimeMs();
    lbd.kill('SIGCONT');
    const address = await inState(lbd, ip, 'conflict');
    assert.match(address.reason ?? '', new RegExp(rival.nic('eth0').mac));
    await lbd.waitForLog('address.lost', { ip });
    await scenario.event('web', /^AddressConflict: .*not announced/);
    assert.equal(await shown(host, ip), undefined);
    assert.deepEqual(prober.duplicates(ip), { probes: 0, overlapMs: 0 });
    const mac = host.nic('eth0').mac;
    const isOurs = (one: { readonly mac: string; readonly atMs: number }) =>
      one.mac === mac && one.atMs > continuedMs;
    assert.equal(prober.answers(ip).some(isOurs), false);
    assert.equal(prober.seen(ip, 'arp-announcement').some(isOurs), false);
  });

  test('that was stopped for longer than the lifetime takes an address again that nobody took, after probing', async () => {
    const { host, client } = scenario;
    const { lbd, ip } = await scenario.startWithService({ toml: SHORT });
    await using prober = await Prober.start(client, { addresses: [ip] });
    lbd.kill('SIGSTOP');
    await onNic(host, ip, false);
    const continuedMs = labTimeMs();
    lbd.kill('SIGCONT');
    const answer = await prober.firstAnswer(ip, { sinceMs: continuedMs });
    const probes = prober.seen(ip, 'arp-probe').filter(({ atMs }) => atMs > continuedMs);
    assert.equal(probes.filter(({ atMs }) => atMs < answer.atMs).length, 3);
    await scenario.event('web', /^AddressLost/);
    await held(lbd, ip);
  });

  test('is refused on a host where one already runs, which it names', async () => {
    const { lbd, ip } = await scenario.startWithService();
    const { pid } = (await lbd.status()).lbd;
    await scenario.host.writeFile('/etc/other.toml', '[control]\nsocket = "/run/lbd/other.sock"\n');
    const second = await scenario.command('lbd', ['run', '--config', '/etc/other.toml']);
    assert.equal(second.code, 1);
    assert.match(second.stderr, new RegExp(`another lbd already runs on this host \\(pid ${pid}\\)`));
    const cleanup = await scenario.command('lbd', ['cleanup']);
    assert.equal(cleanup.code, 1);
    assert.match(cleanup.stderr, new RegExp(`lbd runs on this host \\(pid ${pid}\\)`));
    await held(lbd, ip);
    assert.ok(await shown(scenario.host, ip));
  });

  test('replaces the socket file of one that was killed', async () => {
    const { host } = scenario;
    const first = await scenario.startLbd();
    await first.stop('SIGKILL');
    await host.run(['test', '-S', SOCKET]);
    const refused = await scenario.command('lbctl', ['status']);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      /nobody listens on \/run\/lbd\/lbd\.sock, which an lbd that ended left behind/,
    );
    const second = await scenario.startLbd();
    const table = await second.lbctl(['status']);
    assert.match(table.stdout, /^h1: /);
    await second.stop('SIGTERM');
    await assert.rejects(host.run(['test', '-e', SOCKET]));
  });

  test('answers curl on its socket, which is for root and the group lbd', async () => {
    const { host } = scenario;
    const lbd = await scenario.startLbd();
    const stat = await host.run(['stat', '-c', '%a %F', SOCKET]);
    assert.equal(stat.stdout, '660 socket\n');
    const curl = ['curl', '-s', '-w', '\n%{http_code}', '--unix-socket', SOCKET];
    const answer = (await host.run([...curl, 'http://lbd/v1/status'])).stdout;
    assert.match(answer, /\n200$/);
    const document = JSON.parse(answer.slice(0, -'200'.length));
    assert.equal(document.version, 1);
    assert.equal(document.host.name, 'h1');
    assert.equal(document.lbd.pid, (await lbd.status()).lbd.pid);
    assert.match(
      (await host.run([...curl, 'http://lbd/nonesuch'])).stdout,
      /no such path: .nonesuch.*\n404$/s,
    );
    assert.match((await host.run([...curl, '-X', 'DELETE', 'http://lbd/v1/status'])).stdout, /\n405$/);
  });

  for (const [capability, name] of [
    ['net_admin', 'CAP_NET_ADMIN'],
    ['net_raw', 'CAP_NET_RAW'],
  ]) {
    test(`says that it needs ${name}`, async () => {
      const { host } = scenario;
      await host.writeFile('/etc/lbd.toml', scenario.toml());
      await host.writeFile('/etc/lbd/kubeconfig', await scenario.lab.apiServer.kubeconfig());
      const ended = await host.run(
        ['setpriv', `--bounding-set=-${capability}`, ...lbdCommand('lbd', BINARY), 'run'],
        { mayFail: true, timeoutMs: 10_000 },
      );
      assert.equal(ended.code, 1);
      assert.match(ended.stderr, new RegExp(`lbd needs ${name}, which it was not given`));
    });
  }

  test('takes a good configuration on SIGHUP and tells the service manager', async () => {
    const { lbd, ip } = await scenario.startWithService();
    const before = lbd.notifications.received.length;
    const { digest } = (await lbd.status()).config;
    const more = '\n[[pool]]\nname = "more"\naddresses = ["10.77.0.240-10.77.0.245"]\n';
    await lbd.reload(scenario.toml({ toml: '[local]\nlifetime = "10s"' }) + more);
    await lbd.waitForLog('config.reloaded');
    const told = () => lbd.notifications.received.slice(before).map(({ text }) => text);
    await waitFor(() => told().includes('READY=1'), { describe: 'READY=1' });
    const order = told().filter((text) => !text.startsWith('STATUS='));
    assert.equal(order[0], 'RELOADING=1');
    assert.match(order[1] ?? '', /^MONOTONIC_USEC=\d+$/);
    assert.equal(order.at(-1), 'READY=1');
    const other = await scenario.serve({ name: 'other', annotations: { 'lbd.io/pool': 'more' } });
    assert.equal(other, '10.77.0.240');
    await held(lbd, other);
    await waitFor(async () => ((await shown(scenario.host, ip))?.valid_life_time ?? 30) <= 10, {
      describe: 'the new lifetime',
    });
    assert.notEqual((await lbd.status()).config.digest, digest);
    assert.deepEqual((await lbd.status()).config.reloadProblems, []);
  });

  test('keeps what it has when the configuration is bad on SIGHUP, and shows every error', async () => {
    const { lbd, ip } = await scenario.startWithService();
    const { digest } = (await lbd.status()).config;
    await lbd.reload('[local]\nlifetim = "10s"\n[[pool]]\nname = "a"\naddresses = ["10.77.0.9-10.77.0.1"]\n');
    await lbd.waitForLog('config.reload-refused');
    const { config, problems, pools } = await lbd.status();
    assert.equal(config.digest, digest);
    assert.deepEqual(
      pools.map(({ name }) => name),
      ['default'],
    );
    const shownProblems = config.reloadProblems.join('\n');
    assert.match(shownProblems, /\/etc\/lbd\.toml:2: .*lifetim.*lifetime/);
    assert.match(shownProblems, /\/etc\/lbd\.toml:5: .*10\.77\.0\.9/);
    assert.ok(
      problems.some(({ severity, text }) => severity === 'error' && /last reload was refused/.test(text)),
    );
    assert.match((await lbd.lbctl(['status'])).stdout, /last reload was refused/);
    await held(lbd, ip);
    await scenario.ping(ip);
    assert.equal(await scenario.serve({ name: 'other' }), '10.77.0.201');
    await lbd.reload(scenario.toml());
    await lbd.waitForStatus((status) => status.config.reloadProblems.length === 0, {
      describe: 'the problems to be over',
    });
  });

  test('refuses on SIGHUP whatever is wrong, in the file or in a drop-in, and so does what tells systemd of it', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    const { digest } = (await lbd.status()).config;
    for (const { what, file, text, said } of REFUSED) {
      await host.writeFile(file, text);
      await lbd.reload();
      const { config, pools } = await lbd.waitForStatus(
        (status) => status.config.reloadProblems.some((problem) => said.test(problem)),
        { describe: `${what} to be refused` },
      );
      assert.equal(config.digest, digest, what);
      assert.deepEqual(
        pools.map(({ name }) => name),
        ['default'],
        what,
      );
      await held(lbd, ip);
      // The second command of ExecReload=.
      const checked = await lbd.lbctl(['config', 'check'], { mayFail: true });
      assert.equal(checked.code, 1, what);
      assert.match(checked.stderr, new RegExp(said, 'm'));
      await host.run(['rm', '-rf', '/etc/lbd.d']);
      await lbd.reload(scenario.toml());
      await lbd.waitForStatus((status) => status.config.reloadProblems.length === 0, {
        describe: `${what} to be over`,
      });
    }
    assert.equal((await lbd.status()).config.digest, digest);
    await scenario.ping(ip);
  });

  test('is ready, and holds what is already there, while the API server is away', async () => {
    const { lbd: first, ip } = await scenario.startWithService();
    await first.stop('SIGTERM');
    await using _cut = await scenario.lab
      .segment()
      .drop({ from: scenario.host, to: scenario.lab.host('api') });
    const second = await scenario.startLbd();
    await held(second, ip);
    const status = await second.status();
    assert.equal(status.kubernetes.reachable, false);
    assert.equal(status.kubernetes.fromCache, true);
    assert.ok(status.problems.some(({ text }) => /API server has not answered since start/.test(text)));
    await scenario.ping(ip);
  });
});
