import { assert } from '../lib/assert.ts';
import type { Mac } from './types.ts';

export const MAC_LENGTH = 6;

const HEX_BYTES: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  byte.toString(16).padStart(2, '0'),
);

/** Lower-case text of a six-byte hardware address; undefined for any other length (a tunnel's, InfiniBand's). */
export function macFromBytes(bytes: Uint8Array): Mac | undefined {
  if (bytes.length !== MAC_LENGTH) return undefined;
  let text = '';
  for (const byte of bytes) text += text === '' ? HEX_BYTES[byte] : `:${HEX_BYTES[byte]}`;
  return text as Mac;
}

let lastMac: Mac | undefined;
let lastBytes = new Uint8Array(MAC_LENGTH);

export function macToBytes(mac: Mac): Uint8Array {
  // Frames of one NIC come by the thousand, and all carry its own address.
  if (mac === lastMac) return lastBytes;
  const bytes = Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
  assert(bytes.length === MAC_LENGTH, `${mac} is no MAC address`);
  lastMac = mac;
  lastBytes = bytes;
  return bytes;
}

/** The MAC that `text` names (`02:00:00:00:00:01`, either case), or undefined. */
export function parseMac(text: string): Mac | undefined {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) ? (text.toLowerCase() as Mac) : undefined;
}

export const MAC_BROADCAST = 'ff:ff:ff:ff:ff:ff' as Mac;
export const MAC_ZERO = '00:00:00:00:00:00' as Mac;

/** Whether a station can have this address: the group bit is clear and it is not all zero (IEEE 802-2014 8.2). */
export function isUnicastMac(mac: Mac): boolean {
  return mac !== MAC_ZERO && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
}
