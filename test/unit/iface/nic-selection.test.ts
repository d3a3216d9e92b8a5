import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { NicNames } from '../../../src/iface/nic-names.ts';
import type { PoolNicRules } from '../../../src/iface/nic-rules.ts';
import {
  type HostView,
  hasLbdTag,
  interfacesInUse,
  isNicUp,
  nicOf,
  selectNic,
  strictArpNics,
  viewHost,
} from '../../../src/iface/nic-selection.ts';
import {
  type IfIndex,
  type KernelAddress,
  type KernelRoute,
  LBD_PROTOCOL,
  type Link,
} from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { defaultRoute, ETH0, ETH1, kernelAddress, link } from '../../support/fake-host.ts';

const UP = 0x1 | 0x10000;
const LOOPBACK = 0x8;
const POINT_TO_POINT = 0x10;
const NO_ARP = 0x80;
const LO = 1 as IfIndex;
const OTHER = 9 as IfIndex;

type Facts = {
  readonly links?: readonly Link[];
  readonly addresses?: readonly KernelAddress[];
  readonly routes?: readonly KernelRoute[];
  readonly patterns?: readonly string[];
  readonly pools?: readonly PoolNicRules[];
  readonly formerNames?: ReadonlyMap<IfIndex, string>;
};

function address(ifIndex: IfIndex, text: string, protocol?: number): KernelAddress {
  const [ip, length] = text.split('/');
  return kernelAddress(ifIndex, ip as Ip, Number(length), protocol, Number.POSITIVE_INFINITY);
}

/** eth0 with 192.0.2.2/24 and 2001:db8::2/64, and the default routes over it, unless said otherwise. */
function view(facts: Facts = {}): HostView {
  const {
    links = [link(ETH0, 'eth0')],
    addresses = [address(ETH0, '192.0.2.2/24'), address(ETH0, '2001:db8::2/64')],
    routes = [defaultRoute(ETH0, '192.0.2.1' as Ip), defaultRoute(ETH0, 'fe80::1' as Ip)],
    patterns = [],
    pools = [],
    formerNames = new Map(),
  } = facts;
  return viewHost({ links, addresses, routes }, { interfaces: patterns, pools }, hasLbdTag, formerNames);
}

/** Where `ip` goes, in one line: `eth0 192.0.2.0/24`, or the kind and the reason. */
function placed(ip: string, host: HostView): string {
  const selection = selectNic(ip as Ip, host);
  if (selection.kind !== 'nic') return `${selection.kind}: ${selection.reason}`;
  return `${selection.nic.name} ${selection.subnet.network}/${selection.subnet.length}`;
}

const TWO = [link(ETH0, 'eth0'), link(ETH1, 'eth1')];

test('selectNic() takes the NIC whose subnet holds the address, in each family', () => {
  assert.equal(placed('192.0.2.77', view()), 'eth0 192.0.2.0/24');
  assert.equal(placed('2001:db8::77', view()), 'eth0 2001:db8::/64');
});

test('the default route selects the NIC for each family apart', () => {
  const host = view({
    links: TWO,
    addresses: [
      address(ETH0, '192.0.2.2/24'),
      address(ETH0, '2001:db8::2/64'),
      address(ETH1, '198.51.100.2/24'),
      address(ETH1, '2001:db8:1::2/64'),
    ],
    routes: [defaultRoute(ETH0, '192.0.2.1' as Ip), defaultRoute(ETH1, 'fe80::1' as Ip)],
  });
  assert.equal(placed('192.0.2.7', host), 'eth0 192.0.2.0/24');
  assert.equal(placed('2001:db8:1::7', host), 'eth1 2001:db8:1::/64');
  assert.match(
    placed('198.51.100.7', host),
    /^none: eth1 has the subnet 198\.51\.100\.0\/24 of 198\.51\.100\.7, but only eth0 is selected: add "eth1"/,
  );
  assert.match(placed('2001:db8::7', host), /^none: eth0 has the subnet 2001:db8::\/64/);
});

