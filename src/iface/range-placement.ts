import {
  broadcastOf,
  compareIps,
  familyOf,
  type Ip,
  type IpRange,
  ipFromNumber,
  ipToNumber,
  type Prefix,
  prefixContains,
  prefixRange,
  rangeContains,
  rangesOverlap,
} from '../lib/ip.ts';
import {
  allowedFor,
  type HostView,
  localSubnets,
  longestMatch,
  memberLinks,
  type Nic,
  selectNic,
  type UnusableLink,
} from './nic-selection.ts';

/** Which parts of a range of addresses belong on which NIC of this host, without looking at each address. */
export type RangePart =
  /** The subnet of a selected NIC holds it. */
  | { readonly kind: 'local'; readonly range: IpRange; readonly nic: Nic; readonly subnet: Prefix }
  /** A NIC has the subnet, but the configuration does not select it. */
  | {
      readonly kind: 'unselected';
      readonly range: IpRange;
      readonly nic: Nic;
      readonly subnet: Prefix;
      /** Where the configuration would select it: `[local] interfaces`. */
      readonly configuredIn: string;
    }
  /** A link has the subnet that can carry no address. */
  | {
      readonly kind: 'unusable';
      readonly range: IpRange;
      readonly nic: UnusableLink;
      readonly subnet: Prefix;
    }
  /** In no subnet of this host. */
  | { readonly kind: 'virtual'; readonly range: IpRange };

/** The parts of `range` in ascending order, neighbours of the same fate as one. */
export function placeRange(range: IpRange, host: HostView): readonly RangePart[] {
  const parts: RangePart[] = [];
  for (const part of cut(range, host)) {
    const placed = placePart(part, host);
    const last = parts.at(-1);
    if (last !== undefined && sameFate(last, placed)) {
      parts[parts.length - 1] = { ...last, range: { first: last.range.first, last: part.last } };
    } else parts.push(placed);
  }
  return parts;
}

/** The addresses of `range` that no Service gets, because they are the host's, a gateway's or a subnet's own. */
export function blockedAddresses(
  range: IpRange,
  host: HostView,
): readonly { readonly ip: Ip; readonly reason: string }[] {
  const subnets = host.nics.flatMap((nic) => nic.subnets);
  const suspects = [
    ...host.ownAddresses.keys(),
    ...host.gateways,
    ...subnets.flatMap((subnet) => [subnet.network, broadcastOf(subnet) ?? subnet.network]),
  ].filter((ip) => rangeContains(range, ip));
  return [...new Set(suspects)].sort(compareIps).flatMap((ip) => {
    const selection = selectNic(ip, host);
    return selection.kind === 'blocked' ? [{ ip, reason: selection.reason }] : [];
  });
}

/** Cuts the range wherever a subnet begins or ends, so that each part has one fate. */
function cut(range: IpRange, host: HostView): readonly IpRange[] {
  const family = familyOf(range.first);
  const [first, last] = [ipToNumber(range.first), ipToNumber(range.last)];
  const starts = new Set([first]);
  for (const subnet of localSubnets(host)) {
    const held = prefixRange(subnet);
    if (!rangesOverlap(held, range)) continue;
    for (const start of [ipToNumber(held.first), ipToNumber(held.last) + 1n]) {
      if (start > first && start <= last) starts.add(start);
    }
  }
  const sorted = [...starts].sort((left, right) => (left < right ? -1 : 1));
  return sorted.map((start, index) => ({
    first: ipFromNumber(family, start),
    last: ipFromNumber(family, (sorted[index + 1] ?? last + 1n) - 1n),
  }));
}

function placePart(range: IpRange, host: HostView): RangePart {
  const { selected, configuredIn } = allowedFor(range.first, host);
  const local = longestMatch(range.first, host.nics, selected[familyOf(range.first)]);
  if (local !== undefined) return { kind: 'local', range, ...local };
  const other = longestMatch(range.first, host.nics);
  if (other !== undefined) return { kind: 'unselected', range, ...other, configuredIn };
  for (const nic of memberLinks(host)) {
    const subnet = nic.subnets.find((each) => prefixContains(each, range.first));
    if (subnet !== undefined) return { kind: 'unusable', range, nic, subnet };
  }
  return { kind: 'virtual', range };
}

function sameFate(left: RangePart, right: RangePart): boolean {
  if (left.kind === 'virtual' || right.kind === 'virtual') return left.kind === right.kind;
  return left.kind === right.kind && left.nic === right.nic && left.subnet === right.subnet;
}
