import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Election } from '../../../src/election/election.ts';
import { PROFILES } from '../../../src/election/settings.ts';
import type { MemberName } from '../../../src/election/types.ts';
import { after, type Instant, instant } from '../../../src/lib/time.ts';
import { address, metaOf, wantedOf } from './ownership-cluster.ts';

/** A host whose NIC has no address yet when lbd starts, as at a boot with DHCP. */

const NOW = instant(1_000);
const PEER = 'h1' as MemberName;
const IP = address(0);
const { settleMs } = PROFILES.lan;

/** With its address `lateMs` after the start. */
function lateHost(lateMs: number): { readonly election: Election; readonly at: Instant } {
  const meta = metaOf(0);
  const election = new Election({
    name: 'h0' as MemberName,
    meta: { ...meta, segments: [] },
    settings: PROFILES.lan,
    isolation: 'auto',
    random: () => 0.5,
    restored: undefined,
    leaseLeftMs: () => 0,
    now: NOW,
  });
  election.step({ kind: 'wanted-changed', wanted: wantedOf([IP]) }, NOW);
  const at = after(NOW, lateMs);
  election.step({ kind: 'time-passed' }, at);
  election.step({ kind: 'meta-changed', meta }, at);
  return { election, at };
}

test('a host that gets its address long after its start waits for the others before it takes what it finds unowned', () => {
  const { election, at } = lateHost(60_000);
  const joinedAt = after(at, 100);
  election.step({ kind: 'time-passed' }, joinedAt);
  assert.deepEqual([...election.grants()], []);

  const peer = { kind: 'member', name: PEER, incarnation: 1, state: 'alive', meta: metaOf(1) } as const;
  const members = [{ ...peer, by: undefined, silence: undefined }];
  const claims = [{ ip: IP, owner: PEER, epoch: 1 }];
  const message = { kind: 'state', from: PEER, wantsReply: false, members, claims } as const;
  const from = metaOf(1).endpoint;
  election.step({ kind: 'message', message, from, segment: undefined, connection: undefined }, joinedAt);
  election.step({ kind: 'time-passed' }, after(at, settleMs + 1));
  assert.deepEqual([...election.grants()], []);
});

test('alone it takes them when that wait is over, and no sooner', () => {
  const { election, at } = lateHost(60_000);
  election.step({ kind: 'time-passed' }, after(at, settleMs - 1));
  assert.equal(election.grants().has(IP), false);
  election.step({ kind: 'time-passed' }, after(at, settleMs + 1));
  assert.equal(election.grants().has(IP), true);
});

test('a segment that comes back in the same life is no start', () => {
  const { election, at } = lateHost(0);
  const settledAt = after(at, settleMs + 1);
  election.step({ kind: 'time-passed' }, settledAt);
  election.step({ kind: 'meta-changed', meta: { ...metaOf(0), segments: [] } }, settledAt);
  const backAt = after(settledAt, 60_000);
  election.step({ kind: 'meta-changed', meta: metaOf(0) }, backAt);
  election.step({ kind: 'time-passed' }, after(backAt, 1));
  assert.equal(election.grants().has(IP), true);
});
