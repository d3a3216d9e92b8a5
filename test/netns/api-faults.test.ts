import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, afterEach, before, describe, test } from 'node:test';
import type { StatusDocument } from '../../src/daemon/types.ts';
import { LBD_RULES } from '../support/apiserver/types.ts';
import { addressesOf } from '../support/lab-api.ts';
import type { Lbd } from '../support/lab-lbd.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { Prober } from '../support/prober.ts';
import { held, onNic, Scenario, SKIP, shown, VIP } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

/**
 * An API server that is away, ill or hostile. Whatever it does, what is announced stays announced, and nothing is
 * allocated or released by guess (safety rule 7). Only lbd meets most of the faults, so that the tests can go on acting.
 */

const LBD = { users: ['lbd'] };
const SECOND = '10.77.0.201';
const THIRD = '10.77.0.202';

const BAD_KUBECONFIGS = [
  {
    title: 'is missing',
    prepare: 'true',
    expected: /kubeconfig \/etc\/lbd\/kubeconfig cannot be read: .*ENOENT/,
  },
  {
    title: 'everybody may read',
    prepare: 'cp given kubeconfig; chmod 644 kubeconfig',
    expected: /open to every user of this host \(mode 0644\): run chmod 640 \/etc\/lbd\/kubeconfig/,
  },
  {
    title: 'is garbage',
    prepare: 'umask 077; head -c 4096 /dev/urandom >kubeconfig',
    expected: /kubeconfig \/etc\/lbd\/kubeconfig is no/,
  },
  {
    title: 'is empty',
    prepare: 'umask 077; : >kubeconfig',
    expected: /kubeconfig \/etc\/lbd\/kubeconfig is no YAML: expected a document, but the input is empty/,
  },
  {
    title: 'is a directory',
    prepare: 'mkdir -m 700 kubeconfig',
    expected: /kubeconfig \/etc\/lbd\/kubeconfig is no regular file/,
  },
  {
    title: 'has no such context',
    prepare: 'umask 077; sed "s/^current-context: .*/current-context: elsewhere/" given >kubeconfig',
    expected: /has no context \\?"elsewhere\\?": it has /,
  },
] as const;

