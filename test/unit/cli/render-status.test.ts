import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderStatus } from '../../../src/cli/render-status.ts';
import { colourPaint, plainPaint } from '../../../src/cli/table.ts';
import type { AddressStatus } from '../../../src/iface/types.ts';
import type { ReflectorStatus } from '../../../src/kube/types.ts';
import { ip, statusDocument } from './support/status-document.ts';

function address(text: string, fields: Partial<AddressStatus> = {}): AddressStatus {
  return {
    ip: ip(text),
    services: [],
    state: 'held',
    interface: 'eth0',
    prefixLength: 32,
    lifetimeLeftMs: 28_000,
    heldSinceMs: 60_000,
    kind: 'local',
    announcements: 3,
    unsentFrames: 0,
    repairs: 0,
    reason: undefined,
    ...fields,
  };
}

function reflector(fields: Partial<ReflectorStatus> = {}): ReflectorStatus {
  return {
    resource: 'services',
    phase: 'watching',
    synced: true,
    objects: 3,
    resourceVersion: '12',
    silentMs: 2_100,
    relists: 0,
    error: undefined,
    doubt: undefined,
    ...fields,
  };
}

/** The rendered text, line by line; `text` must not be longer than one screen of these tests. */
function lines(document: Parameters<typeof renderStatus>[0]): readonly string[] {
  return renderStatus(document, plainPaint).split('\n');
}

test('renderStatus() says in its first line that all is well, and where lbd stands below', () => {
  assert.deepEqual(lines(statusDocument()), [
    'edge-1: ok, no Services',
    '  lbd         0.1.0 (abc1234), pid 4242, up 3d4h',
    '  API server  https://10.0.0.10:6443, reachable',
    '  allocator   this host',
    '  config      /etc/lbd.toml (3f2a91c0d1e2), loaded 1m5s ago',
    '',
  ]);
});

test('renderStatus() shows problems before everything else', () => {
  const document = statusDocument({
    problems: [
      { severity: 'error', text: 'pool default is full' },
      { severity: 'warning', text: 'eth1 is down\u001b[2J' },
    ],
  });
  const shown = lines(document);
  assert.equal(shown[0], 'edge-1: 1 error, 1 warning');
  assert.deepEqual(shown.slice(6), ['ERROR    pool default is full', 'WARNING  eth1 is down\\u{1b}[2J', '']);
});

test('renderStatus() counts warnings alone as no error', () => {
  const document = statusDocument({ problems: [{ severity: 'warning', text: 'x' }] });
  assert.equal(lines(document)[0], 'edge-1: 1 warning');
});

test('renderStatus() lists Services with their addresses and interfaces, those in trouble first', () => {
  const document = statusDocument({
    services: [
      {
        name: 'a/web',
        addresses: [ip('192.0.2.10'), ip('2001:db8::10')],
        state: 'announced',
        reason: undefined,
      },
      {
        name: 'b/mail',
        addresses: [ip('192.0.2.20')],
        state: 'allocated',
        reason: 'no interface has its subnet',
      },
      { name: 'c/none', addresses: [], state: 'refused', reason: 'pool default is full' },
      { name: 'd/new', addresses: [ip('192.0.2.11')], state: 'probing', reason: undefined },
    ],
    addresses: [
      address('192.0.2.10'),
      address('2001:db8::10', { interface: 'eth1', prefixLength: 128 }),
      address('192.0.2.11', { state: 'probing' }),
    ],
  });
  const shown = lines(document);
  assert.equal(shown[0], 'edge-1: ok, 4 Services: 1 refused, 1 probing, 1 allocated, 1 announced');
  assert.deepEqual(shown.slice(6), [
    'NAMESPACE/NAME  ADDRESS       STATE      INTERFACE  REASON',
    'c/none          -             refused    -          pool default is full',
    'd/new           192.0.2.11    probing    eth0',
    'b/mail          192.0.2.20    allocated  -          no interface has its subnet',
    'a/web           192.0.2.10    announced  eth0',
    '                2001:db8::10  announced  eth1',
    '',
  ]);
});

test('renderStatus() tells the addresses of a partial Service apart', () => {
  const document = statusDocument({
    services: [
      {
        name: 'a/web',
        addresses: [ip('192.0.2.10'), ip('2001:db8::10')],
        state: 'partial',
        reason: undefined,
      },
    ],
    addresses: [
      address('192.0.2.10'),
      address('2001:db8::10', { state: 'conflict', reason: '02:00:00:00:00:07 answers for it' }),
    ],
  });
  assert.deepEqual(lines(document).slice(7, 9), [
    'a/web           192.0.2.10    announced  eth0',
    '                2001:db8::10  conflict   eth0       02:00:00:00:00:07 answers for it',
  ]);
});

