import type { Random } from '../lib/prng.ts';
import { after, type Instant } from '../lib/time.ts';
import { BroadcastQueue } from './broadcast-queue.ts';
import type { Effect } from './effects.ts';
import type { LocalHealth } from './local-health.ts';
import { isHere, MemberTable, STATE_RANK } from './member-table.ts';
import type { MemberUpdate } from './message.ts';
import { MOVED_BACK_MS, NameConflicts, sameEndpoint } from './name-conflicts.ts';
import { Pace } from './pace.ts';
import type { ElectionSettings } from './settings.ts';
import { fromSilenceUpdate, joinSilences, toSilenceUpdate } from './silence.ts';
import { Suspicion } from './suspicion.ts';
import { Suspicions } from './suspicions.ts';
import type { Endpoint, Member, MemberMeta, MemberName, Segment, Silence } from './types.ts';
import { sameUnready } from './unready.ts';

/**
 * What is said of members, and what stands after it: the rules of SWIM's suspicion and incarnations. Of two things said
 * the one with the higher incarnation holds, of one incarnation dead before suspect before alive, so only the
 * member itself can clear itself, by raising its incarnation.
 */

/** An update that jumps further is no news but nonsense: nobody has refuted so often since it was last heard of. */
export const MAX_INCARNATION_JUMP = 2 ** 20;
const MAX_INCARNATION = Number.MAX_SAFE_INTEGER - 2 * MAX_INCARNATION_JUMP;
/** How often a host outbids another that uses its name. */
const OUTBID_PAUSE_MS = 5_000;
/** So long after it met the others, nothing that they tell is of this host's earlier life. */
const EARLIER_LIFE_MS = 10_000;

/**
 * `outdated`: somebody holds a member for alive in the very incarnation that is suspect or gone here, and only that member
 * can put it right, so it should be told; or somebody holds this host for suspect or gone in an earlier incarnation.
 */
export type Outcome = 'nothing' | 'news' | 'outdated';

export type SwimOptions = {
  readonly name: MemberName;
  readonly meta: MemberMeta;
  /** That of this host's earlier life if it is remembered; otherwise the others will tell. */
  readonly incarnation: number;
  readonly settings: ElectionSettings;
  readonly random: Random;
  readonly out: Effect[];
  readonly now: Instant;
};

export class Membership {
  readonly table: MemberTable;
  readonly queue = new BroadcastQueue();
  readonly suspicions = new Suspicions();
  /** Raised with every change of what stands. */
  version = 0;
  readonly #name: MemberName;
  readonly #settings: ElectionSettings;
  readonly #out: Effect[];
  readonly #health: LocalHealth;
  readonly #conflicts = new NameConflicts();
  readonly #outbids = new Pace<MemberName>(OUTBID_PAUSE_MS, 1);
  /** When this host first knew of another. */
  #metAt: Instant | undefined;
  #outbidAt: Instant | undefined;
  #conflictAt: Instant | undefined;
  readonly #changed = new Set<MemberName>();
  #self: Member;
  #leaving = false;

