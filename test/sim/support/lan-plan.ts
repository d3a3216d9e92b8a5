import type { IfIndex, Mac } from '../../../src/iface/types.ts';
import type { Ip, Prefix } from '../../../src/lib/ip.ts';

/** The addresses of the simulated segment. */

export const SUBNET: Prefix = { network: '10.0.0.0' as Ip, length: 8 };
export const NIC_INDEX = 2 as IfIndex;
export const GATEWAY_IP = '10.255.255.254' as Ip;
export const GATEWAY_MAC = '02:ff:ff:ff:ff:fe' as Mac;