test('renderStatus() says why the API server is not there and what the Services shown are', () => {
  const kubernetes = {
    ...statusDocument().kubernetes,
    reachable: false,
    fromCache: true,
    error: 'connect ECONNREFUSED 10.0.0.10:6443',
    allocator: { holder: undefined, self: false, error: undefined },
  };
  assert.deepEqual(lines(statusDocument({ kubernetes })).slice(2, 4), [
    '  API server  https://10.0.0.10:6443, not reachable: connect ECONNREFUSED 10.0.0.10:6443; Services as last known, from the state directory',
    '  allocator   nobody: no address is allocated',
  ]);
});

test('renderStatus() shows only the reflectors that are not simply watching', () => {
  const reflectors = [
    reflector(),
    reflector({
      resource: 'nodes',
      phase: 'backing-off',
      silentMs: 45_000,
      error: '403: may not list nodes',
    }),
    reflector({ resource: 'endpointslices', phase: 'doubting', doubt: { missing: 60, known: 100 } }),
  ];
  const kubernetes = { ...statusDocument().kubernetes, reflectors };
  assert.deepEqual(lines(statusDocument({ kubernetes })).slice(2, 5), [
    '  API server      https://10.0.0.10:6443, reachable, heard 2s ago',
    '  nodes           backing-off, heard 45s ago: 403: may not list nodes',
    '  endpointslices  60 of 100 are missing from the last list; asking again before that is believed, heard 2s ago',
  ]);
});

test('renderStatus() shows the use of each pool and what is skipped in it', () => {
  const blocked = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4', '192.0.2.5', '192.0.2.6'].map(
    (text) => ({
      ip: ip(text),
      reason: 'somebody answers for it',
    }),
  );
  const document = statusDocument({
    pools: [
      { name: 'default', addresses: ['192.0.2.0/28'], family: 'v4', size: '16', allocated: 10, blocked },
      {
        name: 'six',
        addresses: ['2001:db8::/64'],
        family: 'v6',
        size: String(1n << 64n),
        allocated: 3,
        blocked: [],
      },
    ],
  });
  assert.deepEqual(lines(document).slice(6), [
    'POOL     USED       OF    BLOCKED  ADDRESSES',
    'default  10 (full)  16    6        192.0.2.0/28',
    'six      3          2^64  -        2001:db8::/64',
    '  192.0.2.1 of default is skipped: somebody answers for it',
    '  192.0.2.2 of default is skipped: somebody answers for it',
    '  192.0.2.3 of default is skipped: somebody answers for it',
    '  192.0.2.4 of default is skipped: somebody answers for it',
    '  192.0.2.5 of default is skipped: somebody answers for it',
    '  and 1 more of default',
    '',
  ]);
});

test('renderStatus() shows the sysctls with what they were before lbd', () => {
  const sysctl = { interface: 'eth0', expected: '1', current: '1', before: '0', drifts: 0, error: undefined };
  const document = statusDocument({
    sysctls: [
      { ...sysctl, key: 'arp_ignore', drifts: 2 },
      { ...sysctl, key: 'arp_announce', expected: '2', current: '0', before: undefined, error: 'EROFS' },
    ],
  });
  assert.deepEqual(lines(document).slice(6), [
    'SYSCTL                VALUE           BEFORE LBD  SET BACK  ERROR',
    'arp_ignore of eth0    1               0           2',
    'arp_announce of eth0  0 (expected 2)  -           -         EROFS',
    '',
  ]);
});

test('renderStatus() keeps its columns when it is coloured', () => {
  const document = statusDocument({
    problems: [{ severity: 'error', text: 'x' }],
    services: [{ name: 'a/web', addresses: [ip('192.0.2.10')], state: 'announced', reason: undefined }],
    addresses: [address('192.0.2.10')],
  });
  const coloured = renderStatus(document, colourPaint);
  assert.ok(coloured.includes('\u001b[31mERROR\u001b[39m'));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the codes are what is taken away.
  assert.equal(coloured.replaceAll(/\u001b\[\d+m/g, ''), renderStatus(document, plainPaint));
});

test('renderStatus() has a row for a token that expires', () => {
  const token = {
    account: 'kube-system/lbd',
    expiresInMs: 29 * 86_400_000,
    renewsInMs: 14 * 86_400_000,
    isLate: false,
    error: undefined,
  };
  const cases = [
    [token, 'of kube-system/lbd, renewed in 14d, expires in 29d'],
    [{ ...token, renewsInMs: -1 }, 'of kube-system/lbd, renewal is due, expires in 29d'],
    [{ ...token, expiresInMs: -3_600_000 }, 'of kube-system/lbd, expired 1h ago'],
  ] as const;
  for (const [one, expected] of cases) {
    const { kubernetes } = statusDocument();
    const text = renderStatus(statusDocument({ kubernetes: { ...kubernetes, token: one } }), plainPaint);
    assert.match(text, new RegExp(`^  token +${expected}$`, 'm'));
  }
});
