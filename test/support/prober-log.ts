/** What can be read from the answers to a prober's questions about one address. Pure. */

/** One answer. Times are `labTimeMs`; `atMs` is the kernel's own timestamp of the packet. */
export type Answer = {
  readonly atMs: number;
  readonly mac: string;
  /** The latest question before the answer, counted from 0, and when it was sent. */
  readonly probe: number;
  readonly sentAtMs: number;
};

/** Without an end, the first or the last answer bounds it. */
export type TimeWindow = { readonly fromMs?: number; readonly toMs?: number };

export type Gap = { readonly ms: number; readonly fromMs: number; readonly toMs: number };

/** A time in which one MAC answered without a longer pause. */
export type Tenure = {
  readonly mac: string;
  readonly firstMs: number;
  readonly lastMs: number;
  readonly answers: number;
};

export type Duplicates = {
  /** Questions that more than one MAC answered. */
  readonly probes: number;
  /** For how long two MACs answered at once, all such times together; exact to the interval of the questions. */
  readonly overlapMs: number;
};

/** The longest time without an answer in the window; undefined when there are not two points to measure between. */
export function longestGap(answers: readonly Answer[], window: TimeWindow = {}): Gap | undefined {
  const { fromMs = Number.NEGATIVE_INFINITY, toMs = Number.POSITIVE_INFINITY } = window;
  const times = answers.map(({ atMs }) => atMs).filter((atMs) => atMs >= fromMs && atMs <= toMs);
  const points = [window.fromMs, ...times, window.toMs].filter((point) => point !== undefined);
  let longest: Gap | undefined;
  for (const [index, at] of points.entries()) {
    const next = points[index + 1];
    if (next !== undefined && next - at > (longest?.ms ?? -1)) {
      longest = { ms: next - at, fromMs: at, toMs: next };
    }
  }
  return longest;
}

/** Who answered from when to when, by first answer. A MAC that is silent for `pauseMs` begins a new tenure. */
export function tenures(answers: readonly Answer[], pauseMs: number): readonly Tenure[] {
  const ended: Tenure[] = [];
  const current = new Map<string, Tenure>();
  for (const { atMs, mac } of answers) {
    const running = current.get(mac);
    if (running !== undefined && atMs - running.lastMs <= pauseMs) {
      current.set(mac, { ...running, lastMs: atMs, answers: running.answers + 1 });
      continue;
    }
    if (running !== undefined) ended.push(running);
    current.set(mac, { mac, firstMs: atMs, lastMs: atMs, answers: 1 });
  }
  return [...ended, ...current.values()].sort((left, right) => left.firstMs - right.firstMs);
}

export function duplicates(answers: readonly Answer[], pauseMs: number): Duplicates {
  const macsOfProbe = new Map<number, Set<string>>();
  for (const { probe, mac } of answers) {
    const macs = macsOfProbe.get(probe) ?? new Set();
    macsOfProbe.set(probe, macs.add(mac));
  }
  const probes = [...macsOfProbe.values()].filter((macs) => macs.size > 1).length;
  return { probes, overlapMs: overlap(tenures(answers, pauseMs)) };
}

function overlap(all: readonly Tenure[]): number {
  let total = 0;
  for (const [index, one] of all.entries()) {
    for (const other of all.slice(index + 1)) {
      if (one.mac === other.mac) continue;
      const shared = Math.min(one.lastMs, other.lastMs) - Math.max(one.firstMs, other.firstMs);
      total += Math.max(0, shared);
    }
  }
  return total;
}
