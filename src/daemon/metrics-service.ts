import type { MetricsConfig } from '../config/types.ts';
import type { AddressStatus } from '../iface/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import { collectMetrics, type MetricSources } from './metrics.ts';
import { MetricsServer } from './metrics-server.ts';
import { formatMetrics } from './metrics-text.ts';
import { RuntimeMonitor } from './runtime-figures.ts';

type Counted = 'runtime' | 'addressEvents' | 'announcements';

export type MetricsServiceOptions = {
  readonly listen: NonNullable<MetricsConfig['listen']>;
  readonly logger: Logger;
  /** The snapshots, at the time of a scrape. */
  readonly sources: () => Omit<MetricSources, Counted>;
};

/** What only metrics need: the server, the measure of the event loop, and totals that nothing else keeps. */
export class MetricsService {
  readonly #runtime = new RuntimeMonitor();
  readonly #server: MetricsServer;
  readonly #addressEvents = new Map<string, number>();
  readonly #announcements = new Announcements();

  constructor({ listen, logger, sources }: MetricsServiceOptions) {
    this.#server = new MetricsServer({
      ...listen,
      logger,
      text: () => {
        const known = sources();
        return formatMetrics(
          collectMetrics({
            ...known,
            runtime: this.#runtime.figures(),
            addressEvents: this.#addressEvents,
            announcements: this.#announcements.total(known.addresses),
          }),
        );
      },
    });
  }

  start(): void {
    this.#server.start();
  }

  /** Why nobody can scrape now. */
  problems(): readonly string[] {
    return this.#server.problem === undefined ? [] : [this.#server.problem];
  }

  /** Something happened to an address; `event` is one of few words. */
  count(event: string): void {
    this.#addressEvents.set(event, (this.#addressEvents.get(event) ?? 0) + 1);
  }

  async close(): Promise<void> {
    this.#runtime.close();
    await this.#server.close();
  }
}

/** A total that never falls, from counts that go with their addresses. */
export class Announcements {
  #total = 0;
  /** Bounded by the addresses of this host. */
  #last: ReadonlyMap<Ip, number> = new Map();

  /** What is announced between two calls for an address that is gone at the second is not in it. */
  total(addresses: readonly AddressStatus[]): number {
    for (const { ip, announcements } of addresses) {
      const before = this.#last.get(ip) ?? 0;
      this.#total += announcements >= before ? announcements - before : announcements;
    }
    this.#last = new Map(addresses.map(({ ip, announcements }) => [ip, announcements]));
    return this.#total;
  }
}
