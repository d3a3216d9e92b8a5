import { Allocator, type WriteOutcome } from '../../../src/daemon/allocator.ts';
import { computePlan, type Plan } from '../../../src/daemon/plan.ts';
import { allocate } from '../../../src/ipam/allocate.ts';
import type { Allocation } from '../../../src/ipam/types.ts';
import type { EventNote, Service, ServiceKey } from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Logger, SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { pool, usable } from '../ipam/fixtures.ts';

/** One write that the allocator asked for; it is under way until `answer()`. */
export type PendingWrite = {
  readonly service: Service;
  readonly addresses: readonly Ip[];
  answer(outcome: WriteOutcome): Promise<void>;
};

/**
 * The allocator together with the real allocation and plan, as the daemon runs them: `store` is what the watch has told,
 * and each write waits for the test to answer it.
 */
export class AllocatorBench {
  readonly store = new Map<ServiceKey, Service>();
  readonly writes: PendingWrite[] = [];
  readonly events: EventNote[] = [];
  readonly warnings: string[] = [];
  readonly allocator: Allocator;
  pools = [pool('p', ['192.0.2.10-192.0.2.12'])];
  mayAllocate = true;
  allocations: readonly Allocation[] = [];
  latest: Plan = { desired: [], writes: [], refusals: [] };
  changes = 0;

  constructor() {
    const logger: Logger = { ...SILENT_LOGGER, warn: (_fields, event) => void this.warnings.push(event) };
    this.allocator = new Allocator({
      logger,
      event: (note) => void this.events.push(note),
      onChange: () => {
        this.changes += 1;
        this.plan();
      },
      writeStatus: (service, addresses) =>
        new Promise((resolve) => {
          this.writes.push({
            service,
            addresses,
            answer: async (outcome) => {
              resolve(outcome);
              // The outcome is taken in a microtask after that of the promise.
              for (let turn = 0; turn < 3; turn++) await Promise.resolve();
            },
          });
        }),
    });
  }

  put(...services: readonly Service[]): this {
    for (const service of services) this.store.set(service.key, service);
    return this;
  }

  plan(): this {
    const { allocations } = allocate({
      pools: this.pools,
      services: this.mayAllocate ? this.allocator.reserve(this.store) : this.store.values(),
      loadBalancerClass: undefined,
      verdict: usable,
      probeAheadCount: 0,
    });
    this.allocations = allocations;
    const isReserved = (service: Service) => this.allocator.isReserved(service);
    this.latest = computePlan({
      services: this.store,
      allocations,
      isReserved,
      mayAllocate: this.mayAllocate,
    });
    this.allocator.carryOut(this.latest.writes, this.store, this.mayAllocate);
    return this;
  }

  /** The write asked for as the `index`-th, from 0. */
  write(index: number): PendingWrite {
    const write = this.writes[index];
    if (write === undefined) throw new Error(`only ${this.writes.length} writes, not ${index + 1}`);
    return write;
  }

  /** What each write says, in order: `a=192.0.2.10`. */
  said(): readonly string[] {
    return this.writes.map(({ service, addresses }) => `${service.name}=${addresses.join(',')}`);
  }

  held(): readonly Ip[] {
    return this.latest.desired.map(({ ip }) => ip);
  }
}

/** The object after the API server has taken `addresses`, as the watch brings it. */
export function written(service: Service, addresses: readonly string[]): Service {
  const ingress = addresses.map((ip) => ({ ip, hostname: undefined, ipMode: 'VIP' }));
  return { ...service, resourceVersion: `${Number(service.resourceVersion) + 1}`, ingress };
}
