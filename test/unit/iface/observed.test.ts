import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetlinkMessage } from '../../../src/iface/netlink-codec.ts';
import { ObservedState } from '../../../src/iface/observed.ts';
import type { IfIndex, KernelAddress, KernelRoute, Link, Mac } from '../../../src/iface/types.ts';
import { type Ip, parsePrefix } from '../../../src/lib/ip.ts';

const HEADER = { sequence: 0, interrupted: false, portId: 0 };

function link(index: number, overrides: Partial<Link> = {}): Link {
  return {
    index: index as IfIndex,
    name: `eth${index}`,
    flags: 0x11043,
    type: 1,
    mac: `02:00:00:00:00:0${index}` as Mac,
    master: undefined,
    kind: undefined,
    ...overrides,
  };
}

function address(ip: string, prefixLength = 32, overrides: Partial<KernelAddress> = {}): KernelAddress {
  return {
    ifIndex: 1 as IfIndex,
    ip: ip as Ip,
    prefixLength,
    scope: 0,
    flags: 0x80,
    protocol: undefined,
    preferredSeconds: Number.POSITIVE_INFINITY,
    validSeconds: Number.POSITIVE_INFINITY,
    ...overrides,
  };
}

function route(destination: string, overrides: Partial<KernelRoute> = {}): KernelRoute {
  const parsed = parsePrefix(destination);
  assert.ok(parsed.ok);
  return {
    family: 'v4',
    destination: parsed.value,
    gateway: undefined,
    ifIndex: 1 as IfIndex,
    metric: 0,
    table: 254,
    protocol: 2,
    type: 1,
    ...overrides,
  };
}

function linkMessage(event: 'new' | 'del', subject: Link): NetlinkMessage {
  return { ...HEADER, kind: 'link', event, link: subject };
}

function addressMessage(event: 'new' | 'del', subject: KernelAddress): NetlinkMessage {
  return { ...HEADER, kind: 'address', event, address: subject };
}

function routeMessage(...routes: KernelRoute[]): NetlinkMessage {
  return { ...HEADER, kind: 'route', event: 'new', routes };
}

function started(): ObservedState {
  const state = new ObservedState();
  state.replaceAll({
    links: [link(1), link(2)],
    addresses: [address('192.0.2.2', 24), address('192.0.2.10')],
    routes: [route('192.0.2.0/24'), route('0.0.0.0/0', { gateway: '192.0.2.1' as Ip })],
  });
  state.takeChanges();
  return state;
}

test('apply() follows addresses and tells them once', () => {
  const state = started();
  state.apply(addressMessage('new', address('192.0.2.11')));
  state.apply(addressMessage('del', address('192.0.2.10')));
  assert.deepEqual([...state.addresses.keys()], ['1 192.0.2.2/24', '1 192.0.2.11/32']);
  assert.deepEqual(state.takeChanges(), {
    links: { present: [], gone: [] },
    addresses: { present: [address('192.0.2.11')], gone: [address('192.0.2.10')] },
    routesChanged: false,
  });
  assert.equal(state.takeChanges(), undefined);
});

test('apply() keeps one address with two prefix lengths apart', () => {
  const state = started();
  state.apply(addressMessage('new', address('192.0.2.2', 32)));
  state.apply(addressMessage('del', address('192.0.2.2', 24)));
  assert.deepEqual([...state.addresses.keys()], ['1 192.0.2.10/32', '1 192.0.2.2/32']);
});

test('takeChanges() tells only the last word on an address that changed twice', () => {
  const state = started();
  state.apply(addressMessage('del', address('192.0.2.10')));
  state.apply(addressMessage('new', address('192.0.2.10', 32, { validSeconds: 30 })));
  const changes = state.takeChanges();
  assert.deepEqual(changes?.addresses.gone, []);
  assert.deepEqual(
    changes?.addresses.present.map((each) => each.validSeconds),
    [30],
  );
});

test('apply() takes a link’s addresses away with it', () => {
  const state = started();
  state.apply(linkMessage('del', link(1)));
  const changes = state.takeChanges();
  assert.deepEqual(
    changes?.links.gone.map((each) => each.name),
    ['eth1'],
  );
  assert.equal(changes?.addresses.gone.length, 2);
  assert.equal(state.addresses.size, 0);
  assert.equal(state.routesStale, true);
});

