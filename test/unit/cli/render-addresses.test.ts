import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderAddresses } from '../../../src/cli/render-addresses.ts';
import { plainPaint } from '../../../src/cli/table.ts';
import { ip, statusDocument } from './support/status-document.ts';

test('renderAddresses() gives one line for each address, in numeric order', () => {
  const held = {
    services: ['a/web', 'a/dns'],
    state: 'held',
    interface: 'eth0',
    prefixLength: 32,
    lifetimeLeftMs: 28_000,
    heldSinceMs: 65_000,
    kind: 'local',
    announcements: 4,
    repairs: 0,
    reason: undefined,
  } as const;
  const document = statusDocument({
    addresses: [
      { ...held, ip: ip('2001:db8::1'), prefixLength: 128, lifetimeLeftMs: 'permanent' },
      { ...held, ip: ip('192.0.2.10') },
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
        repairs: 0,
        reason: 'no interface has its subnet',
      },
    ],
  });
  assert.deepEqual(renderAddresses(document, plainPaint).split('\n'), [
    'ADDRESS          KIND   STATE         INTERFACE  HELD FOR  LIFETIME LEFT  ANNOUNCEMENTS  SERVICES      REASON',
    '192.0.2.9        local  no-interface  -          -         -              0              b/mail        no interface has its subnet',
    '192.0.2.10/32    local  announced     eth0       1m5s      28s            4              a/web, a/dns',
    '2001:db8::1/128  local  announced     eth0       1m5s      permanent      4              a/web, a/dns',
    '',
  ]);
});

test('renderAddresses() says that there are none', () => {
  assert.equal(renderAddresses(statusDocument(), plainPaint), 'no addresses\n');
});
