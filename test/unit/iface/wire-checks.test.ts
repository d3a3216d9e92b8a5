import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Entry, MemberName } from '../../../src/election/types.ts';
import { SAMPLES, TAKE_OVER_PROBES } from '../../../src/iface/take-over.ts';
import { COMPARE_MS, INTERRUPTIONS, WIRE_CHECK_MS } from '../../../src/iface/wire-checks.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after } from '../../../src/lib/time.ts';
import { ETH0, FakeHost, NEIGHBOUR } from '../../support/fake-host.ts';

/** After a pause or a cut, what is held is asked for on the wire before it is renewed (design, safety rule 3). */
const VIP = '192.0.2.10';
const RETURN: Entry = { kind: 'return' };

function holding(count: number): FakeHost {
  const host = new FakeHost().start();
  host.grant(RETURN, ...addresses(count)).advance(8_000);
  return host;
}

function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `192.0.2.${10 + index}`);
}

/** The host did not run, and a peer has confirmed its claims. */
function paused(host: FakeHost): FakeHost {
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  host.frames.length = 0;
  host.programs.length = 0;
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: ETH0 });
  return host;
}

function renewed(host: FakeHost): string[] {
  return host.programs.flatMap(({ requests }) =>
    requests.flatMap(({ op, ip }) => (op === 'renew' ? ip : [])),
  );
}

function probed(host: FakeHost): string[] {
  return host.frames.flatMap(({ frame, ip }) => (frame === 'probe' ? ip : []));
}

function hearMember(host: FakeHost, ip: string): void {
  const claim = { ip: ip as Ip, mac: NEIGHBOUR, kind: 'has' } as const;
  host.deliver({ kind: 'claim-heard', ifIndex: ETH0, claim, isMember: true });
}

test('a few addresses are asked for, each several times, and only then are all renewed', () => {
  const host = paused(holding(12));
  host.advance(WIRE_CHECK_MS - 1);
  assert.deepEqual(renewed(host), []);
  assert.equal(probed(host).length, SAMPLES * TAKE_OVER_PROBES);
  assert.equal(new Set(probed(host)).size, SAMPLES);
  host.advance(1);
  assert.equal(renewed(host).length, 12);
  assert.equal(probed(host).length, SAMPLES * TAKE_OVER_PROBES);
});

test('a renewal that is due meanwhile waits as well', () => {
  const host = holding(1);
  const dueAt = host.machine.deadline();
  host.advance(dueAt - 10 - host.now);
  paused(host).advance(WIRE_CHECK_MS - 1);
  assert.ok(host.now > dueAt);
  assert.deepEqual(renewed(host), []);
  host.advance(1);
  assert.deepEqual(renewed(host), [VIP]);
});

test('each time others are asked for', () => {
  const host = holding(12);
  const asked = new Set<string>();
  for (let pause = 0; pause < 4; pause++) {
    paused(host).advance(1_000);
    for (const ip of probed(host)) asked.add(ip);
  }
  assert.equal(asked.size, 12);
});

test('a request that waits for the kernel is not meant before the wire was asked', () => {
  const host = holding(1);
  const request = {
    op: 'renew',
    ip: VIP as Ip,
    ifIndex: ETH0,
    prefixLength: 32,
    lifetimeMs: 30_000,
  } as const;
  paused(host).advance(WIRE_CHECK_MS - 1);
  assert.equal(host.machine.isMeant(request), false);
  host.advance(1);
  assert.equal(host.machine.isMeant(request), true);
});

test('nothing is announced either before the wire was asked', () => {
  const host = holding(1);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  host.deliver({ kind: 'announce', ips: [VIP as Ip] });
  paused(host).advance(WIRE_CHECK_MS - 1);
  host.deliver({ kind: 'announce', ips: [VIP as Ip] });
  const announced = () => host.frames.filter(({ frame }) => frame === 'announce').length;
  assert.equal(announced(), 0);
  host.advance(1);
  assert.equal(announced(), 1);
});

