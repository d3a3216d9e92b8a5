import { type Instant, NEVER } from '../lib/time.ts';
import { bootTimeMs } from './clock.ts';

/** setTimeout takes 31 bits of milliseconds; a later instant is simply looked at again then. */
const TIMER_MAX_MS = 0x7fff_ffff;
/** A timer fires up to 1 ms early by its own rounding; waking before the instant would only spin. */
const TIMER_ROUNDING_MS = 1;

/**
 * Wakes its owner at an instant of the boot-time clock, after the sockets were read: what waits in one is no silence. It may
 * wake early, when the instant is weeks away or the turn of the event loop was long; the owner looks at the clock, and sets it anew.
 */
export class DueTimer {
  readonly #onDue: () => void;
  #at: Instant = NEVER;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;

  constructor(onDue: () => void) {
    this.#onDue = onDue;
  }

  /** For when it was last set. */
  get at(): Instant {
    return this.#at;
  }

  /** In place of what was set before; NEVER: not at all. Whoever is to be woken in this very turn is woken all the same. */
  set(at: Instant): void {
    if (at === this.#at && this.#timer !== undefined) return;
    this.#at = at;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (at === NEVER) return;
    const pause = Math.min(TIMER_MAX_MS, Math.max(0, at - bootTimeMs()));
    this.#timer = setTimeout(() => this.#fired(), pause + (pause > 0 ? TIMER_ROUNDING_MS : 0));
  }

  /** Wakes nobody any more. */
  close(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#timer = undefined;
    this.#immediate = undefined;
    this.#at = NEVER;
  }

  #fired(): void {
    this.#timer = undefined;
    this.#immediate ??= setImmediate(() => {
      this.#immediate = undefined;
      this.#onDue();
    });
  }
}
