import type { MemberName, Predecessor } from '../election/types.ts';
import type { Ip } from '../lib/ip.ts';
import { after, earliest, type Instant, instant, NEVER } from '../lib/time.ts';
import type { TokenBucket } from '../lib/token-bucket.ts';
import { LOOKED_LATE_MS, type ProbeFrame, probeBudget } from './probing.ts';
import type { IfIndex, Mac } from './types.ts';

/**
 * When the addresses of an owner that seems gone may be taken: the wire decides (safety rule 3). All addresses of one
 * predecessor on one NIC are a group, and SAMPLES of them stand for all: an owner adds, renews and removes as one.
 *
 *   asking ──silence, and not before the floor──► free: all that wait may be added
 *     │ ▲ └──another heir with a lower MAC asks too──► yielding ──YIELD_MS──► asking
 *     │ └──one poll missed── served: the predecessor still answers; one address is polled by unicast
 *     └──its MAC answers───────►┘
 *
 * An answer with the predecessor's MAC counts as long as that host answers for its own address as well: a switch that
 * suppresses ARP (RFC 9161) goes on answering for a host that is off. Without that, the addresses are free FABRIC_MS
 * after the last lifetime ended that the predecessor can have given them.
 * Answers of others are conflicts: they end the wait for that address, and each of the rest is asked for by itself.
 *
 * Bounded by the addresses that wait; frames by the budget that all questions of the host share.
 */

export const SAMPLES = 3;
export const TAKE_OVER_PROBES = 3;
export const TAKE_OVER_PROBE_INTERVAL_MS = 15;
/** How long a whole question takes. */
export const ASKING_MS = TAKE_OVER_PROBES * TAKE_OVER_PROBE_INTERVAL_MS;
const POLL_INTERVAL_MS = 50;
/**
 * From LEASE_END_EARLY_MS before the lifetime ends until LEASE_END_LATE_MS after it: the kernel looks once a second and by a timer
 * with a quarter of a second of slack (ADDRCONF_TIMER_FUZZ in include/net/addrconf.h), and heartbeats tell the end to some ms.
 */
const LEASE_END_POLL_INTERVAL_MS = 5;
const LEASE_END_EARLY_MS = 100;
const LEASE_END_LATE_MS = 1_500;
/**
 * A poll not answered so long is missed. Around the end of the lifetime a kernel that answers late costs one broadcast, which
 * it answers as well; the gap that clients see is one poll, this, and DOUBT_MS.
 */
const ANSWER_WITHIN_MS = 10;
const LEASE_END_ANSWER_WITHIN_MS = 5;
/** The second poll and a broadcast go together; silence for so long after them is the end, once the lifetime may be over. */
const DOUBT_MS = 20;
/** Who answered until now is asked so often, that of the polls of half a minute none is believed for lost frames. */
const DOUBT_PROBES = 5;
const HOST_POLL_INTERVAL_MS = 50;
const HOST_MISSES = 3;
const FABRIC_POLL_INTERVAL_MS = 250;
const FABRIC_MS = 1_000;
export const YIELD_MS = 100;
/** Somebody who asks for an address over and over and never takes it keeps it from nobody. */
export const YIELDS = 3;
/** How long silence is believed, of those that were found free. */
export const FREE_BELIEVED_MS = 200;

type Phase =
  | {
      readonly status: 'asking';
      readonly probes: number;
      readonly intervalMs: number;
      sent: number;
      nextAt: Instant;
    }
  /** `sentAt` is set while a poll for `sample` is not answered. */
  | { readonly status: 'served'; sample: Ip; sentAt: Instant | undefined; nextAt: Instant }
  | { readonly status: 'yielding'; readonly until: Instant };

type Group = {
  readonly key: string;
  readonly ifIndex: IfIndex;
  predecessor: Predecessor;
  readonly waiting: Set<Ip>;
  /** Of those that wait. */
  readonly samples: Set<Ip>;
  phase: Phase;
  /** Since when the predecessor answers, as far as heard here. */
  servedSince: Instant | undefined;
  /** Polls for the predecessor's own address, while it answers for ours. */
  readonly host: { isAsked: boolean; misses: number; nextAt: Instant };
  yields: number;
  /** Somebody else answered for one of them: samples stand for nothing but the predecessor's silence. */
  mixed: boolean;
};

export type StillServed = {
  readonly ip: Ip;
  readonly ifIndex: IfIndex;
  readonly by: MemberName;
  readonly mac: Mac;
  /** How many addresses wait for it. */
  readonly addresses: number;
};

export type TakeOverRound = {
  readonly frames: readonly ProbeFrame[];
  /** Wait no more; `alone`: to be asked for one by one. */
  readonly concluded: readonly { readonly ip: Ip; readonly how: 'free' | 'alone' }[];
  /** Groups whose predecessor was found to answer. */
  readonly served: readonly StillServed[];
};

