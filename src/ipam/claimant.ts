import type { Service } from '../kube/types.ts';
import { parseIp, unusableReason } from '../lib/ip.ts';
import { type Plan, planFor } from './plan.ts';
import { isInPool, locate, type Place, type Pools } from './pools.ts';
import {
  type AddressRequest,
  type FamilyRequest,
  quote,
  requestedAddresses,
  requestedFamilies,
  requestedPool,
  sharingKey,
} from './requests.ts';
import type { Allocation, Refusal } from './types.ts';

/**
 * A Service as allocation sees it under one configuration: what depends on nothing but the Service and the pools,
 * worked out once per Service object, so that a recomputation over 10,000 settled Services only looks for conflicts.
 */
export type Claimant = {
  readonly service: Service;
  /** `owner`: ours. `stranger`: not ours, but its status holds addresses of our pools. `bystander`: neither. */
  readonly role: 'owner' | 'stranger' | 'bystander';
  /** The addresses that status says and that a Service may have, whether or not another Service has them too. */
  readonly standing: readonly Place[];
  /** What else status says: no addresses, unusable ones, or too many. */
  readonly rubbish: readonly string[];
  readonly hostnames: readonly string[];
  readonly families: FamilyRequest;
  readonly request: AddressRequest;
  readonly poolName: string | undefined;
  readonly sharingKey: string | undefined;
  /** How `standing` becomes what it should be, as long as no other Service has a better claim to it. */
  readonly plan: Plan;
  /** The decision, when it needs no look at any other Service but for conflicts. */
  readonly decided: Allocation | undefined;
  readonly pools: Pools;
  readonly loadBalancerClass: string | undefined;
};

/** Status entries of one Service that are read. Overflow: further ones are rubbish, which leaves status. */
export const STATUS_LIMIT = 16;

const claimants = new WeakMap<Service, Claimant>();
const lists = new WeakMap<Pools, Claimant[]>();

/**
 * The Services that can matter, as claimants. The one at the same place of the last list is tried first: a snapshot
 * mostly keeps its order, and 10,000 look-ups in a WeakMap cost more than all the rest of a recomputation. What is
 * returned is good until the next call.
 */
export function claimantsOf(
  services: Iterable<Service>,
  pools: Pools,
  loadBalancerClass: string | undefined,
): readonly Claimant[] {
  const list = lists.get(pools) ?? [];
  let length = 0;
  for (const service of services) {
    if (service.type !== 'LoadBalancer' && service.ingress.length === 0) continue;
    const guess = list[length];
    if (guess?.service !== service || guess.loadBalancerClass !== loadBalancerClass) {
      list[length] = claimantOf(service, pools, loadBalancerClass);
    }
    length += 1;
  }
  list.length = length;
  lists.set(pools, list);
  return list;
}

/** Remembered per Service object, until the pools or the class change. */
function claimantOf(service: Service, pools: Pools, loadBalancerClass: string | undefined): Claimant {
  const known = claimants.get(service);
  if (known !== undefined && known.pools === pools && known.loadBalancerClass === loadBalancerClass)
    return known;
  const claimant = readClaimant(service, pools, loadBalancerClass);
  claimants.set(service, claimant);
  return claimant;
}

function readClaimant(service: Service, pools: Pools, loadBalancerClass: string | undefined): Claimant {
  const status = readStatus(service, pools);
  const asked = {
    families: requestedFamilies(service),
    request: requestedAddresses(service),
    poolName: requestedPool(service),
  };
  const ours = service.type === 'LoadBalancer' && service.loadBalancerClass === loadBalancerClass;
  const standing = ours ? status.standing : status.standing.filter(isInPool);
  const role = ours && !(service.deleting && standing.length === 0) ? 'owner' : otherRole(ours, standing);
  const draft = {
    service,
    role,
    ...status,
    standing,
    ...asked,
    sharingKey: sharingKey(service),
    plan: planFor(asked, standing, pools),
    pools,
    loadBalancerClass,
  } as const;
  return { ...draft, decided: decideAlone(draft) };
}

function otherRole(ours: boolean, standing: readonly Place[]): 'stranger' | 'bystander' {
  return ours || standing.length === 0 ? 'bystander' : 'stranger';
}

function readStatus(service: Service, pools: Pools): Pick<Claimant, 'standing' | 'rubbish' | 'hostnames'> {
  const standing: Place[] = [];
  const rubbish: string[] = [];
  const hostnames: string[] = [];
  for (const entry of service.ingress.slice(0, STATUS_LIMIT)) {
    if (entry.ip === undefined) {
      if (entry.hostname !== undefined) hostnames.push(entry.hostname);
      continue;
    }
    const ip = parseIp(entry.ip);
    if (ip === undefined || unusableReason(ip) !== undefined) rubbish.push(entry.ip);
    else if (!standing.some((each) => each.ip === ip)) standing.push(locate(pools, ip));
  }
  if (service.ingress.length > STATUS_LIMIT) {
    rubbish.push(`${service.ingress.length - STATUS_LIMIT} entries beyond the first ${STATUS_LIMIT}`);
  }
  return { standing, rubbish, hostnames };
}

function decideAlone(claimant: Omit<Claimant, 'decided'>): Allocation | undefined {
  const { role, service, standing, plan } = claimant;
  if (role === 'bystander') return undefined;
  if (role === 'stranger') return service.type === 'LoadBalancer' ? undefined : releaseOf(claimant);
  if (service.deleting) return settle(claimant, standing, undefined);
  const asItStands =
    plan.kind === 'possible' &&
    plan.exact.length === 0 &&
    plan.fill.length === 0 &&
    plan.keep.length === standing.length &&
    claimant.rubbish.length === 0;
  return asItStands ? settle(claimant, standing, undefined) : undefined;
}

function releaseOf(claimant: Pick<Claimant, 'service' | 'standing'>): Allocation {
  const addresses = claimant.standing.map((each) => each.ip);
  return {
    kind: 'release',
    service: claimant.service.key,
    addresses,
    explain: `gives back ${addresses.join(', ')}: its type is ${quote(claimant.service.type)}, not LoadBalancer`,
  };
}

/** The allocation of a Service that keeps `standing`, all that status says of addresses. */
export function settle(
  claimant: Pick<Claimant, 'service' | 'hostnames'>,
  standing: readonly Place[],
  unmet: Refusal | undefined,
): Allocation {
  const homeless = standing.filter((each) => !isInPool(each)).map((each) => each.ip);
  const addresses = standing.map((each) => each.ip);
  const parts = [`keeps ${addresses.join(', ')}: status says so`];
  if (homeless.length > 0) parts.push(`${homeless.join(', ')} in no pool any more, but what is given stays`);
  if (claimant.service.deleting) parts.push('being deleted, keeps it until it is gone');
  if (unmet !== undefined) parts.push(`asks in vain: ${unmet.reason}`);
  return {
    kind: 'settled',
    service: claimant.service.key,
    addresses,
    foreign: [...homeless, ...claimant.hostnames],
    unmet,
    explain: parts.join('; '),
  };
}

/** The order in which Services get what two of them want: the older first, and never undecided. */
export function byAge(left: Claimant, right: Claimant): number {
  const a = left.service;
  const b = right.service;
  return a.createdAt - b.createdAt || compareTexts(a.uid, b.uid) || compareTexts(a.key, b.key);
}

function compareTexts(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
