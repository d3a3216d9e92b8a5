import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type ElectionProblemSources,
  electionProblems,
  memberOfMac,
} from '../../../src/daemon/election-problems.ts';
import type { ElectionStatus, MemberStatus, SegmentStatus } from '../../../src/daemon/types.ts';
import type { AddressStatus } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { electionStatus, member, overview, owner } from '../cli/support/election-status.ts';

const X = '192.0.2.10' as Ip;

const WELL: ElectionProblemSources = {
  election: electionStatus({ owners: [owner(X)] }),
  hostName: 'edge-1',
  allocator: { holder: 'edge-2', self: false },
  services: [{ name: 'default/web', addresses: [X], state: 'announced', reason: undefined }],
  addresses: [],
};

function found(change: Partial<ElectionProblemSources>): readonly string[] {
  const { errors, warnings } = electionProblems({ ...WELL, ...change });
  return [
    ...errors.flat().map((text) => `error: ${text}`),
    ...warnings.flat().map((text) => `warning: ${text}`),
  ];
}

function electionWith(fields: Partial<ElectionStatus>): Partial<ElectionProblemSources> {
  return { election: electionStatus({ owners: [owner(X)], ...fields }) };
}

function membersWith(fields: Partial<MemberStatus>): Partial<ElectionProblemSources> {
  const own = member('edge-1', { isSelf: true });
  return electionWith({ members: [own, member('edge-2', fields)] });
}

function segmentWith(fields: Partial<SegmentStatus>): Partial<ElectionProblemSources> {
  const [segment] = overview().segments;
  assert.ok(segment);
  return electionWith({ segments: [{ ...segment, ...fields }] });
}

test('electionProblems() finds nothing where all is well', () => assert.deepEqual(found({}), []));

const CASES: readonly (readonly [Partial<ElectionProblemSources>, string])[] = [
  [membersWith({ state: 'suspect' }), 'warning: edge-2 is suspected'],
  [membersWith({ state: 'dead', silence: 'process-gone' }), 'warning: edge-2 is dead: its lbd ended'],
  [
    membersWith({ silence: 'isolated' }),
    'warning: edge-2 does not serve its addresses: it says that it is isolated',
  ],
  [
    membersWith({ udpLost: true }),
    'warning: edge-2 is heard over TCP only: UDP port 7946 is blocked between it and this host',
  ],
  [membersWith({ drift: 'pool "a" differs' }), 'warning: edge-2 has another configuration: pool "a" differs'],
  [
    segmentWith({ isolated: true, mayRenew: false }),
    'error: isolated on 192.0.2.0/24: neither a member nor a reference address is heard; the addresses there are let go',
  ],
  [
    segmentWith({ isolated: true }),
    'error: isolated on 192.0.2.0/24: neither a member nor a reference address is heard; the addresses there are held all the same',
  ],
  [
    segmentWith({ isolated: true, neverHeard: true, mayRenew: false }),
    'error: isolated on 192.0.2.0/24: neither a member nor a reference address was heard there since lbd started; the addresses there are let go; is the [gossip] port open there, UDP and TCP, and the VLAN the same on every host?',
  ],
  [
    segmentWith({ neverHeard: true, mayRenew: false }),
    'warning: nobody has been heard on 192.0.2.0/24 yet: the addresses there wait for a member or a reference address',
  ],
  [
    segmentWith({ confirmed: false }),
    'warning: this host did not run for a moment: a neighbour on 192.0.2.0/24 has yet to confirm what it owns',
  ],
  [
    electionWith({ nameConflict: ['192.0.2.1 port 7946', '192.0.2.9 port 7946'] }),
    'error: several hosts call themselves edge-1: 192.0.2.1 port 7946, 192.0.2.9 port 7946; give each its own host.name',
  ],
  [
    electionWith({ owners: [owner(X, { state: 'nobody', reason: 'no host may have it now' })] }),
    'error: 192.0.2.10 has no owner: no host may have it now',
  ],
  [
    electionWith({
      owners: [owner(X, { state: 'orphaned', reason: 'edge-2: its lbd ended; edge-3 is to take it' })],
    }),
    'warning: 192.0.2.10 has no owner now: edge-2: its lbd ended; edge-3 is to take it',
  ],
  [
    electionWith({ owners: [] }),
    'warning: 192.0.2.10 is announced by nobody: no host has a NIC that is up in a subnet with it',
  ],
  [
    electionWith({ stateProblem: 'cannot write /var/lib/lbd/gossip.json: ENOSPC' }),
    'warning: claims and epochs would not survive a restart: cannot write /var/lib/lbd/gossip.json: ENOSPC',
  ],
  [
    electionWith({ drained: true, drainDone: true }),
    'warning: this host is drained: it takes no address until "lbctl undrain"',
  ],
  [
    electionWith({ drainProblem: 'the drain would not survive a restart: cannot write /x/drained: ENOSPC' }),
    'warning: the drain would not survive a restart: cannot write /x/drained: ENOSPC',
  ],
  [
    electionWith({ absent: [{ subnet: '10.0.0.0/24', ip: '10.0.0.7' as Ip, why: 'bind' }] }),
    'warning: this host takes no address in 10.0.0.0/24: [gossip] bind does not name 10.0.0.7, its own there, so nobody can watch it',
  ],
  [
    electionWith({ absent: [{ subnet: '10.9.0.0/24', ip: '10.9.0.7' as Ip, why: 'limit' }] }),
    'warning: this host takes no address in 10.9.0.0/24: a host shares out addresses in at most 16 subnets, and this is one too many: name fewer NICs in [local] interfaces',
  ],
  [
    electionWith({ healthScore: 5 }),
    'warning: this host answers others too slowly (health score 5 of 8): it waits longer before it judges anybody',
  ],
  [
    electionWith({
      refusedLately: [
        { why: 'key', from: '192.0.2.9' },
        { why: 'replayed', from: '192.0.2.9' },
      ],
    }),
    'warning: 192.0.2.9 is not believed: it has another key: compare "lbctl keys list" there and here',
  ],
  [
    { allocator: { holder: 'edge-9', self: false } },
    'warning: the allocator edge-9 is no member here: it takes the same addresses unless it gossips with these hosts',
  ],
  [
    { election: undefined },
    'error: edge-2 runs lbd for this cluster too, and this host has no [gossip]: both take the same addresses; give every host a table [gossip]',
  ],
];

