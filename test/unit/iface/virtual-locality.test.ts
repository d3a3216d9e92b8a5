import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LINGER_MS, Locality, SUBNETS_MAX } from '../../../src/iface/virtual-locality.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { type Instant, NEVER } from '../../../src/lib/time.ts';
import { prefix } from './virtual-kernel.ts';

const LAN = prefix('192.0.2.0/24');
const LAN6 = prefix('2001:db8::/64');

function at(ms: number): Instant {
  return ms as Instant;
}

test('isLocal() is about the subnets that somebody has, in both families', () => {
  const locality = new Locality();
  assert.ok(!locality.isLocal('192.0.2.1' as Ip));
  locality.update([LAN, LAN6], at(0));
  for (const ip of ['192.0.2.0', '192.0.2.255', '2001:db8::ffff']) assert.ok(locality.isLocal(ip as Ip), ip);
  for (const ip of ['192.0.3.0', '2001:db8:0:1::', '0.0.0.1']) assert.ok(!locality.isLocal(ip as Ip), ip);
  locality.update([prefix('0.0.0.0/0')], at(1));
  assert.ok(locality.isLocal('203.0.113.1' as Ip));
  assert.ok(!locality.isLocal('2001:db9::' as Ip));
});

test('a subnet counts for an hour after it went, and anew when it is back', () => {
  const locality = new Locality();
  locality.update([LAN], at(0));
  assert.equal(locality.deadline(), NEVER);
  locality.update([], at(1_000));
  assert.equal(locality.deadline(), 1_000 + LINGER_MS);
  locality.update([LAN], at(2_000));
  locality.update([], at(3_000));
  locality.update([], at(3_000 + LINGER_MS - 1));
  assert.ok(locality.isLocal('192.0.2.1' as Ip));
  locality.update([], at(3_000 + LINGER_MS));
  assert.ok(!locality.isLocal('192.0.2.1' as Ip));
});

test('generation changes when an answer may, and only then', () => {
  const locality = new Locality();
  const generations = [[LAN], [LAN, LAN6], [LAN], [LAN6], []].map((subnets, index) => {
    locality.update(subnets, at(index));
    return locality.generation;
  });
  assert.deepEqual(generations, [1, 2, 2, 2, 2]);
  locality.update([], at(LINGER_MS * 2));
  assert.equal(locality.generation, 4);
});

test('of more subnets that are gone than are remembered, the first to go is forgotten', () => {
  const locality = new Locality();
  const subnet = (index: number) => ({ network: ipFromNumber('v4', BigInt(index) << 8n), length: 24 });
  const all = Array.from({ length: SUBNETS_MAX + 2 }, (_, index) => subnet(index + 1));
  locality.update(all, at(0));
  locality.update(all.slice(1), at(1));
  locality.update([], at(2));
  assert.ok(!locality.isLocal(subnet(1).network));
  assert.ok(locality.isLocal(subnet(SUBNETS_MAX + 2).network));
});
