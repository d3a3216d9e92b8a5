import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BroadcastQueue,
  QUEUED_CLAIMS_LIMIT,
  QUEUED_MEMBERS_LIMIT,
} from '../../../src/election/broadcast-queue.ts';
import { updateBytes } from '../../../src/election/codec-updates.ts';
import type { ClaimUpdate, MemberUpdate } from '../../../src/election/message.ts';
import type { MemberName } from '../../../src/election/types.ts';
import { type Ip, ipFromNumber } from '../../../src/lib/ip.ts';
import { instant } from '../../../src/lib/time.ts';
import { metaAt } from './swim-network.ts';

const T0 = instant(5_000);
const ENDPOINT = { ip: '10.0.0.1' as Ip, port: 7946 };

function member(name: string, incarnation = 1, by?: string): MemberUpdate {
  const state = by === undefined ? 'alive' : 'suspect';
  const meta = by === undefined ? metaAt(ENDPOINT) : undefined;
  const names = { name: name as MemberName, by: by as MemberName | undefined };
  return { kind: 'member', incarnation, state, meta, silence: undefined, ...names };
}

function claim(number: number): ClaimUpdate {
  return { kind: 'claim', ip: ipFromNumber('v4', BigInt(number)), owner: 'a' as MemberName, epoch: 1 };
}

test('take() gives each update as often as the limit says, the least travelled first', () => {
  const queue = new BroadcastQueue();
  queue.putMember(member('old'), undefined);
  assert.equal(queue.take(1_200, 1, 3, T0).length, 1);
  queue.putMember(member('new'), undefined);
  const names = () =>
    queue.take(1_200, 1, 3, T0).map((update) => (update.kind === 'member' ? update.name : ''));
  assert.deepEqual(names(), ['new', 'old']);
  assert.deepEqual(names(), ['new', 'old']);
  assert.deepEqual(names(), ['new']);
  assert.deepEqual(names(), []);
  assert.equal(queue.size, 0);
});

test('a newer update replaces the older and travels as if it were the first', () => {
  const queue = new BroadcastQueue();
  queue.putMember(member('a', 1), undefined);
  queue.take(1_200, 2, 3, T0);
  queue.putMember(member('a', 2), undefined);
  assert.equal(queue.size, 1);
  for (let count = 0; count < 3; count++) {
    const [update] = queue.take(1_200, 1, 3, T0);
    assert.equal(update?.kind === 'member' ? update.incarnation : undefined, 2);
  }
  assert.equal(queue.size, 0);
});

test('take() fills a packet and never overfills it', () => {
  const queue = new BroadcastQueue();
  for (let index = 0; index < 50; index++) {
    queue.putMember(member(`member-${index}`), undefined);
    queue.putClaim(claim(index));
  }
  const seen = new Set<string>();
  for (let packet = 0; packet < 10; packet++) {
    const updates = queue.take(1_200, 1, 1, T0);
    const bytes = updates.reduce((sum, update) => sum + updateBytes(update), 0);
    assert.ok(bytes <= 1_200, `${bytes}`);
    for (const update of updates) seen.add(update.kind === 'claim' ? update.ip : update.name);
  }
  assert.equal(seen.size, 100);
  assert.equal(queue.size, 0);
});

test('thousands of claims do not delay a member, nor members the claims', () => {
  const queue = new BroadcastQueue();
  for (let index = 0; index < 5_000; index++) queue.putClaim(claim(index));
  for (let index = 0; index < 100; index++) queue.putMember(member(`member-${index}`), undefined);
  const kinds = new Set(queue.take(1_200, 1, 8, T0).map((update) => update.kind));
  assert.deepEqual([...kinds], ['member', 'claim']);
});

test('a packet has at most as many updates as the codec can count', () => {
  const queue = new BroadcastQueue();
  for (let index = 0; index < 1_000; index++) queue.putClaim(claim(index));
  assert.ok(queue.take(100_000, 1, 8, T0).length <= 255);
});

test('the queue is bounded, and what travelled most goes first', () => {
  const queue = new BroadcastQueue();
  queue.putMember(member('travelled'), undefined);
  queue.take(1_200, 1, 8, T0);
  for (let index = 0; index < QUEUED_MEMBERS_LIMIT; index++) queue.putMember(member(`m${index}`), undefined);
  for (let index = 0; index < QUEUED_CLAIMS_LIMIT + 10; index++) queue.putClaim(claim(index));
  assert.equal(queue.size, QUEUED_MEMBERS_LIMIT + QUEUED_CLAIMS_LIMIT);
  queue.dropMember('travelled' as MemberName);
  assert.equal(queue.size, QUEUED_MEMBERS_LIMIT + QUEUED_CLAIMS_LIMIT, 'it was gone');
});

test("a silence's ages are those of the moment of sending", () => {
  const queue = new BroadcastQueue();
  const silence = { why: 'silent', lastHeardAt: instant(4_800), leaseEndsAt: instant(9_000) } as const;
  queue.putMember(member('a', 1, 'b'), silence);
  const ages = (now: number) => {
    const [update] = queue.take(1_200, 1, 8, instant(now));
    return update?.kind === 'member' ? update.silence : undefined;
  };
  assert.deepEqual(ages(5_000), { why: 'silent', silentMs: 200, leaseLeftMs: 4_000 });
  assert.deepEqual(ages(9_500), { why: 'silent', silentMs: 4_700, leaseLeftMs: 0 });
});

test('dropAccusations() takes back what one member says of others', () => {
  const queue = new BroadcastQueue();
  queue.putMember(member('a', 1, 'me'), undefined);
  queue.putMember(member('b', 1, 'you'), undefined);
  queue.putMember(member('me'), undefined);
  queue.dropAccusations('me' as MemberName);
  const left = queue.take(1_200, 1, 8, T0).map((update) => (update.kind === 'member' ? update.name : ''));
  assert.deepEqual(left, ['b', 'me']);
});
