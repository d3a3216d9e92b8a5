import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { allowPromotions } from '../../../src/iface/io/promotion.ts';
import type { Program } from '../../../src/iface/local-types.ts';
import type { Nic } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';

const NICS: readonly Nic[] = ['eth0', 'eth1', 'eth2'].map((name, index) => ({
  ifIndex: index as IfIndex,
  name,
  mac: '02:00:00:00:00:01' as Mac,
  up: true,
  subnets: [],
}));

function request(op: Program['op'], ifIndex: number, ip: string, prefixLength: number): Program {
  return { op, ip: ip as Ip, ifIndex: ifIndex as IfIndex, prefixLength, lifetimeMs: 0 };
}

/** A /proc/sys in which nothing is promoted on these NICs; `values()` tells of each. */
function sysctls(t: TestContext, names: readonly string[]) {
  const root = mkdtempSync(join(tmpdir(), 'lbd-promotion-'));
  t.after(() => rmSync(root, { recursive: true }));
  const file = (name: string) => join(root, 'net/ipv4/conf', name, 'promote_secondaries');
  for (const name of ['all', ...names]) {
    mkdirSync(join(root, 'net/ipv4/conf', name), { recursive: true });
    writeFileSync(file(name), '0\n');
  }
  return { root, values: () => names.map((name) => `${name}=${readFileSync(file(name), 'utf8').trim()}`) };
}

test('allowPromotions() is for every NIC that loses an IPv4 address with the length of a subnet, and for as long', (t) => {
  const { root, values } = sysctls(t, ['eth0', 'eth1', 'eth2']);
  const requests = [
    request('add', 0, '192.0.2.10', 24),
    request('remove', 0, '192.0.2.11', 32),
    request('remove', 0, '2001:db8::11', 64),
    request('remove', 1, '198.51.100.11', 24),
    request('remove', 2, '203.0.113.11', 24),
  ];
  const promotion = allowPromotions(requests, NICS, root);
  assert.deepEqual(values(), ['eth0=0', 'eth1=1', 'eth2=1']);
  assert.ok(promotion.ok);
  promotion.restore();
  assert.deepEqual(values(), ['eth0=0', 'eth1=0', 'eth2=0']);
});

test('allowPromotions() that cannot be had keeps only addresses that come before the own one of the host', (t) => {
  const { root, values } = sysctls(t, ['eth0']);
  const requests = [request('remove', 0, '192.0.2.11', 24), request('remove', 1, '198.51.100.11', 24)];
  const best = allowPromotions(requests, NICS, root);
  assert.ok(best.ok);
  best.restore();
  const displaced = [{ network: '198.51.100.0' as Ip, length: 24 }];
  const second = NICS.map((nic) => (nic.name === 'eth1' ? { ...nic, displaced } : nic));
  const refused = allowPromotions(requests, second, root);
  assert.match(refused.ok ? '' : refused.error, /eth1\/promote_secondaries/);
  assert.deepEqual(values(), ['eth0=0']);
});
