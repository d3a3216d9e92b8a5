import type { Random } from '../../src/lib/prng.ts';
import { LINK } from './virtual-lab.ts';

/** Random changes of a host by others, in the words of `ip -batch`: of what is theirs and of what is lbd's. */

/** The addresses of each Service. */
export const SERVICES: readonly (readonly string[])[] = [
  ['10.77.0.200', 'fd77::200'],
  ['10.77.0.201'],
  ['10.77.0.202'],
  ['203.0.113.1', 'fd55::1'],
  ['203.0.113.2'],
  ['203.0.113.3', 'fd55::3'],
  ['fd56::1'],
];

/** As the kernel is to have them. */
export const OURS: readonly string[] = SERVICES.flat().map((ip) => {
  if (ip.startsWith('203.')) return `${ip}/24`;
  return ip.startsWith('fd55') ? `${ip}/64` : `${ip}/${ip.includes(':') ? 128 : 32}`;
});

/** Of the virtual ones, as `ip` shows them. */
export const ROUTES: readonly string[] = ['203.0.113.0/24', 'fd55::/64', 'fd56::1'];

export type Burst = {
  readonly lines: readonly string[];
  /** Path below /proc/sys and value, after the lines. */
  readonly sysctls: readonly (readonly [string, number])[];
  /** The link of virtual addresses went or went down, with what others have on it. */
  readonly breaksLink: boolean;
};

type Make = (random: Random) => readonly string[];

/** Of addresses, routes, links and rules that are nobody's but the others'. */
const FOREIGN: readonly Make[] = [
  (random) => [`addr ${addOrDelete(random)} 10.77.0.${100 + below(random, 8)}/24 dev eth0`],
  (random) => [`addr ${addOrDelete(random)} 10.77.0.${110 + below(random, 8)}/32 dev eth0`],
  (random) => [`addr ${addOrDelete(random)} fd77::${100 + below(random, 8)}/64 dev eth0 nodad`],
  (random) => [`addr ${addOrDelete(random)} 192.0.2.${1 + below(random, 8)}/24 dev ext0`],
  (random) => [`addr ${addOrDelete(random)} 198.51.100.${1 + below(random, 8)}/32 dev ${LINK}`],
  (random) => [`addr ${addOrDelete(random)} 198.18.0.${1 + below(random, 4)}/24 dev ${LINK}`],
  (random) => [`addr ${addOrDelete(random)} fd99::${1 + below(random, 8)}/128 dev ${LINK} nodad`],
  (random) => [
    `addr change 10.77.0.${110 + below(random, 8)}/32 dev eth0 valid_lft ${1_000 + below(random, 9_000)}`,
  ],
  (random) => [`route ${addOrDelete(random)} 198.18.${8 + below(random, 8)}.0/24 dev eth0`],
  (random) => [`route ${addOrDelete(random)} 198.18.${16 + below(random, 8)}.0/24 via 10.77.0.1`],
  (random) => [`route ${addOrDelete(random)} 198.18.${24 + below(random, 8)}.0/24 dev ${LINK} proto static`],
  (random) => [`route ${addOrDelete(random)} 198.18.${32 + below(random, 8)}.0/24 dev ext0 table 77`],
  (random) => [`-6 route ${addOrDelete(random)} fd98:${below(random, 8)}::/64 dev eth0`],
  (random) => [`-6 route ${addOrDelete(random)} fd97:${below(random, 8)}::/64 dev ${LINK} table 77`],
  (random) => [`rule ${addOrDelete(random)} pref ${1_000 + below(random, 8)} from 192.0.2.0/24 lookup 77`],
  (random) => [`-6 rule ${addOrDelete(random)} pref ${1_000 + below(random, 8)} to fd98::/32 lookup 77`],
  (random) => [`link add other${below(random, 3)} type bridge`],
  (random) => [`link del other${below(random, 3)}`],
  (random) => [`link set other${below(random, 3)} ${random() < 0.5 ? 'up' : 'down'}`],
  (random) => [`link set ext0 mtu ${1_400 + below(random, 100)}`],
];

/** Of what is lbd's. */
const OWN: readonly Make[] = [
  (random) => [`addr del ${pick(random, OURS)} dev ${random() < 0.5 ? 'eth0' : LINK}`],
  (random) => [deletion(pick(random, OURS))],
  (random) => [deletion(pick(random, OURS))],
  () => ['addr flush dev eth0 to 10.77.0.200/29'],
  () => [`addr flush dev ${LINK} to 203.0.113.0/24`],
  () => [`-6 addr flush dev ${LINK} to fd55::/64`],
];

/** Of the table local: whoever does that takes the address from the host, though it stays on its link. */
const LOCAL_ROUTES: readonly Make[] = [
  (random) => {
    const address = pick(random, OURS);
    const [ip = ''] = address.split('/');
    return [`${ip.includes(':') ? '-6 ' : ''}route del local ${ip} dev ${linkOf(address)} table local`];
  },
];

/** Of what the kernel made for what is lbd's: with the last address of the prefix gone, there may be none. */
const OWN_ROUTES: readonly Make[] = ROUTES.map((route) => () => [
  `${route.includes(':') ? '-6 ' : ''}route del ${route} dev ${LINK}`,
]);

/** At the start of a burst: whoever changes an address that is gone makes one of his own. */
function lifetime(random: Random, address: string): string {
  const seconds = pick(random, ['2', '60', '3600', 'forever']);
  return `addr change ${address} dev ${linkOf(address)} valid_lft ${seconds} preferred_lft ${seconds}`;
}

/** At the end of a burst: what comes after depends on how quick lbd is. */
const LINK_BREAKS: readonly (readonly string[])[] = [[`link set ${LINK} down`], [`link del ${LINK}`]];

export function burst(random: Random, count: number): Burst {
  const lines = OURS.filter(() => random() < 0.2).map((address) => lifetime(random, address));
  while (lines.length < count)
    lines.push(...pick(random, random() < 0.7 ? FOREIGN : [...OWN, ...OWN_ROUTES, ...LOCAL_ROUTES])(random));
  const breaksLink = random() < 0.2;
  if (breaksLink) lines.push(...pick(random, LINK_BREAKS));
  const sysctls: (readonly [string, number])[] = [
    [`net/ipv4/conf/ext0/arp_ignore`, below(random, 3)],
    [`net/ipv4/conf/eth0/arp_notify`, below(random, 2)],
  ];
  if (random() < 0.1) sysctls.push(['net/ipv4/conf/eth0/arp_ignore', 0]);
  return { lines, sysctls, breaksLink };
}

function deletion(address: string): string {
  return `addr del ${address} dev ${linkOf(address)}`;
}

function linkOf(address: string): string {
  return /^(203|fd55|fd56)/.test(address) ? LINK : 'eth0';
}

function addOrDelete(random: Random): string {
  return random() < 0.6 ? 'add' : 'del';
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

function pick<Value>(random: Random, values: readonly Value[]): Value {
  return values[below(random, values.length)] as Value;
}