test('of several default routes the lowest metric counts, and of equal ones each', () => {
  const to = (ifIndex: IfIndex, metric: number) => ({ ...defaultRoute(ifIndex, '192.0.2.1' as Ip), metric });
  const selected = (...routes: KernelRoute[]) => [...view({ links: TWO, routes }).selected.v4];
  assert.deepEqual(selected(to(ETH0, 200), to(ETH1, 100)), [ETH1]);
  assert.deepEqual(selected(to(ETH0, 100), to(ETH1, 100)), [ETH0, ETH1]);
});

test('a host without a default route selects every NIC, in that family only', () => {
  const host = view({
    links: TWO,
    addresses: [
      address(ETH0, '192.0.2.2/24'),
      address(ETH1, '198.51.100.2/24'),
      address(ETH1, '2001:db8::2/64'),
    ],
    routes: [defaultRoute(ETH0, 'fe80::1' as Ip)],
  });
  assert.equal(placed('192.0.2.7', host), 'eth0 192.0.2.0/24');
  assert.equal(placed('198.51.100.7', host), 'eth1 198.51.100.0/24');
  assert.match(placed('2001:db8::7', host), /^none: eth1 has the subnet/);
});

test('a route to a subnet is no default route', () => {
  const connected = {
    ...defaultRoute(ETH1, '192.0.2.1' as Ip),
    destination: { network: '192.0.2.0' as Ip, length: 24 },
  };
  assert.deepEqual([...view({ links: TWO, routes: [connected] }).selected.v4], [ETH0, ETH1]);
});

const PATTERNS: readonly (readonly [patterns: readonly string[], selected: readonly string[]])[] = [
  [['eth0'], ['eth0']],
  [['eth*'], ['eth0', 'eth1', 'eth10']],
  [['eth?'], ['eth0', 'eth1']],
  [['*'], ['eth0', 'eth1', 'eth10', 'br.100']],
  [
    ['br.100', 'eth1'],
    ['eth1', 'br.100'],
  ],
  [['brx100'], []],
  [['eth'], []],
  [['(eth0|eth1)'], []],
  [['ETH0'], []],
];

for (const [patterns, selected] of PATTERNS) {
  test(`the patterns ${JSON.stringify(patterns)} select ${selected.join(', ') || 'nothing'}, whatever the routes`, () => {
    const links = ['eth0', 'eth1', 'eth10', 'br.100'].map((name, index) =>
      link((index + 2) as IfIndex, name),
    );
    const host = view({ links, patterns });
    const names = (indexes: ReadonlySet<IfIndex>) =>
      host.nics.filter((nic) => indexes.has(nic.ifIndex)).map((nic) => nic.name);
    assert.deepEqual(names(host.selected.v4), selected);
    assert.deepEqual(names(host.selected.v6), selected);
  });
}

const NONE = 'no NIC of this host has a subnet that holds 192.0.2.7 (this host has no usable NIC)';
const HAS = 'eth0 has the subnet 192.0.2.0/24 of 192.0.2.7, but it';

const NO_NICS: readonly (readonly [what: string, change: Partial<Link>, reason: string])[] = [
  ['a member of a bridge or bond', { master: OTHER }, `${HAS} is a member of interface 9`],
  ['a loopback', { flags: UP | LOOPBACK, type: 772 }, NONE],
  ['one without ARP', { flags: UP | NO_ARP }, `${HAS} has no ARP`],
  ['point-to-point', { flags: UP | POINT_TO_POINT }, `${HAS} is point-to-point`],
  ['a tunnel', { type: 776 }, `${HAS} is not Ethernet`],
  ['one without a MAC', { mac: undefined }, `${HAS} has no hardware address`],
];

