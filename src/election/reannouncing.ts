import type { Ip } from '../lib/ip.ts';
import { after, type Instant } from '../lib/time.ts';
import { MEMBER_LIMIT } from './member-table.ts';
import type { MemberName } from './types.ts';
import { WakeUps } from './wake-ups.ts';

/**
 * A member that was paused or cut off may announce, or defend, what another has taken over meanwhile. It lets go as
 * soon as it hears of that, but clients have learnt its hardware address: the owner announces once more then.
 */

/** After the member was heard. It lets go within 200 ms of waking; the later ones make up for lost frames. */
const ANNOUNCE_AFTER_MS: readonly number[] = [10, 250, 1_000];
/** Overflow: the further ones have the defence of iface alone. */
const ADDRESS_LIMIT = 16_384;

export class Reannouncing {
  readonly #stages = new Map<Ip, { readonly from: Instant; next: number }>();
  readonly #wakeUps = new WakeUps();
  readonly #takenFrom = new Map<MemberName, Set<Ip>>();

  /** This host took `ip` over from a member that was gone, and may have been only out of reach. */
  tookOver(ip: Ip, from: MemberName): void {
    const taken = this.#takenFrom.get(from);
    if (taken === undefined) {
      if (this.#takenFrom.size < MEMBER_LIMIT) this.#takenFrom.set(from, new Set([ip]));
    } else if (taken.size < ADDRESS_LIMIT) taken.add(ip);
  }

  /** That member is there again. */
  isBack(member: MemberName, now: Instant): void {
    const taken = this.#takenFrom.get(member);
    if (taken === undefined) return;
    this.#takenFrom.delete(member);
    for (const ip of taken) this.heard(ip, now);
  }

  /** A member that is not the owner said that it has `ip`, which this host owns. */
  heard(ip: Ip, now: Instant): void {
    // One round at a time: a member that keeps on saying so would keep the segment busy.
    if (this.#stages.has(ip) || this.#stages.size >= ADDRESS_LIMIT) return;
    this.#stages.set(ip, { from: now, next: 0 });
    this.#wakeUps.set(ip, after(now, ANNOUNCE_AFTER_MS[0] ?? 0));
  }

  /** Those to be announced now. */
  take(now: Instant): readonly Ip[] {
    const due = this.#wakeUps.take(now);
    for (const ip of due) {
      const stage = this.#stages.get(ip);
      if (stage === undefined) continue;
      stage.next += 1;
      const afterMs = ANNOUNCE_AFTER_MS[stage.next];
      if (afterMs === undefined) this.#stages.delete(ip);
      else this.#wakeUps.set(ip, after(stage.from, afterMs));
    }
    return due;
  }

  deadline(): Instant {
    return this.#wakeUps.deadline();
  }
}
