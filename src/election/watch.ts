import { after, type Instant, NEVER } from '../lib/time.ts';
import { Beats } from './beats.ts';
import type { Farewell, Heartbeat } from './message.ts';
import { segmentKey } from './segment-key.ts';
import { type SegmentContext, SegmentWatch } from './segment-watch.ts';
import type { ElectionSettings } from './settings.ts';
import type { Endpoint, Member, MemberName, Segment, SegmentKey, Silence } from './types.ts';
import { watchTiming } from './watch-timing.ts';
import type { PeerView, WatchEnd, WatchEvent, WatchOptions } from './watch-types.ts';

/**
 * The close watch that neighbours on a segment keep over each other: heartbeats of tens of milliseconds, a TCP
 * connection whose end tells of the other's process, questions to others before a verdict, and the same measure applied
 * to this host itself: whether it hears anybody, and whether it has been running at all.
 *
 *   segment-watch.ts      one segment: neighbours, verdicts
 *   ring.ts               who is next to whom
 *   edge.ts               one neighbour
 *   watch-connections.ts  the connections whose end tells of a process
 *   isolation.ts          does this host hear anybody there
 *   answers.ts            does anybody there hear this host
 *   confirmation.ts       may what this host believes of its own claims still be believed
 *   watch-timing.ts       when, and how likely it errs
 *
 * All segments share one tick, at a phase of its own on each host. Mutable; time and randomness are arguments.
 */
export class Watch {
  readonly #settings: ElectionSettings;
  readonly #context: SegmentContext;
  readonly #segments = new Map<SegmentKey, SegmentWatch>();
  /** The same in an array, with the own segment, for what happens at every tick. */
  #list: readonly { readonly own: Segment; readonly watch: SegmentWatch }[] = [];
  /** Segments that went with peers in them. */
  readonly #left = new Set<SegmentKey>();
  #events: WatchEvent[] = [];
  #releases: boolean;
  #tickAt: Instant = NEVER;
  #ticks = 0;

