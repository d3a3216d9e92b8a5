import type { Report as ElectionReport } from '../../../src/election/effects.ts';
import type { ElectionSettings } from '../../../src/election/settings.ts';
import type { MemberName } from '../../../src/election/types.ts';
import { verdictMs } from '../../../src/election/watch-timing.ts';
import type { Report as LocalReport, Program } from '../../../src/iface/local-types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import type { Client } from './client.ts';
import type { SimHost } from './host.ts';
import { type Link, SEGMENTS } from './lan-plan.ts';
import type { World } from './world.ts';

/**
 * The safety rules (design section 5), looked at whenever something happens and with the eyes of the simulation, which
 * knows what no host knows. A breach throws, with the seed.
 *
 *   one owner       no client hears two hosts for longer than the scenario allows
 *   the wire        nothing is added while another host answers for it, but for a hand-over
 *   the dead man    only what was granted is added or renewed, while others are heard, and after a pause only once one
 *                   answered and the wire was asked; a renewal finds the address there
 *   who hears none  lets go in time, and claims nothing: not while isolated, nor soon after a start or a return
 *   epochs          who learnt of a newer claim for what it holds drops it
 *   the floor       nothing is taken over before its owner, if that runs and holds it, was silent for long enough
 */
export type Limits = {
  /** How long a client may hear two hosts. */
  readonly doubleMs: number;
  /** From the last packet that a host heard until it has let go. */
  readonly letGoMs: number;
  /** From learning of a newer claim until the address is out of the kernel. */
  readonly dropMs: number;
  /** How much later than its heir anybody may have heard of an owner: with loss, each hears another packet as the last. */
  readonly unheardMs: number;
};

export const STRICT: Limits = { doubleMs: 50, letGoMs: 200, dropMs: 10, unheardMs: 5 };

/** Timers are late by up to 1.5 ms, and the kernel takes some tenths. */
const TOLERANCE_MS = 5;

type Ears = {
  /** When this process last heard anybody, and when that was sent. */
  heardAt: number;
  /** For how long it heard nobody and nothing before that. */
  silentMs: number;
  heardSentAt: number;
  /** When the reference last answered. */
  referenceAt: number;
  heardPeer: boolean;
  /** When all others said that they have no part in the segment any more. */
  aloneAt: number;
  /** When others last heard of it. */
  tellsAt: number;
  wokeAt: number;
  /** When it last asked the wire for an address that it holds. */
  askedAt: number;
  /** When each address came to its kernel in this life. */
  readonly addedAt: Map<Ip, number>;
  /** When it may take what others had, after an isolation. */
  mayTakeAt: number;
  startedAt: number;
  isWatched: boolean;
};

export class Invariants {
  limits: Limits = STRICT;
  /** More than `limits.doubleMs` for what two hosts are at right now. */
  doubleLimit: ((ip: Ip, hosts: readonly SimHost[]) => number | undefined) | undefined;
  /** How often each rule was looked at: a rule that is never is none. */
  readonly looked = new Map<string, number>();
  readonly #world: World;
  readonly #ears = new Map<SimHost, Ears>();
  readonly #superseded = new Map<SimHost, Set<Ip>>();
  readonly #doubles = new Map<Client, Set<Ip>>();
  #lossUntil = Number.NEGATIVE_INFINITY;

  constructor(world: World) {
    this.#world = world;
  }

  // --- what happens -------------------------------------------------------------------------------------------------

