import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressStatuses } from '../../../src/iface/local-status.ts';
import type { Report } from '../../../src/iface/local-types.ts';
import type { KernelAddress, Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after } from '../../../src/lib/time.ts';
import { ETH0, FakeHost, link } from '../../support/fake-host.ts';

const VIP = '192.0.2.10';
const VIP6 = '2001:db8::10';
const FOREVER = Number.POSITIVE_INFINITY;

/** A host that has held these for a while. */
function held(...ips: readonly string[]): FakeHost {
  const host = new FakeHost();
  host.putHostAddress(ETH0, '2001:db8::2' as Ip, 64);
  host
    .start()
    .want(...ips)
    .advance(5_000);
  for (const ip of ips) assert.equal(host.status(ip), 'held');
  host.programs.length = 0;
  host.reports.length = 0;
  return host;
}

type Repaired = Extract<Report, { kind: 'repaired' }>;

function repairs(host: FakeHost): readonly Repaired[] {
  return host.reports.filter((report) => report.kind === 'repaired');
}

function inKernel(host: FakeHost, ip: string): KernelAddress | undefined {
  return [...host.kernel.values()].find((address) => address.ip === ip);
}

const CHANGES: readonly (readonly [string, string, Partial<KernelAddress>])[] = [
  ['made permanent', VIP, { validSeconds: FOREVER, preferredSeconds: FOREVER }],
  ['given a longer lifetime than lbd gives', VIP, { validSeconds: 3_600, preferredSeconds: 3_600 }],
  ['given a lifetime that ends before the next renewal', VIP, { validSeconds: 2, preferredSeconds: 2 }],
  ['without its tag', VIP, { hasLostTag: true }],
  ['of v6 made preferred', VIP6, { preferredSeconds: 20 }],
  ['of v6 given a route of its own', VIP6, { flags: 2 }],
  ['of v6 made permanent', VIP6, { validSeconds: FOREVER }],
];

for (const [what, ip, change] of CHANGES) {
  test(`an address ${what} is as it was, at once, counted and told`, () => {
    const host = held(ip);
    const before = inKernel(host, ip);
    host.changeByHand(ip, change);
    assert.deepEqual(
      host.programs.map(({ requests }) => requests.map(({ op }) => op)),
      [['renew']],
    );
    assert.deepEqual(inKernel(host, ip), { ...before, expiresAt: after(host.now, 30_000) });
    const [repair, ...others] = repairs(host);
    assert.deepEqual([repair?.was, repair?.repairs, others.length], ['changed', 1, 0]);
    assert.equal(addressStatuses(host.machine, host.now)[0]?.repairs, 1);
    host.advance(60_000);
    assert.equal(repairs(host).length, 1, 'and left alone then');
    assert.equal(host.status(ip), 'held');
  });
}

test('renewals, another lifetime by configuration and a resynchronisation are no repairs', () => {
  const host = held(VIP, VIP6);
  host.advance(100_000);
  for (const lifetimeMs of [60_000, 10_000, 0, 30_000]) {
    host.deliver({ kind: 'settings-changed', settings: { prefix: 'host', lifetimeMs } });
    host.advance(20_000);
    const present = [...host.kernel.values()].filter(({ protocol }) => protocol === 108);
    const left = present.map((address) => ({
      ...address,
      validSeconds: Math.floor((address.expiresAt - host.now) / 1_000),
    }));
    host.deliver({ kind: 'addresses-changed', present: left, gone: [] });
    host.advance(20_000);
  }
  assert.deepEqual(repairs(host), []);
  assert.equal(host.status(VIP), 'held');
});

test('two programs at war: repairs come later and later, up to one a second, and at once after a peace', () => {
  const host = held(VIP);
  const from = host.now;
  // The other one is never tired.
  for (let ms = 0; ms < 30_000; ms += 5) {
    if (host.holds(VIP)) host.removeByHand(VIP);
    host.advance(5);
  }
  const count = repairs(host).length;
  assert.ok(count >= 30 && count <= 40, `${count} repairs in ${host.now - from} ms`);
  assert.ok(host.programs.length <= count + 8, `${host.programs.length} requests`);
  host.advance(12_000);
  assert.ok(host.holds(VIP));
  host.removeByHand(VIP);
  assert.ok(host.holds(VIP), 'at once again');
});

test('repairs come later and later too where the kernel takes long over each, as it does with thousands in a batch', () => {
  const host = held(VIP);
  const from = host.now;
  while (host.now < from + 30_000) {
    host.freezeMs = 400;
    if (host.holds(VIP)) host.removeByHand(VIP);
    host.advance(5);
  }
  const count = repairs(host).length;
  assert.ok(count >= 20 && count <= 28, `${count} repairs`);
});

test('a war over a lifetime burns no more than one over an address', () => {
  const host = held(VIP);
  for (let ms = 0; ms < 30_000; ms += 5) {
    host.changeByHand(VIP, { validSeconds: FOREVER, preferredSeconds: FOREVER });
    host.advance(5);
  }
  assert.ok(repairs(host).length <= 40, `${repairs(host).length} repairs`);
  assert.ok(host.programs.length <= 50, `${host.programs.length} requests`);
  host.advance(1_100);
  assert.notEqual(inKernel(host, VIP)?.validSeconds, FOREVER);
});

