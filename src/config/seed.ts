import { parseIp } from '../lib/ip.ts';
import type { SeedConfig } from './types.ts';

/** RFC 1123 names, which may end in the dot of the root. */
const DNS_NAME =
  /^(?=.{1,254}$)[a-z0-9_](?:[-a-z0-9_]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[-a-z0-9_]{0,61}[a-z0-9_])?)*\.?$/i;

/** `192.0.2.1`, `2001:db8::1`, `name`, `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`; undefined for anything else. */
export function parseSeed(text: string, defaultPort: number): SeedConfig | undefined {
  const plain = parseIp(text);
  if (plain !== undefined) return { host: plain, port: defaultPort };
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, bare = '', digits] = match;
  const port = digits === undefined ? defaultPort : Number(digits);
  if (port < 1 || port > 65_535) return undefined;
  if (bracketed !== undefined) {
    const ip = bracketed.includes(':') ? parseIp(bracketed) : undefined;
    return ip === undefined ? undefined : { host: ip, port };
  }
  const ip = parseIp(bare);
  if (ip !== undefined) return { host: ip, port };
  // What looks like an address and is none would be asked of the name server for ever.
  if (!DNS_NAME.test(bare) || /^[\d.]+$/.test(bare)) return undefined;
  return { host: bare, port };
}
