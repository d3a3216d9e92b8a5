import { readFileSync } from 'node:fs';

/** Bits of capability sets, from linux/capability.h: what lbd cannot do its work without. */
const NEEDED: readonly (readonly [name: string, bit: bigint])[] = [
  ['CAP_NET_ADMIN', 12n],
  ['CAP_NET_RAW', 13n],
];

/**
 * The names of the capabilities that this process needs and does not have; none when the kernel does not tell.
 * `status` is the text of /proc/self/status (proc(5)).
 */
export function missingCapabilities(status: string = readOwnStatus()): readonly string[] {
  const text = /^CapEff:\s*([0-9a-f]{1,16})$/m.exec(status)?.[1];
  if (text === undefined) return [];
  const effective = BigInt(`0x${text}`);
  return NEEDED.filter(([, bit]) => ((effective >> bit) & 1n) === 0n).map(([name]) => name);
}

function readOwnStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'latin1');
  } catch {
    return '';
  }
}
