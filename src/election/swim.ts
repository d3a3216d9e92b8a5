import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { Courier } from './courier.ts';
import { Exchanges } from './exchanges.ts';
import { LocalHealth } from './local-health.ts';
import { isHere } from './member-table.ts';
import { MAX_INCARNATION_JUMP, Membership, type SwimOptions } from './membership.ts';
import type { Ack, ClaimUpdate, Gossip, MemberUpdate, Nack, Ping, PingRequest, Update } from './message.ts';
import { Prober, type ProbeStep } from './prober.ts';
import { Relays } from './relays.ts';
import type { ElectionSettings } from './settings.ts';
import type { Suspicion } from './suspicion.ts';
import type { Endpoint, Member, MemberMeta, MemberName, Silence } from './types.ts';

/**
 * Who is there: SWIM (Das, Gupta, Motivala 2002) with the extensions of Lifeguard (Dadgar, Phillips, Currey 2018). One
 * random member is probed per interval, whatever the size of the cluster; news rides on the probes and on gossip ticks,
 * and whole states are exchanged over TCP at the start and now and then, so that nothing depends on one packet.
 *
 * This file has the traffic: probes, gossip, exchanges and their times. What an update makes of a member is in
 * `membership.ts`, who is asked next in `prober.ts`, how long a suspicion lasts in `suspicion.ts`.
 *
 * The state is mutable and owned by the instance; there is no clock, randomness or I/O in here.
 */

/** More news than this in one exchange of states is not gossiped: everybody else exchanges states as well. */
const BULK_NEWS = 32;
/** While everybody is looked for eagerly (`Exchanges`), so many of the dead are tried so often. */
const EAGER_RETRY_MS = 100;
const EAGER_RETRIES = 4;
/** At the end of this host's membership, so many times the usual fanout is told directly. */
const LEAVE_FANOUT = 4;

const NO_CLAIMS: readonly ClaimUpdate[] = [];

type SwimMessage = Ping | PingRequest | Ack | Nack | Gossip;

export class Swim {
  readonly #name: MemberName;
  readonly #settings: ElectionSettings;
  readonly #random: () => number;
  readonly #membership: Membership;
  readonly #health = new LocalHealth();
  readonly #prober: Prober;
  readonly #courier: Courier;
  readonly #relays = new Relays();
  readonly #exchanges: Exchanges;
  #seq: number;
  #retryAt: Instant = NEVER;

  constructor(options: SwimOptions) {
    const { name, settings, random, out, now } = options;
    this.#name = name;
    this.#settings = settings;
    this.#random = random;
    this.#membership = new Membership(options, this.#health);
    this.#courier = new Courier(name, settings, this.#membership, out, now);
    this.#prober = new Prober(settings, this.#membership.table, this.#health, () => this.#nextSeq());
    this.#exchanges = new Exchanges(settings, this.#membership.table, random, out);
    this.#seq = Math.floor(random() * 0x4000_0000);
  }

  // --- what is known ------------------------------------------------------------------------------------------

  get self(): Member {
    return this.#membership.self;
  }

  get incarnation(): number {
    return this.#membership.self.incarnation;
  }

  /** Raised with every change of a member's state, metadata, incarnation or silence. */
  get version(): number {
    return this.#membership.version;
  }

  /** 0 is healthy, 8 the worst (`LocalHealth`). */
  get healthScore(): number {
    return this.#health.score;
  }

  /** All, this host and the dead included. */
  members(): ReadonlyMap<MemberName, Member> {
    return this.#membership.table.all;
  }

  member(name: MemberName): Member | undefined {
    return this.#membership.table.get(name);
  }

