import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { HostView, Nic } from '../../../src/iface/nic-selection.ts';
import { EMPTY_HOST, selectNic } from '../../../src/iface/nic-selection.ts';
import { blockedAddresses, placeRange } from '../../../src/iface/range-placement.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import {
  formatPrefix,
  formatRange,
  type Ip,
  type IpRange,
  ipFromNumber,
  parsePrefix,
  parseRange,
  rangeSize,
} from '../../../src/lib/ip.ts';

function range(text: string): IpRange {
  const parsed = parseRange(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

function nic(ifIndex: number, subnets: readonly string[], up = true): Nic {
  return {
    ifIndex: ifIndex as IfIndex,
    name: `eth${ifIndex}`,
    mac: '02:00:00:00:00:01' as Mac,
    up,
    subnets: subnets.map((text) => {
      const parsed = parsePrefix(text);
      assert.ok(parsed.ok, text);
      return parsed.value;
    }),
  };
}

function hostOf(nics: readonly Nic[], selected: readonly number[], own: readonly string[] = []): HostView {
  const set = new Set(selected as IfIndex[]);
  return {
    ...EMPTY_HOST,
    nics,
    selected: { v4: set, v6: set },
    ownAddresses: new Map(own.map((ip) => [ip as Ip, 'eth0'])),
    gateways: new Set(['10.0.0.1' as Ip]),
  };
}

const HOST = hostOf(
  [nic(0, ['10.0.0.0/24', 'fd00::/64']), nic(1, ['10.0.1.0/25']), nic(2, ['10.0.0.128/26'])],
  [0, 2],
  ['10.0.0.2'],
);

function placed(text: string): readonly string[] {
  return placeRange(range(text), HOST).map((part) => {
    const where = part.kind === 'virtual' ? '' : ` ${part.nic.name} ${formatPrefix(part.subnet)}`;
    return `${formatRange(part.range)} ${part.kind}${where}`;
  });
}

test('placeRange() cuts a range where its fate changes', () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ['10.0.0.10-10.0.0.20', ['10.0.0.10-10.0.0.20 local eth0 10.0.0.0/24']],
    ['192.168.0.0/16', ['192.168.0.0-192.168.255.255 virtual']],
    [
      '10.0.0.250-10.0.2.3',
      [
        '10.0.0.250-10.0.0.255 local eth0 10.0.0.0/24',
        '10.0.1.0-10.0.1.127 unselected eth1 10.0.1.0/25',
        '10.0.1.128-10.0.2.3 virtual',
      ],
    ],
    [
      '10.0.0.0/24',
      [
        '10.0.0.0-10.0.0.127 local eth0 10.0.0.0/24',
        '10.0.0.128-10.0.0.191 local eth2 10.0.0.128/26',
        '10.0.0.192-10.0.0.255 local eth0 10.0.0.0/24',
      ],
    ],
    ['fd00::10-fd00::20', ['fd00::10-fd00::20 local eth0 fd00::/64']],
    [
      'fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-fd00::1',
      ['fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff virtual', 'fd00::-fd00::1 local eth0 fd00::/64'],
    ],
    ['0.0.0.0-9.255.255.255', ['0.0.0.0-9.255.255.255 virtual']],
    ['255.255.255.255/32', ['255.255.255.255 virtual']],
  ];
  for (const [text, expected] of cases) assert.deepEqual(placed(text), expected, text);
});

test('placeRange() says which member of another link has the subnet', () => {
  const member = { name: 'eth3', subnets: nic(3, ['10.85.0.0/25']).subnets, why: 'it is in the VRF red' };
  const host = { ...HOST, unusable: [{ ...member, isMember: true }] };
  const parts = placeRange(range('10.85.0.0/24'), host).map((part) => {
    const what = part.kind === 'unusable' ? `${part.nic.name} ${part.nic.why}` : part.kind;
    return `${formatRange(part.range)} ${what}`;
  });
  assert.deepEqual(parts, [
    '10.85.0.0-10.85.0.127 eth3 it is in the VRF red',
    '10.85.0.128-10.85.0.255 virtual',
  ]);
});

test('placeRange() agrees with selectNic() on each address and leaves none out', () => {
  const bounds = fc.tuple(fc.integer({ min: 0, max: 1023 }), fc.integer({ min: 0, max: 1023 }));
  const subnets = fc.array(fc.tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 24, max: 27 })), {
    maxLength: 4,
  });
  const at = (offset: number) => ipFromNumber('v4', 0x0a_00_00_00n + BigInt(offset));
  fc.assert(
    fc.property(bounds, subnets, fc.integer({ min: 0, max: 15 }), ([left, right], drawn, mask) => {
      const nics = drawn.map(([block, length], index) => {
        const size = 2 ** (32 - length);
        return nic(index, [`${at(Math.floor((block * 32) / size) * size)}/${length}`]);
      });
      const selected = nics.map((one) => one.ifIndex).filter((index) => (mask & (1 << index)) !== 0);
      const host = { ...hostOf(nics, selected), gateways: new Set<Ip>() };
      const whole = { first: at(Math.min(left, right)), last: at(Math.max(left, right)) };
      const parts = placeRange(whole, host);
      assert.equal(
        parts.reduce((sum, part) => sum + rangeSize(part.range), 0n),
        rangeSize(whole),
      );
      for (const part of parts) {
        for (const ip of [part.range.first, part.range.last]) {
          const selection = selectNic(ip, host);
          if (selection.kind === 'nic') {
            assert.ok(part.kind === 'local' && part.nic === selection.nic, `${ip}: ${part.kind}`);
          } else if (selection.kind === 'none') assert.notEqual(part.kind, 'local', ip);
        }
      }
    }),
  );
});

test('blockedAddresses() finds those of the host, its gateways and its subnets', () => {
  const found = blockedAddresses(range('10.0.0.0/24'), HOST).map(({ reason }) => reason);
  assert.deepEqual(found, [
    '10.0.0.0 is the network address of 10.0.0.0/24',
    "10.0.0.1 is the gateway of one of this host's routes",
    '10.0.0.2 is already on eth0 and was not put there by lbd',
    '10.0.0.128 is the network address of 10.0.0.128/26',
    '10.0.0.191 is the broadcast address of 10.0.0.128/26',
    '10.0.0.255 is the broadcast address of 10.0.0.0/24',
  ]);
  assert.deepEqual(blockedAddresses(range('10.0.0.10-10.0.0.20'), HOST), []);
  assert.deepEqual(
    blockedAddresses(range('fd00::/64'), HOST).map(({ ip }) => ip),
    ['fd00::'],
  );
});
