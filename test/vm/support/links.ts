import type { Machine } from './machine.ts';

/**
 * Links of every kind that may carry addresses of Services, on one machine. Each is a cable (a veth pair) to the network
 * namespace `far`, which is the switch and the client of its segment, 10.8N.0.0/24: here .1, there .2.
 */

export type Kind = 'vlan' | 'bond' | 'bridge' | 'macvlan' | 'vrf';

export type SegmentLink = {
  readonly kind: Kind;
  /** The NIC with the subnet. */
  readonly nic: string;
  readonly subnet: string;
  /** The address of a Service in it. */
  readonly vip: string;
  /** In the middle, or for a bond the two: what has no subnet. */
  readonly members: readonly string[];
};

export const LINKS: readonly SegmentLink[] = [
  segment('vlan', 1, 'trunk0.10', ['trunk0']),
  segment('bond', 2, 'bond1', ['slave0', 'slave1']),
  segment('bridge', 3, 'br0', ['port0']),
  segment('macvlan', 4, 'mv0', ['base0']),
  segment('vrf', 5, 'red0', []),
];

function segment(kind: Kind, number: number, nic: string, members: readonly string[]): SegmentLink {
  return { kind, nic, subnet: `10.8${number}.0.0/24`, vip: `10.8${number}.0.200`, members };
}

export function linkOf(kind: Kind): SegmentLink {
  const found = LINKS.find((link) => link.kind === kind);
  if (found === undefined) throw new Error(`no link is a ${kind}`);
  return found;
}

/** A pool for the address on each, for which a Service has to ask. */
export const POOLS = LINKS.map(
  ({ kind, vip }) => `[[pool]]\nname = "${kind}"\naddresses = ["${vip}/32"]\nauto_assign = false\n`,
).join('');

const CABLES = ['trunk0', 'slave0', 'slave1', 'port0', 'base0', 'red0'] as const;
/** Where the other end of each has its subnet. */
const FAR_NICS: Readonly<Record<Kind, string>> = {
  vlan: 'trunk0.10',
  bond: 'switch',
  bridge: 'port0',
  macvlan: 'base0',
  vrf: 'red0',
};

/** Makes them, all up and with their addresses on both sides. */
export async function makeLinks(machine: Machine): Promise<void> {
  const near = [
    ...CABLES.map((nic) => `link add ${nic} type veth peer name ${nic} netns far`),
    'link add link trunk0 name trunk0.10 type vlan id 10',
    'link add bond1 type bond mode active-backup miimon 100',
    'link add br0 type bridge',
    'link add mv0 link base0 type macvlan mode bridge',
    'link add red type vrf table 100',
    'link set slave0 master bond1',
    'link set slave1 master bond1',
    'link set port0 master br0',
    'link set red0 master red',
    ...['trunk0', 'port0', 'base0', 'red'].map((nic) => `link set ${nic} up`),
    ...LINKS.flatMap(({ nic, subnet }) => upWith(nic, subnet, 1)),
  ];
  const far = [
    'link add link trunk0 name trunk0.10 type vlan id 10',
    'link add switch type bridge forward_delay 0',
    'link set slave0 master switch',
    'link set slave1 master switch',
    ...CABLES.map((nic) => `link set ${nic} up`),
    ...LINKS.flatMap(({ kind, subnet }) => upWith(FAR_NICS[kind], subnet, 2)),
  ];
  // The NIC under a macvlan answers ARP for the addresses on it, too, unless it is told not to. udev gives new links another MAC.
  await machine.run(
    `set -e
    ip netns add far
    ${batch('ip', near)}
    ${batch('ip -n far', far)}
    echo 1 >/proc/sys/net/ipv4/conf/base0/arp_ignore
    udevadm settle`,
  );
}

function upWith(nic: string, subnet: string, host: number): readonly string[] {
  return [`link set ${nic} up`, `addr add ${subnet.replace('.0/', `.${host}/`)} brd + dev ${nic}`];
}

/** A script that runs these commands of `ip` at once. */
export function batch(ip: string, commands: readonly string[]): string {
  return `${ip} -batch - <<'END'\n${commands.join('\n')}\nEND`;
}

/** The MAC that answers ARP for `ip` on its segment, after an answer to a ping; undefined without one. */
export async function answerer(machine: Machine, ip: string): Promise<string | undefined> {
  const text = await machine.output(
    `ip -n far neigh flush to ${ip}; ip netns exec far ping -q -c 1 -W 5 ${ip} >/dev/null && ip -n far neigh show to ${ip}`,
    { mayFail: true },
  );
  return / lladdr (\S+) /.exec(text)?.[1];
}
