import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import { Prober } from '../support/prober.ts';
import { addressOf, FOREVER, held, inState, onNic, Scenario, SKIP, shown, VIP } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

/** Addresses of Services in the kernel and on the wire, and everything that speaks against putting one there. */
describe('a local address', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  test('is on the NIC with lifetime, tag and no route of its own, is announced in both forms and answers', async () => {
    const { host, client } = scenario;
    await using prober = await Prober.start(client, { addresses: [VIP] });
    const lbd = await scenario.startLbd();
    const createdMs = labTimeMs();
    const ip = await scenario.serve({ name: 'web' });
    assert.equal(ip, VIP, 'the lowest address of the pool');
    const first = await prober.firstAnswer(ip);
    assert.equal(first.mac, host.nic('eth0').mac);
    assert.ok(first.atMs > createdMs);

    const address = await shown(host, ip);
    assert.equal(address?.prefixlen, 32);
    assert.equal(address?.scope, 'host');
    assert.equal(address?.noprefixroute, true);
    const { valid_life_time: valid, preferred_life_time: preferred } = address ?? {};
    assert.ok(valid !== undefined && valid > 20 && valid <= 30, `valid for ${valid} s`);
    assert.equal(preferred, valid);
    assert.deepEqual(await scenario.tagged(), [`${ip}/32 eth0`]);
    const routes = await host.run(['ip', 'route']);
    assert.doesNotMatch(routes.stdout, new RegExp(ip));

    await scenario.ping(ip);
    await host.spawn(['sh', '-c', `exec ${process.execPath} -e '${HTTP_SERVER}'`]);
    const answer = await waitFor(() => curl(scenario, ip), { describe: 'an HTTP answer' });
    assert.equal(answer, `hello on ${ip}`);

    const repeated = () =>
      Math.min(
        prober.seen(ip, 'arp-announcement').length,
        prober.seen(ip, 'arp-announcement-reply').length,
      ) >= 5;
    await waitFor(repeated, { describe: 'five announcements in each form' });
    const announced = prober.seen(ip, 'arp-announcement');
    assert.ok(announced.every(({ mac }) => mac === host.nic('eth0').mac));
    const [firstMs, lastMs] = [announced[0]?.atMs ?? 0, announced.at(-1)?.atMs ?? 0];
    assert.ok(Math.abs(firstMs - first.atMs) < 100, `announced ${firstMs - first.atMs} ms after the answer`);
    assert.ok(lastMs - firstMs > 2_500 && lastMs - firstMs < 4_000, `repeated for ${lastMs - firstMs} ms`);
    assert.equal(addressOf(await lbd.status(), ip)?.announcements, announced.length);
    await scenario.event('web', /^Announced: .*10\.77\.0\.200.*eth0/);

    await scenario.api.deleteService('web');
    await onNic(host, ip, false);
    await prober.silence(ip);
  });

  test('is renewed long before its lifetime ends', async () => {
    const { lbd, ip } = await scenario.startWithService({ toml: '[local]\nlifetime = "4s"' });
    const lefts: number[] = [];
    const until = labTimeMs() + 3_000;
    await waitFor(
      async () => {
        lefts.push(Number(addressOf(await lbd.status(), ip)?.lifetimeLeftMs));
        return labTimeMs() > until;
      },
      { describe: 'three renewals' },
    );
    const renewals = lefts.filter((left, index) => left > (lefts[index - 1] ?? left)).length;
    assert.ok(renewals >= 2, `${renewals} renewals in 3 s`);
    assert.ok(Math.min(...lefts) > 2_500, `only ${Math.min(...lefts)} ms were left`);
    assert.ok(Math.max(...lefts) <= 4_000);
  });

  test('of v6 is on the NIC without duplicate detection and not preferred, and announced by NA', async () => {
    const { host, client } = scenario;
    const pool = ['fd77::200-fd77::220'];
    const ip = 'fd77::200';
    await using prober = await Prober.start(client, { addresses: [ip] });
    await scenario.startLbd({ pool });
    assert.equal(
      await scenario.serve({ name: 'web', spec: { ipFamilies: ['IPv6'], ipFamilyPolicy: 'SingleStack' } }),
      ip,
    );
    const first = await prober.firstAnswer(ip);
    assert.equal(first.mac, host.nic('eth0').mac);
    const address = await shown(host, ip);
    assert.equal(address?.prefixlen, 128);
    assert.equal(address?.noprefixroute, true);
    assert.equal(address?.nodad, true);
    assert.equal(address?.tentative, undefined);
    assert.equal(address?.preferred_life_time, 0);
    const valid = address?.valid_life_time ?? 0;
    assert.ok(valid > 20 && valid <= 30, `valid for ${valid} s`);
    assert.deepEqual(await scenario.tagged(), [`${ip}/128 eth0`]);
    const mac = host.nic('eth0').mac;
    const probes = prober.seen(ip, 'ns-probe').filter((one) => one.mac === mac && one.atMs < first.atMs);
    assert.equal(probes.length, 3);
    await scenario.ping(ip);
    await waitFor(() => prober.seen(ip, 'na-unsolicited').length >= 5, { describe: 'five unsolicited NAs' });
    assert.ok(prober.seen(ip, 'na-unsolicited').every((one) => one.mac === mac));
    const source = await host.run(['ip', '-6', 'route', 'get', client.ip6]);
    assert.match(source.stdout, new RegExp(`src ${host.ip6} `));
  });

  test('is probed for on the wire before its first use', async () => {
    await using prober = await Prober.start(scenario.client, { addresses: [VIP] });
    await scenario.startWithService();
    const probes = prober.seen(VIP, 'arp-probe').filter(({ mac }) => mac === scenario.host.nic('eth0').mac);
    const first = await prober.firstAnswer(VIP);
    assert.equal(probes.filter(({ atMs }) => atMs < first.atMs).length, 3);
  });

  test('leaves the host its connected route and source address while the own address goes and comes back', async () => {
    const { host } = scenario;
    await noPromotion(scenario);
    const before = await routing(scenario);
    const { lbd, ip } = await scenario.startWithService();
    assert.deepEqual(await routing(scenario), before);
    await takeOwnAddressAway(scenario);
    assert.ok(await shown(host, ip), 'the VIP stays while the subnet is gone');
    await host.linkUp();
    assert.deepEqual(await routing(scenario), before);
    assert.equal((await held(lbd, ip)).reason, undefined);
    await scenario.ping(ip);
    await scenario.api.deleteService('web');
    await onNic(host, ip, false);
    assert.deepEqual(await routing(scenario), before);
  });

  test('leaves the host its connected route and source address when it was on the NIC first', async () => {
    const { host } = scenario;
    await noPromotion(scenario);
    const before = await routing(scenario);
    const { lbd: first, ip } = await scenario.startWithService();
    await first.stop('SIGTERM');
    await takeOwnAddressAway(scenario);
    await host.linkUp();
    const list = await host.run(['ip', '-4', '-o', 'addr', 'show', 'dev', 'eth0']);
    assert.ok(list.stdout.includes(ip), 'the VIP stays while the subnet is gone');
    assert.ok(list.stdout.indexOf(ip) < list.stdout.indexOf(host.ip), `the VIP is first:\n${list.stdout}`);
    assert.deepEqual(await routing(scenario), before);
    const second = await scenario.startLbd();
    await held(second, ip);
    assert.deepEqual(await routing(scenario), before);
    await scenario.api.deleteService('web');
    await onNic(host, ip, false);
    assert.deepEqual(await routing(scenario), before);
  });

  test('has the prefix of its subnet with prefix = "subnet", of which lbd warns', async () => {
    const { lbd, ip } = await scenario.startWithService({ toml: '[local]\nprefix = "subnet"' });
    assert.equal((await shown(scenario.host, ip))?.prefixlen, 24);
    const { config, problems } = await lbd.status();
    assert.ok(
      config.warnings.some((text) => /"subnet"/.test(text) && /own address/.test(text)),
      JSON.stringify(config.warnings),
    );
    assert.ok(problems.some(({ severity, text }) => severity === 'warning' && /own address/.test(text)));
    assert.match(lbd.output, /lbd\.toml:\d+: warning: local\.prefix: .*own address/);
  });

  test('that another host has is skipped and shown with the MAC of that host', async () => {
    const { host, rival, api } = scenario;
    await rival.ipBatch([`addr add ${VIP}/32 dev eth0`]);
    const { lbd, ip } = await scenario.startWithService();
    assert.equal(ip, '10.77.0.201');
    const mac = rival.nic('eth0').mac;
    const { pools, problems } = await lbd.status();
    assert.deepEqual(pools[0]?.blocked, [{ ip: VIP, reason: `${mac} answers for ${VIP} on eth0` }]);
    assert.ok(problems.some(({ text }) => text.includes(`skips ${VIP}`)));
    const table = await lbd.lbctl(['status']);
    assert.match(table.stdout, new RegExp(`${VIP} of default is skipped: ${mac}`));

    await api.createService({ name: 'wish', annotations: { 'lbd.io/addresses': VIP } });
    const event = await scenario.event('wish', /AllocationFailed/);
    assert.ok(event.includes(VIP) && event.includes(mac), event);
    const refused = (await lbd.status()).services.find(({ name }) => name === 'default/wish');
    assert.equal(refused?.state, 'refused');
    assert.match(refused?.reason ?? '', new RegExp(mac));
    assert.equal(await shown(host, VIP), undefined);
  });

  test('that another host takes while it is held is kept, defended and shown as a conflict', async () => {
    const { host, rival, client } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    await using prober = await Prober.start(client, { addresses: ['10.77.0.250'] });
    const heldMs = labTimeMs();
    // The announcements of the beginning are over, so that those that follow are the defence.
    await waitFor(async () => addressOf(await lbd.status(), ip)?.announcements === 5, {
      describe: 'the last announcement',
    });
    const takenMs = labTimeMs();
    await scenario.rivalTakes(ip);
    const mac = rival.nic('eth0').mac;
    const address = await inState(lbd, ip, 'conflict');
    assert.match(address.reason ?? '', new RegExp(mac));
    const event = await scenario.event('web', /^AddressConflict/);
    assert.ok(event.includes(mac) && event.includes(ip), event);
    const defence = () =>
      prober
        .seen(ip, 'arp-announcement')
        .find((one) => one.atMs > takenMs && one.mac === host.nic('eth0').mac);
    await waitFor(defence, { describe: 'the defence' });
    assert.ok(await shown(host, ip), 'kept');
    assert.ok(address.heldSinceMs !== undefined && address.heldSinceMs >= takenMs - heldMs);
    const { problems } = await lbd.status();
    assert.ok(problems.some(({ severity, text }) => severity === 'error' && text.includes(mac)));
  });

  test('that somebody else put on the NIC is left alone, also at the end, and said so', async () => {
    const { host, api } = scenario;
    // In the Service's status from the time before somebody took it for himself.
    const { lbd: first, ip } = await scenario.startWithService();
    await first.stop('SIGINT');
    await onNic(host, ip, false);
    await host.ipBatch([`addr add ${ip}/32 dev eth0`]);
    const before = await shown(host, ip);
    assert.equal(before?.valid_life_time, FOREVER);

    const lbd = await scenario.startLbd();
    const address = await inState(lbd, ip, 'foreign');
    assert.match(address.reason ?? '', /already on eth0 and was not put there by lbd/);
    await scenario.event('web', /^NotAnnounced: .*was not put there by lbd/);
    const other = await scenario.serve({ name: 'other' });
    assert.equal(other, '10.77.0.201');
    await held(lbd, other);
    await api.createService({ name: 'wish', annotations: { 'lbd.io/addresses': ip } });
    await scenario.event('wish', /^AllocationFailed/);
    assert.deepEqual(await shown(host, ip), before);
    await lbd.stop('SIGINT');
    await onNic(host, other, false);
    assert.deepEqual(await shown(host, ip), before);
    const { code, stdout } = await scenario.command('lbd', ['cleanup']);
    assert.equal(code, 0);
    assert.doesNotMatch(stdout, /removed/);
    assert.deepEqual(await shown(host, ip), before);
  });

  test('of a subnet of a NIC that is not selected goes nowhere, and status and an Event say why', async () => {
    const { host } = scenario;
    const ip = '192.0.2.1';
    await host.ipBatch([
      'link add other type bridge',
      'link set other up',
      'addr add 192.0.2.254/24 dev other',
    ]);
    try {
      const lbd = await scenario.startLbd({ pool: ['192.0.2.0/24'] });
      await scenario.api.createService({ name: 'web', annotations: { 'lbd.io/addresses': ip } });
      const address = await inState(lbd, ip, 'no-interface');
      assert.match(
        address.reason ?? '',
        /other has the subnet 192\.0\.2\.0\/24 of 192\.0\.2\.1, but only eth0/,
      );
      await scenario.event('web', /^NotAnnounced: 192\.0\.2\.1 .*other has the subnet/);
      assert.doesNotMatch((await host.run(['ip', 'addr'])).stdout, /192\.0\.2\.1\//);
      assert.deepEqual(await scenario.tagged(), []);
      const { problems } = await lbd.status();
      assert.ok(problems.some(({ text }) => text.includes(ip) && /only eth0 is selected/.test(text)));
    } finally {
      await host.run(['ip', 'link', 'delete', 'other']);
    }
  });

  test("is never the host's own, the gateway's, or the subnet's first or last address", async () => {
    const { host, api } = scenario;
    const pool = ['10.77.0.0/30', `${host.ip}-${host.ip}`, '10.77.0.255/32'];
    const lbd = await scenario.startLbd({ pool });
    assert.equal(await scenario.serve({ name: 'web' }), '10.77.0.2', 'after the network and the gateway');
    await held(lbd, '10.77.0.2');
    const wishes = {
      own: [host.ip, /already on eth0 and was not put there by lbd/],
      gateway: ['10.77.0.1', /gateway/],
      network: ['10.77.0.0', /network address/],
      broadcast: ['10.77.0.255', /broadcast address/],
    } as const;
    for (const [name, [ip, reason]] of Object.entries(wishes)) {
      await api.createService({ name, annotations: { 'lbd.io/addresses': ip } });
      const event = await scenario.event(name, /^AllocationFailed/);
      assert.match(event, reason);
      assert.ok(event.includes(ip), event);
      const service = (await lbd.status()).services.find((one) => one.name === `default/${name}`);
      assert.equal(service?.state, 'refused');
      assert.match(service?.reason ?? '', reason);
    }
    assert.deepEqual(await scenario.tagged(), ['10.77.0.2/32 eth0']);
    assert.equal(await scenario.serve({ name: 'second' }), '10.77.0.3');
    await api.createService({ name: 'third' });
    await scenario.event('third', /^AllocationFailed: .*default/);
  });
});

