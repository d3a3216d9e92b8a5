import type { EventNote, Service, ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import { doublingPauseMs } from '../lib/time.ts';
import type { StatusWrite } from './plan.ts';

/**
 * Carries out the allocator's decisions: writes statuses, one write of a Service at a time, and tells about it.
 *
 *   (none) ──write──► writing ──written, or somebody was faster──► answered, until the object changes
 *                        └──failed──► waiting ──pause over──► due ──write──► writing
 *
 * While `writing` and `waiting` the addresses are reserved (`reserve()`): the API server may have taken the write even
 * if its answer got lost, so that no other Service may be given them meanwhile.
 */

const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 30_000;

export type WriteOutcome =
  | { readonly kind: 'written' }
  | { readonly kind: 'stale' }
  | { readonly kind: 'gone' }
  /** `retryAfterMs`: the API server's own wish, when it named one. */
  | { readonly kind: 'failed'; readonly message: string; readonly retryAfterMs: number | undefined };

type Failed = Extract<WriteOutcome, { kind: 'failed' }>;

export type AllocatorOptions = {
  readonly writeStatus: (service: Service, addresses: readonly Ip[]) => Promise<WriteOutcome>;
  readonly event: (note: EventNote) => void;
  readonly logger: Logger;
  /** Something was written or may be tried again: the plan should be made anew. */
  readonly onChange: () => void;
};

type Attempt = {
  readonly state: 'writing' | 'waiting' | 'due' | 'answered';
  readonly write: StatusWrite;
  readonly failures: number;
  readonly timer: NodeJS.Timeout | undefined;
};

type Reservation = { readonly base: Service; readonly write: StatusWrite; readonly service: Service };

export class Allocator {
  readonly #options: AllocatorOptions;
  /** Bounded by the Services: an attempt goes when its Service does. */
  readonly #attempts = new Map<ServiceKey, Attempt>();
  readonly #reservations = new Map<ServiceKey, Reservation>();

  constructor(options: AllocatorOptions) {
    this.#options = options;
  }

  /** The Services as they will be once what is under way is done; the same objects as long as nothing changes. */
  reserve(services: ReadonlyMap<ServiceKey, Service>): Iterable<Service> {
    return this.#attempts.size === 0 ? services.values() : this.#withReservations(services);
  }

  /** Whether a write for this Service is under way, or may be tried again. */
  isReserved(key: ServiceKey): boolean {
    const state = this.#attempts.get(key)?.state;
    return state === 'writing' || state === 'waiting';
  }

  *#withReservations(services: ReadonlyMap<ServiceKey, Service>): Iterable<Service> {
    for (const [key, service] of services) {
      const attempt = this.isReserved(key) ? this.#attempts.get(key) : undefined;
      yield attempt === undefined ? service : this.#reserved(service, attempt.write);
    }
  }

  /** Starts the writes that are not under way already, and forgets attempts on what is gone. */
  carryOut(writes: readonly StatusWrite[], services: ReadonlyMap<ServiceKey, Service>): void {
    const wanted = new Set(writes.map((write) => write.service.key));
    for (const [key, attempt] of this.#attempts) {
      const current = services.get(key);
      const sameObject = current !== undefined && current.uid === attempt.write.service.uid;
      if (attempt.state === 'writing' || (attempt.state === 'waiting' && sameObject)) continue;
      if (sameObject && wanted.has(key)) continue;
      this.#forget(key);
    }
    for (const write of writes) {
      const attempt = this.#attempts.get(write.service.key);
      if (attempt?.state === 'writing' || attempt?.state === 'waiting') continue;
      // The store still shows the version that the last write was based on: a newer one is on its way.
      const isAnswered = attempt?.state === 'answered';
      if (isAnswered && attempt.write.service.resourceVersion === write.service.resourceVersion) continue;
      void this.#write(write, attempt?.failures ?? 0);
    }
  }

  close(): void {
    for (const key of [...this.#attempts.keys()]) this.#forget(key);
  }

  #reserved(base: Service, write: StatusWrite): Service {
    const known = this.#reservations.get(base.key);
    if (known?.base === base && known.write === write) return known.service;
    // Until the API server has said so, what status has is not free either.
    const written = write.addresses.map((ip) => ({ ip, hostname: undefined, ipMode: 'VIP' }));
    const ingress = [...written, ...base.ingress.filter(({ ip }) => !write.addresses.includes(ip as Ip))];
    const service = { ...base, ingress };
    this.#reservations.set(base.key, { base, write, service });
    return service;
  }

  async #write(write: StatusWrite, failures: number): Promise<void> {
    const { service, addresses } = write;
    this.#attempts.set(service.key, { state: 'writing', write, failures, timer: undefined });
    const outcome = await this.#options.writeStatus(service, addresses);
    if (this.#attempts.get(service.key)?.write !== write) return;
    this.#reservations.delete(service.key);
    if (outcome.kind === 'failed') this.#retryLater(write, failures + 1, outcome);
    else if (outcome.kind === 'gone') this.#attempts.delete(service.key);
    else this.#attempts.set(service.key, { state: 'answered', write, failures: 0, timer: undefined });
    if (outcome.kind === 'written') this.#tell(write);
    this.#options.onChange();
  }

  #retryLater(write: StatusWrite, failures: number, outcome: Failed): void {
    const { key } = write.service;
    const ownPauseMs = doublingPauseMs(failures, RETRY_FIRST_MS, RETRY_LAST_MS);
    const pauseMs = Math.max(ownPauseMs, outcome.retryAfterMs ?? 0);
    const fields = { service: key, addresses: write.addresses, error: outcome.message, pauseMs };
    this.#options.logger.warn(fields, 'status.write-failed');
    const timer = setTimeout(() => {
      this.#attempts.set(key, { state: 'due', write, failures, timer: undefined });
      this.#options.onChange();
    }, pauseMs);
    this.#attempts.set(key, { state: 'waiting', write, failures, timer });
  }

  #forget(key: ServiceKey): void {
    clearTimeout(this.#attempts.get(key)?.timer);
    this.#attempts.delete(key);
    this.#reservations.delete(key);
  }

  #tell(write: StatusWrite): void {
    const { service, addresses, kind, pool } = write;
    const before = service.ingress.flatMap(({ ip }) => (ip === undefined ? [] : [ip]));
    const fields = { service: service.key, addresses, before, pool };
    this.#options.logger.info(fields, kind === 'assign' ? 'service.allocated' : 'service.released');
    const from = pool === undefined ? '' : ` from pool "${pool}"`;
    this.#options.event({
      service: { namespace: service.namespace, name: service.name, uid: service.uid },
      type: 'Normal',
      reason: kind === 'assign' ? 'Allocated' : 'Released',
      action: kind === 'assign' ? 'Allocate' : 'Release',
      note: kind === 'assign' ? `Allocated ${addresses.join(', ')}${from}` : `Released ${before.join(', ')}`,
    });
  }
}