for (const [what, change, reason] of NO_NICS) {
  test(`a link that is ${what} carries no addresses`, () => {
    const host = view({ links: [link(ETH0, 'eth0', change)], patterns: ['eth0'] });
    assert.deepEqual(host.nics, []);
    assert.equal(placed('192.0.2.7', host), `none: ${reason}`);
  });
}

/** What rtnetlink tells of each kind on Linux 6: IFF_MASTER is 0x400, IFF_SLAVE 0x800. */
const UPPER_LINKS: readonly (readonly [what: string, upper: Partial<Link>, lower: Partial<Link>])[] = [
  ['a bond', { kind: 'bond', flags: UP | 0x400 }, { master: OTHER, flags: UP | 0x800 }],
  ['a bridge', { kind: 'bridge' }, { master: OTHER }],
  ['a VLAN', { kind: 'vlan' }, {}],
  ['a macvlan', { kind: 'macvlan' }, {}],
];

for (const [what, upper, lower] of UPPER_LINKS) {
  test(`${what} carries the addresses of its own subnet, and so does what it is made of unless it is a member`, () => {
    const links = [link(ETH0, 'eth0', lower), link(OTHER, 'upper0', upper)];
    const addresses = [address(ETH0, '10.0.0.2/24'), address(OTHER, '192.0.2.2/24')];
    const host = view({ links, addresses, routes: [], patterns: ['*'] });
    assert.equal(placed('192.0.2.7', host), 'upper0 192.0.2.0/24');
    const below = 'eth0 10.0.0.0/24';
    const member = 'none: eth0 has the subnet 10.0.0.0/24 of 10.0.0.7, but it is a member of upper0';
    assert.equal(placed('10.0.0.7', host), lower.master === undefined ? below : member);
  });
}

test('neither a VRF nor a NIC in one carries addresses: what answers there is not what the host routes', () => {
  // A VRF device is Ethernet for rtnetlink, without ARP (vrf_setup in drivers/net/vrf.c).
  const vrf = link(OTHER, 'red', { kind: 'vrf', flags: UP | 0x400 | NO_ARP });
  const links = [link(ETH0, 'eth0', { master: OTHER }), vrf];
  const host = view({ links, addresses: [address(ETH0, '192.0.2.2/24')], patterns: ['*'] });
  assert.deepEqual(host.nics, []);
  assert.equal(
    placed('192.0.2.7', host),
    'none: eth0 has the subnet 192.0.2.0/24 of 192.0.2.7, but it is in the VRF red',
  );
});

const TWO_SUBNETS = [
  address(ETH0, '192.0.2.2/24'),
  address(ETH1, '10.1.0.2/24'),
  address(ETH1, '2001:db8::2/64'),
];

test('a prefix selects the NICs that have a subnet in it', () => {
  for (const [rule, names] of [
    ['10.0.0.0/8', ['eth1']],
    ['10.1.0.0/24', ['eth1']],
    ['10.1.0.0/25', []],
    ['2001:db8::/32', ['eth1']],
    ['0.0.0.0/0', ['eth0', 'eth1']],
  ] as const) {
    const host = view({ links: TWO, addresses: TWO_SUBNETS, patterns: [rule] });
    const selected = host.nics.filter(({ ifIndex }) => host.selected.v4.has(ifIndex));
    assert.deepEqual(
      selected.map(({ name }) => name),
      names,
      rule,
    );
  }
});

