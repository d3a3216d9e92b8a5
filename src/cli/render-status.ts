import type { OwnerStatus, Problem, ServiceStatus, StatusDocument } from '../daemon/types.ts';
import type { AddressStatus, SysctlState } from '../iface/types.ts';
import type { PoolUsage } from '../ipam/types.ts';
import type { ReflectorStatus } from '../kube/types.ts';
import { membersCell } from './render-members.ts';
import { OWNER_HEADER, ownerCells } from './render-owner.ts';
import { type Cell, type Paint, renderColumns, renderTable, type Style } from './table.ts';
import { formatAge, formatCount, plural, printable } from './text.ts';

/** More are counted, not shown: the whole list is in `--json`. */
const MAX_BLOCKED_SHOWN = 5;

/**
 * The status of one host for a person: in the order in which one wants to know it at night. First whether anything is
 * wrong, then what; then every Service, those in trouble first; then the pools and the sysctls.
 */
export function renderStatus(document: StatusDocument, paint: Paint): string {
  const blocks = [
    renderHeader(document, paint),
    renderProblems(document.problems, paint),
    renderServices(document, paint),
    renderPools(document.pools, paint),
    renderSysctls(document.sysctls, paint),
  ];
  return blocks
    .filter((block) => block.length > 0)
    .map((block) => `${block.join('\n')}\n`)
    .join('\n');
}

function renderHeader(document: StatusDocument, paint: Paint): readonly string[] {
  const { lbd, host, config } = document;
  const node = host.nodeName === host.name ? '' : `, Node ${host.nodeName}`;
  const rows: (readonly Cell[])[] = [
    ['  lbd', `${lbd.version} (${lbd.commit}), pid ${lbd.pid}, up ${formatAge(host.uptimeMs)}${node}`],
    ['  API server', apiServerCell(document.kubernetes)],
    ...tokenRows(document.kubernetes.token),
    ...document.kubernetes.reflectors
      .filter(isRemarkable)
      .map((one) => [`  ${one.resource}`, reflectorCell(one)]),
    ['  allocator', allocatorCell(document.kubernetes.allocator)],
    ...(document.election === undefined ? [] : [['  gossip', membersCell(document.election)]]),
    ...virtualRows(document.virtual),
    ['  config', `${config.file} (${config.digest}), loaded ${formatAge(config.loadedMsAgo)} ago`],
  ];
  return [verdict(document, paint), ...renderColumns(rows, paint)];
}

/** Only a host that has the link, or needs it, has a row. */
function virtualRows(virtual: StatusDocument['virtual']): readonly (readonly Cell[])[] {
  if (virtual === undefined) return [];
  const { interface: name, type, addresses, obstacle, note } = virtual;
  if (type === undefined) {
    return obstacle === undefined ? [] : [[`  ${name}`, { text: obstacle, style: 'red' }]];
  }
  const count = addresses === 1 ? '1 virtual address' : `${formatCount(BigInt(addresses))} virtual addresses`;
  const more = obstacle ?? note;
  const text = `a ${type} with ${count}${more === undefined ? '' : `; ${more}`}`;
  return [[`  ${name}`, obstacle === undefined ? text : { text, style: 'red' }]];
}

/** The one line that is enough when nothing is wrong. */
function verdict(document: StatusDocument, paint: Paint): string {
  const errors = document.problems.filter((problem) => problem.severity === 'error').length;
  const warnings = document.problems.length - errors;
  const name = paint('bold', printable(document.host.name));
  if (errors > 0) {
    const rest = warnings > 0 ? `, ${plural(warnings, 'warning')}` : '';
    return `${name}: ${paint('red', plural(errors, 'error'))}${rest}`;
  }
  if (warnings > 0) return `${name}: ${paint('yellow', plural(warnings, 'warning'))}`;
  return `${name}: ${paint('green', 'ok')}, ${countServices(document.services)}`;
}

function countServices(services: readonly ServiceStatus[]): string {
  if (services.length === 0) return 'no Services';
  const counts = STATE_ORDER.map(
    (state) => [state, services.filter((one) => one.state === state).length] as const,
  );
  const parts = counts.filter(([, count]) => count > 0).map(([state, count]) => `${count} ${state}`);
  return `${plural(services.length, 'Service')}: ${parts.join(', ')}`;
}

