import { after, type Instant, instant, NEVER } from '../lib/time.ts';
import type { LocalHealth } from './local-health.ts';
import type { MemberTable } from './member-table.ts';
import type { ElectionSettings } from './settings.ts';
import type { Member, MemberName } from './types.ts';

/**
 * One probe per interval (SWIM 4.1, Lifeguard): who is next in the schedule is asked directly, then through others,
 * then over TCP, and is suspected when the interval ends without an answer.
 *
 *   (idle) ──interval──► direct ──timeout──► indirect ──timeout──► tcp ──interval──► failed
 *      ▲                   └──────────────────┴──── answered ────────┘                  │
 *      └────────────────────────────────────────────────────────────────────────────────┘
 */

export type ProbeStep =
  | { readonly kind: 'ask'; readonly target: Member; readonly seq: number }
  /** Ask again, and others to ask. */
  | {
      readonly kind: 'ask-others';
      readonly target: Member;
      readonly seq: number;
      readonly helpers: readonly Member[];
    }
  | { readonly kind: 'connect'; readonly target: Member }
  | { readonly kind: 'failed'; readonly target: MemberName; readonly incarnation: number };

type Probe = {
  readonly target: MemberName;
  readonly incarnation: number;
  readonly seq: number;
  readonly startedAt: Instant;
  stage: 'direct' | 'indirect' | 'tcp';
  stageEndsAt: Instant;
  readonly endsAt: Instant;
  helpers: readonly Member[];
  nacks: number;
};

export class Prober {
  readonly #settings: ElectionSettings;
  readonly #table: MemberTable;
  readonly #health: LocalHealth;
  readonly #nextSeq: () => number;
  #probe: Probe | undefined;
  #nextAt: Instant = NEVER;

  constructor(settings: ElectionSettings, table: MemberTable, health: LocalHealth, nextSeq: () => number) {
    this.#settings = settings;
    this.#table = table;
    this.#health = health;
    this.#nextSeq = nextSeq;
  }

  /** There is somebody to probe; the first is asked at `firstAt`. Nothing changes when probes are under way. */
  start(firstAt: Instant): void {
    if (this.#nextAt === NEVER) this.#nextAt = firstAt;
  }

  stop(): void {
    this.#probe = undefined;
    this.#nextAt = NEVER;
  }

  deadline(): Instant {
    const stageEndsAt = this.#probe?.stageEndsAt ?? NEVER;
    return stageEndsAt < this.#nextAt ? stageEndsAt : this.#nextAt;
  }

  /** The next thing to do at `now`; to be called until there is none. */
  step(now: Instant): ProbeStep | undefined {
    const probe = this.#probe;
    if (probe !== undefined) {
      if (now >= probe.endsAt) return this.#fail(probe);
      if (now >= probe.stageEndsAt) return this.#nextStage(probe);
      return undefined;
    }
    return now >= this.#nextAt ? this.#begin(now) : undefined;
  }

  /** An ack came, from the target or through a helper. Whether it answers the probe. */
  acked(seq: number, from: MemberName, now: Instant): boolean {
    const probe = this.#probe;
    if (probe === undefined || probe.seq !== seq) return false;
    if (from === probe.target && probe.stage === 'direct') {
      this.#table.measured(from, now - probe.startedAt);
    }
    this.#health.better();
    this.#probe = undefined;
    return true;
  }

  nacked(seq: number): void {
    if (this.#probe?.seq === seq) this.#probe.nacks += 1;
  }

  /** `name` was reached by another way. */
  reached(name: MemberName): void {
    if (this.#probe?.target === name) this.#probe = undefined;
  }

  /** This host did not run: whatever came of the probe means nothing. */
  abandon(now: Instant): void {
    this.#probe = undefined;
    if (this.#nextAt !== NEVER) this.#nextAt = after(now, this.#settings.probeTimeoutMs);
  }

  #begin(now: Instant): ProbeStep | undefined {
    const target = this.#table.nextToProbe();
    if (target === undefined) {
      this.#nextAt = NEVER;
      return undefined;
    }
    const seq = this.#nextSeq();
    const endsAt = after(now, this.#health.stretch(this.#settings.probeIntervalMs));
    this.#probe = {
      target: target.name,
      incarnation: target.incarnation,
      seq,
      startedAt: now,
      stage: 'direct',
      stageEndsAt: after(now, this.#health.stretch(this.#settings.probeTimeoutMs)),
      endsAt,
      helpers: [],
      nacks: 0,
    };
    this.#nextAt = endsAt;
    return { kind: 'ask', target, seq };
  }

  #nextStage(probe: Probe): ProbeStep | undefined {
    const target = this.#table.get(probe.target);
    if (target === undefined || probe.stage === 'tcp') {
      probe.stageEndsAt = probe.endsAt;
      return undefined;
    }
    const { probeTimeoutMs, indirect } = this.#settings;
    if (probe.stage === 'indirect') {
      probe.stage = 'tcp';
      probe.stageEndsAt = probe.endsAt;
      return { kind: 'connect', target };
    }
    probe.stage = 'indirect';
    probe.helpers = this.#table.sampleAlive(indirect, probe.target);
    probe.stageEndsAt = instant(
      Math.min(probe.endsAt, probe.stageEndsAt + this.#health.stretch(probeTimeoutMs)),
    );
    return { kind: 'ask-others', target, seq: probe.seq, helpers: probe.helpers };
  }

  /** Helpers that could not even say that they got no answer tell that it is this host that is hard of hearing. */
  #fail(probe: Probe): ProbeStep {
    this.#probe = undefined;
    const missing = probe.helpers.length - probe.nacks;
    if (probe.helpers.length === 0) this.#health.worse();
    else if (missing > 0) this.#health.worse(missing);
    return { kind: 'failed', target: probe.target, incarnation: probe.incarnation };
  }
}
