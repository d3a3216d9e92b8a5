import type { Ip } from '../../../src/lib/ip.ts';

/**
 * What clients would see, at every instant: which hosts answer for an address, for how long none did and for how long two
 * did. It needs no probes, as it is told of every change of what answers.
 */

export type HostId = number;

export type AddressRecord = {
  /** Hosts that answer now. */
  readonly answering: Set<HostId>;
  /** Since when nobody, or more than one, answers; undefined when exactly one does. */
  gapSince: number | undefined;
  doubleSince: number | undefined;
  longestGapMs: number;
  longestDoubleMs: number;
  /** How often the address went from one host to another. */
  moves: number;
  last: HostId | undefined;
  /** When it last began to be answered after a gap. */
  answeredAt: number;
};

export class Judge {
  readonly #now: () => number;
  readonly #records = new Map<Ip, AddressRecord>();
  /** While set, gaps and doubles count. */
  #since = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Forgets everything that was, keeps what is: a scenario's measurement begins. */
  reset(): void {
    this.#since = this.#now();
    for (const record of this.#records.values()) {
      record.longestGapMs = 0;
      record.longestDoubleMs = 0;
      record.moves = 0;
      if (record.gapSince !== undefined) record.gapSince = this.#since;
      if (record.doubleSince !== undefined) record.doubleSince = this.#since;
    }
  }

  record(ip: Ip): AddressRecord {
    let record = this.#records.get(ip);
    if (record === undefined) {
      record = {
        answering: new Set(),
        gapSince: this.#since,
        doubleSince: undefined,
        longestGapMs: 0,
        longestDoubleMs: 0,
        moves: 0,
        last: undefined,
        answeredAt: Number.NaN,
      };
      this.#records.set(ip, record);
    }
    return record;
  }

  answers(ip: Ip, host: HostId, does: boolean): void {
    const record = this.record(ip);
    if (record.answering.has(host) === does) return;
    const now = this.#now();
    if (does) {
      record.answering.add(host);
      if (record.last !== undefined && record.last !== host) record.moves += 1;
      record.last = host;
    } else record.answering.delete(host);
    const count = record.answering.size;
    if (count === 0) record.gapSince = now;
    else if (record.gapSince !== undefined) {
      record.longestGapMs = Math.max(record.longestGapMs, now - record.gapSince);
      record.gapSince = undefined;
      record.answeredAt = now;
    }
    if (count > 1) record.doubleSince ??= now;
    else if (record.doubleSince !== undefined) {
      record.longestDoubleMs = Math.max(record.longestDoubleMs, now - record.doubleSince);
      record.doubleSince = undefined;
    }
  }

  /** The longest time without an answer since `reset()`, one that still lasts included. */
  longestGapMs(ip: Ip): number {
    const { longestGapMs, gapSince } = this.record(ip);
    return gapSince === undefined ? longestGapMs : Math.max(longestGapMs, this.#now() - gapSince);
  }

  /** The longest time with two answering since `reset()`, one that still lasts included. */
  longestDoubleMs(ip: Ip): number {
    const { longestDoubleMs, doubleSince } = this.record(ip);
    return doubleSince === undefined ? longestDoubleMs : Math.max(longestDoubleMs, this.#now() - doubleSince);
  }

  addresses(): Iterable<Ip> {
    return this.#records.keys();
  }

  /** Who answers now, if exactly one does. */
  holder(ip: Ip): HostId | undefined {
    const { answering } = this.record(ip);
    return answering.size === 1 ? [...answering][0] : undefined;
  }
}
