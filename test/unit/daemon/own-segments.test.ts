import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseSegments } from '../../../src/daemon/own-segments.ts';
import { metaBytes } from '../../../src/election/codec.ts';
import { MAX_META_BYTES, MAX_SEGMENTS } from '../../../src/election/message.ts';
import type { MemberMeta } from '../../../src/election/types.ts';
import { EMPTY_HOST, type HostView, type Nic } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { type Ip, type Prefix, parseIp, parsePrefix } from '../../../src/lib/ip.ts';

const V4 = ['10.0.0.7/24'];

/** A host with a NIC for each list of its addresses, `192.0.2.7/24`, all selected but for those that `unselected` counts. */
function hostWith(nics: readonly (readonly string[])[], unselected: readonly number[] = []) {
  const own = new Map<Ip, string>();
  const views = nics.map((addresses, index): Nic => {
    const name = `eth${index}`;
    const subnets = addresses.map((text) => {
      own.set(ipOf(text.split('/')[0]), name);
      return prefixOf(text);
    });
    return { ifIndex: (index + 2) as IfIndex, name, mac: '02:00:00:00:00:01' as Mac, up: true, subnets };
  });
  const ids = new Set(views.map(({ ifIndex }) => ifIndex).filter((_, index) => !unselected.includes(index)));
  const host: HostView = { ...EMPTY_HOST, nics: views, selected: { v4: ids, v6: ids }, ownAddresses: own };
  return { host, nics: views };
}

function ipOf(text = ''): Ip {
  const ip = parseIp(text);
  assert.ok(ip !== undefined, text);
  return ip;
}

/** The subnet of an address. */
function prefixOf(text: string): Prefix {
  const [ip = '', length = ''] = text.split('/');
  const network = ip.includes(':') ? ip.replace(/::.*$/, '::') : ip.replace(/\.\d+$/, '.0');
  const prefix = parsePrefix(`${network}/${length}`);
  assert.ok(prefix.ok, text);
  return prefix.value;
}

function dualStack(count: number): readonly (readonly string[])[] {
  return Array.from({ length: count }, (_, index) => [`10.0.${index}.7/24`, `fd00:${index + 1}::7/64`]);
}

test('chooseSegments() takes the subnets of selected NICs that are up, with the own address there', () => {
  const { host, nics } = hostWith([['10.0.1.7/24', 'fd00:1::7/64'], V4, ['10.0.2.7/24']], [2]);
  const { segments, absent } = chooseSegments(host, nics, []);
  assert.deepEqual([...segments.keys()], ['10.0.0.0/24', '10.0.1.0/24', 'fd00:1::/64']);
  assert.deepEqual(
    [...segments.values()].map(({ segment, ifIndex }) => [segment.ip, ifIndex]),
    [
      ['10.0.0.7', 3],
      ['10.0.1.7', 2],
      ['fd00:1::7', 2],
    ],
  );
  assert.deepEqual(absent, []);
  const down = nics.map((nic) => ({ ...nic, up: false }));
  assert.equal(chooseSegments(host, down, []).segments.size, 0);
});

test('chooseSegments() takes the subnets of a NIC that only a pool names', () => {
  const { host, nics } = hostWith([V4, ['10.0.2.7/24']], [1]);
  const selected = { v4: new Set([3 as IfIndex]), v6: new Set<IfIndex>() };
  const pools = [{ name: 'storage', ranges: [], selected }];
  assert.deepEqual(
    [...chooseSegments({ ...host, pools }, nics, []).segments.keys()],
    ['10.0.0.0/24', '10.0.2.0/24'],
  );
});

test('chooseSegments() names the subnets that bind does not', () => {
  const { host, nics } = hostWith([V4, ['10.0.2.7/24']]);
  const { segments, absent } = chooseSegments(host, nics, [prefixOf('10.0.0.7/24')]);
  assert.deepEqual([...segments.keys()], ['10.0.0.0/24']);
  assert.deepEqual(
    absent.map(({ segment, why }) => [segment.ip, why]),
    [['10.0.2.7', 'bind']],
  );
});

test('chooseSegments() names what is beyond the limit, and takes the same ones on every host', () => {
  const { host, nics } = hostWith(dualStack(9));
  const { segments, absent } = chooseSegments(host, nics, []);
  assert.equal(segments.size, MAX_SEGMENTS);
  assert.deepEqual(
    absent.map(({ segment, why }) => [segment.ip, why]),
    [
      ['fd00:8::7', 'limit'],
      ['fd00:9::7', 'limit'],
    ],
  );
  const reversed = chooseSegments(host, nics.toReversed(), []);
  assert.deepEqual([...reversed.segments.keys()], [...segments.keys()]);
});

test('a host with the most and longest of everything can tell of itself', () => {
  const { host, nics } = hostWith(Array.from({ length: 16 }, (_, index) => [`fd00:${index + 1}::7/64`]));
  const segments = [...chooseSegments(host, nics, []).segments.values()].map(({ segment }) => segment);
  assert.equal(segments.length, MAX_SEGMENTS);
  const meta: MemberMeta = {
    endpoint: { ip: ipOf('fd00:1::7'), port: 65_535 },
    node: 'n'.repeat(253),
    version: '100.100.100',
    segments,
    drained: true,
    weight: 1_000,
    configDigest: 'd'.repeat(16),
    lifetimeMs: 3_600_000,
  };
  assert.ok(metaBytes(meta) <= MAX_META_BYTES, `${metaBytes(meta)} bytes`);
});
