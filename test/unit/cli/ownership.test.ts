import assert from 'node:assert/strict';
import type { RequestListener } from 'node:http';
import { type TestContext, test } from 'node:test';
import { lbctl } from '../../../src/cli/lbctl.ts';
import type { DrainStatus, Explanation } from '../../../src/daemon/types.ts';
import { electionStatus, member, overview, owner } from './support/election-status.ts';
import { listen } from './support/fake-daemon.ts';
import { ip, statusDocument } from './support/status-document.ts';
import { type TestIo, testIo } from './support/test-io.ts';

type Answers = Readonly<Record<string, (query: URLSearchParams) => unknown>>;

/** A daemon that answers by method and path; anything else is a 404 as lbd has it. */
function daemon(context: TestContext, answers: Answers): Promise<string> {
  const listener: RequestListener = (request, response) => {
    const [path = '', query] = (request.url ?? '').split('?');
    const answer = answers[`${request.method} ${path}`];
    if (answer === undefined) {
      response.writeHead(404).end(JSON.stringify({ error: `no such path: ${path}`, paths: [] }));
      return;
    }
    const body = answer(new URLSearchParams(query));
    const refusal = typeof body === 'object' && body !== null && 'error' in body;
    response.writeHead(refusal ? 409 : 200).end(JSON.stringify(body));
  };
  return listen(context, listener);
}

async function run(
  socket: string,
  args: readonly string[],
): Promise<{ readonly status: number; readonly io: TestIo }> {
  const io = testIo();
  return { status: await lbctl(['-s', socket, ...args], io), io };
}

function drained(fields: Partial<DrainStatus> = {}): DrainStatus {
  return { drained: true, done: true, left: 0, homeless: [], homelessCount: 0, ...fields };
}

test('lbctl members lists the members with all that is against them', async (context) => {
  const election = overview({
    members: [
      member('edge-1', { isSelf: true, rttMs: undefined, addresses: 12 }),
      member('edge-2', { rttMs: 12.6, udpLost: true, drift: 'pool "a" differs', drained: true }),
      member('edge-3', { state: 'dead', silence: 'process-gone', sinceMs: 3_600_000 }),
    ],
    segments: [
      { ...segment(), isolated: true, mayRenew: false, neighbours: [] },
      { ...segment(), subnet: '2001:db8::/64', confirmed: false },
      { ...segment(), subnet: '2001:db8:1::/64', neverHeard: true, neighbours: [] },
    ],
  });
  const socket = await daemon(context, { 'GET /v1/members': () => ({ version: 1, election }) });
  const { status, io } = await run(socket, ['members']);
  assert.equal(status, 0);
  assert.deepEqual(io.stdout().split('\n'), [
    'NAME                STATE  SINCE  RTT    VERSION  CONFIG    DRAINED  ADDRESSES  REASON',
    'edge-1 (this host)  alive  1m5s   -      0.1.0    abcd0123  -        12',
    'edge-2              alive  1m5s   13ms   0.1.0    abcd0123  yes      0          UDP to or from it is blocked; its configuration: pool "a" differs',
    'edge-3              dead   1h     0.4ms  0.1.0    abcd0123  -        0          its lbd ended',
    '',
    'SEGMENT          OWN ADDRESS  STATE                              NEIGHBOURS',
    '192.0.2.0/24     192.0.2.1    isolated, let go of its addresses  -',
    '2001:db8::/64    192.0.2.1    to be confirmed by a neighbour     edge-2, edge-3',
    '2001:db8:1::/64  192.0.2.1    nobody heard yet                   -',
    '',
  ]);
  const json = await run(socket, ['members', '--json']);
  assert.deepEqual(JSON.parse(json.io.stdout()).election.members.length, 3);
});

function segment() {
  const [first] = overview().segments;
  assert.ok(first);
  return first;
}

