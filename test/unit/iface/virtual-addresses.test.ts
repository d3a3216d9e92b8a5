import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IFA_F_NOPREFIXROUTE, IFF_UP } from '../../../src/iface/netlink-constants.ts';
import { hasLbdTag } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, KernelRequest, Mac } from '../../../src/iface/types.ts';
import { VirtualAddresses } from '../../../src/iface/virtual-addresses.ts';
import type { DesiredVirtual, VirtualReport, VirtualSettings } from '../../../src/iface/virtual-types.ts';
import { familyOf, formatPrefix, type Ip } from '../../../src/lib/ip.ts';
import type { Instant } from '../../../src/lib/time.ts';
import { foreignAddress, prefix, VirtualKernel } from './virtual-kernel.ts';

const SETTINGS: VirtualSettings = { interface: 'kube-lb0', type: 'auto', routes: undefined };
const OWN_ROUTES: VirtualSettings = { ...SETTINGS, routes: { table: 1000, protocol: 108 } };

/** A host with virtual addresses, whose kernel does at once what it is asked. */
class Host {
  readonly kernel = new VirtualKernel();
  machine: VirtualAddresses;
  nowMs = 1_000;

  constructor(settings = SETTINGS) {
    this.machine = this.#machine(settings);
  }

  /** Lbd starts anew, maybe with another configuration. */
  restart(settings = SETTINGS): this {
    this.machine = this.#machine(settings);
    return this;
  }

  #machine(settings: VirtualSettings): VirtualAddresses {
    return new VirtualAddresses({ settings, isOurs: hasLbdTag, kernelTags: true });
  }

  get now(): Instant {
    return this.nowMs as Instant;
  }

  /** Asks the kernel until there is nothing left to ask. Returns what was asked. */
  settle(): readonly KernelRequest[] {
    const from = this.kernel.asked.length;
    for (let round = 0; round < 10; round++) {
      const requests = this.machine.requests(this.kernel, this.now);
      if (requests.length === 0) return this.kernel.asked.slice(from);
      this.machine.answered(this.kernel.apply(requests), this.now);
    }
    assert.fail(`no end of ${JSON.stringify(this.machine.requests(this.kernel, this.now))}`);
  }

  want(...wanted: readonly DesiredVirtual[]): readonly KernelRequest[] {
    this.machine.want(wanted, true);
    return this.settle();
  }

  advance(ms: number): this {
    this.nowMs += ms;
    return this;
  }

  get link(): IfIndex {
    const link = this.kernel.linkOf('kube-lb0');
    assert.ok(link !== undefined, 'there is a link');
    return link.index;
  }

  addresses(): readonly string[] {
    return this.kernel.on(this.link).map(({ ip, prefixLength }) => `${ip}/${prefixLength}`);
  }

  reports(): readonly VirtualReport[] {
    return this.machine.takeReports();
  }

  state(ip: string): string {
    const status = this.machine.statuses(this.kernel, this.now).find((each) => each.ip === ip);
    return status === undefined ? 'absent' : `${status.state}${status.reason ? `: ${status.reason}` : ''}`;
  }
}

function here(route: string, ip = route.split('/')[0] ?? ''): DesiredVirtual {
  return {
    ip: ip as Ip,
    services: ['default/web'],
    route: prefix(route),
    standing: 'here',
    reason: undefined,
  };
}

function away(wanted: DesiredVirtual, standing: DesiredVirtual['standing'] = 'elsewhere'): DesiredVirtual {
  return { ...wanted, standing, reason: 'no endpoint is here' };
}

const A = here('203.0.113.0/24', '203.0.113.1');
const B = here('203.0.113.0/24', '203.0.113.2');
const SIX = here('2001:db8::/64', '2001:db8::1');

