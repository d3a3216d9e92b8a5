import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { ServiceKey } from './types.ts';

/**
 * Whether kube-proxy on this host is ready for Services with externalTrafficPolicy Local, by what their
 * healthCheckNodePort answers (kubernetes.io/docs, Preserving the client source IP; kube-proxy healthcheck/service_health.go).
 * Pure: the caller asks what is due and tells the answers.
 *
 *   unknown ──good──► ready ──FALL_COUNT bad in a row──► unready ──good in a row──► ready
 *      └────bad──► unready                                  as many as it takes: `neededFor()`
 *
 * Between two answers of one kind nothing changes, so that a busy kube-proxy moves no address; one that flaps has to be
 * good for longer each time.
 */

/** Between two questions about a Service while all is well, as long as there are few of them. */
export const CHECK_EVERY_MS = 2_000;
/** The same after an answer that contradicts, and while it is unready. */
export const RECHECK_MS = 250;
/** Bad answers in a row. */
export const FALL_COUNT = 3;
/** Good answers in a row, which double with each fall. */
export const RISE_COUNT = 2;
export const RISE_COUNT_MAX = 32;
/** Ready for so long, the falls before are forgotten. */
export const FORGIVE_MS = 60_000;
/** For all Services together: with 1,000 of them each is asked about every 10 s, unless it is bad. */
export const CHECKS_PER_SECOND = 100;
/** Questions without an answer yet. Overflow: the next ones wait. */
export const UNDER_WAY_MAX = 16;
/** Services that are checked. Overflow: the others count as ready. */
export const CHECKED_MAX = 4_096;

export type CheckTarget = {
  readonly service: ServiceKey;
  readonly port: number;
  /** This host serves it already, as after a restart: ready until the answers say otherwise. */
  readonly isServed: boolean;
};

/** `reason` in words, undefined for a good answer: HTTP 200. */
export type CheckAnswer = { readonly reason: string | undefined };

type Check = {
  readonly port: number;
  state: 'unknown' | 'ready' | 'unready';
  /** Answers in a row that contradict the state. */
  contrary: number;
  falls: number;
  since: Instant;
  askAt: Instant;
  isUnderWay: boolean;
  reason: string;
};

export class HealthChecks {
  readonly #checks = new Map<ServiceKey, Check>();
  #underWay = 0;
  /** The next question may not come before, for the sake of the rate. */
  #roomAt: Instant;

  constructor(now: Instant) {
    this.#roomAt = now;
  }

  /** Which Services are to be checked from now on. */
  want(targets: Iterable<CheckTarget>, now: Instant): void {
    const wanted = new Set<ServiceKey>();
    for (const { service, port, isServed } of targets) {
      if (wanted.size >= CHECKED_MAX) break;
      wanted.add(service);
      const known = this.#checks.get(service);
      if (known?.port === port) continue;
      if (known !== undefined) this.#forget(service, known);
      this.#checks.set(service, {
        port,
        state: isServed ? 'ready' : 'unknown',
        contrary: 0,
        falls: 0,
        since: now,
        askAt: now,
        isUnderWay: false,
        reason: `port ${port} was not asked yet`,
      });
    }
    for (const [service, check] of this.#checks) if (!wanted.has(service)) this.#forget(service, check);
  }

  /** Of whom to ask now; each is to be answered. */
  take(now: Instant): readonly { readonly service: ServiceKey; readonly port: number }[] {
    if (now < this.#roomAt || this.#underWay >= UNDER_WAY_MAX) return [];
    const due = [...this.#checks].filter(([, { askAt, isUnderWay }]) => !isUnderWay && askAt <= now);
    // Whoever may be about to turn first: so the end of kube-proxy is known before all Services were asked about.
    due.sort(
      ([, left], [, right]) => Number(isCalm(left)) - Number(isCalm(right)) || left.askAt - right.askAt,
    );
    const taken = due.slice(0, UNDER_WAY_MAX - this.#underWay);
    for (const [, check] of taken) check.isUnderWay = true;
    this.#underWay += taken.length;
    this.#roomAt = after(now, (taken.length * 1_000) / CHECKS_PER_SECOND);
    return taken.map(([service, { port }]) => ({ service, port }));
  }

  /** Returns whether the Service is ready now and was not, or the reverse. */
  answered(service: ServiceKey, port: number, { reason }: CheckAnswer, now: Instant): boolean {
    const check = this.#checks.get(service);
    if (check?.port !== port || !check.isUnderWay) return false;
    check.isUnderWay = false;
    this.#underWay -= 1;
    if (reason !== undefined) check.reason = reason;
    const isGood = reason === undefined;
    const isContrary = check.state === 'unknown' || isGood !== (check.state === 'ready');
    check.contrary = isContrary ? check.contrary + 1 : 0;
    const hasTurned = isContrary && check.contrary >= neededFor(check);
    if (hasTurned) turn(check, isGood, now);
    if (check.state === 'ready' && now - check.since >= FORGIVE_MS) check.falls = 0;
    const isWell = check.state === 'ready' && isCalm(check);
    check.askAt = after(now, isWell ? this.#intervalMs() : RECHECK_MS);
    return hasTurned;
  }

  /** Services for which kube-proxy is not ready here, or not known to be, and why. */
  unready(): ReadonlyMap<ServiceKey, string> {
    const found = new Map<ServiceKey, string>();
    for (const [service, { state, reason }] of this.#checks)
      if (state !== 'ready') found.set(service, reason);
    return found;
  }

  /** The Services for which kube-proxy said no, or nothing, and what it was. */
  refused(): ReadonlyMap<ServiceKey, string> {
    const found = [...this.#checks].filter(([, { state }]) => state === 'unready');
    return new Map(found.map(([service, { reason }]) => [service, reason]));
  }

  /** How many are in which state. */
  counts(): Readonly<Record<Check['state'], number>> {
    const counts = { unknown: 0, ready: 0, unready: 0 };
    for (const { state } of this.#checks.values()) counts[state] += 1;
    return counts;
  }

  /** When `take()` is wanted next; an answer may make it sooner. */
  deadline(): Instant {
    if (this.#underWay >= UNDER_WAY_MAX) return NEVER;
    let first: Instant = NEVER;
    for (const { askAt, isUnderWay } of this.#checks.values())
      if (!isUnderWay) first = earliest(first, askAt);
    return first === NEVER ? NEVER : (Math.max(first, this.#roomAt) as Instant);
  }

  #intervalMs(): number {
    return Math.max(CHECK_EVERY_MS, (this.#checks.size * 1_000) / CHECKS_PER_SECOND);
  }

  #forget(service: ServiceKey, check: Check): void {
    if (check.isUnderWay) this.#underWay -= 1;
    this.#checks.delete(service);
  }
}

function isCalm({ contrary }: Check): boolean {
  return contrary === 0;
}

/** How many answers in a row it takes to turn. */
function neededFor({ state, falls }: Check): number {
  if (state === 'unknown') return 1;
  if (state === 'ready') return FALL_COUNT;
  return falls === 0 ? 1 : Math.min(RISE_COUNT * 2 ** (falls - 1), RISE_COUNT_MAX);
}

function turn(check: Check, isGood: boolean, now: Instant): void {
  if (check.state === 'ready') check.falls += 1;
  check.state = isGood ? 'ready' : 'unready';
  check.contrary = 0;
  check.since = now;
}
