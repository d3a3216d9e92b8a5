import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findProblems, type ProblemSources, serviceStatuses } from '../../../src/daemon/status.ts';
import type { ServiceStatus } from '../../../src/daemon/types.ts';
import type { AddressStatus } from '../../../src/iface/types.ts';
import type { Allocation } from '../../../src/ipam/types.ts';
import type { ReflectorStatus, ServiceKey } from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { electionStatus, member, owner } from '../cli/support/election-status.ts';
import { service } from '../ipam/fixtures.ts';

const X = '192.0.2.10' as Ip;
const Y = '2001:db8::10' as Ip;
const KEY = 'default/a' as ServiceKey;

function address(ip: Ip, state: AddressStatus['state'], reason?: string): AddressStatus {
  return {
    ip,
    services: [KEY],
    state,
    interface: 'eth0',
    prefixLength: 32,
    lifetimeLeftMs: undefined,
    heldSinceMs: undefined,
    kind: 'local',
    announcements: 0,
    unsentFrames: 0,
    repairs: 0,
    reason,
  };
}

const settled = (addresses: readonly Ip[], unmet?: string): Allocation => ({
  kind: 'settled',
  service: KEY,
  addresses,
  foreign: [],
  unmet: unmet === undefined ? undefined : { code: 'unknown-pool', reason: unmet },
  explain: '',
});
const common = { service: KEY, addresses: [X], standing: [], pool: 'p', explain: '' };
const assigned: Allocation = { kind: 'assign', unmet: undefined, ...common };
const probed: Allocation = { kind: 'probing', asking: [X], ...common };
const refused: Allocation = {
  kind: 'refused',
  service: KEY,
  code: 'pool-exhausted',
  reason: 'no free address',
  stale: [],
};

const STATUSES: readonly (readonly [
  what: string,
  status: readonly string[],
  allocation: Allocation,
  addresses: readonly AddressStatus[],
  expected: readonly [state: string, addresses: readonly Ip[], reason: string | undefined],
])[] = [
  ['held', [X], settled([X]), [address(X, 'held')], ['announced', [X], undefined]],
  [
    'held, but not as asked',
    [X],
    settled([X], 'no pool q'),
    [address(X, 'held')],
    ['announced', [X], 'no pool q'],
  ],
  [
    'held in one family of two',
    [X, Y],
    settled([X, Y]),
    [address(X, 'held'), address(Y, 'no-interface', 'no NIC has it')],
    ['partial', [X, Y], 'no NIC has it'],
  ],
  [
    'being probed here',
    [X],
    settled([X]),
    [address(X, 'probing')],
    ['allocated', [X], '192.0.2.10 is probing'],
  ],
  [
    'in conflict',
    [X],
    settled([X]),
    [address(X, 'conflict', '02:00:00:00:00:99 answers')],
    ['allocated', [X], '02:00:00:00:00:99 answers'],
  ],
  ['not written yet', [], assigned, [], ['allocated', [X], 'its status is being written']],
  [
    'settled only by a write under way',
    [],
    settled([X]),
    [],
    ['allocated', [X], 'its status is being written'],
  ],
  [
    'chosen, and the wire is asked',
    [],
    probed,
    [],
    ['probing', [X], 'asking the wire whether the address is free'],
  ],
  ['refused', [], refused, [], ['refused', [], 'no free address']],
  [
    'refused while status says an address and rubbish',
    [X, 'rubbish'],
    refused,
    [],
    ['refused', [X], 'no free address'],
  ],
];

for (const [what, status, allocation, addresses, expected] of STATUSES) {
  test(`serviceStatuses() says how a Service stands that is ${what}`, () => {
    const subject = service('a', { status });
    const known = new Map(addresses.map((each) => [each.ip, each]));
    const [given] = serviceStatuses(new Map([[KEY, subject]]), [allocation], known);
    assert.deepEqual(given, {
      name: KEY,
      state: expected[0],
      addresses: expected[1],
      reason: expected[2],
    });
  });
}