test('the link is made with the first address, configured before it is up, and then left as it is', () => {
  const host = new Host();
  assert.deepEqual(host.want(), [], 'nobody needs it yet');
  const asked = host.want(A, SIX);
  assert.deepEqual(
    asked.map(({ kind }) => kind),
    ['create-link', 'configure-link', 'configure-link', 'raise-link', 'add', 'add'],
  );
  assert.deepEqual(host.kernel.linkOf('kube-lb0')?.kind, 'dummy');
  assert.deepEqual(host.kernel.connected(host.link), ['2001:db8::/64', '203.0.113.0/24']);
  assert.equal(host.state(A.ip), 'held');
  assert.deepEqual(host.want(A, SIX), []);
  assert.deepEqual(
    host.want().map(({ kind }) => kind),
    ['configure-link', 'delete', 'delete'],
  );
  assert.ok(host.kernel.linkOf('kube-lb0') !== undefined, 'it stays for the next address');
});

test('a kernel without IPv6 keeps the link from losing all addresses of an aggregate with the first', () => {
  const host = new Host();
  host.kernel.missingFamilies.add('v6');
  host.want(A, B);
  assert.ok(host.kernel.promotes.has(host.link));
  assert.deepEqual(
    host.reports().filter(({ kind }) => kind === 'failed'),
    [],
  );
  host.advance(60_000);
  assert.deepEqual(host.settle(), []);
});

test('addresses are permanent, tagged, and no source for the host', () => {
  const host = new Host();
  host.want(A, SIX);
  const [v4, v6] = host.kernel.on(host.link);
  assert.deepEqual([v4?.validSeconds, v4?.preferredSeconds], [Infinity, Infinity]);
  assert.deepEqual([v4?.scope, v4?.protocol], [253, 108]);
  assert.deepEqual([v6?.validSeconds, v6?.preferredSeconds, v6?.flags], [Infinity, 0, 0x02]);
});

test('a restart with all present asks for nothing, and so does an unknown wish', () => {
  const host = new Host();
  host.want(A, B, SIX);
  host.restart();
  assert.deepEqual(host.settle(), [], 'before the first plan');
  assert.deepEqual(host.want(A, B, SIX), []);
  assert.deepEqual(host.want(away(A, 'unknown'), B, SIX), []);
});

test('one aggregate is one route, and goes with its last address', () => {
  const host = new Host();
  host.want(A, B);
  assert.deepEqual(host.kernel.connected(host.link), ['203.0.113.0/24']);
  host.want(B);
  assert.deepEqual(host.addresses(), ['203.0.113.2/24']);
  assert.deepEqual(host.kernel.connected(host.link), ['203.0.113.0/24']);
  host.want();
  assert.deepEqual(host.kernel.connected(host.link), []);
});

test('of many addresses of an aggregate, the primary one is removed last', () => {
  const host = new Host();
  const many = Array.from({ length: 20 }, (_, index) => here('203.0.113.0/24', `203.0.113.${index + 1}`));
  host.want(...many);
  const asked = host.want(many[19] as DesiredVirtual);
  assert.equal(host.kernel.promotions, 1);
  assert.equal(asked[0]?.kind, 'configure-link', 'so that the last one is promoted and not removed');
  assert.deepEqual(host.addresses(), ['203.0.113.20/24']);
});

test('another aggregate takes effect without an address being absent, but for v6', () => {
  const host = new Host();
  host.want(A, B, SIX);
  const asked = host.want(
    here('203.0.113.1/32'),
    here('203.0.113.2/32'),
    here('2001:db8::/48', '2001:db8::1'),
  );
  const order = asked.map((request) =>
    'ip' in request ? `${request.kind} ${request.ip}/${request.prefixLength}` : request.kind,
  );
  assert.deepEqual(order, [
    'configure-link',
    'replace 203.0.113.2/32',
    'delete 203.0.113.2/24',
    'delete 2001:db8::1/64',
    'replace 2001:db8::1/48',
    'replace 203.0.113.1/32',
    'delete 203.0.113.1/24',
  ]);
  assert.equal(host.kernel.promotions, 0);
  assert.deepEqual(
    host.reports().filter(({ kind }) => kind === 'repaired'),
    [],
  );
});

