/** Runs the Lease machine (`../lease.ts`) against the API server. */

import type { Logger } from '../../lib/logger.ts';
import type { Random } from '../../lib/prng.ts';
import { type Instant, NEVER } from '../../lib/time.ts';
import { otherFailure } from '../api-failure.ts';
import {
  holdsLease,
  initialLease,
  LEASE_NAME,
  type LeaseEffect,
  type LeaseEvent,
  type LeaseState,
  leaseDeadline,
  leaseRecord,
  leaseStatus,
  stepLease,
} from '../lease.ts';
import { type ApiClient, ApiError } from './api-client.ts';

/** Half of what a holder has left after one failed renewal: two tries fit before the deadline. */
const REQUEST_TIMEOUT_MS = 4_000;
const RELEASE_TIMEOUT_MS = 1_500;
const LONGEST_TIMER_MS = 60_000;

export type LeaseShellOptions = {
  readonly client: ApiClient;
  readonly namespace: string;
  readonly identity: string;
  readonly logger: Logger;
  readonly random: Random;
  readonly now: () => Instant;
  /** Whether we hold the Lease changed. */
  readonly notify: () => void;
};

export class LeaseShell {
  readonly #options: LeaseShellOptions;
  #state: LeaseState;
  #timer: NodeJS.Timeout | undefined;
  /** The request under way; never rejects but for a bug. */
  #inFlight: Promise<void> = Promise.resolve();

  constructor(options: LeaseShellOptions) {
    this.#options = options;
    this.#state = initialLease(options.identity);
  }

  /** Since when this host holds the Lease; undefined when it does not. */
  heldSince(): Instant | undefined {
    return holdsLease(this.#state, this.#options.now()) ? this.#state.heldSince : undefined;
  }

  status(): ReturnType<typeof leaseStatus> {
    return leaseStatus(this.#state, this.#options.now());
  }

  start(): void {
    this.#dispatch({ kind: 'started' });
  }

  /**
   * Gives the Lease back when this host holds it. Waits for a renewal under way first, because the release must name the
   * version that it makes; at most 2 × RELEASE_TIMEOUT_MS in all. Never rejects.
   */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    const late = new Promise<void>((resolve) => setTimeout(resolve, RELEASE_TIMEOUT_MS).unref());
    await Promise.race([this.#inFlight, late]);
    this.#dispatch({ kind: 'stopped' });
    clearTimeout(this.#timer);
    await this.#inFlight;
  }

  #dispatch(event: LeaseEvent): void {
    const { state, effects } = stepLease(this.#state, event, this.#options.now(), this.#options.random);
    this.#state = state;
    for (const effect of effects) this.#run(effect);
    this.#schedule();
  }

  #run(effect: LeaseEffect): void {
    switch (effect.kind) {
      case 'read':
        this.#inFlight = this.#answer(effect.attempt, 'get', this.#read());
        return;
      case 'write': {
        const verb = effect.resourceVersion === undefined ? 'create' : 'patch';
        this.#inFlight = this.#answer(effect.attempt, verb, this.#write(effect));
        return;
      }
      case 'notify':
        this.#options.notify();
        return;
      case 'log':
        this.#options.logger[effect.level](effect.fields, effect.event);
        return;
      default:
        effect satisfies never;
    }
  }

  async #answer(attempt: number, verb: 'get' | 'create' | 'patch', request: Promise<unknown>): Promise<void> {
    try {
      const record = leaseRecord(await request);
      if (record === undefined) {
        const failure = otherFailure('protocol', 'the answer is no Lease');
        this.#dispatch({ kind: 'failed', attempt, verb, failure });
      } else this.#dispatch({ kind: verb === 'get' ? 'read' : 'written', attempt, record });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const absent = verb === 'get' && error.failure.status === 404;
      if (absent) this.#dispatch({ kind: 'read', attempt, record: undefined });
      else this.#dispatch({ kind: 'failed', attempt, verb, failure: error.failure });
    }
  }

  #read(): Promise<unknown> {
    return this.#options.client.request({
      verb: 'get',
      resource: 'leases',
      method: 'GET',
      path: `${this.#collection()}/${LEASE_NAME}`,
      timeoutMs: REQUEST_TIMEOUT_MS,
    });
  }

  #write(effect: Extract<LeaseEffect, { kind: 'write' }>): Promise<unknown> {
    const renewTime = microTime();
    const spec = {
      holderIdentity: effect.lease.holder,
      leaseDurationSeconds: effect.lease.durationSeconds,
      acquireTime: effect.lease.acquireTime ?? renewTime,
      renewTime,
      leaseTransitions: effect.lease.transitions,
    };
    const timeoutMs = this.#state.phase.kind === 'stopped' ? RELEASE_TIMEOUT_MS : REQUEST_TIMEOUT_MS;
    const { client, namespace } = this.#options;
    if (effect.resourceVersion === undefined) {
      const metadata = { name: LEASE_NAME, namespace };
      const body = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec };
      return client.request({
        verb: 'create',
        resource: 'leases',
        method: 'POST',
        path: this.#collection(),
        body,
        timeoutMs,
      });
    }
    return client.request({
      verb: 'patch',
      resource: 'leases',
      method: 'PATCH',
      path: `${this.#collection()}/${LEASE_NAME}`,
      contentType: 'application/merge-patch+json',
      body: { metadata: { resourceVersion: effect.resourceVersion }, spec },
      timeoutMs,
    });
  }

  #collection(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(this.#options.namespace)}/leases`;
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    const deadline = leaseDeadline(this.#state);
    if (deadline === NEVER) return;
    const waitMs = Math.min(LONGEST_TIMER_MS, Math.max(0, deadline - this.#options.now()));
    this.#timer = setTimeout(() => this.#dispatch({ kind: 'deadline-passed' }), Math.ceil(waitMs));
  }
}

/** metav1.MicroTime of now. For people: nobody compares it with a clock of his own. */
export function microTime(): string {
  return new Date().toISOString().replace('Z', '000Z');
}