test('apply() says nothing of a link that is as it was, and follows one that is not', () => {
  const state = started();
  state.apply(linkMessage('new', link(1)));
  assert.equal(state.takeChanges(), undefined);
  state.apply(linkMessage('new', link(1, { name: 'lan0' })));
  assert.equal(state.links.get(1 as IfIndex)?.name, 'lan0');
  assert.equal(state.routesStale, false);
  state.apply(linkMessage('new', link(1, { name: 'lan0', flags: 0x1003 })));
  assert.equal(state.routesStale, true);
  assert.equal(state.takeChanges()?.links.present.length, 1);
});

test('takeChanges() tells how often a link turned, also when it is as it was', () => {
  const state = started();
  const up = { flags: 0x11043 };
  state.apply(linkMessage('new', link(1, up)));
  state.takeChanges();
  for (const flags of [0x1002, 0x11043, 0x1003]) state.apply(linkMessage('new', link(1, { flags })));
  state.apply(linkMessage('new', link(1, up)));
  assert.deepEqual([...(state.takeChanges()?.linkTurns ?? [])], [[1, 4]]);
  state.apply(linkMessage('new', link(1, up)));
  assert.equal(state.takeChanges()?.linkTurns, undefined);
});

test('apply() takes routes for stale only when one that matters may have changed', () => {
  const cases: [NetlinkMessage, boolean][] = [
    [routeMessage(route('0.0.0.0/0', { gateway: '192.0.2.1' as Ip })), true],
    [routeMessage(route('198.51.100.0/24')), true],
    [routeMessage(route('198.51.100.0/24', { gateway: '192.0.2.1' as Ip })), false],
    [routeMessage(route('192.0.2.10/32', { table: 255, type: 2 })), false],
    [routeMessage(route('0.0.0.0/0', { type: 7 })), false],
    [addressMessage('del', address('192.0.2.10')), true],
    [addressMessage('new', address('192.0.2.12')), false],
  ];
  for (const [message, stale] of cases) {
    const state = started();
    state.apply(message);
    assert.equal(state.routesStale, stale, JSON.stringify(message));
  }
});

test('apply() does not dump routes for addresses of lbd itself', () => {
  const state = started();
  const ours = address('192.0.2.13', 32, { protocol: 108 });
  state.apply(addressMessage('new', ours));
  state.apply(addressMessage('del', ours));
  assert.equal(state.routesStale, false);
});

test('replaceAll() tells what differs, and of finite lifetimes all', () => {
  const state = started();
  state.apply(addressMessage('new', address('192.0.2.20', 32, { validSeconds: 30 })));
  state.takeChanges();
  state.replaceAll({
    links: [link(1)],
    addresses: [address('192.0.2.2', 24), address('192.0.2.20', 32, { validSeconds: 21 })],
    routes: [route('192.0.2.0/24')],
  });
  const changes = state.takeChanges();
  assert.deepEqual(
    changes?.links.gone.map((each) => each.index),
    [2],
  );
  assert.deepEqual(
    changes?.addresses.gone.map((each) => each.ip),
    ['192.0.2.10'],
  );
  assert.deepEqual(
    changes?.addresses.present.map((each) => each.ip),
    ['192.0.2.20'],
  );
  assert.equal(changes?.routesChanged, true);
});

test('replaceRoutes() keeps default and connected routes of the main table and ignores their order', () => {
  const state = started();
  const wanted = [route('0.0.0.0/0', { gateway: '192.0.2.1' as Ip }), route('192.0.2.0/24')];
  const noise = [
    route('198.51.100.0/24', { gateway: '192.0.2.1' as Ip }),
    route('0.0.0.0/0', { table: 77 }),
    route('0.0.0.0/0', { type: 7, ifIndex: undefined }),
  ];
  state.replaceRoutes([...noise, ...wanted]);
  assert.equal(state.takeChanges(), undefined);
  state.replaceRoutes(noise);
  assert.equal(state.takeChanges()?.routesChanged, true);
  assert.deepEqual(state.routes, []);
});

