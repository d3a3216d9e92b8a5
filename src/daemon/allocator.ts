import type { EventNote, Service, ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import { doublingPauseMs } from '../lib/time.ts';
import type { StatusWrite } from './plan.ts';

/**
 * Carries out the allocator's decisions: writes statuses, one write of a Service at a time, and tells about it.
 *
 *   (none) ──write──► writing ──written, or somebody was faster, or gone──► answered, until the object changes
 *                        └──failed──► waiting ──pause over──► due ──write──► writing
 *
 * An attempt is about one version of one Service. As long as that is the version we know, what the attempt gives is
 * reserved (`reserve()`) and what it takes away is not free: the API server may have taken the write even if its
 * answer got lost or has not come through the watch. A newer version tells what came of it, because each write is
 * conditional on the version it was decided for.
 */

const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 30_000;
/** A longer wish of the API server is not believed. */
const RETRY_AFTER_MAX_MS = 300_000;
/** A newer version that was the reason for an answer comes through the watch long before; without it, the write is tried again. */
const RECHECK_MS = 5_000;

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
  /** Why the last write failed. */
  readonly error: string | undefined;
};

/** A status that could not be written so far. */
export type UnwrittenStatus = { readonly service: ServiceKey; readonly error: string };

type Reservation = { readonly base: Service; readonly write: StatusWrite; readonly service: Service };

export class Allocator {
  readonly #options: AllocatorOptions;
  /** Bounded by the Services: an attempt goes when its Service does. */
  readonly #attempts = new Map<ServiceKey, Attempt>();
  readonly #reservations = new Map<ServiceKey, Reservation>();

  constructor(options: AllocatorOptions) {
    this.#options = options;
  }

  /** The Services as they may be once what is under way is done; the same objects as long as nothing changes. */
  reserve(services: ReadonlyMap<ServiceKey, Service>): Iterable<Service> {
    return this.#attempts.size === 0 ? services.values() : this.#withReservations(services);
  }

  /** Whether this version of the Service has been written, or may have been. */
  isReserved(service: Service): boolean {
    return this.#attemptOn(service) !== undefined;
  }

  *#withReservations(services: ReadonlyMap<ServiceKey, Service>): Iterable<Service> {
    for (const service of services.values()) {
      const attempt = this.#attemptOn(service);
      yield attempt === undefined ? service : this.#reserved(service, attempt.write);
    }
  }

  /**
   * Starts the writes that are not under way already, those again whose pause is over, and forgets attempts on what is
   * gone. A host that may not allocate forgets all: whoever may decides anew.
   */
  carryOut(
    writes: readonly StatusWrite[],
    services: ReadonlyMap<ServiceKey, Service>,
    mayAllocate: boolean,
  ): void {
    const wanted = new Map(writes.map((write) => [write.service.key, write]));
    for (const [key, attempt] of this.#attempts) {
      if (attempt.state === 'writing') continue;
      const service = services.get(key);
      if (!mayAllocate || service?.uid !== attempt.write.service.uid) this.#forget(key);
      else if (this.#attemptOn(service) !== undefined) {
        // Reserved, so that the plan wants no write of it unless it decided otherwise.
        if (attempt.state === 'due') void this.#write(wanted.get(key) ?? attempt.write, attempt.failures);
      } else if (attempt.state === 'answered' || !wanted.has(key)) this.#forget(key);
    }
    for (const [key, write] of wanted) {
      const attempt = this.#attempts.get(key);
      if (attempt === undefined || attempt.state === 'due') void this.#write(write, attempt?.failures ?? 0);
    }
  }

  /** What could not be written and is tried again. */
  failures(): readonly UnwrittenStatus[] {
    return [...this.#attempts].flatMap(([service, { error }]) => {
      return error === undefined ? [] : [{ service, error }];
    });
  }

  close(): void {
    for (const key of [...this.#attempts.keys()]) this.#forget(key);
  }

  #attemptOn({ key, uid, resourceVersion }: Service): Attempt | undefined {
    const attempt = this.#attempts.get(key);
    if (attempt?.write.service.uid !== uid) return undefined;
    return attempt.write.service.resourceVersion === resourceVersion ? attempt : undefined;
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
    const error = this.#attempts.get(service.key)?.error;
    this.#attempts.set(service.key, { state: 'writing', write, failures, timer: undefined, error });
    const outcome = await this.#options.writeStatus(service, addresses);
    if (this.#attempts.get(service.key)?.write !== write) return;
    if (outcome.kind === 'failed') this.#retryLater(write, failures + 1, outcome);
    else this.#answered(write, outcome);
    if (outcome.kind === 'written') this.#tell(write);
    this.#options.onChange();
  }

  #retryLater(write: StatusWrite, failures: number, outcome: Failed): void {
    const { key } = write.service;
    const ownPauseMs = doublingPauseMs(failures, RETRY_FIRST_MS, RETRY_LAST_MS);
    const pauseMs = Math.max(ownPauseMs, Math.min(outcome.retryAfterMs ?? 0, RETRY_AFTER_MAX_MS));
    const fields = { service: key, addresses: write.addresses, error: outcome.message, pauseMs };
    this.#options.logger.warn(fields, 'status.write-failed');
    const timer = this.#dueAfter(pauseMs, write, failures, outcome.message);
    this.#attempts.set(key, { state: 'waiting', write, failures, timer, error: outcome.message });
  }

  #answered(write: StatusWrite, outcome: Exclude<WriteOutcome, Failed>): void {
    const timer = outcome.kind === 'written' ? undefined : this.#dueAfter(RECHECK_MS, write, 0, undefined);
    this.#attempts.set(write.service.key, {
      state: 'answered',
      write,
      failures: 0,
      timer,
      error: undefined,
    });
  }

  #dueAfter(
    pauseMs: number,
    write: StatusWrite,
    failures: number,
    error: string | undefined,
  ): NodeJS.Timeout {
    return setTimeout(() => {
      this.#attempts.set(write.service.key, { state: 'due', write, failures, timer: undefined, error });
      this.#options.onChange();
    }, pauseMs);
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
