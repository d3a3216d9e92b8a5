import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../../src/config/parse.ts';
import type { Config } from '../../../src/config/types.ts';
import { describeDrift, sharedDigest } from '../../../src/daemon/shared-config.ts';

type Pools = Readonly<Record<string, string>>;

const POOLS: Pools = { default: '192.0.2.0/25', edge: '192.0.2.128/26', six: '2001:db8::/64' };

function configOf(pools: Pools, text = ''): Config {
  const tables = Object.entries(pools).map(([name, addresses]) => {
    return `[[pool]]\nname = "${name}"\naddresses = ["${addresses}"]\n`;
  });
  const parsed = parseConfig(`${text}\n${tables.join('')}`, 'f', { hostName: 'edge' });
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value.config;
}

function drift(theirs: Pools, text = '', ownText = ''): string | undefined {
  return describeDrift(configOf(POOLS, ownText), sharedDigest(configOf(theirs, text)));
}

test('sharedDigest() has eight digits and is the same for what means the same', () => {
  assert.match(sharedDigest(configOf(POOLS)), /^[0-9a-f]{8}$/);
  const { default: first, ...rest } = POOLS;
  assert.equal(drift(POOLS), undefined);
  assert.equal(drift({ ...rest, default: first ?? '' }), undefined);
  assert.equal(drift({ ...POOLS, default: '192.0.2.0-192.0.2.127' }), undefined);
  // What each host has for itself.
  assert.equal(drift(POOLS, 'host.name = "other"\nlog.level = "debug"\nlocal.lifetime = "10s"'), undefined);
});

test('describeDrift() names the one pool that differs, is missing, or is too many', () => {
  assert.equal(drift({ ...POOLS, edge: '192.0.2.128/27' }), 'pool "edge" differs');
  const { six, ...without } = POOLS;
  assert.equal(drift(without), 'pool "six" is missing there');
  const more = drift({ ...POOLS, more: '198.51.100.0/24' });
  assert.equal(more, 'it has a pool that this host has not, or several things differ');
  assert.equal(describeDrift(configOf(without), sharedDigest(configOf(POOLS))), more);
  assert.ok(six);
});

test('describeDrift() names a setting that every host must have alike', () => {
  const differs = (text: string, ownText = '') => drift(POOLS, text, ownText);
  assert.equal(
    differs('kubernetes.load_balancer_class = "example.com/lbd"'),
    'kubernetes.load_balancer_class differs',
  );
  const gossip = '[gossip]\nseeds = ["192.0.2.1"]\n';
  assert.equal(differs(`${gossip}weight = 50`, gossip), undefined);
  assert.equal(differs(`${gossip}profile = "fast"`, gossip), 'gossip.timing differs');
  assert.equal(
    differs(`${gossip}exclude_labelled_nodes = false`, gossip),
    'which Nodes gossip excludes differs',
  );
});

test('describeDrift() names what differs of virtual addresses: their link, its routes, the aggregate of a pool', () => {
  const differs = (text: string, ownText = '') => drift(POOLS, text, ownText);
  const virtual = (text: string) => `[virtual]\n${text}\n`;
  assert.equal(differs(virtual('interface = "lb0"')), 'virtual.interface differs');
  assert.equal(differs(virtual('type = "bridge"')), 'virtual.type differs');
  assert.equal(differs(virtual('table = 1000')), 'virtual.table or protocol differs');
  assert.equal(
    differs(virtual('protocol = 200'), virtual('protocol = 108')),
    'virtual.table or protocol differs',
  );
  assert.equal(differs(virtual('interface = "kube-lb0"')), undefined);
  const pool = '[[pool]]\nname = "routed"\naddresses = ["203.0.113.0/24", "2001:db8:1::/112"]\n';
  const wide = `${pool}aggregate = { v4 = 24, v6 = 64 }\n`;
  assert.equal(differs(wide, pool), 'pool "routed" differs');
  assert.equal(differs(`${pool}aggregate = { v4 = 24, v6 = 112 }\n`, wide), 'pool "routed" differs');
  assert.equal(differs(wide, wide), undefined);
});

test('describeDrift() sees several differences, and names none of them wrongly', () => {
  const several = 'it has a pool that this host has not, or several things differ';
  assert.equal(drift({ ...POOLS, edge: '192.0.2.128/27', six: '2001:db8:1::/64' }), several);
  for (let index = 0; index < 100; index++) {
    const theirs = { ...POOLS, default: `10.0.${index}.0/24`, edge: `10.1.${index}.0/24` };
    assert.equal(drift(theirs), several);
  }
});

test('describeDrift() names each of many pools', () => {
  const many = Object.fromEntries(
    Array.from({ length: 100 }, (_, index) => [`p${index}`, `10.0.${index}.0/24`]),
  );
  const own = configOf(many);
  for (const name of Object.keys(many)) {
    const other = sharedDigest(configOf({ ...many, [name]: '192.0.2.0/24' }));
    const named = describeDrift(own, other) ?? '';
    assert.ok(named.includes(`pool "${name}"`) && named.endsWith('" differs'), `${name}: ${named}`);
    assert.ok(named.split(' or ').length <= 2, named);
  }
});
