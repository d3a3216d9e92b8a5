import { type Family, familyOf, formatPrefix, type Ip, type Prefix } from '../lib/ip.ts';
import { RT_TABLE_MAIN } from './netlink-constants.ts';
import { nicMatcher } from './nic-rules.ts';
import { candidateOf, type HostView, type Nic } from './nic-selection.ts';
import { type IfIndex, type KernelRoute, type KernelRule, LBD_PROTOCOL } from './types.ts';

/**
 * Answers from addresses on a NIC leave by that NIC, and not by the host's default route. For each such NIC a table with
 * the default route of the NIC, and two rules for each subnet of it:
 *
 *   10800: from SUBNET lookup main suppress_prefixlength 0      whatever main knows better than a default route
 *   10801: from SUBNET lookup TABLE                             the default route of the NIC
 *
 * so that what is sent to pods, to neighbours or over other known routes goes as before. The kernel's check of sources
 * (rp_filter) goes by the same rules. Pure; what is lbd's is known by protocol, priority and table.
 */

/** The table of a NIC is this plus its index: far from the numbers that people and programs give out. */
export const FIRST_TABLE = 108_000_000;
/** Beyond it an index is none that a host counts up to; the range stays lbd's alone. */
const TABLES = 10_000_000;
/** Before the rules of `ip rule` (32766 and 32767) and behind those that others put in front of all. */
export const MAIN_FIRST_PRIORITY = 10_800;
export const TABLE_PRIORITY = 10_801;

export type SourceRule = Omit<KernelRule, 'protocol'>;

export type SourceRoute = {
  readonly table: number;
  readonly ifIndex: IfIndex;
  readonly gateway: Ip;
};

export type SourceRoutes = {
  readonly rules: readonly SourceRule[];
  readonly routes: readonly SourceRoute[];
};

export type SourceRoutingSettings = {
  /** A name with `*` and `?`, or a prefix. */
  readonly name: string;
  /** Of each family; where there is none, the NIC's own default route tells it. */
  readonly gateways: readonly Ip[];
};

/** How it stands with one NIC and family, for people. */
export type SourceRoutingStatus = {
  readonly interface: string;
  readonly family: Family;
  readonly subnets: readonly Prefix[];
  readonly table: number;
  /** Undefined: nothing says which it is, and answers go by the host's routes. */
  readonly gateway: Ip | undefined;
};

export function isOwnTable(table: number): boolean {
  return table >= FIRST_TABLE && table < FIRST_TABLE + TABLES;
}

/** What each NIC with source routing comes to. */
export function sourceRouting(
  settings: readonly SourceRoutingSettings[],
  host: HostView,
  routes: readonly KernelRoute[],
): readonly SourceRoutingStatus[] {
  const matchers = settings.map((each) => ({ each, matches: nicMatcher([each.name]) }));
  return host.nics.flatMap((nic) => {
    const own = matchers.find(({ matches }) => matches(candidateOf(nic)))?.each;
    if (own === undefined || !nic.up) return [];
    return (['v4', 'v6'] as const).flatMap((family) => {
      const subnets = nic.subnets.filter(({ network }) => familyOf(network) === family);
      if (subnets.length === 0) return [];
      const gateway =
        own.gateways.find((ip) => familyOf(ip) === family) ?? defaultGateway(nic, family, routes);
      return [{ interface: nic.name, family, subnets, table: FIRST_TABLE + nic.ifIndex, gateway }];
    });
  });
}

/** By the route with the lowest metric; of equal ones the lowest address, so that it is always the same. */
function defaultGateway(nic: Nic, family: Family, routes: readonly KernelRoute[]): Ip | undefined {
  const [best] = routes
    .filter((route) => route.family === family && route.ifIndex === nic.ifIndex)
    .filter((route) => route.destination.length === 0 && route.gateway !== undefined)
    .sort((left, right) => left.metric - right.metric || (text(left) < text(right) ? -1 : 1));
  return best?.gateway;
}

