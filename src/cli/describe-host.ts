import { formatDuration } from '../config/duration.ts';
import type { Config, PoolConfig } from '../config/types.ts';
import { sourceRoutingSettings } from '../daemon/source-routing-settings.ts';
import { nicMatcher } from '../iface/nic-rules.ts';
import { type HostView, type Nic, strictArpNics } from '../iface/nic-selection.ts';
import { blockedAddresses, placeRange, type RangePart } from '../iface/range-placement.ts';
import { sourceRouting, unknownGatewayText } from '../iface/source-routing.ts';
import { isAsExpected, type SysctlPlan, sysctlName } from '../iface/sysctl-plan.ts';
import type { KernelRoute } from '../iface/types.ts';
import { type Family, familyOf, formatPrefix, formatRange, rangeSize } from '../lib/ip.ts';
import { error, note, type Remark, type Section, warning } from './check-report.ts';
import { formatCount } from './text.ts';

/** What a configuration means on a host as the kernel shows it. Pure. */

const FAMILIES: readonly Family[] = ['v4', 'v6'];
const FAMILY_NAMES: Readonly<Record<Family, string>> = { v4: 'IPv4', v6: 'IPv6' };
/** Of addresses that are skipped; more are counted. */
const MAX_BLOCKED_SHOWN = 5;

/** The families that have a default route, which selects the NIC where the configuration names none. */
export type DefaultRoutes = Readonly<Record<Family, boolean>>;

/** Which NICs local addresses go on. */
export function describeNetwork(
  config: Config,
  host: HostView,
  defaults: DefaultRoutes,
  routes: readonly KernelRoute[] = [],
): Section {
  const known = host.nics.map((nic) => nic.name);
  const lists = [
    { place: '[local] interfaces', rules: config.local.interfaces },
    ...config.pools.map(({ name, interfaces }) => ({
      place: `the interfaces of the pool "${name}"`,
      rules: interfaces ?? [],
    })),
  ];
  const unmatched = lists.flatMap(({ place, rules }) =>
    rules.filter((rule) => !matchesAny(rule, host.nics)).map((rule) => `"${rule}" of ${place}`),
  );
  return {
    title: 'Network',
    remarks: [
      ...selectedNics(config, host, defaults),
      ...unmatched.map((rule) =>
        warning(`${rule} matches no NIC that can carry addresses; there is ${listed(known) || 'none'}.`),
      ),
      ...sourceRouted(config, host, routes),
      note(`${howAdded(config.local.prefix)} ${howLong(config.local.lifetimeMs)}`),
    ],
  };
}

function sourceRouted(config: Config, host: HostView, routes: readonly KernelRoute[]): readonly Remark[] {
  return sourceRouting(sourceRoutingSettings(config), host, routes).map((state) => {
    if (state.gateway === undefined) return warning(`${unknownGatewayText(state)}.`);
    const from = listed(state.subnets.map(formatPrefix));
    return note(
      `Answers from ${from} leave by ${state.interface} and its gateway ${state.gateway}, by table ${state.table}.`,
    );
  });
}

function matchesAny(rule: string, nics: readonly Nic[]): boolean {
  const matches = nicMatcher([rule]);
  return nics.some(({ name, subnets }) => matches({ names: [name], subnets }));
}

function selectedNics(config: Config, host: HostView, defaults: DefaultRoutes): readonly Remark[] {
  if (host.nics.length === 0) {
    return [error('No NIC of this host can carry addresses of Services: none is Ethernet with ARP.')];
  }
  const isNamed = config.local.interfaces.length > 0;
  return host.nics.flatMap((nic) => {
    const families = FAMILIES.filter((family) => host.selected[family].has(nic.ifIndex));
    const subnets = nic.subnets.filter((subnet) => families.includes(familyOf(subnet.network)));
    const [family] = families;
    if (family === undefined) return [];
    const hasDefault = families.some((each) => defaults[each]);
    const why = isNamed
      ? 'which [local] interfaces selects'
      : hasDefault
        ? 'the NIC of the default route'
        : 'as this host has no default route to say otherwise';
    return [
      describeNic(
        nic,
        subnets,
        families.length === 1 ? `${FAMILY_NAMES[family]} addresses` : 'Addresses',
        why,
      ),
    ];
  });
}

function describeNic(nic: Nic, subnets: Nic['subnets'], what: string, why: string): Remark {
  if (subnets.length === 0)
    return warning(`${what} could go on ${nic.name}, ${why}, but it has no subnet for any.`);
  const place = `${what} go on ${nic.name}, ${why}, with ${listed(subnets.map(formatPrefix))}`;
  return nic.up ? note(`${place}.`) : warning(`${place}; but it is down.`);
}

function howAdded(prefix: Config['local']['prefix']): string {
  return prefix === 'host'
    ? 'They are added as /32 or /128.'
    : 'They are added with the prefix length of their subnet.';
}

