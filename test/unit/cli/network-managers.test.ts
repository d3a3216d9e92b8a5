import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findManagers } from '../../../src/cli/network-managers.ts';
import { temporaryDirectory } from './support/fake-daemon.ts';

const NICS = [
  { name: 'eth0', ifIndex: 2 },
  { name: 'eth1', ifIndex: 3 },
];
const FILE = '/run/systemd/network/10-netplan-eth0.network';
const TEXT = '[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\n';
/** As systemd 257 writes it. */
const CONFIGURED = `# This is private data. Do not parse.
ADMIN_STATE=configured
OPER_STATE=routable
NETWORK_FILE=${FILE}
NETWORK_FILE_DROPINS=""
`;
const NETWORKD = { manager: 'systemd-networkd', nic: 'eth0', file: FILE } as const;

/** A root directory with these files, in which these units are active. */
function rootWith(
  context: TestContext,
  files: Readonly<Record<string, string>>,
  units: readonly string[] = ['systemd-networkd.service', 'NetworkManager.service'],
): string {
  const root = temporaryDirectory(context);
  mkdirSync(join(root, '/run/systemd/units'), { recursive: true });
  for (const unit of units)
    symlinkSync('439a4ce2a703413c', join(root, `/run/systemd/units/invocation:${unit}`));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

test('findManagers() finds nobody on a host without any', (context) => {
  assert.deepEqual(findManagers(NICS, temporaryDirectory(context)), []);
});

test('findManagers() finds the .network file that systemd-networkd applies, and what it says', (context) => {
  const root = rootWith(context, { '/run/systemd/netif/links/2': CONFIGURED, [FILE]: TEXT });
  assert.deepEqual(findManagers(NICS, root), [
    { ...NETWORKD, settings: { keeps: 'nothing', saidBy: undefined, hasDhcp: false } },
  ]);
});

test('findManagers() reads drop-ins in the order of their names, and of two with one name the one in /etc', (context) => {
  const dropIns = '10-netplan-eth0.network.d';
  const root = rootWith(context, {
    '/run/systemd/netif/links/2': CONFIGURED,
    [FILE]: TEXT,
    [`/etc/systemd/network/${dropIns}/10-keep.conf`]: '[Network]\nKeepConfiguration=dhcp\n',
    [`/run/systemd/network/${dropIns}/10-keep.conf`]: '[Network]\nKeepConfiguration=no\n',
    [`/usr/lib/systemd/network/${dropIns}/05-first.conf`]: '[Network]\nKeepConfiguration=static\n',
    [`/etc/systemd/network/${dropIns}/99-not-a-conf.bak`]: '[Network]\nKeepConfiguration=yes\n',
    '/etc/systemd/network/20-other.network.d/x.conf': '[Network]\nKeepConfiguration=yes\n',
  });
  const saidBy = `KeepConfiguration=dhcp (/etc/systemd/network/${dropIns}/10-keep.conf:2)`;
  assert.deepEqual(findManagers(NICS, root), [
    { ...NETWORKD, settings: { keeps: 'dynamic', saidBy, hasDhcp: false } },
  ]);
});

test('findManagers() says why it cannot read what systemd-networkd applies', (context) => {
  const root = rootWith(context, { '/run/systemd/netif/links/2': CONFIGURED });
  const [found] = findManagers(NICS, root);
  assert.ok(found?.manager === 'systemd-networkd' && typeof found.settings === 'string');
  assert.match(found.settings, /ENOENT.*10-netplan-eth0\.network/);
});

test('findManagers() leaves out what systemd-networkd leaves alone, or left when it was stopped', (context) => {
  for (const state of [
    'ADMIN_STATE=unmanaged\n',
    `ADMIN_STATE=unmanaged\nNETWORK_FILE=${FILE}\n`,
    'ADMIN_STATE=pending\n',
    '',
  ]) {
    const root = rootWith(context, { '/run/systemd/netif/links/2': state, [FILE]: TEXT });
    assert.deepEqual(findManagers(NICS, root), [], state);
  }
  const stopped = rootWith(context, { '/run/systemd/netif/links/2': CONFIGURED, [FILE]: TEXT }, []);
  assert.deepEqual(findManagers(NICS, stopped), []);
});

test('findManagers() finds the NICs that NetworkManager manages while it runs', (context) => {
  const files = {
    '/run/NetworkManager/devices/2': '[device]\nmanaged=true\nconnection-uuid=07ad5bb7\n',
    '/run/NetworkManager/devices/3': '[device]\nmanaged=false\n',
  };
  assert.deepEqual(findManagers(NICS, rootWith(context, files)), [
    { manager: 'NetworkManager', nic: 'eth0' },
  ]);
  assert.deepEqual(findManagers(NICS, rootWith(context, files, [])), []);
});

test('findManagers() finds the NICs that ifupdown brought up, and not those that it took down', (context) => {
  const files = { '/run/network/ifstate.eth0': '\n', '/run/network/ifstate.eth1': 'eth1\n' };
  assert.deepEqual(findManagers(NICS, rootWith(context, files, [])), [{ manager: 'ifupdown', nic: 'eth1' }]);
});
