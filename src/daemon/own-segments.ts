import { MAX_SEGMENTS } from '../election/message.ts';
import { segmentKey } from '../election/segment-key.ts';
import type { Segment, SegmentKey } from '../election/types.ts';
import type { HostView, Nic } from '../iface/nic-selection.ts';
import { ownAddress } from '../iface/own-address.ts';
import type { IfIndex } from '../iface/types.ts';
import { compareIps, familyOf, type Prefix, prefixContains } from '../lib/ip.ts';
import type { AbsentSubnet } from './types.ts';

/** A subnet of this host in which it may take addresses, with the NIC and its own address there. */
export type OwnSegment = { readonly segment: Segment; readonly ifIndex: IfIndex };

export type AbsentSegment = OwnSegment & { readonly why: AbsentSubnet['why'] };

export type OwnSegments = {
  /** Sorted by subnet, and at most MAX_SEGMENTS. */
  readonly segments: ReadonlyMap<SegmentKey, OwnSegment>;
  readonly absent: readonly AbsentSegment[];
};

/**
 * The subnets of the NICs that carry local addresses, split into those that this host tells the others of and those that it
 * does not. Beyond the limit the highest subnets are left out, on each host the same. Pure.
 */
export function chooseSegments(host: HostView, nics: readonly Nic[], bind: readonly Prefix[]): OwnSegments {
  const found = [...allSegments(host, nics)].sort(([, left], [, right]) =>
    compareIps(left.segment.subnet.network, right.segment.subnet.network),
  );
  const isBound = ({ segment }: OwnSegment): boolean =>
    bind.length === 0 || bind.some((prefix) => prefixContains(prefix, segment.ip));
  const bound = found.filter(([, own]) => isBound(own));
  const absent = (why: AbsentSubnet['why'], those: typeof found): readonly AbsentSegment[] =>
    those.map(([, own]) => ({ ...own, why }));
  return {
    segments: new Map(bound.slice(0, MAX_SEGMENTS)),
    absent: [
      ...absent(
        'bind',
        found.filter(([, own]) => !isBound(own)),
      ),
      ...absent('limit', bound.slice(MAX_SEGMENTS)),
    ],
  };
}

function allSegments(host: HostView, nics: readonly Nic[]): ReadonlyMap<SegmentKey, OwnSegment> {
  const found = new Map<SegmentKey, OwnSegment>();
  for (const nic of nics) {
    if (!nic.up) continue;
    for (const subnet of nic.subnets) {
      const ip = ownAddress(host, nic, subnet.network);
      const key = segmentKey(subnet);
      if (ip === undefined || !isSelected(host, nic, subnet) || found.has(key)) continue;
      found.set(key, { segment: { subnet, ip, mac: nic.mac }, ifIndex: nic.ifIndex });
    }
  }
  return found;
}

/** For addresses in general, or for those of a pool that names its interfaces. */
function isSelected({ selected, pools = [] }: HostView, { ifIndex }: Nic, { network }: Prefix): boolean {
  const family = familyOf(network);
  return selected[family].has(ifIndex) || pools.some((pool) => pool.selected[family].has(ifIndex));
}
