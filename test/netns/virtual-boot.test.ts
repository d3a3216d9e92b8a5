import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Cluster, macOf } from '../support/cluster.ts';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { Prober } from '../support/prober.ts';
import { held, inState, SKIP } from '../support/scenario.ts';
import { expectOnLink, LINK, onLink, textsOnLink, VirtualLab } from '../support/virtual-lab.ts';
import { sleep, waitFor } from '../support/wait.ts';

/** lbd that starts before the network of its host is there, as after a boot: what is another host's is not taken. */

/** Longer than the cold start of the election (2 s) and the look at the members after it (1 s). */
const COLD_START_MS = 4_000;

async function isCached(host: LabHost, service: string): Promise<void> {
  await waitFor(async () => (await host.readFile('/var/lib/lbd/services.json')).includes(`"${service}"`), {
    describe: `${service} in the state directory`,
  });
}

async function setSysctl(host: LabHost, key: string, value: number): Promise<void> {
  await host.run(['sh', '-c', 'echo "$2" >"/proc/sys/net/ipv4/conf/$1"', 'sh', key, String(value)]);
}

async function sysctl(host: LabHost, key: string): Promise<number> {
  // Of the network namespace of whoever reads.
  return Number((await host.run(['cat', `/proc/sys/net/ipv4/conf/${key}`])).stdout.trim());
}

describe('two hosts that gossip', { skip: SKIP }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start({ hosts: 2, pool: ['10.77.0.200/29', 'fd77::200-fd77::207'] });
    await cluster.startAll();
  });
  after(() => cluster?.close());

  test('one that starts without its addresses takes none of the other for virtual, and answers for none', async (context) => {
    const spec = { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' };
    await cluster.lab.api.createService({ name: 'web', spec });
    const { addresses } = await cluster.lab.api.waitForAddresses('web', { count: 2 });
    await cluster.settled();
    const [ip = '', ip6 = ''] = addresses;
    const [owner, other] = cluster.hosts;
    assert.ok(owner !== undefined && other !== undefined);
    await cluster.lbd(other).lbctl(['drain']);
    for (const address of addresses) await held(cluster.lbd(owner), address);
    await cluster.lbd(other).lbctl(['undrain']);
    await isCached(other, 'web');
    await waitFor(async () => (await other.readFile('/var/lib/lbd/subnets.json')).includes('10.77.0.0/24'), {
      describe: 'the subnets in the state directory',
    });
    await cluster.lbd(other).stop('SIGTERM');
    for (const family of ['-4', '-6']) await other.run(['ip', family, 'addr', 'flush', 'dev', 'eth0']);
    await setSysctl(other, 'eth0/arp_ignore', 0);
    await setSysctl(other, 'all/rp_filter', 0);
    await setSysctl(other, 'eth0/rp_filter', 0);

    await using prober = await Prober.start(cluster.client, { addresses: [ip, ip6], intervalMs: 10 });
    for (const address of addresses) await prober.firstAnswer(address);
    const fromMs = labTimeMs();
    await cluster.startLbd(other);
    await sleep(COLD_START_MS);
    assert.deepEqual(await textsOnLink(other), []);
    assert.equal(await sysctl(other, 'eth0/arp_ignore'), 1, 'of the NIC that carried addresses before');
    // Even if it were there: nobody but the owner answers.
    await other.ipBatch([
      `link add probe0 type bridge`,
      'link set probe0 up',
      `addr add ${ip}/32 dev probe0`,
    ]);
    await sleep(300);
    await other.ipBatch(['link del probe0']);
    const upMs = labTimeMs();
    for (const address of addresses) {
      const answers = prober.answers(address).filter(({ atMs }) => atMs > fromMs && atMs < upMs);
      const owners = new Set(answers.map(({ mac }) => mac));
      context.diagnostic(`${address}: ${answers.length} answers of ${owners.size} host`);
      assert.deepEqual([...owners], [macOf(owner)]);
    }
    await other.linkUp();
    await cluster.joined();
    await cluster.lbd(other).waitForStatus(({ kubernetes }) => kubernetes.reachable, {
      describe: 'the API server, as the other host sees it',
    });
    assert.equal(await onLink(other), undefined, `${LINK} was never made`);
  });
});

