import assert from 'node:assert/strict';
import { after, before, describe, type TestContext, test } from 'node:test';
import { Cluster, macOf } from '../support/cluster.ts';
import { failuresOf, HttpLoad } from '../support/http-requests.ts';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { onNic, SKIP } from '../support/scenario.ts';
import { sleep, waitFor } from '../support/wait.ts';

const PROBE_MS = 2;
/** Between two answers to questions every PROBE_MS when nothing is amiss, on a machine that does other things too. */
const NO_GAP_MS = 20;
const OVERLAP_MS = 50;
const EXCLUDE = 'node.kubernetes.io/exclude-from-external-load-balancers';

/** Addresses that move by plan: the new owner serves before the old one lets go. */
describe('hand-over among three hosts', { skip: SKIP }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start({ hosts: 3, gossip: 'drain_on_stop = true' });
    await cluster.createNodes();
    await Promise.all([cluster.startAll(), cluster.startWebServers()]);
  });
  after(() => cluster?.close());

  /** Has an address move while it is asked for and requests are sent to it; resolves with its new owner. */
  async function moves(
    context: TestContext,
    ip: string,
    owner: LabHost,
    act: () => Promise<unknown>,
  ): Promise<LabHost> {
    const clients = await cluster.watch(ip, { probeMs: PROBE_MS });
    const load = await HttpLoad.start(cluster.client, ip);
    await sleep(300);
    const fromMs = labTimeMs();
    await act();
    const taken = await clients.firstOther(macOf(owner), fromMs);
    await onNic(owner, ip, false);
    await sleep(300);
    const requests = await load.stop();
    const { gap, excuseMs, losses } = await clients.stop(fromMs);
    const announced = clients.prober.seen(ip, 'arp-announcement').find(({ mac }) => mac === taken.mac);
    const overlap = {
      fromMs: Math.min(announced?.atMs ?? taken.atMs, taken.atMs),
      toMs: clients.lastOf(macOf(owner)) ?? taken.atMs,
    };
    const overlapMs = overlap.toMs - overlap.fromMs;
    const overlapExcuseMs = clients.excuseMs(overlap);
    const failures = failuresOf(requests, overlap);
    context.diagnostic(
      `gap ${Math.round(gap.ms)} ms (busy machine: ${Math.round(excuseMs)} ms), ` +
        `both had it for ${Math.round(overlapMs)} ms (${Math.round(overlapExcuseMs)} ms); ` +
        `of ${requests.length} requests ${failures.atSwitch.length} failed then, ${failures.others.length} otherwise`,
    );
    assert.ok(
      gap.ms <= NO_GAP_MS + excuseMs,
      `${gap.ms} ms without an answer, ${excuseMs} ms of them excused`,
    );
    assert.ok(overlapMs <= OVERLAP_MS + overlapExcuseMs, `both had it for ${overlapMs} ms`);
    assert.deepEqual(failures.others, []);
    assert.deepEqual(losses, []);
    const now = cluster.hostOf(taken.mac);
    assert.deepEqual(await cluster.holders(ip), [now]);
    return now;
  }

  async function restart(host: LabHost): Promise<void> {
    assert.equal((await cluster.lbd(host).stop('SIGTERM', 10_000)).code, 0);
    await cluster.startLbd(host);
    await cluster.joined();
  }

  test('a drained host gives its addresses away, and takes none until it is undrained, also after a restart', async (context) => {
    const { ip, owner } = await cluster.serve({ name: 'drain' });
    const now = await moves(context, ip, owner, () => cluster.drain(owner));
    const status = await cluster.lbd(now).status();
    assert.equal(status.election?.members.find(({ name }) => name === owner.name)?.drained, true);
    await takesNothing('drained');
    await restart(owner);
    const { election, problems } = await cluster.lbd(owner).status();
    assert.deepEqual([election?.drained, election?.drainDone], [true, true]);
    assert.ok(problems.some(({ text }) => text.startsWith('this host is drained: ')));
    await takesNothing('restarted');
    await cluster.undrain(owner);
    await restart(owner);
    assert.equal((await cluster.lbd(owner).status()).election?.drained, false);
    assert.deepEqual(await cluster.holders(ip), [now]);

    async function takesNothing(when: string): Promise<void> {
      for (let index = 0; index < 4; index++) {
        const another = await cluster.serve({ name: `${when}-${index}` });
        assert.notEqual(another.owner, owner);
      }
    }
  });

  /** The others know that it is not there, and is not to be waited for. */
  async function hasLeft(host: LabHost): Promise<void> {
    for (const other of cluster.others(host)) {
      const lbd = cluster.lbd(other);
      const { problems } = await lbd.waitForStatus(
        ({ election }) => election?.members.some(({ name, state }) => name === host.name && state === 'left'),
        { describe: `${host.name} has left, as ${other.name} sees it`, timeoutMs: 3_000 },
      );
      assert.deepEqual(
        problems.filter(({ text }) => text.startsWith(host.name)),
        [],
      );
      const remembered = async (): Promise<boolean> =>
        JSON.parse(await other.readFile('/var/lib/lbd/gossip.json')).memberCount === 2;
      await waitFor(remembered, { describe: `${other.name} counts two hosts`, timeoutMs: 3_000 });
    }
  }

  test('a host that stops with drain_on_stop gives its addresses away first, and leaves', async (context) => {
    const { ip, owner } = await cluster.serve({ name: 'stop' });
    const lbd = cluster.lbd(owner);
    const now = await moves(context, ip, owner, async () => {
      const { code } = await lbd.stop('SIGTERM', 10_000);
      assert.equal(code, 0);
    });
    await hasLeft(owner);
    await cluster.startLbd(owner);
    await cluster.joined();
    assert.deepEqual(await cluster.holders(ip), [now]);
    // Nobody drained it for good.
    assert.equal((await cluster.lbd(owner).status()).election?.drained, false);
  });

  test("an address follows its Service's endpoints with externalTrafficPolicy Local", async (context) => {
    const [first, second, third] = cluster.hosts as [LabHost, LabHost, LabHost];
    await cluster.setEndpoints('local', [second]);
    const { ip, owner } = await cluster.serve({ name: 'local', spec: { externalTrafficPolicy: 'Local' } });
    assert.equal(owner, second);
    assert.equal(await moves(context, ip, second, () => cluster.setEndpoints('local', [third])), third);
    await cluster.setEndpoints('local', [first, third]);
    await sleep(500);
    assert.deepEqual(await cluster.holders(ip), [third]);
    await cluster.setEndpoints('local', []);
    await onNic(third, ip, false);
    assert.deepEqual(await cluster.holders(ip), []);
    await cluster.setEndpoints('local', [first]);
    assert.equal(await cluster.ownerOf(ip), first);
  });

  test('a Node excluded from load balancing gives its addresses away', async (context) => {
    const { ip, owner } = await cluster.serve({ name: 'exclude' });
    const now = await moves(context, ip, owner, () => cluster.labelNode(owner, { [EXCLUDE]: '' }));
    await cluster.labelNode(owner, { [EXCLUDE]: null });
    await sleep(500);
    assert.deepEqual(await cluster.holders(ip), [now]);
  });
});
