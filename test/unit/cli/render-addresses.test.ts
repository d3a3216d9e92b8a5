import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listAddresses, renderAddresses } from '../../../src/cli/render-addresses.ts';
import { plainPaint } from '../../../src/cli/table.ts';
import type { StatusDocument } from '../../../src/daemon/types.ts';
import { ip, statusDocument } from './support/status-document.ts';

const HELD = {
  services: ['a/web', 'a/dns'],
  state: 'held',
  interface: 'eth0',
  prefixLength: 32,
  lifetimeLeftMs: 28_000,
  heldSinceMs: 65_000,
  kind: 'local',
  announcements: 4,
  unsentFrames: 0,
  repairs: 0,
  reason: undefined,
} as const;

test('renderAddresses() gives one line for each address, in numeric order', () => {
  const document = statusDocument({
    pools: [
      {
        name: 'default',
        addresses: ['192.0.2.10-192.0.2.20', '2001:db8::/64'],
        family: 'dual',
        size: '18446744073709551627',
        allocated: 3,
        blocked: [],
      },
    ],
    addresses: [
      {
        ...HELD,
        ip: ip('203.0.113.7'),
        kind: 'virtual',
        interface: 'kube-lb0',
        prefixLength: 24,
        lifetimeLeftMs: 'permanent',
        announcements: 0,
        unsentFrames: 0,
      },
      { ...HELD, ip: ip('2001:db8::1'), prefixLength: 128, lifetimeLeftMs: 'permanent' },
      { ...HELD, ip: ip('192.0.2.10') },
      {
        ip: ip('192.0.2.9'),
        services: ['b/mail'],
        state: 'no-interface',
        interface: undefined,
        prefixLength: undefined,
        lifetimeLeftMs: undefined,
        heldSinceMs: undefined,
        kind: 'local',
        announcements: 0,
        unsentFrames: 0,
        repairs: 0,
        reason: 'no interface has its subnet',
      },
    ],
  });
  assert.deepEqual(renderAddresses(document, plainPaint).split('\n'), [
    'ADDRESS          FAMILY  KIND     STATE         INTERFACE  HELD FOR  LIFETIME LEFT  ANNOUNCEMENTS  ORIGIN        SERVICES      REASON',
    '192.0.2.9        IPv4    local    no-interface  -          -         -              0              no pool       b/mail        no interface has its subnet',
    '192.0.2.10/32    IPv4    local    announced     eth0       1m5s      28s            4              pool default  a/web, a/dns',
    '203.0.113.7/24   IPv4    virtual  announced     kube-lb0   1m5s      permanent      0              no pool       a/web, a/dns',
    '2001:db8::1/128  IPv6    local    announced     eth0       1m5s      permanent      4              pool default  a/web, a/dns',
    '',
  ]);
});

test('renderAddresses() tells of frames of announcements that did not leave', () => {
  const address = { ...HELD, ip: ip('192.0.2.10'), unsentFrames: 2 };
  const text = renderAddresses(statusDocument({ addresses: [address] }), plainPaint);
  assert.match(text, / 28s +4 \(2 frames unsent\) +no pool /);
});

test('listAddresses() tells the family and the pool of each, and of those that are on another host', () => {
  const owner = {
    ip: ip('192.0.2.10'),
    state: 'theirs',
    owner: 'edge-2',
    epoch: 3,
    sinceMs: 1_000,
    heir: undefined,
    reason: undefined,
  } as const;
  const document = statusDocument({
    pools: [{ name: 'a', addresses: ['192.0.2.0/24'], family: 'v4', size: '256', allocated: 1, blocked: [] }],
    services: [{ name: 'a/web', addresses: [owner.ip], state: 'announced', reason: undefined }],
    election: { owners: [owner] } as unknown as NonNullable<StatusDocument['election']>,
  });
  assert.deepEqual(listAddresses(document), [
    { ip: owner.ip, services: ['a/web'], state: 'elsewhere', owner, family: 'v4', pool: 'a' },
  ]);
});

test('renderAddresses() says that there are none', () => {
  assert.equal(renderAddresses(statusDocument(), plainPaint), 'no addresses\n');
});