for (const [change, expected] of CASES) {
  test(`electionProblems() says "${expected.slice(0, 70)}…"`, () =>
    assert.deepEqual(found(change), [expected]));
}

test('electionProblems() says nothing of what is as it should be', () => {
  assert.deepEqual(found(membersWith({ state: 'left', silence: 'isolated', drift: 'x' })), []);
  assert.deepEqual(found(membersWith({ state: 'alive', drained: true })), []);
  for (const allocator of [
    { holder: 'edge-1', self: true },
    { holder: undefined, self: false },
    // Its own, from before it lost the Lease.
    { holder: 'edge-1', self: false },
  ]) {
    assert.deepEqual(found({ allocator }), []);
    assert.deepEqual(found({ allocator, election: undefined }), []);
  }
});

test('electionProblems() needs no gossip for addresses that every host has', () => {
  const address = (kind: AddressStatus['kind']): AddressStatus => ({
    ip: X,
    kind,
    services: [],
    state: 'held',
    interface: 'kube-lb0',
    prefixLength: 32,
    lifetimeLeftMs: 'permanent',
    heldSinceMs: 0,
    announcements: 0,
    unsentFrames: 0,
    repairs: 0,
    reason: undefined,
  });
  assert.deepEqual(found({ election: undefined, addresses: [address('virtual')] }), []);
  assert.equal(found({ election: undefined, addresses: [address('virtual'), address('local')] }).length, 1);
});

test('electionProblems() says of an address that is being taken over what the wire says', () => {
  const owners = [
    owner(X, { state: 'orphaned', reason: 'edge-2: nothing is heard of it; this host takes it' }),
  ];
  const address: AddressStatus = {
    ip: X,
    kind: 'local',
    services: [],
    state: 'probing',
    interface: 'eth0',
    prefixLength: 32,
    lifetimeLeftMs: undefined,
    heldSinceMs: undefined,
    announcements: 0,
    unsentFrames: 0,
    repairs: 0,
    reason: 'edge-2 (02:00:00:00:00:02) has gone on answering for 3.0 s; this host takes over when that ends',
  };
  assert.deepEqual(found({ ...electionWith({ owners }), addresses: [address] }), [
    `warning: 192.0.2.10 has no owner now: ${address.reason}`,
  ]);
});

test('memberOfMac() finds the member that a text about a conflict speaks of', () => {
  const members = [
    member('edge-1', { isSelf: true, macs: ['02:00:00:00:00:01'] }),
    member('edge-2', { macs: ['02:00:00:00:00:02', '02:00:00:00:00:03'] }),
  ];
  const election = electionStatus({ members });
  assert.equal(memberOfMac('02:00:00:00:00:03 claims it too', election), 'edge-2');
  assert.equal(memberOfMac('02:00:00:00:00:01 claims it too', election), undefined);
  assert.equal(memberOfMac('the kernel refuses it', election), undefined);
  assert.equal(memberOfMac('02:00:00:00:00:03 claims it too', undefined), undefined);
});