test('lbctl status shows who owns what, and what gossip has to say', async (context) => {
  const document = statusDocument({
    services: [
      { name: 'a/here', addresses: [ip('192.0.2.10')], state: 'announced', reason: undefined },
      { name: 'a/there', addresses: [ip('192.0.2.11')], state: 'announced', reason: undefined },
      {
        name: 'a/two',
        addresses: [ip('192.0.2.12'), ip('2001:db8::12')],
        state: 'partial',
        reason: 'no host may have it now',
      },
    ],
    addresses: [held('192.0.2.10')],
    election: electionStatus({
      drained: true,
      members: [member('edge-1', { isSelf: true }), member('edge-2'), member('edge-3', { state: 'dead' })],
      owners: [
        owner('192.0.2.10', { state: 'mine', owner: 'edge-1', heir: 'edge-2' }),
        owner('192.0.2.11'),
        owner('192.0.2.12'),
        owner('2001:db8::12', {
          state: 'nobody',
          owner: undefined,
          heir: undefined,
          reason: 'no host may have it now',
        }),
      ],
    }),
  });
  const socket = await daemon(context, { 'GET /v1/status': () => document });
  const { io } = await run(socket, ['status']);
  const lines = io.stdout().split('\n');
  assert.match(
    lines.find((line) => line.startsWith('  gossip')) ?? '',
    /^ {2}gossip +1 of 2 other hosts alive, this host drains: not all is gone yet$/,
  );
  assert.deepEqual(lines.slice(7, 12), [
    'NAMESPACE/NAME  ADDRESS       STATE      INTERFACE  OWNER   EPOCH  SINCE  HEIR    REASON',
    'a/two           192.0.2.12    announced  -          edge-2  3      2m5s   edge-1  no host may have it now',
    '                2001:db8::12  allocated  -          nobody  3      2m5s   -       no host may have it now',
    'a/here          192.0.2.10    announced  eth0       edge-1  3      2m5s   edge-2',
    'a/there         192.0.2.11    announced  -          edge-2  3      2m5s   edge-1',
  ]);
  const addresses = await run(socket, ['addresses']);
  assert.deepEqual(
    addresses.io
      .stdout()
      .split('\n')
      .map((line) => line.split(/ {2,}/).slice(0, 6).join(' ')),
    [
      'ADDRESS FAMILY KIND STATE INTERFACE OWNER',
      '192.0.2.10/32 IPv4 local announced eth0 edge-1',
      '192.0.2.11 IPv4 local elsewhere - edge-2',
      '192.0.2.12 IPv4 local elsewhere - edge-2',
      '2001:db8::12 IPv6 local unowned - nobody',
      '',
    ],
  );
  const json = JSON.parse((await run(socket, ['addresses', '--json'])).io.stdout());
  assert.deepEqual(
    json.map((each: { state: string; owner: { owner?: string } }) => [each.state, each.owner.owner]),
    [
      ['held', 'edge-1'],
      ['elsewhere', 'edge-2'],
      ['elsewhere', 'edge-2'],
      ['unowned', undefined],
    ],
  );
});

function held(text: string) {
  return {
    ip: ip(text),
    kind: 'local',
    services: ['a/here'],
    state: 'held',
    interface: 'eth0',
    prefixLength: 32,
    lifetimeLeftMs: 28_000,
    heldSinceMs: 60_000,
    announcements: 3,
    unsentFrames: 0,
    repairs: 0,
    reason: undefined,
  } as const;
}

const EXPLANATION: Explanation = {
  version: 1,
  host: 'edge-1',
  gossips: true,
  services: [
    {
      name: 'default/web',
      state: 'announced',
      addresses: [ip('192.0.2.10')],
      allocation: 'keeps 192.0.2.10: status says so',
      reason: undefined,
    },
  ],
  addresses: [
    {
      ip: ip('192.0.2.10'),
      pool: 'default',
      local: held('192.0.2.10'),
      owner: owner('192.0.2.10', { state: 'mine', owner: 'edge-1', heir: 'edge-2' }),
      members: [
        { name: 'edge-1', role: 'owner', rank: 1, reason: 'owns it' },
        { name: 'edge-2', role: 'heir', rank: 0, reason: 'ranks first of those that may have it next' },
        { name: 'edge-3', role: 'ineligible', rank: undefined, reason: 'it is drained' },
      ],
      obstacle: undefined,
    },
  ],
};

