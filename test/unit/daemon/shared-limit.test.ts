import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitShared } from '../../../src/daemon/shared-limit.ts';
import { CLAIM_LIMIT, WANTED_LIMIT } from '../../../src/election/claims.ts';
import type { Wanted } from '../../../src/election/types.ts';
import type { DesiredAddress } from '../../../src/iface/types.ts';
import type { ServiceKey } from '../../../src/kube/types.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';

function address(index: number): Ip {
  return ipFromNumber('v4', BigInt(0x0a000000 + index));
}

/** Each address has a Service of its own, made at that time, in seconds. */
function cluster(madeAt: readonly number[]) {
  const services = new Map(
    madeAt.map((createdAt, index) => [`a/${index}` as ServiceKey, { createdAt }] as const),
  );
  const local: readonly DesiredAddress[] = madeAt.map((_, index) => ({
    ip: address(index),
    services: [`a/${index}`],
  }));
  const addresses = new Map(local.map(({ ip }) => [ip, { ip, nodes: undefined }]));
  const wanted: Wanted = { addresses, excludedNodes: new Set(), fresh: true };
  return { services, local, wanted };
}

test('limitShared() changes nothing up to the limit', () => {
  const { local, wanted, services } = cluster([3, 1, 2]);
  const limited = limitShared(local, wanted, services, 3);
  assert.equal(limited.local, local);
  assert.equal(limited.wanted, wanted);
  assert.deepEqual(limited.unserved, []);
});

test('limitShared() keeps the addresses of the oldest Services, in whatever order they come', () => {
  const { local, wanted, services } = cluster([30, 10, 20, 10, 40]);
  for (const order of [local, local.toReversed()]) {
    const limited = limitShared(order, wanted, services, 3);
    assert.deepEqual(
      limited.local.map(({ ip }) => ip),
      [address(1), address(3), address(2)],
    );
    assert.deepEqual([...limited.wanted.addresses.keys()].sort(), [address(1), address(2), address(3)]);
    assert.deepEqual(
      limited.unserved.map(({ ip, state, services: users, reason }) => [ip, state, users, reason]),
      [0, 4].map((index) => [
        address(index),
        'unserved',
        [`a/${index}`],
        'lbd shares out at most 3 local addresses among its hosts, those of older Services first',
      ]),
    );
  }
});

test('limitShared() counts local addresses only: virtual ones have no owner', () => {
  const { local, wanted, services } = cluster([3, 1, 2]);
  const limited = limitShared(local.slice(1), wanted, services, 2);
  assert.equal(limited.wanted.addresses.size, 3);
});

test('an address that older and newer Services share is as old as the oldest of them; one of no Service is the last', () => {
  const { local, wanted, services } = cluster([30, 10, 20]);
  const shared = { ip: address(0), services: ['a/0', 'a/1'] };
  const orphan = { ip: address(1), services: [] };
  const limited = limitShared([orphan, local[2] ?? orphan, shared], wanted, services, 2);
  assert.deepEqual(
    limited.local.map(({ ip }) => ip),
    [address(0), address(2)],
  );
});

test('what is wanted leaves room in the table of claims for what no Service has any more', () => {
  assert.ok(WANTED_LIMIT <= 0.8 * CLAIM_LIMIT);
});
