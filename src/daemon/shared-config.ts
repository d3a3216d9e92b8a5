import { createHash } from 'node:crypto';
import type { Config } from '../config/types.ts';
import { PROFILES } from '../election/settings.ts';
import { formatRange } from '../lib/ip.ts';

/**
 * What the hosts of a cluster must have alike, in the four bytes of it that each member gossips, made so that one
 * difference between two hosts is named and not only seen.
 *
 * An item, such as a pool, has a locator x from its name and a value c from its content, both numbers of GF(2^16) and
 * not 0. The digest is the two sums Σ c and Σ x·c over all items: the syndromes of a Reed-Solomon code, in which the
 * configurations of two hosts that differ in one item differ by (d, x·d), whatever the other host has there. The
 * quotient is the locator of the item. Several differences are seen, not named: the odds that they pass for one or for
 * none are one to 65,536 for each item.
 */

type Item = { readonly name: string; readonly locator: number; readonly value: number };

/** In 16 bits each. */
type Sums = { readonly values: number; readonly located: number };

/** Eight hex digits; equal where everything is alike that must be. */
export function sharedDigest(config: Config): string {
  const { values, located } = sumsOf(sharedItems(config));
  return hex16(values) + hex16(located);
}

/** How the host with the digest `other` differs from one with `config`, in words; undefined when it does not. */
export function describeDrift(config: Config, other: string): string | undefined {
  const items = sharedItems(config);
  const own = sumsOf(items);
  const values = own.values ^ Number.parseInt(other.slice(0, 4), 16);
  const located = own.located ^ Number.parseInt(other.slice(4), 16);
  if (values === 0 && located === 0) return undefined;
  const locator = values === 0 ? 0 : multiply(located, invert(values));
  // Two of hundreds of pools may have one locator.
  const found = items.filter((one) => one.locator === locator);
  const [first] = found;
  if (first === undefined) return 'it has a pool that this host has not, or several things differ';
  const isMissing = found.length === 1 && first.value === values && first.name.startsWith('pool ');
  return `${found.map(({ name }) => name).join(' or ')} ${isMissing ? 'is missing there' : 'differs'}`;
}

function sharedItems(config: Config): readonly Item[] {
  const { kubernetes, gossip, pools, virtual } = config;
  const items = [
    item('kubernetes.load_balancer_class', kubernetes.loadBalancerClass ?? ''),
    item('kubernetes.lease_namespace', kubernetes.leaseNamespace),
    // One routing daemon's configuration is on all of them.
    item('virtual.interface', virtual.interface),
    item('virtual.type', virtual.type),
    item('virtual.table or protocol', JSON.stringify([virtual.routes?.table, virtual.routes?.protocol])),
    ...pools.map(({ name, ranges, autoAssign, aggregate }) =>
      item(
        `pool "${name}"`,
        JSON.stringify([ranges.map(formatRange).sort(), autoAssign, aggregate.v4, aggregate.v6]),
      ),
    ),
  ];
  if (gossip === undefined) return items;
  const { excludeLabelledNodes, excludeNetworkUnavailable } = gossip;
  return [
    ...items,
    item('gossip.timing', JSON.stringify({ ...PROFILES[gossip.profile], ...gossip.timing })),
    item('which Nodes gossip excludes', JSON.stringify([excludeLabelledNodes, excludeNetworkUnavailable])),
  ];
}

function item(name: string, content: string): Item {
  return { name, locator: hash16(name), value: hash16(content) };
}

/** Never 0, which would make an item invisible. */
function hash16(text: string): number {
  return createHash('sha256').update(text).digest().readUInt16BE(0) || 1;
}

function hex16(value: number): string {
  return value.toString(16).padStart(4, '0');
}

function sumsOf(items: readonly Item[]): Sums {
  let values = 0;
  let located = 0;
  for (const { locator, value } of items) {
    values ^= value;
    located ^= multiply(locator, value);
  }
  return { values, located };
}

/** x^16 + x^12 + x^3 + x + 1, which is primitive. */
const POLYNOMIAL = 0x1_100b;

function multiply(left: number, right: number): number {
  let product = 0;
  let shifted = left;
  for (let rest = right; rest > 0; rest >>= 1) {
    if ((rest & 1) === 1) product ^= shifted;
    shifted <<= 1;
    if (shifted > 0xffff) shifted ^= POLYNOMIAL;
  }
  return product;
}

/** By Fermat: the power of 2^16 - 2. */
function invert(value: number): number {
  let inverse = 1;
  let square = multiply(value, value);
  for (let bit = 1; bit < 16; bit++) {
    inverse = multiply(inverse, square);
    square = multiply(square, square);
  }
  return inverse;
}
