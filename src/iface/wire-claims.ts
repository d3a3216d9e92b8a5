import type { Ip } from '../lib/ip.ts';
import type { ArpMessage } from './arp-codec.ts';
import type { NdMessage } from './nd-codec.ts';
import type { Mac } from './types.ts';

/** What a frame says about who has an address. */
export type WireClaim = {
  readonly ip: Ip;
  readonly mac: Mac;
  /** `wants`: the sender probes for it and takes it unless somebody answers (RFC 5227 2.1.1, RFC 4862 5.4.3). */
  readonly kind: 'has' | 'wants';
};

/** Every valid ARP or ND message is about exactly one claim of its sender. */
export function claimOf(message: ArpMessage | NdMessage): WireClaim {
  if (message.kind === 'arp') {
    if (message.senderIp !== '0.0.0.0') return { ip: message.senderIp, mac: message.senderMac, kind: 'has' };
    return { ip: message.targetIp, mac: message.senderMac, kind: 'wants' };
  }
  const mac = message.linkLayer ?? message.ethernetSource;
  if (message.type === 'advertisement') return { ip: message.target, mac, kind: 'has' };
  if (message.sourceIp === '::') return { ip: message.target, mac, kind: 'wants' };
  return { ip: message.sourceIp, mac, kind: 'has' };
}
