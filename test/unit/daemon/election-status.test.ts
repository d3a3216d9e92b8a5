import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ElectionFacts,
  electionOverview,
  homelessAddresses,
  ownerStatuses,
} from '../../../src/daemon/election-status.ts';
import { GossipStatistics } from '../../../src/daemon/gossip-statistics.ts';
import type { Report } from '../../../src/election/effects.ts';
import { Election } from '../../../src/election/election.ts';
import type { MemberUpdate } from '../../../src/election/message.ts';
import { PROFILES } from '../../../src/election/settings.ts';
import type { MemberMeta, MemberName, WantedAddress } from '../../../src/election/types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import { type Ip, parsePrefix } from '../../../src/lib/ip.ts';
import { instant } from '../../../src/lib/time.ts';

const NOW = instant(1_000);
const LATER = instant(10_000);
const MINE = '10.0.0.1' as Ip;
const THEIRS = '10.0.0.2' as Ip;
const FREE = '10.0.0.3' as Ip;
const NOBODYS = '10.0.0.4' as Ip;
const VIRTUAL = '192.0.2.1' as Ip;

function meta(host: number, fields: Partial<MemberMeta> = {}): MemberMeta {
  const subnet = parsePrefix('10.0.0.0/24');
  assert.ok(subnet.ok);
  const ip = `10.0.0.${100 + host}` as Ip;
  return {
    endpoint: { ip, port: 7946 },
    node: `n${host}`,
    version: '0.1.0',
    segments: [{ subnet: subnet.value, ip, mac: `02:00:00:00:00:0${host}` as Mac }],
    drained: false,
    weight: 100,
    configDigest: '00000000',
    lifetimeMs: 30_000,
    ...fields,
  };
}

function update(host: number, fields: Partial<MemberMeta> = {}): MemberUpdate {
  return {
    kind: 'member',
    name: `h${host}` as MemberName,
    incarnation: 1,
    state: 'alive',
    meta: meta(host, fields),
    by: undefined,
    silence: undefined,
  };
}

function wanted(ip: Ip, nodes?: readonly string[]): readonly [Ip, WantedAddress] {
  return [ip, { ip, nodes: nodes && new Set(nodes) }];
}

/** h0, which knows h1 and h2 and who owns what. */
function election(): Election {
  const one = new Election({
    name: 'h0' as MemberName,
    meta: meta(0),
    settings: PROFILES.lan,
    isolation: 'auto',
    random: () => 0.5,
    restored: undefined,
    leaseLeftMs: () => 0,
    now: NOW,
  });
  const addresses = new Map([
    wanted(MINE),
    wanted(THEIRS),
    wanted(FREE, ['n1']),
    wanted(NOBODYS, []),
    wanted(VIRTUAL),
  ]);
  one.step({ kind: 'wanted-changed', wanted: { addresses, excludedNodes: new Set(), fresh: true } }, NOW);
  const claims = [
    { ip: MINE, owner: 'h0' as MemberName, epoch: 3 },
    { ip: THEIRS, owner: 'h1' as MemberName, epoch: 4 },
  ];
  const members = [update(1), update(2, { configDigest: 'ffffffff', drained: true })];
  one.step(
    {
      kind: 'message',
      message: { kind: 'state', from: 'h1' as MemberName, wantsReply: false, members, claims },
      from: meta(1).endpoint,
      segment: undefined,
      connection: undefined,
    },
    NOW,
  );
  one.step({ kind: 'local-changed', changes: [[MINE, 'held']] }, NOW);
  return one;
}

const FACTS: ElectionFacts = {
  name: 'h0' as MemberName,
  draining: false,
  encrypted: true,
  stateProblem: undefined,
  nameConflict: undefined,
  counters: { sent: 1, sentBytes: 2, received: 3, receivedBytes: 4, refused: { key: 5 } },
  drift: (digest) => `not ${digest}`,
  now: LATER,
};

