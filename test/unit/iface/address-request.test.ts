import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toAddressRequest } from '../../../src/iface/address-request.ts';
import type { Program } from '../../../src/iface/local-types.ts';
import { LBD_PROTOCOL } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { ETH0 } from '../../support/fake-host.ts';

const IFA_F_NODAD = 0x02;
const IFA_F_NOPREFIXROUTE = 0x200;

function program(op: Program['op'], ip: string, lifetimeMs = 30_000): Program {
  return { op, ip: ip as Ip, ifIndex: ETH0, prefixLength: ip.includes(':') ? 128 : 32, lifetimeMs };
}

test('a v4 address goes in with a finite lifetime, the tag, no prefix route and a scope that makes it no source', () => {
  assert.deepEqual(toAddressRequest(program('add', '192.0.2.10')), {
    kind: 'add',
    ifIndex: ETH0,
    ip: '192.0.2.10',
    prefixLength: 32,
    scope: 254,
    flags: IFA_F_NOPREFIXROUTE,
    preferredSeconds: 30,
    validSeconds: 30,
    protocol: LBD_PROTOCOL,
  });
});

test("a v4 address with the prefix of the subnet has the scope of the host's own, whose secondary it is", () => {
  const request = toAddressRequest({ ...program('add', '192.0.2.10'), prefixLength: 24 });
  assert.equal(request.kind === 'add' && request.scope, 0);
});

test('a v6 address goes in without DAD and deprecated, so that it is no source address', () => {
  const request = toAddressRequest(program('add', '2001:db8::10'));
  assert.ok(request.kind === 'add');
  assert.equal(request.flags, IFA_F_NOPREFIXROUTE | IFA_F_NODAD);
  assert.deepEqual([request.preferredSeconds, request.validSeconds], [0, 30]);
});

test('a renewal replaces, with the same attributes as the first time', () => {
  for (const ip of ['192.0.2.10', '2001:db8::10']) {
    const added = toAddressRequest(program('add', ip));
    assert.deepEqual(toAddressRequest(program('renew', ip)), { ...added, kind: 'replace' });
  }
});

test('a lifetime of 0 is permanent, and a v6 address is deprecated all the same', () => {
  const v4 = toAddressRequest(program('add', '192.0.2.10', 0));
  const v6 = toAddressRequest(program('add', '2001:db8::10', 0));
  assert.ok(v4.kind === 'add' && v6.kind === 'add');
  assert.deepEqual(
    [v4.preferredSeconds, v4.validSeconds],
    [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
  );
  assert.deepEqual([v6.preferredSeconds, v6.validSeconds], [0, Number.POSITIVE_INFINITY]);
});

test('a fraction of a second is rounded up: the kernel counts whole ones, and 0 would mean expired', () => {
  for (const [lifetimeMs, seconds] of [
    [1, 1],
    [1_000, 1],
    [1_001, 2],
  ] as const) {
    const request = toAddressRequest(program('add', '192.0.2.10', lifetimeMs));
    assert.ok(request.kind === 'add');
    assert.equal(request.validSeconds, seconds);
  }
});

test('a removal names the address and nothing else', () => {
  assert.deepEqual(toAddressRequest(program('remove', '192.0.2.10')), {
    kind: 'delete',
    ifIndex: ETH0,
    ip: '192.0.2.10',
    prefixLength: 32,
  });
});
