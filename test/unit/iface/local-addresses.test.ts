import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ANNOUNCE_AT_MS } from '../../../src/iface/announcing.ts';
import { SUBNET_GRACE_MS } from '../../../src/iface/local-addresses.ts';
import { addressStatuses, wireVerdict } from '../../../src/iface/local-status.ts';
import { hasLbdTag } from '../../../src/iface/nic-selection.ts';
import { CONFLICT_RETRY_MS } from '../../../src/iface/probing.ts';
import { DEFEND_INTERVAL_MS, MEMBER_SHOWN_MS } from '../../../src/iface/rivals.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { defaultRoute, ETH0, ETH1, FakeHost, link, NEIGHBOUR } from '../../support/fake-host.ts';

const VIP = '192.0.2.10';

function held(...ips: readonly string[]): FakeHost {
  const host = new FakeHost()
    .start()
    .want(...ips)
    .advance(500);
  for (const ip of ips) assert.equal(host.status(ip), 'held');
  return host;
}

test('an address is probed three times before it is added, then announced', () => {
  const host = new FakeHost().start().want(VIP);
  assert.equal(host.status(VIP), 'probing');
  host.advance(149);
  assert.equal(host.holds(VIP), false);
  host.advance(1);
  assert.equal(host.holds(VIP), true);
  const kinds = host.frames.map(({ frame }) => frame);
  assert.deepEqual(kinds, ['probe', 'probe', 'probe', 'announce']);
  host.advance(4_000);
  assert.deepEqual(host.machine.announcements(VIP as Ip), { announcements: 5, unsentFrames: 0 });
});

test('silence means nothing while the NIC takes no probes', () => {
  const host = new FakeHost().start();
  host.sends = false;
  host.want(VIP).advance(10_000);
  assert.equal(host.status(VIP), 'probing');
  assert.deepEqual(host.frames, []);
  host.sends = true;
  host.advance(100);
  assert.equal(host.holds(VIP), false);
  host.advance(100);
  assert.equal(host.holds(VIP), true);
  assert.deepEqual(
    host.frames.map(({ frame }) => frame),
    ['probe', 'probe', 'probe', 'announce'],
  );
});

test('a candidate that was probed ahead is added at once', () => {
  const host = new FakeHost().start().plan([], [VIP]).advance(200);
  assert.equal(host.evidenceChanges, 1);
  assert.deepEqual(wireVerdict(host.machine, VIP as Ip, host.now), { kind: 'usable' });
  host.want(VIP);
  assert.equal(host.status(VIP), 'held');
});

test('the evidence on a candidate never goes stale', () => {
  const host = new FakeHost().start().plan([], [VIP]).advance(200);
  for (let second = 0; second < 300; second++) {
    host.advance(1_000);
    assert.deepEqual(wireVerdict(host.machine, VIP as Ip, host.now), { kind: 'usable' });
  }
  assert.ok(host.frames.length < 40, `${host.frames.length} probes in five minutes`);
});

test('an address that a neighbour answers for is a conflict until the neighbour is gone', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.want(VIP).advance(1_000);
  assert.equal(host.status(VIP), 'conflict');
  assert.equal(host.holds(VIP), false);
  assert.match(addressStatuses(host.machine, host.now)[0]?.reason ?? '', new RegExp(NEIGHBOUR));
  host.advance(CONFLICT_RETRY_MS * 2);
  assert.equal(host.reports.filter((report) => report.kind === 'conflict').length, 1);
  host.neighbours.delete(VIP as Ip);
  host.advance(CONFLICT_RETRY_MS + 1_000);
  assert.equal(host.status(VIP), 'held');
});

test('a candidate that a neighbour answers for is blocked, asked again and freed', () => {
  const host = new FakeHost().start();
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.plan([], [VIP]).advance(200);
  assert.equal(wireVerdict(host.machine, VIP as Ip, host.now).kind, 'blocked');
  host.plan([], ['192.0.2.11']).advance(CONFLICT_RETRY_MS - 1_000);
  assert.equal(wireVerdict(host.machine, VIP as Ip, host.now).kind, 'blocked');
  host.neighbours.delete(VIP as Ip);
  host.advance(2_000);
  assert.equal(wireVerdict(host.machine, VIP as Ip, host.now).kind, 'usable');
});