describe('the API server', { skip: SKIP, concurrency: true }, () => {
  describe('that misbehaves is', { concurrency: 1 }, () => {
    let scenario: Scenario;
    shareOneLab((started) => {
      scenario = started;
    });

    test('down at start: lbd is ready all the same, says so, and works once it is there', async () => {
      await scenario.lab.apiServer.fault('refuseConnections');
      const lbd = await scenario.startLbd();
      const { kubernetes, problems } = await lbd.waitForStatus(
        (status) => status.kubernetes.error !== undefined,
        { describe: 'the failure' },
      );
      assert.equal(kubernetes.reachable, false);
      assert.equal(kubernetes.server, scenario.lab.apiServer.url);
      assert.match(kubernetes.error ?? '', /ECONNREFUSED/);
      assert.ok(problems.some(({ severity, text }) => severity === 'error' && /ECONNREFUSED/.test(text)));
      const shown = await lbd.lbctl(['status']);
      assert.match(shown.stdout, /API server +https:\/\/10\.77\.0\.11:6443, not reachable: .*ECONNREFUSED/);
      await scenario.lab.apiServer.fault('acceptConnections');
      assert.equal(await scenario.serve({ name: 'web' }), VIP);
      await held(lbd, VIP);
      await noProblems(lbd);
    });

    test('away while the host reboots: the host serves what it served, and nothing else', async () => {
      const { api, client, host } = scenario;
      const { lbd: before } = await scenario.startWithService();
      assert.equal(await scenario.serve({ name: 'doomed' }), SECOND);
      await held(before, SECOND);
      await waitFor(async () => (await host.readFile('/var/lib/lbd/services.json')).includes('doomed'), {
        describe: 'both Services in the state directory',
      });
      await scenario.lab.apiServer.fault('drop', LBD);
      await host.powerOff();
      await host.powerOn();
      assert.equal(await shown(host, VIP), undefined);

      const lbd = await scenario.startLbd();
      await held(lbd, VIP);
      await held(lbd, SECOND);
      await scenario.ping(VIP, client);
      await api.deleteService('doomed');
      await api.createService({ name: 'new' });
      const status = await lbd.waitForStatus(({ kubernetes }) => kubernetes.error !== undefined, {
        describe: 'the failure',
      });
      assert.equal(status.kubernetes.fromCache, true);
      assert.ok(
        status.problems.some(({ text }) => /last known Services/.test(text)),
        problemsOf(status),
      );
      assert.match((await lbd.lbctl(['status'])).stdout, /Services as last known, from the state directory/);
      assert.deepEqual(addressesOf(await api.getService('new')), []);
      assert.ok(await shown(host, SECOND));

      await scenario.lab.apiServer.fault('clear');
      await dropped(lbd, SECOND);
      await api.waitForAddresses('new');
      await held(lbd, VIP);
      assert.equal((await lbd.status()).kubernetes.fromCache, false);
      await noProblems(lbd);
      assert.ok(!lbd.logs.some(({ event, ip }) => event === 'address.dropped' && ip === VIP));
    });

    test('away while lbd, killed before it wrote down its newest Service, starts again: that address stays too', async () => {
      const { host } = scenario;
      const { lbd: before } = await scenario.startWithService();
      await waitFor(async () => (await host.readFile('/var/lib/lbd/services.json')).includes('web'), {
        describe: 'the first Service in the state directory',
      });
      assert.equal(await scenario.serve({ name: 'newest' }), SECOND);
      await held(before, SECOND);
      await before.stop('SIGKILL');
      assert.ok(!(await host.readFile('/var/lib/lbd/services.json')).includes('newest'), 'killed in time');
      await scenario.lab.apiServer.fault('drop', LBD);

      const lbd = await scenario.startLbd();
      await held(lbd, VIP);
      await lbd.waitForStatus(({ kubernetes }) => kubernetes.error !== undefined, {
        describe: 'the failure',
      });
      assert.ok(await shown(host, SECOND));
      await scenario.lab.apiServer.fault('clear');
      await noProblems(lbd);
      await held(lbd, SECOND);
      const changes = lbd.logs.filter(({ event, ip }) => ip === SECOND && /^address\./.test(String(event)));
      assert.deepEqual(
        changes.map(({ event }) => event),
        ['address.held'],
        'adopted, and never let go of',
      );
    });

    test('restarted with its history lost: what changed meanwhile is noticed, the rest stays', async () => {
      const { api, client } = scenario;
      const { lbd } = await scenario.startWithService();
      assert.equal(await scenario.serve({ name: 'doomed' }), SECOND);
      await held(lbd, SECOND);
      await using watch = await Standing.watch(scenario, VIP);
      await using prober = await Prober.start(client, { addresses: [VIP] });
      const fromMs = (await prober.firstAnswer(VIP)).atMs;
      await scenario.lab.apiServer.fault('drop', LBD);
      await scenario.lab.apiServer.fault('closeWatches');
      await api.deleteService('doomed');
      await api.createService({ name: 'new' });
      await scenario.lab.apiServer.fault('restart', { downMs: 300, history: 'lost' });
      await scenario.lab.apiServer.fault('clear');
      await dropped(lbd, SECOND);
      // Its address is the one that the deleted Service left.
      assert.deepEqual((await api.waitForAddresses('new')).addresses, [SECOND]);
      await held(lbd, SECOND);
      await lbd.waitForStatus(({ kubernetes }) => kubernetes.reflectors.every(({ relists }) => relists > 0), {
        describe: 'a new list of everything',
        timeoutMs: 10_000,
      });
      watch.assertUntouched();
      assertNoGap(prober, VIP, fromMs);
    });

    test('restarted with its revisions begun anew, and believed', async () => {
      const { api, host } = scenario;
      const { lbd } = await scenario.startWithService();
      for (let count = 0; count < 5; count += 1) await scenario.serve({ name: `filler-${count}` });
      await scenario.lab.apiServer.fault('restart', { revisions: 'reset', history: 'lost' });
      assert.equal(await scenario.serve({ name: 'new' }), '10.77.0.206');
      await held(lbd, '10.77.0.206', 10_000);
      await api.deleteService('web');
      await onNic(host, VIP, false, 10_000);
    });

    test('slow: everything happens, only later', async () => {
      const { api, host } = scenario;
      await scenario.lab.apiServer.fault('delay', 700, LBD);
      const lbd = await scenario.startLbd();
      const { host: facts } = await lbd.status();
      assert.ok(facts.uptimeMs < 2_000, `ready ${facts.uptimeMs} ms after the start`);
      await api.createService({ name: 'web' });
      await held(lbd, VIP, 10_000);
      await scenario.event('web', /^Announced/, 10_000);
      await api.deleteService('web');
      await onNic(host, VIP, false);
      await noProblems(lbd);
    });

    test('replaying old events, which brings nothing back', async () => {
      const { api } = scenario;
      const { lbd } = await scenario.startWithService();
      for (const name of ['deleted', 'changed']) await scenario.serve({ name });
      await held(lbd, THIRD);
      await api.deleteService('deleted');
      await api.patchService('changed', { spec: { type: 'ClusterIP' } });
      await lbd.waitForStatus(({ addresses }) => addresses.length === 1, { describe: 'one address' });
      await using watch = await Standing.watch(scenario, VIP, SECOND, THIRD);
      await scenario.lab.apiServer.fault('replayWatchEvents', 100);
      // In the order of the watch: when this one is served, the replay is over.
      await api.createService({ name: 'last', annotations: { 'lbd.io/addresses': '10.77.0.210' } });
      await held(lbd, '10.77.0.210');
      const { services, addresses } = await lbd.status();
      assert.deepEqual(services.map(({ name }) => name).sort(), ['default/last', 'default/web']);
      assert.deepEqual(addresses.map(({ ip }) => ip).sort(), [VIP, '10.77.0.210']);
      watch.assertUntouched();
    });

    test('throttling, which is obeyed: no request comes before Retry-After is over', async () => {
      const { api, lab } = scenario;
      await lab.apiServer.resetStats();
      await scenario.lab.apiServer.fault('throttle', 1, {
        ...LBD,
        resources: ['services'],
        verbs: ['list'],
        times: 1,
      });
      await scenario.lab.apiServer.fault('throttle', 2, { ...LBD, resources: ['services/status'], times: 1 });
      const lbd = await scenario.startLbd();
      const throttled = await lbd.waitForStatus(({ problems }) => problems.length > 0, {
        describe: 'the refusal of the list',
      });
      assert.match(problemsOf(throttled), /cannot list services: 429 Too many requests/);
      await api.createService({ name: 'web' });
      const refused = await lbd.waitForStatus(
        (status) => /cannot patch services\/status: 429 Too many requests/.test(problemsOf(status)),
        { describe: 'the refusal of the status write' },
      );
      assert.match(problemsOf(refused), /default\/web/);
      await api.waitForAddresses('web');
      for (const [what, leastMs] of [
        ['list services', 1_000],
        ['patch services/status', 2_000],
      ] as const) {
        const times = (await lab.apiServer.stats()).recent
          .filter(({ user, verb, resource }) => user === 'lbd' && `${verb} ${resource}` === what)
          .map(({ receivedAtMs }) => receivedAtMs);
        const gapMs = Number(times[1]) - Number(times[0]);
        assert.ok(gapMs >= leastMs, `${what} again after ${gapMs} ms, asked for ${leastMs}`);
      }
      await held(lbd, VIP);
      await noProblems(lbd);
    });

    for (const form of ['event', 'http'] as const) {
      test(`answering watches with 410, as ${form}: no deletion is lost or invented`, async () => {
        const { api } = scenario;
        const { lbd } = await scenario.startWithService();
        assert.equal(await scenario.serve({ name: 'doomed' }), SECOND);
        await held(lbd, SECOND);
        await using watch = await Standing.watch(scenario, VIP);
        await scenario.lab.apiServer.fault('watchTooOld', form);
        await scenario.lab.apiServer.fault('drop', { ...LBD, verbs: ['watch', 'list'] });
        await scenario.lab.apiServer.fault('closeWatches');
        await lbd.waitForStatus(({ kubernetes }) => kubernetes.error !== undefined, { describe: 'the drop' });
        await api.deleteService('doomed');
        await api.createService({ name: 'new' });
        await scenario.lab.apiServer.fault('expireHistory');
        await scenario.lab.apiServer.fault('clear');
        await scenario.lab.apiServer.fault('watchTooOld', form);
        await dropped(lbd, SECOND);
        assert.deepEqual((await api.waitForAddresses('new')).addresses, [SECOND]);
        // And once more, in the middle of an open watch.
        const relists = (status: StatusDocument) =>
          status.kubernetes.reflectors.find(({ resource }) => resource === 'services')?.relists ?? 0;
        const before = relists(await lbd.status());
        await scenario.lab.apiServer.fault('failWatches');
        await lbd.waitForStatus((status) => relists(status) > before, { describe: 'a new list' });
        await scenario.serve({ name: 'newest' });
        await held(lbd, THIRD);
        watch.assertUntouched();
        await noProblems(lbd);
      });
    }
  });

  describe('that refuses', { concurrency: 1 }, () => {
    let scenario: Scenario;
    shareOneLab((started) => {
      scenario = started;
    });

    test('a token that was rotated takes the new one from its file, unnoticed', async () => {
      const { lab } = scenario;
      const kubeconfig = await lab.apiServer.kubeconfig('lbd', 'tokenFile');
      assert.match(kubeconfig, /tokenFile:/);
      const { lbd } = await scenario.startWithService({ kubeconfig });
      await lab.apiServer.rotateToken('lbd');
      await scenario.lab.apiServer.fault('dropConnections');
      assert.equal(await scenario.serve({ name: 'next' }), SECOND);
      await held(lbd, SECOND);
      await noProblems(lbd);
      assert.ok(!lbd.logs.some((line) => String(line['error']).includes('401')));
    });

    test('a revoked token is named with verb and resource; a new kubeconfig is taken without a restart', async () => {
      const { api, host, lab } = scenario;
      const { lbd } = await scenario.startWithService();
      await using watch = await Standing.watch(scenario, VIP);
      await lab.apiServer.revokeTokens('lbd');
      await scenario.lab.apiServer.fault('closeWatches');
      await api.createService({ name: 'late' });
      const status = await lbd.waitForStatus((document) => /401/.test(problemsOf(document)), {
        describe: 'the refusal',
      });
      assert.match(
        problemsOf(status),
        /cannot watch \w+: 401 Unauthorized \(the credentials in the kubeconfig are refused\)/,
      );
      assert.match((await lbd.lbctl(['status'])).stdout, /ERROR .*cannot \w+ \w+: 401/);
      assert.deepEqual(addressesOf(await api.getService('late')), []);
      await lab.apiServer.rotateToken('lbd');
      await host.writeFile('/etc/lbd/kubeconfig', await lab.apiServer.kubeconfig('lbd'));
      await api.waitForAddresses('late');
      await held(lbd, SECOND);
      watch.assertUntouched();
      await noProblems(lbd);
    });

    test('leases is named; statuses are left as they are and what they say is served', async () => {
      const { api } = scenario;
      const { lbd: before } = await scenario.startWithService();
      await before.stop('SIGINT');
      await allowEverythingBut('leases');
      const lbd = await scenario.startLbd();
      await held(lbd, VIP);
      await api.createService({ name: 'late' });
      const status = await lbd.waitForStatus(
        (document) => /403/.test(problemsOf(document)) && serviceOf(document, 'late') !== undefined,
        { describe: 'the refusal' },
      );
      assert.match(problemsOf(status), /allocator: cannot get leases: 403 .*verbs? get.* on leases/);
      assert.equal(status.kubernetes.allocator.self, false);
      assert.match((await lbd.lbctl(['status'])).stdout, /allocator +cannot get leases: 403/);
      assert.deepEqual(addressesOf(await api.getService('late')), []);
      assert.notEqual(serviceOf(status, 'late')?.reason, 'its status is being written');
    });

    test('status writes is named, and lbd goes on as soon as it may', async () => {
      const { api, host, lab } = scenario;
      await allowEverythingBut('services/status');
      const lbd = await scenario.startLbd();
      await api.createService({ name: 'web' });
      const status = await lbd.waitForStatus((document) => /403/.test(problemsOf(document)), {
        describe: 'the refusal',
      });
      assert.match(
        problemsOf(status),
        /cannot patch services\/status: 403 .*grant verb patch on services\/status/,
      );
      assert.equal(await shown(host, VIP), undefined, 'only what status says is held');
      await lab.apiServer.createUser('lbd', { rules: LBD_RULES });
      await held(lbd, VIP, 10_000);
      await noProblems(lbd);
    });

    test('Events is named, and addresses are given all the same', async () => {
      await allowEverythingBut('events');
      const { lbd } = await scenario.startWithService();
      const status = await lbd.waitForStatus((document) => /403/.test(problemsOf(document)), {
        describe: 'the refusal',
      });
      assert.match(problemsOf(status), /cannot create events: 403 .*grant verb create on events/);
    });

    for (const resource of ['services', 'nodes', 'endpointslices'] as const) {
      test(`${resource} is named`, async () => {
        await allowEverythingBut(resource);
        const lbd = await scenario.startLbd();
        const status = await lbd.waitForStatus((document) => /403/.test(problemsOf(document)), {
          describe: 'the refusal',
        });
        assert.match(
          problemsOf(status),
          new RegExp(`cannot list ${resource}: 403 .*grant verb list on ${resource}`),
        );
        if (resource !== 'services') assert.equal(await scenario.serve({ name: 'web' }), VIP);
      });
    }

    async function allowEverythingBut(resource: string): Promise<void> {
      const rules = LBD_RULES.map((rule) => ({
        ...rule,
        resources: rule.resources.filter((name) => name !== resource),
      }));
      await scenario.lab.apiServer.createUser('lbd', { rules });
    }
  });

  describe('apart, what lbd keeps and is given on the host:', { concurrency: 1 }, () => {
    let scenario: Scenario;
    shareOneLab((started) => {
      scenario = started;
    });

    test('a state directory that cannot be written is shown, and lbd works', async () => {
      const { host } = scenario;
      await host.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'full', '/var/lib/lbd']);
      try {
        await host.run(['sh', '-c', 'head -c 1M /dev/zero >/var/lib/lbd/filler; true'], { mayFail: true });
        const { lbd } = await scenario.startWithService();
        const status = await lbd.waitForStatus((document) => /ENOSPC/.test(problemsOf(document)), {
          describe: 'the full disk',
        });
        assert.match(problemsOf(status), /cannot write \/var\/lib\/lbd\/services\.json: .*ENOSPC/);
        await host.run(['rm', '/var/lib/lbd/filler']);
        await lbd.stop('SIGTERM');
        const cached = JSON.parse(await host.readFile('/var/lib/lbd/services.json'));
        assert.match(JSON.stringify(cached), /"web"/);
        const { stdout } = await host.run(['ls', '/var/lib/lbd']);
        assert.doesNotMatch(stdout, /\.new/);

        await host.run(['mount', '-o', 'remount,ro', '/var/lib/lbd']);
        const second = await scenario.startLbd();
        await held(second, VIP);
        assert.equal(await scenario.serve({ name: 'next' }), SECOND);
        const shown = await second.waitForStatus((document) => /EROFS/.test(problemsOf(document)), {
          describe: 'the read-only directory',
        });
        assert.match(problemsOf(shown), /cannot write \/var\/lib\/lbd\/services\.json: .*EROFS/);
        await second.stop('SIGTERM');
      } finally {
        await host.run(['umount', '-l', '/var/lib/lbd']);
      }
    });

    test('a damaged cache of the Services is told and put right', async () => {
      const { host } = scenario;
      for (const damaged of ['', '{"version":1,"serv', '[1,2,3]', '\u0000'.repeat(4_096), '{"version":99}']) {
        await scenario.lab.apiServer.fault('refuseConnections');
        await host.writeFile('/var/lib/lbd/services.json', damaged);
        const lbd = await scenario.startLbd();
        await lbd.waitForLog('kube.cache.ignored', { file: '/var/lib/lbd/services.json' });
        assert.deepEqual((await lbd.status()).services, []);
        await scenario.lab.apiServer.fault('acceptConnections');
        await lbd.stop('SIGKILL');
      }
      await scenario.startWithService();
      await waitFor(async () => (await host.readFile('/var/lib/lbd/services.json')).includes('"web"'), {
        describe: 'a good cache',
      });
    });

    for (const { title, prepare, expected } of BAD_KUBECONFIGS) {
      test(`a kubeconfig that ${title} is refused at start`, async () => {
        const { host } = scenario;
        const good = await scenario.lab.apiServer.kubeconfig('lbd');
        await rm(host.outside('/etc/lbd/kubeconfig'), { recursive: true, force: true });
        await host.writeFile('/etc/lbd/given', good);
        await host.run(['sh', '-c', `cd /etc/lbd; ${prepare}`]);
        const lbd = await scenario.startLbd({ kubeconfig: null, awaitReady: false });
        const { code } = await lbd.process.exit;
        assert.equal(code, 1, lbd.output);
        assert.match(lbd.output, expected);
        assert.doesNotMatch(lbd.output, /\n\s+at |"stack"/, 'no stack for an operator');
        await rm(host.outside('/etc/lbd/kubeconfig'), { recursive: true, force: true });
      });
    }
  });

  // What takes long has a lab of its own each, side by side with the rest.

  test('whose connections die without a word is found silent within 30 s', async () => {
    await using scenario = await ownScenario();
    const { lab } = scenario;
    const { lbd } = await scenario.startWithService();
    await using watch = await Standing.watch(scenario, VIP);
    await lab.apiServer.fault('freezeConnections');
    const frozenMs = labTimeMs();
    // New connections work, and the lab's own ones are frozen with the others.
    await lab.kubectl(['create', 'service', 'loadbalancer', 'late', '--tcp=80:80']);
    await lbd.waitForStatus((status) => serviceOf(status, 'late') !== undefined, {
      describe: 'the new Service',
      timeoutMs: 40_000,
    });
    const foundMs = labTimeMs() - frozenMs;
    assert.ok(foundMs <= 30_000, `found after ${foundMs} ms`);
    await held(lbd, SECOND, 15_000);
    watch.assertUntouched();
  });

  test('that hangs makes lbd stop allocating, and nothing else', async () => {
    await using scenario = await ownScenario();
    const { api, lab } = scenario;
    const { lbd } = await scenario.startWithService();
    await using watch = await Standing.watch(scenario, VIP);
    await lab.apiServer.fault('stall');
    const status = await lbd.waitForStatus(
      ({ kubernetes }) => !kubernetes.allocator.self && !kubernetes.reachable,
      { describe: 'the end of the Lease', timeoutMs: 25_000 },
    );
    assert.match(problemsOf(status), /no answer within/);
    assert.match(problemsOf(status), /allocator: /);
    await lab.apiServer.fault('resume');
    await lbd.waitForStatus(({ kubernetes }) => kubernetes.allocator.self, {
      describe: 'the Lease again',
      timeoutMs: 20_000,
    });
    await api.createService({ name: 'late' });
    await held(lbd, SECOND, 15_000);
    watch.assertUntouched();
    await noProblems(lbd);
  });

  test('that fails on leases alone leaves every status as it is until it is well again', async () => {
    await using scenario = await ownScenario();
    const { api, lab } = scenario;
    const { lbd } = await scenario.startWithService();
    await lab.apiServer.fault('fail', 500, { ...LBD, resources: ['leases'] });
    const status = await lbd.waitForStatus(({ kubernetes }) => !kubernetes.allocator.self, {
      describe: 'the end of the Lease',
      timeoutMs: 15_000,
    });
    assert.match(problemsOf(status), /allocator: cannot (get|patch) leases: 500 injected fault/);
    await api.createService({ name: 'late' });
    await lbd.waitForStatus((document) => serviceOf(document, 'late') !== undefined, {
      describe: 'the new Service',
    });
    const stats = await lab.apiServer.stats();
    await lab.apiServer.fault('clear');
    assert.equal(stats.requests['patch services/status']?.count, 1);
    await api.waitForAddresses('late', { timeoutMs: 25_000 });
    await held(lbd, SECOND);
  });

  test('that has lost its Services is doubted, and believed when it says so again 30 s later', async () => {
    await using scenario = await ownScenario();
    const { lab } = scenario;
    const lbd = await startWithMany(scenario);
    const lostMs = labTimeMs();
    await lab.apiServer.fault('restart', { objects: 'lost', history: 'lost' });
    await lab.apiServer.createUser('lbd', { rules: LBD_RULES });
    const status = await doubting(lbd);
    assert.match(problemsOf(status), /12 of 12 services vanished at once: kept/);
    assert.match((await lbd.lbctl(['status'])).stdout, /services +12 of 12 are missing from the last list/);
    assert.equal(status.addresses.filter(({ state }) => state === 'held').length, 12);
    // Who comes meanwhile gets none of the doubted addresses.
    assert.equal(await scenario.serve({ name: 'new' }), '10.77.0.212');
    await lbd.waitForStatus(({ addresses }) => addresses.length === 1, {
      describe: 'the end of the doubt',
      timeoutMs: 45_000,
    });
    const keptMs = labTimeMs() - lostMs;
    assert.ok(keptMs >= 30_000, `kept for ${keptMs} ms`);
    assert.ok(await shown(scenario.host, '10.77.0.212'));
  });

  test('that has lost its Services and finds them again does no harm', async () => {
    await using scenario = await ownScenario();
    const { api, lab } = scenario;
    const lbd = await startWithMany(scenario);
    const { body } = await api.expect('GET', '/api/v1/namespaces/default/services');
    const ips = MANY.map((_, index) => `10.77.0.${200 + index}`);
    await using watch = await Standing.watch(scenario, ...ips);
    await lab.apiServer.fault('restart', { objects: 'lost', history: 'lost' });
    await lab.apiServer.createUser('lbd', { rules: LBD_RULES });
    await doubting(lbd);
    const items = body['items'] as readonly Readonly<Record<string, unknown>>[];
    const backup = items.map((item) => ({ ...item, apiVersion: 'v1', kind: 'Service' }));
    await lab.apiServer.load(backup, { checked: false });
    const status = await lbd.waitForStatus(
      ({ kubernetes }) => kubernetes.reflectors.every(({ doubt }) => doubt === undefined),
      { describe: 'the end of the doubt', timeoutMs: 10_000 },
    );
    assert.equal(status.addresses.filter(({ state }) => state === 'held').length, 12);
    assert.equal(await scenario.serve({ name: 'new' }), '10.77.0.212');
    await held(lbd, '10.77.0.212');
    watch.assertUntouched();
  });
});

