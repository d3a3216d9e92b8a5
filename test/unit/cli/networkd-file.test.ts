import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkSettings } from '../../../src/cli/networkd-file.ts';

const BASE = '[Match]\nName=eth0\n\n[Network]\nDHCP=ipv4\n';

function settingsOf(...texts: readonly string[]) {
  return networkSettings(texts.map((text, index) => ({ path: `f${index}`, text })));
}

test('networkSettings() tells what each value keeps, as systemd 252 and 257 do', () => {
  const cases = [
    ['', 'nothing', undefined],
    ['KeepConfiguration=yes\n', 'everything', 'KeepConfiguration=yes (f0:6)'],
    ['KeepConfiguration = TRUE \n', 'everything', 'KeepConfiguration=TRUE (f0:6)'],
    ['KeepConfiguration=no\n', 'nothing', 'KeepConfiguration=no (f0:6)'],
    ['KeepConfiguration=static\n', 'static', 'KeepConfiguration=static (f0:6)'],
    ['KeepConfiguration=dhcp\n', 'dynamic', 'KeepConfiguration=dhcp (f0:6)'],
    ['KeepConfiguration=dynamic\n', 'dynamic', 'KeepConfiguration=dynamic (f0:6)'],
    ['KeepConfiguration=dhcp-on-stop\n', 'nothing', 'KeepConfiguration=dhcp-on-stop (f0:6)'],
    ['KeepConfiguration=dynamic-on-stop\n', 'nothing', 'KeepConfiguration=dynamic-on-stop (f0:6)'],
    ['[DHCP]\nCriticalConnection=true\n', 'everything', 'CriticalConnection=true (f0:7)'],
    ['KeepConfiguration=no\n[DHCP]\nCriticalConnection=yes\n', 'nothing', 'KeepConfiguration=no (f0:6)'],
    ['#KeepConfiguration=yes\n;KeepConfiguration=yes\n', 'nothing', undefined],
    ['KeepConfiguration=\\\n# between\n  dhcp\n', 'dynamic', 'KeepConfiguration=dhcp (f0:6)'],
    ['[Link]\nKeepConfiguration=yes\n', 'nothing', undefined],
    ['KeepConfiguration=static\nKeepConfiguration=sometimes\n', 'static', 'KeepConfiguration=static (f0:6)'],
    ['KeepConfiguration=toString\n', 'nothing', undefined],
  ] as const;
  for (const [text, keeps, saidBy] of cases)
    assert.deepEqual(settingsOf(`${BASE}${text}`), { keeps, saidBy, hasDhcp: true }, text);
});

test('networkSettings() takes the last word of a file and its drop-ins', () => {
  const { keeps, saidBy } = settingsOf(
    `${BASE}KeepConfiguration=no\n`,
    '[Network]\nKeepConfiguration=static\n',
    '[Network]\nKeepConfiguration=dhcp\n',
    '[Network]\nDNS=192.0.2.1\n',
  );
  assert.deepEqual({ keeps, saidBy }, { keeps: 'dynamic', saidBy: 'KeepConfiguration=dhcp (f2:2)' });
});

test('networkSettings() tells whether the NIC has an address by DHCP', () => {
  for (const value of ['yes', 'ipv4', 'ipv6', 'both', 'true'])
    assert.equal(settingsOf(`[Network]\nDHCP=${value}\n`).hasDhcp, true, value);
  for (const value of ['no', 'false', 'none'])
    assert.equal(settingsOf(`[Network]\nDHCP=${value}\n`).hasDhcp, false, value);
  assert.equal(settingsOf('[Network]\nAddress=192.0.2.1/24\n').hasDhcp, false);
});
