import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Eligibility } from '../../../src/election/eligibility.ts';
import { draw, hashText, winsTie } from '../../../src/election/rank.ts';
import type { MemberName } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { address, metaOf } from './ownership-cluster.ts';

const ADDRESSES = Array.from({ length: 10_000 }, (_, index) => address(index));

/** How many of ADDRESSES each has, by `heir()`. */
function shares(
  names: readonly string[],
  weightOf: (index: number) => number = () => 100,
): Map<string, number> {
  const eligibility = new Eligibility();
  for (const [index, name] of names.entries()) {
    eligibility.memberChanged(name as MemberName, metaOf(index, { weight: weightOf(index) }), true);
  }
  const counts = new Map(names.map((name) => [name, 0]));
  for (const ip of ADDRESSES) {
    const heir = eligibility.heir(eligibility.addPlace(ip, undefined)) ?? '';
    counts.set(heir, (counts.get(heir) ?? 0) + 1);
  }
  return counts;
}

const NAMINGS: readonly ((index: number) => string)[] = [
  (index) => `node-${index}`,
  (index) => `worker${String(index).padStart(3, '0')}`,
  (index) => `k8s-${index}.rack${index % 10}.example.net`,
  (index) => `${index}`,
];

test('10,000 addresses spread over 100 equal hosts: the fullest has at most 1.35 times the mean', () => {
  for (const naming of NAMINGS) {
    const counts = shares(Array.from({ length: 100 }, (_, index) => naming(index)));
    const most = Math.max(...counts.values());
    assert.ok(most / 100 <= 1.35, `${naming(7)}: ${most}`);
    assert.ok(Math.min(...counts.values()) >= 65);
  }
});

test('hosts of twice the weight get twice as many, within 10 %', () => {
  for (const naming of NAMINGS) {
    const names = Array.from({ length: 20 }, (_, index) => naming(index));
    const counts = [...shares(names, (index) => (index < 10 ? 200 : 100)).values()];
    const sum = (part: readonly number[]): number => part.reduce((total, count) => total + count, 0);
    const ratio = sum(counts.slice(0, 10)) / sum(counts.slice(10));
    assert.ok(ratio >= 1.8 && ratio <= 2.2, `${naming(7)}: ${ratio}`);
  }
});

test('a host that goes moves only its own, and they spread over all the others', () => {
  const names = Array.from({ length: 20 }, (_, index) => `node-${index}`);
  const eligibility = new Eligibility();
  for (const [index, name] of names.entries())
    eligibility.memberChanged(name as MemberName, metaOf(index), true);
  const places = ADDRESSES.map((ip) => eligibility.addPlace(ip, undefined));
  const before = places.map((place) => eligibility.heir(place));
  eligibility.memberChanged('node-3' as MemberName, metaOf(3), false);
  const heirs = new Set<string | undefined>();
  for (const [index, place] of places.entries()) {
    const heir = eligibility.heir(place);
    if (before[index] === 'node-3') heirs.add(heir);
    else assert.equal(heir, before[index]);
  }
  assert.equal(heirs.size, 19);
});

test('heir() is the member of rank 0, and the ranks of all candidates are a permutation', () => {
  const eligibility = new Eligibility();
  const names = Array.from({ length: 12 }, (_, index) => `node-${index}` as MemberName);
  for (const [index, name] of names.entries()) {
    eligibility.memberChanged(name, metaOf(index, { weight: 50 + 25 * (index % 4) }), true);
  }
  for (const ip of ADDRESSES.slice(0, 200)) {
    const place = eligibility.addPlace(ip, undefined);
    const ranks = names.map((name) => eligibility.rankOf(name, place) ?? -1);
    assert.deepEqual(
      [...ranks].sort((a, b) => a - b),
      names.map((_, index) => index),
    );
    const heir = eligibility.heir(place);
    assert.equal(heir, names[ranks.indexOf(0)]);
    assert.equal(eligibility.heir(place, new Set(heir && [heir])), names[ranks.indexOf(1)]);
  }
});

test('winsTie() is a total order of any names', () => {
  const name = fc.string({ minLength: 1, maxLength: 20 }) as fc.Arbitrary<MemberName>;
  fc.assert(
    fc.property(fc.nat(5_000), name, name, name, (index, a, b, c) => {
      const ip = address(index);
      if (a !== b) assert.notEqual(winsTie(ip, a, b), winsTie(ip, b, a));
      else assert.equal(winsTie(ip, a, b), false);
      if (winsTie(ip, a, b) && winsTie(ip, b, c)) assert.ok(winsTie(ip, a, c));
    }),
  );
});

