import { after, earliest, type Instant, NEVER } from '../lib/time.ts';

/**
 * How soon a thing of lbd's is put right again: the first time at once, and each time twice as late when somebody undoes
 * it right away, so that two programs at war do not burn the host. After a repair that lasted, the next is at once again.
 */

const PAUSE_FIRST_MS = 50;
const PAUSE_LAST_MS = 1_000;
/** Undone so soon after a repair, beyond the time that the next has to wait, is right away. */
const UNDONE_MS = 100;

/** The last repair of a thing: when it was done, and how long after it the next one waits. */
export type Repaired = { readonly at: Instant; readonly pauseMs: number };

/** A thing whose last repair was `last`, if any, was put right once more. */
export function repairedAgain(last: Repaired | undefined, now: Instant): Repaired {
  const pauseMs = last === undefined || hasLasted(last, now) ? PAUSE_FIRST_MS : 2 * last.pauseMs;
  return { at: now, pauseMs: Math.min(PAUSE_LAST_MS, pauseMs) };
}

export function nextRepairAt({ at, pauseMs }: Repaired): Instant {
  return after(at, pauseMs);
}

function hasLasted({ at, pauseMs }: Repaired, now: Instant): boolean {
  return now > after(at, 2 * pauseMs + UNDONE_MS);
}

/** Of several things by their keys; bounded by those that were repaired within the last two seconds or so. */
export class RepairPace {
  readonly #repaired = new Map<string, Repaired>();

  dueAt(key: string): Instant | undefined {
    const last = this.#repaired.get(key);
    return last === undefined ? undefined : nextRepairAt(last);
  }

  /** `key` was put right. */
  count(key: string, now: Instant): void {
    this.#repaired.set(key, repairedAgain(this.#repaired.get(key), now));
    for (const [each, repaired] of this.#repaired) if (hasLasted(repaired, now)) this.#repaired.delete(each);
  }

  /** Those of `items` that may be put right now, and when the next of the others may. */
  due<Item>(
    items: readonly Item[],
    keyOf: (item: Item) => string,
    now: Instant,
  ): { readonly due: readonly Item[]; readonly nextAt: Instant } {
    let nextAt: Instant = NEVER;
    const due = items.filter((item) => {
      const at = this.dueAt(keyOf(item));
      if (at === undefined || at <= now) return true;
      nextAt = earliest(nextAt, at);
      return false;
    });
    return { due, nextAt };
  }
}