async function noPromotion({ host }: Scenario): Promise<void> {
  for (const name of ['all', 'eth0']) {
    await host.run(['sh', '-c', `echo 0 >/proc/sys/net/ipv4/conf/${name}/promote_secondaries`]);
  }
}

async function takeOwnAddressAway({ host }: Scenario): Promise<void> {
  const own = await shown(host, host.ip);
  await host.ipBatch([`addr del ${host.ip}/${own?.prefixlen} dev eth0`]);
}

/** The host's own address, its routes, and the source address that a server sees. */
async function routing({ host, client }: Scenario): Promise<unknown> {
  const own = await shown(host, host.ip);
  const routes = await host.run(['ip', '-4', 'route', 'show', 'table', 'main']);
  const get = await host.run(['ip', 'route', 'get', client.ip]);
  const server = await client.spawn([process.execPath, '-e', SOURCE_SERVER]);
  const port = await server.waitForLine(/^\d+$/);
  const seen = await host.run(['curl', '-s', '-m', '2', `http://${client.ip}:${port}/`]);
  await server.stop('SIGKILL');
  return { own, routes: routes.stdout.split('\n').sort(), get: get.stdout, seen: seen.stdout };
}

const SOURCE_SERVER =
  'const s=require("node:http").createServer((q,r)=>r.end(q.socket.remoteAddress));' +
  's.listen(0,"0.0.0.0",()=>console.log(s.address().port))';

const HTTP_SERVER =
  'require("node:http").createServer((q,s)=>s.end("hello on "+q.socket.localAddress)).listen(80,"0.0.0.0")';

async function curl(scenario: Scenario, ip: string): Promise<string | undefined> {
  const { code, stdout } = await scenario.client.run(['curl', '-s', '-m', '2', `http://${ip}/`], {
    mayFail: true,
  });
  return code === 0 ? stdout : undefined;
}
