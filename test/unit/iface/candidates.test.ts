import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Candidates } from '../../../src/iface/candidates.ts';
import { wireVerdict } from '../../../src/iface/local-status.ts';
import type { NicSelection } from '../../../src/iface/nic-selection.ts';
import { CONFLICT_RETRY_MS, Probing } from '../../../src/iface/probing.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { after, instant, NEVER } from '../../../src/lib/time.ts';
import { defaultRoute, ETH0, ETH1, FakeHost, link, NEIGHBOUR } from '../../support/fake-host.ts';

const X = '192.0.2.10' as Ip;
const Y = '192.0.2.11' as Ip;
const T0 = instant(1_000);
const NOBODY = () => false;

const ON_ETH0: NicSelection = {
  kind: 'nic',
  nic: { ifIndex: ETH0, name: 'eth0', mac: NEIGHBOUR, up: true, subnets: [] },
  subnet: { network: '192.0.2.0' as Ip, length: 24 },
};

function setUp(select: (ip: Ip) => NicSelection = () => ON_ETH0) {
  const probing = new Probing();
  return { probing, candidates: new Candidates(probing, select) };
}

test('candidates are asked about at once, and again when their silence gets old', () => {
  const { probing, candidates } = setUp();
  candidates.replace([X]);
  assert.ok(candidates.deadline() <= T0);
  candidates.advance(T0, NOBODY);
  assert.equal(probing.isAsking(X), true);
  probing.forget(X);
  probing.trust(X, ETH0, T0);
  candidates.look(T0);
  candidates.advance(T0, NOBODY);
  assert.equal(candidates.deadline(), probing.dueAt(X));
  candidates.advance(after(probing.dueAt(X), -1), NOBODY);
  assert.equal(probing.isAsking(X), false);
  candidates.advance(probing.dueAt(X), NOBODY);
  assert.equal(probing.isAsking(X), true);
});

test('an address that is on its way to be held is none of theirs', () => {
  const { probing, candidates } = setUp();
  candidates.replace([X, Y]);
  candidates.advance(T0, (ip) => ip === X);
  assert.deepEqual([probing.isAsking(X), probing.isAsking(Y)], [false, true]);
});

test('what belongs on no NIC is not asked about, until the host changes', () => {
  let selection: NicSelection = { kind: 'none', reason: 'eth0 is down' };
  const { probing, candidates } = setUp(() => selection);
  candidates.replace([X]);
  candidates.advance(T0, NOBODY);
  assert.equal(candidates.deadline(), NEVER);
  selection = ON_ETH0;
  candidates.look(T0);
  candidates.advance(T0, NOBODY);
  assert.equal(probing.isAsking(X), true);
});

test('an address that somebody answered for is asked again although nobody wants it, until it is free', () => {
  const { probing, candidates } = setUp();
  candidates.replace([X]);
  candidates.advance(T0, NOBODY);
  probing.heard(X, NEIGHBOUR, T0);
  candidates.replace([]);
  candidates.advance(T0, NOBODY);
  assert.equal(candidates.has(X), false);
  assert.equal(candidates.deadline(), after(T0, CONFLICT_RETRY_MS));
  candidates.advance(after(T0, CONFLICT_RETRY_MS), NOBODY);
  assert.equal(probing.isAsking(X), true);
  probing.forget(X);
  candidates.look(T0);
  candidates.advance(T0, NOBODY);
  assert.equal(candidates.deadline(), NEVER);
});

test('the silence of a wire that was unplugged is not believed: the address is probed before it is taken', () => {
  const host = new FakeHost().start().plan([], [X]).advance(200);
  assert.equal(wireVerdict(host.machine, X, host.now).kind, 'usable');
  host.links = [link(ETH0, 'eth0', { flags: 0x3 })];
  host.observe().advance(10_000);
  host.links = [link(ETH0, 'eth0')];
  // Somebody took it while nothing was heard here.
  host.neighbours.set(X, NEIGHBOUR);
  host.observe();
  assert.equal(wireVerdict(host.machine, X, host.now).kind, 'blocked');
  host.want(X).advance(1_000);
  assert.equal(host.status(X), 'conflict');
  assert.equal(host.holds(X), false);
});

test('the silence of one wire says nothing of another: an address that moves to another NIC is probed there', () => {
  const host = new FakeHost();
  host.links = [link(ETH0, 'eth0'), link(ETH1, 'eth1')];
  host.putHostAddress(ETH1, '192.0.2.3' as Ip, 24);
  host.start().plan([], [X]).advance(200);
  assert.equal(wireVerdict(host.machine, X, host.now).kind, 'usable');
  host.frames.length = 0;
  host.routes = [defaultRoute(ETH1, '192.0.2.1' as Ip)];
  host.observe().want(X);
  assert.equal(host.status(X), 'probing');
  host.advance(200);
  assert.deepEqual(host.frames.filter(({ frame }) => frame === 'probe').length, 3);
  assert.equal(host.status(X), 'held');
});

test('a change of the host that leaves an address where it is keeps what the wire said', () => {
  const host = new FakeHost().start().plan([], [X]).advance(200);
  host.links = [link(ETH0, 'lan0')];
  host.observe();
  assert.equal(wireVerdict(host.machine, X, host.now).kind, 'usable');
  host.want(X);
  assert.equal(host.status(X), 'held');
});