test('routes that the kernel made over lbd’s link are kept apart, and unknown while they may have changed', () => {
  const state = new ObservedState();
  const own = link(3, { name: 'kube-lb0', kind: 'bridge', mac: '02:6c:62:64:00:00' as Mac });
  const over = { ifIndex: own.index };
  const aggregate = route('203.0.113.0/24', over);
  const alone = route('2001:db8::1/128', { ...over, family: 'v6' });
  const foreign = route('198.18.0.0/24', { ...over, protocol: 4 });
  const virtual = address('203.0.113.1', 24, { ...over, protocol: 108 });
  state.replaceAll({ links: [link(1), own], addresses: [virtual], routes: [aggregate, alone, foreign] });
  assert.deepEqual([state.connectedRoutes, state.routes, state.ownRoutes], [[aggregate], [], []]);
  state.takeChanges();

  state.apply(routeMessage(alone));
  state.apply(routeMessage(foreign));
  state.apply(addressMessage('new', address('203.0.113.2', 24, { ...over, protocol: 108, flags: 0x81 })));
  state.apply(addressMessage('new', address('2001:db8::1', 128, { ...over, protocol: 108 })));
  assert.equal(state.routesStale, false, 'neither says anything of a route that is kept');
  state.takeChanges();

  state.apply({ ...HEADER, portId: 77, kind: 'route', event: 'del', routes: [aggregate] });
  assert.deepEqual([state.routesStale, state.connectedRoutes], [true, undefined]);
  assert.equal(state.hasLostRoute, true);
  state.apply(addressMessage('new', address('192.0.2.7')));
  assert.deepEqual([...(state.takeChanges()?.askedBy ?? [])], [['routes', 77]]);
  state.beginRouteDump();
  assert.equal(state.hasLostRoute, false);
  assert.equal(state.connectedRoutes, undefined, 'nor while they are being read');
  state.replaceRoutes([alone, foreign]);
  assert.deepEqual(state.connectedRoutes, []);
  const changes = state.takeChanges();
  assert.deepEqual([changes?.routesChanged, changes?.askedBy?.get('routes')], [true, 77]);

  state.beginRouteDump();
  state.apply(routeMessage(route('198.18.7.0/24')));
  state.replaceRoutes([alone, foreign]);
  assert.deepEqual([state.routesStale, state.connectedRoutes], [true, []], 'another’s change is no matter');

  state.apply(addressMessage('new', address('198.51.100.1', 24, { ...over, protocol: 108 })));
  assert.equal(state.connectedRoutes, undefined, 'the first of its prefix brings a route');
});

test('the route of an IPv6 address alone follows the kernel’s word, and is news only while the address is there', () => {
  const state = new ObservedState();
  const own = link(3, { name: 'kube-lb0', kind: 'bridge', mac: '02:6c:62:64:00:00' as Mac });
  const over = { ifIndex: own.index };
  const alone = route('2001:db8::1/128', { ...over, family: 'v6', metric: 256 });
  const ours = address('2001:db8::1', 128, { ...over, protocol: 108 });
  const heard = (event: 'new' | 'del', routes = [alone], portId = 0) =>
    state.apply({ ...HEADER, portId, kind: 'route', event, routes });
  const known = () => [...state.hostRoutes];
  state.replaceAll({ links: [link(1), own], addresses: [], routes: [] });
  state.takeChanges();

  heard('new');
  heard('new', [{ ...alone, protocol: 4 }]);
  heard('new', [{ ...alone, ifIndex: 1 as IfIndex }]);
  state.beginRouteDump();
  assert.equal(state.takeChanges(), undefined, 'it comes before its address');
  state.apply(addressMessage('new', ours));
  state.takeChanges();
  assert.deepEqual(known(), ['3 2001:db8::1/128']);
  heard('del', [{ ...alone, protocol: 4 }]);
  heard('del', [alone], 77);
  assert.deepEqual(known(), []);
  const changes = state.takeChanges();
  assert.deepEqual([changes?.routesChanged, changes?.askedBy?.get('routes')], [true, 77]);
  assert.equal(state.routesStale, false, 'nothing has to be read for that');

  heard('new');
  assert.equal(state.takeChanges()?.routesChanged, true);
  state.apply(addressMessage('del', ours));
  state.takeChanges();
  heard('del');
  assert.equal(state.takeChanges(), undefined, 'it goes after its address');
});

test('the route of an IPv6 address alone is what was last told of it, when it was read meanwhile, and else what was read', () => {
  const state = new ObservedState();
  const own = link(3, { name: 'kube-lb0', kind: 'bridge', mac: '02:6c:62:64:00:00' as Mac });
  const alone = (host: number) =>
    route(`2001:db8::${host}/128`, { ifIndex: own.index, family: 'v6', metric: 256 });
  const dump = { links: [own], addresses: [], routes: [alone(1), alone(2)] };
  state.replaceAll(dump);
  assert.equal(state.replaceAll(dump).has('routes'), false);
  state.beginRouteDump();
  state.apply({ ...HEADER, kind: 'route', event: 'del', routes: [alone(1)] });
  state.apply({ ...HEADER, kind: 'route', event: 'new', routes: [alone(3)] });
  state.replaceRoutes([alone(1), alone(2)]);
  assert.deepEqual([...state.hostRoutes].sort(), ['3 2001:db8::2/128', '3 2001:db8::3/128']);
  assert.deepEqual([...state.replaceAll({ ...dump, routes: [alone(2)] })], ['routes'], 'one less');
  assert.deepEqual([...state.replaceAll({ ...dump, routes: [alone(4)] })], ['routes'], 'another one');
});