test('lifetimes are renewed at a quarter, all addresses in one batch', () => {
  const host = held(VIP, '192.0.2.11', '192.0.2.12');
  host.programs.length = 0;
  host.advance(60_000);
  assert.equal(host.programs.length, 8);
  for (const { requests } of host.programs) {
    assert.deepEqual(
      requests.map(({ op }) => op),
      ['renew', 'renew', 'renew'],
    );
  }
  assert.ok(host.holds(VIP));
});

test('a renewal after more than half the lifetime is not made: the wire is asked first', () => {
  const host = held(VIP);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.pause(16_000).advance(1_000);
  assert.equal(host.status(VIP), 'conflict');
  assert.equal(host.holds(VIP), false);
});

test('a pause beyond the lifetime never revives the address before the wire is silent', () => {
  const host = held(VIP);
  host.frames.length = 0;
  host.pause(40_000);
  assert.equal(host.holds(VIP), false);
  host.advance(149);
  assert.equal(host.holds(VIP), false);
  host.advance(1);
  assert.equal(host.holds(VIP), true);
  assert.deepEqual(
    host.frames.map(({ frame }) => frame),
    ['probe', 'probe', 'probe', 'announce'],
  );
});

test('an address removed by hand is back at once and announced', () => {
  const host = held(VIP);
  host.removeByHand(VIP);
  assert.equal(host.holds(VIP), true);
  assert.ok(host.reports.some((report) => report.kind === 'repaired'));
});

test('two programs at war over an address do not spin', () => {
  const host = held(VIP);
  host.programs.length = 0;
  for (let round = 0; round < 100; round++) {
    host.advance(1);
    if (host.holds(VIP)) host.removeByHand(VIP);
  }
  assert.ok(host.programs.length <= 4, `${host.programs.length} programs in 100 ms`);
});

test('an address of the host itself, of the gateway and of the subnet are never taken', () => {
  const host = new FakeHost().start();
  host.want('192.0.2.2', '192.0.2.1', '192.0.2.0', '192.0.2.255').advance(1_000);
  assert.deepEqual(
    addressStatuses(host.machine, host.now).map(({ state }) => state),
    ['foreign', 'foreign', 'foreign', 'foreign'],
  );
  assert.equal(host.programs.length, 0);
  assert.equal(host.frames.length, 0);
});

test('an address that somebody else put on the NIC is left alone, and stays when it is wanted no more', () => {
  const host = new FakeHost().start();
  host.putHostAddress(ETH0, VIP as Ip, 32);
  host.observe().want(VIP).advance(1_000);
  assert.equal(host.status(VIP), 'waiting');
  host.want();
  assert.equal([...host.kernel.values()].filter((address) => address.ip === VIP).length, 1);
  assert.equal(host.programs.length, 0);
});

test('EEXIST from the kernel is not answered by removing what is there', () => {
  const host = new FakeHost().start();
  host.want(VIP).advance(149);
  // Put there between our view of the host and our request.
  host.putHostAddress(ETH0, VIP as Ip, 32);
  host.advance(1);
  assert.equal(host.status(VIP), 'waiting');
  host.want();
  assert.ok([...host.kernel.values()].some((address) => address.ip === VIP));
});

test('no NIC has the subnet: said so, put nowhere', () => {
  const host = new FakeHost().start().want('198.51.100.7').advance(1_000);
  const [status] = addressStatuses(host.machine, host.now);
  assert.equal(status?.state, 'no-interface');
  assert.match(
    status?.reason ?? '',
    /no NIC of this host has a subnet that holds 198\.51\.100\.7 \(looked at eth0\)/,
  );
});

