import assert from 'node:assert/strict';
import type { PoolConfig } from '../../../src/config/types.ts';
import { type AllocationInput, type AllocationResult, allocate } from '../../../src/ipam/allocate.ts';
import type { Allocation, Verdict } from '../../../src/ipam/types.ts';
import type { Service, ServiceKey } from '../../../src/kube/types.ts';
import { type Ip, parseIp, parseRange } from '../../../src/lib/ip.ts';

export function ip(text: string): Ip {
  const parsed = parseIp(text);
  assert(parsed !== undefined, text);
  return parsed;
}

export function pool(name: string, addresses: readonly string[], autoAssign = true): PoolConfig {
  const ranges = addresses.map((text) => {
    const parsed = parseRange(text);
    assert(parsed.ok, text);
    return parsed.value;
  });
  return { name, addresses, ranges, autoAssign, aggregate: { v4: undefined, v6: undefined } };
}

export type ServiceChange = Partial<Omit<Service, 'key' | 'name'>> & { readonly status?: readonly string[] };

/** A v4 Service `default/<name>` without address; `status` lists the addresses that its status says. */
export function service(name: string, { status = [], ...change }: ServiceChange = {}): Service {
  return {
    key: `default/${name}` as ServiceKey,
    namespace: 'default',
    name,
    uid: `uid-${name}`,
    resourceVersion: '1',
    createdAt: 0,
    deleting: false,
    type: 'LoadBalancer',
    loadBalancerClass: undefined,
    loadBalancerIp: undefined,
    externalTrafficPolicy: 'Cluster',
    healthCheckNodePort: undefined,
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
    ports: [{ protocol: 'TCP', port: 80 }],
    annotations: {},
    ingress: status.map((text) => ({ ip: text, hostname: undefined, ipMode: 'VIP' })),
    ...change,
  };
}

export const usable = (): Verdict => ({ kind: 'usable' });

export function run(
  pools: readonly PoolConfig[],
  services: Iterable<Service>,
  options: Partial<AllocationInput> = {},
): AllocationResult {
  const input = { pools, services, loadBalancerClass: undefined, verdict: usable, probeAheadCount: 0 };
  return allocate({ ...input, ...options });
}

export function allocationOf(result: AllocationResult, name: string): Allocation {
  const found = result.allocations.filter((each) => each.service === `default/${name}`);
  assert.equal(found.length, 1, `${found.length} allocations for ${name}`);
  const [allocation] = found;
  assert(allocation !== undefined);
  return allocation;
}

/** An allocation in one line: kind, then addresses or refusal code. */
export function brief(allocation: Allocation): string {
  if (allocation.kind === 'refused') return `refused ${allocation.code}`;
  const unmet = 'unmet' in allocation && allocation.unmet !== undefined ? ` !${allocation.unmet.code}` : '';
  return `${allocation.kind} ${allocation.addresses.join(' ')}${unmet}`;
}

/** Every Service's allocation in one line each, by name. */
export function summary(result: AllocationResult): Record<string, string> {
  return Object.fromEntries(
    result.allocations.map((each) => [each.service.replace('default/', ''), brief(each)]),
  );
}

/** The Service after the API server has taken what the allocation says. */
export function withWritten(before: Service, allocation: Allocation | undefined): Service {
  if (allocation === undefined) return before;
  const status = writtenStatus(allocation);
  if (status === undefined) return before;
  return { ...before, ingress: status.map((text) => ({ ip: text, hostname: undefined, ipMode: 'VIP' })) };
}

function writtenStatus(allocation: Allocation): readonly Ip[] | undefined {
  switch (allocation.kind) {
    case 'assign':
      return allocation.addresses;
    case 'release':
      return [];
    case 'refused':
      return allocation.stale.length > 0 ? [] : undefined;
    default:
      return undefined;
  }
}

/** Runs and writes once: the next snapshot. */
export function applied(services: readonly Service[], result: AllocationResult): Service[] {
  const byKey = new Map(result.allocations.map((each) => [each.service, each]));
  return services.map((each) => withWritten(each, byKey.get(each.key)));
}