test('what lbd itself asked for has no asker, and does not hide who asked before it in the same turn', () => {
  const state = new ObservedState(undefined, (portId) => portId === 9);
  state.replaceAll({ links: [link(1)], addresses: [], routes: [] });
  state.takeChanges();
  const told = (event: 'new' | 'del', ip: string, portId: number) =>
    state.apply({ ...HEADER, portId, kind: 'address', event, address: address(ip) });
  told('new', '192.0.2.1', 9);
  told('new', '192.0.2.2', 77);
  told('del', '192.0.2.2', 9);
  assert.deepEqual([...(state.takeChanges()?.askedBy ?? [])], [['1 192.0.2.2/32', 77]]);
});

test('routes over lbd’s link that are known again are told of, also when they are as they were known before', () => {
  const state = new ObservedState();
  const own = link(3, { name: 'kube-lb0', kind: 'bridge', mac: '02:6c:62:64:00:00' as Mac });
  const over = { ifIndex: own.index };
  state.replaceAll({ links: [link(1), own], addresses: [], routes: [] });
  state.takeChanges();
  state.replaceRoutes([]);
  assert.equal(state.takeChanges(), undefined, 'they were known');
  // It brings a route, which somebody takes away before it was read.
  state.apply(addressMessage('new', address('203.0.113.1', 24, { ...over, protocol: 108 })));
  state.apply(routeMessage(route('203.0.113.0/24', over)));
  state.apply({ ...HEADER, kind: 'route', event: 'del', routes: [route('203.0.113.0/24', over)] });
  state.takeChanges();
  state.beginRouteDump();
  state.replaceRoutes([]);
  assert.equal(state.takeChanges()?.routesChanged, true);
});

test('the routes may differ when an address goes that can be the source of an aggregate’s', () => {
  const state = new ObservedState();
  const own = link(3, { name: 'kube-lb0', kind: 'bridge', mac: '02:6c:62:64:00:00' as Mac });
  const over = { ifIndex: own.index, protocol: 108 };
  const aggregate = route('203.0.113.0/24', { ifIndex: own.index });
  const [first, second] = [1, 2].map((host) => address(`203.0.113.${host}`, 24, over));
  const alone = address('203.0.113.9', 32, over);
  assert.ok(first !== undefined && second !== undefined);
  state.replaceAll({ links: [link(1), own], addresses: [first, second, alone], routes: [aggregate] });
  state.apply(addressMessage('del', alone));
  assert.equal(state.routesStale, false);
  state.apply(addressMessage('del', first));
  assert.equal(state.routesStale, true);
});

test('beginRouteDump() lets what happens during the dump count', () => {
  const state = started();
  state.apply(linkMessage('del', link(2)));
  state.beginRouteDump();
  assert.equal(state.routesStale, false);
  state.apply(routeMessage(route('0.0.0.0/0')));
  state.replaceRoutes([]);
  assert.equal(state.routesStale, true);
});

test('a link of lbd’s that gets another MAC is still the same one, and another’s is not', () => {
  const state = new ObservedState();
  const own = link(3, { kind: 'bridge', mac: '02:6c:62:64:00:00' as Mac });
  const other = '02:00:00:00:00:77' as Mac;
  state.apply(linkMessage('new', own));
  state.apply(linkMessage('new', { ...own, mac: other }));
  assert.deepEqual([...state.links.values()], [{ ...own, hasLostMark: true }]);
  state.apply(linkMessage('new', own));
  assert.deepEqual([...state.links.values()], [own]);
  state.replaceAll({ links: [{ ...own, mac: other }], addresses: [], routes: [] });
  assert.equal(state.links.get(own.index)?.hasLostMark, true, 'also when only a dump tells');
  state.apply(linkMessage('del', own));
  state.apply(linkMessage('new', { ...own, mac: other }));
  assert.equal(state.links.get(own.index)?.hasLostMark, undefined);
});