test('a NIC that has the subnet but is not selected is named', () => {
  const host = new FakeHost();
  host.links = [link(ETH0, 'eth0'), link(ETH1, 'eth1')];
  host.putHostAddress(ETH1, '198.51.100.1' as Ip, 24);
  host.start().want('198.51.100.7');
  assert.match(
    addressStatuses(host.machine, host.now)[0]?.reason ?? '',
    /add "eth1" to \[local\] interfaces/,
  );
  host.patterns = ['eth*'];
  host.observe().advance(200);
  assert.equal(host.status('198.51.100.7'), 'held');
});

test('a link that goes down lets go of its addresses; up again they are probed and announced', () => {
  const host = held(VIP);
  host.links = [link(ETH0, 'eth0', { flags: 0x2 })];
  host.observe();
  assert.equal(host.holds(VIP), false);
  assert.equal(addressStatuses(host.machine, host.now)[0]?.state, 'no-interface');
  host.links = [link(ETH0, 'eth0')];
  host.observe().advance(200);
  assert.equal(host.holds(VIP), true);
});

test('a renamed NIC keeps its addresses', () => {
  const host = held(VIP);
  host.programs.length = 0;
  host.links = [link(ETH0, 'lan0')];
  host.observe().advance(1_000);
  assert.ok(host.holds(VIP));
  assert.equal(host.programs.length, 0);
  assert.equal(addressStatuses(host.machine, host.now)[0]?.interface, 'lan0');
});

test('a NIC removed and added again under another index gets its addresses back', () => {
  const host = held(VIP);
  const gone = [...host.kernel.values()].filter(hasLbdTag);
  host.kernel.clear();
  host.links = [];
  host.routes = [];
  host.deliver({ kind: 'addresses-changed', present: [], gone });
  host.observe().advance(10);
  assert.equal(host.status(VIP), 'waiting');
  host.links = [link(ETH1, 'eth0')];
  host.putHostAddress(ETH1, '192.0.2.2' as Ip, 24);
  host.observe().advance(200);
  assert.equal(host.status(VIP), 'held');
});

test('the host loses its own subnet for a moment: the address stays', () => {
  const host = held(VIP);
  host.programs.length = 0;
  host.removeByHand('192.0.2.2');
  host.advance(SUBNET_GRACE_MS - 1_000);
  assert.ok(host.holds(VIP));
  host.putHostAddress(ETH0, '192.0.2.2' as Ip, 24);
  host.observe().advance(10_000);
  assert.ok(host.holds(VIP));
  assert.ok(host.programs.every(({ requests }) => requests.every(({ op }) => op === 'renew')));
});

test('the host loses its own subnet for good: the address goes', () => {
  const host = held(VIP);
  host.removeByHand('192.0.2.2');
  host.advance(SUBNET_GRACE_MS + 100);
  assert.equal(host.holds(VIP), false);
});

test('adoption: what is ours in the kernel at start is held without a gap or a probe', () => {
  const host = new FakeHost();
  host.putOwnAddress(ETH0, VIP as Ip, 32, 20);
  host.start();
  assert.equal(host.status(VIP), 'held');
  host.want(VIP).advance(60_000);
  assert.ok(host.holds(VIP));
  assert.ok(host.frames.every(({ frame }) => frame === 'announce'));
  assert.ok(host.programs.every(({ requests }) => requests.every(({ op }) => op === 'renew')));
});

test('until Services are known what is ours is kept alive; then what nobody wants goes', () => {
  const host = new FakeHost();
  host.putOwnAddress(ETH0, VIP as Ip, 32, 20);
  host.putOwnAddress(ETH0, '192.0.2.11' as Ip, 32, 20);
  host.putOwnAddress(ETH0, '192.0.2.12' as Ip, 24, 20);
  host.start().advance(60_000);
  assert.ok(host.holds(VIP));
  host.want(VIP).advance(10);
  assert.ok(host.holds(VIP));
  assert.equal(host.holds('192.0.2.11'), false);
  assert.equal(host.holds('192.0.2.12'), false);
});

test('an address wanted no more is removed, also when it is on its way to the kernel', () => {
  const host = held(VIP);
  host.want();
  assert.equal(host.holds(VIP), false);
  assert.equal(host.status(VIP), undefined);
});