test('serviceStatuses() leaves out what is released and what is gone, and keeps the order', () => {
  const release: Allocation = { kind: 'release', service: KEY, addresses: [X], explain: '' };
  assert.deepEqual(serviceStatuses(new Map([[KEY, service('a')]]), [release], new Map()), []);
  assert.deepEqual(serviceStatuses(new Map(), [settled([X])], new Map()), []);
  const services = new Map([service('b'), service('a')].map((each) => [each.key, each]));
  const both = [refused, { ...refused, service: 'default/b' as ServiceKey }];
  assert.deepEqual(
    serviceStatuses(services, both, new Map()).map(({ name }) => name),
    ['default/a', 'default/b'],
  );
});

const REFLECTOR: ReflectorStatus = {
  resource: 'services',
  phase: 'watching',
  synced: true,
  objects: 20,
  resourceVersion: '9',
  silentMs: 10,
  relists: 0,
  error: undefined,
  doubt: undefined,
};

const WELL: ProblemSources = {
  kubernetes: {
    server: 'https://api:6443',
    reachable: true,
    fromCache: false,
    error: undefined,
    unwritten: [],
    reflectors: [REFLECTOR],
    allocator: { holder: 'host', self: true, error: undefined },
  },
  unwritten: [],
  pools: [],
  services: [{ name: KEY, addresses: [X], state: 'announced', reason: undefined }],
  addresses: [address(X, 'held')],
  sysctls: [],
  config: { file: '/etc/lbd.toml', digest: 'd', loadedMsAgo: 0, reloadProblems: [], warnings: [] },
  hostName: 'host',
  election: undefined,
};

function problems(change: Partial<ProblemSources>): readonly string[] {
  return findProblems({ ...WELL, ...change }).map(({ severity, text }) => `${severity}: ${text}`);
}

test('findProblems() finds nothing where all is well', () => assert.deepEqual(problems({}), []));

test('findProblems() tells what is wrong with Kubernetes', () => {
  const { kubernetes } = WELL;
  assert.deepEqual(
    problems({
      kubernetes: {
        ...kubernetes,
        error: 'no route to host',
        fromCache: true,
        reflectors: [REFLECTOR, { ...REFLECTOR, doubt: { missing: 15, known: 20 } }],
        allocator: { holder: undefined, self: false, error: 'cannot get leases: 403' },
      },
      unwritten: [{ service: KEY, error: '403 (grant verb patch on services/status)' }],
    }),
    [
      'error: Kubernetes API: no route to host',
      'error: allocator: cannot get leases: 403',
      'error: the status of default/a is not written yet: 403 (grant verb patch on services/status)',
      'warning: the API server has not answered since start: serving the last known Services',
      'warning: 15 of 20 services vanished at once: kept until a second list says the same',
    ],
  );
});

test('findProblems() tells what is wrong on the host, errors before warnings', () => {
  const sysctl = {
    interface: 'eth0',
    key: 'net.ipv4.conf.eth0.arp_ignore',
    expected: '1',
    current: '0',
    before: '0',
    drifts: 0,
    error: 'cannot write arp_ignore',
  };
  const refusedService: ServiceStatus = {
    name: KEY,
    addresses: [],
    state: 'refused',
    reason: 'pool exhausted',
  };
  assert.deepEqual(
    problems({
      sysctls: [{ ...sysctl, error: undefined }, sysctl],
      services: [refusedService],
      addresses: [
        address('192.0.2.1' as Ip, 'foreign', 'the gateway'),
        address('192.0.2.2' as Ip, 'no-interface', 'no NIC'),
        address('192.0.2.3' as Ip, 'failed', 'EPERM'),
        address('192.0.2.4' as Ip, 'conflict', 'a printer answers'),
        address('192.0.2.5' as Ip, 'probing'),
      ],
      pools: [
        {
          name: 'p',
          addresses: [],
          family: 'v4',
          size: '4',
          allocated: 1,
          blocked: [{ ip: X, reason: 'a printer' }],
        },
      ],
      config: { ...WELL.config, reloadProblems: ['lbd.toml:3: bad'], warnings: ['lifetime = 0'] },
    }),
    [
      'error: the last reload was refused: lbd.toml:3: bad',
      'error: cannot write arp_ignore',
      'error: 192.0.2.3: failed: EPERM',
      'error: 192.0.2.4: conflict: a printer answers',
      'warning: default/a has no address: pool exhausted',
      'warning: 192.0.2.1 is not announced here: the gateway',
      'warning: 192.0.2.2 is not announced here: no NIC',
      'warning: pool "p" skips 192.0.2.10: a printer',
      'warning: lifetime = 0',
    ],
  );
});

