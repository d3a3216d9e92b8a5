import type { Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { Alarms } from './alarms.ts';
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

type Schedule = { readonly ifIndex: IfIndex; readonly from: Instant; readonly next: number };

export type Announcement = { readonly ifIndex: IfIndex; readonly ip: Ip };

export class Announcing {
  readonly #schedules = new Map<Ip, Schedule>();
  /** When each is due, first announcements apart from repeats, as each kind has a budget of its own. */
  readonly #dueFirsts = new Alarms<Ip>();
  readonly #dueRepeats = new Alarms<Ip>();
  readonly #sent = new Map<Ip, number>();
  readonly #firsts = new TokenBucket(FIRST_FRAMES_PER_S, BURST_FRAMES);
  readonly #repeats = new TokenBucket(REPEAT_FRAMES_PER_S, BURST_FRAMES);

  /** Announces `ip` over the next seconds, from `now` on. */
  start(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    this.#schedule(ip, { ifIndex, from: now, next: 0 });
  }

  /** Announces `ip` once, for defence, unless a whole series is under way. */
  once(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    if (this.#schedules.has(ip)) return;
    const last = ANNOUNCE_AT_MS.length - 1;
    this.#schedule(ip, { ifIndex, from: after(now, -(ANNOUNCE_AT_MS[last] ?? 0)), next: last });
  }

  /** Announces it no more for now. */
  quiet(ip: Ip): void {
    this.#unschedule(ip);
  }

  stop(ip: Ip): void {
    this.#unschedule(ip);
    this.#sent.delete(ip);
  }

  /** How often `ip` was announced since it was taken. */
  count(ip: Ip): number {
    return this.#sent.get(ip) ?? 0;
  }

  /** What is due and affordable: first announcements before repeats, as a newcomer's clients are waiting. */
  advance(now: Instant): readonly Announcement[] {
    const firsts = this.#take(this.#dueFirsts, this.#firsts, now);
    const repeats = this.#take(this.#dueRepeats, this.#repeats, now);
    return [...firsts, ...repeats].map(([ip, schedule]) => {
      this.#sent.set(ip, this.count(ip) + 1);
      // Only now: what a late call missed is made up for one announcement at a time.
      if (schedule.next < ANNOUNCE_AT_MS.length - 1)
        this.#schedule(ip, { ...schedule, next: schedule.next + 1 });
      return { ifIndex: schedule.ifIndex, ip };
    });
  }

  deadline(): Instant {
    return earliest(
      affordableAt(this.#dueFirsts, this.#firsts),
      affordableAt(this.#dueRepeats, this.#repeats),
    );
  }

  /** Those due and affordable, which are scheduled no more. */
  #take(due: Alarms<Ip>, budget: TokenBucket, now: Instant): readonly (readonly [Ip, Schedule])[] {
    const taken: (readonly [Ip, Schedule])[] = [];
    for (let ip = due.peekDue(now); ip !== undefined; ip = due.peekDue(now)) {
      const schedule = this.#schedules.get(ip);
      if (schedule === undefined || budget.take(1, now) === 0) break;
      this.#unschedule(ip);
      taken.push([ip, schedule]);
    }
    return taken;
  }

  #schedule(ip: Ip, schedule: Schedule): void {
    this.#unschedule(ip);
    this.#schedules.set(ip, schedule);
    const due = schedule.next === 0 ? this.#dueFirsts : this.#dueRepeats;
    due.set(ip, after(schedule.from, ANNOUNCE_AT_MS[schedule.next] ?? 0));
  }

  #unschedule(ip: Ip): void {
    this.#schedules.delete(ip);
    this.#dueFirsts.cancel(ip);
    this.#dueRepeats.cancel(ip);
  }
}

function affordableAt(due: Alarms<Ip>, budget: TokenBucket): Instant {
  const first = due.first();
  const affordable = first === NEVER ? NEVER : budget.readyAt(1);
  return affordable !== NEVER && affordable > first ? affordable : first;
}