test('the addresses of a pool with interfaces go on those, and on no other', () => {
  const ranges = [{ first: '10.1.0.100' as Ip, last: '10.1.0.110' as Ip }];
  const of = (name: string) =>
    view({ links: TWO, addresses: TWO_SUBNETS, pools: [{ name: 'storage', ranges, interfaces: [name] }] });
  const host = of('eth1');
  assert.equal(placed('10.1.0.100', host), 'eth1 10.1.0.0/24');
  const other = 'none: eth1 has the subnet 10.1.0.0/24 of';
  assert.equal(
    placed('10.1.0.99', host),
    `${other} 10.1.0.99, but only eth0 is selected: add "eth1" to [local] interfaces`,
  );
  assert.deepEqual(
    interfacesInUse(host).map(({ name }) => name),
    ['eth0', 'eth1'],
  );
  assert.equal(
    placed('10.1.0.100', of('eth0')),
    `${other} 10.1.0.100, but only eth0 is selected: add "eth1" to the interfaces of the pool "storage"`,
  );
  assert.notEqual(host.signature, of('eth0').signature);
});

test('a NIC stays selected by the name under which it had addresses', () => {
  const names = new NicNames();
  const at = (name: string) => {
    const host = view({
      links: [link(ETH0, name), link(ETH1, 'eth1')],
      addresses: TWO_SUBNETS,
      patterns: ['eth0'],
      formerNames: names.all,
    });
    names.learn(host);
    return placed('192.0.2.7', host).split(' ')[0];
  };
  assert.equal(at('lan0'), 'none:');
  assert.equal(at('eth0'), 'eth0');
  assert.equal(at('lan0'), 'lan0');
  assert.equal(at('lan1'), 'lan1');
  names.forget();
  assert.equal(at('lan1'), 'none:');
  assert.equal(at('eth0'), 'eth0');
  // Another NIC that comes with the same number has no such past.
  names.learn(view({ links: [], addresses: [] }));
  assert.equal(at('lan0'), 'none:');
});

test('the subnets of a bridge are its own, not those of its members', () => {
  const links = [link(ETH0, 'eth0', { master: OTHER }), link(OTHER, 'br0', { kind: 'bridge' })];
  const addresses = [address(OTHER, '192.0.2.2/24')];
  const host = view({ links, addresses, routes: [defaultRoute(OTHER, '192.0.2.1' as Ip)] });
  assert.equal(placed('192.0.2.7', host), 'br0 192.0.2.0/24');
});

test('the longest subnet wins, whatever the order of NICs and addresses', () => {
  const addresses = [address(ETH0, '10.0.0.2/8'), address(ETH1, '10.1.0.2/16'), address(ETH0, '10.1.2.2/24')];
  for (const order of [addresses, [...addresses].reverse()]) {
    const host = view({ links: TWO, addresses: order, patterns: ['eth*'] });
    assert.equal(placed('10.1.2.7', host), 'eth0 10.1.2.0/24');
    assert.equal(placed('10.1.3.7', host), 'eth1 10.1.0.0/16');
    assert.equal(placed('10.2.3.7', host), 'eth0 10.0.0.0/8');
  }
});

test('the longest subnet wins on a NIC that is down too: a shorter one elsewhere is another wire', () => {
  const down = { flags: 0x1 };
  const long = (ifIndex: IfIndex) => address(ifIndex, '10.1.2.2/24');
  const short = (ifIndex: IfIndex) => address(ifIndex, '10.0.0.2/8');
  for (const [first, second] of [
    [ETH0, ETH1],
    [ETH1, ETH0],
  ] as const) {
    const links = [link(first, 'long', down), link(second, 'short')];
    const host = view({ links, addresses: [long(first), short(second)], patterns: ['*'] });
    assert.equal(placed('10.1.2.7', host), 'none: long, whose subnet holds 10.1.2.7, is down');
  }
});

test('of two NICs with the same subnet the one that is up is taken, and of two such the first', () => {
  const addresses = [address(ETH0, '192.0.2.2/24'), address(ETH1, '192.0.2.3/24')];
  const host = (first: number) =>
    view({ links: [link(ETH0, 'eth0', { flags: first }), link(ETH1, 'eth1')], addresses, patterns: ['*'] });
  assert.equal(placed('192.0.2.7', host(0x1)), 'eth1 192.0.2.0/24');
  assert.equal(placed('192.0.2.7', host(UP)), 'eth0 192.0.2.0/24');
});