  constructor(options: WatchOptions) {
    this.#settings = options.settings;
    this.#releases = options.settings.isolation === 'release';
    this.#context = {
      beats: new Beats(options),
      timing: watchTiming(options.settings),
      takeoverFloorMs: options.settings.takeoverFloorMs,
      random: options.random,
      events: this.#events,
      releases: () => this.#releases,
    };
  }

  /** Whether this host lets go of its addresses while isolated: told to the others, and `mayRenew()` goes by it. */
  setReleases(releases: boolean): void {
    this.#releases = releases;
  }

  // --- who is there ---------------------------------------------------------------------------------------------

  /** The host's own segments as they are now; `members` are all that are known, itself may be among them. */
  segmentsChanged(own: readonly Segment[], members: ReadonlyMap<MemberName, Member>, now: Instant): void {
    const before = this.#list;
    const list = own.map((segment) => {
      const key = segmentKey(segment.subnet);
      const known = this.#segments.get(key);
      if (known !== undefined) return { own: segment, watch: known };
      const watch = new SegmentWatch(key, this.#context, now);
      if (this.#left.delete(key)) watch.beginIsolated();
      this.#segments.set(key, watch);
      return { own: segment, watch };
    });
    this.#list = list;
    for (const { watch } of before) {
      if (list.some((other) => other.watch === watch)) continue;
      watch.closeAll();
      this.#segments.delete(watch.key);
      if (!watch.hadPeers) continue;
      // A NIC without carrier hears nobody: that is an isolation as well, which ends when it is back and hears somebody.
      if (this.#left.size < SEGMENTS_REMEMBERED) this.#left.add(watch.key);
      if (!watch.isolated) this.#events.push({ kind: 'isolated', segment: watch.key });
    }
    if (list.length === 0) this.#tickAt = NEVER;
    else if (this.#tickAt === NEVER)
      this.#tickAt = after(now, this.#context.random() * this.#settings.heartbeatMs);
    this.membersChanged(members.keys(), members, now);
  }

  /** `names` are those whose record may have changed since the last call; one that is gone from `members` is forgotten. */
  membersChanged(names: Iterable<MemberName>, members: ReadonlyMap<MemberName, Member>, now: Instant): void {
    const touched = new Set<SegmentWatch>();
    for (const name of names) {
      if (name === this.#context.beats.name) continue;
      const member = members.get(name);
      for (const { own, watch } of this.#list) if (place(watch, own, name, member)) touched.add(watch);
    }
    for (const watch of touched) watch.relink(now);
  }

  // --- what is heard --------------------------------------------------------------------------------------------

  /** A heartbeat that came to this host's own address on `segment`; `connection` is the TCP connection, if not by UDP. */
  heartbeat(
    beat: Heartbeat,
    from: Endpoint,
    segment: SegmentKey | undefined,
    connection: number | undefined,
    now: Instant,
  ): void {
    if (segment !== beat.segment) return;
    const watch = this.#segments.get(segment);
    if (watch === undefined) return;
    this.notice(now);
    watch.heartbeat(beat, from, connection, now);
  }

  /** Any other authentic packet; it proves life only on the segment that it came on. */
  heard(name: MemberName, segment: SegmentKey | undefined, now: Instant): void {
    if (segment === undefined) return;
    const watch = this.#segments.get(segment);
    if (watch === undefined) return;
    this.notice(now);
    watch.heard(name, now);
  }

  /** An ack. Returns whether it answers a ping-request of the watch, which is then done with. */
  acked(seq: number, now: Instant): boolean {
    if (!this.#context.beats.isPing(seq)) return false;
    this.notice(now);
    for (const { watch } of this.#list) watch.acked(seq, now);
    return true;
  }

  referenceHeard(segment: SegmentKey, now: Instant): void {
    this.notice(now);
    this.#segments.get(segment)?.referenceHeard(now);
  }

  watchOpened(peer: MemberName, segment: SegmentKey, now: Instant): void {
    this.notice(now);
    this.#segments.get(segment)?.watchOpened(peer);
  }

  watchClosed(peer: MemberName, segment: SegmentKey, how: WatchEnd, now: Instant): void {
    this.notice(now);
    this.#segments.get(segment)?.watchClosed(peer, how, now);
  }

  /** What this host believes of its own claims is to be confirmed there; returns whether it is asked for. */
  doubt(segment: SegmentKey, now: Instant): boolean {
    return this.#segments.get(segment)?.doubt(now) === true;
  }

  /** Nobody was ever heard there, although others have a part in it: it is cut off, or this host is. */
  giveUp(segment: SegmentKey): void {
    this.#segments.get(segment)?.giveUp();
  }

  /** No other member has a part in that segment any more: to hear nobody there is as it should be. */
  leftAlone(segment: SegmentKey): void {
    this.#segments.get(segment)?.leftAlone();
  }

  farewell(message: Farewell, now: Instant): void {
    this.notice(now);
    for (const { watch } of this.#list) watch.farewell(message, now);
  }

  // --- time -----------------------------------------------------------------------------------------------------

  advance(now: Instant): void {
    this.notice(now);
    if (now >= this.#tickAt) {
      this.#ticks += 1;
      for (const { watch } of this.#list) watch.tick(this.#ticks, now);
      const next = after(this.#tickAt, this.#settings.heartbeatMs);
      this.#tickAt = next > now ? next : after(now, this.#settings.heartbeatMs);
    }
    for (const { watch } of this.#list) watch.advance(now);
  }

  deadline(): Instant {
    let first = this.#tickAt;
    for (const { watch } of this.#list) {
      const at = watch.deadline();
      if (at < first) first = at;
    }
    return first;
  }

  /**
   * A tick that is late by `overrunMs` means that this host did not run, whoever notices it first: the packets that
   * waited meanwhile are taken before the timer. Returns whether it is so.
   */
  notice(now: Instant): boolean {
    const lateMs = now - this.#tickAt;
    if (lateMs <= this.#settings.overrunMs) return false;
    this.#tickAt = now;
    if (this.#list.some(({ watch }) => watch.hadPeers)) {
      this.#context.beats.push({ kind: 'report', report: { kind: 'paused', forMs: lateMs } });
    }
    for (const { watch } of this.#list) watch.woke(lateMs, now);
    return true;
  }

  // --- views ----------------------------------------------------------------------------------------------------

  /** What happened since the last call. */
  take(): readonly WatchEvent[] {
    return this.#events.length === 0 ? NONE : this.#events.splice(0);
  }

  /** Whether addresses of that segment may be renewed now. */
  mayRenew(segment: SegmentKey): boolean {
    const watch = this.#segments.get(segment);
    if (watch === undefined) return false;
    return watch.isolated ? !this.#releases : watch.confirmed;
  }

  /**
   * All neighbours are heard, and nothing is asked or waited for: what comes now changes no more than when somebody was
   * last heard. Whoever drives this may then give routine heartbeats later, with the time at which they came, but before
   * any other event: at the next tick at the latest.
   */
  get isCalm(): boolean {
    return this.#list.length > 0 && this.#list.every(({ watch }) => watch.isCalm);
  }

  hadPeers(segment: SegmentKey): boolean {
    return this.#segments.get(segment)?.hadPeers === true;
  }

  isIsolated(segment: SegmentKey): boolean {
    return this.#segments.get(segment)?.isolated === true;
  }

  /** Heard, and not in doubt about its own claims. */
  isConfirmed(segment: SegmentKey): boolean {
    return this.#segments.get(segment)?.confirmed === true;
  }

  neighbours(segment: SegmentKey): readonly MemberName[] {
    return this.#segments.get(segment)?.neighbours() ?? [];
  }

  /** The verdict of this host that stands on a neighbour. */
  silence(name: MemberName, segment: SegmentKey): Silence | undefined {
    return this.#segments.get(segment)?.silence(name);
  }

  peers(): readonly PeerView[] {
    return this.#list.flatMap(({ watch }) => watch.views());
  }

  checkInvariants(): void {
    for (const { watch } of this.#list) watch.checkInvariants();
  }
}

const NONE: readonly WatchEvent[] = [];
/** A host that is given new subnets all the time need not know all that it ever had. */
const SEGMENTS_REMEMBERED = 64;

/** Puts a member where it belongs on the ring of a segment; returns whether neighbours may have changed. */
function place(watch: SegmentWatch, own: Segment, name: MemberName, member: Member | undefined): boolean {
  const there =
    member !== undefined && (member.state === 'alive' || member.state === 'suspect')
      ? member.meta.segments.find((segment) => isSameSubnet(segment, own))
      : undefined;
  if (member !== undefined && there !== undefined) {
    const { endpoint } = member.meta;
    const to = { ip: there.ip, port: endpoint.port };
    return watch.ring.put(name, to, endpoint, member.incarnation, member.state === 'alive');
  }
  // Alive, and not here any more: it left this segment, as one that leaves the cluster does. One that is cut off did not.
  const cutOff = member?.meta.cutOff?.find((segment) => isSameSubnet(segment, own));
  const hasLeft = member?.state === 'left' || (member?.state === 'alive' && cutOff === undefined);
  const port = member?.meta.endpoint.port;
  return watch.remove(name, hasLeft, cutOff && port ? { ip: cutOff.ip, port } : undefined);
}

function isSameSubnet(left: Segment, right: Segment): boolean {
  return left.subnet.length === right.subnet.length && left.subnet.network === right.subnet.network;
}
