import { familyOf, type Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import { Alarms } from './alarms.ts';
import type { IfIndex } from './types.ts';

/**
 * Tells the segment where an address now is: gratuitous ARP in both forms, or an unsolicited neighbour
 * advertisement, at once and again over the first seconds, because a frame may be lost and because some hosts
 * believe only one of the two forms (RFC 5227 3, RFC 4861 7.2.6). Then, if that is asked for, once in a while.
 *
 * Many addresses at once must not storm the segment, so frames have a pace. Of many v4 addresses, all are told of in the
 * first form before any is in the second.
 */
export const ANNOUNCE_AT_MS: readonly number[] = [0, 100, 500, 1_500, 3_000];

const FRAMES_PER_S: Readonly<Record<Lane, number>> = { first: 5_000, correction: 2_000, repeat: 1_000 };
const BURST_FRAMES = 256;

/** A newcomer's clients wait for the first; those of a correction have just been told something else. */
type Lane = 'first' | 'correction' | 'repeat';

type Schedule = {
  readonly ifIndex: IfIndex;
  readonly from: Instant;
  /** Which of ANNOUNCE_AT_MS is next; beyond it, the one of an interval. */
  readonly next: number;
  readonly at: Instant;
  readonly lane: Lane;
  /** Of v4, the first form was sent, and the second is to be. */
  readonly isSecondForm: boolean;
};

/** Frames of one address, of one kind each: `both` forms of ARP are two, and an NA counts as both. */
export type Announcement = {
  readonly ifIndex: IfIndex;
  readonly ip: Ip;
  readonly form: 'first' | 'second' | 'both';
};

/** Gratuitous ARP is a request and a reply. */
const FORMS = ['first', 'second'] as const;
const SERIES_LENGTH = ANNOUNCE_AT_MS.length;
/** What the NIC does not take is offered again so much later, if nothing else is to come. */
const UNSENT_RETRY_MS = 1_000;

export class Announcing {
  readonly #schedules = new Map<Ip, Schedule>();
  /** When each is due: a lane has a budget of its own, so that none waits for another. */
  readonly #lanes: Readonly<Record<Lane, { readonly due: Alarms<Ip>; readonly budget: TokenBucket }>> = {
    first: newLane('first'),
    correction: newLane('correction'),
    repeat: newLane('repeat'),
  };
  /** How often each was announced; of those that are announced or were. */
  readonly #sent = new Map<Ip, number>();
  /** How many frames of that did not leave. */
  readonly #unsent = new Map<Ip, number>();
  /** 0: no more after the first seconds. */
  #intervalMs = 0;

  /** Announces `ip` over the next seconds, from `now` on. */
  start(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    this.#schedule(ip, { ifIndex, from: now, next: 0, at: now, lane: 'first', isSecondForm: false });
  }

  /** Announces `ip` once, at `at`, unless a whole series is under way. */
  once(ip: Ip, ifIndex: IfIndex, at: Instant): void {
    if (this.#isSeries(ip)) return;
    const next = SERIES_LENGTH - 1;
    this.#schedule(ip, { ifIndex, from: at, next, at, lane: 'correction', isSecondForm: false });
  }

  /** Announces `ip` over the next seconds anew, as clients have heard something else. */
  again(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    if (this.#schedules.get(ip)?.lane === 'first') return;
    this.#schedule(ip, { ifIndex, from: now, next: 0, at: now, lane: 'correction', isSecondForm: false });
  }

  /** Announces it no more for now; a newcomer is announced all the same. */
  quiet(ip: Ip): void {
    const schedule = this.#schedules.get(ip);
    if (schedule === undefined || schedule.lane === 'first' || !this.#isSeries(ip)) return;
    this.#unschedule(ip);
    this.#later(ip, schedule, schedule.at);
  }

  stop(ip: Ip): void {
    this.#unschedule(ip);
    this.#sent.delete(ip);
    this.#unsent.delete(ip);
  }

  /** From now on, announces each of `held` every `intervalMs`; 0 is never. */
  every(intervalMs: number, held: Iterable<readonly [Ip, IfIndex]>, now: Instant): void {
    if (intervalMs === this.#intervalMs) return;
    this.#intervalMs = intervalMs;
    for (const [ip, ifIndex] of held) {
      if (this.#isSeries(ip)) continue;
      this.#unschedule(ip);
      this.#later(ip, { ifIndex }, now);
    }
  }

  /** How often `ip` was announced since it was taken, as far as frames left. */
  count(ip: Ip): number {
    return this.#sent.get(ip) ?? 0;
  }

  /** How many frames of its announcements did not leave, since it was taken. */
  unsentCount(ip: Ip): number {
    return this.#unsent.get(ip) ?? 0;
  }

  /** What `advance()` returned was not made: nothing has left. */
  notMade({ ip, form }: Pick<Announcement, 'ip' | 'form'>): void {
    if (form !== 'second') this.#sent.set(ip, Math.max(0, this.count(ip) - 1));
  }

  /** A frame of `ip` did not leave. What is to be announced again anyway waits for that; else it is, once. */
  unsent(ip: Ip, ifIndex: IfIndex, form: 'first' | 'second', now: Instant): void {
    this.notMade({ ip, form });
    this.#unsent.set(ip, this.unsentCount(ip) + 1);
    this.once(ip, ifIndex, after(now, UNSENT_RETRY_MS));
  }

  /** What is due and affordable: first announcements before corrections before repeats. */
  advance(now: Instant): readonly Announcement[] {
    const announcements = new Map<Ip, Announcement>();
    const finished: (readonly [Ip, Schedule])[] = [];
    // Twice: once for the first forms, which make the second ones due.
    for (const _ of FORMS) {
      for (const [ip, schedule] of this.#takeAll(now)) {
        const { ifIndex, isSecondForm } = schedule;
        const hasSecond = familyOf(ip) === 'v4' && !isSecondForm;
        if (!isSecondForm) this.#sent.set(ip, this.count(ip) + 1);
        const isWhole = !hasSecond && (!isSecondForm || announcements.has(ip));
        const form = isWhole ? 'both' : isSecondForm ? 'second' : 'first';
        announcements.set(ip, { ifIndex, ip, form });
        if (hasSecond) this.#schedule(ip, { ...schedule, isSecondForm: true });
        else finished.push([ip, schedule]);
      }
    }
    // Only now: what a late call missed is made up for one announcement at a time.
    for (const [ip, schedule] of finished) this.#follow(ip, schedule, now);
    return [...announcements.values()];
  }

  deadline(): Instant {
    const { first, correction, repeat } = this.#lanes;
    return earliest(
      affordableAt(first.due, first.budget),
      affordableAt(correction.due, correction.budget),
      affordableAt(repeat.due, repeat.budget),
    );
  }

  #isSeries(ip: Ip): boolean {
    const schedule = this.#schedules.get(ip);
    return schedule !== undefined && schedule.next < SERIES_LENGTH;
  }

  /** What comes after an announcement that is made. */
  #follow(ip: Ip, schedule: Schedule, now: Instant): void {
    const next = schedule.next + 1;
    const offsetMs = ANNOUNCE_AT_MS[next];
    if (offsetMs === undefined) return this.#later(ip, schedule, now);
    const at = after(schedule.from, offsetMs);
    this.#schedule(ip, { ...schedule, next, at, lane: 'repeat', isSecondForm: false });
  }

  #later(ip: Ip, { ifIndex }: Pick<Schedule, 'ifIndex'>, now: Instant): void {
    if (this.#intervalMs === 0) return;
    const at = after(now, this.#intervalMs);
    this.#schedule(ip, { ifIndex, from: at, next: SERIES_LENGTH, at, lane: 'repeat', isSecondForm: false });
  }

  #takeAll(now: Instant): readonly (readonly [Ip, Schedule])[] {
    const { first, correction, repeat } = this.#lanes;
    const taken: (readonly [Ip, Schedule])[] = [];
    for (const { due, budget } of [first, correction, repeat]) this.#take(due, budget, now, taken);
    return taken;
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
    this.#lanes[schedule.lane].due.set(ip, schedule.at);
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
