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

const FRAMES_PER_S: Readonly<Record<Lane, number>> = { first: 5_000, correction: 2_000, repeat: 1_000 };
const BURST_FRAMES = 256;

/** A newcomer's clients wait for the first; those of a correction have just been told something else. */
type Lane = 'first' | 'correction' | 'repeat';

type Schedule = {
  readonly ifIndex: IfIndex;
  readonly from: Instant;
  readonly next: number;
  readonly lane: Lane;
};

export type Announcement = { readonly ifIndex: IfIndex; readonly ip: Ip };

export class Announcing {
  readonly #schedules = new Map<Ip, Schedule>();
  /** When each is due: a lane has a budget of its own, so that none waits for another. */
  readonly #lanes: Readonly<Record<Lane, { readonly due: Alarms<Ip>; readonly budget: TokenBucket }>> = {
    first: newLane('first'),
    correction: newLane('correction'),
    repeat: newLane('repeat'),
  };
  readonly #sent = new Map<Ip, number>();

  /** Announces `ip` over the next seconds, from `now` on. */
  start(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    this.#schedule(ip, { ifIndex, from: now, next: 0, lane: 'first' });
  }

  /** Announces `ip` once, at `at`, unless a whole series is under way. */
  once(ip: Ip, ifIndex: IfIndex, at: Instant): void {
    if (this.#schedules.has(ip)) return;
    const next = ANNOUNCE_AT_MS.length - 1;
    this.#schedule(ip, { ifIndex, from: after(at, -(ANNOUNCE_AT_MS[next] ?? 0)), next, lane: 'correction' });
  }

  /** Announces `ip` over the next seconds anew, as clients have heard something else. */
  again(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    if (this.#schedules.get(ip)?.lane === 'first') return;
    this.#schedule(ip, { ifIndex, from: now, next: 0, lane: 'correction' });
  }

  /** Announces it no more for now; a newcomer is announced all the same. */
  quiet(ip: Ip): void {
    if (this.#schedules.get(ip)?.lane !== 'first') this.#unschedule(ip);
  }

  stop(ip: Ip): void {
    this.#unschedule(ip);
    this.#sent.delete(ip);
  }

  /** How often `ip` was announced since it was taken. */
  count(ip: Ip): number {
    return this.#sent.get(ip) ?? 0;
  }

  /** What is due and affordable: first announcements before corrections before repeats. */
  advance(now: Instant): readonly Announcement[] {
    const { first, correction, repeat } = this.#lanes;
    const taken: (readonly [Ip, Schedule])[] = [];
    for (const { due, budget } of [first, correction, repeat]) this.#take(due, budget, now, taken);
    return taken.map(([ip, schedule]) => {
      this.#sent.set(ip, this.count(ip) + 1);
      // Only now: what a late call missed is made up for one announcement at a time.
      if (schedule.next < ANNOUNCE_AT_MS.length - 1)
        this.#schedule(ip, { ...schedule, next: schedule.next + 1, lane: 'repeat' });
      return { ifIndex: schedule.ifIndex, ip };
    });
  }

  deadline(): Instant {
    const { first, correction, repeat } = this.#lanes;
    return earliest(
      affordableAt(first.due, first.budget),
      affordableAt(correction.due, correction.budget),
      affordableAt(repeat.due, repeat.budget),
    );
  }

  /** Adds those due and affordable, which are scheduled no more. */
  #take(due: Alarms<Ip>, budget: TokenBucket, now: Instant, taken: (readonly [Ip, Schedule])[]): void {
    for (let ip = due.peekDue(now); ip !== undefined; ip = due.peekDue(now)) {
      const schedule = this.#schedules.get(ip);
      if (schedule === undefined || budget.take(1, now) === 0) break;
      this.#unschedule(ip);
      taken.push([ip, schedule]);
    }
  }

  #schedule(ip: Ip, schedule: Schedule): void {
    this.#unschedule(ip);
    this.#schedules.set(ip, schedule);
    this.#lanes[schedule.lane].due.set(ip, after(schedule.from, ANNOUNCE_AT_MS[schedule.next] ?? 0));
  }

  #unschedule(ip: Ip): void {
    const schedule = this.#schedules.get(ip);
    if (schedule === undefined) return;
    this.#schedules.delete(ip);
    this.#lanes[schedule.lane].due.cancel(ip);
  }
}

function newLane(lane: Lane): { readonly due: Alarms<Ip>; readonly budget: TokenBucket } {
  return { due: new Alarms<Ip>(), budget: new TokenBucket(FRAMES_PER_S[lane], BURST_FRAMES) };
}

function affordableAt(due: Alarms<Ip>, budget: TokenBucket): Instant {
  const first = due.first();
  const affordable = first === NEVER ? NEVER : budget.readyAt(1);
  return affordable !== NEVER && affordable > first ? affordable : first;
}