const STATES: readonly (readonly [flags: number, up: boolean, what: string])[] = [
  [0, false, 'down'],
  [0x1, false, 'up without carrier'],
  [0x10000, false, 'down with carrier'],
  [UP, true, 'up with carrier'],
];

for (const [flags, up, what] of STATES) {
  test(`a NIC that is ${what} ${up ? 'takes' : 'does not take'} addresses`, () => {
    const host = view({ links: [link(ETH0, 'eth0', { flags })] });
    assert.equal(isNicUp(host, ETH0), up);
    assert.equal(nicOf(selectNic('192.0.2.7' as Ip, host)), up ? ETH0 : undefined);
  });
}

const BLOCKED: readonly (readonly [ip: string, own: string, reason: string | undefined])[] = [
  ['192.0.2.0', '192.0.2.2/24', '192.0.2.0 is the network address of 192.0.2.0/24'],
  ['192.0.2.255', '192.0.2.2/24', '192.0.2.255 is the broadcast address of 192.0.2.0/24'],
  ['192.0.2.4', '192.0.2.6/30', '192.0.2.4 is the network address of 192.0.2.4/30'],
  ['192.0.2.7', '192.0.2.6/30', '192.0.2.7 is the broadcast address of 192.0.2.4/30'],
  ['192.0.2.7', '192.0.2.6/31', undefined],
  ['192.0.2.6', '192.0.2.7/31', undefined],
  ['2001:db8::', '2001:db8::2/64', '2001:db8:: is the subnet-router anycast address of 2001:db8::/64'],
  ['2001:db8::', '2001:db8::2/126', '2001:db8:: is the subnet-router anycast address of 2001:db8::/126'],
  ['2001:db8::', '2001:db8::1/127', undefined],
  ['2001:db8::ffff:ffff:ffff:ffff', '2001:db8::2/64', undefined],
];

for (const [ip, own, reason] of BLOCKED) {
  test(`${ip} beside ${own} is ${reason === undefined ? 'free to use' : 'never given'}`, () => {
    const host = view({ addresses: [address(ETH0, own)] });
    if (reason === undefined) assert.match(placed(ip, host), /^eth0 /);
    else assert.equal(placed(ip, host), `blocked: ${reason}`);
  });
}

test("a network address of another, shorter subnet of the same NIC is free: only the address's own subnet counts", () => {
  const host = view({ addresses: [address(ETH0, '10.0.0.2/8'), address(ETH0, '10.0.0.3/7')] });
  assert.equal(
    placed('10.255.255.255', host),
    'blocked: 10.255.255.255 is the broadcast address of 10.0.0.0/8',
  );
  assert.equal(placed('11.0.0.0', host), 'eth0 10.0.0.0/7');
});

test("the host's own address and the gateway of a route are never given, in each family", () => {
  const host = view({
    links: [...TWO, link(LO, 'lo', { flags: UP | LOOPBACK, type: 772 })],
    addresses: [address(ETH0, '192.0.2.2/24'), address(ETH0, '2001:db8::2/64'), address(LO, '192.0.2.99/32')],
    routes: [defaultRoute(ETH0, '192.0.2.1' as Ip), defaultRoute(ETH0, '2001:db8::1' as Ip)],
  });
  assert.equal(
    placed('192.0.2.2', host),
    'blocked: 192.0.2.2 is already on eth0 and was not put there by lbd',
  );
  assert.equal(
    placed('192.0.2.99', host),
    'blocked: 192.0.2.99 is already on lo and was not put there by lbd',
  );
  assert.equal(placed('192.0.2.1', host), "blocked: 192.0.2.1 is the gateway of one of this host's routes");
  assert.equal(
    placed('2001:db8::1', host),
    "blocked: 2001:db8::1 is the gateway of one of this host's routes",
  );
});

