import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { inspect } from 'node:util';
import type { StatusDocument } from '../../src/daemon/types.ts';
import { aliveMembers, Cluster } from '../support/cluster.ts';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { SKIP } from '../support/scenario.ts';
import { sleep, waitFor } from '../support/wait.ts';

const KEYS = '/etc/lbd/gossip.keys';

const BIND = '10.77.0.0/24';

/** Hosts that find each other by the Nodes of the cluster, listen in one subnet, and trust only who has a key of theirs. */
describe('hosts with keys', { skip: SKIP }, () => {
  let cluster: Cluster;
  let members: readonly LabHost[];
  let outsider: LabHost;

  before(async () => {
    cluster = await Cluster.start({
      hosts: 4,
      gossip: () => `discover = "kubernetes"\nbind = ["${BIND}"]\nkey_file = "${KEYS}"`,
    });
    members = cluster.hosts.slice(0, 3);
    outsider = cluster.hosts[3] as LabHost;
    await cluster.createNodes();
    // Written by lbd itself, before any host has one to run.
    await cluster.writeKeys(outsider, KEYS);
    const text = await cluster.writeKeys(members[0] as LabHost, KEYS);
    for (const host of members) await host.writeFile(KEYS, text);
    await Promise.all(members.map((host) => cluster.startLbd(host)));
    await cluster.joined(members);
  });
  after(() => cluster?.close());

  function lbctl(...args: readonly string[]) {
    return cluster.lbd(members[0] as LabHost).lbctl(args);
  }

  /** The file of the first host goes to all, which read it again one after the other. */
  async function copyKeys(): Promise<void> {
    const text = await (members[0] as LabHost).readFile(KEYS);
    for (const host of members) {
      await host.writeFile(KEYS, text);
      const loaded = async () => (await cluster.lbd(host).status()).config.loadedMsAgo;
      const before = await loaded();
      await sleep(20);
      await cluster.lbd(host).reload();
      await waitFor(async () => (await loaded()) < before, { describe: `a reload of ${host.name}` });
    }
  }

  test('find each other by the InternalIPs of the Nodes and seal what they say', async () => {
    const { owner } = await cluster.serve({ name: 'web' });
    assert.ok(members.includes(owner));
    for (const host of members) {
      const { election } = await cluster.lbd(host).status();
      assert.equal(election?.encrypted, true);
    }
  });

  test('listen over UDP and TCP where gossip.bind says, and have no part in other subnets', async () => {
    for (const host of members) {
      const { stdout } = await host.run(['ss', '-Hlntu', 'sport = :7946']);
      const sockets = stdout.trim().split('\n');
      const found = sockets
        .map((line) => line.split(/\s+/))
        .map(([protocol, , , , at]) => `${protocol} ${at}`);
      // Routine heartbeats come to a second socket of the same address.
      assert.deepEqual([...new Set(found)].sort(), [`tcp ${host.ip}:7946`, `udp ${host.ip}:7946`]);
      const { election, problems } = await cluster.lbd(host).status();
      assert.deepEqual(
        election?.segments.map(({ subnet }) => subnet),
        [BIND],
      );
      const absent = election?.absent ?? [];
      assert.ok(absent.length > 0, 'it has subnets that bind does not name');
      assert.ok(
        absent.every(({ subnet, why }) => subnet !== BIND && why === 'bind'),
        inspect(absent),
      );
      for (const { subnet } of absent)
        assert.ok(problems.some(({ text }) => text.startsWith(`this host takes no address in ${subnet}: `)));
    }
  });

  test('change their key in three steps, and no address moves', async (context) => {
    const { ip, owner } = await cluster.serve({ name: 'rotation' });
    const clients = await cluster.watch(ip);
    const fromMs = labTimeMs();
    const [before] = JSON.parse((await lbctl('keys', 'list', KEYS, '--json')).stdout) as { id: string }[];
    await lbctl('keys', 'add', KEYS);
    await copyKeys();
    const [, added] = JSON.parse((await lbctl('keys', 'list', KEYS, '--json')).stdout) as { id: string }[];
    await lbctl('keys', 'use', added?.id ?? '', KEYS);
    await copyKeys();
    await lbctl('keys', 'remove', before?.id ?? '', KEYS);
    await copyKeys();
    await sleep(1_000);
    const { gap, excuseMs, losses, doubleMs } = await clients.stop(fromMs);
    context.diagnostic(`gap ${Math.round(gap.ms)} ms`);
    assert.ok(gap.ms <= 50 + excuseMs, `${gap.ms} ms without an answer, ${excuseMs} ms of them excused`);
    assert.equal(doubleMs, 0);
    assert.deepEqual(losses, []);
    assert.deepEqual(await cluster.holders(ip), [owner]);
    for (const host of members) {
      const { election } = await cluster.lbd(host).status();
      assert.equal(election?.owners.find((one) => one.ip === ip)?.epoch, 1);
      assert.deepEqual(election?.traffic.refused, {});
    }
  });

  test('a host with another key stays out, takes nothing, and is told', async () => {
    const { ip, owner } = await cluster.serve({ name: 'wrong' });
    const clients = await cluster.watch(ip);
    const fromMs = labTimeMs();
    const lbd = await cluster.startLbd(outsider);
    const isTold = ({ problems }: StatusDocument, host: LabHost) =>
      problems.some(({ text }) => text.includes(`${host.ip} is not believed: it has another key`));
    await lbd.waitForStatus((status) => members.some((host) => isTold(status, host)), {
      describe: `${outsider.name} to be told`,
    });
    await lbd.waitForLog('gossip.packet.refused', { why: 'key' });
    const hosts = await Promise.all(members.map((host) => cluster.lbd(host).status()));
    assert.ok(hosts.some((status) => isTold(status, outsider)));
    await sleep(3_000);
    assert.deepEqual(aliveMembers(await lbd.status()), [outsider.name]);
    for (const host of members) {
      assert.deepEqual(
        aliveMembers(await cluster.lbd(host).status()),
        members.map(({ name }) => name),
      );
    }
    const { doubleMs } = await clients.stop(fromMs);
    assert.equal(doubleMs, 0);
    assert.deepEqual(await cluster.holders(ip), [owner]);
    // With the right one it is welcome.
    await outsider.writeFile(KEYS, await (members[0] as LabHost).readFile(KEYS));
    await lbd.reload();
    await cluster.joined();
    assert.deepEqual(await cluster.holders(ip), [owner]);
  });
});