test('what went with a link that flapped is back at once when the link is steady, and announced', () => {
  const host = held(VIP, VIP6);
  for (let ms = 0; ms < 3_000; ms += 5) {
    if (host.holds(VIP6)) host.removeByHand(VIP6);
    host.advance(5);
  }
  const announced = host.machine.announcements(VIP as Ip).announcements;
  if (host.holds(VIP6)) host.removeByHand(VIP6);
  assert.equal(host.holds(VIP6), false, 'it waits');
  host.deliver({ kind: 'link-bounced', ifIndex: ETH0 });
  assert.ok(host.holds(VIP6));
  host.advance(10);
  assert.ok(host.machine.announcements(VIP as Ip).announcements > announced);
});

test('an address removed once a second is back at once each time', () => {
  const host = held(VIP);
  for (let round = 0; round < 20; round++) {
    host.removeByHand(VIP);
    assert.ok(host.holds(VIP), `round ${round}`);
    host.advance(1_000);
  }
  assert.equal(repairs(host).length, 20);
  assert.equal(addressStatuses(host.machine, host.now)[0]?.repairs, 20);
});

test('1,000 addresses flushed at once are back in one batch', () => {
  const ips = Array.from({ length: 1_000 }, (_, index) => `192.0.${16 + (index >> 8)}.${index & 255}`);
  const host = new FakeHost();
  host.putHostAddress(ETH0, '192.0.0.1' as Ip, 16);
  host
    .start()
    .want(...ips)
    .advance(30_000);
  host.programs.length = 0;
  host.reports.length = 0;
  const gone = [...host.kernel.values()].filter(({ protocol }) => protocol === 108);
  assert.equal(gone.length, ips.length);
  for (const { ifIndex, ip, prefixLength } of gone) host.kernel.delete(`${ifIndex} ${ip}/${prefixLength}`);
  host.deliver({ kind: 'addresses-changed', present: [], gone });
  assert.equal(host.programs.length, 1);
  assert.ok(ips.every((ip) => host.holds(ip)));
  assert.equal(repairs(host).length, ips.length);
});

test('a NIC that comes up, or has another hardware address, announces all that it holds', () => {
  const host = held(VIP, VIP6);
  const announced = () =>
    host.frames.filter(({ frame }) => frame === 'announce').map(({ ip }) => ip as string);
  host.frames.length = 0;
  host.links = [link(ETH0, 'eth0', { mac: '02:00:00:00:00:77' as Mac })];
  host.observe();
  assert.deepEqual(announced().sort(), [VIP, VIP6].sort());
  host.advance(5_000);
  host.frames.length = 0;
  host.links = [link(ETH0, 'eth0', { mac: '02:00:00:00:00:77' as Mac, flags: 0x2 })];
  host.observe().advance(1_000);
  assert.deepEqual(announced(), []);
  host.links = [link(ETH0, 'eth0', { mac: '02:00:00:00:00:77' as Mac })];
  host.observe().advance(1_000);
  assert.deepEqual([...new Set(announced())].sort(), [VIP, VIP6].sort());
});

test('an address that the host has no route to itself any more is taken off and added, as one repair', () => {
  for (const ip of [VIP, VIP6]) {
    const host = held(ip);
    host.changeByHand(ip, { hasLostRoute: true });
    assert.deepEqual(
      host.programs.map(({ requests }) => requests.map(({ op }) => op)),
      [['remove'], ['add']],
    );
    host.advance(100);
    assert.deepEqual([host.status(ip), host.holds(ip), host.programs.length], ['held', true, 2]);
    assert.deepEqual(
      repairs(host).map(({ was }) => was),
      ['changed'],
    );
  }
});

test('what an earlier life left is announced once at start, in both families, and many of them at a pace', () => {
  const host = new FakeHost();
  host.putHostAddress(ETH0, '192.0.2.2' as Ip, 16);
  host.putHostAddress(ETH0, '2001:db8::2' as Ip, 64);
  const left = Array.from({ length: 400 }, (_, index) => `192.0.${2 + (index >> 8)}.${index & 255}` as Ip);
  const ips = [...left.filter((ip) => !/\.(0|1|2|255)$/.test(ip)), VIP6 as Ip];
  for (const ip of ips) host.putOwnAddress(ETH0, ip, ip.includes(':') ? 128 : 32, 30);
  host.start();
  assert.ok(host.frames.length > 200 && host.frames.length <= 256, `${host.frames.length} at once`);
  host.want(...ips).advance(10_000);
  const announced = host.frames.map(({ ip }) => ip as string);
  assert.deepEqual([...new Set(announced)].sort(), ips.toSorted());
  for (const ip of ips)
    assert.deepEqual(host.machine.announcements(ip), { announcements: 1, unsentFrames: 0 }, ip);
});

test('with an interval, what is held is announced again and again', () => {
  const host = new FakeHost({ prefix: 'host', lifetimeMs: 30_000, announceIntervalMs: 60_000 });
  host.start().want(VIP).advance(10_000);
  const before = host.machine.announcements(VIP as Ip).announcements;
  host.advance(180_000);
  assert.equal(host.machine.announcements(VIP as Ip).announcements, before + 3);
  host.deliver({ kind: 'settings-changed', settings: { prefix: 'host', lifetimeMs: 30_000 } });
  host.advance(180_000);
  assert.equal(host.machine.announcements(VIP as Ip).announcements, before + 3);
});
