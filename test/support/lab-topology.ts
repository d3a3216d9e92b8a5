import { assert } from '../../src/lib/assert.ts';
import { familyOf, ipFromNumber, ipToNumber, type Prefix, parseIp, parsePrefix } from '../../src/lib/ip.ts';

/** What a lab is made of, worked out from what a test asks for: addresses, MACs and the text of `ip -batch`. Pure. */

export type SegmentOptions = {
  /** Hosts get .11, .12, … of it in the order of their names in `hosts`; null for no v4. Default 10.77.N.0/24. */
  readonly v4?: string | null;
  /** Hosts get ::11, ::12, … of it; null for no v6. Default fd77:N::/64. */
  readonly v6?: string | null;
};

export type NicOptions = {
  /** Default: the first segment. */
  readonly segment?: string;
  /** With prefix length, v4 and v6. Default: one of each subnet of the segment. */
  readonly addresses?: readonly string[];
  readonly mac?: string;
  readonly mtu?: number;
};

export type HostOptions = {
  /** By interface name. Default: eth0 on the first segment. */
  readonly nics?: Readonly<Record<string, NicOptions>>;
  /** Default: the first address (.1, ::1) of the first NIC's subnets; null for no default route. */
  readonly gateways?: readonly string[] | null;
  /** More arguments of `ip route add`, one route each. */
  readonly routes?: readonly string[];
  /** By dotted name, without values that contain dots: `{ 'net.ipv4.ip_forward': '1' }`. */
  readonly sysctls?: Readonly<Record<string, string>>;
};

export type Segment = { readonly name: string; readonly bridge: string; readonly subnets: readonly Prefix[] };

export type Nic = {
  readonly name: string;
  readonly segment: string;
  /** The name of the switch's end of the cable. */
  readonly port: string;
  readonly mac: string;
  readonly mtu: number | undefined;
  /** With prefix length. */
  readonly addresses: readonly string[];
};

export type HostPlan = {
  readonly name: string;
  readonly nics: readonly Nic[];
  readonly gateways: readonly string[];
  readonly routes: readonly string[];
  readonly sysctls: Readonly<Record<string, string>>;
};

const FIRST_HOST_NUMBER = 11;
const MAX_HOSTS = 200;
const MAX_SEGMENTS = 100;

export function planSegments(options: Readonly<Record<string, SegmentOptions>>): readonly Segment[] {
  const entries = Object.entries(options);
  assert(entries.length > 0 && entries.length <= MAX_SEGMENTS, `a lab has 1 to ${MAX_SEGMENTS} segments`);
  return entries.map(([name, segment], index) => {
    const subnets = [segment.v4, segment.v6].map((text, family) =>
      text === undefined ? (family === 0 ? `10.77.${index}.0/24` : `fd77:${index}::/64`) : text,
    );
    return {
      name,
      bridge: `br${index}`,
      subnets: subnets.flatMap((text) => (text === null ? [] : [prefix(text)])),
    };
  });
}

export function planHosts(
  options: Readonly<Record<string, HostOptions>>,
  segments: readonly Segment[],
): readonly HostPlan[] {
  const entries = Object.entries(options);
  assert(entries.length <= MAX_HOSTS, `a lab has at most ${MAX_HOSTS} hosts`);
  return entries.map(([name, host], index) => {
    assert(/^[a-z][-a-z0-9]{0,30}$/.test(name) && name !== 'switch', `${name} cannot be the name of a host`);
    const nics = Object.entries(host.nics ?? { eth0: {} }).map(([nicName, nic], nicIndex) =>
      planNic(nicName, nic, segments, index, nicIndex),
    );
    const gateways = host.gateways === undefined ? defaultGateways(nics[0], segments) : (host.gateways ?? []);
    return { name, nics, gateways, routes: host.routes ?? [], sysctls: host.sysctls ?? {} };
  });
}

