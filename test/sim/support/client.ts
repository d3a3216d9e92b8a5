import type { Ip } from '../../../src/lib/ip.ts';
import { type HostId, Judge } from './judge.ts';
import type { Lan, PortId } from './lan.ts';

/**
 * A machine that uses the addresses: its judge sees who would answer an ARP request of it at every instant, and its
 * neighbour cache who gets its packets, which is the last that announced.
 */
export class Client {
  readonly port: PortId;
  readonly judge: Judge;
  readonly #now: () => number;
  readonly #cache = new Map<Ip, HostId>();
  readonly #unserved = new Map<Ip, { since: number | undefined; longestMs: number }>();

  constructor(lan: Lan, now: () => number) {
    this.port = lan.addPort();
    this.judge = new Judge(now);
    this.#now = now;
  }

  /** An announcement, or an answer, came through. */
  heard(ip: Ip, host: HostId): void {
    this.#cache.set(ip, host);
    this.look(ip);
  }

  /** The host's entry in the cache is right or wrong from now on. */
  look(ip: Ip): void {
    const host = this.#cache.get(ip);
    if (host === undefined) return;
    const served = this.judge.record(ip).answering.has(host);
    const state = this.#unserved.get(ip) ?? { since: undefined, longestMs: 0 };
    this.#unserved.set(ip, state);
    if (!served) state.since ??= this.#now();
    else if (state.since !== undefined) {
      state.longestMs = Math.max(state.longestMs, this.#now() - state.since);
      state.since = undefined;
    }
  }

  /** The longest time that packets to the cached MAC were lost, one that still lasts included. */
  longestUnservedMs(ip: Ip): number {
    const state = this.#unserved.get(ip);
    if (state === undefined) return Number.POSITIVE_INFINITY;
    return state.since === undefined ? state.longestMs : Math.max(state.longestMs, this.#now() - state.since);
  }

  /** Whether the cached MAC answers now. */
  isServed(ip: Ip): boolean {
    const state = this.#unserved.get(ip);
    return state !== undefined && state.since === undefined;
  }

  reset(): void {
    this.judge.reset();
    const now = this.#now();
    for (const state of this.#unserved.values()) {
      state.longestMs = 0;
      if (state.since !== undefined) state.since = now;
    }
  }
}
