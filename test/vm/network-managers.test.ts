import assert from 'node:assert/strict';
import { loadavg } from 'node:os';
import { after, before, describe, type TestContext, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import type { Machine } from './support/machine.ts';
import {
  AddressLog,
  manageByIfupdown,
  manageByNetworkd,
  manageByNetworkManager,
  networkdIsDone,
  networkManagerIsDone,
  startDhcpServer,
} from './support/network-manager.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { Session } from './support/session.ts';
import { holds, VIP } from './support/story.ts';

/** From the kernel's notification until the address is there again, on a processor that the manager keeps busy. */
const REPAIR_MS = 1_000;
/** From the host's own address until that of the Service, which begins with asking the wire. */
const RETURN_MS = 2_000;

/** What a manager of the NIC does to an address that lbd holds, one manager after the other on one machine. */
describe('an address that lbd holds beside a manager of the network', { skip: SKIP_LONG }, () => {
  let session: Session;
  let machine: Machine;
  let log: AddressLog;

  before(async () => {
    session = await Session.start();
    machine = session.machine;
    await startDhcpServer(session.lab);
    log = await AddressLog.start(machine);
  });
  after(() => session?.close());

  /** Lets a manager act, and sees that the address is answered after it. Resolves with how long each repair took. */
  async function seen(t: TestContext, what: string, act: () => Promise<unknown>): Promise<readonly number[]> {
    await session.mark();
    await log.mark();
    await act();
    await holds(machine, VIP);
    const answer = await session.prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
    assert.equal(answer.mac, machine.mac);
    assert.deepEqual(session.prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
    const repairs = await log.repairsMs();
    const came = repairs.length === 0 ? 'kept' : `removed, back after ${repairs.join(' and ')} ms`;
    const load = loadavg()[0]?.toFixed(1);
    t.diagnostic(`${what}: ${came}; longest without an answer ${session.longestGapMs()} ms (load ${load})`);
    return repairs;
  }

  function disturb(t: TestContext, command: string, done?: () => Promise<void>): Promise<readonly number[]> {
    return seen(t, command, async () => {
      await machine.run(command, { timeoutMs: 120_000 });
      await done?.();
    });
  }

  async function keepsThroughARenewal(t: TestContext): Promise<void> {
    assert.deepEqual(await seen(t, 'a renewed lease', () => log.leaseRenewed()), []);
  }

  async function keeps(t: TestContext, command: string, done?: () => Promise<void>): Promise<void> {
    const repairs = await disturb(t, command, done);
    if (repairs.length > 0) t.diagnostic(JSON.stringify(await log.changes()));
    assert.deepEqual(repairs, [], `${command} takes the address off`);
  }

  async function repaired(t: TestContext, command: string, done?: () => Promise<void>): Promise<void> {
    const repairs = await disturb(t, command, done);
    assert.ok(repairs.length > 0, `${command} leaves the address alone`);
    assert.ok(Math.max(...repairs) < REPAIR_MS, `back after ${repairs.join(', ')} ms`);
  }

  /** What `lbd check` says of the manager. */
  async function checked(): Promise<string> {
    const text = await machine.output('lbd check --offline');
    return /^Network manager\n((?: .*\n)+)/m.exec(text)?.[1] ?? '';
  }

  const networkd = () => networkdIsDone(machine);
  const networkManager = () => networkManagerIsDone(machine);

  test('is removed by systemd-networkd when it starts or configures the NIC, and back at once', async (t) => {
    await manageByNetworkd(machine);
    await holds(machine, VIP);
    await repaired(t, 'systemctl restart systemd-networkd', networkd);
    await repaired(t, 'networkctl reconfigure eth0', networkd);
    await keeps(t, 'networkctl reload', networkd);
    await keeps(t, 'networkctl renew eth0', networkd);
  });

  test('is removed by systemd-networkd in spite of KeepConfiguration=static, as it has a lifetime', async (t) => {
    await machine.writeFile(
      '/etc/systemd/network/10-eth0.network.d/keep.conf',
      '[Network]\nKeepConfiguration=static\n',
    );
    await repaired(t, 'networkctl reload', networkd);
    assert.match(
      await checked(),
      /WARNING: .*KeepConfiguration=static \(\S+\/keep\.conf:2\) spares only addresses without/,
    );
  });

  test('is left alone by systemd-networkd with what lbd check says to type', async (t) => {
    await machine.run('rm -rf /etc/systemd/network/10-eth0.network.d');
    const advice = await checked();
    assert.match(
      advice,
      /WARNING: eth0 is managed by systemd-networkd with \S+10-eth0\.network, which has no KeepConf/,
    );
    const command = /To have it leave them alone: (.*)/.exec(advice)?.[1] ?? 'false';
    await disturb(t, command, networkd);
    await keeps(t, 'systemctl restart systemd-networkd', networkd);
    await keeps(t, 'networkctl reconfigure eth0', networkd);
    assert.match(
      await checked(),
      /^ {2}eth0 is managed by systemd-networkd .* leaves addresses of Services alone/,
    );
  });

  test('is left alone by NetworkManager unless a profile is applied anew, and back at once then', async (t) => {
    await manageByNetworkManager(machine);
    await holds(machine, VIP);
    await keeps(t, 'systemctl restart NetworkManager', networkManager);
    await keeps(t, 'systemctl reload NetworkManager');
    await repaired(t, 'nmcli device reapply eth0');
    await repaired(t, 'nmcli connection up eth0');
    await keepsThroughARenewal(t);
    assert.match(await checked(), /^ {2}eth0 is managed by NetworkManager\. /);
  });

  test('goes with the NIC when ifupdown takes it down, and is back soon after its own address', async (t) => {
    await manageByIfupdown(machine);
    await holds(machine, VIP);
    await keepsThroughARenewal(t);
    assert.match(await checked(), /^ {2}eth0 is managed by ifupdown\. /);
    // What comes nearest to a reload: networking.service has none.
    await keeps(t, 'ifup --force eth0');
    await disturb(t, 'systemctl restart networking');
    const added = (await log.changes()).filter(({ kind }) => kind === 'added');
    const own = added.find(({ text }) => text.startsWith('inet 10.77.0.15'));
    assert.ok(own !== undefined, JSON.stringify(added));
    const back = added.find(({ text, atMs }) => text.startsWith(`inet ${VIP}/`) && atMs > own.atMs);
    const tookMs = (back?.atMs ?? Number.POSITIVE_INFINITY) - own.atMs;
    t.diagnostic(`held ${tookMs} ms after the host had its own address`);
    assert.ok(tookMs < RETURN_MS, `held ${tookMs} ms after the host had its own address`);
  });
});
