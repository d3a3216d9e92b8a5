/** Hands out the addresses of a CIDR one by one, as the service cluster-IP allocator does. */

import { isIPv6 } from 'node:net';

export class AddressRange {
  readonly cidr: string;
  readonly family: 'IPv4' | 'IPv6';
  private readonly base: bigint;
  private readonly size: bigint;
  private readonly used = new Set<string>();
  private cursor = 1n;

  constructor(cidr: string) {
    const [address = '', prefix = ''] = cidr.split('/');
    const bits = isIPv6(address) ? 128 : 32;
    this.cidr = cidr;
    this.family = bits === 128 ? 'IPv6' : 'IPv4';
    this.size = 1n << BigInt(bits - Number(prefix));
    this.base = (toNumber(address) / this.size) * this.size;
  }

  contains(address: string): boolean {
    if ((isIPv6(address) ? 'IPv6' : 'IPv4') !== this.family) return false;
    const offset = toNumber(address) - this.base;
    return offset > 0n && offset < this.size - 1n;
  }

  /** False when somebody has it already. */
  take(address: string): boolean {
    const key = canonical(address);
    if (this.used.has(key)) return false;
    this.used.add(key);
    return true;
  }

  /** The next free address; undefined when all are taken. */
  next(): string | undefined {
    for (let tried = 0n; tried < this.size; tried += 1n) {
      const offset = this.cursor;
      this.cursor = this.cursor + 1n >= this.size - 1n ? 1n : this.cursor + 1n;
      const address = toText(this.base + offset, this.family);
      if (this.take(address)) return address;
    }
    return undefined;
  }

  release(address: string): void {
    this.used.delete(canonical(address));
  }
}

function canonical(address: string): string {
  return toNumber(address).toString();
}

function toNumber(address: string): bigint {
  if (!isIPv6(address)) {
    return address.split('.').reduce((value, part) => value * 256n + BigInt(part), 0n);
  }
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = tail === undefined ? [] : Array<string>(8 - left.length - right.length).fill('0');
  return [...left, ...middle, ...right].reduce((value, part) => value * 65536n + BigInt(`0x${part}`), 0n);
}

function toText(value: bigint, family: 'IPv4' | 'IPv6'): string {
  if (family === 'IPv4') return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 255n).join('.');
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((value >> BigInt(112 - 16 * index)) & 65535n).toString(16),
  );
  return compress(groups);
}

/** RFC 5952: the longest run of zero groups becomes `::`. */
function compress(groups: readonly string[]): string {
  let best = { start: -1, length: 1 };
  for (let start = 0; start < groups.length; start += 1) {
    let length = 0;
    while (groups[start + length] === '0') length += 1;
    if (length > best.length) best = { start, length };
  }
  if (best.start < 0) return groups.join(':');
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(best.start + best.length).join(':')}`;
}