test('an own /32 on another NIC blocks that address and makes no subnet', () => {
  const host = view({
    links: TWO,
    addresses: [address(ETH0, '192.0.2.2/24'), address(ETH1, '192.0.2.7/32')],
  });
  assert.match(placed('192.0.2.7', host), /^blocked: 192\.0\.2\.7 is already on eth1/);
  assert.deepEqual(
    host.nics.map((nic) => nic.subnets.length),
    [1, 0],
  );
});

test('an address on kube-ipvs0 has no other holder: kube-proxy binds every Service address there', () => {
  const ipvs = link(OTHER, 'kube-ipvs0', { flags: NO_ARP });
  const addresses = [address(ETH0, '192.0.2.2/24'), address(OTHER, '192.0.2.7/32')];
  const host = view({ links: [link(ETH0, 'eth0'), ipvs], addresses });
  assert.equal(placed('192.0.2.7', host), 'eth0 192.0.2.0/24');
  assert.equal(host.ownAddresses.has('192.0.2.7' as Ip), false);
});

test("lbd's own addresses are neither holders nor subnets, whatever their prefix length", () => {
  const ours = [address(ETH0, '192.0.2.7/32', LBD_PROTOCOL), address(ETH0, '198.51.100.7/24', LBD_PROTOCOL)];
  const host = view({ addresses: [address(ETH0, '192.0.2.2/24'), ...ours] });
  assert.equal(placed('192.0.2.7', host), 'eth0 192.0.2.0/24');
  assert.match(placed('198.51.100.9', host), /^none: no NIC of this host has a subnet/);
  assert.equal(host.signature, view({ addresses: [address(ETH0, '192.0.2.2/24')] }).signature);
});

test('link-local addresses make no subnet, but block themselves', () => {
  const host = view({ addresses: [address(ETH0, 'fe80::2/64')] });
  assert.match(placed('fe80::7', host), /^none: /);
  assert.match(placed('fe80::2', host), /^blocked: fe80::2 is already on eth0/);
});

test('an address whose link is not known yet is left out', () => {
  const host = view({ addresses: [address(OTHER, '192.0.2.2/24')] });
  assert.equal(host.ownAddresses.size, 0);
});

test('interfacesInUse() are the selected NICs that have a subnet', () => {
  const links = [...TWO, link(OTHER, 'eth2')];
  const addresses = [
    address(ETH0, '192.0.2.2/24'),
    address(ETH1, '198.51.100.2/24'),
    address(OTHER, 'fe80::2/64'),
  ];
  const names = (patterns: readonly string[]) =>
    interfacesInUse(view({ links, addresses, patterns })).map((nic) => nic.name);
  assert.deepEqual(names([]), ['eth0']);
  assert.deepEqual(names(['*']), ['eth0', 'eth1']);
  assert.deepEqual(names(['eth2']), []);
});

test('interfacesInUse() are selected for a family of which they have a subnet', () => {
  const links = [...TWO, link(OTHER, 'docker0')];
  const addresses = [address(ETH0, '192.0.2.2/24'), address(OTHER, '172.17.0.1/16')];
  // IPv6 has no default route, so that every NIC counts for it.
  const only4 = view({ links, addresses, routes: [defaultRoute(ETH0, '192.0.2.1' as Ip)] });
  assert.ok(only4.selected.v6.has(OTHER));
  const names = (host: HostView) => interfacesInUse(host).map(({ name }) => name);
  assert.deepEqual(names(only4), ['eth0']);
  const both = view({
    links,
    addresses: [...addresses, address(OTHER, '2001:db8::2/64')],
    routes: [defaultRoute(ETH0, '192.0.2.1' as Ip)],
  });
  assert.deepEqual(names(both), ['eth0', 'docker0']);
  assert.deepEqual(
    strictArpNics(both).map(({ name }) => name),
    ['eth0'],
    'no ARP where IPv6 is all that it carries',
  );
});