  started(host: SimHost): void {
    const { now } = this.#world;
    this.#ears.set(host, {
      heardAt: now,
      silentMs: 0,
      heardSentAt: now,
      referenceAt: now,
      heardPeer: false,
      aloneAt: Number.NEGATIVE_INFINITY,
      tellsAt: now,
      wokeAt: now,
      askedAt: now,
      addedAt: new Map(),
      mayTakeAt: Number.NEGATIVE_INFINITY,
      startedAt: now,
      isWatched: false,
    });
    this.#superseded.delete(host);
  }

  /** `host` takes a packet of `from`. Another network proves that it runs, and nothing of the one that serves. */
  heard(host: SimHost, from: SimHost, sentAt: number, link: Link): void {
    const ears = this.#ears.get(host);
    if (ears === undefined) return;
    if (sentAt > ears.heardSentAt) ears.heardSentAt = sentAt;
    if (link !== 'data') return;
    const mouth = this.#ears.get(from);
    // A stream may bring it long after.
    if (mouth !== undefined && mouth.startedAt <= sentAt && sentAt > mouth.tellsAt) mouth.tellsAt = sentAt;
    this.#hearsAgain(ears);
    if (ears.heardPeer || sentAt < ears.aloneAt) return;
    ears.heardPeer = true;
    this.#watchEars(host, ears);
  }

  /** The reference answers `host`. */
  heardReference(host: SimHost): void {
    const ears = this.#ears.get(host);
    if (ears === undefined) return;
    this.#hearsAgain(ears);
    ears.referenceAt = this.#world.now;
  }

  #hearsAgain(ears: Ears): void {
    const { now } = this.#world;
    if (now > ears.heardAt) ears.silentMs = now - Math.max(ears.heardAt, ears.wokeAt);
    ears.heardAt = now;
  }

  /**
   * A NIC lost its carrier. Where all others who live said over another network that they have none, or are cut off, to hear nobody is as it should be:
   * who is left there is as one that has never heard anybody.
   */
  carrierLost(): void {
    const { hosts, management, lan } = this.#world;
    if (management === undefined) return;
    for (const [host, ears] of this.#ears) {
      const isGone = (other: SimHost): boolean =>
        other === host ||
        !other.hasCarrier ||
        !other.isRunning ||
        !lan.isIntact(other.port) ||
        !lan.areTogether(host.port, other.port);
      if (!hosts.every(isGone)) continue;
      ears.heardPeer = false;
      ears.aloneAt = this.#world.now;
    }
  }

  /** Packets are lost no more: questions that were asked a moment ago may have been. */
  lossEnded(): void {
    this.#lossUntil = this.#world.now;
  }

  woke(host: SimHost): void {
    const ears = this.#ears.get(host);
    if (ears !== undefined) ears.wokeAt = this.#world.now;
  }

  /** A host asks the wire for an address. */
  asked(host: SimHost, ip: Ip): void {
    const ears = this.#ears.get(host);
    if (ears !== undefined && host.kernel.has(ip)) ears.askedAt = this.#world.now;
  }

  reported(host: SimHost, report: ElectionReport | LocalReport): void {
    const ears = this.#ears.get(host);
    if (ears === undefined) return;
    // Of the segment that carries the addresses: another one that is back says nothing of these.
    if (report.kind === 'reconnected' && report.segment === SEGMENTS.data) {
      const settleMs = host.process === undefined ? 0 : settleAfter(ears.silentMs, host.process.settings);
      ears.mayTakeAt = Math.max(ears.mayTakeAt, this.#world.now + settleMs);
    }
    if (report.kind !== 'claimed') return;
    this.#count('claims');
    if (this.#isDeaf(host, ears)) this.#breach(host, report.claim.ip, 'claimed while it hears nobody');
  }

  /** The host's table of claims changed: what it holds and others own by now must go. */
  claimsChanged(host: SimHost): void {
    const { process } = host;
    if (process === undefined) return;
    const claims = process.election.ownership.claims();
    for (const ip of host.kernel.addresses()) {
      const claim = claims.get(ip);
      if (claim === undefined || claim.owner === host.name) continue;
      const dropping = this.#superseded.get(host) ?? new Set();
      this.#superseded.set(host, dropping);
      if (dropping.has(ip)) continue;
      dropping.add(ip);
      this.#count('epochs');
      const isHandedOver = process.election.ownership.inspect().outgoing.isOverlapping(ip);
      const overlapMs = isHandedOver ? process.settings.handOverOverlapMs : 0;
      this.#dropIn(host, ip, this.limits.dropMs + overlapMs);
    }
  }

  /** lbd asks its kernel for this. */
  programming(host: SimHost, requests: readonly Program[]): void {
    const { process } = host;
    if (process === undefined) return;
    for (const { op, ip } of requests) {
      if (op === 'remove') continue;
      this.#count('grants');
      const grant = process.election.grants().get(ip);
      if (grant === undefined) {
        // What an earlier life left in the kernel is kept until the first plan says otherwise.
        if (op === 'renew' && this.#world.now === process.startedAt) continue;
        this.#breach(host, ip, `${op} without a grant`);
      }
      if (op === 'renew') continue;
      const { kind } = grant.entry;
      if (kind !== 'first' && kind !== 'take-over') continue;
      this.#count('settling');
      this.#mayTake(host, ip, kind);
      if (grant.entry.kind !== 'take-over') continue;
      const { name } = grant.entry.predecessor;
      this.#hearsSomebody(host, ip, name);
      this.#isOverFloor(host, ip, name);
    }
  }

  /** The kernel carries a request out. */
  programmed(host: SimHost, { op, ip }: Program, isKnown: boolean): void {
    const ears = this.#ears.get(host);
    if (op === 'remove') this.#superseded.get(host)?.delete(ip);
    if (op === 'remove' || ears === undefined || !host.isRunning) return;
    this.#count('renewals');
    if (op === 'renew' && !isKnown) this.#breach(host, ip, 'renewed an address that was gone');
    if (this.#isDeaf(host, ears)) this.#breach(host, ip, `${op} while it hears nobody`);
    const provenAt = Math.max(ears.heardSentAt, ears.referenceAt);
    const isProven = !ears.heardPeer || provenAt >= ears.wokeAt || host.pausedMs < MATTERING_PAUSE_MS;
    // Two alone cannot tell who of them is cut off: they go on without an answer.
    if (!isProven && this.#releases(host))
      this.#breach(host, ip, `${op} after a pause, before anybody answered`);
    if (op === 'renew') this.#hasAsked(host, ip, ears);
    else ears.addedAt.set(ip, this.#world.now);
    if (op === 'add') this.#isFree(host, ip);
  }

  /** Who answers a client for `ip` changed. */
  answered(client: Client, ip: Ip): void {
    const record = client.judge.record(ip);
    if (record.doubleSince === undefined) return;
    const doubles = this.#doubles.get(client) ?? new Set();
    this.#doubles.set(client, doubles);
    if (doubles.has(ip)) return;
    doubles.add(ip);
    this.#count('doubles');
    this.#lookAtDouble(client, ip);
  }

  // --- rules --------------------------------------------------------------------------------------------------------

  #lookAtDouble(client: Client, ip: Ip): void {
    const { queue } = this.#world;
    const { answering, doubleSince } = client.judge.record(ip);
    if (doubleSince === undefined) {
      this.#doubles.get(client)?.delete(ip);
      return;
    }
    const hosts = [...answering].map((index) => this.#world.host(index));
    const limit = Math.max(this.limits.doubleMs, this.doubleLimit?.(ip, hosts) ?? 0);
    const endAt = doubleSince + limit;
    if (queue.now < endAt || limit === Number.POSITIVE_INFINITY) {
      queue.at(Math.min(endAt, queue.now + 1_000) + 1e-3, () => this.#lookAtDouble(client, ip));
      return;
    }
    const names = hosts.map(({ name }) => name).join(' and ');
    this.#breach(hosts[0], ip, `${names} answer at once for over ${limit} ms`);
  }

  #mayTake(host: SimHost, ip: Ip, kind: string): void {
    const ears = this.#ears.get(host);
    const { process } = host;
    if (ears === undefined || process === undefined) return;
    const { settleMs } = process.settings;
    const { now } = this.#world;
    // By the host's own clock, which may run a little faster.
    if (now - ears.startedAt < settleMs - TOLERANCE_MS)
      this.#breach(host, ip, `${kind} during the cold start`);
    if (this.#releases(host) && now < ears.mayTakeAt - TOLERANCE_MS) {
      this.#breach(host, ip, `${kind} ${ears.mayTakeAt - now} ms too soon after it was isolated`);
    }
  }

  /** After a pause the wire has its word before what is held is renewed. */
  #hasAsked(host: SimHost, ip: Ip, ears: Ears): void {
    const wasHeld = (ears.addedAt.get(ip) ?? ears.startedAt) < ears.wokeAt;
    if (!wasHeld || !ears.heardPeer || host.pausedMs < MATTERING_PAUSE_MS || !this.#releases(host)) return;
    this.#count('asked');
    if (ears.askedAt < ears.wokeAt) this.#breach(host, ip, 'renew after a pause, before the wire was asked');
  }

  /** Who is cut off, and holds what it has all the same, takes nothing from an owner that runs. */
  #hearsSomebody(host: SimHost, ip: Ip, owner: MemberName): void {
    const ears = this.#ears.get(host);
    const other = this.#world.hosts.find(({ name }) => name === owner);
    if (ears === undefined || host.process === undefined || other?.isRunning !== true || this.#releases(host))
      return;
    const since = Math.max(ears.heardAt, ears.wokeAt, ears.startedAt);
    if (!ears.heardPeer || this.#world.now - this.#world.changedAt(other) < ASKED_WITHIN_MS) return;
    this.#count('deaf');
    if (this.#world.now - since > host.process.settings.isolationMs + ASKED_WITHIN_MS)
      this.#breach(host, ip, `taken over from ${owner} while it hears nobody`);
  }

  /** Nothing is taken over before its owner was silent for so long that it must have let go. */
  #isOverFloor(host: SimHost, ip: Ip, owner: MemberName): void {
    const other = this.#world.hosts.find(({ name }) => name === owner);
    const mouth = other && this.#ears.get(other);
    if (other?.process === undefined || mouth === undefined || !other.kernel.has(ip)) return;
    const { takeoverFloorMs } = other.process.settings;
    if (this.#world.now - mouth.startedAt < LIFE_MS) return;
    // It came back while it was being asked: whoever hears that first is not the heir.
    if (this.#world.now - this.#world.changedAt(other) < ASKED_WITHIN_MS) return;
    // What its own half hears of it, the other half cannot know.
    if (!this.#world.lan.areTogether(host.port, other.port)) return;
    this.#count('floor');
    const silentMs = this.#world.now - mouth.tellsAt;
    if (silentMs < takeoverFloorMs - this.limits.unheardMs)
      this.#breach(host, ip, `taken over from ${owner}, heard ${silentMs.toFixed(0)} ms ago`);
  }

  /** What is added now must not be answered by another host, unless that gives it away, or the questions were lost. */
  #isFree(host: SimHost, ip: Ip): void {
    const { lan } = this.#world;
    const wasLossy = this.#world.now - this.#lossUntil < ASKED_WITHIN_MS;
    if (lan.settings.loss > 0 || wasLossy || !lan.isIntact(host.port)) return;
    if (host.process?.election.grants().get(ip)?.entry.kind === 'hand-over') return;
    this.#count('wire');
    const { now } = this.#world;
    // By its own clock it has just asked, when that did not show a pause.
    const isUnaware = now - this.#world.changedAt(host) < ASKED_WITHIN_MS;
    // Of two alone none notices that its port was dead while it asked.
    if (isUnaware && !this.#releases(host)) return;
    const askedMs = ASKED_WITHIN_MS + (isUnaware ? host.unseenPauseMs : 0);
    for (const other of this.#world.hosts) {
      if (other === host || !other.answersFor(ip) || !lan.isIntact(other.port)) continue;
      if (!lan.passes(host.port, other.port)) continue;
      // It may have come back to life, or been plugged in, while it was being asked.
      if (now - this.#world.changedAt(other) < askedMs) continue;
      this.#breach(host, ip, `added while ${other.name} answers`);
    }
  }

  #isDeaf(host: SimHost, ears: Ears): boolean {
    const { process } = host;
    if (process === undefined || !ears.heardPeer || !this.#releases(host)) return false;
    const since = Math.max(ears.heardAt, ears.wokeAt);
    return this.#world.now - since > process.settings.isolationMs + TOLERANCE_MS;
  }

  /** Whether an isolated host must let go: it knows that it is one of at least three. */
  #releases(host: SimHost): boolean {
    return (host.process?.election.persistent().memberCount ?? 0) >= 3 && !this.#world.holdsIsolated;
  }

  /** While the host runs and holds something, it hears somebody, or has let go in time. */
  #watchEars(host: SimHost, ears: Ears): void {
    if (ears.isWatched) return;
    ears.isWatched = true;
    const { queue } = this.#world;
    const look = (): void => {
      if (this.#ears.get(host) !== ears || host.process === undefined) return;
      const { now } = queue;
      const since = Math.max(ears.heardAt, ears.wokeAt);
      if (!host.isRunning || now - since < this.limits.letGoMs) {
        queue.at(Math.max(since + this.limits.letGoMs, host.isRunning ? 0 : now + 100) + 1e-3, look);
        return;
      }
      this.#count('isolation');
      if (ears.heardPeer && this.#releases(host)) {
        for (const ip of host.kernel.addresses())
          this.#breach(host, ip, `still held ${this.limits.letGoMs} ms after it heard anybody`);
      }
      queue.at(now + this.limits.letGoMs, look);
    };
    queue.in(this.limits.letGoMs, look);
  }

  #dropIn(host: SimHost, ip: Ip, ms: number): void {
    const { process } = host;
    this.#world.queue.in(ms, () => {
      const dropping = this.#superseded.get(host);
      if (host.process !== process || process === undefined || dropping?.has(ip) !== true) return;
      // A paused host has its time when it goes on.
      if (!host.isRunning || this.#world.now - (this.#ears.get(host)?.wokeAt ?? 0) < ms) {
        this.#dropIn(host, ip, ms);
        return;
      }
      dropping.delete(ip);
      if (!host.kernel.has(ip)) return;
      const owner = process.election.ownership.claims().get(ip)?.owner;
      const entry = process.election.grants().get(ip)?.entry;
      if (owner !== host.name && entry?.kind !== 'hand-over')
        this.#breach(host, ip, `still held ${ms} ms after it learnt that ${owner ?? 'nobody'} owns it`);
    });
  }

  #count(rule: string): void {
    this.looked.set(rule, (this.looked.get(rule) ?? 0) + 1);
  }

  #breach(host: SimHost | undefined, ip: Ip, what: string): never {
    const { seed, now } = this.#world;
    throw new Error(`seed ${seed}, ${now.toFixed(1)} ms: ${host?.name}: ${ip}: ${what}`);
  }
}

/** How long it must leave alone what others had, after it heard nobody for so long. */
function settleAfter(silentMs: number, settings: ElectionSettings): number {
  return silentMs < verdictMs(settings) + TOLERANCE_MS ? silentMs : settings.returnSettleMs;
}

/** Shorter pauses are within what others take for a late packet. */
const MATTERING_PAUSE_MS = 220;
/** A process that was started so recently says other things than its earlier life. */
const LIFE_MS = 5_000;
/** The questions of a take-over take about 50 ms, and silence is believed for 200 ms. */
const ASKED_WITHIN_MS = 300;
