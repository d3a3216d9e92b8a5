/** Writes addresses into the status of Services: a bounded number at a time, one at a time for each Service. */

import type { Ip } from '../../lib/ip.ts';
import type { Item } from '../objects.ts';
import { serviceItem } from '../objects.ts';
import { patchVerdict, statusPatch } from '../status-patch.ts';
import type { Service, ServiceKey } from '../types.ts';
import { type ApiClient, ApiError } from './api-client.ts';

const MOST_AT_ONCE = 32;

/**
 * `stale`: the Service changed meanwhile (or an earlier write for it is under way): decide again from the newer object.
 * `gone`: there is no such Service any more. An error says what to do; the caller tries again, not before
 * `error.failure.retryAfterMs` when that is set.
 */
export type StatusOutcome = 'written' | 'stale' | 'gone' | { readonly error: ApiError };

export class StatusWriter {
  readonly #client: ApiClient;
  readonly #written: (item: Item<Service>) => void;
  readonly #busy = new Set<ServiceKey>();
  /** Waiting for a free place, oldest first; bounded by the number of Services, one entry each. */
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #withIpMode = true;

  /** `written` gets the Service as the server returned it, before the outcome is known to the caller. */
  constructor(client: ApiClient, written: (item: Item<Service>) => void) {
    this.#client = client;
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
          body: statusPatch(service, ips, withIpMode),
        });
        const item = serviceItem(answer);
        if (item !== undefined) this.#written(item);
        return 'written';
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
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
    if (next === undefined) this.#running--;
    else next();
  }
}