test('strictArpNics() are those in use for IPv4, and others in their subnets, which are on their segment', () => {
  const links = [...TWO, link(OTHER, 'eth2')];
  const names = (second: string, third: string) =>
    strictArpNics(
      view({
        links,
        addresses: [address(ETH0, '192.0.2.2/24'), address(ETH1, second), address(OTHER, third)],
        patterns: ['eth0'],
      }),
    ).map(({ name }) => name);
  assert.deepEqual(names('192.0.2.3/24', '198.51.100.2/24'), ['eth0', 'eth1']);
  assert.deepEqual(names('192.0.2.200/28', '192.0.0.9/16'), ['eth0', 'eth1', 'eth2'], 'also in part');
  assert.deepEqual(names('192.0.3.3/24', '2001:db8::2/64'), ['eth0']);
});

test('the MACs of all links count as own, also those of members of a bridge', () => {
  const host = view({ links: [link(ETH0, 'eth0'), link(ETH1, 'eth1', { master: OTHER })] });
  assert.deepEqual([...host.macs].sort(), ['02:00:00:00:00:02', '02:00:00:00:00:03']);
});

const CHANGES: readonly (readonly [what: string, facts: Facts, same: boolean])[] = [
  ['nothing', {}, true],
  [
    'a virtual link without addresses',
    { links: [link(ETH0, 'eth0'), link(OTHER, 'tun0', { mac: undefined, type: 65534 })] },
    true,
  ],
  ['the name', { links: [link(ETH0, 'lan0')] }, false],
  ['the carrier', { links: [link(ETH0, 'eth0', { flags: 0x1 })] }, false],
  ['an own address', { addresses: [address(ETH0, '192.0.2.3/24'), address(ETH0, '2001:db8::2/64')] }, false],
  [
    'the gateway',
    { routes: [defaultRoute(ETH0, '192.0.2.254' as Ip), defaultRoute(ETH0, 'fe80::1' as Ip)] },
    false,
  ],
  ['the selection', { patterns: ['eth1'] }, false],
];

for (const [what, facts, same] of CHANGES) {
  test(`the signature ${same ? 'stays' : 'differs'} when ${what} changes`, () => {
    assert.equal(view(facts).signature === view().signature, same);
  });
}

test('property: neither the signature nor any decision depends on the order in which the kernel tells', () => {
  const links = [link(ETH0, 'eth0'), link(ETH1, 'eth1'), link(LO, 'lo', { flags: UP | LOOPBACK })];
  const addresses = [
    address(ETH0, '192.0.2.2/24'),
    address(ETH0, '198.51.100.2/24'),
    address(ETH0, '192.0.2.130/25'),
    address(ETH1, '192.0.2.3/24'),
    address(ETH1, '192.0.2.9/32'),
    address(LO, '192.0.2.9/32'),
    address(ETH1, '2001:db8::2/64'),
    address(ETH0, '2001:db8:1::2/64'),
  ];
  const routes = [
    defaultRoute(ETH0, '192.0.2.1' as Ip),
    defaultRoute(ETH1, '198.51.100.1' as Ip),
    defaultRoute(ETH1, 'fe80::1' as Ip),
  ];
  const expected = view({ links, addresses, routes });
  const asked = ['192.0.2.7', '192.0.2.9', '192.0.2.140', '198.51.100.7', '2001:db8::7', '2001:db8:1::7'];
  const shuffled = <Value>(values: readonly Value[]) =>
    fc.shuffledSubarray([...values], { minLength: values.length, maxLength: values.length });
  fc.assert(
    fc.property(shuffled(links), shuffled(addresses), shuffled(routes), (l, a, r) => {
      const host = view({ links: l, addresses: a, routes: r });
      assert.equal(host.signature, expected.signature);
      for (const ip of asked) assert.equal(placed(ip, host), placed(ip, expected));
    }),
  );
});
