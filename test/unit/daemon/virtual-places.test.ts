import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PoolConfig } from '../../../src/config/types.ts';
import { VirtualPlaces } from '../../../src/daemon/virtual-places.ts';
import { EMPTY_HOST, type HostView } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { LINGER_MS } from '../../../src/iface/virtual-locality.ts';
import { formatPrefix, type Ip, type Prefix, parsePrefix } from '../../../src/lib/ip.ts';
import { type Instant, NEVER } from '../../../src/lib/time.ts';
import { pool } from '../ipam/fixtures.ts';

function subnet(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

function host(
  subnets: readonly string[],
  own: readonly string[] = [],
  gateways: readonly string[] = [],
): HostView {
  return {
    ...EMPTY_HOST,
    nics: [
      {
        ifIndex: 2 as IfIndex,
        name: 'eth0',
        mac: '02:00:00:00:00:01' as Mac,
        up: true,
        subnets: subnets.map(subnet),
      },
    ],
    ownAddresses: new Map(own.map((ip) => [ip as Ip, 'lo'])),
    gateways: new Set(gateways as Ip[]),
    signature: JSON.stringify([subnets, own, gateways]),
  };
}

function places(pools: readonly PoolConfig[], view = host(['10.0.0.0/24']), others: readonly string[] = []) {
  const found = new VirtualPlaces();
  found.setPools(pools);
  found.update(view, others.map(subnet), 0 as Instant);
  return found;
}

function aggregated(
  name: string,
  addresses: readonly string[],
  aggregate: Partial<PoolConfig['aggregate']>,
): PoolConfig {
  return { ...pool(name, addresses), aggregate: { v4: undefined, v6: undefined, ...aggregate } };
}

function routeOf(found: VirtualPlaces, ip: string): string | undefined {
  const place = found.of(ip as Ip);
  return place && formatPrefix(place.route);
}

test('of() is undefined for what is in a subnet of this host or of another, or is this host’s own', () => {
  const view = host(['10.0.0.0/24', '2001:db8::/64'], ['198.51.100.1'], ['198.51.100.254']);
  const found = places([], view, ['10.0.9.0/24']);
  for (const ip of ['10.0.0.7', '2001:db8::7', '10.0.9.7', '198.51.100.1', '198.51.100.254'])
    assert.equal(found.of(ip as Ip), undefined, ip);
  assert.equal(routeOf(found, '198.51.100.2'), '198.51.100.2/32');
  assert.equal(routeOf(found, '2001:db8:0:1::7'), '2001:db8:0:1::7/128');
});

test('of() is undefined for what is in the subnet of a member of a bridge, bond or VRF, unlike in one of a tunnel', () => {
  const link = { name: 'eth1', subnets: [subnet('10.85.0.0/24')], why: 'it is in the VRF red' };
  const at = (isMember: boolean) => {
    const view = { ...host(['10.0.0.0/24']), unusable: [{ ...link, isMember }] };
    return places([aggregated('a', ['10.85.0.200-10.85.0.210'], { v4: 28 })], view).of('10.85.0.201' as Ip);
  };
  assert.equal(at(true), undefined);
  const place = at(false);
  assert.equal(place && formatPrefix(place.route), '10.85.0.201/32');
  assert.match(
    place?.reason ?? '',
    /aggregate 10\.85\.0\.192\/28 of pool "a" overlaps 10\.85\.0\.0\/24 of eth1/,
  );
});

test('of() takes the aggregate of the pool that has the address, by family', () => {
  const found = places([
    aggregated('a', ['203.0.113.0/25', '2001:db8:a::/64'], { v4: 24 }),
    aggregated('b', ['198.51.100.0/24', '2001:db8:b::10-2001:db8:b::20'], { v4: 26, v6: 64 }),
    pool('c', ['192.0.2.0/24']),
  ]);
  assert.equal(routeOf(found, '203.0.113.5'), '203.0.113.0/24');
  assert.equal(routeOf(found, '2001:db8:a::5'), '2001:db8:a::5/128');
  assert.equal(routeOf(found, '198.51.100.70'), '198.51.100.64/26');
  assert.equal(routeOf(found, '2001:db8:b::11'), '2001:db8:b::/64');
  assert.equal(routeOf(found, '192.0.2.9'), '192.0.2.9/32');
  assert.equal(routeOf(found, '203.0.113.200'), '203.0.113.200/32', 'in the aggregate, but in no pool');
});

test('of() routes an address alone where its aggregate would take something away from the host', () => {
  const pools = [aggregated('a', ['10.1.0.0/24'], { v4: 12 })];
  const cases: readonly (readonly [HostView, RegExp])[] = [
    [host(['10.5.0.0/24']), /aggregate 10\.0\.0\.0\/12 of pool "a" overlaps 10\.5\.0\.0\/24 of eth0/],
    [host(['10.0.0.0/8']), /./],
    [host([], [], ['10.9.0.1']), /holds 10\.9\.0\.1, the gateway of one of this host's routes/],
    [host([], ['10.9.0.2']), /holds 10\.9\.0\.2, which is on lo/],
  ];
  for (const [view, reason] of cases) {
    const place = places(pools, view).of('10.1.0.9' as Ip);
    if (view.nics[0]?.subnets[0]?.length === 8) assert.equal(place, undefined, 'local by then');
    else {
      assert.equal(place && formatPrefix(place.route), '10.1.0.9/32');
      assert.match(place?.reason ?? '', reason);
    }
  }
});

test('of() says what an address means in its aggregate', () => {
  const found = places([aggregated('a', ['203.0.113.0/24', '2001:db8:a::/112'], { v4: 24, v6: 64 })]);
  assert.match(found.of('203.0.113.0' as Ip)?.reserved ?? '', /is the network address of 203\.0\.113\.0\/24/);
  assert.match(found.of('203.0.113.255' as Ip)?.reserved ?? '', /is the broadcast address of/);
  assert.match(found.of('2001:db8:a::' as Ip)?.reserved ?? '', /is the subnet-router anycast address of/);
  assert.equal(found.of('203.0.113.1' as Ip)?.reserved, undefined);
  const alone = places([pool('a', ['203.0.113.0/24'])]);
  assert.equal(alone.of('203.0.113.0' as Ip)?.reserved, undefined);
});

test('of() follows changes of the host, of other members and of the pools', () => {
  const found = places([pool('a', ['203.0.113.0/24'])]);
  assert.equal(routeOf(found, '203.0.113.5'), '203.0.113.5/32');
  found.setPools([aggregated('a', ['203.0.113.0/24'], { v4: 24 })]);
  assert.equal(routeOf(found, '203.0.113.5'), '203.0.113.0/24');
  found.update(host(['10.0.0.0/24']), [subnet('203.0.113.0/24')], 1 as Instant);
  assert.equal(routeOf(found, '203.0.113.5'), undefined);
  found.update(host(['10.0.0.0/24']), [], 2 as Instant);
  assert.equal(routeOf(found, '203.0.113.5'), undefined, 'the other one may be back any moment');
});

test('of() knows nothing before it knows the host', () => {
  assert.equal(new VirtualPlaces().of('203.0.113.5' as Ip), undefined);
});

test('of() tells whether a pool holds the address', () => {
  const found = places([pool('far', ['203.0.113.0/28'])]);
  assert.equal(found.of('203.0.113.15' as Ip)?.isPooled, true);
  assert.equal(found.of('203.0.113.16' as Ip)?.isPooled, false);
});

test('of() is undefined for what was local to somebody before a restart: in a subnet or by a claim, for an hour', () => {
  const found = new VirtualPlaces();
  found.setPools([pool('a', ['203.0.113.0/24', '198.51.100.0/24'])]);
  const gone = { subnet: subnet('203.0.113.0/25'), goneAt: -1_000 as Instant };
  found.restore([gone], 0 as Instant);
  found.restoreClaimed(['198.51.100.7' as Ip], 0 as Instant);
  // A NIC without its address yet.
  const update = (now: number) => found.update(host([]), [], now as Instant);
  update(1);
  assert.equal(found.deadline(), LINGER_MS - 1_000);
  assert.equal(routeOf(found, '203.0.113.5'), undefined);
  assert.equal(routeOf(found, '203.0.113.200'), '203.0.113.200/32');
  assert.equal(routeOf(found, '198.51.100.7'), undefined);
  assert.equal(routeOf(found, '198.51.100.8'), '198.51.100.8/32');
  update(LINGER_MS - 1_000);
  assert.equal(routeOf(found, '203.0.113.5'), '203.0.113.5/32', 'it had gone before the restart');
  assert.equal(found.deadline(), LINGER_MS);
  update(LINGER_MS);
  assert.equal(routeOf(found, '198.51.100.7'), '198.51.100.7/32');
  assert.equal(found.deadline(), NEVER);
});

test('remembered() is what the next run is to know', () => {
  const found = places([], host(['10.0.0.0/24']), ['10.0.9.0/24']);
  found.update(host(['10.0.0.0/24']), [], 5 as Instant);
  assert.deepEqual(
    found.remembered().map(({ subnet: prefix, goneAt }) => [formatPrefix(prefix), goneAt]),
    [
      ['10.0.0.0/24', undefined],
      ['10.0.9.0/24', 5],
    ],
  );
});
