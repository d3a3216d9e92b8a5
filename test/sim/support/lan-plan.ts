import type { SegmentKey } from '../../../src/election/types.ts';
import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import { formatPrefix, type Ip, type Prefix } from '../../../src/lib/ip.ts';

/** The addresses of the simulated segments: one that carries Services' addresses, and one for management. */

export type Link = 'data' | 'management';

export const SUBNETS: Readonly<Record<Link, Prefix>> = {
  data: { network: '10.0.0.0' as Ip, length: 8 },
  management: { network: '172.16.0.0' as Ip, length: 12 },
};
export const SEGMENTS: Readonly<Record<Link, SegmentKey>> = {
  data: formatPrefix(SUBNETS.data) as string as SegmentKey,
  management: formatPrefix(SUBNETS.management) as string as SegmentKey,
};
/** The first address of hosts; each adds its index. */
export const HOSTS_FROM: Readonly<Record<Link, number>> = { data: 0x0a010000, management: 0xac100100 };
export const NIC_INDEX = 2 as IfIndex;
export const MANAGEMENT_NIC_INDEX = 3 as IfIndex;
export const GATEWAY_IP = '10.255.255.254' as Ip;
export const GATEWAY_MAC = '02:ff:ff:ff:ff:fe' as Mac;
