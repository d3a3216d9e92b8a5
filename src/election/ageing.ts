import type { Ip } from '../lib/ip.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Holdings } from './holdings.ts';
import type { MemberName } from './types.ts';

/**
 * What becomes of claims on addresses that no Service has any more. Their owners release them; of one that is gone for
 * long, whoever sees it does, with the same next epoch. Released claims are forgotten a day later, each host for itself.
 *
 * To forget cannot bring an old claim back: a first claim on an address goes above every release that is known
 * (`Claims.floor`), and the highest release is never forgotten, so that hosts that join learn it. What a host that was
 * away for long still believes to own is below, whatever became of the address meanwhile.
 */

/** So long after a claim was heard of it is looked at. */
export const AGED_MS = 24 * 3_600_000;
export const LOOK_EVERY_MS = 3_600_000;

export type AgeingHost = {
  readonly holdings: Holdings;
  /** Undefined while what Services have is not known for sure. */
  readonly isWanted: () => ((ip: Ip) => boolean) | undefined;
  readonly isGone: (owner: MemberName) => boolean;
};

export class Ageing {
  readonly #host: AgeingHost;
  #lookAt: Instant = NEVER;

  constructor(host: AgeingHost) {
    this.#host = host;
  }

  /** There may be claims. */
  wake(now: Instant): void {
    if (this.#lookAt === NEVER && this.#host.holdings.claims.size > 0)
      this.#lookAt = after(now, LOOK_EVERY_MS);
  }

  deadline(): Instant {
    return this.#lookAt;
  }

  advance(now: Instant): void {
    if (now < this.#lookAt) return;
    this.#lookAt = NEVER;
    const isWanted = this.#host.isWanted();
    if (isWanted === undefined) return;
    const { holdings, isGone } = this.#host;
    const aged = after(now, -AGED_MS);
    for (const { ip, owner } of holdings.claims.until(aged)) {
      if (isWanted(ip)) continue;
      if (owner === undefined) holdings.claims.forget(ip);
      else if (isGone(owner)) holdings.release(ip, now);
    }
  }
}
