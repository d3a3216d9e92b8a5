import type { Random } from '../lib/prng.ts';
import { after, type Instant } from '../lib/time.ts';
import { ProbeSchedule } from './probe-schedule.ts';
import type { Member, MemberMeta, MemberName, MemberState, Silence } from './types.ts';

/** Overflow: of some dead ones the longest dead is forgotten; a newcomer that finds none dead is not taken in. */
export const MEMBER_LIMIT = 4_096;
/** A dead member is kept and tried again for so long. */
const DEAD_KEPT_MS = 24 * 3_600_000;
/** So many of the dead are compared to find one to forget. */
const EVICTION_SAMPLE = 16;

/**
 * Of two things said of one incarnation, the one of higher rank holds. Together with the incarnation this is a total
 * order, so that all members end with the same whatever they hear in which order.
 */
export const STATE_RANK: Readonly<Record<MemberState, number>> = { alive: 0, suspect: 1, dead: 2, left: 3 };

/** `place` in its schedule, and what probes measured; both move with the member from record to record. */
type Row = Member & { place: number; rttMicros: number };

export function isHere(state: MemberState): boolean {
  return state === 'alive' || state === 'suspect';
}

/** All members that this one knows, itself included: the living in one schedule, the dead in another. */
export class MemberTable {
  readonly #rows = new Map<MemberName, Row>();
  readonly #self: MemberName;
  readonly #onForget: (name: MemberName) => void;
  readonly #here: ProbeSchedule<Row>;
  readonly #gone: ProbeSchedule<Row>;
  readonly #silences = new Map<MemberName, Silence>();

  /** `onForget` hears of each record that goes. */
  constructor(self: MemberName, random: Random, onForget: (name: MemberName) => void) {
    this.#self = self;
    this.#onForget = onForget;
    this.#here = new ProbeSchedule(random);
    this.#gone = new ProbeSchedule(random);
  }

  get all(): ReadonlyMap<MemberName, Member> {
    return this.#rows;
  }

  /** The others that are alive or suspect. */
  get hereCount(): number {
    return this.#here.size;
  }

  get goneCount(): number {
    return this.#gone.size;
  }

  get(name: MemberName): Member | undefined {
    return this.#rows.get(name);
  }

  /** The record that now stands; undefined when the table is full of living members. */
  put(
    name: MemberName,
    incarnation: number,
    state: MemberState,
    meta: MemberMeta,
    now: Instant,
  ): Member | undefined {
    const before = this.#rows.get(name);
    if (before === undefined && this.#rows.size >= MEMBER_LIMIT && !this.#evict()) return undefined;
    const since = before?.state === state ? before.since : now;
    const place = before?.place ?? -1;
    const row: Row = { name, incarnation, state, meta, since, place, rttMicros: before?.rttMicros ?? 0 };
    this.#rows.set(name, row);
    if (name !== this.#self) this.#place(row, before);
    return row;
  }

  forget(name: MemberName): void {
    const row = this.#rows.get(name);
    if (row === undefined || name === this.#self) return;
    this.#rows.delete(name);
    this.#silences.delete(name);
    this.#schedule(row.state).remove(row);
    this.#onForget(name);
  }

  silence(name: MemberName): Silence | undefined {
    return this.#silences.get(name);
  }

  setSilence(name: MemberName, silence: Silence): void {
    this.#silences.set(name, silence);
  }

  endSilence(name: MemberName): void {
    this.#silences.delete(name);
  }

  nextToProbe(): Member | undefined {
    return this.#here.next();
  }

  /** The next of the dead, except those that were so for too long, which are forgotten. */
  nextGone(now: Instant): Member | undefined {
    for (;;) {
      const row = this.#gone.next();
      if (row === undefined || now < after(row.since, DEAD_KEPT_MS)) return row;
      this.forget(row.name);
    }
  }

  /** Others that are alive, or suspect, at random. */
  sampleHere(count: number, except: MemberName | undefined): readonly Member[] {
    return this.#here.sample(count, (row) => row.name !== except);
  }

  sampleAlive(
    count: number,
    except: MemberName | undefined,
    isFit: (name: MemberName) => boolean = () => true,
  ): readonly Member[] {
    return this.#here.sample(count, ({ state, name }) => state === 'alive' && name !== except && isFit(name));
  }

  measured(name: MemberName, rttMs: number): void {
    const row = this.#rows.get(name);
    if (row !== undefined) row.rttMicros = Math.round(rttMs * 1000);
  }

  /** Of the last probe that was answered directly; undefined when there was none. */
  rttMs(name: MemberName): number | undefined {
    const micros = this.#rows.get(name)?.rttMicros ?? 0;
    return micros === 0 ? undefined : micros / 1000;
  }

  #place(row: Row, before: Row | undefined): void {
    const schedule = this.#schedule(row.state);
    if (before === undefined) return schedule.add(row);
    const old = this.#schedule(before.state);
    if (old === schedule) return schedule.replace(row);
    old.remove(before);
    schedule.add(row);
  }

  #schedule(state: MemberState): ProbeSchedule<Row> {
    return isHere(state) ? this.#here : this.#gone;
  }

  #evict(): boolean {
    let oldest: Row | undefined;
    for (const row of this.#gone.sample(EVICTION_SAMPLE, () => true)) {
      if (oldest === undefined || row.since < oldest.since) oldest = row;
    }
    if (oldest !== undefined) this.forget(oldest.name);
    return oldest !== undefined;
  }
}
