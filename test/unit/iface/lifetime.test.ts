import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newlyHeld, nextRenewal, renewDeadline } from '../../../src/iface/lifetime.ts';
import { hasLbdTag } from '../../../src/iface/nic-selection.ts';
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
