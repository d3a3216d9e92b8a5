import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { PingLoop } from '../support/ping-loop.ts';
import { held, inState, Scenario, SKIP } from '../support/scenario.ts';

/** Links of other kinds than a plain NIC; VLAN, bond and VRF, which not every kernel has, are in test/vm/interfaces.test.ts. */
describe('a link', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  test('that is a bridge takes over the addresses of Services with those of its member, which then gets none', async () => {
    const { host, client } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    const mac = host.nic('eth0').mac;
    try {
      await host.ipBatch([
        `link add br0 address ${mac} type bridge`,
        'link set br0 up',
        'link set eth0 master br0',
        `addr del ${host.ip}/24 dev eth0`,
        `addr add ${host.ip}/24 brd + dev br0`,
        'route replace default via 10.77.0.1 dev br0',
      ]);
      await lbd.waitForStatus(
        ({ addresses }) =>
          addresses.some((one) => one.ip === ip && one.state === 'held' && one.interface === 'br0'),
        { describe: `${ip} on br0` },
      );
      assert.deepEqual(await scenario.tagged(), [`${ip}/32 br0`]);
      await client.run(['ip', 'neigh', 'flush', 'all']);
      await scenario.ping(ip);
      // An address on a member is for nobody to use.
      await host.ipBatch([`addr del ${host.ip}/24 dev br0`, `addr add ${host.ip}/24 brd + dev eth0`]);
      const { reason } = await inState(lbd, ip, 'no-interface', 10_000);
      assert.match(
        reason ?? '',
        /eth0 has the subnet 10\.77\.0\.0\/24 of 10\.77\.0\.200, but it is a member of br0/,
      );
    } finally {
      await host.ipBatch(['link delete br0']);
      await host.linkUp();
    }
    await held(lbd, ip);
    assert.deepEqual(await scenario.tagged(), [`${ip}/32 eth0`]);
  });

  test('that is not used is left alone, unless it is on the segment of one that is', async () => {
    const { host } = scenario;
    const sysctl = async (nic: string) => {
      const at = `/proc/sys/net/ipv4/conf/${nic}`;
      const { stdout } = await host.run(['cat', `${at}/arp_ignore`, `${at}/arp_announce`]);
      return stdout.trim().replace('\n', ' ');
    };
    await host.ipBatch([
      // Without a default route of IPv6, every NIC counts for that family.
      'route del default via fd77::1',
      'link add docker7 type bridge',
      'link set docker7 up',
      'addr add 172.17.7.1/24 dev docker7',
      'link add mv7 link eth0 type macvlan mode bridge',
      'link set mv7 up',
      `addr add 10.77.0.99/24 dev mv7 noprefixroute`,
    ]);
    try {
      const { lbd } = await scenario.startWithService();
      const { sysctls } = await lbd.status();
      assert.deepEqual([...new Set(sysctls.map(({ interface: nic }) => nic))].sort(), ['eth0', 'mv7']);
      assert.deepEqual(
        [await sysctl('eth0'), await sysctl('mv7'), await sysctl('docker7')],
        ['1 2', '1 2', '0 0'],
      );
      const { stdout } = await host.run(['sh', '-c', 'cut -c 18- /proc/net/packet; ip -o link']);
      const [, index] = /^(\d+): docker7/m.exec(stdout) ?? [];
      const [, used] = /^(\d+): eth0/m.exec(stdout) ?? [];
      const listens = (nic: string | undefined) =>
        new RegExp(`^ *\\d+ +\\d+ +[0-9a-f]+ +${nic} `, 'm').test(stdout);
      assert.ok(listens(used), stdout);
      assert.ok(!listens(index), stdout);
    } finally {
      await host.ipBatch(['link del docker7', 'link del mv7']);
      await host.linkUp();
    }
  });

  test('whose ARP is switched off carries no address of a Service, until it is on again', async () => {
    const { host } = scenario;
    const { lbd, ip } = await scenario.startWithService();
    try {
      await host.ipBatch(['link set eth0 arp off']);
      const { reason } = await inState(lbd, ip, 'no-interface', 10_000);
      assert.match(reason ?? '', /eth0 has the subnet 10\.77\.0\.0\/24 of 10\.77\.0\.200, but it has no ARP/);
      assert.deepEqual(await scenario.tagged(), []);
    } finally {
      await host.ipBatch(['link set eth0 arp on']);
    }
    await held(lbd, ip);
    await scenario.ping(ip);
  });

  test('that is a macvlan has addresses of Services, which stay when it gets another name', async () => {
    const { host, client } = scenario;
    const ip = '10.99.0.200';
    try {
      await host.ipBatch([
        'link add mv0 link eth0 type macvlan mode bridge',
        'link set mv0 up',
        'addr add 10.99.0.11/24 brd + dev mv0',
      ]);
      await client.ipBatch(['addr add 10.99.0.12/24 dev eth0']);
      const options = { pool: [`${ip}-10.99.0.210`], toml: '[local]\ninterfaces = ["mv0"]' };
      const { lbd } = await scenario.startWithService(options);
      assert.deepEqual(await scenario.tagged(), [`${ip}/32 mv0`]);
      const pings = await PingLoop.start(client, ip);
      await host.run(['ip', 'link', 'set', 'mv0', 'name', 'mv1']);
      await lbd.waitForStatus(
        ({ addresses }) => addresses.some(({ state, interface: name }) => state === 'held' && name === 'mv1'),
        { describe: `${ip} on mv1` },
      );
      assert.deepEqual((await pings.stop()).losses, []);
      const other = await scenario.serve({ name: 'other' });
      assert.equal((await held(lbd, other)).interface, 'mv1');
      // Read anew, the configuration means another NIC.
      await lbd.reload();
      await inState(lbd, ip, 'no-interface', 10_000);
    } finally {
      await host.run(['sh', '-c', 'ip link delete mv1 || ip link delete mv0'], { mayFail: true });
      await client.ipBatch(['addr del 10.99.0.12/24 dev eth0']);
    }
  });
});