function apiServerCell(kubernetes: StatusDocument['kubernetes']): Cell {
  const server = kubernetes.server ?? 'unknown';
  if (kubernetes.reachable) return `${server}, ${heard(kubernetes.reflectors)}`;
  const error = kubernetes.error === undefined ? '' : `: ${kubernetes.error}`;
  const cache = kubernetes.fromCache ? '; Services as last known, from the state directory' : '';
  return { text: `${server}, not reachable${error}${cache}`, style: 'red' };
}

/** Only a token that expires has a row. */
function tokenRows(token: StatusDocument['kubernetes']['token']): readonly (readonly Cell[])[] {
  if (token === undefined) return [];
  const { account, expiresInMs, renewsInMs } = token;
  if (expiresInMs <= 0) {
    return [['  token', { text: `of ${account}, expired ${formatAge(-expiresInMs)} ago`, style: 'red' }]];
  }
  const renewal = renewsInMs > 0 ? `renewed in ${formatAge(renewsInMs)}` : 'renewal is due';
  const text = `of ${account}, ${renewal}, expires in ${formatAge(expiresInMs)}`;
  return [['  token', token.error === undefined ? text : { text, style: 'yellow' }]];
}

function heard(reflectors: readonly ReflectorStatus[]): string {
  const silences = reflectors.flatMap(({ silentMs }) => (silentMs === undefined ? [] : [silentMs]));
  return silences.length === 0 ? 'reachable' : `reachable, heard ${formatAge(Math.min(...silences))} ago`;
}

function isRemarkable(reflector: ReflectorStatus): boolean {
  return reflector.phase !== 'watching' || !reflector.synced || reflector.error !== undefined;
}

function reflectorCell(reflector: ReflectorStatus): Cell {
  const { doubt } = reflector;
  const parts = [
    doubt === undefined
      ? reflector.phase
      : `${doubt.missing} of ${doubt.known} are missing from the last list; asking again before that is believed`,
    reflector.silentMs === undefined ? 'never heard' : `heard ${formatAge(reflector.silentMs)} ago`,
  ];
  const error = reflector.error === undefined ? '' : `: ${reflector.error}`;
  return { text: `${parts.join(', ')}${error}`, style: 'yellow' };
}

function allocatorCell(allocator: StatusDocument['kubernetes']['allocator']): Cell {
  if (allocator.error !== undefined) return { text: allocator.error, style: 'red' };
  if (allocator.self) return 'this host';
  if (allocator.holder === undefined) return { text: 'nobody: no address is allocated', style: 'yellow' };
  return allocator.holder;
}

function renderProblems(problems: readonly Problem[], paint: Paint): readonly string[] {
  if (problems.length === 0) return [];
  const rows = problems.map(({ severity, text }): readonly Cell[] => [
    { text: severity.toUpperCase(), style: severity === 'error' ? 'red' : 'yellow' },
    text,
  ]);
  return renderColumns(rows, paint);
}

/** Trouble first; what is fine last. */
const STATE_ORDER = [
  'refused',
  'partial',
  'probing',
  'allocated',
  'announced',
] as const satisfies readonly ServiceStatus['state'][];

const STATE_STYLES: Readonly<Record<ServiceStatus['state'], Style | undefined>> = {
  refused: 'red',
  partial: 'yellow',
  probing: 'yellow',
  allocated: undefined,
  announced: 'green',
};

function renderServices(document: StatusDocument, paint: Paint): readonly string[] {
  if (document.services.length === 0) return [];
  const byIp = new Map(document.addresses.map((address) => [address.ip, address]));
  const owners = document.election && new Map(document.election.owners.map((owner) => [owner.ip, owner]));
  const sorted = document.services.toSorted(
    (left, right) =>
      STATE_ORDER.indexOf(left.state) - STATE_ORDER.indexOf(right.state) ||
      compareText(left.name, right.name),
  );
  const rows = sorted.flatMap((service) => serviceRows(service, byIp, owners));
  const columns = owners === undefined ? [] : OWNER_HEADER;
  return renderTable(['NAMESPACE/NAME', 'ADDRESS', 'STATE', 'INTERFACE', ...columns, 'REASON'], rows, paint);
}

