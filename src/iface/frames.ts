import { familyOf, type Ip } from '../lib/ip.ts';
import { encodeArpAnnouncement, encodeArpProbe, encodeArpRequest } from './arp-codec.ts';
import { encodeNaAnnouncement, encodeNsProbe, encodeNsRequest } from './nd-codec.ts';
import type { Mac } from './types.ts';

/** Asks whether anybody has `ip`, without claiming it: an ARP probe (RFC 5227 1.1) or a DAD solicitation (RFC 4862 5.4). */
export function probeFrame(mac: Mac, ip: Ip): Uint8Array {
  return familyOf(ip) === 'v4' ? encodeArpProbe(mac, ip) : encodeNsProbe(mac, ip);
}

/**
 * Asks the station `to` alone whether it has `ip`. On v6 from the address `source` of this host, if it has any: the
 * answer to a solicitation from `::` goes to all nodes (RFC 4861 7.2.4), too many for one who asks every 5 ms. To the
 * solicited-node group all the same: a host that does not have the address any more ignores it, and does not forward it.
 */
export function unicastProbeFrame(mac: Mac, ip: Ip, to: Mac, source: Ip | undefined): Uint8Array {
  if (familyOf(ip) === 'v4') return encodeArpProbe(mac, ip, to);
  return source === undefined ? encodeNsProbe(mac, ip, to) : encodeNsRequest(mac, source, ip, to);
}

/** Asks everybody who has `ip`, as any host does that has something to send to it. */
export function requestFrame(mac: Mac, source: Ip, ip: Ip): Uint8Array {
  return familyOf(ip) === 'v4' ? encodeArpRequest(mac, source, ip) : encodeNsRequest(mac, source, ip);
}

/** Tells the segment that `mac` has `ip`: gratuitous ARP in both forms, as hosts differ in which they believe, or in one; or an NA. */
export function announcementFrames(
  mac: Mac,
  ip: Ip,
  form: 'first' | 'second' | 'both' = 'both',
): readonly Uint8Array[] {
  if (familyOf(ip) === 'v6') return [encodeNaAnnouncement(mac, ip)];
  if (form !== 'both') return [encodeArpAnnouncement(mac, ip, form === 'first' ? 'request' : 'reply')];
  return [encodeArpAnnouncement(mac, ip, 'request'), encodeArpAnnouncement(mac, ip, 'reply')];
}
