import { readFileSync } from 'node:fs';
import { labTimeMs } from './lab-time.ts';
import type { TimeWindow } from './prober-log.ts';

const LOOK_MS = 10;

type Look = { readonly atMs: number; readonly waitedMs: ReadonlyMap<number, number> };

/** How long processes waited for a processor, as the kernel counts it (proc(5), schedstat). */
/** How long each of some processes was kept from running while it wanted to: the second figure of /proc/pid/schedstat. */
export class Starvation {
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