test('an address that is for other hosts goes, one of which that is not known stays', () => {
  const host = new Host();
  host.want(A, B, SIX);
  host.want(away(A), away(B, 'unknown'), away(SIX, 'nowhere'));
  assert.deepEqual(host.addresses(), ['203.0.113.2/24']);
  assert.equal(host.state(A.ip), 'elsewhere: no endpoint is here');
  assert.equal(host.state(B.ip), 'held: no endpoint is here');
  assert.equal(host.state(SIX.ip), 'unserved: no endpoint is here');
  const other = new Host();
  other.want(away(A, 'unknown'));
  assert.equal(other.kernel.links.size, 0, 'what is not there is not added');
});

test('of an incomplete list, nothing is concluded from what is missing', () => {
  const host = new Host();
  host.want(A, B);
  host.restart().machine.want([SIX], false);
  host.settle();
  assert.deepEqual(host.addresses(), ['203.0.113.1/24', '203.0.113.2/24', '2001:db8::1/64']);
  host.want(SIX);
  assert.deepEqual(host.addresses(), ['2001:db8::1/64']);
});

test('of an incomplete list, what is missing and known to be local goes', () => {
  const host = new Host();
  host.want(A, B);
  host.restart().machine.want([SIX], false, (ip) => ip === B.ip);
  host.settle();
  assert.deepEqual(host.addresses(), ['203.0.113.1/24', '2001:db8::1/64']);
  // Learnt later, of an address that is there.
  host.machine.want([SIX], false, (ip) => ip === A.ip);
  host.machine.want([], false, (ip) => ip === A.ip);
  host.settle();
  assert.deepEqual(host.addresses(), ['2001:db8::1/64']);
});

test('a link of that name that lbd did not make is left alone, and named until it is gone', () => {
  for (const kind of ['dummy', 'veth', undefined]) {
    const host = new Host();
    const { index } = host.kernel.addLink('kube-lb0', kind, '02:00:00:00:00:01');
    assert.deepEqual(host.want(A), []);
    assert.match(host.state(A.ip), /^no-interface: kube-lb0 is an? .* that lbd did not make: remove it/);
    assert.deepEqual(host.settle(), []);
    const [report, ...more] = host.reports();
    assert.equal(report?.kind, 'link-failed');
    assert.deepEqual(more, [], 'said once');
    assert.match(host.machine.linkStatus(host.kernel).obstacle ?? '', /did not make/);
    host.kernel.deleteLink(index);
    host.settle();
    assert.equal(host.state(A.ip), 'held');
    assert.equal(host.machine.linkStatus(host.kernel).obstacle, undefined);
  }
});

test('without dummy, type = "auto" makes a bridge and says why', () => {
  const host = new Host();
  host.kernel.missing.add('dummy');
  host.want(A);
  assert.equal(host.kernel.linkOf('kube-lb0')?.kind, 'bridge');
  const { type, note, obstacle } = host.machine.linkStatus(host.kernel);
  assert.deepEqual([type, obstacle], ['bridge', undefined]);
  assert.match(note ?? '', /no dummy device when lbd made it; after "modprobe dummy"/);
  assert.equal(host.state(A.ip), 'held');
  assert.deepEqual(host.restart().want(A), [], 'a bridge that is there is as good');
  assert.equal(host.machine.linkStatus(host.kernel).note, note, 'and the reason is still known');
  const chosen = new Host({ ...SETTINGS, type: 'bridge' });
  chosen.want(A);
  assert.equal(chosen.machine.linkStatus(chosen.kernel).note, undefined, 'a bridge that was asked for');
});

test('without dummy, type = "dummy" says what to run, and works when that was run', () => {
  const host = new Host({ ...SETTINGS, type: 'dummy' });
  host.kernel.missing.add('dummy');
  host.want(A);
  assert.match(
    host.state(A.ip),
    /^no-interface: the kernel has no dummy device for kube-lb0: run "modprobe dummy"/,
  );
  assert.equal(host.reports().filter(({ kind }) => kind === 'link-failed').length, 1);
  assert.deepEqual(host.settle(), [], 'not at once again');
  host.kernel.missing.delete('dummy');
  host.nowMs = host.machine.deadline();
  host.settle();
  assert.equal(host.state(A.ip), 'held');
  assert.equal(host.machine.linkStatus(host.kernel).obstacle, undefined);
});

