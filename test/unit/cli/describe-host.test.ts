import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Remark, Section } from '../../../src/cli/check-report.ts';
import {
  type DefaultRoutes,
  describeNetwork,
  describePools,
  describeSysctls,
} from '../../../src/cli/describe-host.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import type { Config } from '../../../src/config/types.ts';
import { EMPTY_HOST, type HostView, type Nic } from '../../../src/iface/nic-selection.ts';
import { planSysctls } from '../../../src/iface/sysctl-plan.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { type Ip, parsePrefix } from '../../../src/lib/ip.ts';

function config(text = ''): Config {
  const parsed = parseConfig(text, 'f', { hostName: 'edge' });
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value.config;
}

function nic(ifIndex: number, subnets: readonly string[], up = true): Nic {
  return {
    ifIndex: ifIndex as IfIndex,
    name: `eth${ifIndex}`,
    mac: '02:00:00:00:00:01' as Mac,
    up,
    subnets: subnets.flatMap((text) => {
      const parsed = parsePrefix(text);
      return parsed.ok ? [parsed.value] : [];
    }),
  };
}

function hostOf(nics: readonly Nic[], v4: readonly number[], v6: readonly number[] = v4): HostView {
  return {
    ...EMPTY_HOST,
    nics,
    selected: { v4: new Set(v4 as IfIndex[]), v6: new Set(v6 as IfIndex[]) },
    gateways: new Set(['10.0.0.1' as Ip]),
  };
}

function lines({ remarks }: Section): readonly string[] {
  return remarks.map(({ severity, text }: Remark) => `${severity}: ${text}`);
}

const BOTH: DefaultRoutes = { v4: true, v6: true };
const NEITHER: DefaultRoutes = { v4: false, v6: false };
const LAST =
  'note: They are added as /32 or /128. The kernel removes an address 30s after lbd last renewed it.';
const ETH0 = nic(0, ['10.0.0.0/24', 'fd00::/64']);
const ETH1 = nic(1, ['10.1.0.0/24']);

test('describeNetwork() says which NIC carries addresses, and why that one', () => {
  const only1 = '[local]\ninterfaces = ["eth1"]\n';
  const cases: readonly (readonly [string, HostView, DefaultRoutes, readonly string[]])[] = [
    [
      '',
      hostOf([ETH0], [0]),
      BOTH,
      ['note: Addresses go on eth0, the NIC of the default route, with 10.0.0.0/24 and fd00::/64.'],
    ],
    [
      '',
      hostOf([ETH0], [0]),
      NEITHER,
      [
        'note: Addresses go on eth0, as this host has no default route to say otherwise, with 10.0.0.0/24 and fd00::/64.',
      ],
    ],
    [
      '',
      hostOf([ETH0, ETH1], [1], [0]),
      BOTH,
      [
        'note: IPv6 addresses go on eth0, the NIC of the default route, with fd00::/64.',
        'note: IPv4 addresses go on eth1, the NIC of the default route, with 10.1.0.0/24.',
      ],
    ],
    [
      only1,
      hostOf([ETH0, ETH1], [1]),
      BOTH,
      ['note: Addresses go on eth1, which [local] interfaces selects, with 10.1.0.0/24.'],
    ],
    [
      only1,
      hostOf([nic(1, [])], [1]),
      BOTH,
      [
        'warning: Addresses could go on eth1, which [local] interfaces selects, but it has no subnet for any.',
      ],
    ],
    [
      only1,
      hostOf([nic(1, ['10.1.0.0/24'], false)], [1]),
      BOTH,
      ['warning: Addresses go on eth1, which [local] interfaces selects, with 10.1.0.0/24; but it is down.'],
    ],
    [
      '',
      hostOf([], []),
      NEITHER,
      ['error: No NIC of this host can carry addresses of Services: none is Ethernet with ARP.'],
    ],
    [
      '[local]\ninterfaces = ["eth1", "bond*"]\n',
      hostOf([ETH0, ETH1], [1]),
      BOTH,
      [
        'note: Addresses go on eth1, which [local] interfaces selects, with 10.1.0.0/24.',
        'warning: "bond*" of [local] interfaces matches no NIC that can carry addresses; there is eth0 and eth1.',
      ],
    ],
  ];
  for (const [text, host, defaults, expected] of cases) {
    assert.deepEqual(lines(describeNetwork(config(text), host, defaults)), [...expected, LAST]);
  }
});

test('describeNetwork() says how addresses are put there', () => {
  const last = (text: string) => lines(describeNetwork(config(text), hostOf([ETH0], [0]), BOTH)).at(-1);
  assert.equal(
    last('[local]\nprefix = "subnet"\nlifetime = 0\n'),
    'note: They are added with the prefix length of their subnet. The kernel keeps them for ever, also when lbd is gone.',
  );
});

test('describePools() says which member of another link has the subnet of a pool', () => {
  const { name, subnets } = nic(2, ['10.85.0.0/24']);
  const host = {
    ...hostOf([ETH0], [0]),
    unusable: [{ name, subnets, why: 'it is in the VRF red', isMember: true }],
  };
  const { remarks } = describePools(config('[[pool]]\nname = "a"\naddresses = ["10.85.0.0/28"]\n'), host);
  assert.deepEqual(remarks, [
    {
      severity: 'warning',
      text: 'a: 10.85.0.0/28 (16 addresses) is not served here: eth2 has 10.85.0.0/24, but it is in the VRF red.',
    },
  ]);
});

