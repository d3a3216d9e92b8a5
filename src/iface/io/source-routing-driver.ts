import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { HostView } from '../nic-selection.ts';
import {
  type SourceRequest,
  type SourceRoutingSettings,
  type SourceRoutingStatus,
  sourceRequests,
  sourceRouting,
  unknownGatewayText,
  wantedSourceRoutes,
} from '../source-routing.ts';
import type { KernelRoute } from '../types.ts';
import { describe, SourceRoutingKernel } from './source-routing-kernel.ts';

export type SourceRoutingDriverOptions = {
  readonly settings: () => readonly SourceRoutingSettings[];
  readonly host: () => HostView;
  /** The host's own routes of the main table. */
  readonly routes: () => readonly KernelRoute[];
  readonly logger: Logger;
};

/** The next look after one that failed, and after any that worked. */
const RETRY_MS = 1_000;
const COMPARE_MS = 60_000;

/** Keeps the rules and tables of source routing as they should be. Level-triggered; owns its sockets and its timer. */
export class SourceRoutingDriver {
  readonly #options: SourceRoutingDriverOptions;
  readonly #kernel = new SourceRoutingKernel();
  /** As text, what the last look went by; undefined before the first. */
  #seen: string | undefined;
  #states: readonly SourceRoutingStatus[] = [];
  #failure: string | undefined;
  #running: Promise<void> | undefined;
  #isDue = false;
  #isLeaving = false;
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: SourceRoutingDriverOptions) {
    this.#options = options;
  }

  /** Something of the host or of the configuration may have changed, which mostly means nothing here. */
  hostChanged(): void {
    const seen = JSON.stringify(this.#wanted());
    // The first look takes away what an earlier configuration left.
    if (seen !== this.#seen) this.#look();
  }

  #look(): void {
    this.#isDue = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** What does not work as it is configured, for status. */
  problems(): readonly string[] {
    const unknown = this.#states.filter(({ gateway }) => gateway === undefined);
    return [
      ...unknown.map((state) => unknownGatewayText(state)),
      ...(this.#failure === undefined ? [] : [`source routing: cannot ${this.#failure}`]),
    ];
  }

  /** Takes all rules and routes of ours off the host. */
  async removeAll(): Promise<void> {
    this.#isLeaving = true;
    this.#look();
    await this.#running;
  }

  /** Everything stays where it is. */
  close(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#kernel.close();
  }

  #wanted(): readonly SourceRoutingStatus[] {
    const { settings, host, routes } = this.#options;
    return this.#isLeaving ? [] : sourceRouting(settings(), host(), routes());
  }

  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    while (this.#isDue && !this.#isStopped) {
      this.#isDue = false;
      const failure = await this.#sync();
      if (failure !== this.#failure && failure !== undefined)
        this.#options.logger.warn({ error: failure }, 'source-routing.failed');
      this.#failure = failure;
    }
    if (this.#isStopped || this.#isLeaving) return;
    if (this.#states.length === 0 && this.#failure === undefined) return;
    this.#timer = setTimeout(() => this.#look(), this.#failure === undefined ? COMPARE_MS : RETRY_MS);
  }

  /** Returns what could not be done first. */
  async #sync(): Promise<string | undefined> {
    this.#states = this.#wanted();
    this.#seen = JSON.stringify(this.#states);
    try {
      if (this.#states.length > 0) this.#kernel.subscribe(() => this.#look());
    } catch (error) {
      return `subscribe to rules: ${errorText(error)}`;
    }
    const present = await this.#kernel.read();
    if (!present.ok) return `read rules and routes: ${present.error}`;
    const requests = sourceRequests(wantedSourceRoutes(this.#states), present.value);
    let failure: string | undefined;
    const done: SourceRequest[] = [];
    for (const request of requests) {
      const failed = await this.#kernel.apply(request);
      if (failed === undefined) done.push(request);
      failure ??= failed;
    }
    if (done.length > 0) this.#options.logger.info({ changes: done.map(describe) }, 'source-routing.changed');
    return failure;
  }
}

export type SourceRoutingCleanup = {
  readonly removed: readonly string[];
  readonly failures: readonly string[];
};

/** Takes off the host what is there of source routing, whoever of lbd's made it; without a daemon or a configuration. */
export async function removeSourceRouting(): Promise<SourceRoutingCleanup> {
  const kernel = new SourceRoutingKernel();
  const removed: string[] = [];
  const failures: string[] = [];
  try {
    const present = await kernel.read();
    if (!present.ok) return { removed, failures: [`read rules and routes: ${present.error}`] };
    for (const request of sourceRequests({ rules: [], routes: [] }, present.value)) {
      const failed = await kernel.apply(request);
      if (failed === undefined) removed.push(describe(request).replace(/^delete /, ''));
      else failures.push(failed);
    }
    return { removed, failures };
  } finally {
    kernel.close();
  }
}
