import { monitorEventLoopDelay } from 'node:perf_hooks';

/** What the process itself costs. */
export type RuntimeFigures = {
  readonly residentBytes: number;
  readonly cpuSeconds: number;
  /** Since the epoch. */
  readonly startedAtSeconds: number;
  readonly lagP99Seconds: number;
  readonly lagMaxSeconds: number;
};

/** How often the event loop is measured; its lag is what comes on top. */
const RESOLUTION_MS = 20;
/** After so long a window of measurements is over; figures are of the last two, so that no scrape misses one. */
const WINDOW_MS = 60_000;
const NS_PER_S = 1e9;

type Lag = { readonly p99: number; readonly max: number };

/** Measures the event loop from its making until `close()`; everything else is read when it is asked for. */
export class RuntimeMonitor {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #startedAtSeconds = (Date.now() - process.uptime() * 1000) / 1000;
  #before: Lag = { p99: 0, max: 0 };
  #windowStartMs = performance.now();

  constructor() {
    this.#histogram.enable();
  }

  figures(): RuntimeFigures {
    const { user, system } = process.cpuUsage();
    const lag = this.#lag();
    const figures = {
      residentBytes: process.memoryUsage.rss(),
      cpuSeconds: (user + system) / 1e6,
      startedAtSeconds: this.#startedAtSeconds,
      lagP99Seconds: Math.max(lag.p99, this.#before.p99),
      lagMaxSeconds: Math.max(lag.max, this.#before.max),
    };
    if (performance.now() - this.#windowStartMs > WINDOW_MS) {
      this.#before = lag;
      this.#windowStartMs = performance.now();
      this.#histogram.reset();
    }
    return figures;
  }

  close(): void {
    this.#histogram.disable();
  }

  /** The histogram counts whole intervals; without a measurement it has no numbers. */
  #lag(): Lag {
    if (this.#histogram.count === 0) return { p99: 0, max: 0 };
    const intervalSeconds = RESOLUTION_MS / 1000;
    const beyond = (ns: number): number => Math.max(0, ns / NS_PER_S - intervalSeconds);
    return { p99: beyond(this.#histogram.percentile(99)), max: beyond(this.#histogram.max) };
  }
}
