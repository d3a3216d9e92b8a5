import type { AddressStatus, SysctlState } from '../iface/types.ts';
import type { VirtualLinkStatus } from '../iface/virtual-types.ts';
import type { Allocation, PoolUsage } from '../ipam/types.ts';
import type { TokenStatus } from '../kube/account-token.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { type Ip, parseIp } from '../lib/ip.ts';
import type { UnwrittenStatus } from './allocator.ts';
import { electionProblems, memberOfMac, NO_SUBNET } from './election-problems.ts';
import type { ElectionStatus, OwnerStatus, Problem, ServiceStatus, StatusDocument } from './types.ts';

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
  owners?: Owners,
): readonly ServiceStatus[] {
  return allocations.flatMap((allocation) => {
    const service = services.get(allocation.service);
    if (service === undefined || allocation.kind === 'release') return [];
    return [serviceStatus(service, allocation, { addresses, owners }, allocator)];
  });
}

type Owners = Pick<ReadonlyMap<Ip, OwnerStatus>, 'get'>;

/** Where addresses are; `owners` is undefined on a host that does not gossip. */
type Whereabouts = {
  readonly addresses: ReadonlyMap<Ip, AddressStatus>;
  readonly owners: Owners | undefined;
};

function serviceStatus(
  service: Service,
  allocation: Exclude<Allocation, { kind: 'release' }>,
  where: Whereabouts,
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
  const reasons = wanted.map((ip) => unservedReason(ip, where));
  const served = reasons.filter((reason) => reason === undefined);
  if (allocation.kind === 'settled' && served.length === wanted.length && served.length > 0) {
    return { name, addresses: wanted, state: 'announced', reason: allocation.unmet?.reason };
  }
  // A write that is under way is settled for the allocation, but not for the API server.
  const inStatus = statusAddresses(service);
  const isWritten = allocation.kind === 'settled' && wanted.every((ip) => inStatus.includes(ip));
  const told = new Set(reasons.filter((reason) => reason !== undefined && reason !== ''));
  const reason = isWritten ? [...told].join('; ') || undefined : 'its status is being written';
  return { name, addresses: wanted, state: served.length > 0 ? 'partial' : 'allocated', reason };
}

/** Why nobody serves an address, as far as known; undefined when this host holds it, or another one owns it. */
function unservedReason(ip: Ip, { addresses, owners }: Whereabouts): string | undefined {
  const owner = owners?.get(ip);
  if (owner?.state === 'theirs') return undefined;
  const local = addresses.get(ip);
  if (local?.state === 'held' || local?.state === 'elsewhere') return undefined;
  if (local !== undefined) return local.reason ?? owner?.reason ?? `${ip} is ${local.state}`;
  if (owners === undefined) return '';
  return owner === undefined ? NO_SUBNET : (owner.reason ?? owner.state);
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
  readonly virtual?: VirtualLinkStatus;
  readonly sysctls: readonly SysctlState[];
  readonly config: StatusDocument['config'];
  readonly hostName: string;
  readonly election: ElectionStatus | undefined;
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
  const { virtual } = sources;
  if (virtual?.obstacle !== undefined) errors.push(`virtual addresses: ${virtual.obstacle}`);
  for (const sysctl of sources.sysctls) if (sysctl.error !== undefined) errors.push(sysctl.error);
  const unwell = sources.addresses.filter(
    (address) => address.state === 'conflict' || address.state === 'failed',
  );
  errors.push(...listed(unwell.map((address) => unwellText(address, sources.election))));
  const disputed = sources.addresses.flatMap(({ ip, disputed }) =>
    disputed === undefined ? [] : [{ ip, disputed }],
  );
  warnings.push(
    ...listed(disputed.map(({ ip, disputed: text }) => `${ip}: ${withMember(text, sources.election)}`)),
  );
  const election = electionProblems({ ...sources, allocator: kubernetes.allocator });
  for (const texts of election.errors) errors.push(...listed(texts));
  for (const texts of election.warnings) warnings.push(...listed(texts));
  const refused = sources.services.filter((service) => service.state === 'refused');
  warnings.push(
    ...listed(refused.map((service) => `${service.name} has no address: ${service.reason ?? ''}`)),
  );
  const homeless = sources.addresses.filter(
    ({ state }) => state === 'no-interface' || state === 'foreign' || state === 'unserved',
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

function unwellText({ ip, state, reason = '' }: AddressStatus, election: ElectionStatus | undefined): string {
  return `${ip}: ${state}: ${withMember(reason, election)}`;
}

function withMember(text: string, election: ElectionStatus | undefined): string {
  const member = memberOfMac(text, election);
  return member === undefined ? text : `${text} (a NIC of ${member})`;
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

/** As many of them as somebody reads, and how many more there are. */
export function listed(texts: readonly string[]): readonly string[] {
  if (texts.length <= LISTED_MAX) return texts;
  return [...texts.slice(0, LISTED_MAX), `… and ${texts.length - LISTED_MAX} more like the last`];
}
