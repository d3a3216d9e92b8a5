import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Election } from '../../../src/election/election.ts';
import { PROFILES } from '../../../src/election/settings.ts';
import type { MemberName } from '../../../src/election/types.ts';
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