/** How it stands with an address that waits. */
export type TakeOverState = {
  readonly predecessor: Predecessor;
  /** Undefined while it was not heard to answer. */
  readonly servedSince: Instant | undefined;
  /** The host itself is silent, so that only a switch can answer: when its answers count no more. */
  readonly fabricUntil: Instant | undefined;
};

type Round = { readonly frames: ProbeFrame[]; readonly concluded: { ip: Ip; how: 'free' | 'alone' }[] };

export class TakeOvers {
  readonly #groups = new Map<string, Group>();
  readonly #groupOf = new Map<Ip, Group>();
  readonly #free = new Map<Ip, Instant>();
  readonly #budget: TokenBucket;
  #served: StillServed[] = [];

  constructor(budget = probeBudget()) {
    this.#budget = budget;
  }

  /** `ip` waits until its predecessor is silent; harmless when it does already. What is told of the predecessor replaces what was. */
  join(ip: Ip, ifIndex: IfIndex, predecessor: Predecessor, now: Instant): void {
    const group = this.#groupFor(ifIndex, predecessor, now);
    if (this.#groupOf.get(ip) === group) return;
    this.leave(ip);
    this.#groups.set(group.key, group);
    this.#groupOf.set(ip, group);
    group.waiting.add(ip);
    if (group.samples.size < SAMPLES) this.#addSample(group, ip, now);
  }

  /** `ip` waits no more, and nothing is known of it. */
  leave(ip: Ip): void {
    this.#free.delete(ip);
    const group = this.#groupOf.get(ip);
    if (group === undefined) return;
    this.#groupOf.delete(ip);
    group.waiting.delete(ip);
    if (group.waiting.size === 0) this.#groups.delete(group.key);
    else if (group.samples.delete(ip)) this.#replaceSample(group);
  }

  /** The wire was found silent for `ip`, lately. */
  isFree(ip: Ip, now: Instant): boolean {
    const at = this.#free.get(ip);
    return at !== undefined && now <= after(at, FREE_BELIEVED_MS);
  }

  state(ip: Ip): TakeOverState | undefined {
    const group = this.#groupOf.get(ip);
    if (group === undefined) return undefined;
    const { predecessor, servedSince } = group;
    return { predecessor, servedSince, fabricUntil: isFabric(group) ? fabricUntil(group) : undefined };
  }

  /** Whether it matters here who has `ip`. */
  isInterestedIn(ip: Ip, ifIndex: IfIndex): boolean {
    if (this.#groupOf.get(ip)?.ifIndex === ifIndex) return true;
    for (const group of this.#groups.values())
      if (group.predecessor.ip === ip) return group.ifIndex === ifIndex;
    return false;
  }

  /** Somebody said that it has `ip`. `other`: neither the predecessor nor nobody's concern, and `ip` waits no more. */
  heard(ip: Ip, mac: Mac, ifIndex: IfIndex, now: Instant): 'predecessor' | 'other' | 'nobody' {
    for (const group of this.#groups.values()) {
      const { predecessor, host } = group;
      if (predecessor.ip !== ip || predecessor.mac !== mac || group.ifIndex !== ifIndex) continue;
      host.isAsked = false;
      host.misses = 0;
    }
    const group = this.#groupOf.get(ip);
    if (group?.ifIndex !== ifIndex) return 'nobody';
    if (group.predecessor.mac === mac) {
      this.#answered(group, ip, now);
      return 'predecessor';
    }
    group.mixed = true;
    this.leave(ip);
    return 'other';
  }

  /**
   * Somebody else probes for `ip`, as an heir with another view of the members does: the one with the lower MAC goes
   * on, the other looks again when that one is done.
   */
  wanted(ip: Ip, mac: Mac, ownMac: Mac, ifIndex: IfIndex, now: Instant): void {
    const group = this.#groupOf.get(ip);
    if (group?.ifIndex !== ifIndex || mac >= ownMac || group.yields >= YIELDS) return;
    if (group.phase.status === 'yielding') return;
    group.yields += 1;
    group.phase = { status: 'yielding', until: after(now, YIELD_MS) };
  }

  /** The NIC did not take the last frames for these: silence after them means nothing. */
  unsent(ips: readonly Ip[], now: Instant): void {
    const concerned = new Set<Group>();
    for (const ip of ips) {
      const waitingIn = this.#groupOf.get(ip);
      if (waitingIn !== undefined) concerned.add(waitingIn);
      for (const group of this.#groups.values()) if (group.predecessor.ip === ip) group.host.isAsked = false;
    }
    for (const { phase } of concerned) {
      if (phase.status === 'asking') {
        phase.sent = Math.max(0, phase.sent - 1);
        phase.nextAt = after(now, phase.intervalMs);
      } else if (phase.status === 'served') {
        phase.sentAt = undefined;
        phase.nextAt = after(now, ANSWER_WITHIN_MS);
      }
    }
  }

  /** Sends what is due and affordable, and draws conclusions. */
  advance(now: Instant): TakeOverRound {
    const round: Round = { frames: [], concluded: [] };
    for (const group of this.#groups.values())
      if (group.waiting.size > 0) this.#advanceGroup(group, now, round);
    const served = this.#served;
    this.#served = [];
    return { ...round, served };
  }

  deadline(): Instant {
    let first: Instant = NEVER;
    for (const group of this.#groups.values())
      if (group.waiting.size > 0) first = earliest(first, dueAt(group));
    if (first === NEVER) return NEVER;
    const affordable = this.#budget.readyAt(SAMPLES + 1);
    return affordable !== NEVER && affordable > first ? affordable : first;
  }

  #advanceGroup(group: Group, now: Instant, round: Round): void {
    const { predecessor } = group;
    if (isFabric(group) && now >= fabricUntil(group)) return this.#letGo(group, now, round);
    if (group.servedSince !== undefined && group.host.nextAt <= now) this.#askHost(group, now, round);
    if (group.phase.status === 'yielding' && group.phase.until <= now) group.phase = asking(now);
    const { phase } = group;
    if (phase.status === 'yielding' || phase.nextAt > now) return;
    if (phase.status === 'served') return this.#poll(group, phase, now, round);
    if (phase.sent < phase.probes) return this.#ask(group, phase, now, round);
    if (now > after(phase.nextAt, LOOKED_LATE_MS)) {
      group.phase = asking(now);
      return this.#advanceGroup(group, now, round);
    }
    if (now >= predecessor.notBefore) this.#letGo(group, now, round);
    else group.phase = askingUntil(predecessor.notBefore, now);
  }

  #ask(group: Group, phase: Extract<Phase, { status: 'asking' }>, now: Instant, round: Round): void {
    if (!this.#afford(group.samples.size, now)) return;
    this.#broadcast(group, round);
    phase.sent += 1;
    phase.nextAt = after(now, phase.intervalMs);
  }

  #poll(group: Group, phase: Extract<Phase, { status: 'served' }>, now: Instant, round: Round): void {
    const { ifIndex, predecessor } = group;
    const isMissed = phase.sentAt !== undefined;
    if (!this.#afford(isMissed ? 1 + group.samples.size : 1, now)) return;
    round.frames.push({ ifIndex, ip: phase.sample, to: predecessor.mac });
    if (!isMissed) {
      phase.sentAt = now;
      phase.nextAt = after(now, isNearLeaseEnd(group, now) ? LEASE_END_ANSWER_WITHIN_MS : ANSWER_WITHIN_MS);
      return;
    }
    this.#broadcast(group, round);
    // Its lifetime is not over: rather a frame was lost, or lbd there let go, and more than one question tells which.
    group.phase = isNearLeaseEnd(group, now)
      ? { status: 'asking', probes: 1, intervalMs: DOUBT_MS, sent: 1, nextAt: after(now, DOUBT_MS) }
      : { ...asking(now), probes: DOUBT_PROBES, sent: 1, nextAt: after(now, TAKE_OVER_PROBE_INTERVAL_MS) };
  }

  /** The predecessor answers for `ip`. */
  #answered(group: Group, ip: Ip, now: Instant): void {
    const { phase, ifIndex, predecessor } = group;
    if (group.servedSince === undefined) {
      group.servedSince = now;
      group.host.isAsked = false;
      group.host.misses = 0;
      group.host.nextAt = now;
      const { name: by, mac } = predecessor;
      this.#served.push({ ip, ifIndex, by, mac, addresses: group.waiting.size });
    }
    if (phase.status !== 'served') {
      group.phase = { status: 'served', sample: ip, sentAt: undefined, nextAt: nextPoll(group, now) };
    } else if (phase.sentAt !== undefined) {
      phase.nextAt = nextPoll(group, phase.sentAt);
      phase.sentAt = undefined;
    }
  }

  #askHost(group: Group, now: Instant, round: Round): void {
    if (!this.#afford(1, now)) return;
    const { host, ifIndex, predecessor } = group;
    if (host.isAsked) host.misses += 1;
    host.isAsked = true;
    round.frames.push({ ifIndex, ip: predecessor.ip, to: predecessor.mac });
    host.nextAt = after(now, isFabric(group) ? FABRIC_POLL_INTERVAL_MS : HOST_POLL_INTERVAL_MS);
  }

  #letGo(group: Group, now: Instant, round: Round): void {
    for (const ip of group.waiting) {
      this.#groupOf.delete(ip);
      if (!group.mixed) this.#free.set(ip, now);
      round.concluded.push({ ip, how: group.mixed ? 'alone' : 'free' });
    }
    // What comes later is asked for anew: another heir may have taken it since.
    this.#groups.delete(group.key);
  }

  #broadcast({ ifIndex, samples }: Group, round: Round): void {
    for (const ip of samples) round.frames.push({ ifIndex, ip });
  }

  #afford(frames: number, now: Instant): boolean {
    if (this.#budget.available(now) < frames) return false;
    this.#budget.take(frames, now);
    return true;
  }

  #groupFor(ifIndex: IfIndex, predecessor: Predecessor, now: Instant): Group {
    const key = `${ifIndex} ${predecessor.name} ${predecessor.ip}`;
    const known = this.#groups.get(key);
    if (known !== undefined && known.predecessor.mac === predecessor.mac) {
      known.predecessor = predecessor;
      return known;
    }
    const group: Group = {
      key,
      ifIndex,
      predecessor,
      waiting: new Set(),
      samples: new Set(),
      phase: asking(now),
      servedSince: undefined,
      host: { isAsked: false, misses: 0, nextAt: now },
      yields: 0,
      mixed: false,
    };
    // Another MAC of the same host: it came back with another NIC, and who waited is asked for anew.
    for (const ip of known?.waiting ?? []) {
      this.#groupOf.set(ip, group);
      group.waiting.add(ip);
      if (group.samples.size < SAMPLES) group.samples.add(ip);
    }
    if (known !== undefined) this.#groups.set(key, group);
    return group;
  }

  #addSample(group: Group, ip: Ip, now: Instant): void {
    group.samples.add(ip);
    if (group.phase.status === 'asking' && group.phase.sent > 0) group.phase = asking(now);
  }