test('draws of neighbouring addresses and names have nothing in common', () => {
  // Of 32 bits, 16 differ on average; a mean over 10,000 pairs strays by 0.03.
  const differing = (left: number, right: number): number => {
    let bits = 0;
    for (let rest = (left ^ right) >>> 0; rest > 0; rest >>>= 1) bits += rest & 1;
    return bits;
  };
  let byAddress = 0;
  let byName = 0;
  for (let index = 0; index < 10_000; index++) {
    const [here, next] = [hashText(address(index)), hashText(address(index + 1))];
    const [name, other] = [hashText(`node-${index}`), hashText(`node-${index + 1}`)];
    byAddress += differing(draw(here, name), draw(next, name));
    byName += differing(draw(here, name), draw(here, other));
  }
  assert.ok(Math.abs(byAddress / 10_000 - 16) < 0.2, `${byAddress / 10_000} bits by address`);
  assert.ok(Math.abs(byName / 10_000 - 16) < 0.2, `${byName / 10_000} bits by name`);
});

test('only members with a subnet that holds the address are candidates, v4 and v6', () => {
  const eligibility = new Eligibility();
  const [first, second] = ['first', 'second'] as readonly string[] as readonly [MemberName, MemberName];
  const segment = (network: string, length: number, ip: string) => ({
    subnet: { network: network as Ip, length },
    ip: ip as Ip,
    mac: metaOf(1).segments[0]?.mac ?? assert.fail(),
  });
  const both = [segment('192.0.2.0', 24, '192.0.2.1'), segment('2001:db8::', 64, '2001:db8::1')];
  const v4 = eligibility.addPlace('192.0.2.200' as Ip, undefined);
  const v6 = eligibility.addPlace('2001:db8::200' as Ip, undefined);
  const elsewhere = eligibility.addPlace('198.51.100.1' as Ip, undefined);
  assert.equal(eligibility.heir(v4), undefined);
  assert.equal(eligibility.memberChanged(first, metaOf(1, { segments: both }), true), true);
  assert.equal(eligibility.memberChanged(second, metaOf(2, { segments: both.slice(0, 1) }), true), true);
  assert.equal(eligibility.rankOf(second, v6), undefined);
  assert.equal(eligibility.heir(v6), first);
  assert.equal(eligibility.heir(elsewhere), undefined);
  assert.deepEqual([...eligibility.placesIn('2001:db8::/64' as never)], [v6]);
  // The first loses v6 and keeps v4.
  assert.equal(eligibility.memberChanged(first, metaOf(1, { segments: both.slice(0, 1) }), true), true);
  assert.equal(eligibility.heir(v6), undefined);
  assert.equal(eligibility.reaches(first, v4), true);
  assert.equal(eligibility.memberChanged(second, undefined, false), true);
  assert.equal(eligibility.heir(v4), first);
});

test('drained members, excluded nodes and nodes without an endpoint are no candidates', () => {
  const eligibility = new Eligibility();
  const names = ['a', 'b', 'c', 'd'] as readonly string[] as readonly MemberName[];
  for (const [index, name] of names.entries()) eligibility.memberChanged(name, metaOf(index), true);
  const place = eligibility.addPlace(address(0), new Set(['node-1', 'node-2', 'node-3']));
  const candidates = (): readonly string[] => names.filter((name) => eligibility.isCandidate(name, place));
  assert.deepEqual(candidates(), ['b', 'c', 'd']);
  eligibility.memberChanged('b' as MemberName, metaOf(1, { drained: true }), true);
  assert.deepEqual(candidates(), ['c', 'd']);
  assert.equal(eligibility.excludedNodesChanged(new Set(['node-3'])), true);
  assert.deepEqual(candidates(), ['c']);
  assert.equal(eligibility.heir(place), 'c');
  // Nothing that matters changed.
  assert.equal(eligibility.memberChanged('c' as MemberName, metaOf(2, { version: '2.0.0' }), true), false);
  assert.equal(eligibility.excludedNodesChanged(new Set(['node-3', 'node-9'])), false);
});