function text({ gateway }: KernelRoute): string {
  return gateway ?? '';
}

/** The rules and routes that this takes; none where no gateway is known. */
export function wantedSourceRoutes(states: readonly SourceRoutingStatus[]): SourceRoutes {
  const known = states.flatMap((state) =>
    state.gateway === undefined ? [] : [{ ...state, gateway: state.gateway }],
  );
  return {
    rules: known.flatMap(({ subnets, table }) =>
      subnets.flatMap((from) => [
        { priority: MAIN_FIRST_PRIORITY, from, table: RT_TABLE_MAIN, suppressPrefixLength: 0 },
        { priority: TABLE_PRIORITY, from, table, suppressPrefixLength: undefined },
      ]),
    ),
    routes: known.map(({ table, gateway }) => ({
      table,
      ifIndex: (table - FIRST_TABLE) as IfIndex,
      gateway,
    })),
  };
}

export type SourceRequest =
  | { readonly kind: 'add-rule' | 'delete-rule'; readonly rule: SourceRule }
  | { readonly kind: 'replace-source-route' | 'delete-source-route'; readonly route: SourceRoute };

/** From what is there to what is wanted: routes come before the rules that lead to them, and go after them. */
export function sourceRequests(wanted: SourceRoutes, present: SourceRoutes): readonly SourceRequest[] {
  const isIn = <Value>(list: readonly Value[], key: (value: Value) => string) => {
    const keys = new Set(list.map(key));
    return (value: Value) => keys.has(key(value));
  };
  const hasRule = isIn(present.rules, ruleKey);
  const wantsRule = isIn(wanted.rules, ruleKey);
  const hasRoute = isIn(present.routes, routeKey);
  const wantsPlace = isIn(wanted.routes, placeKey);
  return [
    ...wanted.routes
      .filter((route) => !hasRoute(route))
      .map((route) => ({ kind: 'replace-source-route', route }) as const),
    ...wanted.rules.filter((rule) => !hasRule(rule)).map((rule) => ({ kind: 'add-rule', rule }) as const),
    ...present.rules
      .filter((rule) => !wantsRule(rule))
      .map((rule) => ({ kind: 'delete-rule', rule }) as const),
    ...present.routes
      .filter((route) => !wantsPlace(route))
      .map((route) => ({ kind: 'delete-source-route', route }) as const),
  ];
}

function ruleKey({ priority, from, table, suppressPrefixLength }: SourceRule): string {
  return `${priority} ${formatPrefix(from)} ${table} ${suppressPrefixLength}`;
}

function routeKey(route: SourceRoute): string {
  return `${placeKey(route)} ${route.ifIndex} ${route.gateway}`;
}

/** One default route of each family in a table. */
function placeKey({ table, gateway }: SourceRoute): string {
  return `${table} ${familyOf(gateway)}`;
}

/** Whether lbd put that route there. */
export function isOwnSourceRoute({ table, protocol, destination }: KernelRoute): boolean {
  return isOwnTable(table) && protocol === LBD_PROTOCOL && destination.length === 0;
}

/** Whether lbd put that rule there. */
export function isOwnRule({ priority, protocol, table, suppressPrefixLength }: KernelRule): boolean {
  if (protocol !== LBD_PROTOCOL) return false;
  if (priority === TABLE_PRIORITY) return isOwnTable(table);
  return priority === MAIN_FIRST_PRIORITY && table === RT_TABLE_MAIN && suppressPrefixLength === 0;
}

/** For an operator. */
export function unknownGatewayText({ interface: name, subnets }: SourceRoutingStatus): string {
  return (
    `source routing: no gateway of ${name} is known for ${subnets.map(formatPrefix).join(' and ')}, so that answers ` +
    `leave by the default route of the host: name it in [[interface]] gateways`
  );
}
