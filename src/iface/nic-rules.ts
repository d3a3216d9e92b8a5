import { type IpRange, type Prefix, parsePrefix, prefixContains } from '../lib/ip.ts';

/** Which NICs may carry addresses, as the configuration says it. */

/** A name with `*` and `?`, or a CIDR prefix, which selects the NICs that have a subnet in it. */
export type NicRule = string;

export type NicRules = {
  /** Empty: the NICs with the default route. */
  readonly interfaces: readonly NicRule[];
  /** For the addresses of a pool, in place of `interfaces`. */
  readonly pools?: readonly PoolNicRules[];
};

export type PoolNicRules = {
  readonly name: string;
  readonly ranges: readonly IpRange[];
  readonly interfaces: readonly NicRule[];
};

/** What a rule looks at. */
export type Candidate = { readonly names: readonly string[]; readonly subnets: readonly Prefix[] };

/** Whether one of `rules` selects a NIC. */
export function nicMatcher(rules: readonly NicRule[]): (nic: Candidate) => boolean {
  const matchers = rules.map(matcherOf);
  return (nic) => matchers.some((matches) => matches(nic));
}

function matcherOf(rule: NicRule): (nic: Candidate) => boolean {
  const within = rule.includes('/') ? parsePrefix(rule) : undefined;
  if (within?.ok === true) {
    const { value } = within;
    return ({ subnets }) =>
      subnets.some((subnet) => subnet.length >= value.length && prefixContains(value, subnet.network));
  }
  const pattern = patternToRegExp(rule);
  return ({ names }) => names.some((name) => pattern.test(name));
}

/** A NIC name with `*` and `?`. */
export function patternToRegExp(pattern: string): RegExp {
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`);
}
