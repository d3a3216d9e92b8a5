import type { MemberView } from '../election/explain.ts';
import type { AddressStatus } from '../iface/types.ts';
import type { Allocation } from '../ipam/types.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { type Ip, type IpRange, parseIp, rangeContains } from '../lib/ip.ts';
import { ControlRefusal } from './control-server.ts';
import type { AddressExplanation, Explanation, OwnerStatus, ServiceStatus } from './types.ts';
import { STATUS_VERSION } from './types.ts';

/** Answers of `lbctl explain`: why a Service has its address, and why which host serves it. */

export type ExplainSources = {
  readonly hostName: string;
  readonly loadBalancerClass: string | undefined;
  readonly services: ReadonlyMap<ServiceKey, Service>;
  readonly allocations: readonly Allocation[];
  readonly pools: readonly { readonly name: string; readonly ranges: readonly IpRange[] }[];
  readonly statusOf: (service: Service, allocation: Allocation) => ServiceStatus | undefined;
  readonly localOf: (ip: Ip) => AddressStatus | undefined;
  /** Why the address would not be given away now; undefined when nothing is known against it. */
  readonly obstacle: (ip: Ip) => string | undefined;
  /** Undefined on a host that does not gossip. */
  readonly election:
    | {
        readonly ownerOf: (ip: Ip) => OwnerStatus | undefined;
        readonly membersOf: (ip: Ip) => readonly MemberView[];
      }
    | undefined;
};

/** `subject` is an address, `namespace/name` or a name that only one namespace has. Throws `ControlRefusal`. */
export function explain(subject: string, sources: ExplainSources): Explanation {
  const ip = parseIp(subject);
  const services = ip === undefined ? [findService(subject, sources.services)] : usersOf(ip, sources);
  const found = services.map((service) => explainService(service, sources));
  const ips = ip === undefined ? found.flatMap(({ addresses }) => addresses) : [ip];
  return {
    version: STATUS_VERSION,
    host: sources.hostName,
    gossips: sources.election !== undefined,
    services: found,
    addresses: [...new Set(ips)].map((each) => explainAddress(each, sources)),
  };
}

function findService(subject: string, services: ReadonlyMap<ServiceKey, Service>): Service {
  const exact = services.get(subject as ServiceKey);
  if (exact !== undefined) return exact;
  const named = [...services.values()].filter(({ name }) => name === subject);
  const [first, second] = named;
  if (first === undefined) {
    throw new ControlRefusal(404, `no Service "${subject}" of type LoadBalancer is known here`);
  }
  if (second === undefined) return first;
  const keys = named.map(({ key }) => key);
  throw new ControlRefusal(404, `expected one Service, got ${keys.length}: ${keys.slice(0, 10).join(', ')}`);
}

function usersOf(ip: Ip, { services, allocations }: ExplainSources): readonly Service[] {
  const users = allocations.filter(({ kind, ...rest }) => {
    return kind !== 'refused' && 'addresses' in rest && rest.addresses.includes(ip);
  });
  return users.flatMap(({ service }) => services.get(service) ?? []);
}

function explainService(service: Service, sources: ExplainSources): Explanation['services'][number] {
  const allocation = sources.allocations.find((one) => one.service === service.key);
  if (allocation === undefined) {
    const text = notServed(service, sources.loadBalancerClass);
    return { name: service.key, state: undefined, addresses: [], allocation: text, reason: undefined };
  }
  const status = sources.statusOf(service, allocation);
  const text = allocation.kind === 'refused' ? allocation.reason : allocation.explain;
  const { state, addresses = [], reason } = status ?? {};
  return {
    name: service.key,
    state,
    addresses,
    allocation: text,
    reason: reason === text ? undefined : reason,
  };
}

function notServed(service: Service, ownClass: string | undefined): string {
  if (service.type !== 'LoadBalancer') return `its type is ${service.type}, not LoadBalancer`;
  const asked = classWords(service.loadBalancerClass);
  if (service.loadBalancerClass === ownClass) return 'lbd has not decided about it yet';
  return `it is not for this lbd: it names ${asked}, and this lbd serves Services that name ${classWords(ownClass)}`;
}

function classWords(name: string | undefined): string {
  return name === undefined ? 'no class' : `the class "${name}"`;
}

function explainAddress(ip: Ip, sources: ExplainSources): AddressExplanation {
  const pool = sources.pools.find(({ ranges }) => ranges.some((range) => rangeContains(range, ip)));
  const { election } = sources;
  return {
    ip,
    pool: pool?.name,
    local: sources.localOf(ip),
    owner: election?.ownerOf(ip),
    members: election?.membersOf(ip) ?? [],
    obstacle: sources.obstacle(ip),
  };
}
