import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { doubleWithin, gapWithin, type SeenByClients } from '../support/clients.ts';
import { Cluster, macOf } from '../support/cluster.ts';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { onNic, SKIP, shown } from '../support/scenario.ts';
import { sleep, waitFor } from '../support/wait.ts';

const LIFETIME_MS = 4_000;

/**
 * Three hosts that gossip, on real kernels: who has an address when something happens to its owner. The bounds are those
 * of docs/election.md; `make bench ONLY=ownership` has more rounds of the same.
 */
describe('of three hosts', { skip: SKIP }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start({ hosts: 3, toml: `[local]\nlifetime = "${LIFETIME_MS / 1_000}s"` });
    await cluster.startAll();
  });
  after(() => cluster?.close());

  /** Watches an address while something is done to its owner; resolves with what its clients saw of that. */
  async function during(
    context: TestContext,
    service: string,
    act: (ip: string, owner: LabHost, clients: Awaited<ReturnType<Cluster['watch']>>) => Promise<void>,
  ): Promise<SeenByClients & { readonly ip: string; readonly owner: LabHost }> {
    const { ip, owner } = await cluster.serve({ name: service });
    const clients = await cluster.watch(ip);
    const fromMs = labTimeMs();
    await act(ip, owner, clients);
    const seen = await clients.stop(fromMs);
    context.diagnostic(
      `gap ${Math.round(seen.gap.ms)} ms (busy machine: ${Math.round(seen.excuseMs)} ms), ` +
        `warm client ${Math.round(seen.warmMs)} ms, two at once ${Math.round(seen.doubleMs)} ms`,
    );
    return { ...seen, ip, owner };
  }

  async function back(host: LabHost): Promise<void> {
    await cluster.startLbd(host);
    await cluster.joined();
  }

  test('one has the address of a Service, and all of them know which', async () => {
    const { ip, owner } = await cluster.serve({ name: 'web' });
    assert.deepEqual(await cluster.holders(ip), [owner]);
    for (const host of cluster.hosts) {
      const status = await cluster
        .lbd(host)
        .waitForStatus((document) => document.election?.owners.some((one) => one.ip === ip && one.owner), {
          describe: `an owner of ${ip} as ${host.name} sees it`,
        });
      const known = status.election?.owners.find((one) => one.ip === ip);
      assert.equal(known?.owner, owner.name);
      assert.equal(known?.state, host === owner ? 'mine' : 'theirs');
      assert.equal(known?.epoch, 1);
      assert.notEqual(known?.heir, owner.name);
    }
  });

  test('the owner is cut off: another takes over, the first lets go, and comes back as a stranger', async (context) => {
    let lostAtReturn = -1;
    let reconnectedMs = 0;
    const seen = await during(context, 'cut', async (ip, owner, clients) => {
      await cluster.lab.segment().disconnect(owner);
      const cutMs = labTimeMs();
      const taken = await clients.firstOther(macOf(owner), cutMs);
      await onNic(owner, ip, false, 2_000);
      await sleep(300);
      reconnectedMs = labTimeMs();
      await cluster.lab.segment().connect(owner);
      await cluster.joined();
      await sleep(500);
      assert.deepEqual(await cluster.holders(ip), [cluster.hostOf(taken.mac)]);
    });
    lostAtReturn = seen.losses.filter(({ toMs }) => toMs > reconnectedMs).length;
    gapWithin(seen, 400);
    assert.ok(seen.warmMs <= 400 + seen.excuseMs, `${seen.warmMs} ms of a warm client`);
    doubleWithin(seen, 50);
    assert.equal(lostAtReturn, 0);
  });

  test('the cable of the owner is pulled: another takes over, and the first lets go at once', async (context) => {
    const seen = await during(context, 'cable', async (ip, owner, clients) => {
      await cluster.lab.segment().carrierDown(owner);
      const downMs = labTimeMs();
      await onNic(owner, ip, false, 1_000);
      await clients.firstOther(macOf(owner), downMs);
      await cluster.lab.segment().carrierUp(owner);
      await cluster.joined();
    });
    gapWithin(seen, 400);
    assert.equal(seen.doubleMs, 0);
  });

  test("the owner's lbd is killed and stays away: its kernel answers on until another takes over", async (context) => {
    let taker: LabHost | undefined;
    const seen = await during(context, 'kill', async (ip, owner, clients) => {
      const killedMs = labTimeMs();
      await cluster.lbd(owner).stop('SIGKILL');
      const taken = await clients.firstOther(macOf(owner), killedMs);
      const servedMs = (clients.lastOf(macOf(owner)) ?? 0) - killedMs;
      assert.ok(servedMs <= LIFETIME_MS + 1_100, `answered on for ${servedMs} ms`);
      taker = cluster.hostOf(taken.mac);
      await sleep(200);
      assert.deepEqual(await cluster.holders(ip), [taker]);
    });
    await back(seen.owner);
    gapWithin(seen, 50);
    assert.equal(seen.doubleMs, 0);
    assert.deepEqual(await cluster.holders(seen.ip), [taker]);
  });

  test("the owner's lbd is killed or stopped, and started again within the lifetime: nothing moves", async (context) => {
    for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
      const seen = await during(context, `restart-${signal.toLowerCase()}`, async (_ip, owner) => {
        const endedMs = labTimeMs();
        await cluster.lbd(owner).stop(signal);
        await back(owner);
        await sleep(endedMs + LIFETIME_MS + 1_200 - labTimeMs());
      });
      gapWithin(seen, 50);
      assert.equal(seen.warmMs, 0);
      assert.deepEqual(await cluster.holders(seen.ip), [seen.owner]);
      const { election } = await cluster.lbd(seen.owner).status();
      assert.equal(election?.owners.find(({ ip }) => ip === seen.ip)?.epoch, 1);
    }
  });

  test("the owner's lbd hangs: its kernel removes the address, another takes over, and lbd wakes to that", async (context) => {
    let wokenMs = 0;
    let releasedMs = 0;
    const seen = await during(context, 'hang', async (ip, owner, clients) => {
      const lbd = cluster.lbd(owner);
      const stoppedMs = labTimeMs();
      lbd.kill('SIGSTOP');
      const taken = await clients.firstOther(macOf(owner), stoppedMs);
      const servedMs = (clients.lastOf(macOf(owner)) ?? 0) - stoppedMs;
      assert.ok(servedMs <= LIFETIME_MS + 1_100, `answered on for ${servedMs} ms`);
      wokenMs = labTimeMs();
      lbd.kill('SIGCONT');
      await lbd.waitForStatus(
        ({ election }) => election?.owners.find((one) => one.ip === ip)?.state === 'theirs',
        { describe: `${ip} to be another host's` },
      );
      await sleep(300);
      releasedMs = (clients.lastOf(macOf(owner)) ?? 0) - wokenMs;
      assert.deepEqual(await cluster.holders(ip), [cluster.hostOf(taken.mac)]);
    });
    gapWithin(seen, 50);
    assert.equal(seen.doubleMs, 0);
    assert.ok(releasedMs <= 200, `answered for ${releasedMs} ms after waking`);
    await cluster.joined();
  });

  test('the hosts are upgraded one after the other: no address moves', async (context) => {
    const seen = await during(context, 'upgrade', async () => {
      const before = await ownersOfAll();
      assert.ok(before.size > 3, `${before.size} addresses`);
      for (const host of cluster.hosts) {
        await cluster.lbd(host).stop('SIGTERM');
        await back(host);
      }
      assert.deepEqual(await ownersOfAll(), before);
    });
    gapWithin(seen, 50);
    assert.equal(seen.warmMs, 0);
  });

  test('the API server is away: an address is taken over all the same', async (context) => {
    const { apiServer } = cluster.lab;
    const { ip: other } = await cluster.serve({ name: 'bystander' });
    const [holder] = await cluster.holders(other);
    const seen = await during(context, 'no-api', async (_ip, owner, clients) => {
      await apiServer.fault('refuseConnections');
      await apiServer.fault('dropConnections');
      await waitFor(
        async () => {
          const all = await Promise.all(cluster.hosts.map((host) => cluster.lbd(host).status()));
          return all.every(({ kubernetes }) => !kubernetes.reachable);
        },
        { describe: 'the API server unreachable for all', timeoutMs: 10_000 },
      );
      await cluster.lab.segment().disconnect(owner);
      await clients.firstOther(macOf(owner), labTimeMs());
      await sleep(500);
      await cluster.lab.segment().connect(owner);
      await cluster.joined();
    });
    gapWithin(seen, 400);
    doubleWithin(seen, 50);
    if (holder !== seen.owner) assert.deepEqual(await cluster.holders(other), [holder]);
    await apiServer.fault('acceptConnections');
  });

  /** Every address of a Service, and where it is. */
  async function ownersOfAll(): Promise<ReadonlyMap<string, string>> {
    const owners = new Map<string, string>();
    const services = (await cluster.lbd(cluster.hosts[0] as LabHost).status()).services;
    for (const ip of services.flatMap(({ addresses }) => addresses)) {
      for (const host of cluster.hosts) if ((await shown(host, ip)) !== undefined) owners.set(ip, host.name);
    }
    return owners;
  }
});
