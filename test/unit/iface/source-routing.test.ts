import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeDatagram } from '../../../src/iface/netlink-codec.ts';
import { encodeSourceRequest } from '../../../src/iface/netlink-rule-requests.ts';
import { hasLbdTag, viewHost } from '../../../src/iface/nic-selection.ts';
import {
  isOwnRule,
  isOwnSourceRoute,
  sourceRequests,
  sourceRouting,
  unknownGatewayText,
  wantedSourceRoutes,
} from '../../../src/iface/source-routing.ts';
import type { IfIndex, KernelRoute, Link } from '../../../src/iface/types.ts';
import { formatPrefix, type Ip } from '../../../src/lib/ip.ts';
import { defaultRoute, ETH0, ETH1, kernelAddress, link } from '../../support/fake-host.ts';

const NOTHING = { rules: [], routes: [] };
const SETTINGS = [{ name: 'eth1', gateways: [] }];

function states(
  routes: readonly KernelRoute[],
  settings: Parameters<typeof sourceRouting>[0] = SETTINGS,
  eth1: Partial<Link> = {},
  formerNames: ReadonlyMap<IfIndex, string> = new Map(),
) {
  const links = [link(ETH0, 'eth0'), link(ETH1, 'eth1', eth1)];
  const addresses = [
    kernelAddress(ETH0, '192.0.2.2' as Ip, 24, undefined, Number.POSITIVE_INFINITY),
    kernelAddress(ETH1, '10.1.0.2' as Ip, 24, undefined, Number.POSITIVE_INFINITY),
    kernelAddress(ETH1, '2001:db8::2' as Ip, 64, undefined, Number.POSITIVE_INFINITY),
  ];
  const host = viewHost({ links, addresses, routes }, { interfaces: ['eth*'] }, hasLbdTag, formerNames);
  return sourceRouting(settings, host, routes);
}

const VIA_ETH1 = { ...defaultRoute(ETH1, '10.1.0.1' as Ip), metric: 200 };

/** In the words of `ip`. */
function spoken({ rules, routes }: ReturnType<typeof wantedSourceRoutes>): readonly string[] {
  return [
    ...rules.map(({ priority, from, table, suppressPrefixLength: length }) => {
      const suppressed = length === undefined ? '' : ` suppress_prefixlength ${length}`;
      return `${priority}: from ${formatPrefix(from)} lookup ${table}${suppressed}`;
    }),
    ...routes.map(({ gateway, ifIndex, table }) => `default via ${gateway} dev ${ifIndex} table ${table}`),
  ];
}

test('a NIC has two rules for each subnet of which a gateway is known, and a table with that', () => {
  assert.deepEqual(spoken(wantedSourceRoutes(states([defaultRoute(ETH0, '192.0.2.1' as Ip), VIA_ETH1]))), [
    '10800: from 10.1.0.0/24 lookup 254 suppress_prefixlength 0',
    '10801: from 10.1.0.0/24 lookup 108000003',
    'default via 10.1.0.1 dev 3 table 108000003',
  ]);
});

test('without a gateway nothing is done, and the text says what to write', () => {
  const known = states([]);
  assert.deepEqual(wantedSourceRoutes(known), NOTHING);
  assert.match(known.map(unknownGatewayText).join('\n'), /no gateway of eth1 is known for 10\.1\.0\.0\/24/);
  const named = states([VIA_ETH1], [{ name: 'eth*', gateways: ['10.1.0.254' as Ip, 'fe80::1' as Ip] }]);
  assert.deepEqual(
    wantedSourceRoutes(named)
      .routes.filter(({ ifIndex }) => ifIndex === ETH1)
      .map(({ gateway }) => gateway),
    ['10.1.0.254', 'fe80::1'],
  );
});

test('a NIC that was renamed while lbd runs keeps what is configured for its former name', () => {
  const known = states([VIA_ETH1]);
  const renamed = states([VIA_ETH1], SETTINGS, { name: 'lan1' }, new Map([[ETH1, 'eth1']]));
  assert.deepEqual(wantedSourceRoutes(renamed), wantedSourceRoutes(known));
  assert.equal(renamed[0]?.interface, 'lan1');
  assert.deepEqual(states([VIA_ETH1], SETTINGS, { name: 'lan1' }), []);
});

test('a NIC that is down, or not configured, has none', () => {
  assert.deepEqual(states([VIA_ETH1], SETTINGS, { flags: 0x2 }), []);
  assert.deepEqual(states([VIA_ETH1], [{ name: 'bond*', gateways: [] }]), []);
});

test('from what is there to what is wanted goes by the least, and never past a rule without a route', () => {
  const wanted = wantedSourceRoutes(states([VIA_ETH1]));
  const kinds = (present: typeof wanted) => sourceRequests(wanted, present).map(({ kind }) => kind);
  assert.deepEqual(kinds(NOTHING), ['replace-source-route', 'add-rule', 'add-rule']);
  assert.deepEqual(kinds(wanted), []);
  const moved = wanted.routes.map((route) => ({ ...route, gateway: '10.1.0.9' as Ip }));
  assert.deepEqual(kinds({ ...wanted, routes: moved }), ['replace-source-route']);
  assert.deepEqual(
    sourceRequests(NOTHING, wanted).map(({ kind }) => kind),
    ['delete-rule', 'delete-rule', 'delete-source-route'],
  );
});

test('a rule is read as it was written, and is known as lbd’s by all that makes it so', () => {
  for (const rule of wantedSourceRoutes(states([VIA_ETH1])).rules) {
    const [message] = decodeDatagram(encodeSourceRequest(1, { kind: 'add-rule', rule })).messages;
    assert.ok(message?.kind === 'rule');
    assert.deepEqual(message.rule, { ...rule, protocol: 108 });
    assert.equal(isOwnRule(message.rule), true);
    assert.equal(isOwnRule({ ...message.rule, protocol: 0 }), false);
    assert.equal(isOwnRule({ ...message.rule, priority: 100 }), false);
    assert.equal(isOwnRule({ ...message.rule, table: 100 }), false);
  }
  assert.equal(isOwnSourceRoute({ ...VIA_ETH1, table: 108_000_003, protocol: 108 }), true);
  assert.equal(isOwnSourceRoute({ ...VIA_ETH1, table: 108_000_003 }), false);
  assert.equal(isOwnSourceRoute({ ...VIA_ETH1, protocol: 108 }), false);
});
