import { after, earliest, type Instant, instant, NEVER } from '../lib/time.ts';
import { updateBytes } from './codec-updates.ts';
import type { Effect } from './effects.ts';
import { LocalHealth } from './local-health.ts';
import { isHere } from './member-table.ts';
import { MAX_INCARNATION_JUMP, Membership, type SwimOptions } from './membership.ts';
import {
  type Ack,
  type ClaimUpdate,
  type Gossip,
  MAX_UPDATES_BYTES,
  type MemberUpdate,
  type Message,
  type Nack,
  type Ping,
  type PingRequest,
  type Update,
} from './message.ts';
import { Pace } from './pace.ts';
import { Prober, type ProbeStep } from './prober.ts';
import { Relays } from './relays.ts';
import { Seeds } from './seeds.ts';
import type { ElectionSettings } from './settings.ts';
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

/** Gossip packets for each target of a tick while more is queued than fits into one. */
const PACKETS_PER_TICK = 8;
/** More news than this in one exchange of states is not gossiped: everybody else exchanges states as well. */
export const BULK_NEWS = 32;
/** After bulk news, or when one of several dead turns out to live, everybody is looked for eagerly for so long. */
export const EAGER_MS = 3_000;
const EAGER_RETRY_MS = 100;
const EAGER_RETRIES = 4;
const EAGER_PUSH_PULL_MS = 1_000;
/** Up to so many members, states are exchanged every `pushPullMs`; each doubling adds that much again. */
const PUSH_PULL_SCALE_FROM = 32;
/** Hearing nothing for so many probe intervals, a member keeps its suspicions to itself. */
const DEAF_PROBE_INTERVALS = 4;
/** A member is told what stands of it once in so long; all members together so often a second. */
const TELL_PAUSE_MS = 100;
const TELLS_PER_S = 512;
/** Exchanges of states that something unexpected asks for. */
const EXCHANGE_PAUSE_MS = 1_000;
const EXCHANGES_PER_S = 16;
/** At the end of this host's membership, so many times the usual fanout is told directly. */
const LEAVE_FANOUT = 4;

const NO_UPDATES: readonly Update[] = [];
const NO_CLAIMS: readonly ClaimUpdate[] = [];

export type SwimMessage = Ping | PingRequest | Ack | Nack | Gossip;

export class Swim {
  readonly #name: MemberName;
  readonly #settings: ElectionSettings;
  readonly #random: () => number;
  readonly #out: Effect[];
  readonly #membership: Membership;
  readonly #health = new LocalHealth();
  readonly #prober: Prober;
  readonly #relays = new Relays();
  readonly #seeds: Seeds;
  readonly #tells = new Pace<MemberName>(TELL_PAUSE_MS, TELLS_PER_S);
  readonly #exchanges = new Pace<string>(EXCHANGE_PAUSE_MS, EXCHANGES_PER_S);
  #seq: number;
  #gossipAt: Instant = NEVER;
  #gossipedAt: Instant = instant(Number.NEGATIVE_INFINITY);
  #pushPullAt: Instant = NEVER;
  #retryAt: Instant = NEVER;
  #eagerUntil: Instant = instant(Number.NEGATIVE_INFINITY);
  #heardAt: Instant;

