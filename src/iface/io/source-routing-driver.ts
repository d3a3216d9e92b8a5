import { errorText } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { type Instant, NEVER } from '../../lib/time.ts';
import { bootTimeMs } from '../../sys/clock.ts';
import { netlinkProcess } from '../../sys/netlink-process.ts';
import type { HostView } from '../nic-selection.ts';
import { RepairPace } from '../repair-pace.ts';
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
  /** In place of the kernel, for tests. */
  readonly kernel?: Pick<SourceRoutingKernel, 'subscribe' | 'read' | 'apply' | 'close'>;
};

/** The next look after one that failed, and after any that worked. */
const RETRY_MS = 1_000;
const COMPARE_MS = 60_000;
/** Changes come in groups, and others' rules may change all the time. */
const NOTICED_MS = 10;

/** Keeps the rules and tables of source routing as they should be. Level-triggered; owns its sockets and its timer. */
export class SourceRoutingDriver {
  readonly #options: SourceRoutingDriverOptions;
  readonly #kernel: NonNullable<SourceRoutingDriverOptions['kernel']>;
  /** As text, what the last look went by; undefined before the first. */
  #seen: string | undefined;
  #states: readonly SourceRoutingStatus[] = [];
  /** What the kernel had all of, as text like `#seen`: what is missing of it since was changed by somebody else. */
  #settled: string | undefined;
  readonly #pace = new RepairPace();
  #nextRepairAt: Instant = NEVER;
  #repairs = 0;
  /** Who took something of ours away, by netlink port. */
  #remover: number | undefined;
  #noticed: NodeJS.Timeout | undefined;
  #failure: string | undefined;
  #running: Promise<void> | undefined;
  #isDue = false;
  #isLeaving = false;
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: SourceRoutingDriverOptions) {
    this.#options = options;
    this.#kernel = options.kernel ?? new SourceRoutingKernel();
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

  /** How many rules and routes were put right after somebody else had changed them. */
  get repairs(): number {
    return this.#repairs;
  }

  #notice(remover: number | undefined): void {
    this.#remover = remover ?? this.#remover;
    this.#noticed ??= setTimeout(() => {
      this.#noticed = undefined;
      this.#look();
    }, NOTICED_MS);
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
    clearTimeout(this.#noticed);
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
    const lookMs = this.#failure === undefined ? COMPARE_MS : RETRY_MS;
    const repairMs = Math.max(1, Math.ceil(this.#nextRepairAt - bootTimeMs()));
    this.#timer = setTimeout(() => this.#look(), Math.min(lookMs, repairMs));
  }

  /** Returns what could not be done first. */
  async #sync(): Promise<string | undefined> {
    this.#states = this.#wanted();
    this.#seen = JSON.stringify(this.#states);
    try {
      if (this.#states.length > 0) this.#kernel.subscribe((remover) => this.#notice(remover));
    } catch (error) {
      return `subscribe to rules: ${errorText(error)}`;
    }
    const present = await this.#kernel.read();
    if (!present.ok) return `read rules and routes: ${present.error}`;
    const requests = sourceRequests(wantedSourceRoutes(this.#states), present.value);
    const isRepair = this.#settled === this.#seen && !this.#isLeaving;
    const { due, nextAt } = isRepair
      ? this.#pace.due(requests, describe, bootTimeMs())
      : { due: requests, nextAt: NEVER };
    this.#nextRepairAt = nextAt;
    let failure: string | undefined;
    const done: SourceRequest[] = [];
    for (const request of due) {
      const failed = await this.#kernel.apply(request);
      if (failed === undefined) done.push(request);
      failure ??= failed;
    }
    this.#settled = failure === undefined ? this.#seen : undefined;
    if (done.length > 0) this.#report(done, isRepair);
    if (requests.length === 0) this.#remover = undefined;
    return failure;
  }

  #report(done: readonly SourceRequest[], isRepair: boolean): void {
    const { logger } = this.#options;
    const changes = done.map(describe);
    if (!isRepair) return logger.info({ changes }, 'source-routing.changed');
    this.#repairs += done.length;
    for (const change of changes) this.#pace.count(change, bootTimeMs());
    const by = this.#remover === undefined ? {} : { by: netlinkProcess(this.#remover) };
    this.#remover = undefined;
    logger.warn({ changes, ...by }, 'source-routing.repaired');
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
