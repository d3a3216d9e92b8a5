import type { Instant } from '../lib/time.ts';
import type { Effect } from './effects.ts';
import type { Endpoint, MemberName } from './types.ts';

/** Tables of claims that differ for so long are exchanged whole: gossip has had its time. */
const DIFFERENCE_MS = 300;
const EXCHANGE_PAUSE_MS = 1_000;

/** Two neighbours whose tables stay different exchange them, so that no claim is ever lost to lost packets. */
export class TableDifferences {
  readonly #out: Effect[];
  readonly #since = new Map<MemberName, { readonly since: Instant; exchangedAt: Instant | undefined }>();

  constructor(out: Effect[]) {
    this.#out = out;
  }

  /** A heartbeat of the member told of another table than this host's; `to` is where it is reached, as was just heard. */
  found(name: MemberName, to: Endpoint, now: Instant): void {
    const difference = this.#since.get(name);
    if (difference === undefined) {
      this.#since.set(name, { since: now, exchangedAt: undefined });
      return;
    }
    const { since, exchangedAt } = difference;
    if (now - since < DIFFERENCE_MS) return;
    if (exchangedAt !== undefined && now - exchangedAt < EXCHANGE_PAUSE_MS) return;
    difference.exchangedAt = now;
    this.#out.push({ kind: 'exchange', with: to });
  }

  /** They are the same, or the member is gone. */
  over(name: MemberName): void {
    if (this.#since.size > 0) this.#since.delete(name);
  }
}
