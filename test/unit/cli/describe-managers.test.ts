import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeManagers } from '../../../src/cli/describe-managers.ts';
import type { NetworkSettings } from '../../../src/cli/networkd-file.ts';

const FILE = '/run/systemd/network/10-netplan-eth0.network';
const WITH = `eth0 is managed by systemd-networkd with ${FILE}`;
const REMOVES =
  'So it removes the addresses of Services when it is restarted or applies a changed file, and lbd has to put them back each time.';

function networkd(settings: Partial<NetworkSettings> | string, lifetimeMs = 30_000): readonly string[] {
  const full =
    typeof settings === 'string'
      ? settings
      : { keeps: 'nothing' as const, saidBy: undefined, hasDhcp: false, ...settings };
  const { remarks } = describeManagers(
    [{ manager: 'systemd-networkd', nic: 'eth0', file: FILE, settings: full }],
    lifetimeMs,
  );
  return remarks.map(({ severity, text }) => `${severity}: ${text}`);
}

function remedy(value: string): string {
  const directory = '/etc/systemd/network/10-netplan-eth0.network.d';
  return (
    `note: To have it leave them alone: mkdir -p ${directory} && ` +
    `printf '[Network]\\nKeepConfiguration=${value}\\n' >${directory}/lbd.conf && networkctl reload`
  );
}

test('describeManagers() says nothing on a host without a manager', () => {
  assert.deepEqual(describeManagers([], 30_000).remarks, []);
});

test('describeManagers() warns of a systemd-networkd that removes addresses, and says what to type', () => {
  assert.deepEqual(networkd({}), [
    `warning: ${WITH}, which has no KeepConfiguration=. ${REMOVES}`,
    remedy('dhcp'),
  ]);
  assert.deepEqual(networkd({ saidBy: 'KeepConfiguration=no (f:4)' }), [
    `warning: ${WITH}, whose KeepConfiguration=no (f:4) spares no address that it did not set itself. ${REMOVES}`,
    remedy('dhcp'),
  ]);
  assert.deepEqual(networkd({}, 0)[1], remedy('static'));
});

test('describeManagers() explains why a KeepConfiguration= does not keep the addresses of lbd', () => {
  assert.deepEqual(networkd({ keeps: 'static', saidBy: 'KeepConfiguration=static (f:4)' }), [
    `warning: ${WITH}, whose KeepConfiguration=static (f:4) spares only addresses without a lifetime, and those of lbd have one of 30s. ${REMOVES}`,
    remedy('yes'),
  ]);
  assert.deepEqual(networkd({ keeps: 'dynamic', saidBy: 'KeepConfiguration=dhcp (f:4)' }, 0), [
    `warning: ${WITH}, whose KeepConfiguration=dhcp (f:4) spares only addresses with a lifetime, and [local] lifetime = 0 gives those of lbd none. ${REMOVES}`,
    remedy('yes'),
  ]);
});

test('describeManagers() says what the remedy means for an address by DHCP', () => {
  const consequence = 'note: With that, eth0 keeps an address by DHCP also when its lease is not renewed.';
  assert.deepEqual(networkd({ hasDhcp: true }).slice(1), [remedy('dhcp'), consequence]);
  assert.deepEqual(networkd({ hasDhcp: true }, 0).slice(1), [remedy('static')]);
});

test('describeManagers() is content with a systemd-networkd that leaves the addresses alone', () => {
  const dynamic = { keeps: 'dynamic', saidBy: 'KeepConfiguration=dhcp (f:4)' } as const;
  const fixed = { keeps: 'static', saidBy: 'KeepConfiguration=static (f:4)' } as const;
  const all = { keeps: 'everything', saidBy: 'CriticalConnection=yes (f:4)' } as const;
  for (const [settings, lifetimeMs] of [
    [dynamic, 30_000],
    [fixed, 0],
    [all, 30_000],
    [all, 0],
  ] as const) {
    assert.deepEqual(networkd(settings, lifetimeMs), [
      `note: ${WITH}. It leaves addresses of Services alone, by ${settings.saidBy}.`,
    ]);
  }
});

test('describeManagers() says what it could not see', () => {
  assert.deepEqual(networkd('EACCES: permission denied'), [
    `unseen: whether eth0, managed by systemd-networkd with ${FILE}, keeps addresses of Services: EACCES: permission denied.`,
  ]);
});

test('describeManagers() says when NetworkManager and ifupdown remove addresses', () => {
  const { title, remarks } = describeManagers(
    [
      { manager: 'NetworkManager', nic: 'eth0' },
      { manager: 'ifupdown', nic: 'eth1' },
    ],
    30_000,
  );
  assert.equal(title, 'Network manager');
  assert.deepEqual(
    remarks.map(({ severity }) => severity),
    ['note', 'note'],
  );
  assert.match(
    remarks[0]?.text ?? '',
    /^eth0 is managed by NetworkManager\. .*nmcli device reapply\) removes them/,
  );
  assert.match(
    remarks[1]?.text ?? '',
    /^eth1 is managed by ifupdown\. ifdown, .*"systemctl restart networking"/,
  );
});
