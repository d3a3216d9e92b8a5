import { familyOf, type Ip } from '../lib/ip.ts';
import { encodeArpAnnouncement, encodeArpProbe } from './arp-codec.ts';
import { encodeNaAnnouncement, encodeNsProbe } from './nd-codec.ts';
import type { Mac } from './types.ts';

/** Asks whether anybody has `ip`, without claiming it: an ARP probe (RFC 5227 1.1) or a DAD solicitation (RFC 4862 5.4). */
export function probeFrame(mac: Mac, ip: Ip): Uint8Array {
  return familyOf(ip) === 'v4' ? encodeArpProbe(mac, ip) : encodeNsProbe(mac, ip);
}

/** Tells the segment that `mac` has `ip`: gratuitous ARP in both forms, as hosts differ in which they believe, or an NA. */
export function announcementFrames(mac: Mac, ip: Ip): readonly Uint8Array[] {
  if (familyOf(ip) === 'v6') return [encodeNaAnnouncement(mac, ip)];
  return [encodeArpAnnouncement(mac, ip, 'request'), encodeArpAnnouncement(mac, ip, 'reply')];
}
