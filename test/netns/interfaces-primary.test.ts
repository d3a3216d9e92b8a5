import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import { PingLoop } from '../support/ping-loop.ts';
import { held, onNic, Scenario, SKIP, shown } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

const MULTICAST = '224.0.0.251';
/** From the own address's return until clients get answers again, on a machine that others use too. */
const BACK_MS = 500;

/** The host's own address goes and comes back, as with a DHCP client, beside addresses of Services. */
describe("the host's own address", { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(async () => {
    await scenario.reset();
    await promote(0);
  });
  after(() => scenario?.close());

  async function promote(value: number): Promise<void> {
    for (const name of ['all', 'eth0'])
      await scenario.sysctl(`net/ipv4/conf/${name}/promote_secondaries`, value);
  }

  /** The host's own address, its routes, and the sources that the kernel takes. */
  async function routing(): Promise<Record<string, string | undefined>> {
    const { host, client } = scenario;
    const route = async (argv: readonly string[]) =>
      (await host.run(['ip', '-4', 'route', ...argv], { mayFail: true })).stdout.replace(/ uid 0|\s+/g, ' ');
    return {
      own: JSON.stringify(await shown(host, host.ip)),
      routes: await route(['show']),
      neighbour: await route(['get', client.ip]),
      outside: await route(['get', '198.51.100.1']),
      multicast: await route(['get', MULTICAST, 'oif', 'eth0']),
    };
  }

  async function isAsBefore(before: unknown): Promise<void> {
    await waitFor(async () => JSON.stringify(await routing()) === JSON.stringify(before), {
      describe: "the host's own address, routes and sources to be as before",
    }).catch(async (error) => {
      assert.deepEqual(await routing(), before);
      throw error;
    });
  }

  for (const prefix of ['host', 'subnet'] as const) {
    for (const promotes of [0, 1]) {
      test(`goes and comes back: prefix = "${prefix}", promote_secondaries=${promotes}`, async (context) => {
        const { host, client } = scenario;
        await promote(promotes);
        const before = await routing();
        const { lbd, ip } = await scenario.startWithService({ toml: `[local]\nprefix = "${prefix}"` });
        assert.deepEqual(await routing(), before);
        const placed = {
          prefixlen: prefix === 'host' ? 32 : 24,
          secondary: prefix === 'host' ? undefined : true,
        };
        const ofVip = async () => {
          const { prefixlen, secondary } = (await shown(host, ip)) ?? {};
          return { prefixlen, secondary };
        };
        assert.deepEqual(await ofVip(), placed);

        const pings = await PingLoop.start(client, ip);
        await host.ipBatch([`addr del ${host.ip}/24 dev eth0`]);
        const lostMs = labTimeMs();
        // With the prefix of the subnet it would become the primary one.
        if (prefix === 'subnet') await onNic(host, ip, false);
        else assert.deepEqual(await ofVip(), placed);
        const away = await routing();
        assert.ok(!away['multicast']?.includes(ip), `the source of a multicast: ${away['multicast']}`);
        assert.equal((await held(lbd, ip)).state, 'held');
        await host.linkUp();
        const awayMs = labTimeMs() - lostMs;
        await isAsBefore(before);
        await waitFor(async () => (await ofVip()).prefixlen === placed.prefixlen, { describe: `${ip} back` });
        assert.deepEqual(await ofVip(), placed);

        // A client that replaces it leaves no time to look.
        for (let round = 0; round < 2; round++) {
          await host.ipBatch([`addr del ${host.ip}/24 dev eth0`, `addr add ${host.ip}/24 brd + dev eth0`]);
          await waitFor(async () => /\/24 dev eth0/.test((await routing())['routes'] ?? ''), {
            describe: "the route of the host's subnet",
          });
          await host.linkUp();
          await isAsBefore(before);
        }
        await waitFor(async () => (await ofVip()).prefixlen === placed.prefixlen, { describe: `${ip} back` });
        assert.deepEqual(await ofVip(), placed);
        await scenario.ping(ip);
        const { longestLossMs } = await pings.stop();
        context.diagnostic(
          `own address away for ${awayMs.toFixed()} ms, no answer for ${longestLossMs.toFixed()} ms`,
        );
        assert.ok(
          longestLossMs < awayMs + BACK_MS,
          `no answer for ${longestLossMs} ms, away for ${awayMs} ms`,
        );
        assert.equal((await held(lbd, ip)).reason, undefined);

        await scenario.api.deleteService('web');
        await onNic(host, ip, false);
        assert.deepEqual(await routing(), before);
      });
    }
  }

  test('that came second is the primary one again, also where the kernel promotes none', async () => {
    const { host } = scenario;
    const before = await routing();
    const { lbd, ip } = await scenario.startWithService({ toml: '[local]\nprefix = "subnet"' });
    lbd.kill('SIGSTOP');
    await promote(1);
    await host.ipBatch([`addr del ${host.ip}/24 dev eth0`]);
    await promote(0);
    await host.ipBatch([`addr add ${host.ip}/24 brd + dev eth0`]);
    assert.equal((await shown(host, host.ip))?.secondary, true);
    lbd.kill('SIGCONT');
    await waitFor(async () => (await shown(host, host.ip))?.secondary === undefined, {
      describe: 'the own address to be the primary one',
    });
    assert.ok(await shown(host, host.ip), 'the own address is there');
    await host.linkUp();
    await isAsBefore(before);
    await held(lbd, ip);
    await onNic(host, ip);
    assert.equal((await shown(host, ip))?.secondary, true);
    const { stdout } = await host.run(['cat', '/proc/sys/net/ipv4/conf/eth0/promote_secondaries']);
    assert.equal(stdout.trim(), '0', 'as the operator has it');
  });

  test('with another prefix length takes the addresses of Services along', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService({ toml: '[local]\nprefix = "subnet"' });
    await host.ipBatch([`addr add ${host.ip}/23 brd + dev eth0`, `addr del ${host.ip}/24 dev eth0`]);
    await waitFor(async () => (await shown(host, ip))?.prefixlen === 23, { describe: `${ip}/23` });
    await held(lbd, ip);
    assert.deepEqual(await scenario.tagged(), [`${ip}/23 eth0`]);
    await scenario.ping(ip);
  });
});