  constructor({ name, meta, incarnation, settings, random, out, now }: SwimOptions, health: LocalHealth) {
    this.#health = health;
    this.#name = name;
    this.#settings = settings;
    this.#out = out;
    this.table = new MemberTable(name, random, (forgotten) => this.#note(forgotten));
    this.#self = { name, incarnation, state: 'alive', meta, since: now };
    this.#setSelf(incarnation, meta, now);
  }

  get self(): Member {
    return this.#self;
  }

  get leaving(): boolean {
    return this.#leaving;
  }

  /** Members whose record or silence changed since this was last asked. */
  takeChanged(): readonly MemberName[] {
    if (this.#changed.size === 0) return [];
    const names = [...this.#changed];
    this.#changed.clear();
    return names;
  }

  setMeta(meta: MemberMeta, now: Instant): void {
    if (this.#leaving) return;
    this.#setSelf(this.#self.incarnation + 1, meta, now);
    this.#out.push({ kind: 'persist' });
  }

  leave(now: Instant): void {
    this.#leaving = true;
    this.suspicions.clear();
    const { incarnation, meta } = this.#self;
    this.#self = this.table.put(this.#name, incarnation, 'left', meta, now) ?? this.#self;
    this.#note(this.#name);
    this.queue.putMember(this.record(this.#self, now), undefined);
  }

  /** `member` as an update. */
  record(member: Member, now: Instant): MemberUpdate {
    const { name, incarnation, state } = member;
    const silence = state === 'alive' ? undefined : this.table.silence(name);
    return {
      kind: 'member',
      name,
      incarnation,
      state,
      meta: member.meta,
      by: state === 'suspect' ? this.suspicions.get(name)?.firstBy : undefined,
      silence: silence === undefined ? undefined : toSilenceUpdate(silence, now),
    };
  }

  /**
   * Somebody says `update`. From a whole state (`bulk`) a death is taken for a suspicion, as it may be older than the
   * member's return; with `spread` false news is not gossiped on, because everybody is about to get it in bulk.
   */
  apply(
    update: MemberUpdate,
    how: { readonly bulk: boolean; readonly spread: boolean },
    now: Instant,
  ): Outcome {
    if (update.incarnation > MAX_INCARNATION) return 'nothing';
    if (update.name === this.#name) return this.#aboutSelf(update, now);
    const known = this.table.get(update.name);
    if (known === undefined) return this.#introduce(update, how.spread, now);
    const ahead = update.incarnation - known.incarnation;
    if (ahead < 0 || ahead > MAX_INCARNATION_JUMP) return 'nothing';
    switch (update.state) {
      case 'alive':
        if (ahead > 0) return this.#revive(known, update, how.spread, now);
        return known.state === 'alive' ? 'nothing' : 'outdated';
      case 'suspect':
        return this.#accuse(known, update, now);
      case 'dead':
        if (how.bulk && isHere(known.state)) return this.#accuse(known, update, now);
        return this.#bury(known, update, how.spread, now);
      case 'left':
        return this.#bury(known, update, how.spread, now);
    }
  }

  /** This host, or a watcher, does not reach `name`. Whether that is news. */
  suspect(
    name: MemberName,
    incarnation: number,
    by: MemberName,
    silence: Silence | undefined,
    now: Instant,
  ): boolean {
    const known = this.table.get(name);
    if (known === undefined || name === this.#name || this.#leaving) return false;
    if (incarnation < known.incarnation || incarnation - known.incarnation > MAX_INCARNATION_JUMP)
      return false;
    return this.#suspect(known, incarnation, by, silence, now);
  }

  /** The time of a suspicion is over. */
  declareDead(name: MemberName, now: Instant): void {
    const known = this.table.get(name);
    if (known === undefined) return;
    const update = { ...this.record(known, now), state: 'dead', meta: undefined, by: this.#name } as const;
    this.#bury(known, update, true, now);
  }

  /** This host alone suspected `name` and was wrong: nobody else needs to know. */
  withdraw(name: MemberName, now: Instant): void {
    const known = this.table.get(name);
    if (known?.state !== 'suspect') return;
    this.suspicions.delete(name);
    this.table.endSilence(name);
    this.queue.dropMember(name);
    this.#stand(name, known.incarnation, 'alive', known.meta, now);
  }

  /** `name` says of itself that it is in an incarnation that what stands here is absurdly far from. */
  forget(name: MemberName): void {
    this.suspicions.delete(name);
    this.queue.dropMember(name);
    this.table.forget(name);
    this.#note(name);
  }

  /** The suspicion of `name` changed: its time is looked at again. */
  reschedule(name: MemberName, suspicion: Suspicion): void {
    this.suspicions.set(name, suspicion, this.#settings.probeTimeoutMs);
  }

  // --- one member ---------------------------------------------------------------------------------------------

  #introduce(update: MemberUpdate, spread: boolean, now: Instant): Outcome {
    // Without metadata it is nobody that could be reached, and who was gone before is no news to anybody.
    if (update.meta === undefined) return 'nothing';
    const state = update.state === 'suspect' ? 'alive' : update.state;
    const member = this.table.put(update.name, update.incarnation, state, update.meta, now);
    if (member === undefined) return 'nothing';
    this.#metAt ??= now;
    this.#note(update.name);
    if (update.state === 'suspect') this.#accuse(member, update, now);
    if (isHere(update.state)) this.#report('joined', member);
    if (spread && update.state === 'alive') this.queue.putMember(update, undefined);
    return 'news';
  }

  #revive(known: Member, update: MemberUpdate, spread: boolean, now: Instant): Outcome {
    const { name, incarnation } = update;
    const meta = update.meta ?? known.meta;
    if (isHere(known.state) && !sameEndpoint(meta.endpoint, known.meta.endpoint)) {
      const endpoints = this.#conflicts.moved(name, known.meta.endpoint, meta.endpoint, now);
      if (endpoints !== undefined) this.#conflict(name, endpoints);
    }
    this.suspicions.delete(name);
    this.table.endSilence(name);
    const member = this.#stand(name, incarnation, 'alive', meta, now);
    if (spread) this.queue.putMember(update.meta === undefined ? { ...update, meta } : update, undefined);
    else this.queue.dropMember(name);
    if (member !== undefined && known.state !== 'alive') {
      this.#report(known.state === 'suspect' ? 'refuted' : 'returned', member);
    }
    return 'news';
  }

  #accuse(known: Member, update: MemberUpdate, now: Instant): Outcome {
    const { name, incarnation, by } = update;
    // A suspicion of our own that we do not have is one that we withdrew.
    if (by === this.#name && this.suspicions.get(name) === undefined) return 'outdated';
    const silence = update.silence === undefined ? undefined : fromSilenceUpdate(update.silence, now);
    return this.#suspect(known, incarnation, by, silence, now) ? 'news' : 'nothing';
  }

  #suspect(
    known: Member,
    incarnation: number,
    by: MemberName | undefined,
    silence: Silence | undefined,
    now: Instant,
  ): boolean {
    const { name } = known;
    if (incarnation === known.incarnation && !isHere(known.state)) return this.#hush(name, silence);
    const running = this.suspicions.get(name);
    const firstSilence = this.#hush(name, silence);
    if (running?.incarnation === incarnation) {
      const confirmed = running.confirm(by);
      const hastened = silence !== undefined && running.hasten(this.#judgedMs(silence), now);
      if (confirmed || hastened) this.reschedule(name, running);
      if (!confirmed && !firstSilence) return false;
    } else {
      this.reschedule(name, this.#newSuspicion(incarnation, by, silence, now));
      const member = this.#stand(name, incarnation, 'suspect', known.meta, now);
      if (member !== undefined) this.#report('suspected', member);
    }
    const update = { kind: 'member', name, incarnation, state: 'suspect', meta: undefined, by } as const;
    this.queue.putMember({ ...update, silence: undefined }, this.table.silence(name));
    return true;
  }

  #bury(known: Member, update: MemberUpdate, spread: boolean, now: Instant): Outcome {
    const { name, incarnation, state } = update;
    const silence = update.silence === undefined ? undefined : fromSilenceUpdate(update.silence, now);
    if (incarnation === known.incarnation && STATE_RANK[state] <= STATE_RANK[known.state]) {
      return this.#hush(name, silence) ? 'news' : 'nothing';
    }
    this.suspicions.delete(name);
    this.#hush(name, silence);
    const member = this.#stand(name, incarnation, state, update.meta ?? known.meta, now);
    if (member === undefined) return 'nothing';
    if (spread) this.queue.putMember(withoutMeta(update), this.table.silence(name));
    else this.queue.dropMember(name);
    if (isHere(known.state)) this.#report(state === 'left' ? 'left' : 'died', member);
    return 'news';
  }

  /** What a watcher found of a member that is suspect or dead. Whether there was nothing of it before. */
  #hush(name: MemberName, silence: Silence | undefined): boolean {
    if (silence === undefined) return false;
    const known = this.table.silence(name);
    const joined = joinSilences(known, silence);
    this.table.setSilence(name, joined);
    if (known?.why === joined.why) return false;
    this.#note(name);
    return known === undefined;
  }

  #newSuspicion(
    incarnation: number,
    by: MemberName | undefined,
    silence: Silence | undefined,
    now: Instant,
  ): Suspicion {
    const { suspicionMinMs, suspicionMaxMs } = this.#settings;
    const here = this.table.hereCount;
    const scale = Math.max(1, Math.log10(here + 1));
    const judged = silence === undefined ? undefined : this.#judgedMs(silence);
    return new Suspicion({
      incarnation,
      by,
      others: judged === undefined ? here - 1 : 0,
      minMs: judged ?? suspicionMinMs * scale,
      maxMs: suspicionMaxMs * scale,
      now,
    });
  }

  /** A watcher's verdict leaves time for the refutation only; who said that it restarts gets time for that. */
  #judgedMs(silence: Silence): number {
    const { suspicionMinMs, suspicionMaxMs } = this.#settings;
    return silence.why === 'restarting' ? suspicionMaxMs : suspicionMinMs;
  }

  // --- this host ----------------------------------------------------------------------------------------------

  #aboutSelf(update: MemberUpdate, now: Instant): Outcome {
    const { incarnation, meta } = this.#self;
    const ahead = update.incarnation - incarnation;
    if (this.#leaving || ahead > MAX_INCARNATION_JUMP) return 'nothing';
    if (ahead < 0) return update.state === 'alive' ? 'nothing' : 'outdated';
    if (update.state === 'alive') {
      if (update.meta === undefined || (ahead === 0 && sameMeta(update.meta, meta))) return 'nothing';
      if (!sameEndpoint(update.meta.endpoint, meta.endpoint) && !this.#outbid(update.meta.endpoint, now)) {
        return 'nothing';
      }
    } else if (update.state !== 'left') this.#health.worse();
    this.#setSelf(update.incarnation + 1, meta, now);
    this.#out.push({ kind: 'persist' });
    return 'news';
  }

  /**
   * Whether to outbid: an earlier life of this host is outbid once, when it meets the others; another host of the same
   * name comes later, or bids again.
   */
  #outbid(endpoint: Endpoint, now: Instant): boolean {
    if (!this.#outbids.allows(this.#name, now)) return false;
    const own = this.#self.meta.endpoint;
    const late = this.#metAt !== undefined && now > after(this.#metAt, EARLIER_LIFE_MS);
    const again = this.#outbidAt !== undefined && now < after(this.#outbidAt, MOVED_BACK_MS);
    const quiet = this.#conflictAt !== undefined && now < after(this.#conflictAt, MOVED_BACK_MS);
    this.#outbidAt = now;
    if (!(late || again) || quiet) return true;
    this.#conflictAt = now;
    this.#conflict(this.#name, [own, endpoint]);
    return true;
  }

  #setSelf(incarnation: number, meta: MemberMeta, now: Instant): void {
    this.#self = this.table.put(this.#name, incarnation, 'alive', meta, now) ?? this.#self;
    this.#note(this.#name);
    this.queue.putMember(this.record(this.#self, now), undefined);
  }

  // --- what stands --------------------------------------------------------------------------------------------

  #stand(
    name: MemberName,
    incarnation: number,
    state: Member['state'],
    meta: MemberMeta,
    now: Instant,
  ): Member | undefined {
    this.#note(name);
    return this.table.put(name, incarnation, state, meta, now);
  }

  #note(name: MemberName): void {
    this.version += 1;
    this.#changed.add(name);
  }

  #report(kind: 'joined' | 'suspected' | 'died' | 'left' | 'returned' | 'refuted', member: Member): void {
    this.#out.push({ kind: 'report', report: { kind, member } });
  }

  #conflict(name: MemberName, endpoints: readonly Endpoint[]): void {
    this.#out.push({ kind: 'report', report: { kind: 'name-conflict', name, endpoints } });
  }
}

function withoutMeta(update: MemberUpdate): MemberUpdate {
  return update.meta === undefined ? update : { ...update, meta: undefined };
}

function sameMeta(one: MemberMeta, other: MemberMeta): boolean {
  if (one === other) return true;
  return (
    sameEndpoint(one.endpoint, other.endpoint) &&
    one.node === other.node &&
    one.version === other.version &&
    one.drained === other.drained &&
    sameUnready(one.unready, other.unready) &&
    one.weight === other.weight &&
    one.configDigest === other.configDigest &&
    one.lifetimeMs === other.lifetimeMs &&
    sameSegments(one.segments, other.segments) &&
    sameSegments(one.cutOff ?? [], other.cutOff ?? [])
  );
}

function sameSegments(some: readonly Segment[], others: readonly Segment[]): boolean {
  return some.length === others.length && some.every((segment, index) => sameSegment(segment, others[index]));
}

function sameSegment(one: Segment, other: Segment | undefined): boolean {
  return (
    one.ip === other?.ip &&
    one.mac === other.mac &&
    one.subnet.network === other.subnet.network &&
    one.subnet.length === other.subnet.length
  );
}