/** One row for each address; what holds for the whole Service stands in the first. */
function serviceRows(
  service: ServiceStatus,
  byIp: ReadonlyMap<string, AddressStatus>,
  owners: ReadonlyMap<string, OwnerStatus> | undefined,
): readonly (readonly Cell[])[] {
  const rows = service.addresses.map((ip, index): readonly Cell[] => {
    const address = byIp.get(ip);
    const owner = owners?.get(ip);
    const own = address?.reason ?? owner?.reason;
    const reason = index === 0 ? (service.reason ?? own) : own;
    const state =
      service.state === 'partial' ? partialCell(address?.state, owner?.state) : stateCell(service.state);
    const columns = owners === undefined ? [] : ownerCells(owner);
    return [index === 0 ? service.name : '', ip, state, address?.interface ?? '-', ...columns, reason ?? ''];
  });
  if (rows.length > 0) return rows;
  const columns = owners === undefined ? [] : ownerCells(undefined);
  return [[service.name, '-', stateCell(service.state), '-', ...columns, service.reason ?? '']];
}

/** Of a Service of which not every address is announced, how this one is. */
function partialCell(
  state: AddressStatus['state'] | undefined,
  ownership: OwnerStatus['state'] | undefined,
): Cell {
  if (ownership === 'theirs') return stateCell('announced');
  return state === undefined ? stateCell('allocated') : addressStateCell(state);
}

function stateCell(state: ServiceStatus['state']): Cell {
  const style = STATE_STYLES[state];
  return style === undefined ? state : { text: state, style };
}

/** An address that is held is what makes its Service announced; the other states are words of their own. */
export function addressStateCell(state: AddressStatus['state']): Cell {
  if (state === 'held') return { text: 'announced', style: 'green' };
  if (state === 'elsewhere') return state;
  return {
    text: state,
    style: state === 'probing' || state === 'adding' || state === 'removing' ? 'yellow' : 'red',
  };
}

function renderPools(pools: readonly PoolUsage[], paint: Paint): readonly string[] {
  if (pools.length === 0) return [];
  const rows = pools.map((pool): readonly Cell[] => [
    pool.name,
    useCell(pool),
    formatCount(BigInt(pool.size)),
    pool.blocked.length === 0 ? '-' : String(pool.blocked.length),
    pool.addresses.join(', '),
  ]);
  return [
    ...renderTable(['POOL', 'USED', 'OF', 'BLOCKED', 'ADDRESSES'], rows, paint),
    ...pools.flatMap(blockedLines),
  ];
}

function useCell(pool: PoolUsage): Cell {
  const free = BigInt(pool.size) - BigInt(pool.allocated) - BigInt(pool.blocked.length);
  if (free > 0n) return String(pool.allocated);
  return { text: `${pool.allocated} (full)`, style: 'red' };
}

function blockedLines(pool: PoolUsage): readonly string[] {
  const lines = pool.blocked
    .slice(0, MAX_BLOCKED_SHOWN)
    .map(({ ip, reason }) => printable(`  ${ip} of ${pool.name} is skipped: ${reason}`));
  const rest = pool.blocked.length - lines.length;
  return rest > 0 ? [...lines, printable(`  and ${rest} more of ${pool.name}`)] : lines;
}

function renderSysctls(sysctls: readonly SysctlState[], paint: Paint): readonly string[] {
  if (sysctls.length === 0) return [];
  const rows = sysctls.map((sysctl): readonly Cell[] => [
    `${sysctl.key} of ${sysctl.interface}`,
    sysctlValueCell(sysctl),
    sysctl.before ?? '-',
    sysctl.drifts === 0 ? '-' : String(sysctl.drifts),
    sysctl.error ?? '',
  ]);
  return renderTable(['SYSCTL', 'VALUE', 'BEFORE LBD', 'SET BACK', 'ERROR'], rows, paint);
}

/** A value that differs without an error is one that lbd leaves alone: stricter, or enforcing is switched off. */
function sysctlValueCell({ current, expected, error }: SysctlState): Cell {
  const value = current ?? 'unknown';
  // `1 or 2` where more than one is right.
  const isRight = expected.split(' or ').includes(value);
  const text = isRight ? value : `${value} (expected ${expected})`;
  return error === undefined ? text : { text, style: 'red' };
}

function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