test('an address given back is taken again without asking the wire, unless somebody claimed it meanwhile', () => {
  const host = held(VIP);
  host.want().frames.length = 0;
  host.want(VIP);
  assert.equal(host.status(VIP), 'held');
  assert.ok(host.frames.every(({ frame }) => frame === 'announce'));
  host.hear(VIP, NEIGHBOUR);
  host.want().want(VIP);
  assert.equal(host.status(VIP), 'probing');
});

test('a kernel that refuses is asked again with growing pauses, and its words are shown', () => {
  const host = new FakeHost().start();
  host.refusals.set(VIP as Ip, { errno: 'EPERM', message: 'RTM_NEWADDR: EPERM' });
  host.want(VIP).advance(60_000);
  assert.equal(host.status(VIP), 'failed');
  assert.ok(host.programs.length >= 4 && host.programs.length <= 8, `${host.programs.length} attempts`);
  host.refusals.clear();
  host.advance(31_000);
  assert.equal(host.status(VIP), 'held');
});

test('a foreign claim on a held address is defended once per ten seconds and shown', () => {
  const host = held(VIP);
  host.advance(5_000);
  host.frames.length = 0;
  for (let second = 0; second < 30; second++) {
    host.hear(VIP, NEIGHBOUR);
    host.advance(1_000);
  }
  assert.equal(host.frames.length, 30_000 / DEFEND_INTERVAL_MS);
  assert.equal(host.reports.filter((report) => report.kind === 'rival-heard').length, 1);
  assert.equal(addressStatuses(host.machine, host.now)[0]?.state, 'conflict');
  assert.ok(host.holds(VIP));
});

test("a member's claim on a held address is reported and not defended, and ends the announcements under way", () => {
  const host = held(VIP);
  host.advance(50);
  host.frames.length = 0;
  // As in a hand-over: its new owner announces it while this host still has it.
  const claim = { ip: VIP as Ip, mac: NEIGHBOUR, kind: 'has' } as const;
  host.deliver({ kind: 'claim-heard', ifIndex: ETH0, claim, isMember: true });
  host.advance(20_000);
  assert.deepEqual(host.frames, []);
  assert.equal(host.reports.filter((report) => report.kind === 'rival-heard').length, 1);
  assert.ok(host.holds(VIP));
  host.deliver({ kind: 'announce', ips: [VIP as Ip] });
  host.advance(4_000);
  assert.equal(host.frames.length, ANNOUNCE_AT_MS.length);
});

test("a member's claim is reported though nothing may be renewed, and again while it goes on", () => {
  const host = held(VIP);
  host.advance(5_000);
  host.deliver({ kind: 'renewals', allowed: false, ifIndex: undefined });
  const claim = { ip: VIP as Ip, mac: NEIGHBOUR, kind: 'has' } as const;
  for (const pauseMs of [0, 20, 230, 750]) {
    host.advance(pauseMs);
    host.deliver({ kind: 'claim-heard', ifIndex: ETH0, claim, isMember: true });
  }
  assert.equal(host.reports.filter((report) => report.kind === 'rival-heard').length, 3);
});

test("a member's claim leaves the address held; only one that goes on is shown, as long as it does", () => {
  const host = held(VIP);
  const claim = { ip: VIP as Ip, mac: NEIGHBOUR, kind: 'has' } as const;
  const hear = () => host.deliver({ kind: 'claim-heard', ifIndex: ETH0, claim, isMember: true });
  const shown = () => addressStatuses(host.machine, host.now)[0];
  hear();
  host.advance(10);
  assert.deepEqual([shown()?.state, shown()?.disputed], ['held', undefined]);
  for (let count = 0; count < 30; count++) {
    host.advance(100);
    hear();
  }
  assert.equal(shown()?.state, 'held');
  assert.match(shown()?.disputed ?? '', new RegExp(`^${NEIGHBOUR} answers for it too, for 3\\.0 s: `));
  host.advance(MEMBER_SHOWN_MS + 1);
  assert.deepEqual([shown()?.state, shown()?.disputed, shown()?.reason], ['held', undefined, undefined]);
});