test('an address that is changed in place without its tag is still the same one', () => {
  const state = new ObservedState();
  const ours = address('192.0.2.13', 32, { protocol: 108, validSeconds: 30, preferredSeconds: 30 });
  const changed = address('192.0.2.13', 32);
  state.apply(addressMessage('new', ours));
  state.apply(addressMessage('new', changed));
  const [known] = state.addresses.values();
  assert.equal(known?.protocol, 108);
  assert.equal(known?.validSeconds, Number.POSITIVE_INFINITY);

  state.apply(addressMessage('del', ours));
  state.apply(addressMessage('new', changed));
  const [other] = state.addresses.values();
  assert.equal(other?.protocol, undefined, 'one that somebody else put there');
});

test('an address of lbd’s whose local route somebody deleted has lost it until it is added anew', () => {
  const state = new ObservedState();
  const ours = address('203.0.113.1', 24, { protocol: 108 });
  const [beside, foreign] = [address('203.0.113.2', 24, { protocol: 108 }), address('203.0.113.3', 24)];
  const has = () => [...state.addresses.values()].map(({ hasLostRoute }) => hasLostRoute === true);
  const gone = (text: string, table = 255) =>
    state.apply({
      ...HEADER,
      portId: 77,
      kind: 'route',
      event: 'del',
      routes: [route(text, { table, type: 2 })],
    });
  for (const each of [ours, beside, foreign]) state.apply(addressMessage('new', each));
  state.takeChanges();
  gone('203.0.113.1/32', 254);
  gone('203.0.113.0/24');
  gone('203.0.113.3/32');
  assert.deepEqual(has(), [false, false, false]);
  gone('203.0.113.1/32');
  assert.deepEqual(has(), [true, false, false]);
  const changes = state.takeChanges();
  assert.deepEqual(
    changes?.addresses.present.map(({ ip }) => ip),
    ['203.0.113.1'],
  );
  assert.deepEqual([...(changes?.askedBy?.values() ?? [])], [77]);
  state.apply(addressMessage('new', { ...ours, validSeconds: 30 }));
  assert.deepEqual(has(), [true, false, false], 'a renewal brings no route');
  state.apply(addressMessage('del', ours));
  state.apply(addressMessage('new', ours));
  assert.deepEqual(has(), [false, false, false]);
});

test('an address that is given another tag is no longer known by the old one', () => {
  const state = new ObservedState();
  state.apply(addressMessage('new', address('192.0.2.13', 32, { protocol: 108 })));
  state.apply(addressMessage('new', address('192.0.2.13', 32, { protocol: 3 })));
  assert.equal([...state.addresses.values()][0]?.protocol, 3);
});

test('a dump of an address that was changed has lost its tag like one that a notification told of, unless it is another one', () => {
  const ours = address('192.0.2.13', 32, { protocol: 108, validSeconds: 30, addedCs: 1_234 });
  const dumped = (change: Partial<KernelAddress>, from: Partial<KernelAddress> = {}) => {
    const state = new ObservedState();
    state.apply(addressMessage('new', { ...ours, ...from }));
    state.takeChanges();
    const { protocol: _, ...untagged } = ours;
    const addresses = [{ ...untagged, protocol: undefined, ...change }];
    const differing = state.replaceAll({ links: [], addresses, routes: [] });
    const [known] = state.addresses.values();
    return [known?.protocol, known?.hasLostTag, differing.size, state.takeChanges() !== undefined];
  };
  assert.deepEqual(dumped({}), [108, true, 1, true]);
  assert.deepEqual(dumped({ validSeconds: Number.POSITIVE_INFINITY }), [108, true, 1, true]);
  assert.deepEqual(
    dumped({ addedCs: 1_235 }),
    [undefined, undefined, 1, true],
    'it went and somebody added it',
  );
  assert.deepEqual(dumped({}, { protocol: undefined }), [undefined, undefined, 0, false], 'it never was');
  const { addedCs: _, ...unknown } = ours;
  assert.deepEqual(dumped({}, { ...unknown, addedCs: undefined as never }).slice(0, 2), [
    undefined,
    undefined,
  ]);
});

test('a lost tag that is known already is no news in the next dump', () => {
  const state = new ObservedState();
  const ours = address('192.0.2.13', 32, { protocol: 108, addedCs: 1_234 });
  state.apply(addressMessage('new', ours));
  const dump = { links: [], addresses: [{ ...ours, protocol: undefined }], routes: [] };
  assert.equal(state.replaceAll(dump).size, 1);
  assert.equal(state.replaceAll(dump).size, 0);
  assert.equal(state.replaceAll({ ...dump, addresses: [ours] }).size, 1, 'lbd put it right');
});
