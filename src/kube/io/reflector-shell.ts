/** Runs one reflector machine (`../reflector.ts`): turns its effects into requests and timers, and answers into events. */

import type { Logger } from '../../lib/logger.ts';
import type { Random } from '../../lib/prng.ts';
import { type Instant, NEVER } from '../../lib/time.ts';
import { httpFailure, otherFailure } from '../api-failure.ts';
import { type Item, resourceVersionOf } from '../objects.ts';
import { listOf, recordOf, shortTextOf, wholeOf } from '../raw.ts';
import { initialReflector, reflectorDeadline, reflectorStatus, stepReflector } from '../reflector.ts';
import type { ReflectorConfig, ReflectorEffect, ReflectorEvent, ReflectorState } from '../reflector-types.ts';
import type { ReflectorStatus } from '../types.ts';
import { type ApiClient, ApiError } from './api-client.ts';

const LIST_TIMEOUT_MS = 30_000;
const WATCH_OPEN_TIMEOUT_MS = 10_000;
/** How long the second watch of `verify()` stays open; the server sends what was missed at once. */
const VERIFY_SECONDS = 1;
const LONGEST_TIMER_MS = 60_000;
/** More than any server gives in answer to our page limit. */
const MOST_ITEMS_OF_A_PAGE = 100_000;
const LONGEST_CONTINUE_TOKEN = 16_384;

export type ReflectorShellOptions<Value> = {
  readonly client: ApiClient;
  readonly config: ReflectorConfig;
  /** `/api/v1/services`, and a selector for the query or ''. */
  readonly path: string;
  readonly query: string;
  readonly convert: (raw: unknown) => Item<Value> | undefined;
  readonly cached: readonly Item<Value>[];
  readonly logger: Logger;
  readonly random: Random;
  readonly now: () => Instant;
  /** The server answers again after it failed. */
  readonly recovered: () => void;
  /** What is known changed. May be called several times in a turn. */
  readonly notify: () => void;
};

export class ReflectorShell<Value> {
  readonly #options: ReflectorShellOptions<Value>;
  #state: ReflectorState<Value>;
  #timer: NodeJS.Timeout | undefined;
  #request = new AbortController();
  #verifying = false;

  constructor(options: ReflectorShellOptions<Value>) {
    this.#options = options;
    this.#state = initialReflector(options.config, options.cached);
  }

  /** Live: the same map for ever, changed in place. */
  get objects(): ReadonlyMap<string, Value> {
    return this.#state.store.objects;
  }

  get synced(): boolean {
    return this.#state.synced;
  }

  /** Whether what is known is no older than `instant`: a complete list was begun since. */
  isListedSince(instant: Instant): boolean {
    return this.#state.listedSince !== undefined && this.#state.listedSince >= instant;
  }

  /** Lists anew: what is known may be a little behind the truth, and somebody needs it not to be. */
  relist(): void {
    this.#dispatch({ kind: 'list-wanted' });
  }

  /** Waits no longer for a server that another request found well. */
  serverRecovered(): void {
    this.#dispatch({ kind: 'server-recovered' });
  }

  status(): ReflectorStatus {
    return reflectorStatus(this.#state, this.#options.now());
  }

  start(): void {
    this.#dispatch({ kind: 'started' });
  }

  stop(): void {
    this.#dispatch({ kind: 'stopped' });
    clearTimeout(this.#timer);
  }

  /** Takes the answer to a write of our own, so that nothing waits for the watch to bring it. */
  written(item: Item<Value>): void {
    this.#dispatch({ kind: 'object-written', item });
  }

  /** Ends the open watch: its connection is believed dead. It resumes from the last version seen. */
  interrupt(reason: string): void {
    if (this.#state.phase.kind !== 'watching') return;
    this.#dispatch({
      kind: 'request-failed',
      attempt: this.#state.attempt,
      failure: otherFailure('timeout', reason),
    });
  }

  /**
   * Asks by a second, short watch from the last version seen whether the open one misses anything: a connection that
   * died without a word looks like a quiet one. Returns false when the server gave no answer in time at all.
   */
  async verify(timeoutMs: number): Promise<boolean> {
    const { attempt, resourceVersion, phase } = this.#state;
    if (phase.kind !== 'watching' || resourceVersion === undefined || this.#verifying) return true;
    this.#verifying = true;
    let seen = false;
    const query = `watch=1&resourceVersion=${resourceVersion}&timeoutSeconds=${VERIFY_SECONDS}`;
    try {
      await this.#options.client.watch(this.#get('watch', query, timeoutMs), {
        opened: () => {},
        line: (line) => {
          const change = changeOf(line);
          const version = resourceVersionOf(recordOf(recordOf(change?.object)['metadata']));
          if (seen || change === undefined || version === undefined) return;
          if (change.type === 'BOOKMARK' || change.type === 'ERROR') return;
          seen = true;
          this.#dispatch({ kind: 'change-verified', attempt, resourceVersion: version });
        },
      });
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return error.failure.kind !== 'timeout';
    } finally {
      this.#verifying = false;
    }
  }

  #dispatch(event: ReflectorEvent<Value>): void {
    const { state, effects } = stepReflector(this.#state, event, this.#options.now(), this.#options.random);
    this.#state = state;
    for (const effect of effects) this.#run(effect);
    this.#schedule();
  }