function planNic(
  name: string,
  options: NicOptions,
  segments: readonly Segment[],
  hostIndex: number,
  nicIndex: number,
): Nic {
  const segmentIndex =
    options.segment === undefined ? 0 : segments.findIndex((s) => s.name === options.segment);
  const segment = segments[segmentIndex];
  assert(segment !== undefined, `no segment ${options.segment} for ${name}`);
  const number = FIRST_HOST_NUMBER + hostIndex;
  return {
    name,
    segment: segment.name,
    port: `p${hostIndex}-${nicIndex}`,
    mac: options.mac ?? `02:1b:d0:${hex(segmentIndex)}:${hex(nicIndex)}:${hex(number)}`,
    mtu: options.mtu,
    addresses: options.addresses ?? segment.subnets.map((subnet) => nthAddress(subnet, number)),
  };
}

/** ::11 for host 11, as a person expects it, and not ::b. */
function nthAddress(subnet: Prefix, number: number): string {
  const offset = familyOf(subnet.network) === 'v4' ? BigInt(number) : BigInt(`0x${number}`);
  return `${ipFromNumber(familyOf(subnet.network), ipToNumber(subnet.network) + offset)}/${subnet.length}`;
}

function defaultGateways(nic: Nic | undefined, segments: readonly Segment[]): readonly string[] {
  const segment = segments.find(({ name }) => name === nic?.segment);
  return (segment?.subnets ?? []).map((subnet) => addressOf(nthAddress(subnet, 1)));
}

/** `ip -batch` in the switch: its bridges. */
export function bridgeCommands(segments: readonly Segment[]): readonly string[] {
  return segments.flatMap(({ bridge }) => [
    `link add ${bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0`,
    `link set ${bridge} up`,
  ]);
}

/** `ip -batch` in the switch: a cable from `nic` of the host whose PID 1 has the real pid `hostPid`. */
export function cableCommands(nic: Nic, bridge: string, hostPid: number): readonly string[] {
  const mtu = nic.mtu === undefined ? '' : ` mtu ${nic.mtu}`;
  return [
    `link add ${nic.port}${mtu} type veth peer name ${nic.name} address ${nic.mac}${mtu} netns ${hostPid}`,
    `link set ${nic.port} master ${bridge}`,
    `link set ${nic.port} up`,
  ];
}

/** `ip -batch` in the host: `nic` up with its addresses. Without duplicate detection, which would take a second. */
export function nicCommands(nic: Nic): readonly string[] {
  return [
    `link set ${nic.name} addrgenmode none`,
    `link set ${nic.name} up`,
    ...nic.addresses.map((address) =>
      address.includes(':')
        ? `addr replace ${address} dev ${nic.name} nodad`
        : `addr replace ${address} dev ${nic.name} brd +`,
    ),
    `addr replace ${linkLocal(nic.mac)}/64 dev ${nic.name} nodad`,
  ];
}

/** `ip -batch` in the host: its default routes and the others. */
export function routeCommands(plan: HostPlan): readonly string[] {
  return [
    ...plan.gateways.map((gateway) => `route replace default via ${gateway}`),
    ...plan.routes.map((route) => `route replace ${route}`),
  ];
}

/** The link-local address made of a MAC (RFC 4291 appendix A). */
export function linkLocal(mac: string): string {
  const bytes = mac.split(':').map((part) => Number.parseInt(part, 16));
  const id = [(bytes[0] ?? 0) ^ 2, bytes[1], bytes[2], 0xff, 0xfe, bytes[3], bytes[4], bytes[5]];
  let value = 0xfe80n << 112n;
  for (const [index, byte] of id.entries()) value |= BigInt(byte ?? 0) << BigInt(56 - 8 * index);
  return ipFromNumber('v6', value);
}

/** An address without its prefix length. */
export function addressOf(cidr: string): string {
  return cidr.split('/')[0] ?? cidr;
}

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert(parsed.ok, `${text}: ${parsed.ok ? '' : parsed.error}`);
  return parsed.value;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}

/** The first of `addresses` of the given family, without its prefix length. */
export function firstOfFamily(addresses: readonly string[], family: 'v4' | 'v6'): string | undefined {
  return addresses.map(addressOf).find((text) => {
    const ip = parseIp(text);
    return ip !== undefined && familyOf(ip) === family;
  });
}
