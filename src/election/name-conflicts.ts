import { after, type Instant } from '../lib/time.ts';
import type { Endpoint, MemberName } from './types.ts';

/** A name that goes back to an endpoint that it left so recently is used by two hosts; one host that moves does not. */
export const MOVED_BACK_MS = 60_000;
/** Overflow: the move longest ago is forgotten. */
const MOVES_LIMIT = 256;

type Move = { readonly from: Endpoint; readonly at: Instant; reportedAt: Instant | undefined };

/** Tells two hosts of one name from one host that got another address. */
export class NameConflicts {
  readonly #moves = new Map<MemberName, Move>();

  /** `name`, alive, is at another endpoint than before. Both endpoints if they are two hosts and that is news. */
  moved(
    name: MemberName,
    from: Endpoint,
    to: Endpoint,
    now: Instant,
  ): readonly [Endpoint, Endpoint] | undefined {
    const before = this.#moves.get(name);
    const back =
      before !== undefined && sameEndpoint(before.from, to) && now < after(before.at, MOVED_BACK_MS);
    const quiet = before?.reportedAt !== undefined && now < after(before.reportedAt, MOVED_BACK_MS);
    const reportedAt = back && !quiet ? now : before?.reportedAt;
    this.#moves.delete(name);
    this.#moves.set(name, { from, at: now, reportedAt });
    if (this.#moves.size > MOVES_LIMIT) this.#forgetOldest();
    return back && !quiet ? [from, to] : undefined;
  }

  #forgetOldest(): void {
    const oldest = this.#moves.keys().next();
    if (oldest.done !== true) this.#moves.delete(oldest.value);
  }
}

export function sameEndpoint(one: Endpoint, other: Endpoint): boolean {
  return one.ip === other.ip && one.port === other.port;
}