test('describePools() says what is local and what is virtual, also of a part of a range', () => {
  const pool = (addresses: string, more = '') =>
    `[[pool]]\nname = "a"\naddresses = ["${addresses}"]\n${more}`;
  const host = hostOf([ETH0, ETH1], [0]);
  const nobody = 'in no subnet of this host, so that routers have to be told of it';
  const cases: readonly (readonly [string, readonly string[]])[] = [
    [
      pool('10.0.0.10-10.0.0.20'),
      ['note: a: 10.0.0.10-10.0.0.20 (11 addresses) is local, in 10.0.0.0/24 of eth0.'],
    ],
    [pool('10.0.0.7/32'), ['note: a: 10.0.0.7/32 (1 address) is local, in 10.0.0.0/24 of eth0.']],
    [pool('192.168.0.0/24'), [`warning: a: 192.168.0.0/24 (256 addresses) is virtual: ${nobody}.`]],
    [
      pool('10.1.0.0/28'),
      [
        'warning: a: 10.1.0.0/28 (16 addresses) is not served here: eth1 has 10.1.0.0/24, but is not selected; add "eth1" to [local] interfaces.',
      ],
    ],
    [
      pool('10.0.0.250-10.0.1.5'),
      [
        `warning: a: of 10.0.0.250-10.0.1.5, 10.0.0.250-10.0.0.255 (6 addresses) is local, in 10.0.0.0/24 of eth0; 10.0.1.0-10.0.1.5 (6 addresses) is virtual: ${nobody}.`,
        'note: a: skipped, as 10.0.0.255 is the broadcast address of 10.0.0.0/24.',
      ],
    ],
    [
      pool('10.0.0.0/29', 'auto_assign = false\n'),
      [
        'note: a: 10.0.0.0/29 (8 addresses) is local, in 10.0.0.0/24 of eth0. Only Services that ask for the pool get one of it.',
        'note: a: skipped, as 10.0.0.0 is the network address of 10.0.0.0/24.',
        "note: a: skipped, as 10.0.0.1 is the gateway of one of this host's routes.",
      ],
    ],
    ['', ['warning: There is no pool, so no Service gets an address.']],
  ];
  for (const [text, expected] of cases) assert.deepEqual(lines(describePools(config(text), host)), expected);
});

test('describePools() counts what it does not show', () => {
  const own = new Map(Array.from({ length: 9 }, (_, index) => [`10.0.0.${index + 10}` as Ip, 'eth0']));
  const host = { ...hostOf([ETH0], [0]), ownAddresses: own };
  const section = describePools(config('[[pool]]\nname = "a"\naddresses = ["10.0.0.8-10.0.0.30"]\n'), host);
  assert.equal(section.remarks.length, 7);
  assert.equal(section.remarks.at(-1)?.text, 'a: 4 more addresses are skipped for such reasons.');
});

test('describeSysctls() says which values lbd sets, keeps or leaves alone', () => {
  const host = hostOf([ETH0], [0]);
  const plan = (ignore: number, announce: number, all = 0) =>
    planSysctls(['eth0'], ({ interface: name, key }) => {
      return { kind: 'value', value: name === 'all' ? all : key === 'arp_ignore' ? ignore : announce };
    });
  const off = '[arp]\nenforce_sysctls = false\n';
  const [ignore, announce] = ['net.ipv4.conf.eth0.arp_ignore', 'net.ipv4.conf.eth0.arp_announce'];
  assert.deepEqual(lines(describeSysctls(config(), host, plan(0, 2), new Map())), [
    `note: lbd will set ${ignore} to 1; in effect now is 0.`,
    `note: ${announce} is 2 already; lbd keeps it so.`,
  ]);
  assert.deepEqual(lines(describeSysctls(config(), host, plan(0, 2), new Map([[ignore, 'read-only']]))), [
    `error: lbd cannot set ${ignore} to 1: read-only.`,
    `note: ${announce} is 2 already; lbd keeps it so.`,
  ]);
  assert.deepEqual(lines(describeSysctls(config(off), host, plan(0, 2), new Map())), [
    `warning: ${ignore} is in effect 0, expected 1 or 2: other NICs may answer for addresses of Services, and [arp] enforce_sysctls = false leaves it so.`,
    `note: ${announce} is 2; lbd would not put it back.`,
  ]);
  const silent = lines(describeSysctls(config(), host, plan(8, 2), new Map()));
  assert.match(
    silent[0] ?? '',
    /^error: net\.ipv4\.conf\.eth0\.arp_ignore is 8: eth0 answers ARP for no address/,
  );
  assert.deepEqual(describeSysctls(config(), hostOf([nic(0, [])], [0]), plan(0, 0), new Map()).remarks, []);
  const all = lines(describeSysctls(config(), host, plan(0, 0, 3), new Map()));
  assert.ok(all.includes('note: lbd will set net.ipv4.conf.all.arp_announce to 2.'), all.join('\n'));
});
