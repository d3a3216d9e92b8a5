import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ring } from '../../../src/election/ring.ts';
import type { Endpoint, MemberName, SegmentKey } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { seededRandom } from '../../../src/lib/prng.ts';

const SEGMENT = '10.0.0.0/24' as SegmentKey;

function nameOf(index: number): MemberName {
  return `host-${index}` as MemberName;
}

function endpointOf(index: number): Endpoint {
  return { ip: `10.0.${index >> 8}.${index & 255}` as Ip, port: 7946 };
}

function ringOf(self: number, count: number, alive: (index: number) => boolean = () => true): Ring {
  const ring = new Ring(SEGMENT, nameOf(self));
  for (let index = 0; index < count; index++) {
    if (index !== self) ring.put(nameOf(index), endpointOf(index), endpointOf(index), 1, alive(index));
  }
  return ring;
}

function neighboursOf(ring: Ring): readonly MemberName[] {
  return ring.neighbours().map(({ name }) => name);
}

test('neighbours() is one circle through all members, the same for each of them', () => {
  for (const count of [3, 4, 10, 200]) {
    const next = new Map<MemberName, readonly MemberName[]>();
    for (let self = 0; self < count; self++) next.set(nameOf(self), neighboursOf(ringOf(self, count)));
    const seen = new Set<MemberName>();
    let at = nameOf(0);
    while (!seen.has(at)) {
      seen.add(at);
      const [after, before] = next.get(at) ?? [];
      assert.ok(after && before);
      assert.equal(next.get(after)?.[1], at);
      at = after;
    }
    assert.equal(seen.size, count);
  }
});

test('neighbours() is the other one of two, and nobody of one', () => {
  assert.deepEqual(neighboursOf(ringOf(0, 2)), [nameOf(1)]);
  assert.deepEqual(neighboursOf(ringOf(0, 1)), []);
});

test('neighbours() reaches beyond one that is suspected or silent', () => {
  const count = 9;
  const [after, before] = neighboursOf(ringOf(0, count));
  const ring = ringOf(0, count, (index) => nameOf(index) !== after);
  const found = neighboursOf(ring);
  assert.equal(found.length, 3);
  assert.ok(after && before && found.includes(after) && found.includes(before));
  const silent = ring.get(before);
  assert.ok(silent);
  silent.silent = true;
  assert.equal(neighboursOf(ring).length, 4);
  assert.equal(neighboursOf(ringOf(0, 30, (index) => index === 17)).length, 5);
  assert.deepEqual(new Set(neighboursOf(ringOf(0, 3, () => false))), new Set([nameOf(1), nameOf(2)]));
});

test('remove() and put() keep the order, and tell whether neighbours can have changed', () => {
  const ring = ringOf(0, 50);
  for (let index = 1; index < 50; index += 2) assert.equal(ring.remove(nameOf(index)), true);
  assert.equal(ring.remove(nameOf(1)), false);
  for (let index = 49; index > 0; index -= 2) {
    assert.equal(ring.put(nameOf(index), endpointOf(index), endpointOf(index), 2, true), true);
  }
  assert.equal(ring.put(nameOf(7), endpointOf(7), endpointOf(7), 3, true), false);
  assert.equal(ring.get(nameOf(7))?.incarnation, 3);
  assert.equal(ring.put(nameOf(7), endpointOf(7), endpointOf(7), 3, false), true);
  assert.equal(ring.put(nameOf(7), endpointOf(7), endpointOf(7), 3, true), true);
  assert.equal(ring.size, 49);
  assert.deepEqual(neighboursOf(ring), neighboursOf(ringOf(0, 50)));
});

test('put() takes a member at another address for another one', () => {
  const ring = ringOf(0, 5);
  const before = ring.get(nameOf(1));
  assert.equal(ring.put(nameOf(1), endpointOf(77), endpointOf(77), 1, true), true);
  assert.notEqual(ring.get(nameOf(1)), before);
  assert.deepEqual(ring.get(nameOf(1))?.to, endpointOf(77));
  assert.equal(ring.size, 4);
});

test('relays() asks those next to the target first, neither the target nor those that are silent', () => {
  const random = seededRandom(1);
  const ring = ringOf(0, 30);
  const target = nameOf(5);
  const beside = neighboursOf(ringOf(5, 30)).filter((name) => name !== nameOf(0));
  for (let round = 0; round < 50; round++) {
    const names = ring.relays(target, 4, random).map(({ name }) => name);
    assert.equal(new Set(names).size, 4);
    assert.ok(!names.includes(target));
    for (const name of beside) assert.ok(names.includes(name));
  }
  assert.deepEqual(ringOf(0, 2).relays(nameOf(1), 3, random), []);
  assert.deepEqual(ringOf(0, 30, () => false).relays(target, 3, random), []);
  assert.deepEqual(ringOf(0, 1).relays(target, 3, random), []);
});

test('any() is each of the others, and undefined for a host alone', () => {
  const random = seededRandom(2);
  const ring = ringOf(0, 6);
  const seen = new Set<MemberName>();
  for (let round = 0; round < 200; round++) {
    const member = ring.any(random);
    assert.ok(member);
    seen.add(member.name);
  }
  assert.equal(seen.size, 5);
  assert.equal(ringOf(0, 1).any(random), undefined);
});