/** One lab for the tests of a suite, each from a clean state. */
function shareOneLab(take: (scenario: Scenario) => void): void {
  let scenario: Scenario;
  before(async () => {
    scenario = await Scenario.start();
    take(scenario);
  });
  afterEach(async () => {
    await scenario.lab.apiServer.fault('clear');
    await scenario.lab.apiServer.createUser('lbd', { rules: LBD_RULES });
    await scenario.reset();
  });
  after(() => scenario?.close());
}

const MANY = Array.from({ length: 12 }, (_, index) => `many-${index}`);

async function startWithMany(scenario: Scenario): Promise<Lbd> {
  const lbd = await scenario.startLbd();
  for (const name of MANY) await scenario.serve({ name });
  await lbd.waitForStatus(
    ({ addresses }) => addresses.filter(({ state }) => state === 'held').length === MANY.length,
    { describe: 'all addresses' },
  );
  return lbd;
}

function doubting(lbd: Lbd): Promise<StatusDocument> {
  return lbd.waitForStatus(
    ({ kubernetes }) =>
      kubernetes.reflectors.some(({ doubt, phase }) => doubt?.missing === 12 && phase === 'doubting'),
    { describe: 'the doubt', timeoutMs: 10_000 },
  );
}

/** A scenario of its own, for tests that run beside others. */
async function ownScenario(): Promise<Scenario & AsyncDisposable> {
  const scenario = await Scenario.start();
  return Object.assign(scenario, { [Symbol.asyncDispose]: () => scenario.close() });
}