test('stopping removes everything that is ours and nothing else', () => {
  const host = held(VIP, '192.0.2.11');
  host.deliver({ kind: 'stopped' });
  assert.deepEqual(
    [...host.kernel.values()].map(({ ip }) => ip),
    ['192.0.2.2'],
  );
  host.advance(100_000);
  assert.equal(host.kernel.size, 1);
});

test('a lifetime of 0 is permanent and never renewed', () => {
  const host = new FakeHost({ prefix: 'host', lifetimeMs: 0 }).start().want(VIP).advance(200);
  host.programs.length = 0;
  host.advance(3_600_000);
  assert.equal(host.programs.length, 0);
  assert.ok(host.holds(VIP));
});

test('changed settings apply to what is held: prefix and lifetime', () => {
  const host = held(VIP);
  host.deliver({ kind: 'settings-changed', settings: { prefix: 'subnet', lifetimeMs: 8_000 } });
  host.advance(1_000);
  const ours = [...host.kernel.values()].filter(hasLbdTag);
  assert.deepEqual(
    ours.map(({ prefixLength, validSeconds }) => [prefixLength, validSeconds]),
    [[24, 8]],
  );
});

test('1,500 addresses at once are probed within the frame budget', () => {
  const ips = Array.from({ length: 1_500 }, (_, index) => `10.0.${16 + (index >> 8)}.${index & 255}`);
  const host = new FakeHost();
  host.putHostAddress(ETH0, '10.0.0.1' as Ip, 16);
  host
    .start()
    .want(...ips)
    .advance(20_000);
  assert.equal(ips.filter((ip) => host.holds(ip)).length, 1_500);
  for (let from = 0; from < host.frames.length; from++) {
    const first = host.frames[from];
    const last = host.frames[from + 1_600];
    if (first === undefined || last === undefined) break;
    assert.ok(last.at - first.at > 100, 'more than 1,600 frames within 100 ms');
  }
});

test('a first add that was frozen on its way asks the wire again', () => {
  const host = new FakeHost().start().plan([], [VIP]).advance(200);
  host.freezeMs = 10_000;
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.want(VIP);
  assert.equal(host.holds(VIP), false);
  host.advance(1_000);
  assert.equal(host.status(VIP), 'conflict');
});

test('a repair that was frozen beyond half the lifetime asks the wire again', () => {
  const host = held(VIP);
  host.neighbours.set(VIP as Ip, NEIGHBOUR);
  host.freezeMs = 20_000;
  host.removeByHand(VIP);
  assert.equal(host.holds(VIP), false);
  host.advance(1_000);
  assert.equal(host.status(VIP), 'conflict');
});

for (const failures of [1, 2, 5]) {
  test(`${failures} failed renewals in a row cost nothing`, () => {
    const host = held(VIP);
    host.advance(7_000);
    host.refusals.set(VIP as Ip, { errno: 'ENOBUFS', message: 'no buffer space' });
    let seen = host.programs.length;
    while (host.programs.length < seen + failures) host.advance(10);
    assert.equal(addressStatuses(host.machine, host.now)[0]?.reason, 'no buffer space');
    host.refusals.clear();
    host.advance(2_000);
    assert.equal(addressStatuses(host.machine, host.now)[0]?.reason, undefined);
    seen = host.programs.length;
    host.advance(60_000);
    assert.ok(host.holds(VIP));
    assert.ok(host.programs.length - seen <= 9, 'it goes on being renewed at a quarter');
    assert.equal(host.reports.filter((report) => report.kind === 'renew-failed').length, 1);
    assert.equal(host.reports.filter((report) => report.kind === 'lost').length, 0);
  });
}

