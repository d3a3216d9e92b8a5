/** What the server counts: requests, its own time for each, open watches. */

/** Latest requests kept one by one; older ones only count in the totals. */
const RECENT_LIMIT = 20_000;

export interface RequestRecord {
  /** Wall clock, ms, when the whole request had arrived. */
  readonly receivedAtMs: number;
  readonly verb: string;
  /** With the subresource: `services/status`. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly user: string;
  readonly code: number;
  /** From the request fully received to the response handed to the socket, ms. Faults' delays not included. */
  readonly serverMs: number;
}

export interface Totals {
  count: number;
  serverMsSum: number;
  serverMsMax: number;
}

export interface Stats {
  readonly requests: Readonly<Record<string, Totals>>;
  readonly codes: Readonly<Record<string, number>>;
  readonly openWatches: number;
  readonly peakOpenWatches: number;
  readonly watchEvents: number;
  readonly recent: readonly RequestRecord[];
  /** CPU time of the whole process, ms, user and system. */
  readonly processCpuMs: number;
  readonly resourceVersion: number;
}

export class StatsCounter {
  private requests: Record<string, Totals> = {};
  private codes: Record<string, number> = {};
  private recent: RequestRecord[] = [];
  private peak = 0;
  watchEvents = 0;

  /** Clears everything counted so far, except watches that are open. */
  reset(openWatches: number): void {
    this.requests = {};
    this.codes = {};
    this.recent = [];
    this.peak = openWatches;
    this.watchEvents = 0;
  }

  request(record: RequestRecord): void {
    const key = `${record.verb} ${record.resource}`;
    const totals = this.requests[key] ?? { count: 0, serverMsSum: 0, serverMsMax: 0 };
    totals.count += 1;
    totals.serverMsSum += record.serverMs;
    totals.serverMsMax = Math.max(totals.serverMsMax, record.serverMs);
    this.requests[key] = totals;
    this.codes[record.code] = (this.codes[record.code] ?? 0) + 1;
    this.recent.push(record);
    if (this.recent.length > RECENT_LIMIT * 1.25) this.recent = this.recent.slice(-RECENT_LIMIT);
  }

  watches(open: number): void {
    this.peak = Math.max(this.peak, open);
  }

  snapshot(openWatches: number, resourceVersion: number): Stats {
    const cpu = process.cpuUsage();
    return {
      requests: structuredClone(this.requests),
      codes: { ...this.codes },
      openWatches,
      peakOpenWatches: this.peak,
      watchEvents: this.watchEvents,
      recent: this.recent.slice(-RECENT_LIMIT),
      processCpuMs: (cpu.user + cpu.system) / 1000,
      resourceVersion,
    };
  }
}