  #run(effect: ReflectorEffect): void {
    switch (effect.kind) {
      case 'cancel':
        this.#request.abort();
        return;
      case 'list':
        this.#begin(effect.attempt, (signal) => this.#list(effect, signal));
        return;
      case 'watch':
        this.#begin(effect.attempt, (signal) => this.#watch(effect, signal));
        return;
      case 'check-version':
        void this.#checkVersion(effect);
        return;
      case 'notify':
        this.#options.notify();
        return;
      case 'recovered':
        this.#options.recovered();
        return;
      case 'log':
        this.#options.logger[effect.level](effect.fields, effect.event);
        return;
      default:
        effect satisfies never;
    }
  }

  #begin(attempt: number, work: (signal: AbortSignal) => Promise<void>): void {
    this.#request = new AbortController();
    work(this.#request.signal).catch((error: unknown) => {
      if (!(error instanceof ApiError)) throw error;
      this.#dispatch({ kind: 'request-failed', attempt, failure: error.failure });
    });
  }

  async #list(effect: Extract<ReflectorEffect, { kind: 'list' }>, signal: AbortSignal): Promise<void> {
    const token =
      effect.continueToken === undefined ? '' : `&continue=${encodeURIComponent(effect.continueToken)}`;
    const request = this.#get('list', `limit=${effect.limit}${token}`, LIST_TIMEOUT_MS);
    const page = recordOf(await this.#options.client.request({ ...request, signal }));
    const metadata = recordOf(page['metadata']);
    const resourceVersion = resourceVersionOf(metadata);
    if (!Array.isArray(page['items']) || resourceVersion === undefined) {
      throw new ApiError(
        otherFailure('protocol', 'expected a list with items and metadata.resourceVersion'),
        'list',
        this.#options.config.resource,
      );
    }
    this.#dispatch({
      kind: 'page-listed',
      attempt: effect.attempt,
      items: listOf(page['items'], MOST_ITEMS_OF_A_PAGE).flatMap((raw) => this.#options.convert(raw) ?? []),
      resourceVersion,
      continueToken: shortTextOf(metadata['continue'], LONGEST_CONTINUE_TOKEN),
    });
  }

  async #watch(effect: Extract<ReflectorEffect, { kind: 'watch' }>, signal: AbortSignal): Promise<void> {
    const { attempt } = effect;
    const timeoutSeconds = Math.round(effect.timeoutMs / 1_000);
    const query = `watch=1&allowWatchBookmarks=true&resourceVersion=${effect.resourceVersion}&timeoutSeconds=${timeoutSeconds}`;
    const request = this.#get('watch', query, WATCH_OPEN_TIMEOUT_MS);
    await this.#options.client.watch(
      { ...request, signal },
      {
        opened: () => this.#dispatch({ kind: 'watch-opened', attempt }),
        line: (line) => this.#onLine(attempt, line),
      },
    );
    this.#dispatch({ kind: 'watch-closed', attempt });
  }

  /** Its failure says nothing that the watch it goes with does not say as well. */
  async #checkVersion(effect: Extract<ReflectorEffect, { kind: 'check-version' }>): Promise<void> {
    try {
      const list = recordOf(
        await this.#options.client.request(this.#get('list', 'limit=1', LIST_TIMEOUT_MS)),
      );
      const resourceVersion = resourceVersionOf(recordOf(list['metadata']));
      if (resourceVersion === undefined) return;
      const { attempt, resumedFrom } = effect;
      this.#dispatch({ kind: 'version-checked', attempt, resumedFrom, resourceVersion });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  #onLine(attempt: number, line: string): void {
    const change = changeOf(line);
    const failed = (message: string) =>
      this.#dispatch({ kind: 'request-failed', attempt, failure: otherFailure('protocol', message) });
    switch (change?.type) {
      case 'ADDED':
      case 'MODIFIED':
      case 'DELETED': {
        const item = this.#options.convert(change.object);
        // What has no usable name was never kept; a list does not bring it either.
        if (item === undefined) return;
        this.#dispatch({ kind: 'object-changed', attempt, item, deleted: change.type === 'DELETED' });
        return;
      }
      case 'BOOKMARK': {
        const resourceVersion = resourceVersionOf(recordOf(recordOf(change.object)['metadata']));
        if (resourceVersion !== undefined) this.#dispatch({ kind: 'bookmarked', attempt, resourceVersion });
        return;
      }
      case 'ERROR': {
        const code = wholeOf(recordOf(change.object)['code'], 100, 599) ?? 500;
        this.#dispatch({
          kind: 'request-failed',
          attempt,
          failure: httpFailure(code, change.object, undefined),
        });
        return;
      }
      default:
        failed('expected a watch event, got a line of something else');
    }
  }

  #get(verb: 'list' | 'watch', query: string, timeoutMs: number) {
    const { path, query: selector, config } = this.#options;
    const whole = selector === '' ? query : `${selector}&${query}`;
    return { verb, resource: config.resource, method: 'GET', path: `${path}?${whole}`, timeoutMs } as const;
  }

  /** Long waits are cut into pieces: the clock also counts suspension, timers do not. */
  #schedule(): void {
    clearTimeout(this.#timer);
    const deadline = reflectorDeadline(this.#state);
    if (deadline === NEVER) return;
    const waitMs = Math.min(LONGEST_TIMER_MS, Math.max(0, deadline - this.#options.now()));
    this.#timer = setTimeout(() => this.#dispatch({ kind: 'deadline-passed' }), Math.ceil(waitMs));
  }
}

function changeOf(line: string): { readonly type: unknown; readonly object: unknown } | undefined {
  try {
    const record = recordOf(JSON.parse(line));
    return { type: record['type'], object: record['object'] };
  } catch {
    return undefined;
  }
}