test('a repair that the kernel refuses is tried again, also of a permanent address', () => {
  const host = new FakeHost({ prefix: 'host', lifetimeMs: 0 }).start().want(VIP).advance(200);
  host.refusals.set(VIP as Ip, { errno: 'ENOMEM', message: 'no memory' });
  host.removeByHand(VIP);
  host.advance(1_000);
  assert.equal(host.holds(VIP), false);
  host.refusals.clear();
  host.advance(1_000);
  assert.equal(host.holds(VIP), true);
});

test('a segment full of liars fills no log', () => {
  const host = held(VIP);
  for (let liar = 0; liar < 1_000; liar++) {
    const mac = `02:00:00:00:${(liar >> 8).toString(16).padStart(2, '0')}:${(liar & 255).toString(16).padStart(2, '0')}`;
    host.hear(VIP, mac as typeof NEIGHBOUR);
    host.advance(20);
  }
  const reports = host.reports.filter((report) => report.kind === 'rival-heard').length;
  assert.ok(reports >= 2 && reports <= 3, `${reports} reports in 20 s`);
});

test('a NIC that goes in steps is reported once for each address', () => {
  const host = held(VIP);
  host.links = [link(ETH0, 'eth0', { flags: 0x2 })];
  host.observe();
  host.links = [];
  host.routes = [];
  host.observe();
  assert.equal(host.reports.filter((report) => report.kind === 'waiting').length, 1);
  assert.match(addressStatuses(host.machine, host.now)[0]?.reason ?? '', /no usable NIC/);
});

test('of two NICs in one subnet, the one that comes back takes nothing from the one that works', () => {
  const host = new FakeHost();
  host.links = [link(ETH0, 'eth0'), link(ETH1, 'eth1')];
  host.patterns = ['eth*'];
  host.putHostAddress(ETH1, '192.0.2.3' as Ip, 24);
  host.start().want(VIP).advance(500);
  host.links = [link(ETH0, 'eth0', { flags: 0x2 }), link(ETH1, 'eth1')];
  host.observe().advance(500);
  assert.ok(host.kernel.has(`${ETH1} ${VIP}/32`));
  host.programs.length = 0;
  host.links = [link(ETH0, 'eth0'), link(ETH1, 'eth1')];
  host.observe().advance(500);
  assert.ok(host.kernel.has(`${ETH1} ${VIP}/32`));
  assert.equal(host.programs.length, 0);
});

test('a claim heard on another NIC than the address is on concerns nobody', () => {
  const host = held(VIP);
  assert.equal(host.machine.isInterestedIn(VIP as Ip, ETH0), true);
  assert.equal(host.machine.isInterestedIn(VIP as Ip, ETH1), false);
});

test('a default route into a tunnel leaves the choice to the NICs', () => {
  const host = held(VIP);
  host.routes = [{ ...defaultRoute(ETH1, '198.51.100.1' as Ip), gateway: undefined }];
  host.observe().advance(10_000);
  assert.ok(host.holds(VIP));
});

test('a v6 subnet known only by its on-link route holds addresses', () => {
  const host = new FakeHost();
  host.putHostAddress(ETH0, '2001:db8::2' as Ip, 128);
  host.routes = [
    ...host.routes,
    { ...defaultRoute(ETH0, 'fe80::1' as Ip) },
    {
      ...defaultRoute(ETH0, 'fe80::1' as Ip),
      destination: { network: '2001:db8::' as Ip, length: 64 },
      gateway: undefined,
    },
  ];
  host.start().want('2001:db8::10').advance(500);
  assert.equal(host.status('2001:db8::10'), 'held');
});

