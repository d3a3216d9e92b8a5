import { after, type Instant, instant, NEVER } from '../lib/time.ts';
import { updateBytes } from './codec-updates.ts';
import type { Effect } from './effects.ts';
import type { Membership } from './membership.ts';
import { MAX_UPDATES_BYTES, type Message, type Update } from './message.ts';
import { Pace } from './pace.ts';
import type { ElectionSettings } from './settings.ts';
import type { Endpoint, Member, MemberName } from './types.ts';
import { otherWays } from './ways.ts';

/** Gossip packets for each target of a tick while more is queued than fits into one. */
const PACKETS_PER_TICK = 8;
/** Even among three, one packet that is lost must not be all there was. */
const LEAST_ROUNDS = 2;
/** Hearing nothing for so many probe intervals, a member keeps what it thinks of others to itself. */
const DEAF_PROBE_INTERVALS = 4;
/** A member is told what stands of it once in so long; all members together so often a second. */
const TELL_PAUSE_MS = 100;
const TELLS_PER_S = 512;

/** A request to probe names a third member and its endpoint besides. */
const REQUEST_UPDATES_BYTES = MAX_UPDATES_BYTES - 32;

const NO_UPDATES: readonly Update[] = [];

/** Sends packets and decides what rides on them: the news of the queue, and first what the receiver must refute. */
export class Courier {
  readonly #name: MemberName;
  readonly #settings: ElectionSettings;
  readonly #membership: Membership;
  readonly #out: Effect[];
  readonly #tells = new Pace<MemberName>(TELL_PAUSE_MS, TELLS_PER_S);
  #gossipAt: Instant = NEVER;
  #gossipedAt: Instant = instant(Number.NEGATIVE_INFINITY);
  #heardAt: Instant;

  constructor(
    name: MemberName,
    settings: ElectionSettings,
    membership: Membership,
    out: Effect[],
    now: Instant,
  ) {
    this.#name = name;
    this.#settings = settings;
    this.#membership = membership;
    this.#out = out;
    this.#heardAt = now;
  }

  /** Somebody is heard. What this host found of others while it heard nobody is doubtful. */
  hears(now: Instant): void {
    if (this.#isDeaf(now)) {
      this.#membership.queue.dropAccusations(this.#name);
      this.#membership.suspicions.shift(this.#settings.suspicionMinMs);
    }
    this.#heardAt = now;
  }

  /** This host did not run: that it heard nobody meanwhile means nothing. */
  overrun(now: Instant): void {
    this.#heardAt = now;
  }

  /** There may be something to gossip. The first tick after a pause is at once: news travels at the speed of packets. */
  wake(now: Instant): void {
    const { queue, table } = this.#membership;
    if (queue.size === 0 || this.#gossipAt !== NEVER || table.hereCount === 0) return;
    const next = after(this.#gossipedAt, this.#settings.gossipIntervalMs);
    this.#gossipAt = next > now ? next : now;
  }

  deadline(): Instant {
    return this.#gossipAt;
  }

  advance(now: Instant): void {
    if (now < this.#gossipAt) return;
    const { queue } = this.#membership;
    this.#gossipedAt = now;
    this.#gossipAt = NEVER;
    let waiting = this.#isDeaf(now) ? 0 : queue.size;
    for (let packets = PACKETS_PER_TICK; packets > 0 && waiting > 0; packets--) {
      const sent = this.spread(this.#settings.gossipFanout, now);
      if (sent === 0) break;
      waiting -= sent;
    }
    if (queue.size > 0 && this.#membership.table.hereCount > 0) {
      this.#gossipAt = after(now, this.#settings.gossipIntervalMs);
    }
  }

  /** One packet of news to `fanout` others. Returns how many updates it has. */
  spread(fanout: number, now: Instant): number {
    const targets = this.#membership.table.sampleHere(fanout, undefined);
    if (targets.length === 0) return 0;
    const updates = this.#take(MAX_UPDATES_BYTES, targets.length, now);
    if (updates.length === 0) return 0;
    const message: Message = { kind: 'gossip', from: this.#name, updates };
    for (const target of targets) this.send(target.meta.endpoint, message);
    return updates.length;
  }

  /** Tells `name` what stands of it, at once and directly, though not all the time. */
  tell(name: MemberName, now: Instant): void {
    const member = this.#membership.table.get(name);
    if (member === undefined || !this.#tells.allows(name, now)) return;
    this.tellOf(member, member.meta.endpoint, now);
    if (member.state !== 'alive') for (const to of otherWays(member)) this.tellOf(member, to, now);
  }

  tellOf(member: Member, to: Endpoint, now: Instant): void {
    this.send(to, { kind: 'gossip', from: this.#name, updates: [this.#membership.record(member, now)] });
  }

  ping(target: MemberName, to: Endpoint, seq: number, now: Instant): void {
    this.send(to, { kind: 'ping', from: this.#name, seq, target, updates: this.#updatesFor(target, now) });
  }

  /** By every way that it is known to have. */
  pingEveryWay(target: Member, seq: number, now: Instant): void {
    this.ping(target.name, target.meta.endpoint, seq, now);
    for (const to of otherWays(target)) this.ping(target.name, to, seq, now);
  }

  pingRequest(helper: Member, target: Member, seq: number, now: Instant): void {
    const updates = this.#updatesFor(helper.name, now, REQUEST_UPDATES_BYTES);
    const request = { seq, target: target.name, targetEndpoint: target.meta.endpoint, updates };
    this.send(helper.meta.endpoint, { kind: 'ping-request', from: this.#name, ...request });
  }

  ack(receiver: MemberName | undefined, to: Endpoint, seq: number, now: Instant): void {
    this.send(to, { kind: 'ack', from: this.#name, seq, updates: this.#updatesFor(receiver, now) });
  }

  send(to: Endpoint, message: Message): void {
    this.#out.push({ kind: 'send', to, message, segment: undefined });
  }

  /** First what stands of the receiver itself, if that is not good, so that it can refute. */
  #updatesFor(
    receiver: MemberName | undefined,
    now: Instant,
    maxBytes = MAX_UPDATES_BYTES,
  ): readonly Update[] {
    const member = receiver === undefined ? undefined : this.#membership.table.get(receiver);
    const deaf = this.#isDeaf(now);
    if (member === undefined || member.state === 'alive') {
      return deaf ? NO_UPDATES : this.#take(maxBytes, 1, now);
    }
    const record = this.#membership.record(member, now);
    if (deaf) return [record];
    return [record, ...this.#take(maxBytes - updateBytes(record), 1, now)];
  }

  #take(maxBytes: number, copies: number, now: Instant): readonly Update[] {
    const { queue, table } = this.#membership;
    if (queue.size === 0) return NO_UPDATES;
    const rounds = Math.max(LEAST_ROUNDS, Math.ceil(Math.log10(table.hereCount + 2)));
    return queue.take(maxBytes, copies, this.#settings.retransmitMult * rounds, now);
  }

  #isDeaf(now: Instant): boolean {
    return now > after(this.#heardAt, DEAF_PROBE_INTERVALS * this.#settings.probeIntervalMs);
  }
}
