/** Text from outside (the cluster, a file, the daemon) as a terminal may safely get it: no escapes, one line. */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code === 0x0a || code === 0x09 ? ' ' : `\\u{${code.toString(16)}}`;
  });
}

/** Control characters (C0, DEL, C1), line separators, and what reorders or hides text (Unicode TR 36). */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

/** A duration in milliseconds by its two largest units: `3d4h`, `12m5s`, `0s`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const start = parts.findIndex(([count]) => count > 0);
  if (start < 0) return '0s';
  const shown = parts.slice(start, start + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count}${unit}`).join('');
}

/** `1 Service`, `2 Services`. */
export function plural(count: number, singular: string): string {
  return `${count} ${singular}${count === 1 ? '' : 's'}`;
}

/** A count of addresses: exact up to nine digits, as a power of two or about, beyond. */
export function formatCount(count: bigint): string {
  if (count < 1_000_000_000n) return String(count);
  const bits = count.toString(2).length - 1;
  return `${count === 1n << BigInt(bits) ? '' : 'about '}2^${bits}`;
}
