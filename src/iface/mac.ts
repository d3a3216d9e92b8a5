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

export function macToBytes(mac: Mac): Uint8Array {
  const bytes = Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
  assert(bytes.length === MAC_LENGTH, `${mac} is no MAC address`);
  return bytes;
}

/** The MAC that `text` names (`02:00:00:00:00:01`, either case), or undefined. */
export function parseMac(text: string): Mac | undefined {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) ? (text.toLowerCase() as Mac) : undefined;
}
