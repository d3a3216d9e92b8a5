import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { createLab, type Lab } from '../support/lab.ts';
import { addressesOf } from '../support/lab-api.ts';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { linkLocal } from '../support/lab-topology.ts';
import { Prober } from '../support/prober.ts';
import { BINARY, held, onNic, Scenario, SKIP, shown, VIP } from '../support/scenario.ts';
import { onLink } from '../support/virtual-lab.ts';
import { waitFor } from '../support/wait.ts';

const V6 = 'fd77::200';
const BOTH = ['10.77.0.200-10.77.0.210', 'fd77::200-fd77::210'];
const SINGLE_V6 = { ipFamilies: ['IPv6'], ipFamilyPolicy: 'SingleStack' };

/** Services of one family, of both, and what goes for addresses of either in the kernel and on the wire. */
describe('families', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  /** Waits until the Service's status has exactly these. */
  function addresses(name: string, expected: readonly string[]): Promise<unknown> {
    return waitFor(async () => addressesOf(await scenario.api.getService(name)).join() === expected.join(), {
      describe: `${expected.join()} in the status of ${name}`,
    });
  }

  async function policy(name: string, ipFamilyPolicy: string): Promise<void> {
    await scenario.api.patchService(name, { spec: { ipFamilyPolicy } });
  }

  test('a Service that changes between one family and both keeps the address that stands', async () => {
    const { host, client } = scenario;
    const { lbd } = await scenario.startWithService(
      { pool: BOTH },
      { spec: { ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' } },
    );
    await using prober = await Prober.start(client, { addresses: [VIP, V6] });
    const { atMs: fromMs } = await prober.firstAnswer(VIP);
    for (const dual of ['PreferDualStack', 'RequireDualStack']) {
      const sinceMs = labTimeMs();
      await policy('web', dual);
      await addresses('web', [VIP, V6]);
      await held(lbd, V6);
      await prober.firstAnswer(V6, { sinceMs });
      await policy('web', dual === 'PreferDualStack' ? 'RequireDualStack' : 'PreferDualStack');
      const { spec } = await scenario.api.getService('web');
      const clusterIPs = [spec['clusterIP']];
      const single = { ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4'], clusterIPs };
      await scenario.api.patchService('web', { spec: single });
      await addresses('web', [VIP]);
      await onNic(host, V6, false);
    }
    const gap = prober.longestGap(VIP, { fromMs });
    assert.ok((gap?.ms ?? 0) < 500, `${gap?.ms} ms without an answer for the address that stands`);
    assert.equal(prober.macs(VIP).length, 1);
    const { heldSinceMs = 0 } = await held(lbd, VIP);
    assert.ok(heldSinceMs >= labTimeMs() - fromMs - 1_000, 'it never left the NIC');
  });

  test('a pool without a family: RequireDualStack is told so, PreferDualStack takes what there is', async () => {
    const { api } = scenario;
    const lbd = await scenario.startLbd({ pool: ['10.77.0.200-10.77.0.210'] });
    const spec = (ipFamilyPolicy: string) => ({ ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy });
    await api.createService({ name: 'require', spec: spec('RequireDualStack') });
    const refused = await scenario.event('require', /^AllocationFailed: .*has no v4 and v6 addresses/);
    assert.match(refused, /pool "default"/);
    assert.equal(await scenario.serve({ name: 'prefer', spec: spec('PreferDualStack') }), VIP);
    await api.createService({ name: 'grown', spec: { ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' } });
    const { addresses: had } = await api.waitForAddresses('grown');
    await policy('grown', 'RequireDualStack');
    await scenario.event('grown', /^AllocationFailed: .*pool "default".* has no v6 addresses/);
    assert.deepEqual(addressesOf(await api.getService('grown')), had, 'it keeps what it has');
    assert.deepEqual(addressesOf(await api.getService('require')), []);
    const { services } = await lbd.status();
    const states = Object.fromEntries(services.map(({ name, state }) => [name, state]));
    assert.equal(states['default/require'], 'refused');
    assert.equal(states['default/prefer'], 'announced');

    // The pool gets the family: all of them get what they lack, and keep what they have.
    await lbd.reload(scenario.toml({ pool: BOTH }));
    for (const name of ['require', 'prefer', 'grown']) {
      await waitFor(async () => addressesOf(await api.getService(name)).length === 2, {
        describe: `two addresses of ${name}`,
      });
    }
    assert.equal(addressesOf(await api.getService('prefer'))[0], VIP);
    assert.equal(addressesOf(await api.getService('grown'))[0], had[0]);
  });

  test('a v6 address that somebody on the wire has is found by a probe, before it is added', async () => {
    const { host, rival, client } = scenario;
    await rival.ipBatch([`addr add ${V6}/128 dev eth0 nodad`]);
    try {
      await using prober = await Prober.start(client, { addresses: ['fd77::250'] });
      const { lbd, ip } = await scenario.startWithService({ pool: BOTH }, { spec: SINGLE_V6 });
      assert.equal(ip, 'fd77::201');
      const mac = rival.nic('eth0').mac;
      const { pools } = await lbd.status();
      assert.deepEqual(pools[0]?.blocked, [{ ip: V6, reason: `${mac} answers for ${V6} on eth0` }]);
      const probes = prober.seen(V6, 'ns-probe').filter((one) => one.mac === host.nic('eth0').mac);
      assert.ok(probes.length > 0);
      const announced = prober.seen(V6, 'na-unsolicited').filter((one) => one.mac === host.nic('eth0').mac);
      assert.deepEqual(announced, []);
      assert.equal(await shown(host, V6), undefined);
    } finally {
      await rival.run(['ip', 'addr', 'del', `${V6}/128`, 'dev', 'eth0']);
    }
  });

  for (const prefix of ['host', 'subnet'] as const) {
    test(`is never a source of the host with prefix = "${prefix}": a server sees the address of the NIC`, async () => {
      const { host, client, api } = scenario;
      // The nearest addresses to the server's: what the kernel would choose by the longest common prefix (RFC 6724 5, rule 8).
      const server = { v4: '10.77.0.208', v6: 'fd77::20e' };
      const near = { v4: '10.77.0.209', v6: 'fd77::20f' };
      await client.ipBatch([`addr add ${server.v4}/24 dev eth0`, `addr add ${server.v6}/64 dev eth0 nodad`]);
      try {
        const web = await client.spawn([process.execPath, '-e', SOURCE_SERVER]);
        const port = await web.waitForLine(/^\d+$/);
        const seen = async (ip: string) =>
          (await host.run(['curl', '-s', '-m', '2', `http://${ip}:${port}/`])).stdout.replace('::ffff:', '');
        const toml = `[local]\nprefix = "${prefix}"`;
        const lbd = await scenario.startLbd({ pool: ['10.77.0.209/32', 'fd77::20f/128'], toml });
        await api.createService({
          name: 'web',
          spec: { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' },
        });
        await held(lbd, near.v4);
        await held(lbd, near.v6);
        assert.equal((await shown(host, near.v6))?.preferred_life_time, 0);
        assert.equal(await seen(server.v4), host.ip);
        assert.equal(await seen(`[${server.v6}]`), host.ip6);
        // The same address as anybody else would add it is what the server sees.
        await lbd.stop('SIGINT');
        await host.ipBatch([`addr add ${near.v6}/128 dev eth0 nodad`]);
        assert.equal(await seen(`[${server.v6}]`), near.v6);
        await web.stop('SIGKILL');
      } finally {
        await client.ipBatch([`addr del ${server.v4}/24 dev eth0`, `addr del ${server.v6}/64 dev eth0`]);
      }
    });
  }

  test('a link-local address is refused with the reason; of unique local ones those of a subnet here are local', async () => {
    const { api, host } = scenario;
    const lbd = await scenario.startLbd({ pool: [...BOTH, 'fd99::/120'] });
    const asks = (ip: string) => ({ 'lbd.io/addresses': ip });
    await api.createService({ name: 'link', annotations: asks('fe80::77'), spec: SINGLE_V6 });
    const event = await scenario.event('link', /^AllocationFailed/);
    assert.match(event, /asks for fe80::77, which no Service can have: it is a link-local address/);
    assert.deepEqual(addressesOf(await api.getService('link')), []);
    await scenario.serve({ name: 'ula', annotations: asks(V6), spec: SINGLE_V6 });
    assert.equal((await held(lbd, V6)).kind, 'local');
    assert.ok(await shown(host, V6));
    await scenario.serve({ name: 'far', annotations: asks('fd99::7'), spec: SINGLE_V6 });
    assert.equal((await held(lbd, 'fd99::7')).kind, 'virtual');
    assert.ok((await onLink(host))?.some(({ local }) => local === 'fd99::7'));
    const { code, stdout, stderr } = await checkPool('fe80::/64');
    assert.notEqual(code, 0);
    assert.match(stdout + stderr, /pool\[0\]\.addresses\[0\]: .*link-local/);

    async function checkPool(addresses: string) {
      await host.writeFile('/etc/other.toml', `[[pool]]\nname = "a"\naddresses = ["${addresses}"]\n`);
      return scenario.command('lbd', ['check', '/etc/other.toml']);
    }
  });

  test('is announced with the override flag: a neighbour that knew another station is corrected at once', async () => {
    const { client, rival, host } = scenario;
    const before = `neigh replace ${V6} lladdr ${rival.nic('eth0').mac} dev eth0 nud reachable`;
    await client.ipBatch([before]);
    await scenario.startWithService({ pool: BOTH }, { spec: SINGLE_V6 });
    const known = async () => (await client.run(['ip', '-6', 'neigh', 'show', V6, 'dev', 'eth0'])).stdout;
    await waitFor(async () => (await known()).includes(host.nic('eth0').mac), {
      describe: `${V6} to be known at ${host.nic('eth0').mac}`,
      timeoutMs: 2_000,
    });
  });
});

/** A router has no address in the v6 subnet: it asks from its link-local one. */
describe('a v6 address behind a router', { skip: SKIP }, () => {
  const routerMac = '02:1b:d0:00:00:99';
  let lab: Lab;
  let router: LabHost;
  let remote: LabHost;

  before(async () => {
    lab = await createLab({
      segments: { lan: {}, outer: { v4: '192.0.2.0/24', v6: '2001:db8:1::/64' } },
      hosts: {
        api: {},
        h1: { gateways: [], routes: [`default via ${linkLocal(routerMac)} dev eth0`] },
        router: {
          nics: {
            eth0: { segment: 'lan', addresses: [], mac: routerMac },
            eth1: { segment: 'outer', addresses: ['192.0.2.1/24', '2001:db8:1::1/64'] },
          },
          gateways: null,
          routes: ['fd77::/64 dev eth0'],
          sysctls: { 'net.ipv6.conf.all.forwarding': '1' },
        },
        remote: { nics: { eth0: { segment: 'outer' } } },
      },
    });
    await lab.startApiServer();
    router = lab.host('router');
    remote = lab.host('remote');
  });
  after(() => lab?.close());

  test('is answered for by the kernel when the router asks, and serves who is beyond', async () => {
    const toml = '[local]\ninterfaces = ["eth0"]\n[[pool]]\nname = "a"\naddresses = ["fd77::200/128"]\n';
    const lbd = await lab.startLbd('h1', { toml, binary: BINARY, readyTimeoutMs: 20_000 });
    await lab.api.createService({ name: 'web', spec: SINGLE_V6 });
    await lab.api.waitForAddresses('web');
    await held(lbd, V6);
    // Asked after the announcements of the beginning, so that the answer is the kernel's.
    await waitFor(
      async () => (await lbd.status()).addresses.find(({ ip }) => ip === V6)?.announcements === 5,
      { describe: 'the last announcement' },
    );
    await router.run(['ip', '-6', 'neigh', 'flush', 'all']);
    const { stdout } = await remote.run(['ping', '-6', '-n', '-c', '3', '-i', '0.2', '-W', '2', V6]);
    assert.match(stdout, /3 received/);
    const entry = await router.run(['ip', '-6', 'neigh', 'show', V6, 'dev', 'eth0']);
    assert.ok(entry.stdout.includes(lab.host('h1').nic('eth0').mac), entry.stdout);
    const own = await router.run(['ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0']);
    assert.doesNotMatch(own.stdout, /fd77:/);
  });
});

const SOURCE_SERVER =
  'const s=require("node:http").createServer((q,r)=>r.end(q.socket.remoteAddress));' +
  's.listen(0,"::",()=>console.log(s.address().port))';
