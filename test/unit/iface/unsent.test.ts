import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ANNOUNCE_AT_MS } from '../../../src/iface/announcing.ts';
import { FrameBatches } from '../../../src/iface/frame-batches.ts';
import { probeFrame } from '../../../src/iface/frames.ts';
import { addressStatuses } from '../../../src/iface/local-status.ts';
import type { Nic } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { ETH0, ETH1, FakeHost } from '../../support/fake-host.ts';

const VIP = '192.0.2.10' as Ip;
const VIP6 = '2001:db8::10' as Ip;
const RETRY_MS = 1_000;
const SERIES = ANNOUNCE_AT_MS.length;

function counted(host: FakeHost, ip = VIP): readonly (number | undefined)[] {
  const status = addressStatuses(host.machine, host.now).find((each) => each.ip === ip);
  return [status?.announcements, status?.unsentFrames];
}

function announced(host: FakeHost): number {
  return host.frames.filter(({ frame, ip }) => frame === 'announce' && ip === VIP).length;
}

/** Holds it from an earlier life. */
function adopted(): FakeHost {
  const host = new FakeHost();
  host.putOwnAddress(ETH0, VIP, 32, 30);
  return host;
}

test('an announcement that the NIC does not take is not counted as one, but as frames that did not leave', () => {
  const host = new FakeHost().start().want(VIP).advance(149);
  assert.equal(host.holds(VIP), false);
  host.deliver({ kind: 'announcements-unsent', frames: [{ ip: VIP, form: 'first' }] });
  assert.deepEqual(counted(host), [0, 0], 'one that is not held is not announced');
  host.advance(1);
  assert.deepEqual(counted(host), [1, 0]);
  host.sends = false;
  host.advance(600);
  assert.deepEqual(counted(host), [1, 2], 'after 0.1 and 0.5 s');
  host.sends = true;
  host.advance(5_000);
  assert.deepEqual(counted(host), [SERIES - 2, 2]);
  host.deliver({ kind: 'announcements-unsent', frames: [{ ip: VIP, form: 'second' }] });
  assert.deepEqual(counted(host), [SERIES - 2, 3], 'the first form of it did leave');
});

test('what would have been the last announcement is made again a second later, until the NIC takes it', () => {
  const host = adopted();
  host.sends = false;
  host.start().want(VIP);
  assert.equal(host.status(VIP), 'held');
  host.advance(RETRY_MS * 2.5);
  assert.deepEqual(counted(host), [0, 3]);
  host.sends = true;
  host.advance(RETRY_MS / 2);
  assert.deepEqual(counted(host), [1, 3]);
  host.advance(20_000);
  assert.equal(announced(host), 1);
});

test('what a host must not announce while it may not be the owner is not counted, and announced when it may', () => {
  const host = adopted();
  host.observe();
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  host.start().want(VIP).advance(5_000);
  assert.deepEqual([counted(host), announced(host)], [[0, 0], 0]);
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: ETH0 });
  host.advance(5_000);
  assert.deepEqual([counted(host), announced(host)], [[SERIES, 0], SERIES]);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: ETH0 });
  host.advance(5_000);
  assert.equal(announced(host), SERIES, 'nothing was due meanwhile');
});

test('FrameBatches tells which addresses the frames were for that did not leave', () => {
  const batches = new FrameBatches();
  const nics = [ETH0, ETH1].map((ifIndex) => ({ ifIndex, mac: '02:00:00:00:00:01' as Mac }) as Nic);
  const [eth0, eth1] = nics;
  assert.ok(eth0 !== undefined && eth1 !== undefined);
  batches.probe(eth0, VIP, probeFrame(eth0.mac, VIP));
  batches.announce(eth0, VIP, 'both');
  batches.announce(eth0, VIP6, 'both');
  batches.announce(eth0, VIP, 'second');
  batches.announce(eth1, VIP, 'first');
  batches.announce(undefined, VIP6, 'first');
  const sent: (readonly [IfIndex, number])[] = [];
  const unsent = batches.send((ifIndex, frames) => {
    sent.push([ifIndex, frames.length]);
    return ifIndex === ETH0 ? [0, 2, 3, 4] : [];
  });
  assert.deepEqual(sent, [
    [ETH0, 5],
    [ETH1, 1],
  ]);
  assert.deepEqual(unsent, {
    probes: [VIP],
    announcements: [
      { ip: VIP6, form: 'first' },
      { ip: VIP, form: 'second' },
      { ip: VIP6, form: 'first' },
      { ip: VIP, form: 'second' },
    ],
  });
});
