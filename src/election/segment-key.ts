import { formatPrefix, type Ip, type Prefix } from '../lib/ip.ts';
import type { SegmentKey } from './types.ts';

/** The one text of a subnet that names a segment. */
export function segmentKey(subnet: Prefix): SegmentKey {
  return formatPrefix(subnet) as SegmentKey;
}

/** The subnet that a segment is named by. */
export function segmentSubnet(key: SegmentKey): Prefix {
  const slash = key.indexOf('/');
  return { network: key.slice(0, slash) as Ip, length: Number(key.slice(slash + 1)) };
}
