/** Writes addresses into the status of Services: a bounded number at a time, one at a time for each Service. */

import type { Ip } from '../../lib/ip.ts';
import type { Item } from '../objects.ts';
import { serviceItem } from '../objects.ts';
import { patchVerdict, statusPatch } from '../status-patch.ts';
import type { Service, ServiceKey } from '../types.ts';
import { type ApiClient, ApiError } from './api-client.ts';

const MOST_AT_ONCE = 32;
/**
 * A write sent at the last moment of holding the Lease (10 s after the last renewal) must be over before another host
 * can take it (15 s after).
 */
const TIMEOUT_MS = 4_000;

/**
 * `stale`: the Service changed meanwhile (or an earlier write for it is under way): decide again from the newer object.
 * `gone`: there is no such Service any more. An error says what to do; the caller tries again, not before
 * `error.failure.retryAfterMs` when that is set.
 */
export type StatusOutcome = 'written' | 'stale' | 'gone' | { readonly error: ApiError };

export class StatusWriter {
  readonly #client: ApiClient;
  readonly #written: (item: Item<Service>) => void;
  readonly #mayWrite: () => boolean;
  readonly #busy = new Set<ServiceKey>();
  /** Waiting for a free place, oldest first; bounded by the number of Services, one entry each. */
  readonly #waiting: (() => void)[] = [];
  readonly #idle: (() => void)[] = [];
  #running = 0;
  #withIpMode = true;

  /**
   * `mayWrite` is asked right before each write goes out: those that waited meanwhile may have lost the right to it. `written`
   * gets the Service as the server returned it, before the outcome is known to the caller.
   */
  constructor(client: ApiClient, mayWrite: () => boolean, written: (item: Item<Service>) => void) {
    this.#client = client;
    this.#mayWrite = mayWrite;
    this.#written = written;
  }

  /** Sets status.loadBalancer.ingress to `ips` in their order, or removes it when there are none. Never rejects. */
  async write(service: Service, ips: readonly Ip[]): Promise<StatusOutcome> {
    if (this.#busy.has(service.key)) return 'stale';
    this.#busy.add(service.key);
    await this.#enter();
    try {
      return await this.#patch(service, ips);
    } finally {
      this.#busy.delete(service.key);
      this.#leave();
    }
  }

  /** Resolves when no write is under way. */
  async drained(): Promise<void> {
    while (this.#running > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  async #patch(service: Service, ips: readonly Ip[]): Promise<StatusOutcome> {
    for (;;) {
      const withIpMode = this.#withIpMode;
      try {
        const answer = await this.#client.request({
          verb: 'patch',
          resource: 'services/status',
          method: 'PATCH',
          path: `/api/v1/namespaces/${service.namespace}/services/${service.name}/status`,
          contentType: 'application/merge-patch+json',
          timeoutMs: TIMEOUT_MS,
          maySend: this.#mayWrite,
          body: statusPatch(service, ips, withIpMode),
        });
        const item = serviceItem(answer);
        if (item !== undefined) this.#written(item);
        return 'written';
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.failure.kind === 'withdrawn') return 'stale';
        const verdict = patchVerdict(error.failure);
        if (verdict === 'failed') return { error };
        if (verdict !== 'retry-without-mode') return verdict;
        if (!withIpMode) return { error };
        this.#withIpMode = false;
      }
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < MOST_AT_ONCE) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** A place goes straight to the one that waited longest. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next !== undefined) next();
    else if (--this.#running === 0) for (const resolve of this.#idle.splice(0)) resolve();
  }
}