  /** In place of one that left: asked for from the beginning, at the next opportunity. */
  #replaceSample(group: Group): void {
    const { phase } = group;
    if (phase.status === 'served' && !group.waiting.has(phase.sample)) {
      for (const ip of group.samples) phase.sample = ip;
      phase.sentAt = undefined;
    }
    for (const ip of group.waiting) {
      if (group.samples.size >= SAMPLES) break;
      if (group.samples.has(ip)) continue;
      group.samples.add(ip);
      if (phase.status === 'asking' && phase.sent > 0) group.phase = asking(instant(0));
    }
  }
}

function asking(from: Instant): Extract<Phase, { status: 'asking' }> {
  const [probes, intervalMs] = [TAKE_OVER_PROBES, TAKE_OVER_PROBE_INTERVAL_MS];
  return { status: 'asking', probes, intervalMs, sent: 0, nextAt: from };
}

/** The wire was silent before the floor: a host that only paused may answer again by then, so the last word is asked for as late as it can be. */
function askingUntil(floor: Instant, now: Instant): Phase {
  const whole = asking(after(floor, -ASKING_MS));
  if (whole.nextAt >= now) return whole;
  const last = after(floor, -TAKE_OVER_PROBE_INTERVAL_MS);
  if (last >= now) return { ...whole, sent: TAKE_OVER_PROBES - 1, nextAt: last };
  return { ...whole, sent: TAKE_OVER_PROBES, nextAt: floor };
}

