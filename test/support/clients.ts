import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { LabHost } from './lab-host.ts';
import { labTimeMs } from './lab-time.ts';
import { PingLoop, type PingLoss } from './ping-loop.ts';
import { Prober } from './prober.ts';
import type { Answer, Gap, Tenure, TimeWindow } from './prober-log.ts';

/**
 * What clients see of one address: the prober asks who answers, and ping is a client with a warm neighbour entry.
 *
 *   const clients = await Clients.start({ prober, pings }, ip, { daemons: () => [lbd.pid] });
 *   …
 *   const { gap, excuseMs } = await clients.stop(fromMs);
 */

export type ClientsOptions = {
  /** Default 5. */
  readonly probeMs?: number;
  /** Default 10. */
  readonly pingMs?: number;
  /** Processes whose waiting for a processor excuses a gap. */
  readonly daemons?: () => readonly number[];
};

/** Two, because answers to the prober reach the kernel of its host as well, and change whom that one asks next. */
export type ClientHosts = { readonly prober: LabHost; readonly pings: LabHost };

export type SeenByClients = {
  /** The longest time without an answer to the prober. */
  readonly gap: Gap;
  /** How long in that gap the prober or a daemon was kept from running by others: a busy machine, and no fault of lbd. */
  readonly excuseMs: number;
  /** For how long two hosts answered at once, and how long of that a busy machine accounts for. */
  readonly doubleMs: number;
  readonly doubleExcuseMs: number;
  /** The longest loss of the client with a warm neighbour entry; 0 when every ping was answered. */
  readonly warmMs: number;
  readonly losses: readonly PingLoss[];
};

export class Clients {
  readonly ip: string;
  readonly prober: Prober;
  readonly #pings: PingLoop;
  readonly #pingMs: number;
  readonly #starvation: Starvation;

  private constructor(
    ip: string,
    prober: Prober,
    pings: { readonly loop: PingLoop; readonly everyMs: number },
    starvation: Starvation,
  ) {
    this.ip = ip;
    this.prober = prober;
    this.#pings = pings.loop;
    this.#pingMs = pings.everyMs;
    this.#starvation = starvation;
  }

  /** Resolves when both get answers. */
  static async start(hosts: ClientHosts, ip: string, options: ClientsOptions = {}): Promise<Clients> {
    const prober = await Prober.start(hosts.prober, { addresses: [ip], intervalMs: options.probeMs ?? 5 });
    await prober.firstAnswer(ip);
    const everyMs = options.pingMs ?? 10;
    const loop = await PingLoop.start(hosts.pings, ip, everyMs);
    return new Clients(ip, prober, { loop, everyMs }, new Starvation(options.daemons ?? (() => [])));
  }

  /** Waits for an answer of a host with another MAC than `mac`; resolves with it. */
  firstOther(mac: string, sinceMs: number, timeoutMs = 10_000): Promise<Answer> {
    return this.prober.firstAnswer(this.ip, { notOf: mac, sinceMs, timeoutMs });
  }

  /** The last answer with `mac` so far. */
  lastOf(mac: string): number | undefined {
    return this.prober.answers(this.ip).findLast((answer) => answer.mac === mac)?.atMs;
  }

  firstOf(mac: string, sinceMs = 0): number | undefined {
    return this.prober.answers(this.ip).find((answer) => answer.mac === mac && answer.atMs >= sinceMs)?.atMs;
  }

  /** How long in that time the prober or a daemon was kept from running. */
  excuseMs(window: TimeWindow): number {
    return lateIn(this.prober.late, window) + this.#starvation.longestIn(window);
  }

  /** Ends both; what is told is of the time from `fromMs` on. */
  async stop(fromMs: number): Promise<SeenByClients> {
    const { losses } = await this.#pings.stop();
    this.#starvation.stop();
    await this.prober.stop();
    const since = losses.filter(({ toMs }) => toMs >= fromMs);
    const gap = this.prober.longestGap(this.ip, { fromMs });
    if (gap === undefined) throw new Error(`nobody answered for ${this.ip}`);
    return {
      gap,
      excuseMs: this.excuseMs(gap),
      doubleMs: this.prober.duplicates(this.ip).overlapMs,
      doubleExcuseMs: overlaps(this.prober.macs(this.ip)).reduce((sum, one) => sum + this.excuseMs(one), 0),
      warmMs: Math.max(0, ...since.map((loss) => loss.toMs - loss.fromMs - this.#pingMs)),
      losses: since,
    };
  }
}

/** Times in which two hosts answered. */
function overlaps(tenures: readonly Tenure[]): readonly TimeWindow[] {
  return tenures.flatMap((one, index) =>
    tenures.slice(index + 1).flatMap((other) => {
      const fromMs = Math.max(one.firstMs, other.firstMs);
      const toMs = Math.min(one.lastMs, other.lastMs);
      return one.mac !== other.mac && fromMs < toMs ? [{ fromMs, toMs }] : [];
    }),
  );
}

/** The part of the window in which the prober was late. */
function lateIn(late: readonly Gap[], window: TimeWindow): number {
  const { fromMs = 0, toMs = Number.POSITIVE_INFINITY } = window;
  let sum = 0;
  for (const one of late) sum += Math.max(0, Math.min(one.toMs, toMs) - Math.max(one.fromMs, fromMs));
  return sum;
}

const LOOK_MS = 10;

type Look = { readonly atMs: number; readonly waitedMs: ReadonlyMap<number, number> };

/** How long processes waited for a processor, as the kernel counts it (proc(5), schedstat). */
class Starvation {
  readonly #looks: Look[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #pids: () => readonly number[];

  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
    this.#look();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    // A test that failed in between does not stop it.
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#look();
  }

  /** How long the process waited that waited longest. */
  longestIn(window: TimeWindow): number {
    const { fromMs = 0, toMs = Number.POSITIVE_INFINITY } = window;
    const first = this.#looks.findLast(({ atMs }) => atMs <= fromMs) ?? this.#looks[0];
    const last = this.#looks.find(({ atMs }) => atMs >= toMs) ?? this.#looks.at(-1);
    if (first === undefined || last === undefined) return 0;
    const waits = [...last.waitedMs].map(([pid, ms]) => ms - (first.waitedMs.get(pid) ?? ms));
    return Math.max(0, ...waits);
  }

  #look(): void {
    const waitedMs = new Map<number, number>();
    for (const pid of this.#pids()) {
      const ms = waitedForProcessorMs(pid);
      if (ms !== undefined) waitedMs.set(pid, ms);
    }
    this.#looks.push({ atMs: labTimeMs(), waitedMs });
  }
}

function waitedForProcessorMs(pid: number): number | undefined {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[1]) / 1e6;
  } catch {
    return undefined;
  }
}

/** Throws when nobody answered for longer than that, but for what a busy machine accounts for. */
export function gapWithin({ gap, excuseMs }: SeenByClients, limitMs: number): void {
  assert.ok(gap.ms <= limitMs + excuseMs, `${gap.ms} ms without an answer, ${excuseMs} ms of them excused`);
}

/** Throws when two hosts answered at once for longer than that, but for what a busy machine accounts for. */
export function doubleWithin({ doubleMs, doubleExcuseMs }: SeenByClients, limitMs: number): void {
  const text = `two answered for ${doubleMs} ms, ${doubleExcuseMs} ms of them excused`;
  assert.ok(doubleMs <= limitMs + doubleExcuseMs, text);
}
