import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Election } from '../../../src/election/election.ts';
import { segmentKey } from '../../../src/election/segment-key.ts';
import { PROFILES } from '../../../src/election/settings.ts';
import type { MemberName } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { after, instant } from '../../../src/lib/time.ts';
import { address, metaOf, wantedOf } from './ownership-cluster.ts';

const NOW = instant(1_000);
const SELF = 'h0' as MemberName;
const PEER = 'h1' as MemberName;

test('what became of many addresses is one step: the state file is written once, and the plan made once', () => {
  const election = new Election({
    name: SELF,
    meta: metaOf(0),
    settings: PROFILES.lan,
    isolation: 'auto',
    random: () => 0.5,
    restored: undefined,
    leaseLeftMs: () => 0,
    now: NOW,
  });
  const ips = Array.from({ length: 200 }, (_, index) => address(index));
  election.step({ kind: 'wanted-changed', wanted: wantedOf(ips) }, NOW);
  const peer = { kind: 'member', name: PEER, incarnation: 1, state: 'alive', meta: metaOf(1) } as const;
  const members = [{ ...peer, by: undefined, silence: undefined }];
  const message = { kind: 'state', from: PEER, wantsReply: false, members, claims: [] } as const;
  const from = metaOf(1).endpoint;
  election.step({ kind: 'message', message, from, segment: undefined, connection: undefined }, NOW);
  const settledAt = after(NOW, PROFILES.lan.settleMs + 1);
  election.step({ kind: 'time-passed' }, settledAt);
  const granted = [...election.grants().keys()];
  assert.ok(granted.length > 50, `${granted.length}`);

  // The kernel refuses them all: each claim is given up, so that the other host may try.
  const changes = granted.map((ip) => [ip, 'failed'] as const);
  const effects = election.step({ kind: 'local-changed', changes }, settledAt);
  assert.equal(election.grants().size, 0);
  const count = (kind: string): number => effects.filter((effect) => effect.kind === kind).length;
  assert.deepEqual([count('persist'), count('grants-changed')], [1, 1]);
});

test('the word of a kernel that was busy for long does not make a host isolated whose gateway has answered meanwhile', () => {
  const meta = metaOf(0);
  const [segment] = meta.segments.map(({ subnet }) => segmentKey(subnet));
  assert.ok(segment !== undefined);
  const election = new Election({
    name: SELF,
    meta,
    settings: PROFILES.lan,
    isolation: 'hold',
    random: () => 0.5,
    restored: undefined,
    leaseLeftMs: () => 0,
    now: NOW,
  });
  const peer = { kind: 'member', name: PEER, incarnation: 1, state: 'alive', meta: metaOf(1) } as const;
  const members = [{ ...peer, by: undefined, silence: undefined }];
  const message = { kind: 'state', from: PEER, wantsReply: false, members, claims: [] } as const;
  const from = metaOf(1).endpoint;
  // The peer falls silent at once: only the gateway is left to answer.
  election.step({ kind: 'message', message, from, segment, connection: undefined }, NOW);
  const { isolationMs } = PROFILES.lan;
  for (let ms = 1; ms < isolationMs; ms++) election.step({ kind: 'time-passed' }, after(NOW, ms));
  assert.equal(election.watch.isIsolated(segment), false);

  // Both wait in their sockets in this turn, in any order.
  const late = after(NOW, isolationMs + 20);
  election.step({ kind: 'local-changed', changes: [] }, late);
  election.step({ kind: 'rival-heard', ip: address(1), mac: '02:00:00:00:00:99' as Mac }, late);
  assert.equal(election.watch.isIsolated(segment), false);
  election.step({ kind: 'reference-heard', segment }, late);
  election.step({ kind: 'time-passed' }, late);
  assert.equal(election.watch.isIsolated(segment), false);
  // Who is not answered is isolated all the same.
  for (let ms = 1; ms <= isolationMs; ms++) election.step({ kind: 'time-passed' }, after(late, ms));
  assert.equal(election.watch.isIsolated(segment), true);
});
