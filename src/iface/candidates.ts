import type { Ip } from '../lib/ip.ts';
import { earliest, type Instant, instant, NEVER } from '../lib/time.ts';
import type { NicSelection } from './nic-selection.ts';
import type { Probing } from './probing.ts';

/**
 * The free addresses that a Service might get next, asked about ahead of time so that the question costs a new
 * Service nothing; and those that somebody answered for, asked about again until they are free.
 */
export class Candidates {
  readonly #probing: Probing;
  readonly #select: (ip: Ip) => NicSelection;
  #wanted: ReadonlySet<Ip> = new Set();
  #lookAt: Instant = NEVER;

  constructor(probing: Probing, select: (ip: Ip) => NicSelection) {
    this.#probing = probing;
    this.#select = select;
  }

  replace(wanted: readonly Ip[]): void {
    this.#wanted = new Set(wanted);
    this.#lookAt = instant(0);
  }

  has(ip: Ip): boolean {
    return this.#wanted.has(ip);
  }

  /** Something changed that may make questions due. */
  look(now: Instant): void {
    this.#lookAt = earliest(this.#lookAt, now);
  }

  /** Asks what is due; `isPursued` tells the addresses that are already on their way to be held. */
  advance(now: Instant, isPursued: (ip: Ip) => boolean): void {
    if (this.#lookAt > now) return;
    const interesting = new Set(this.#wanted);
    for (const [ip] of this.#probing.conflicts()) interesting.add(ip);
    this.#lookAt = NEVER;
    for (const ip of interesting) {
      if (isPursued(ip)) continue;
      const selection = this.#select(ip);
      if (selection.kind !== 'nic') continue;
      if (this.#probing.isDue(ip, now)) this.#probing.request(ip, selection.nic.ifIndex, now);
      this.#lookAt = earliest(this.#lookAt, this.#probing.dueAt(ip));
    }
  }

  deadline(): Instant {
    return this.#lookAt;
  }
}