test('electionOverview() lists the members by name, and what is known of each', () => {
  const { members, segments, traffic } = electionOverview(election(), FACTS);
  assert.deepEqual(
    members.map(({ name, state, isSelf, addresses, drained, drift, macs, sinceMs }) => {
      return [name, state, isSelf, addresses, drained, drift, macs[0], sinceMs];
    }),
    [
      ['h0', 'alive', true, 1, false, undefined, '02:00:00:00:00:00', 9_000],
      ['h1', 'alive', false, 1, false, undefined, '02:00:00:00:00:01', 9_000],
      ['h2', 'alive', false, 0, true, 'not ffffffff', '02:00:00:00:00:02', 9_000],
    ],
  );
  assert.deepEqual(
    segments.map(({ subnet, isolated, neighbours }) => [subnet, isolated, neighbours.toSorted()]),
    [['10.0.0.0/24', false, ['h1', 'h2']]],
  );
  assert.deepEqual(traffic, FACTS.counters);
});

test('ownerStatuses() says who owns each address that is in some subnet', () => {
  const found = ownerStatuses(election(), LATER).map(({ ip, state, owner, epoch, heir, sinceMs }) => {
    return [ip, state, owner, epoch, heir, sinceMs];
  });
  assert.deepEqual(found, [
    [MINE, 'mine', 'h0', 3, 'h1', 9_000],
    [THEIRS, 'theirs', 'h1', 4, 'h0', 9_000],
    [FREE, 'free', undefined, 0, 'h1', undefined],
    [NOBODYS, 'nobody', undefined, 0, undefined, undefined],
  ]);
});

test('ownerStatuses() leaves the heirs out when there is too much to look at, and nothing else', () => {
  const all = ownerStatuses(election(), LATER);
  const quick = ownerStatuses(election(), LATER, 0);
  for (const [index, { ip, state, owner, epoch, sinceMs, heir, reason }] of quick.entries()) {
    const full = all[index] ?? assert.fail();
    assert.deepEqual([ip, owner, epoch, sinceMs], [full.ip, full.owner, full.epoch, full.sinceMs]);
    assert.equal(state, full.state === 'nobody' ? 'free' : full.state);
    assert.equal(heir, undefined);
    assert.equal(reason === undefined, full.state === 'mine' || full.state === 'theirs');
  }
  // Of three members and four addresses, the first one.
  const some = ownerStatuses(election(), LATER, 3);
  assert.deepEqual(
    some.map(({ heir }) => heir),
    ['h1', undefined, undefined, undefined],
  );
});

test('homelessAddresses() finds what nobody may have, and says why, once the cold start is over', () => {
  const one = election();
  assert.deepEqual(homelessAddresses(one, NOW), []);
  one.step({ kind: 'time-passed' }, LATER);
  const reason =
    'no host may have it now: its externalTrafficPolicy is Local, and no node has a usable endpoint';
  assert.deepEqual(
    homelessAddresses(one, LATER).map((owner) => [owner.ip, owner.reason]),
    [[NOBODYS, reason]],
  );
});

test('GossipStatistics counts what happened, and speaks of a name conflict for a minute', () => {
  const statistics = new GossipStatistics();
  const claim = { ip: MINE, owner: undefined, epoch: 1 };
  const silence = { why: 'process-gone', lastHeardAt: NOW, leaseEndsAt: NOW } as const;
  const endpoints = [meta(0).endpoint, meta(1).endpoint];
  const reports: readonly Report[] = [
    { kind: 'verdict', name: 'h1' as MemberName, silence },
    { kind: 'paused', forMs: 250 },
    { kind: 'handed-over', claim, tookMs: 40 },
    { kind: 'handed-over', claim, tookMs: 60 },
    { kind: 'superseded', claim },
    { kind: 'name-conflict', name: 'h0' as MemberName, endpoints },
  ];
  for (const report of reports) statistics.count(report, NOW);
  statistics.took('take-over');
  assert.deepEqual(
    [statistics.verdicts['process-gone'], statistics.pauses, statistics.pausedMs, statistics.superseded],
    [1, 1, 250, 1],
  );
  assert.deepEqual(
    [statistics.handedOver, statistics.handedOverMs, statistics.taken],
    [2, 100, { first: 0, return: 0, 'hand-over': 0, 'take-over': 1 }],
  );
  assert.deepEqual(statistics.nameConflict(LATER), ['10.0.0.100 port 7946', '10.0.0.101 port 7946']);
  assert.equal(statistics.nameConflict(instant(61_000)), undefined);
});
