import type { Ip } from '../../../src/lib/ip.ts';
import { type HostId, Judge } from './judge.ts';
import type { Lan, PortId } from './lan.ts';

/** Something that lasts, and how long it did at most. */
type Spell = { since: number | undefined; longestMs: number };

/**
 * A machine that uses the addresses: its judge sees who would answer an ARP request of it at every instant, and its
 * neighbour cache who gets its packets, which is the last that announced.
 */
export class Client {
  readonly port: PortId;
  readonly judge: Judge;
  readonly #now: () => number;
  readonly #cache = new Map<Ip, HostId>();
  readonly #unserved = new Map<Ip, Spell>();
  readonly #stale = new Map<Ip, Spell>();

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
    const { answering } = this.judge.record(ip);
    const isServed = answering.has(host);
    this.#spell(this.#unserved, ip, !isServed);
    this.#spell(this.#stale, ip, !isServed && answering.size > 0);
  }

  #spell(spells: Map<Ip, Spell>, ip: Ip, lasts: boolean): void {
    let spell = spells.get(ip);
    if (spell === undefined) {
      spell = { since: undefined, longestMs: 0 };
      spells.set(ip, spell);
    }
    if (lasts) spell.since ??= this.#now();
    else if (spell.since !== undefined) {
      spell.longestMs = Math.max(spell.longestMs, this.#now() - spell.since);
      spell.since = undefined;
    }
  }

  /** The longest time that packets to the cached MAC were lost, one that still lasts included. */
  longestUnservedMs(ip: Ip): number {
    return this.#longest(this.#unserved.get(ip));
  }

  /** The longest time that somebody answered for it, and the cache still had another. */
  longestStaleMs(ip: Ip): number {
    return this.#longest(this.#stale.get(ip));
  }

  #longest(spell: Spell | undefined): number {
    if (spell === undefined) return Number.POSITIVE_INFINITY;
    return spell.since === undefined ? spell.longestMs : Math.max(spell.longestMs, this.#now() - spell.since);
  }

  /** Whether the cached MAC answers now. */
  isServed(ip: Ip): boolean {
    const state = this.#unserved.get(ip);
    return state !== undefined && state.since === undefined;
  }

  reset(): void {
    this.judge.reset();
    const now = this.#now();
    for (const spells of [this.#unserved, this.#stale]) {
      for (const spell of spells.values()) {
        spell.longestMs = 0;
        if (spell.since !== undefined) spell.since = now;
      }
    }
  }
}