test('property: whatever happens, lbd holds only what is wanted, only after silence, and touches nothing else', () => {
  const ips = ['192.0.2.10', '192.0.2.11', '192.0.2.12'];
  const action = fc.oneof(
    fc.record({ kind: fc.constant('want' as const), ips: fc.subarray(ips) }),
    fc.record({ kind: fc.constant('advance' as const), ms: fc.integer({ min: 0, max: 20_000 }) }),
    fc.record({ kind: fc.constant('pause' as const), ms: fc.integer({ min: 0, max: 60_000 }) }),
    fc.record({ kind: fc.constant('remove' as const), ip: fc.constantFrom(...ips) }),
    fc.record({ kind: fc.constant('neighbour' as const), ip: fc.constantFrom(...ips), there: fc.boolean() }),
    fc.record({ kind: fc.constant('link' as const), up: fc.boolean() }),
    fc.record({ kind: fc.constant('refuse' as const), ip: fc.constantFrom(...ips), refuse: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const host = new FakeHost().start().want();
      let wanted: readonly string[] = [];
      /** A removal that was refused is asked for again after at most half a minute. */
      const goneBy = new Map<string, number>();
      for (const step of actions) {
        if (step.kind === 'want') {
          wanted = step.ips;
          host.want(...wanted);
        } else if (step.kind === 'advance') host.advance(step.ms);
        else if (step.kind === 'pause') host.pause(step.ms);
        else if (step.kind === 'remove') host.removeByHand(step.ip);
        else if (step.kind === 'link') {
          host.links = [link(ETH0, 'eth0', step.up ? {} : { flags: 0x2 })];
          host.observe();
        } else if (step.kind === 'refuse' && step.refuse) {
          host.refusals.set(step.ip as Ip, { errno: 'ENOBUFS', message: 'no memory' });
        } else if (step.kind === 'refuse') {
          if (host.refusals.delete(step.ip as Ip)) goneBy.set(step.ip, host.now + 30_000);
        } else if (step.there) host.neighbours.set(step.ip as Ip, NEIGHBOUR);
        else host.neighbours.delete(step.ip as Ip);
        for (const address of host.kernel.values()) {
          if (!hasLbdTag(address)) continue;
          assert.ok(
            wanted.includes(address.ip) ||
              host.refusals.has(address.ip) ||
              host.now < (goneBy.get(address.ip) ?? 0),
            `${address.ip} is not wanted`,
          );
        }
        assert.ok(host.kernel.has(`${ETH0} 192.0.2.2/24`));
      }
      host.refusals.clear();
      host.neighbours.clear();
      host.links = [link(ETH0, 'eth0')];
      host.observe().advance(3 * CONFLICT_RETRY_MS);
      const ours = [...host.kernel.values()].filter(hasLbdTag).map(({ ip }) => ip as string);
      assert.deepEqual(ours.sort(), [...wanted].sort());
    }),
    { numRuns: 300 },
  );
});

test('a removal that the kernel refuses is asked for again, less and less often', () => {
  const host = held(VIP);
  host.refusals.set(VIP as Ip, { errno: 'ENOBUFS', message: 'no buffer space' });
  host.want();
  host.advance(6_000);
  assert.ok(host.holds(VIP));
  assert.equal(host.reports.filter(({ kind }) => kind === 'remove-failed').length, 3);
  host.refusals.clear();
  host.advance(4_000);
  assert.equal(host.holds(VIP), false);
});

test('what is wanted again before its removal is asked for again stays', () => {
  const host = held(VIP);
  host.refusals.set(VIP as Ip, { errno: 'ENOBUFS', message: 'no buffer space' });
  host.want();
  host.refusals.clear();
  host.want(VIP);
  host.advance(10_000);
  assert.ok(host.holds(VIP));
  assert.equal(host.status(VIP), 'held');
});

test('the answer to a renewal that comes after the address was to be removed brings nothing back', () => {
  const host = held(VIP);
  const [ip, ifIndex] = [VIP as Ip, ETH0];
  const removed = host.machine.step({ kind: 'withdraw', ips: [ip] }, host.now);
  assert.ok(removed.some((effect) => effect.kind === 'program' && effect.requests[0]?.op === 'remove'));
  const request = { op: 'renew', ip, ifIndex, prefixLength: 32, lifetimeMs: 30_000 } as const;
  host.machine.step({ kind: 'programmed', outcomes: [{ ok: true, request }], sentAt: host.now }, host.now);
  const addresses = [{ ip, services: [], entry: { kind: 'return' } as const }];
  host.machine.step({ kind: 'desired-changed', addresses, candidates: [] }, host.now);
  assert.equal(host.machine.state(ip), 'taking');
});