test('lbctl explain tells of a Service, of its addresses, and of every host', async (context) => {
  const asked: (string | null)[] = [];
  const socket = await daemon(context, {
    'GET /v1/explain': (query) => {
      asked.push(query.get('subject'));
      return EXPLANATION;
    },
  });
  const { status, io } = await run(socket, ['explain', 'default/web']);
  assert.deepEqual([status, asked], [0, ['default/web']]);
  assert.deepEqual(io.stdout().split('\n'), [
    'default/web: announced',
    '  addresses  192.0.2.10',
    '  why        keeps 192.0.2.10: status says so',
    '',
    '192.0.2.10, of pool "default"',
    '  owner               edge-1   epoch 3; for 2m5s; edge-2 is next',
    '  here                edge-1   announced on eth0, 28s of its lifetime left',
    '  edge-1 (this host)  owner    owns it',
    '  edge-2              heir     ranks first of those that may have it next',
    '  edge-3              may not  it is drained',
    '',
  ]);
  const json = await run(socket, ['explain', 'default/web', '--json']);
  assert.deepEqual(JSON.parse(json.io.stdout()), JSON.parse(JSON.stringify(EXPLANATION)));
});

test('lbctl explain tells of addresses that nobody owns, and why', async (context) => {
  const [first] = EXPLANATION.addresses;
  assert.ok(first);
  const bare = { ...first, local: undefined, owner: undefined, members: [] };
  const cases: readonly (readonly [Partial<Explanation>, string])[] = [
    [
      { services: [], addresses: [bare] },
      '  owner  nobody  no Service has it\n  use    free    nothing is known here against giving it to a Service\n',
    ],
    [
      { services: [], addresses: [{ ...bare, obstacle: 'a printer answers' }] },
      '  owner  nobody   no Service has it\n  use    skipped  a printer answers\n',
    ],
    [{ addresses: [bare] }, '  owner  nobody  no host has a NIC that is up in a subnet with it\n'],
    [
      { gossips: false, addresses: [bare] },
      '  owner  each host for itself  there is no [gossip]: every host takes what it can\n',
    ],
    [
      {
        addresses: [
          {
            ...bare,
            owner: owner('192.0.2.10', {
              state: 'free',
              owner: undefined,
              epoch: 0,
              sinceMs: undefined,
              reason: 'edge-1 is to take it',
            }),
          },
        ],
      },
      '  owner  nobody  edge-1 is next; edge-1 is to take it\n',
    ],
  ];
  let answer: Partial<Explanation> = {};
  const socket = await daemon(context, { 'GET /v1/explain': () => ({ ...EXPLANATION, ...answer }) });
  for (const [change, expected] of cases) {
    answer = change;
    const { io } = await run(socket, ['explain', '192.0.2.10']);
    assert.ok(io.stdout().endsWith(`192.0.2.10, of pool "default"\n${expected}`), io.stdout());
  }
});

test('lbctl drain begins a drain, and with --wait waits for its end', async (context) => {
  let looks = 0;
  const socket = await daemon(context, {
    'POST /v1/drain': () => drained({ done: false, left: 3 }),
    'GET /v1/drain': () => {
      looks += 1;
      return drained({ done: looks >= 2, left: looks >= 2 ? 0 : 1 });
    },
  });
  const begun = await run(socket, ['drain']);
  assert.deepEqual(
    [begun.status, begun.io.stdout(), looks],
    [0, 'this host drains: 3 addresses are still here\n', 0],
  );
  const waited = await run(socket, ['drain', '--wait=10s']);
  assert.deepEqual(
    [waited.status, waited.io.stdout(), looks],
    [0, 'this host is drained: it owns no address\n', 2],
  );
  const json = await run(socket, ['drain', '--wait', '--json']);
  assert.deepEqual(JSON.parse(json.io.stdout()), drained());
});