test('a link for another configuration is made anew', () => {
  for (const settings of [OWN_ROUTES, { ...SETTINGS, type: 'bridge' } satisfies VirtualSettings]) {
    const host = new Host();
    host.want(A);
    const asked = host.restart(settings).want(A);
    assert.deepEqual(asked.map(({ kind }) => kind).slice(0, 2), ['delete-link', 'create-link']);
    assert.equal(host.state(A.ip), 'held');
    assert.equal(host.kernel.links.size, 1);
  }
});

test('a link of lbd’s with another name goes', () => {
  const host = new Host();
  host.want(A);
  host.restart({ ...SETTINGS, interface: 'lb1' });
  host.machine.want([A], true);
  host.settle();
  assert.deepEqual(
    [...host.kernel.links.values()].map(({ name }) => name),
    ['lb1'],
  );
});

test('what somebody else put on the link stays, and the link with it', () => {
  const host = new Host();
  host.want(A);
  host.kernel.put(foreignAddress(host.link, '198.51.100.1/32'));
  host.want();
  assert.deepEqual(host.addresses(), ['198.51.100.1/32']);
  host.want(A);
  host.restart(OWN_ROUTES).want(A);
  assert.match(
    host.state(A.ip),
    /^no-interface: .*198\.51\.100\.1\/32 is on it and was not put there by lbd/,
  );
  host.machine.stop();
  host.machine.answered(host.kernel.apply(host.machine.requests(host.kernel, host.now)), host.now);
  assert.deepEqual(host.addresses(), ['198.51.100.1/32']);
});

test('a port of lbd’s bridge keeps it from being removed', () => {
  const host = new Host();
  host.want(A);
  host.kernel.addLink('veth0', 'veth', '02:00:00:00:00:09', { master: host.link });
  host.machine.stop();
  assert.deepEqual(
    host.machine.requests(host.kernel, host.now).map(({ kind }) => kind),
    ['configure-link', 'delete'],
  );
});

test('at a stop the link goes, and everything with it', () => {
  const host = new Host();
  host.want(A, SIX);
  const index = host.link;
  host.machine.stop();
  assert.deepEqual(host.machine.requests(host.kernel, host.now), [{ kind: 'delete-link', ifIndex: index }]);
});

test('what disappears is put back at once, then no more than three times a second', () => {
  const host = new Host();
  host.want(A, B, SIX);
  host.advance(5_000);
  const remove = (ip: Ip) => {
    const found = host.kernel.on(host.link).find((address) => address.ip === ip);
    if (found !== undefined)
      host.kernel.apply([{ kind: 'delete', ifIndex: host.link, ip, prefixLength: found.prefixLength }]);
  };
  remove(A.ip);
  host.settle();
  assert.equal(host.addresses().length, 3);
  assert.deepEqual(
    host.reports().find(({ kind }) => kind === 'repaired'),
    {
      kind: 'repaired',
      link: false,
      addresses: 1,
      routes: 0,
      example: A.ip,
      route: undefined,
    },
  );
  for (let repeat = 2; repeat <= 3; repeat++) {
    remove(A.ip);
    host.advance(1).settle();
    assert.equal(host.addresses().length, 3);
  }
  remove(A.ip);
  assert.deepEqual(host.settle(), []);
  assert.equal(host.machine.deadline(), host.nowMs - 2 + 1_000);
  host.advance(1_000).settle();
  assert.equal(host.addresses().length, 3);
  assert.equal(host.machine.linkStatus(host.kernel).repairs, 4);
});

