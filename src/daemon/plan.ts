import type { DesiredAddress } from '../iface/types.ts';
import type { Allocation, Refusal } from '../ipam/types.ts';
import type { EventNote, Service, ServiceKey } from '../kube/types.ts';
import { type Ip, parseIp } from '../lib/ip.ts';

/**
 * What this host should do now, computed whole from the latest snapshots: which addresses it should hold and, if it
 * is the allocator, which statuses it should write. Pure; the same snapshots give the same plan.
 */
export type Plan = {
  readonly desired: readonly DesiredAddress[];
  readonly writes: readonly StatusWrite[];
  /** Warnings that belong on Services as long as they hold; whoever writes Events repeats none. */
  readonly refusals: readonly EventNote[];
};

export type StatusWrite = {
  readonly service: Service;
  readonly addresses: readonly Ip[];
  readonly kind: 'assign' | 'release';
  readonly pool: string | undefined;
};

export type PlanInput = {
  readonly services: ReadonlyMap<ServiceKey, Service>;
  readonly allocations: readonly Allocation[];
  /** Services with a write under way: their allocation is ahead of their status. */
  readonly isReserved: (service: Service) => boolean;
  /** This host holds the allocator's Lease and its view of the Services is complete and live (safety rule 7). */
  readonly mayAllocate: boolean;
};

export function computePlan(input: PlanInput): Plan {
  const users = new Map<Ip, ServiceKey[]>();
  const writes: StatusWrite[] = [];
  const refusals: EventNote[] = [];
  for (const allocation of input.allocations) {
    const service = input.services.get(allocation.service);
    if (service === undefined) continue;
    for (const ip of addressesToHold(allocation, service, input.isReserved(service))) {
      const known = users.get(ip);
      if (known === undefined) users.set(ip, [service.key]);
      else known.push(service.key);
    }
    if (!input.mayAllocate) continue;
    if (allocation.kind === 'assign') {
      const { addresses, pool } = allocation;
      writes.push({ service, addresses, kind: 'assign', pool });
    } else if (
      allocation.kind === 'release' ||
      (allocation.kind === 'refused' && allocation.stale.length > 0)
    ) {
      writes.push({ service, addresses: [], kind: 'release', pool: undefined });
    }
    const refusal = refusalOf(allocation);
    if (refusal !== undefined) refusals.push(refusalEvent(service, refusal));
  }
  return { desired: [...users].map(([ip, services]) => ({ ip, services })), writes, refusals };
}

/**
 * Only what the Service's status already says is held: an address in flight to the API server may still be refused
 * there, and two hosts that each believe in their own decision would both answer.
 */
function addressesToHold(allocation: Allocation, service: Service, isReserved: boolean): readonly Ip[] {
  if (allocation.kind === 'release' || allocation.kind === 'refused') return [];
  const rightful = allocation.kind === 'settled' ? allocation.addresses : allocation.standing;
  if (!isReserved) return rightful;
  const inStatus = service.ingress.flatMap(({ ip }) => (ip === undefined ? [] : (parseIp(ip) ?? [])));
  return rightful.filter((ip) => inStatus.includes(ip));
}

function refusalOf(allocation: Allocation): Refusal | undefined {
  if (allocation.kind === 'refused') return allocation;
  return allocation.kind === 'settled' || allocation.kind === 'assign' ? allocation.unmet : undefined;
}

function refusalEvent(service: Service, refusal: Refusal): EventNote {
  return {
    service: { namespace: service.namespace, name: service.name, uid: service.uid },
    type: 'Warning',
    reason: 'AllocationFailed',
    action: 'Allocate',
    note: refusal.reason,
  };
}