/** Watches the kernel of the host: whether addresses were touched since. */
class Standing implements AsyncDisposable {
  readonly #monitor: Awaited<ReturnType<Scenario['host']['spawn']>>;
  readonly #ips: readonly string[];

  private constructor(monitor: Awaited<ReturnType<Scenario['host']['spawn']>>, ips: readonly string[]) {
    this.#monitor = monitor;
    this.#ips = ips;
  }

  static async watch(scenario: Scenario, ...ips: readonly string[]): Promise<Standing> {
    const monitor = await scenario.host.spawn(['stdbuf', '-oL', 'ip', '-o', 'monitor', 'address']);
    const marker = `10.99.${Math.trunc(Math.random() * 250)}.1`;
    await waitFor(
      async () => {
        await scenario.host.ipBatch([`addr add ${marker}/32 dev lo`, `addr del ${marker}/32 dev lo`]);
        return monitor.stdout.includes(`Deleted`) && monitor.stdout.includes(marker);
      },
      { describe: 'the monitor of addresses', everyMs: 50 },
    );
    return new Standing(monitor, ips);
  }

  assertUntouched(): void {
    for (const ip of this.#ips) {
      const removals = this.#monitor.stdout
        .split('\n')
        .filter((line) => line.startsWith('Deleted') && line.includes(`${ip}/`));
      assert.deepEqual(removals, [], `${ip} left the host`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#monitor.stop('SIGKILL');
  }
}

function assertNoGap(prober: Prober, ip: string, fromMs: number): void {
  const gap = prober.longestGap(ip, { fromMs, toMs: labTimeMs() });
  const late = prober.late.reduce((longest, { ms }) => Math.max(longest, ms), 0);
  assert.ok(
    gap !== undefined && gap.ms < 100 + late,
    `${ip} was silent for ${gap?.ms} ms (prober late ${late} ms)`,
  );
}

/** An address that another Service gets at once is off the NIC for too short a time to be seen there. */
async function dropped(lbd: Lbd, ip: string): Promise<void> {
  await lbd.waitForLog('address.dropped', { ip }, 10_000);
}

/** The last reflector may still be backing off when the others work again. */
async function noProblems(lbd: Lbd): Promise<void> {
  await lbd.waitForStatus(({ problems }) => problems.length === 0, {
    describe: 'no problem',
    timeoutMs: 20_000,
  });
}

function problemsOf(status: StatusDocument): string {
  return status.problems.map(({ severity, text }) => `${severity}: ${text}`).join('\n');
}

function serviceOf(status: StatusDocument, name: string) {
  return status.services.find((service) => service.name === `default/${name}`);
}