test('a link that is taken down or away is put right with all that it lost', () => {
  const host = new Host();
  host.want(A, SIX);
  host.advance(5_000);
  host.kernel.setFlags(host.link, 0);
  assert.deepEqual(host.addresses(), ['203.0.113.1/24'], 'v6 addresses go with the link');
  host.settle();
  assert.equal(host.kernel.linkOf('kube-lb0')?.flags, IFF_UP);
  assert.equal(host.addresses().length, 2);
  host.advance(5_000).kernel.deleteLink(host.link);
  host.settle();
  assert.equal(host.addresses().length, 2);
});

test('an address that the host has no route to itself any more is taken off and added, also one of which it is not known whether it stays', () => {
  for (const standing of ['here', 'unknown'] as const) {
    const host = new Host();
    host.want(A, SIX);
    host.want(away(A, standing), away(SIX, standing));
    host.reports();
    for (const address of host.kernel.on(host.link)) host.kernel.put({ ...address, hasLostRoute: true });
    assert.deepEqual(
      host.settle().map(({ kind }) => kind),
      ['delete', 'add', 'delete', 'add'],
    );
    assert.deepEqual(host.addresses(), ['203.0.113.1/24', '2001:db8::1/64']);
  }
});

test('a link that goes in steps is made anew at once, also the third time within a second', () => {
  const host = new Host();
  host.want(A, SIX);
  for (let round = 0; round < 2; round++) {
    host.advance(100);
    // It is seen to go down first, and is gone when it is to be raised.
    const going = host.link;
    host.kernel.setFlags(going, 0);
    const requests = host.machine.requests(host.kernel, host.now);
    host.kernel.deleteLink(going);
    host.machine.answered(host.kernel.apply(requests), host.now);
    host.settle();
    assert.equal(host.addresses().length, 2, `round ${round}`);
    assert.equal((host.kernel.links.get(host.link)?.flags ?? 0) & IFF_UP, IFF_UP);
  }
});

test('an address whose lifetime, scope or tag somebody changed is as it was', () => {
  const host = new Host();
  for (const change of [
    { validSeconds: 10, preferredSeconds: 10 },
    { scope: 0 },
    { protocol: undefined },
    { flags: IFA_F_NOPREFIXROUTE },
  ]) {
    host.want(A, SIX);
    host.advance(5_000);
    const before = host.kernel.on(host.link);
    for (const address of before) host.kernel.put({ ...address, ...change });
    host.settle();
    const byIp = (index: IfIndex) =>
      host.kernel.on(index).toSorted((left, right) => (left.ip < right.ip ? -1 : 1));
    assert.deepEqual(
      byIp(host.link),
      before.toSorted((left, right) => (left.ip < right.ip ? -1 : 1)),
    );
  }
});

test('a refusal of the kernel is told, shown and tried again later and later', () => {
  const host = new Host();
  host.kernel.errors.set('add', 'ENOBUFS');
  host.want(A);
  assert.equal(host.state(A.ip), 'failed: add: ENOBUFS');
  assert.deepEqual(host.reports().at(-1), { kind: 'failed', reason: 'add: ENOBUFS' });
  const pauses = [1, 2, 3].map(() => {
    const pause = host.machine.deadline() - host.nowMs;
    host.advance(pause).settle();
    return pause;
  });
  assert.deepEqual(pauses, [1_000, 2_000, 4_000]);
  assert.deepEqual(host.reports(), [], 'once');
  host.kernel.errors.clear();
  host.advance(30_000).settle();
  assert.equal(host.state(A.ip), 'held');
});

test('with routes of lbd’s own, addresses are alone and each route is made once, last', () => {
  const host = new Host(OWN_ROUTES);
  const asked = host.want(A, B, SIX);
  assert.deepEqual(host.addresses(), ['203.0.113.1/32', '203.0.113.2/32', '2001:db8::1/128']);
  assert.ok(host.kernel.on(host.link).every(({ flags }) => (flags & IFA_F_NOPREFIXROUTE) !== 0));
  assert.deepEqual(
    asked.slice(-2).map((request) => ('destination' in request ? formatPrefix(request.destination) : '')),
    ['203.0.113.0/24', '2001:db8::/64'],
  );
  assert.deepEqual(host.restart(OWN_ROUTES).want(A, B, SIX), []);
  host.want(A);
  assert.deepEqual(
    host.kernel.ownRoutes.map(({ destination }) => formatPrefix(destination)),
    ['203.0.113.0/24'],
  );
  const last = host.want();
  assert.deepEqual(
    last.map(({ kind }) => kind),
    ['delete-route', 'delete'],
    'routers are told before the address goes',
  );
});