test('lbctl drain --wait fails when it takes too long, and when somebody ends the drain', async (context) => {
  let status = drained({ done: false, left: 1 });
  const socket = await daemon(context, {
    'POST /v1/drain': () => drained({ done: false, left: 1 }),
    'GET /v1/drain': () => status,
  });
  const late = await run(socket, ['drain', '--wait', '1s']);
  assert.deepEqual(
    [late.status, late.io.stdout(), late.io.stderr()],
    [1, '', 'lbctl: this host drains: 1 address is still here, after 1 s\n'],
  );
  status = drained({ drained: false, done: false, left: 1 });
  const ended = await run(socket, ['drain', '--wait']);
  assert.equal(ended.status, 1);
  assert.match(ended.io.stderr(), /^lbctl: this host is not drained any more: somebody else/);
  const wrong = await run(socket, ['drain', '--wait=soon']);
  assert.deepEqual(
    [wrong.status, wrong.io.stderr()],
    [1, 'lbctl: --wait: expected a duration such as "30s" or "1m30s", got "soon"\n'],
  );
});

test('lbctl drain tells of addresses that no host may have then', async (context) => {
  const homeless = [ip('192.0.2.10'), ip('192.0.2.11')];
  const socket = await daemon(context, {
    'POST /v1/drain': () => drained({ homeless, homelessCount: 12 }),
  });
  const { status, io } = await run(socket, ['drain']);
  assert.equal(status, 0);
  assert.equal(
    io.stderr(),
    'lbctl: no host may have 192.0.2.10, 192.0.2.11 and 10 more now; see "lbctl explain"\n',
  );
});

test('lbctl drain and undrain tell when a restart would not find it so', async (context) => {
  const socket = await daemon(context, {
    'POST /v1/drain': () => drained({ problem: 'the drain would not survive a restart: cannot write x' }),
    'POST /v1/undrain': () => drained({ problem: 'a restart would drain this host again: cannot remove x' }),
  });
  for (const [command, expected] of [
    ['drain', 'lbctl: the drain would not survive a restart: cannot write x\n'],
    ['undrain', 'lbctl: a restart would drain this host again: cannot remove x\n'],
  ] as const) {
    const { status, io } = await run(socket, [command]);
    assert.deepEqual([status, io.stderr()], [0, expected]);
  }
});

test('lbctl undrain and rebalance say what they began', async (context) => {
  const socket = await daemon(context, {
    'POST /v1/undrain': () => drained({ drained: false, done: false }),
    'POST /v1/rebalance': () => drained({ drained: false, done: false }),
  });
  assert.match((await run(socket, ['undrain'])).io.stdout(), /^this host may own addresses again; /);
  assert.match((await run(socket, ['rebalance'])).io.stdout(), /^this host gives and takes /);
  const json = await run(socket, ['undrain', '--json']);
  assert.equal(JSON.parse(json.io.stdout()).drained, false);
});

test('commands pass on what lbd has against them, and tell an older lbd apart', async (context) => {
  const refusing = await daemon(context, {
    'GET /v1/members': () => ({ error: 'this host does not gossip' }),
    'POST /v1/drain': () => ({ error: 'this host does not gossip' }),
  });
  for (const args of [['members'], ['drain', '--wait']]) {
    const { status, io } = await run(refusing, args);
    assert.deepEqual([status, io.stdout(), io.stderr()], [1, '', 'lbctl: this host does not gossip\n']);
  }
  const { io } = await run(refusing, ['explain', 'x']);
  assert.equal(
    io.stderr(),
    'lbctl: the lbd that runs here does not know /v1/explain: it is of another version than this lbctl; "systemctl restart lbd"\n',
  );
  const strange = await daemon(context, {
    'GET /v1/members': () => ({ version: 2, election: {} }),
    'GET /v1/explain': () => [],
    'POST /v1/undrain': () => ({}),
  });
  for (const args of [['members'], ['explain', 'x'], ['undrain']]) {
    const { status, io: said } = await run(strange, args);
    assert.equal(status, 1);
    assert.match(said.stderr(), /is not the lbd of this version; see "systemctl status lbd"\n$/);
  }
});
