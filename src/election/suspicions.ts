import { after, type Instant } from '../lib/time.ts';
import { Deadlines } from './deadlines.ts';
import type { Suspicion } from './suspicion.ts';
import type { MemberName } from './types.ts';

/** How often a suspect is asked, directly and through others, before it is declared dead, over one probe timeout. */
const LAST_CHANCE_PINGS = 2;

export type SuspicionStep =
  | { readonly kind: 'last-chance'; readonly name: MemberName; readonly suspicion: Suspicion }
  | { readonly kind: 'over'; readonly name: MemberName; readonly suspicion: Suspicion };

/**
 * Everybody who is suspect here, by when something is to be done about it.
 *
 *   waiting ──endsAt - chanceMs──► last-chance ping, again after half of it ──endsAt, at least chanceMs later──► over
 */
export class Suspicions {
  readonly #all = new Map<MemberName, Suspicion>();
  readonly #deadlines = new Deadlines<MemberName>();

  get(name: MemberName): Suspicion | undefined {
    return this.#all.get(name);
  }

  /** Whose last chance has that number. */
  askedWith(seq: number): { readonly name: MemberName; readonly suspicion: Suspicion } | undefined {
    for (const [name, suspicion] of this.#all) if (suspicion.askedSeq === seq) return { name, suspicion };
    return undefined;
  }

  /** Begins, or looks again at, the suspicion of `name`. */
  set(name: MemberName, suspicion: Suspicion, chanceMs: number): void {
    this.#all.set(name, suspicion);
    if (suspicion.asked === 0) this.#deadlines.set(name, after(suspicion.endsAt(), -chanceMs));
  }

  delete(name: MemberName): void {
    if (this.#all.delete(name)) this.#deadlines.delete(name);
  }

  clear(): void {
    for (const name of [...this.#all.keys()]) this.delete(name);
  }

  shift(ms: number): void {
    if (this.#all.size === 0) return;
    for (const suspicion of this.#all.values()) suspicion.shift(ms);
    this.#deadlines.shift(ms);
  }

  deadline(): Instant {
    return this.#deadlines.first();
  }

  /** What is to be done at `now`; to be called until there is nothing. Who is `over` is suspect here no more. */
  step(now: Instant, chanceMs: number): SuspicionStep | undefined {
    const name = this.#deadlines.takeDue(now);
    if (name === undefined) return undefined;
    const suspicion = this.#all.get(name);
    if (suspicion === undefined) return undefined;
    if (suspicion.asked >= LAST_CHANCE_PINGS) {
      this.#all.delete(name);
      return { kind: 'over', name, suspicion };
    }
    suspicion.asked += 1;
    const pauseMs = chanceMs / LAST_CHANCE_PINGS;
    this.#deadlines.set(name, after(now, pauseMs));
    return { kind: 'last-chance', name, suspicion };
  }
}
