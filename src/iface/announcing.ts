import type { Ip } from '../lib/ip.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import { TokenBucket } from './token-bucket.ts';
import type { IfIndex } from './types.ts';

/**
 * Tells the segment where an address now is: gratuitous ARP in both forms, or an unsolicited neighbour
 * advertisement, at once and again over the first seconds, because a frame may be lost and because some hosts
 * believe only one of the two forms (RFC 5227 3, RFC 4861 7.2.6).
 */
export const ANNOUNCE_AT_MS: readonly number[] = [0, 100, 500, 1_500, 3_000];

const FIRST_FRAMES_PER_S = 5_000;
const REPEAT_FRAMES_PER_S = 1_000;
const BURST_FRAMES = 256;

type Schedule = { readonly ifIndex: IfIndex; readonly from: Instant; next: number };

export type Announcement = { readonly ifIndex: IfIndex; readonly ip: Ip };

export class Announcing {
  readonly #schedules = new Map<Ip, Schedule>();
  readonly #sent = new Map<Ip, number>();
  readonly #firsts = new TokenBucket(FIRST_FRAMES_PER_S, BURST_FRAMES);
  readonly #repeats = new TokenBucket(REPEAT_FRAMES_PER_S, BURST_FRAMES);

  /** Announces `ip` over the next seconds, from `now` on. */
  start(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    this.#schedules.set(ip, { ifIndex, from: now, next: 0 });
  }

  /** Announces `ip` once, for defence, unless a whole series is under way. */
  once(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    if (this.#schedules.has(ip)) return;
    const last = ANNOUNCE_AT_MS.length - 1;
    this.#schedules.set(ip, { ifIndex, from: after(now, -(ANNOUNCE_AT_MS[last] ?? 0)), next: last });
  }

  stop(ip: Ip): void {
    this.#schedules.delete(ip);
    this.#sent.delete(ip);
  }

  /** How often `ip` was announced since it was taken. */
  count(ip: Ip): number {
    return this.#sent.get(ip) ?? 0;
  }

  /** What is due and affordable: first announcements before repeats, as a newcomer's clients are waiting. */
  advance(now: Instant): readonly Announcement[] {
    const announcements: Announcement[] = [];
    for (const [ip, schedule] of this.#schedules) {
      if (dueAt(schedule) > now) continue;
      const budget = schedule.next === 0 ? this.#firsts : this.#repeats;
      if (budget.take(1, now) === 0) continue;
      announcements.push({ ifIndex: schedule.ifIndex, ip });
      this.#sent.set(ip, this.count(ip) + 1);
      schedule.next += 1;
      if (schedule.next === ANNOUNCE_AT_MS.length) this.#schedules.delete(ip);
    }
    return announcements;
  }

  deadline(): Instant {
    let first: Instant = NEVER;
    for (const schedule of this.#schedules.values()) {
      const affordable = (schedule.next === 0 ? this.#firsts : this.#repeats).readyAt(1);
      const due = dueAt(schedule);
      const at = affordable !== NEVER && affordable > due ? affordable : due;
      if (at < first) first = at;
    }
    return first;
  }
}

function dueAt(schedule: Schedule): Instant {
  return after(schedule.from, ANNOUNCE_AT_MS[schedule.next] ?? 0);
}
