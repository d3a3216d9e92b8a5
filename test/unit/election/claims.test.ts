import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CLAIM_LIMIT, Claims, MAX_EPOCH, WANTED_LIMIT } from '../../../src/election/claims.ts';
import { winsTie } from '../../../src/election/rank.ts';
import type { Claim, MemberName } from '../../../src/election/types.ts';
import { instant } from '../../../src/lib/time.ts';
import { address } from './ownership-cluster.ts';

const [A, B, C] = ['a', 'b', 'c'] as readonly string[] as readonly [MemberName, MemberName, MemberName];
const NOW = instant(1);

function table(self = A, isWanted: (ip: string) => boolean = () => true): Claims {
  return new Claims(self, isWanted);
}

function claim(index: number, owner: MemberName | undefined, epoch: number): Claim {
  return { ip: address(index), owner, epoch };
}

test('merge() keeps the higher epoch, and says how a claim compares', () => {
  const claims = table();
  assert.equal(claims.merge(claim(0, A, 2), NOW), 'newer');
  assert.equal(claims.merge(claim(0, A, 2), NOW), 'same');
  assert.equal(claims.merge(claim(0, B, 1), NOW), 'older');
  assert.equal(claims.merge(claim(0, B, 3), instant(7)), 'newer');
  assert.deepEqual(claims.get(address(0)), claim(0, B, 3));
  assert.equal(claims.since(address(0)), 7);
  assert.deepEqual([...claims.ownedBy(A)], []);
  assert.deepEqual([...claims.ownedBy(B)], [address(0)]);
});

test('merge() prefers an owner to a release of the same epoch, and of two owners the one who wins the tie', () => {
  const claims = table();
  claims.merge(claim(0, undefined, 4), NOW);
  assert.equal(claims.merge(claim(0, B, 4), NOW), 'newer');
  assert.equal(claims.merge(claim(0, undefined, 4), NOW), 'older');
  const wins = winsTie(address(0), C, B);
  assert.equal(claims.merge(claim(0, C, 4), NOW), wins ? 'newer' : 'older');
  assert.equal(claims.get(address(0))?.owner, wins ? C : B);
});

test('merge() refuses an epoch that leaves no room above it', () => {
  const claims = table();
  assert.equal(claims.merge(claim(0, A, MAX_EPOCH + 1), NOW), 'older');
  assert.equal(claims.merge(claim(0, A, Number.NaN), NOW), 'older');
  assert.equal(claims.size, 0);
});

const anyClaim = fc
  .tuple(fc.nat(5), fc.constantFrom(A, B, C, undefined), fc.integer({ min: 1, max: 6 }))
  .map(([index, owner, epoch]) => claim(index, owner, epoch));

test('tables are equal after the same claims in any order, repeated or not, and so are their digests', () => {
  const input = fc
    .array(anyClaim, { maxLength: 40 })
    .chain((claims) =>
      fc.tuple(
        fc.constant(claims),
        fc.shuffledSubarray([...claims, ...claims], { minLength: 2 * claims.length }),
      ),
    );
  fc.assert(
    fc.property(input, ([claims, shuffled]) => {
      const [left, right] = [table(A), table(B)];
      for (const each of claims) left.merge(each, NOW);
      for (const each of shuffled) right.merge(each, NOW);
      const content = (claims: Claims) => new Map([...claims.list()].map((each) => [each.ip, each]));
      assert.deepEqual(content(left), content(right));
      assert.equal(left.digest(), right.digest());
      for (const owner of [A, B, C]) {
        assert.deepEqual(new Set(left.ownedBy(owner)), new Set(right.ownedBy(owner)));
        assert.equal(left.digestOf(owner), right.digestOf(owner));
        if (left.ownedBy(owner).size === 0) assert.equal(left.digestOf(owner), 0);
      }
    }),
  );
});

test('digests differ when the owners or their epochs do, and not for what is released', () => {
  const released = table();
  released.merge(claim(0, undefined, 3), NOW);
  assert.equal(released.digest(), table().digest());
  const seen = new Set<number>();
  for (let index = 0; index < 100; index++) {
    for (let epoch = 1; epoch <= 20; epoch++) {
      for (const owner of [A, B, C]) {
        const claims = table();
        claims.merge(claim(index, owner, epoch), NOW);
        seen.add(claims.digest());
      }
    }
  }
  // 6,000 of 2^32: one coincidence in 240 such tests.
  assert.ok(seen.size >= 5_999);
});

test('beyond CLAIM_LIMIT what is not wanted goes first, the oldest first, own claims never', () => {
  const wanted = new Set([address(0), address(1)]);
  const claims = table(A, (ip) => wanted.has(ip as never));
  claims.merge(claim(0, B, 1), NOW);
  claims.merge(claim(2, A, 1), NOW);
  claims.merge(claim(3, B, 1), NOW);
  for (let index = 4; index <= CLAIM_LIMIT + 1; index++) claims.merge(claim(index, B, 1), NOW);
  assert.ok(claims.size <= CLAIM_LIMIT && claims.size >= CLAIM_LIMIT * 0.9);
  assert.notEqual(claims.get(address(0)), undefined, 'wanted');
  assert.notEqual(claims.get(address(2)), undefined, 'own');
  assert.equal(claims.get(address(3)), undefined, 'the oldest of the others');
  assert.notEqual(claims.get(address(CLAIM_LIMIT + 1)), undefined, 'the newest');
  assert.equal(claims.ownedBy(B).size, claims.size - 1);
});

test('up to WANTED_LIMIT what is wanted stays, and is the same on all hosts, whatever else they hear', () => {
  const wanted = new Set(Array.from({ length: WANTED_LIMIT }, (_, index) => address(index)));
  const left = table(A, (ip) => wanted.has(ip as never));
  const right = table(B, (ip) => wanted.has(ip as never));
  const stray = (claims: Claims, from: number) => {
    for (let index = 0; index < CLAIM_LIMIT; index++) claims.merge(claim(from + index, C, 1), NOW);
  };
  stray(left, WANTED_LIMIT);
  for (const claims of [left, right])
    for (let index = 0; index < WANTED_LIMIT; index++)
      claims.merge(claim(index, [A, B, C][index % 3], 1 + (index % 5)), NOW);
  stray(right, 2 * CLAIM_LIMIT);
  for (const ip of wanted) {
    assert.notEqual(left.get(ip), undefined);
    assert.deepEqual(left.get(ip), right.get(ip));
  }
  assert.ok(left.size <= CLAIM_LIMIT && right.size <= CLAIM_LIMIT);
});

test('what was dropped is claimed anew above what others may still know of it', () => {
  const claims = table(A, () => false);
  claims.merge(claim(0, B, 7), NOW);
  assert.equal(claims.floor, 0);
  for (let index = 1; index <= CLAIM_LIMIT; index++) claims.merge(claim(index, B, 1), NOW);
  assert.equal(claims.get(address(0)), undefined);
  assert.equal(claims.floor, 7);
});

test('CLAIM_LIMIT holds also when all claims are wanted', () => {
  const claims = table(A);
  for (let index = 0; index < CLAIM_LIMIT + 100; index++) claims.merge(claim(index, B, 1), NOW);
  assert.ok(claims.size <= CLAIM_LIMIT);
});