describe('a host alone', { skip: SKIP }, () => {
  let lab: VirtualLab;
  let host: LabHost;
  const POOL = '[[pool]]\nname = "default"\naddresses = ["203.0.113.0/24"]\naggregate = { v4 = 24 }\n';

  before(async () => {
    lab = await VirtualLab.start({ hosts: { h1: {} } });
    host = lab.host('h1');
  });
  afterEach(async () => {
    await lab.lab.apiServer.fault('acceptConnections');
    await lab.reset();
  });
  after(() => lab?.close());

  test('serves the virtual addresses that it remembers while the API server is away, and takes off what is local by now', async () => {
    const first = await lab.startLbd(host, POOL);
    await lab.serve('web', ['203.0.113.1']);
    await expectOnLink(host, ['203.0.113.1/24']);
    await isCached(host, 'web');
    await first.stop('SIGTERM');
    await lab.lab.apiServer.fault('refuseConnections');
    await host.run(['ip', 'link', 'delete', LINK]);
    const second = await lab.startLbd(host, POOL);
    await expectOnLink(host, ['203.0.113.1/24']);
    await second.stop('SIGTERM');

    await host.ipBatch(['addr add 203.0.113.250/24 dev eth0']);
    const third = await lab.startLbd(host, POOL);
    const { kind, interface: nic } = await held(third, '203.0.113.1');
    assert.deepEqual([kind, nic], ['local', 'eth0']);
    await expectOnLink(host, []);
    assert.equal((await third.status()).kubernetes.reachable, false);
    await third.stop('SIGTERM');

    // Its NIC is without that address when lbd starts again.
    await host.ipBatch(['addr del 203.0.113.250/24 dev eth0']);
    const fourth = await lab.startLbd(host, POOL);
    await fourth.waitForStatus(
      ({ addresses }) => addresses.some(({ kind, state }) => kind === 'local' && state === 'no-interface'),
      { describe: 'a local address without its NIC' },
    );
    assert.deepEqual(await textsOnLink(host), []);
  });

  test('takes an address in the subnet of a link that can carry none for no virtual one, and no aggregate of a tunnel’s subnet', async () => {
    const member = [
      'link add br9 type bridge',
      'link add v9 type veth peer name w9',
      'link set v9 master br9',
    ];
    const tunnel = ['link add v8 type veth peer name w8', 'link set v8 arp off up', 'link set w8 up'];
    await host.ipBatch([...member, 'link set v9 up', 'addr add 203.0.113.250/24 dev v9', ...tunnel]);
    await host.ipBatch(['addr add 198.51.100.1/24 dev v8']);
    const pool = '[[pool]]\nname = "default"\naddresses = ["203.0.113.0/24", "198.51.100.128/25"]\n';
    try {
      const lbd = await lab.startLbd(host, `${pool}aggregate = { v4 = 25 }\n`);
      await lab.serve('far', ['198.51.100.130']);
      await lab.serve('web', ['203.0.113.1']);
      await expectOnLink(host, ['198.51.100.130/32']);
      const far = await held(lbd, '198.51.100.130');
      assert.match(far.reason ?? '', /aggregate 198\.51\.100\.128\/25 .* overlaps 198\.51\.100\.0\/24 of v8/);
      const { reason } = await inState(lbd, '203.0.113.1', 'no-interface');
      assert.match(
        reason ?? '',
        /v9 has the subnet 203\.0\.113\.0\/24 of 203\.0\.113\.1, but it is a member of br9/,
      );
      assert.deepEqual(await textsOnLink(host), ['198.51.100.130/32']);
    } finally {
      await host.ipBatch(['link del v9', 'link del br9', 'link del v8']);
    }
  });
});