test('a member that answers: all are asked for, and nothing is renewed before the epochs can have been compared', () => {
  const host = paused(holding(12));
  host.advance(20);
  const [first = VIP] = probed(host);
  hearMember(host, first);
  assert.ok(host.reports.some((report) => report.kind === 'rival-heard' && report.ip === first));
  host.advance(COMPARE_MS - 1);
  assert.equal(new Set(probed(host)).size, 12);
  assert.deepEqual(renewed(host), []);
  // Its epoch is the higher one.
  host.deliver({ kind: 'withdraw', ips: [first as Ip] });
  host.advance(1);
  assert.deepEqual(
    renewed(host).sort(),
    addresses(12)
      .filter((ip) => ip !== first)
      .sort(),
  );
  assert.equal(host.holds(first), false);
});

test('a member that goes on answering costs no address whose epoch is the higher one', () => {
  const host = paused(holding(3));
  for (let heardMs = 0; heardMs < 1_000; heardMs += 50) {
    hearMember(host, VIP);
    host.advance(50);
  }
  assert.equal(new Set(renewed(host)).size, 3);
});

test('a machine that is no member is defended against, and the address is renewed', () => {
  const host = holding(1);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  paused(host).advance(WIRE_CHECK_MS);
  assert.deepEqual(renewed(host), [VIP]);
  assert.equal(host.frames.filter(({ frame }) => frame === 'announce').length, 1);
});

test('of thousands no more is asked for at once than a NIC may send', () => {
  const host = new FakeHost();
  host.putHostAddress(ETH0, '10.0.0.2' as Ip, 16);
  host.start();
  const ips = Array.from({ length: 2_000 }, (_, index) => `10.0.${1 + (index >> 8)}.${index & 255}`);
  host.grant(RETURN, ...ips).advance(8_000);
  paused(host).advance(5);
  hearMember(host, ips[0] ?? VIP);
  host.advance(1_000);
  assert.equal(new Set(probed(host)).size, ips.length);
  for (const { at } of host.frames) {
    const within = host.frames.filter((frame) => frame.at >= at && frame.at < at + 100).length;
    assert.ok(within <= 256 + 500 + 5, `${within} within 100 ms`);
  }
  assert.equal(new Set(renewed(host)).size, ips.length);
});

test('a host that stops over and over is content with a short question in the end, and renews', () => {
  const host = holding(3);
  for (let pause = 0; pause < INTERRUPTIONS; pause++) {
    paused(host).advance(20);
    assert.deepEqual(renewed(host), [], `${pause}`);
  }
  paused(host).advance(20);
  assert.equal(new Set(renewed(host)).size, 3);
  assert.equal(probed(host).length, 3);
  paused(host).advance(20);
  assert.deepEqual(renewed(host), [], 'the next one is a whole one');
});

test('frames that do not leave are sent again, but a NIC that takes none keeps nothing from being renewed', () => {
  const host = holding(1);
  host.sends = false;
  paused(host).advance(WIRE_CHECK_MS);
  assert.deepEqual(renewed(host), []);
  host.advance(500);
  assert.deepEqual(renewed(host), [VIP]);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: ETH0 });
  host.programs.length = 0;
  host.deliver({ kind: 'renewals', allowed: true, ifIndex: ETH0 });
  host.sends = true;
  host.frames.length = 0;
  host.advance(200);
  assert.equal(probed(host).length, TAKE_OVER_PROBES);
  assert.deepEqual(renewed(host), [VIP]);
});

test('what is taken meanwhile waits for its own questions only', () => {
  const host = holding(3);
  paused(host);
  const handOver: Entry = { kind: 'hand-over', from: 'h2' as MemberName, until: after(host.now, 300) };
  host.grant(handOver, ...addresses(4));
  assert.equal(host.holds('192.0.2.13'), true);
  assert.equal(host.frames.filter(({ frame, ip }) => frame === 'announce' && ip === '192.0.2.13').length, 1);
  assert.deepEqual(renewed(host), []);
});
