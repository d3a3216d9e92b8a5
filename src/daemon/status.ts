import type { AddressStatus, SysctlState } from '../iface/types.ts';
import type { Allocation, PoolUsage } from '../ipam/types.ts';
import type { TokenStatus } from '../kube/account-token.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { type Ip, parseIp } from '../lib/ip.ts';
import type { UnwrittenStatus } from './allocator.ts';
import type { Problem, ServiceStatus, StatusDocument } from './types.ts';

/** The readable side of the daemon: from its snapshots to the status document. Pure. */

type Kubernetes = StatusDocument['kubernetes'];
/** Which host gives addresses. */
type Allocating = Pick<Kubernetes['allocator'], 'self' | 'holder'>;

/** How each LoadBalancer Service of ours stands, in the order in which they were made. */
export function serviceStatuses(
  services: ReadonlyMap<ServiceKey, Service>,
  allocations: readonly Allocation[],
  addresses: ReadonlyMap<Ip, AddressStatus>,
  allocator: Allocating = { self: true, holder: undefined },
): readonly ServiceStatus[] {
  return allocations.flatMap((allocation) => {
    const service = services.get(allocation.service);
    if (service === undefined || allocation.kind === 'release') return [];
    return [serviceStatus(service, allocation, addresses, allocator)];
  });
}

function serviceStatus(
  service: Service,
  allocation: Exclude<Allocation, { kind: 'release' }>,
  addresses: ReadonlyMap<Ip, AddressStatus>,
  allocator: Allocating,
): ServiceStatus {
  const name = service.key;
  if (allocation.kind === 'refused') {
    return { name, addresses: statusAddresses(service), state: 'refused', reason: allocation.reason };
  }
  if (allocation.kind !== 'settled' && !allocator.self) {
    // What this host would give is not what the allocator may give.
    return { name, addresses: allocation.standing, state: 'allocated', reason: waitingFor(allocator) };
  }
  const wanted = allocation.addresses;
  if (allocation.kind === 'probing') {
    return {
      name,
      addresses: wanted,
      state: 'probing',
      reason: 'asking the wire whether the address is free',
    };
  }
  const held = wanted.filter((ip) => addresses.get(ip)?.state === 'held');
  if (allocation.kind === 'settled' && held.length === wanted.length && held.length > 0) {
    return { name, addresses: wanted, state: 'announced', reason: allocation.unmet?.reason };
  }
  const reasons = wanted.flatMap((ip) => {
    const status = addresses.get(ip);
    return status === undefined || status.state === 'held'
      ? []
      : [status.reason ?? `${ip} is ${status.state}`];
  });
  // A write that is under way is settled for the allocation, but not for the API server.
  const inStatus = statusAddresses(service);
  const isWritten = allocation.kind === 'settled' && wanted.every((ip) => inStatus.includes(ip));
  const reason = isWritten ? reasons.join('; ') || undefined : 'its status is being written';
  return { name, addresses: wanted, state: held.length > 0 ? 'partial' : 'allocated', reason };
}

function waitingFor({ holder }: Allocating): string {
  return holder === undefined ? 'no host allocates addresses now' : `waits for the allocator, ${holder}`;
}

function statusAddresses(service: Service): readonly Ip[] {
  return service.ingress.flatMap(({ ip }) => (ip === undefined ? [] : (parseIp(ip) ?? [])));
}

export type ProblemSources = {
  readonly kubernetes: Kubernetes;
  readonly unwritten: readonly UnwrittenStatus[];
  readonly pools: readonly PoolUsage[];
  readonly services: readonly ServiceStatus[];
  readonly addresses: readonly AddressStatus[];
  readonly sysctls: readonly SysctlState[];
  readonly config: StatusDocument['config'];
};

const LISTED_MAX = 10;

/** What an operator should look at, errors before warnings; long lists are cut with their count. */
export function findProblems(sources: ProblemSources): readonly Problem[] {
  const errors: string[] = [];
  const warnings: string[] = [];
  const { kubernetes } = sources;
  for (const problem of sources.config.reloadProblems) errors.push(`the last reload was refused: ${problem}`);
  errors.push(...apiErrors(kubernetes).map((error) => `Kubernetes API: ${error}`));
  if (kubernetes.fromCache)
    warnings.push('the API server has not answered since start: serving the last known Services');
  for (const { doubt, resource } of kubernetes.reflectors) {
    if (doubt === undefined) continue;
    warnings.push(
      `${doubt.missing} of ${doubt.known} ${resource} vanished at once: kept until a second list says the same`,
    );
  }
  const token = kubernetes.token && tokenProblem(kubernetes.token);
  if (token !== undefined) (token.severity === 'error' ? errors : warnings).push(token.text);
  if (kubernetes.allocator.error !== undefined) errors.push(`allocator: ${kubernetes.allocator.error}`);
  errors.push(
    ...listed(
      sources.unwritten.map(({ service, error }) => `the status of ${service} is not written yet: ${error}`),
    ),
  );
  warnings.push(...kubernetes.unwritten);
  for (const sysctl of sources.sysctls) if (sysctl.error !== undefined) errors.push(sysctl.error);
  const unwell = sources.addresses.filter(
    (address) => address.state === 'conflict' || address.state === 'failed',
  );
  errors.push(...listed(unwell.map((address) => `${address.ip}: ${address.state}: ${address.reason ?? ''}`)));
  const refused = sources.services.filter((service) => service.state === 'refused');
  warnings.push(
    ...listed(refused.map((service) => `${service.name} has no address: ${service.reason ?? ''}`)),
  );
  const homeless = sources.addresses.filter(
    (address) => address.state === 'no-interface' || address.state === 'foreign',
  );
  warnings.push(
    ...listed(homeless.map((address) => `${address.ip} is not announced here: ${address.reason ?? ''}`)),
  );
  for (const pool of sources.pools) {
    warnings.push(
      ...listed(pool.blocked.map(({ ip, reason }) => `pool "${pool.name}" skips ${ip}: ${reason}`)),
    );
  }
  warnings.push(...sources.config.warnings);
  return [
    ...errors.map((text) => ({ severity: 'error' as const, text })),
    ...warnings.map((text) => ({ severity: 'warning' as const, text })),
  ];
}

/** The server's own failure and that of each resource, each once. */
function apiErrors({ error, reflectors }: Kubernetes): readonly string[] {
  return [...new Set([error, ...reflectors.map((one) => one.error)].filter((text) => text !== undefined))];
}

const HOUR_MS = 3_600_000;

/** A token that cannot be renewed is a warning, one that nears its end an error. */
function tokenProblem({ account, expiresInMs, isLate, error }: TokenStatus): Problem | undefined {
  const what = `the token of the ServiceAccount ${account}`;
  if (expiresInMs <= 0) {
    return { severity: 'error', text: `${what} has expired: make a new kubeconfig with "lbctl kubeconfig"` };
  }
  if (error === undefined) return undefined;
  const left = `${Math.ceil(expiresInMs / HOUR_MS)} h`;
  return {
    severity: isLate ? 'error' : 'warning',
    text: `${what} expires in ${left} and cannot be renewed: ${error}`,
  };
}

function listed(texts: readonly string[]): readonly string[] {
  if (texts.length <= LISTED_MAX) return texts;
  return [...texts.slice(0, LISTED_MAX), `… and ${texts.length - LISTED_MAX} more like the last`];
}
