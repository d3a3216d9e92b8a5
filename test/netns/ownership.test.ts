import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster } from '../support/cluster.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { PingLoop } from '../support/ping-loop.ts';
import { Prober } from '../support/prober.ts';
import { onNic, SKIP } from '../support/scenario.ts';

/** Three hosts that gossip, on real kernels: who has an address when something happens to its owner. */
describe('of three hosts', { skip: SKIP }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start({ hosts: 3, toml: '[local]\nlifetime = "4s"' });
    await cluster.startAll();
  });
  after(() => cluster?.close());

  test('one has the address of a Service', async () => {
    const { ip, owner } = await cluster.serve({ name: 'web' });
    assert.deepEqual(
      (await cluster.holders(ip)).map(({ name }) => name),
      [owner.name],
    );
  });

  test('the owner is cut off: another one takes over, and the first lets go', async (t) => {
    const { ip, owner } = await cluster.serve({ name: 'cut' });
    await using prober = await Prober.start(cluster.client, { addresses: [ip], intervalMs: 5 });
    await prober.firstAnswer(ip);
    const pings = await PingLoop.start(cluster.client, ip);
    const fromMs = labTimeMs();
    await cluster.lab.segment().disconnect(owner);
    const taken = await prober.firstAnswer(ip, { sinceMs: fromMs + 100 });
    await onNic(owner, ip, false, 2_000);
    const gap = prober.longestGap(ip, { fromMs });
    await cluster.lab.segment().connect(owner);
    await cluster.joined();
    const ping = await pings.stop();
    t.diagnostic(`gap ${gap?.ms.toFixed(0)} ms, longest loss of a warm client ${ping.longestLossMs} ms`);
    assert.notEqual(taken.mac, owner.nic('eth0').mac);
    assert.ok((gap?.ms ?? Infinity) <= 400, `a gap of ${gap?.ms} ms`);
    assert.equal(prober.duplicates(ip).probes, 0);
    assert.equal((await cluster.holders(ip)).length, 1);
  });

  test("the owner's lbd is killed and stays away: the address is taken over when its lifetime ends", async (t) => {
    const { ip, owner } = await cluster.serve({ name: 'kill' });
    await using prober = await Prober.start(cluster.client, { addresses: [ip], intervalMs: 5 });
    await prober.firstAnswer(ip);
    const fromMs = labTimeMs();
    await cluster.lbd(owner).stop('SIGKILL');
    const taken = await cluster.ownerOf(ip, { but: [owner], timeoutMs: 10_000 });
    await prober.firstAnswer(ip, { mac: taken.nic('eth0').mac });
    const gap = prober.longestGap(ip, { fromMs });
    t.diagnostic(`gap ${gap?.ms.toFixed(0)} ms`);
    assert.ok((gap?.ms ?? Infinity) <= 100, `a gap of ${gap?.ms} ms`);
    assert.equal(prober.duplicates(ip).probes, 0);
    await cluster.startLbd(owner);
    await cluster.joined();
  });
});