test('with routes of lbd’s own, one that is missing comes back and one of an address in no list stays', () => {
  const host = new Host(OWN_ROUTES);
  host.want(A, SIX);
  host.kernel.ownRoutes = [];
  host.settle();
  assert.equal(host.kernel.ownRoutes.length, 2);
  host.restart(OWN_ROUTES).machine.want([SIX], false);
  host.settle();
  assert.equal(host.kernel.ownRoutes.length, 2);
  assert.equal(familyOf(A.ip), 'v4');
});

test('with routes of lbd’s own, one that was granted is not asked for again until routes are read, and counts when it is gone then', () => {
  const host = new Host(OWN_ROUTES);
  host.want(A);
  host.reports();
  host.kernel.routesKnown = false;
  host.kernel.ownRoutes = [];
  assert.deepEqual(host.settle(), []);
  assert.deepEqual(host.reports(), []);
  host.kernel.routesKnown = true;
  assert.deepEqual(
    host.settle().map(({ kind }) => kind),
    ['add-route'],
  );
  assert.deepEqual(host.reports(), [
    { kind: 'repaired', link: false, addresses: 0, routes: 1, example: undefined, route: '203.0.113.0/24' },
  ]);

  host.kernel.routesKnown = false;
  host.want();
  assert.deepEqual(
    host.want(A).map(({ kind }) => kind),
    ['add', 'add-route'],
    'not granted any more, once lbd took it away',
  );
  host.kernel.routesKnown = true;
  host.settle();
  host.reports();

  host.kernel.deleteLink(host.link);
  host.kernel.routesKnown = false;
  host.settle();
  host.kernel.routesKnown = true;
  host.settle();
  assert.deepEqual(
    host.reports().map((report) => report.kind === 'repaired' && [report.link, report.routes]),
    [[true, 0], false, false],
    'what went with the link is no repair of its own',
  );
});

test('the route of an aggregate that somebody took away comes back as the kernel made it, and counts', () => {
  const host = new Host();
  host.want(A, B, SIX);
  host.reports();
  host.kernel.lostRoutes.add('203.0.113.0/24').add('2001:db8::/64');
  host.kernel.routesKnown = false;
  assert.deepEqual(host.settle(), [], 'not while routes may have changed since they were read');
  host.kernel.routesKnown = true;
  const common = { kind: 'add-route', ifIndex: host.link, table: 254, protocol: 2 } as const;
  assert.deepEqual(host.settle(), [
    { ...common, destination: prefix('203.0.113.0/24'), source: A.ip },
    { ...common, destination: prefix('2001:db8::/64'), metric: 256 },
  ]);
  assert.deepEqual(host.reports(), [
    { kind: 'repaired', link: false, addresses: 0, routes: 2, example: undefined, route: '203.0.113.0/24' },
  ]);
  assert.equal(host.machine.linkStatus(host.kernel).repairs, 2);
});

test('the route of an aggregate comes back also when its primary address is on its way elsewhere', () => {
  const host = new Host();
  host.want(B);
  host.want(A, away({ ...here('203.0.113.2/32'), services: B.services }, 'unknown'));
  assert.deepEqual(host.addresses(), ['203.0.113.2/24', '203.0.113.1/24']);
  host.kernel.lostRoutes.add('203.0.113.0/24');
  assert.deepEqual(
    host.settle().map((request) => 'source' in request && request.source),
    [B.ip],
  );
});

