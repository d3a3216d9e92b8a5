import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Config } from '../../../src/config/types.ts';
import { VirtualService } from '../../../src/daemon/virtual-service.ts';
import type { Election } from '../../../src/election/election.ts';
import type { Ownership } from '../../../src/iface/io/ownership.ts';
import type { Rtnetlink } from '../../../src/iface/io/rtnetlink.ts';
import { EMPTY_HOST, type HostView, type Nic } from '../../../src/iface/nic-selection.ts';
import { ObservedState } from '../../../src/iface/observed.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { LINGER_MS } from '../../../src/iface/virtual-locality.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { waitFor } from '../../support/wait.ts';
import { prefix } from '../iface/virtual-kernel.ts';
import { pool } from '../ipam/fixtures.ts';

const IP = '203.0.113.1' as Ip;

function nic(ifIndex: number, name: string, subnets: readonly string[]): Nic {
  const mac = `02:00:00:00:00:0${ifIndex}` as Mac;
  return { ifIndex: ifIndex as IfIndex, name, mac, up: true, subnets: subnets.map(prefix) };
}

function hostOf(...nics: readonly Nic[]): HostView {
  return {
    ...EMPTY_HOST,
    nics,
    selected: { v4: new Set([2 as IfIndex]), v6: new Set() },
    ownAddresses: new Map([['10.0.0.1' as Ip, 'eth0']]),
    signature: JSON.stringify(nics),
  };
}

/** The service on a host without gossip whose kernel does nothing, and what it wrote into its state directory. */
function setUp(t: { after(done: () => void): void }, record?: unknown, gossips = false) {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-virtual-'));
  const file = join(directory, 'subnets.json');
  if (record !== undefined) writeFileSync(file, JSON.stringify(record));
  const counts = { changes: 0 };
  const shown = { host: hostOf(nic(2, 'eth0', ['10.0.0.0/24'])), election: undefined as unknown };
  const config = {
    virtual: { interface: 'kube-lb0', type: 'auto', routes: undefined },
    pools: [pool('a', ['203.0.113.0/24'])],
    state: { directory },
    host: { name: 'h1', node: 'n1' },
    gossip: gossips ? {} : undefined,
  };
  const observed = new ObservedState();
  const service = new VirtualService({
    config: config as unknown as Config,
    rtnetlink: { observed: () => observed, apply: () => Promise.resolve([]) } as unknown as Rtnetlink,
    ownership: {
      isOurs: () => true,
      kernelTags: true,
      claim: () => undefined,
      refused() {},
      removed() {},
    } as unknown as Ownership,
    host: () => shown.host,
    election: () => shown.election as Election | undefined,
    logger: SILENT_LOGGER,
    onChange: () => {
      counts.changes += 1;
    },
  });
  t.after(() => {
    service.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const isLocal = (ip: string = IP) => {
    const wanted = { addresses: new Map(), excludedNodes: new Set<string>(), fresh: true };
    const common = { node: 'n1', services: new Map(), endpointsSynced: true, isComplete: true };
    return (
      service.plan({ desired: [{ ip: ip as Ip, services: ['default/web'] }], wanted, ...common }).length === 1
    );
  };
  return { service, isLocal, counts, shown, file };
}

test('what was local before a restart is so until its hour is over, and then that is told', async (t) => {
  const goneAt = Date.now() - LINGER_MS + 1_500;
  const { isLocal, counts } = setUp(t, { format: 1, subnets: [['203.0.113.0/24', goneAt]], nics: [] });
  assert.ok(isLocal());
  assert.equal(counts.changes, 0);
  await waitFor(() => counts.changes > 0, { describe: 'the news that the hour is over' });
  assert.ok(!isLocal());
});

test('the subnets and NICs of this run are there for the next', async (t) => {
  const { service, isLocal, file } = setUp(t);
  assert.ok(!isLocal());
  service.nicsToGuard();
  await waitFor(() => readFileSync(file, 'utf8').includes('eth0'), { describe: 'the NIC in the record' });
  assert.deepEqual(JSON.parse(readFileSync(file, 'utf8')), {
    format: 1,
    subnets: [['10.0.0.0/24', null]],
    nics: ['eth0'],
  });
});

test('nicsToGuard() has NICs of an earlier run for as long as they have no IPv4 subnet', (t) => {
  const { service, shown } = setUp(t, { format: 1, subnets: [], nics: ['eth1', 'eth2', 'eth9'] });
  const eth0 = nic(2, 'eth0', ['10.0.0.0/24']);
  const guarded = (...nics: readonly Nic[]) => {
    shown.host = hostOf(...nics);
    return service.nicsToGuard();
  };
  const [eth1, eth2] = [nic(3, 'eth1', []), nic(4, 'eth2', ['fd00::/64'])];
  assert.deepEqual(guarded(eth0, eth1, eth2, nic(5, 'lxc1', [])), ['eth0', 'eth1', 'eth2']);
  assert.deepEqual(guarded(eth0, eth2), ['eth0', 'eth2'], 'eth1 is away');
  assert.deepEqual(guarded(eth0, eth1), ['eth0', 'eth1'], 'and back');
  const with1 = nic(3, 'eth1', ['192.0.2.0/24']);
  assert.deepEqual(guarded(eth0, with1), ['eth0'], 'with an address it is in use or not');
  assert.deepEqual(guarded(eth0, eth1), ['eth0']);
});

test('a host that gossips puts nothing on the link before its election knows, and heard, the others', async (t) => {
  const { service, isLocal, counts, shown } = setUp(t, undefined, true);
  const state = () => {
    assert.ok(!isLocal());
    const [status] = service.statuses();
    return `${status?.state}: ${status?.reason}`;
  };
  const unknown = 'elsewhere: it is not known yet whether it is in a subnet of another host';
  assert.equal(state(), unknown, 'there is no election yet');
  const members = new Map<string, unknown>();
  shown.election = {
    ownership: { inspect: () => ({ settling: { isSettled: true } }) },
    swim: { members: () => members, member: () => undefined },
    persistent: () => ({ memberCount: 3, claims: [{ ip: '203.0.113.9', owner: 'h2', epoch: 1 }] }),
  };
  assert.equal(state(), unknown, 'nobody is heard, and there were others');
  members.set('h2', { name: 'h2', state: 'alive', meta: { segments: [] } });
  await waitFor(() => counts.changes > 0, { describe: 'the news of the other one' });
  assert.match(state(), /^adding/);
  assert.ok(isLocal('203.0.113.9'), 'somebody owned it');
});