  constructor(options: SwimOptions) {
    const { name, settings, random, out, now } = options;
    this.#name = name;
    this.#settings = settings;
    this.#random = random;
    this.#out = out;
    this.#membership = new Membership(options, this.#health);
    this.#prober = new Prober(settings, this.#membership.table, this.#health, () => this.#nextSeq());
    this.#seeds = new Seeds(random);
    this.#seq = Math.floor(random() * 0x4000_0000);
    this.#heardAt = now;
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

  /** Updates that still wait to be sent on. */
  get queued(): number {
    return this.#membership.queue.size;
  }

  get refutations(): number {
    return this.#membership.refutations;
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
    this.#hears(now);
    if (message.from === this.#name) return NO_CLAIMS;
    const claims = message.kind === 'nack' ? NO_CLAIMS : this.#applyAll(message.updates, message.from, now);
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
    this.#hears(now);
    if (from !== undefined) {
      this.#prober.reached(from);
      this.vouch(from, now);
    }
    let news = 0;
    for (const update of members) {
      const outcome = this.#membership.apply(update, { bulk: true, spread: news < BULK_NEWS }, now);
      if (outcome === 'news') news += 1;
      if (outcome === 'outdated') this.#tell(update.name, now);
    }
    if (news >= BULK_NEWS) this.#beEager(now);
    this.#wake(now);
  }

  /** A watcher, this host or another, does not hear `name`: suspect at once, and for no longer than a refutation takes. */
  judge(name: MemberName, incarnation: number, silence: Silence, by: MemberName, now: Instant): void {
    if (this.#membership.suspect(name, incarnation, by, silence, now)) this.#tell(name, now);
    this.#wake(now);
  }

  /** This host hears `name` itself, by another way than probes. */
  vouch(name: MemberName, now: Instant): void {
    this.#hears(now);
    const member = this.#membership.table.get(name);
    if (member === undefined || member.state === 'alive' || name === this.#name) return;
    if (this.#membership.suspicions.get(name)?.isOnlyOf(this.#name) === true) {
      this.#tell(name, now);
      this.#membership.withdraw(name, now);
    } else {
      this.#tell(name, now);
    }
    this.#wake(now);
  }

  /**
   * A packet came from `name`, which says that it is in `incarnation`. When something else stands here, it is told so
   * that it can refute, or asked for what is not known here; `from` is where an unknown one is asked.
   */
  contact(name: MemberName, incarnation: number, now: Instant, from?: Endpoint): void {
    this.#hears(now);
    const member = this.#membership.table.get(name);
    if (name === this.#name || (member?.incarnation === incarnation && member.state === 'alive')) return;
    if (member === undefined) {
      if (from !== undefined) this.#exchange(from, now);
    } else if (incarnation > member.incarnation) {
      this.#exchange(member.meta.endpoint, now);
    } else if (member.incarnation - incarnation > MAX_INCARNATION_JUMP) {
      // It cannot outbid that, so it was not itself that got there.
      this.#membership.forget(name);
      this.#exchange(member.meta.endpoint, now);
    } else {
      this.#tell(name, now);
      if (!isHere(member.state)) this.#exchange(member.meta.endpoint, now);
    }
    this.#wake(now);
  }

  // --- what this host wants -----------------------------------------------------------------------------------

  /** Where others may be found, this host's own endpoint allowed among them: asked at once, then for ever. */
  seeds(endpoints: readonly Endpoint[], now: Instant): void {
    if (!this.#membership.leaving) this.#seeds.replace(endpoints, now);
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
    this.#seeds.stop();
    const updates = this.#takeUpdates(MAX_UPDATES_BYTES, 1, now);
    const message: Message = { kind: 'gossip', from: this.#name, updates };
    const { gossipFanout } = this.#settings;
    for (const target of this.#membership.table.sampleHere(LEAVE_FANOUT * gossipFanout, undefined)) {
      this.#send(target.meta.endpoint, message);
    }
    this.#wake(now);
  }

  /** This host did not run for `lateMs`, which counts against itself: nobody is suspected for it. */
  overrun(lateMs: number, now: Instant): void {
    this.#health.worse();
    this.#prober.abandon(now);
    this.#membership.suspicions.shift(lateMs);
    this.#heardAt = now;
  }

  // --- time ---------------------------------------------------------------------------------------------------

  deadline(): Instant {
    return earliest(
      this.#prober.deadline(),
      this.#relays.deadline(),
      this.#membership.suspicions.deadline(),
      this.#seeds.deadline(),
      this.#gossipAt,
      this.#pushPullAt,
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
    if (now >= this.#seeds.deadline()) this.#askSeeds(now);
    if (now >= this.#pushPullAt) this.#pushPull();
    if (now >= this.#retryAt) this.#retryGone(now);
    this.#wake(now);
    if (now >= this.#gossipAt) this.#gossip(now);
  }

  /** Starts the timers that there is something for. */
  #wake(now: Instant): void {
    const { table, queue, leaving } = this.#membership;
    if (queue.size > 0 && this.#gossipAt === NEVER && table.hereCount > 0) {
      const next = after(this.#gossipedAt, this.#settings.gossipIntervalMs);
      this.#gossipAt = next > now ? next : now;
    }
    if (leaving) {
      this.#pushPullAt = NEVER;
      this.#retryAt = NEVER;
      return;
    }
    if (table.hereCount > 0) {
      const { probeIntervalMs } = this.#settings;
      if (this.#prober.deadline() === NEVER) this.#prober.start(after(now, this.#random() * probeIntervalMs));
      if (this.#pushPullAt === NEVER) this.#pushPullAt = after(now, this.#pushPullPauseMs(now));
    }
    if (table.goneCount > 0 && this.#retryAt === NEVER) this.#retryAt = after(now, this.#retryPauseMs(now));
  }

  // --- probes -------------------------------------------------------------------------------------------------

  #onPing(ping: Ping, from: Endpoint, now: Instant): void {
    if (ping.target !== this.#name) return;
    const updates = this.#updatesFor(ping.from, now);
    this.#send(from, { kind: 'ack', from: this.#name, seq: ping.seq, updates });
  }

  /** Who talks to us and is unknown or gone here gets to know, and is asked, what each of us missed. */
  #lookAtSender(name: MemberName, from: Endpoint, now: Instant): void {
    const sender = this.#membership.table.get(name);
    if (sender === undefined) this.#exchange(from, now);
    else if (!isHere(sender.state)) this.#tell(name, now);
  }

  #onPingRequest(request: PingRequest, from: Endpoint, now: Instant): void {
    const { target, targetEndpoint } = request;
    if (target === this.#name) return;
    const seq = this.#nextSeq();
    const nackAt = after(now, this.#settings.probeTimeoutMs);
    if (!this.#relays.add(seq, { to: from, seq: request.seq }, nackAt)) return;
    this.#ping(target, targetEndpoint, seq, now);
  }

  #onAck(ack: Ack, now: Instant): void {
    if (this.#prober.acked(ack.seq, ack.from, now)) return;
    const requester = this.#relays.acked(ack.seq);
    if (requester !== undefined) {
      const updates = this.#takeUpdates(MAX_UPDATES_BYTES, 1, now);
      this.#send(requester.to, { kind: 'ack', from: this.#name, seq: requester.seq, updates });
      return;
    }
    const suspicion = this.#membership.suspicions.get(ack.from);
    if (suspicion === undefined || suspicion.askedSeq !== ack.seq) return;
    // It lives, and still did not refute what it was told with the ping: it is waited for once more.
    suspicion.restart(now);
    this.#membership.reschedule(ack.from, suspicion);
  }

  #probe(now: Instant): void {
    for (let step = this.#prober.step(now); step !== undefined; step = this.#prober.step(now)) {
      this.#carryOut(step, now);
    }
  }

  #carryOut(step: ProbeStep, now: Instant): void {
    switch (step.kind) {
      case 'ask':
        return this.#ping(step.target.name, step.target.meta.endpoint, step.seq, now);
      case 'ask-others': {
        const { target, seq, helpers } = step;
        const { name, meta } = target;
        this.#ping(name, meta.endpoint, seq, now);
        for (const helper of helpers) {
          const updates = this.#updatesFor(helper.name, now);
          const request = { seq, target: name, targetEndpoint: meta.endpoint, updates };
          this.#send(helper.meta.endpoint, { kind: 'ping-request', from: this.#name, ...request });
        }
        return;
      }
      case 'connect':
        this.#out.push({ kind: 'exchange', with: step.target.meta.endpoint });
        return;
      case 'failed':
        if (this.#membership.suspect(step.target, step.incarnation, this.#name, undefined, now)) {
          this.#tell(step.target, now);
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
      this.#send(requester.to, { kind: 'nack', from: this.#name, seq: requester.seq });
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
        step.suspicion.askedSeq ??= this.#nextSeq();
        this.#ping(step.name, member.meta.endpoint, step.suspicion.askedSeq, now);
      }
    }
  }

  /** One of the dead is asked whether it lives, and gets what stands of it with the question. */
  #retryGone(now: Instant): void {
    this.#retryAt = NEVER;
    for (let count = now < this.#eagerUntil ? EAGER_RETRIES : 1; count > 0; count--) {
      const member = this.#membership.table.nextGone(now);
      if (member === undefined) return;
      this.#ping(member.name, member.meta.endpoint, this.#nextSeq(), now);
    }
  }

  // --- gossip -------------------------------------------------------------------------------------------------

  #gossip(now: Instant): void {
    const { table, queue } = this.#membership;
    const { gossipIntervalMs, gossipFanout } = this.#settings;
    this.#gossipedAt = now;
    this.#gossipAt = NEVER;
    if (table.hereCount === 0) return;
    let waiting = this.#isDeaf(now) ? 0 : queue.size;
    for (let packets = PACKETS_PER_TICK; packets > 0 && waiting > 0; packets--) {
      const targets = table.sampleHere(gossipFanout, undefined);
      const updates = this.#takeUpdates(MAX_UPDATES_BYTES, Math.max(1, targets.length), now);
      if (updates.length === 0) break;
      waiting -= updates.length;
      const message: Message = { kind: 'gossip', from: this.#name, updates };
      for (const target of targets) this.#send(target.meta.endpoint, message);
    }
    if (queue.size > 0) this.#gossipAt = after(now, gossipIntervalMs);
  }

  #applyAll(updates: readonly Update[], from: MemberName, now: Instant): readonly ClaimUpdate[] {
    let claims: ClaimUpdate[] | undefined;
    for (const update of updates) {
      if (update.kind === 'claim') {
        if (claims === undefined) claims = [update];
        else claims.push(update);
        continue;
      }
      const before = this.#membership.table.get(update.name);
      const outcome = this.#membership.apply(update, { bulk: false, spread: true }, now);
      if (update.name !== from) continue;
      if (outcome === 'outdated') this.#tell(from, now);
      else if (outcome === 'news') this.#onDirectNews(before, update, now);
    }
    return claims ?? NO_CLAIMS;
  }

  /** `update` is the member's own word. One that was dead knows others that are dead here, if a network was cut in two. */
  #onDirectNews(before: Member | undefined, update: MemberUpdate, now: Instant): void {
    if (before === undefined || isHere(before.state) || update.state !== 'alive') return;
    this.#exchange(before.meta.endpoint, now);
    if (this.#membership.table.goneCount > 0) this.#beEager(now);
  }

  /** What a packet to `name` carries: first what stands of it, if that is not good, so that it can refute. */
  #updatesFor(name: MemberName, now: Instant): readonly Update[] {
    const member = this.#membership.table.get(name);
    if (member === undefined || member.state === 'alive') {
      return this.#isDeaf(now) ? NO_UPDATES : this.#takeUpdates(MAX_UPDATES_BYTES, 1, now);
    }
    const record = this.#membership.record(member, now);
    if (this.#isDeaf(now)) return [record];
    return [record, ...this.#takeUpdates(MAX_UPDATES_BYTES - updateBytes(record), 1, now)];
  }

  #takeUpdates(maxBytes: number, copies: number, now: Instant): readonly Update[] {
    const { queue, table } = this.#membership;
    if (queue.size === 0) return NO_UPDATES;
    const rounds = Math.max(2, Math.ceil(Math.log10(table.hereCount + 2)));
    return queue.take(maxBytes, copies, this.#settings.retransmitMult * rounds, now);
  }

  /** Tells `name` what stands of it, at once and directly. */
  #tell(name: MemberName, now: Instant): void {
    const member = this.#membership.table.get(name);
    if (member === undefined || !this.#tells.allows(name, now)) return;
    const updates = [this.#membership.record(member, now)];
    this.#send(member.meta.endpoint, { kind: 'gossip', from: this.#name, updates });
  }

  // --- exchanges of states ------------------------------------------------------------------------------------

  #exchange(endpoint: Endpoint, now: Instant): void {
    if (this.#membership.leaving) return;
    if (this.#exchanges.allows(endpointKey(endpoint), now))
      this.#out.push({ kind: 'exchange', with: endpoint });
  }

  #pushPull(): void {
    this.#pushPullAt = NEVER;
    const [target] = this.#membership.table.sampleAlive(1, undefined);
    if (target !== undefined) this.#out.push({ kind: 'exchange', with: target.meta.endpoint });
  }

  #askSeeds(now: Instant): void {
    const members = new Set<string>();
    for (const member of this.alive()) members.add(endpointKey(member.meta.endpoint));
    const alone = members.size <= 1;
    const chosen = this.#seeds.take(now, alone, (endpoint) => members.has(endpointKey(endpoint)));
    for (const endpoint of chosen) this.#out.push({ kind: 'exchange', with: endpoint });
  }

  #pushPullPauseMs(now: Instant): number {
    if (now < this.#eagerUntil) return EAGER_PUSH_PULL_MS * (0.5 + this.#random());
    const here = this.#membership.table.hereCount;
    const scale = Math.max(1, 1 + Math.ceil(Math.log2(here / PUSH_PULL_SCALE_FROM)));
    return this.#settings.pushPullMs * scale * (0.75 + this.#random() / 2);
  }

  #retryPauseMs(now: Instant): number {
    if (now < this.#eagerUntil) return EAGER_RETRY_MS;
    return this.#settings.deadRetryMs * (0.75 + this.#random() / 2);
  }

  #beEager(now: Instant): void {
    this.#eagerUntil = after(now, EAGER_MS);
    this.#retryAt = earliest(this.#retryAt, after(now, EAGER_RETRY_MS));
    this.#pushPullAt = earliest(this.#pushPullAt, after(now, this.#pushPullPauseMs(now)));
  }

  // --- packets ------------------------------------------------------------------------------------------------

  #ping(target: MemberName, endpoint: Endpoint, seq: number, now: Instant): void {
    const updates = this.#updatesFor(target, now);
    this.#send(endpoint, { kind: 'ping', from: this.#name, seq, target, updates });
  }

  #send(to: Endpoint, message: Message): void {
    this.#out.push({ kind: 'send', to, message, segment: undefined });
  }

  /** Somebody is heard. What this host found of others while it heard nobody is doubtful. */
  #hears(now: Instant): void {
    if (this.#isDeaf(now)) {
      this.#membership.queue.dropAccusations(this.#name);
      this.#membership.suspicions.shift(this.#settings.suspicionMinMs);
    }
    this.#heardAt = now;
  }

  #isDeaf(now: Instant): boolean {
    return now > after(this.#heardAt, DEAF_PROBE_INTERVALS * this.#settings.probeIntervalMs);
  }

  #nextSeq(): number {
    this.#seq = (this.#seq + 1) % 0x8000_0000;
    return this.#seq;
  }
}

function endpointKey({ ip, port }: Endpoint): string {
  return `${ip} ${port}`;
}