function nextPoll(group: Group, from: Instant): Instant {
  const { leaseEndsAt } = group.predecessor;
  if (isFabric(group)) return after(from, FABRIC_POLL_INTERVAL_MS);
  if (isNearLeaseEnd(group, from)) return after(from, LEASE_END_POLL_INTERVAL_MS);
  const regular = after(from, POLL_INTERVAL_MS);
  const fastFrom = after(leaseEndsAt, -LEASE_END_EARLY_MS);
  return from < fastFrom ? earliest(regular, fastFrom) : regular;
}

function isNearLeaseEnd({ predecessor: { leaseEndsAt } }: Group, now: Instant): boolean {
  return now >= after(leaseEndsAt, -LEASE_END_EARLY_MS) && now <= after(leaseEndsAt, LEASE_END_LATE_MS);
}

function isFabric({ servedSince, host }: Group): boolean {
  return servedSince !== undefined && host.misses >= HOST_MISSES;
}

/** NEVER for permanent addresses: those may still be there, and only silence frees them. */
function fabricUntil({ predecessor: { leaseEndsAt, notBefore } }: Group): Instant {
  const until = after(leaseEndsAt, FABRIC_MS);
  return until > notBefore ? until : notBefore;
}

function dueAt(group: Group): Instant {
  const { phase, servedSince, host } = group;
  let at = phase.status === 'yielding' ? phase.until : phase.nextAt;
  if (servedSince !== undefined) at = earliest(at, host.nextAt);
  return isFabric(group) ? earliest(at, fabricUntil(group)) : at;
}
