import type { Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { TokenBucket } from '../lib/token-bucket.ts';
import { Alarms } from './alarms.ts';
import type { IfIndex, Mac, WireEvidence } from './types.ts';

/**
 * Asks the wire whether somebody already has an address: three ARP probes (sender 0.0.0.0) or neighbour
 * solicitations, 50 ms apart, then 50 ms more of listening. RFC 5227 2.1.1 takes 5 to 7 s for the same question; a
 * Service cannot wait that long, and its next candidates are asked before there is a Service. A host that answers
 * later than that is heard all the same and reported as a conflict.
 *
 *   (nothing) ──request──► asking ──3 probes, silence──► silent, for EVIDENCE_FRESH_MS
 *                            └──an answer──► answered, asked again every CONFLICT_RETRY_MS
 */

export const PROBE_COUNT = 3;
export const PROBE_INTERVAL_MS = 50;
/** How long silence is believed. Announcements of a newcomer are heard meanwhile, so this bounds only the missed ones. */
export const EVIDENCE_FRESH_MS = 60_000;
/** Silence is asked for again this long before it goes stale, so that candidates are always fresh. */
const REFRESH_BEFORE_MS = 20_000;
/** A host that looks at the silence so late did not run meanwhile, and may not have heard an answer: it asks again. */
export const LOOKED_LATE_MS = 200;
export const CONFLICT_RETRY_MS = 60_000;
/** Overflow: the oldest evidence is forgotten, which costs a new probe and nothing else. */
export const EVIDENCE_LIMIT = 16_384;

const FRAMES_PER_S = 5_000;
const BURST_FRAMES = 256;

/** What all questions of a host together may put on the wire. */
export function probeBudget(): TokenBucket {
  return new TokenBucket(FRAMES_PER_S, BURST_FRAMES);
}

/** Evidence counts for the wire that it is from. */
type Known = WireEvidence & { readonly ifIndex: IfIndex };

type Question = { readonly ifIndex: IfIndex; readonly intervalMs: number; sent: number };

/** `to`: to that station alone, else to everybody. */
export type ProbeFrame = { readonly ifIndex: IfIndex; readonly ip: Ip; readonly to?: Mac };

export type ProbeRound = {
  readonly frames: readonly ProbeFrame[];
  /** Addresses whose question got its final answer in this round. */
  readonly concluded: readonly Ip[];
};

export class Probing {
  readonly #questions = new Map<Ip, Question>();
  /** The next probe, and after the last one the end of the wait, which needs no budget. */
  readonly #due = new Alarms<Ip>();
  readonly #ends = new Alarms<Ip>();
  readonly #evidence = new Map<Ip, Known>();
  readonly #budget: TokenBucket;

  constructor(budget = probeBudget()) {
    this.#budget = budget;
  }

  /** Starts asking for `ip`, unless that is under way. */
  request(ip: Ip, ifIndex: IfIndex, now: Instant, intervalMs = PROBE_INTERVAL_MS): void {
    const question = this.#questions.get(ip);
    if (question?.ifIndex === ifIndex) return;
    this.#questions.set(ip, { ifIndex, intervalMs, sent: 0 });
    this.#due.set(ip, now);
  }

  /** Nobody else has `ip`, and the wire need not be asked to know it. */
  trust(ip: Ip, ifIndex: IfIndex, now: Instant): void {
    this.#remember(ip, { kind: 'silent', at: now, ifIndex });
  }

  /** The last probe for `ip` did not get onto the wire: silence after it would mean nothing, so it is repeated. */
  unsent(ip: Ip): void {
    const question = this.#questions.get(ip);
    if (question === undefined || question.sent === 0) return;
    question.sent -= 1;
    const endAt = this.#ends.get(ip);
    if (endAt === NEVER) return;
    this.#ends.cancel(ip);
    this.#due.set(ip, endAt);
  }

  /** What was asked for `ip` so far counts for nothing: asks from the beginning, from `at` on. */
  restart(ip: Ip, at: Instant): void {
    const question = this.#questions.get(ip);
    if (question === undefined) return;
    question.sent = 0;
    this.#ends.cancel(ip);
    this.#due.set(ip, at);
  }

  isAsking(ip: Ip): boolean {
    return this.#questions.has(ip);
  }

  /** Stops asking and forgets: the address is wanted no more, or its NIC went. */
  forget(ip: Ip): void {
    this.#stopAsking(ip);
    this.#evidence.delete(ip);
  }

  /**
   * The host changed: what is asked or known of another wire than that of the NIC where an address belongs now means
   * nothing. `nicOf` gives undefined for a NIC that is down, which hears nobody.
   */
  keepOnly(nicOf: (ip: Ip) => IfIndex | undefined): void {
    for (const [ip, { ifIndex }] of this.#questions) if (nicOf(ip) !== ifIndex) this.#stopAsking(ip);
    for (const [ip, { ifIndex }] of this.#evidence) if (nicOf(ip) !== ifIndex) this.#evidence.delete(ip);
  }

  /** The wire's word on `ip` if it still counts at `now`. An answer counts until the next question says otherwise. */
  evidence(ip: Ip, now: Instant): WireEvidence | undefined {
    const known = this.#evidence.get(ip);
    if (known?.kind === 'silent' && now > after(known.at, EVIDENCE_FRESH_MS)) return undefined;
    return known;
  }

  /** Whether `ip` should be asked for (again), given that somebody is interested in it. */
  isDue(ip: Ip, now: Instant): boolean {
    if (this.#questions.has(ip)) return false;
    const known = this.#evidence.get(ip);
    if (known === undefined) return true;
    if (known.kind === 'answered') return now >= known.retryAt;
    return now >= after(known.at, EVIDENCE_FRESH_MS - REFRESH_BEFORE_MS);
  }

  /** When `isDue()` will turn true for `ip`. */
  dueAt(ip: Ip): Instant {
    const known = this.#evidence.get(ip);
    if (known === undefined || this.#questions.has(ip)) return NEVER;
    return known.kind === 'answered' ? known.retryAt : after(known.at, EVIDENCE_FRESH_MS - REFRESH_BEFORE_MS);
  }

  /** Somebody said that it has `ip`, which is asked again after `retryMs`. Returns whether anybody here had asked. */
  heard(ip: Ip, mac: Mac, now: Instant, retryMs = CONFLICT_RETRY_MS): boolean {
    const asked = this.#questions.get(ip) ?? this.#evidence.get(ip);
    if (asked === undefined) return false;
    this.answered(ip, asked.ifIndex, mac, now, retryMs);
    return true;
  }

  /** Somebody has `ip`, whoever asked. */
  answered(ip: Ip, ifIndex: IfIndex, mac: Mac, now: Instant, retryMs: number): void {
    this.#stopAsking(ip);
    this.#remember(ip, { kind: 'answered', mac, at: now, retryAt: after(now, retryMs), ifIndex });
  }

  /** All addresses that somebody answered for. */
  *conflicts(): Iterable<readonly [Ip, Extract<WireEvidence, { kind: 'answered' }>]> {
    for (const [ip, known] of this.#evidence) if (known.kind === 'answered') yield [ip, known];
  }

  /** Sends what is due and affordable, and draws conclusions. */
  advance(now: Instant): ProbeRound {
    const concluded = this.#conclude(now);
    const frames: ProbeFrame[] = [];
    for (let ip = this.#due.peekDue(now); ip !== undefined; ip = this.#due.peekDue(now)) {
      const question = this.#questions.get(ip);
      if (question === undefined) {
        this.#stopAsking(ip);
        continue;
      }
      if (this.#budget.take(1, now) === 0) break;
      frames.push({ ifIndex: question.ifIndex, ip });
      question.sent += 1;
      const nextAt = after(now, question.intervalMs);
      if (question.sent < PROBE_COUNT) this.#due.set(ip, nextAt);
      else {
        this.#due.cancel(ip);
        this.#ends.set(ip, nextAt);
      }
    }
    return { frames, concluded };
  }

  deadline(): Instant {
    const first = this.#due.first();
    const endsAt = this.#ends.first();
    if (first === NEVER) return endsAt;
    const affordable = this.#budget.readyAt(1);
    return earliest(endsAt, affordable !== NEVER && affordable > first ? affordable : first);
  }

  #conclude(now: Instant): Ip[] {
    const concluded: Ip[] = [];
    for (let ip = this.#ends.peekDue(now); ip !== undefined; ip = this.#ends.peekDue(now)) {
      const question = this.#questions.get(ip);
      if (question !== undefined && now > after(this.#ends.get(ip), LOOKED_LATE_MS)) {
        this.restart(ip, now);
        continue;
      }
      this.#stopAsking(ip);
      if (question === undefined) continue;
      this.#remember(ip, { kind: 'silent', at: now, ifIndex: question.ifIndex });
      concluded.push(ip);
    }
    return concluded;
  }

  #stopAsking(ip: Ip): void {
    this.#questions.delete(ip);
    this.#due.cancel(ip);
    this.#ends.cancel(ip);
  }

  #remember(ip: Ip, evidence: Known): void {
    this.#evidence.delete(ip);
    this.#evidence.set(ip, evidence);
    if (this.#evidence.size <= EVIDENCE_LIMIT) return;
    const oldest = this.#evidence.keys().next();
    if (!oldest.done) this.#evidence.delete(oldest.value);
  }
}