  /** This host, unless it left, and every other that is neither suspect nor gone. */
  *alive(): Iterable<Member> {
    for (const member of this.#membership.table.all.values()) if (member.state === 'alive') yield member;
  }

  /** Others that are alive or suspect. */
  get othersHere(): number {
    return this.#membership.table.hereCount;
  }

  /** At most `count` others that are alive, at random. */
  sampleAlive(count: number, except?: MemberName): readonly Member[] {
    return this.#membership.table.sampleAlive(count, except);
  }

  /** What a watcher found of a member that is suspect or gone. */
  silence(name: MemberName): Silence | undefined {
    return this.#membership.table.silence(name);
  }

  /** Round trip of the last probe of `name` that was answered directly, in ms. */
  rttMs(name: MemberName): number | undefined {
    return this.#membership.table.rttMs(name);
  }

  /** Members that changed since the last call. */
  take(): readonly MemberName[] {
    return this.#membership.takeChanged();
  }

  /** All members for a push/pull. */
  state(now: Instant): MemberUpdate[] {
    const updates: MemberUpdate[] = [];
    for (const member of this.#membership.table.all.values())
      updates.push(this.#membership.record(member, now));
    return updates;
  }

  // --- what comes in ------------------------------------------------------------------------------------------

  /** One packet. Returns the claims that it carried, which are not looked at here. */
  heard(message: SwimMessage, from: Endpoint, now: Instant): readonly ClaimUpdate[] {
    this.#courier.hears(now);
    if (message.from === this.#name) return NO_CLAIMS;
    const claims =
      message.kind === 'nack' ? NO_CLAIMS : this.#applyAll(message.updates, message.from, from, now);
    switch (message.kind) {
      case 'ping':
        this.#onPing(message, from, now);
        break;
      case 'ping-request':
        this.#onPingRequest(message, from, now);
        break;
      case 'ack':
        this.#onAck(message, now);
        break;
      case 'nack':
        this.#prober.nacked(message.seq);
        break;
      case 'gossip':
        break;
      default:
        message satisfies never;
    }
    this.#lookAtSender(message.from, from, now);
    this.#wake(now);
    return claims;
  }

  /** The members of a whole state, `from` whom if that is known: having come over TCP, it is an answer to our probe. */
  merge(members: readonly MemberUpdate[], now: Instant, from?: MemberName): void {
    this.#courier.hears(now);
    if (from !== undefined) {
      this.#prober.reached(from);
      this.vouch(from, now);
    }
    let news = 0;
    for (const update of members) {
      const outcome = this.#membership.apply(update, { bulk: true, spread: news < BULK_NEWS }, now);
      if (outcome === 'news') news += 1;
      if (outcome === 'outdated' && update.name !== this.#name) this.#courier.tell(update.name, now);
    }
    if (news >= BULK_NEWS) this.#beEager(now);
    this.#wake(now);
  }

  /** A watcher, this host or another, does not hear `name`: suspect at once, and for no longer than a refutation takes. */
  judge(name: MemberName, incarnation: number, silence: Silence, by: MemberName, now: Instant): void {
    if (this.#membership.suspect(name, incarnation, by, silence, now)) this.#courier.tell(name, now);
    this.#wake(now);
  }

  /** This host hears `name` itself, by another way than probes. */
  vouch(name: MemberName, now: Instant): void {
    this.#courier.hears(now);
    const member = this.#membership.table.get(name);
    if (member === undefined || member.state === 'alive' || name === this.#name) return;
    // It is told before a suspicion is withdrawn, because others may have got that already: refuted, it is gone everywhere.
    this.#courier.tell(name, now);
    if (this.#membership.suspicions.get(name)?.isOnlyOf(this.#name) === true) {
      this.#membership.withdraw(name, now);
    }
    this.#wake(now);
  }

  /**
   * A packet came from `name`, which says that it is in `incarnation`. When something else stands here, it is told so
   * that it can refute, or asked for what is not known here; `from` is where an unknown one is asked.
   */
  contact(name: MemberName, incarnation: number, now: Instant, from?: Endpoint): void {
    this.#courier.hears(now);
    const member = this.#membership.table.get(name);
    if (name === this.#name || (member?.incarnation === incarnation && member.state === 'alive')) return;
    if (member === undefined) {
      if (from !== undefined) this.#exchanges.ask(from, now);
    } else if (incarnation > member.incarnation) {
      this.#exchanges.ask(member.meta.endpoint, now);
    } else if (member.incarnation - incarnation > MAX_INCARNATION_JUMP) {
      // It cannot outbid that, so it was not itself that got there.
      this.#membership.forget(name);
      this.#exchanges.ask(member.meta.endpoint, now);
    } else {
      this.#courier.tell(name, now);
      if (!isHere(member.state)) this.#exchanges.ask(from ?? member.meta.endpoint, now);
    }
    this.#wake(now);
  }

  // --- what this host wants -----------------------------------------------------------------------------------

  /** Where others may be found, this host's own endpoint allowed among them: asked at once, then for ever. */
  seeds(endpoints: readonly Endpoint[], now: Instant): void {
    this.#exchanges.seeds(endpoints, now);
  }

  setMeta(meta: MemberMeta, now: Instant): void {
    this.#membership.setMeta(meta, now);
    this.#wake(now);
  }

  /** Spreads a claim with the gossip; a newer one of the same address replaces it. */
  broadcast(update: ClaimUpdate, now: Instant): void {
    this.#membership.queue.putClaim(update);
    this.#wake(now);
  }

  /** Tells that this host leaves. It still answers and gossips for as long as it is driven, but suspects nobody. */
  leave(now: Instant): void {
    if (this.#membership.leaving) return;
    this.#membership.leave(now);
    this.#prober.stop();
    this.#exchanges.stop();
    this.#retryAt = NEVER;
    this.#courier.spread(LEAVE_FANOUT * this.#settings.gossipFanout, now);
    this.#wake(now);
  }

  /** This host did not run for `lateMs`, which counts against itself: nobody is suspected for it. */
  overrun(lateMs: number, now: Instant): void {
    this.#health.worse();
    this.#prober.abandon(now);
    this.#membership.suspicions.shift(lateMs);
    this.#courier.overrun(now);
  }

  // --- time ---------------------------------------------------------------------------------------------------

  deadline(): Instant {
    return earliest(
      this.#prober.deadline(),
      this.#relays.deadline(),
      this.#membership.suspicions.deadline(),
      this.#exchanges.deadline(),
      this.#courier.deadline(),
      this.#retryAt,
    );
  }

  advance(now: Instant): void {
    const lateMs = now - this.deadline();
    if (lateMs < 0) return;
    if (lateMs > this.#settings.overrunMs) this.overrun(lateMs, now);
    this.#probe(now);
    this.#relay(now);
    this.#endSuspicions(now);
    this.#exchanges.advance(now);
    if (now >= this.#retryAt) this.#retryGone(now);
    this.#wake(now);
    this.#courier.advance(now);
  }

  /** Starts the timers that there is something for. */
  #wake(now: Instant): void {
    const { table, leaving } = this.#membership;
    this.#courier.wake(now);
    if (leaving) return;
    if (table.hereCount > 0 && this.#prober.deadline() === NEVER) {
      this.#prober.start(after(now, this.#random() * this.#settings.probeIntervalMs));
    }
    this.#exchanges.wake(now);
    if (table.goneCount > 0 && this.#retryAt === NEVER) this.#retryAt = after(now, this.#retryPauseMs(now));
  }

  // --- probes -------------------------------------------------------------------------------------------------

  #onPing(ping: Ping, from: Endpoint, now: Instant): void {
    if (ping.target !== this.#name) return;
    this.#courier.ack(ping.from, from, ping.seq, now);
  }

  /** Who talks to us and is unknown or gone here gets to know, and is asked, what each of us missed. */
  #lookAtSender(name: MemberName, from: Endpoint, now: Instant): void {
    const sender = this.#membership.table.get(name);
    if (sender === undefined) this.#exchanges.ask(from, now);
    else if (!isHere(sender.state)) this.#courier.tell(name, now);
  }

  #onPingRequest(request: PingRequest, from: Endpoint, now: Instant): void {
    const { target, targetEndpoint } = request;
    if (target === this.#name) return;
    const seq = this.#nextSeq();
    const nackAt = after(now, this.#settings.probeTimeoutMs);
    if (!this.#relays.add(seq, { to: from, seq: request.seq }, nackAt)) return;
    this.#courier.ping(target, targetEndpoint, seq, now);
  }

  #onAck(ack: Ack, now: Instant): void {
    if (this.#prober.acked(ack.seq, ack.from, now)) return;
    const requester = this.#relays.acked(ack.seq);
    if (requester !== undefined) {
      this.#courier.ack(undefined, requester.to, requester.seq, now);
      return;
    }
    const suspect = this.#membership.suspicions.askedWith(ack.seq);
    if (suspect === undefined) return;
    // It lives, and still did not refute what it was told with the ping: it is waited for once more.
    suspect.suspicion.restart(now);
    this.#membership.reschedule(suspect.name, suspect.suspicion);
    const relay = ack.from === suspect.name ? undefined : this.#membership.table.get(ack.from);
    // What it says of itself passed this host by, and not who reaches it.
    if (relay !== undefined) this.#exchanges.ask(relay.meta.endpoint, now);
  }

  #probe(now: Instant): void {
    for (let step = this.#prober.step(now); step !== undefined; step = this.#prober.step(now)) {
      this.#carryOut(step, now);
    }
  }

  #carryOut(step: ProbeStep, now: Instant): void {
    switch (step.kind) {
      case 'ask':
        return this.#courier.ping(step.target.name, step.target.meta.endpoint, step.seq, now);
      case 'ask-others': {
        const { target, seq, helpers } = step;
        this.#courier.pingEveryWay(target, seq, now);
        for (const helper of helpers) this.#courier.pingRequest(helper, target, seq, now);
        return;
      }
      case 'connect':
        this.#exchanges.with(step.target.meta.endpoint);
        return;
      case 'failed':
        if (this.#membership.suspect(step.target, step.incarnation, this.#name, undefined, now)) {
          this.#courier.tell(step.target, now);
        }
        return;
      default:
        step satisfies never;
    }
  }

  #relay(now: Instant): void {
    const keepMs = this.#settings.probeIntervalMs;
    for (;;) {
      const requester = this.#relays.takeOverdue(now, keepMs);
      if (requester === undefined) return;
      this.#courier.send(requester.to, { kind: 'nack', from: this.#name, seq: requester.seq });
    }
  }

  #endSuspicions(now: Instant): void {
    const { suspicions } = this.#membership;
    const chanceMs = this.#health.stretch(this.#settings.probeTimeoutMs);
    for (;;) {
      const step = suspicions.step(now, chanceMs);
      if (step === undefined) return;
      const member = this.#membership.table.get(step.name);
      if (member === undefined) continue;
      if (step.kind === 'over') {
        this.#membership.declareDead(step.name, now);
      } else {
        const seq = step.suspicion.askedSeq ?? this.#nextSeq();
        step.suspicion.askedSeq = seq;
        this.#courier.pingEveryWay(member, seq, now);
        for (const helper of this.#helpers(step.name, step.suspicion))
          this.#courier.pingRequest(helper, member, seq, now);
      }
    }
  }

  /** Others than those who suspect it, which do not reach it either; more of them with the last question. */
  #helpers(suspect: MemberName, suspicion: Suspicion): readonly Member[] {
    const { table } = this.#membership;
    const count = this.#settings.indirect * suspicion.asked;
    return table.sampleAlive(count, suspect, (name) => !suspicion.isBy(name));
  }

  /** One of the dead is asked whether it lives, and gets what stands of it with the question. */
  #retryGone(now: Instant): void {
    this.#retryAt = NEVER;
    for (let count = this.#exchanges.isEager(now) ? EAGER_RETRIES : 1; count > 0; count--) {
      const member = this.#membership.table.nextGone(now);
      if (member === undefined) return;
      this.#courier.ping(member.name, member.meta.endpoint, this.#nextSeq(), now);
    }
  }

  // --- news -------------------------------------------------------------------------------------------------

  #applyAll(
    updates: readonly Update[],
    from: MemberName,
    endpoint: Endpoint,
    now: Instant,
  ): readonly ClaimUpdate[] {
    let claims: ClaimUpdate[] | undefined;
    for (const update of updates) {
      if (update.kind === 'claim') {
        if (claims === undefined) claims = [update];
        else claims.push(update);
        continue;
      }
      const before = this.#membership.table.get(update.name);
      const outcome = this.#membership.apply(update, { bulk: false, spread: true }, now);
      if (update.name === this.#name) {
        // Who still holds us for less than we are gets our own word.
        if (outcome === 'outdated') this.#courier.tellOf(this.self, endpoint, now);
        continue;
      }
      if (update.name !== from) continue;
      if (outcome === 'outdated') this.#courier.tell(from, now);
      else if (outcome === 'news') this.#onDirectNews(before, update, now);
    }
    return claims ?? NO_CLAIMS;
  }

  /** `update` is the member's own word. One that was dead knows others that are dead here, if a network was cut in two. */
  #onDirectNews(before: Member | undefined, update: MemberUpdate, now: Instant): void {
    if (before === undefined || isHere(before.state) || update.state !== 'alive') return;
    this.#exchanges.ask(before.meta.endpoint, now);
    if (this.#membership.table.goneCount > 0) this.#beEager(now);
  }

  #retryPauseMs(now: Instant): number {
    if (this.#exchanges.isEager(now)) return EAGER_RETRY_MS;
    return this.#settings.deadRetryMs * (0.75 + this.#random() / 2);
  }

  #beEager(now: Instant): void {
    this.#exchanges.beEager(now);
    if (!this.#membership.leaving) this.#retryAt = earliest(this.#retryAt, after(now, EAGER_RETRY_MS));
  }

  #nextSeq(): number {
    this.#seq = (this.#seq + 1) % 0x8000_0000;
    return this.#seq;
  }
}
