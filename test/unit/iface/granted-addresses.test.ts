import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GrantedAddresses } from '../../../src/iface/io/granted-addresses.ts';
import type { NetlinkMessage } from '../../../src/iface/netlink-codec.ts';
import { addressKey } from '../../../src/iface/observed.ts';
import type { AddressRequest, IfIndex, KernelAddress } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';

const V6 = '2001:db8::1' as Ip;
const PLACE = { ifIndex: 2 as IfIndex, prefixLength: 128 };
const REST = { scope: 0, flags: 0x02, protocol: 76, preferredSeconds: 0, validSeconds: 10 };

function add(ip: Ip): AddressRequest {
  return { kind: 'replace', ip, ...PLACE, ...REST };
}

function remove(ip: Ip): AddressRequest {
  return { kind: 'delete', ip, ...PLACE };
}

function gone(ip: Ip): NetlinkMessage {
  const address: KernelAddress = { ip, ...PLACE, ...REST };
  return { kind: 'address', event: 'del', address, portId: 0, sequence: 0, interrupted: false };
}

function granted(...requests: readonly AddressRequest[]) {
  return requests.map((request) => ({ ok: true, request }));
}

const NOTHING_KNOWN = new Map();

test('a new IPv6 address that the kernel granted is there before it tells of it; an IPv4 address it tells of first', () => {
  const told = new GrantedAddresses();
  told.begin();
  const untold = told.end(granted(add(V6), add('192.0.2.1' as Ip)), NOTHING_KNOWN);
  assert.deepEqual(untold, [{ ip: V6, ...PLACE, ...REST }]);
  assert.deepEqual(told.end(granted(add(V6)), NOTHING_KNOWN), [], 'nothing was asked since');
});

test('what is known, was refused, or is deleted again, is not', () => {
  const told = new GrantedAddresses();
  const known = new Map([[addressKey(add(V6)), { ip: V6, ...PLACE, ...REST }]]);
  told.begin();
  assert.deepEqual(told.end(granted(add(V6)), known), []);
  told.begin();
  assert.deepEqual(told.end([{ ok: false, request: add(V6) }], NOTHING_KNOWN), []);
  told.begin();
  told.heard(gone(V6));
  assert.deepEqual(told.end(granted(add(V6), remove(V6)), NOTHING_KNOWN), []);
});

test('one that went while it was asked for is gone, unless lbd itself asked for that before', () => {
  const told = new GrantedAddresses();
  told.heard(gone(V6));
  told.begin();
  told.heard(gone(V6));
  assert.deepEqual(told.end(granted(add(V6)), NOTHING_KNOWN), []);
  told.begin();
  told.heard(gone(V6));
  assert.equal(told.end(granted(remove(V6), add(V6)), NOTHING_KNOWN).length, 1);
  told.begin();
  told.heard(gone(V6));
  told.heard(gone(V6));
  assert.deepEqual(told.end(granted(remove(V6), add(V6)), NOTHING_KNOWN), []);
});

test('after everything was read, what is not there is gone', () => {
  const told = new GrantedAddresses();
  told.begin();
  told.read();
  assert.deepEqual(told.end(granted(add(V6)), NOTHING_KNOWN), []);
});
