import type { NamedReport } from '../iface/io/local-driver.ts';
import type { Logger } from '../lib/logger.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import { bootTimeMs } from '../sys/clock.ts';

/**
 * What happens to addresses, a line each. A NIC that flaps under thousands of them would fill the journal: beyond a burst
 * and a pace, lines are counted by their kind and told in one.
 */
const LINES_BURST = 10_000;
const LINES_PER_S = 1_000;
const SUMMARY_MS = 1_000;
/** What is no reason to look at the log. */
const QUIET: ReadonlySet<string> = new Set(['held', 'dropped']);

export class ReportLog {
  readonly #logger: Logger;
  readonly #budget = new TokenBucket(LINES_PER_S, LINES_BURST);
  #left = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** `member` is the name of the host that the report speaks of, if it is one of those that gossip. */
  write({ report, ...named }: NamedReport, member: string | undefined): void {
    const { kind, ...about } = report;
    const level = QUIET.has(kind) || member !== undefined ? 'info' : 'warn';
    this.#line(level, { ...about, ...(member === undefined ? {} : { member }), ...named }, `address.${kind}`);
  }

  /** Tells what is not told yet. */
  close(): void {
    clearTimeout(this.#timer);
    if (this.#left.size > 0) this.#summarise();
  }

  #line(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, event: string): void {
    if (this.#budget.take(1, bootTimeMs()) === 1) return this.#logger[level](fields, event);
    this.#left.set(event, (this.#left.get(event) ?? 0) + 1);
    this.#timer ??= setTimeout(() => this.#summarise(), SUMMARY_MS).unref();
  }

  #summarise(): void {
    this.#timer = undefined;
    this.#logger.warn({ counts: Object.fromEntries(this.#left) }, 'address.more');
    this.#left = new Map();
  }
}