test('the route of an IPv6 address alone that somebody took away comes back as the kernel made it, and counts once', () => {
  const host = new Host();
  host.want(A, here('2001:db8:1::9/128'), here('203.0.113.9/32'));
  host.reports();
  host.kernel.routesKnown = false;
  host.kernel.lostRoutes.add('2001:db8:1::9/128');
  host.kernel.errors.set('add-route', 'EEXIST');
  const [request] = host.machine.requests(host.kernel, host.now);
  assert.deepEqual(request, {
    kind: 'add-route',
    ifIndex: host.link,
    destination: prefix('2001:db8:1::9/128'),
    table: 254,
    protocol: 2,
    metric: 256,
  });
  assert.ok(request !== undefined);
  assert.deepEqual(host.reports(), [
    {
      kind: 'repaired',
      link: false,
      addresses: 0,
      routes: 1,
      example: undefined,
      route: '2001:db8:1::9/128',
    },
  ]);
  host.machine.answered(host.kernel.apply([request]), host.now);
  host.advance(5_000).machine.requests(host.kernel, host.now);
  assert.deepEqual(host.reports(), [], 'one that could not be put back is no other repair');
  host.kernel.errors.clear();
  assert.deepEqual(host.settle(), [request]);
  assert.equal(host.machine.linkStatus(host.kernel).repairs, 1);
});

test('what goes while other things are under way counts as well', () => {
  for (const settings of [SETTINGS, OWN_ROUTES]) {
    const host = new Host(settings);
    host.want(A, SIX);
    host.machine.want([A, B, SIX], true);
    const requests = host.machine.requests(host.kernel, host.now);
    host.kernel.lostRoutes.add('2001:db8::/64');
    host.kernel.ownRoutes = host.kernel.ownRoutes.filter(({ family }) => family === 'v4');
    const own = host.kernel.links.get(host.link) ?? assert.fail();
    host.kernel.links.set(own.index, { ...own, hasLostMark: true });
    host.reports();
    host.machine.answered(host.kernel.apply(requests), host.now);
    host.settle();
    assert.deepEqual(
      host.reports().filter(({ kind }) => kind === 'repaired'),
      [{ kind: 'repaired', link: true, addresses: 0, routes: 1, example: undefined, route: '2001:db8::/64' }],
    );
    assert.equal(host.machine.linkStatus(host.kernel).repairs, 2);
  }
});

test('a route that goes with its last address, or is nobody’s to make, is not asked for', () => {
  const host = new Host();
  const alone = here('203.0.113.9/32');
  host.want(A, alone);
  host.kernel.lostRoutes.add('203.0.113.0/24');
  assert.deepEqual(
    host.want(alone).map(({ kind }) => kind),
    ['configure-link', 'delete'],
  );
});

test('a link of lbd’s with another MAC gets its own again, as one repair', () => {
  const host = new Host();
  host.want(A, B);
  host.reports();
  const own = host.kernel.links.get(host.link) ?? assert.fail();
  host.kernel.links.set(own.index, { ...own, hasLostMark: true });
  assert.deepEqual(host.settle(), [{ kind: 'mark-link', ifIndex: own.index, mac: '02:6c:62:64:00:00' }]);
  assert.deepEqual(host.reports(), [
    { kind: 'repaired', link: true, addresses: 0, routes: 0, example: undefined, route: undefined },
  ]);
  assert.equal(host.machine.linkStatus(host.kernel).repairs, 1);
});

test('what is lost with a link that is somebody else’s by now counts as no repair', () => {
  const host = new Host();
  host.want(A, B);
  host.reports();
  host.kernel.deleteLink(host.link);
  host.kernel.addLink('kube-lb0', 'dummy', '02:00:00:00:00:09');
  assert.deepEqual(host.settle(), []);
  assert.deepEqual(
    host.reports().map(({ kind }) => kind),
    ['link-failed'],
  );
  assert.equal(host.machine.linkStatus(host.kernel).repairs, 0);
});

test('a link with another mark is of another configuration', () => {
  const host = new Host();
  host.kernel.addLink('kube-lb0', 'dummy', '02:6c:62:64:6c:e8' satisfies string as Mac);
  assert.equal(host.want(A)[0]?.kind, 'delete-link');
});
