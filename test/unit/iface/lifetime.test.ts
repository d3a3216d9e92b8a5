import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  adoptedRenewal,
  lifetimeFor,
  newlyHeld,
  nextRenewal,
  type RenewalLoad,
  renewalCostMs,
  renewDeadline,
} from '../../../src/iface/lifetime.ts';
import { hasLbdTag } from '../../../src/iface/nic-selection.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { instant, NEVER } from '../../../src/lib/time.ts';
import { ETH0, FakeHost } from '../../support/fake-host.ts';

const VIP = '192.0.2.10';
const TARGET = { ifIndex: ETH0, prefixLength: 32 };

test('a renewal is due at a quarter of the lifetime, and allowed until half of it', () => {
  assert.equal(nextRenewal(instant(1_000), 30_000), 8_500);
  assert.equal(renewDeadline(newlyHeld(TARGET, instant(31_000), instant(1_000))), 16_000);
});

test('what was adopted may be renewed until half of what it has left is over', () => {
  assert.equal(renewDeadline(newlyHeld(TARGET, instant(5_000), instant(1_000))), 3_000);
});

test('what is permanent is never due and may always be renewed', () => {
  assert.equal(nextRenewal(instant(1_000), 0), NEVER);
  assert.equal(renewDeadline(newlyHeld(TARGET, NEVER, instant(1_000))), NEVER);
});

for (const [v4, v6, virtualV6, lifetimeMs] of [
  [1, 0, 0, 30_000],
  [1_000, 0, 0, 30_000],
  [6_000, 0, 0, 30_000],
  [10_000, 0, 0, 60_000],
  [0, 300, 0, 30_000],
  [0, 800, 0, 30_000],
  [0, 1_000, 0, 60_000],
  [0, 3_000, 0, 390_000],
  [0, 10_000, 0, 3_600_000],
  // The kernel looks at virtual ones as well, each time.
  [0, 300, 10_000, 150_000],
] as const) {
  test(`${v4} addresses of v4 and ${v6} of v6, beside ${virtualV6} others, last ${lifetimeMs / 1000} s`, () => {
    const load: RenewalLoad = { v4, v6, v6OfHost: v6 + virtualV6 };
    assert.equal(lifetimeFor(30_000, load), lifetimeMs);
    const share = renewalCostMs(load) / (nextRenewal(instant(0), lifetimeMs) - 0);
    assert.ok(share <= 0.04 || lifetimeMs === 3_600_000, `${share} of a core`);
  });
}

test('a lifetime of its own is kept: one beyond an hour, and none', () => {
  const load = { v4: 0, v6: 10_000, v6OfHost: 10_000 };
  assert.equal(lifetimeFor(86_400_000, load), 86_400_000);
  assert.equal(lifetimeFor(0, load), 0);
});

test('with their number the lifetime of all addresses grows, and shrinks again', () => {
  const host = new FakeHost({ prefix: 'host', lifetimeMs: 2_000 });
  host.putHostAddress(ETH0, '2001:db8::2' as Ip, 64);
  host.start();
  const many = Array.from({ length: 150 }, (_, at) => `192.0.2.${at + 20}`);
  const seconds = () => new Set([...host.kernel.values()].filter(hasLbdTag).map((each) => each.validSeconds));
  // As if a renewal cost the kernel more: 150 of v4 are nothing.
  host.deliver({ kind: 'addresses-changed', present: [], gone: [], v6OfHost: 100_000 });
  host.want(...many).advance(3_000);
  assert.deepEqual(seconds(), new Set([2]));
  const v6 = Array.from({ length: 3 }, (_, at) => `2001:db8::${at + 20}`);
  host.want(...many, ...v6).advance(20_000);
  assert.ok(many.every((ip) => host.holds(ip)));
  assert.deepEqual(seconds(), new Set([14]));
  assert.equal(host.machine.lease.lifetimeMs, 14_000);
  const periods = host.programs.filter(({ requests }) => requests.every(({ op }) => op === 'renew'));
  const [last, before] = [periods.at(-1), periods.at(-2)];
  assert.equal((last?.at ?? 0) - (before?.at ?? 0), 14_000 / 4);
  host.want(...many).advance(20_000);
  assert.deepEqual(seconds(), new Set([2]));
  assert.deepEqual([...new Set(host.reports.map(({ kind }) => kind))], ['held', 'dropped']);
});

test('what an earlier life left is renewed when a quarter of what it has left is over, at once when it is late', () => {
  assert.equal(adoptedRenewal(instant(1_000), instant(25_000), 30_000), 7_000);
  assert.equal(adoptedRenewal(instant(1_000), instant(15_000), 30_000), 1_000);
  assert.equal(adoptedRenewal(instant(1_000), NEVER, 30_000), 1_000);
});

for (const [before, after] of [
  [8_000, 60_000],
  [60_000, 8_000],
  [0, 30_000],
  [30_000, 0],
] as const) {
  test(`a lifetime that changes from ${before} to ${after} ms takes no address off the host`, () => {
    const host = new FakeHost({ prefix: 'host', lifetimeMs: before }).start().want(VIP).advance(3_333);
    host.programs.length = 0;
    host.deliver({ kind: 'settings-changed', settings: { prefix: 'host', lifetimeMs: after } });
    host.advance(100);
    assert.ok(host.programs.every(({ requests }) => requests.every(({ op }) => op === 'renew')));
    assert.ok(host.programs.length > 0);
    assert.deepEqual(
      host.reports.map(({ kind }) => kind),
      ['held'],
    );
    const [kept] = [...host.kernel.values()].filter(hasLbdTag);
    assert.equal(kept?.validSeconds, after === 0 ? Number.POSITIVE_INFINITY : after / 1000);
    host.advance(300_000);
    assert.ok(host.holds(VIP));
  });
}

test('a renewal that was on its way when the lifetime changed counts as what it was', () => {
  const host = new FakeHost({ prefix: 'host', lifetimeMs: 4_000 }).start().want(VIP).advance(500);
  const request = {
    op: 'renew',
    ip: host.programs[0]?.requests[0]?.ip,
    ...TARGET,
    lifetimeMs: 4_000,
  } as const;
  assert.ok(request.ip !== undefined);
  const sentAt = host.now;
  host.machine.step({ kind: 'settings-changed', settings: { prefix: 'host', lifetimeMs: 60_000 } }, host.now);
  const outcomes = [{ ok: true as const, request: { ...request, ip: request.ip } }];
  host.machine.step({ kind: 'programmed', outcomes, sentAt }, host.now);
  const entry = host.machine.entries().get(request.ip);
  assert.ok(entry?.status === 'held');
  assert.equal(entry.validUntil, sentAt + 4_000);
});