test('findProblems() cuts long lists and says how many are left out', () => {
  const many = Array.from({ length: 25 }, (_, index) => `192.0.2.${index}` as Ip);
  const blocked = many.map((ip) => ({ ip, reason: 'taken' }));
  const cut = problems({
    services: many.map((ip) => ({ name: ip, addresses: [], state: 'refused', reason: 'none' })),
    addresses: many.map((ip) => address(ip, 'failed', 'EPERM')),
    unwritten: many.map((ip) => ({ service: ip as string as ServiceKey, error: '403' })),
    pools: [{ name: 'p', addresses: [], family: 'v4', size: '256', allocated: 0, blocked }],
  });
  assert.equal(cut.length, 4 * 11);
  assert.equal(cut.filter((text) => text.endsWith('… and 15 more like the last')).length, 4);
});

test('serviceStatuses() counts an address that another host owns as announced', () => {
  const subject = service('a', { status: [X, Y] });
  const services = new Map([[KEY, subject]]);
  const cases: readonly (readonly [Parameters<typeof owner>[1], string, string | undefined])[] = [
    [{ state: 'theirs' }, 'announced', undefined],
    [{ state: 'nobody', reason: 'no host may have it now' }, 'partial', 'no host may have it now'],
    [{ state: 'free', owner: undefined, reason: 'edge-2 is to take it' }, 'partial', 'edge-2 is to take it'],
    [{ state: 'mine', reason: 'this host takes it' }, 'partial', 'this host takes it'],
  ];
  for (const [fields, state, reason] of cases) {
    const owners = new Map([[Y, owner(Y, fields)]]);
    const here = new Map([[X, address(X, 'held')]]);
    const [given] = serviceStatuses(services, [settled([X, Y])], here, undefined, owners);
    assert.deepEqual([given?.state, given?.reason], [state, reason]);
  }
  const [nowhere] = serviceStatuses(services, [settled([X])], new Map(), undefined, new Map());
  assert.deepEqual(
    [nowhere?.state, nowhere?.reason],
    ['allocated', 'no host has a NIC that is up in a subnet with it'],
  );
});

test('findProblems() names the member that a conflict is with', () => {
  const conflicting = address(X, 'conflict', '02:00:00:00:00:02 claims it too');
  const members = [member('host', { isSelf: true }), member('edge-2', { macs: ['02:00:00:00:00:02'] })];
  const election = electionStatus({ members, owners: [owner(X, { state: 'mine', owner: 'host' })] });
  assert.deepEqual(problems({ addresses: [conflicting], election }), [
    'error: 192.0.2.10: conflict: 02:00:00:00:00:02 claims it too (a NIC of edge-2)',
  ]);
});

test('findProblems() warns of an address that another member answers for too, which is served all the same', () => {
  const text = '02:00:00:00:00:02 answers for it too, for 3.0 s';
  const members = [member('host', { isSelf: true }), member('edge-2', { macs: ['02:00:00:00:00:02'] })];
  const election = electionStatus({ members, owners: [owner(X, { state: 'mine', owner: 'host' })] });
  const addresses = [{ ...address(X, 'held'), disputed: text }];
  assert.deepEqual(problems({ addresses, election }), [`warning: 192.0.2.10: ${text} (a NIC of edge-2)`]);
});

test('findProblems() cuts each list of the election by itself', () => {
  const owners = Array.from({ length: 25 }, (_, index) => owner(`192.0.2.${index}`, { state: 'nobody' }));
  const cut = problems({ election: electionStatus({ owners }), services: [] });
  assert.equal(cut.length, 11);
  assert.equal(cut.at(-1), 'error: … and 15 more like the last');
});