function howLong(lifetimeMs: number): string {
  if (lifetimeMs === 0) return 'The kernel keeps them for ever, also when lbd is gone.';
  return `The kernel removes an address ${formatDuration(lifetimeMs)} after lbd last renewed it.`;
}

/** Which parts of the pools are local here. */
export function describePools(config: Config, host: HostView): Section {
  const remarks = config.pools.flatMap((pool) => describePool(pool, host));
  if (config.pools.length === 0) remarks.push(warning('There is no pool, so no Service gets an address.'));
  return { title: 'Pools', remarks };
}

function describePool(pool: PoolConfig, host: HostView): readonly Remark[] {
  const blocked = pool.ranges.flatMap((range) => blockedAddresses(range, host));
  const asked = pool.autoAssign ? '' : ' Only Services that ask for the pool get one of it.';
  const lines = pool.ranges.map((range, index) =>
    describeRange(pool.addresses[index] ?? '', placeRange(range, host)),
  );
  const shown = blocked
    .slice(0, MAX_BLOCKED_SHOWN)
    .map(({ reason }) => note(`${pool.name}: skipped, as ${reason}.`));
  const rest = blocked.length - shown.length;
  return [
    ...lines.map(({ severity, text }) => ({ severity, text: `${pool.name}: ${text}${asked}` })),
    ...shown,
    ...(rest > 0 ? [note(`${pool.name}: ${rest} more addresses are skipped for such reasons.`)] : []),
  ];
}

function describeRange(text: string, parts: readonly RangePart[]): Remark {
  const [only] = parts;
  if (only !== undefined && parts.length === 1) {
    const say = only.kind === 'local' ? note : warning;
    return say(`${text} (${count(only)}) is ${fate(only)}.`);
  }
  const pieces = parts.map((part) => `${formatRange(part.range)} (${count(part)}) is ${fate(part)}`);
  return warning(`of ${text}, ${pieces.join('; ')}.`);
}

function fate(part: RangePart): string {
  switch (part.kind) {
    case 'local':
      return `local, in ${formatPrefix(part.subnet)} of ${part.nic.name}${part.nic.up ? '' : ', which is down'}`;
    case 'unselected':
      return (
        `not served here: ${part.nic.name} has ${formatPrefix(part.subnet)}, but is not selected; ` +
        `add "${part.nic.name}" to ${part.configuredIn}`
      );
    case 'unusable':
      return `not served here: ${part.nic.name} has ${formatPrefix(part.subnet)}, but ${part.nic.why}`;
    case 'virtual':
      return 'virtual: in no subnet of this host, so that routers have to be told of it';
    default:
      return part satisfies never;
  }
}

function count({ range }: RangePart): string {
  const size = rangeSize(range);
  return `${formatCount(size)} ${size === 1n ? 'address' : 'addresses'}`;
}

/** Which ARP sysctls lbd sets. `locked` are the names that not even root may write. */
export function describeSysctls(
  config: Config,
  host: HostView,
  plan: SysctlPlan,
  locked: ReadonlyMap<string, string>,
): Section {
  const title = 'ARP';
  if (strictArpNics(host).length === 0) return { title, remarks: [] };
  const writes = new Map(plan.writes.map((write) => [sysctlName(write), write]));
  const problems = plan.findings.flatMap((finding) =>
    finding.error === undefined ? [] : [error(`${finding.error}.`)],
  );
  if (!config.arp.enforceSysctls) return { title, remarks: [...problems, ...leftAlone(plan)] };
  const sets = [...writes].map(([name, { value }]) => {
    const obstacle = locked.get(name);
    if (obstacle !== undefined) return error(`lbd cannot set ${name} to ${value}: ${obstacle}.`);
    const now = plan.findings.find((finding) => sysctlName(finding) === name)?.effective;
    return note(`lbd will set ${name} to ${value}${now === undefined ? '' : `; in effect now is ${now}`}.`);
  });
  const kept = plan.findings.filter((finding) => isAsExpected(finding) && !writes.has(sysctlName(finding)));
  const keeps = kept.map((finding) =>
    note(`${sysctlName(finding)} is ${finding.effective} already; lbd keeps it so.`),
  );
  return { title, remarks: [...problems, ...sets, ...keeps] };
}

function leftAlone(plan: SysctlPlan): readonly Remark[] {
  return plan.findings
    .filter((finding) => finding.error === undefined)
    .map((finding) => {
      const name = sysctlName(finding);
      if (isAsExpected(finding)) return note(`${name} is ${finding.effective}; lbd would not put it back.`);
      return warning(
        `${name} is in effect ${finding.effective}, expected ${finding.expected}: other NICs may answer for addresses ` +
          'of Services, and [arp] enforce_sysctls = false leaves it so.',
      );
    });
}

function listed(texts: readonly string[]): string {
  if (texts.length < 2) return texts.join('');
  return `${texts.slice(0, -1).join(', ')} and ${texts.at(-1)}`;
}
