import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SUBNET_GRACE_MS } from '../../../src/iface/local-addresses.ts';
import { addressStatuses } from '../../../src/iface/local-status.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { instant, NEVER } from '../../../src/lib/time.ts';
import { ETH0, FakeHost, kernelAddress } from '../../support/fake-host.ts';

const VIP = '192.0.2.10';
const OWN = '192.0.2.2' as Ip;
const IFA_F_SECONDARY = 0x01;

function held(prefix: 'host' | 'subnet'): FakeHost {
  const host = new FakeHost({ prefix, lifetimeMs: 30_000 }).start().want(VIP).advance(500);
  assert.equal(host.status(VIP), 'held');
  return host;
}

/** The host's own address, primary or not. */
function putOwn(host: FakeHost, flags = 0): void {
  const address = kernelAddress(ETH0, OWN, 24, undefined, Number.POSITIVE_INFINITY);
  host.kernel.set(`${ETH0} ${OWN}/24`, { ...address, flags, expiresAt: NEVER });
  host.observe();
}

function countProbes(host: FakeHost): number {
  return host.frames.filter(({ frame }) => frame === 'probe').length;
}

test('with the prefix of the subnet an address is taken off while the own one is away, and put back unasked', () => {
  const host = held('subnet');
  const probes = countProbes(host);
  host.removeByHand(OWN);
  assert.equal(host.holds(VIP), false);
  // As others see it, it has not moved; renewals would put it back.
  host.advance(SUBNET_GRACE_MS - 100);
  assert.equal(host.holds(VIP), false);
  const [status] = addressStatuses(host.machine, host.now);
  assert.equal(status?.state, 'held');
  assert.match(status?.reason ?? '', /no NIC of this host has a subnet/);
  putOwn(host);
  assert.equal(host.holds(VIP), true);
  assert.equal(countProbes(host), probes);
  assert.equal(addressStatuses(host.machine, host.now)[0]?.reason, undefined);
  assert.deepEqual(
    host.reports.map(({ kind }) => kind),
    ['held'],
  );
});

test('an address that goes right before the own one is not put back in between', () => {
  const host = held('subnet');
  // The kernel tells of the secondary ones first.
  host.removeByHand(VIP);
  assert.equal(host.holds(VIP), false);
  host.advance(5);
  host.removeByHand(OWN);
  host.advance(SUBNET_GRACE_MS - 100);
  assert.equal(host.holds(VIP), false);
  putOwn(host);
  assert.equal(host.holds(VIP), true);
  assert.deepEqual(
    host.reports.map(({ kind }) => kind),
    ['held'],
  );
});

test('an address that goes alone is back 20 ms later', () => {
  const host = held('subnet');
  for (let round = 1; round <= 2; round++) {
    host.removeByHand(VIP);
    host.advance(19);
    assert.equal(host.holds(VIP), false);
    host.advance(1);
    assert.equal(host.holds(VIP), true);
    host.advance(1_000);
  }
  assert.deepEqual(
    host.reports.map(({ kind }) => kind),
    ['held', 'repaired', 'repaired'],
  );
});

test('an own address that stays away ends the holding, and the wire is asked before the next', () => {
  const host = held('subnet');
  const probes = countProbes(host);
  host.removeByHand(OWN);
  host.advance(SUBNET_GRACE_MS);
  assert.equal(host.status(VIP), 'waiting');
  putOwn(host);
  assert.equal(host.status(VIP), 'probing');
  host.advance(200);
  assert.equal(host.holds(VIP), true);
  assert.equal(countProbes(host), probes + 3);
});

test('an own address that came second is let through first', () => {
  const host = held('subnet');
  putOwn(host, IFA_F_SECONDARY);
  assert.equal(host.holds(VIP), false);
  assert.match(addressStatuses(host.machine, host.now)[0]?.reason ?? '', /is not the primary one/);
  putOwn(host);
  assert.equal(host.holds(VIP), true);
});

test('what was decided before the own address went is not meant any more', () => {
  const host = held('subnet');
  const renewal = {
    op: 'renew',
    ip: VIP as Ip,
    ifIndex: ETH0,
    prefixLength: 24,
    lifetimeMs: 30_000,
  } as const;
  assert.equal(host.machine.isMeant(renewal), true);
  host.removeByHand(OWN);
  assert.equal(host.machine.isMeant(renewal), false);
});

test('an address that is away for longer than it may be renewed is probed for when it can come back', () => {
  const host = new FakeHost({ prefix: 'subnet', lifetimeMs: 2_000 }).start().want(VIP).advance(500);
  host.removeByHand(OWN);
  host.now = instant(host.now + 3_000);
  putOwn(host);
  assert.equal(host.status(VIP), 'probing');
});

test('with the prefix of the host an address stays, whatever the own one is', () => {
  const host = held('host');
  host.removeByHand(OWN);
  assert.equal(host.holds(VIP), true);
  putOwn(host, IFA_F_SECONDARY);
  assert.equal(host.holds(VIP), true);
});
