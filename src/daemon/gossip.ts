import { metaBytes } from '../election/codec.ts';
import type { Effect, Report } from '../election/effects.ts';
import { Election } from '../election/election.ts';
import type { ElectionEvent, ElectionOptions } from '../election/election-types.ts';
import { type NetworkEffect, Transport, type TransportOptions } from '../election/io/transport.ts';
import { MAX_META_BYTES } from '../election/message.ts';
import { segmentKey } from '../election/segment-key.ts';
import type {
  MemberMeta,
  MemberName,
  PersistentState,
  Segment,
  SegmentKey,
  Wanted,
} from '../election/types.ts';
import { sameUnready, toldUnready } from '../election/unready.ts';
import { LINK_LOCAL } from '../iface/host-subnets.ts';
import type { LocalDriver } from '../iface/io/local-driver.ts';
import type { DesiredAddress, IfIndex } from '../iface/types.ts';
import type { WireClaim } from '../iface/wire-claims.ts';
import { LbdError } from '../lib/errors.ts';
import { familyOf, formatPrefix, type Ip, type Prefix, prefixContains } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import type { Instant } from '../lib/time.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { DueTimer } from '../sys/due-timer.ts';
import { Entitlement } from './entitlement.ts';
import { type AbsentSegment, chooseSegments, type OwnSegment } from './own-segments.ts';
import { referencesOf } from './references.ts';
import type { AbsentSubnet } from './types.ts';

/** Of a host without any address: nobody reaches it, and it tells so once it has one. */
const LOOPBACK = '127.0.0.1' as Ip;

export type GossipOptions = {
  readonly name: MemberName;
  /** What this host says of itself, but for its segments. */
  readonly meta: Omit<MemberMeta, 'segments' | 'endpoint' | 'drained' | 'lifetimeMs'> & {
    readonly port: number;
  };
  /** As an operator left this host in an earlier life. */
  readonly drained: boolean;
  readonly settings: ElectionOptions['settings'];
  readonly isolation: ElectionOptions['isolation'];
  readonly random: ElectionOptions['random'];
  /** Asked when nobody is heard; empty: the gateways of the NIC. */
  /** Undefined: the gateways. */
  readonly reference: readonly Ip[] | undefined;
  readonly restored: PersistentState | undefined;
  readonly transport: Pick<TransportOptions, 'port' | 'label' | 'keys' | 'allow'>;
  /** Where this host's addresses are that gossip is for; empty: everywhere. */
  readonly bind: readonly Prefix[];
  readonly local: LocalDriver;
  readonly logger: Logger;
  readonly onReport: (report: Report) => void;
  /** `persistent()` changed. */
  readonly onPersist: () => void;
  /** What status shows changed. */
  readonly onChange: () => void;
};

/**
 * Runs the election on the network and the clock, and hands its grants to the local addresses. What they tell comes
 * back through `localChanged()` and `claimHeard()`. Owns its timer and the transport.
 */
export class Gossip {
  readonly election: Election;
  readonly #options: GossipOptions;
  readonly #transport: Transport;
  readonly #entitlement: Entitlement;
  #segments: ReadonlyMap<SegmentKey, OwnSegment> = new Map();
  /** Where renewals are forbidden now; only what changes is told. */
  readonly #forbidden = new Map<SegmentKey, OwnSegment>();
  /** What is listened on; empty without `bind`. */
  #listenOn: readonly Ip[];
  /** Subnets of this host in which it has no part. */
  #absent: readonly AbsentSegment[] = [];
  /** Those of which the log told. */
  readonly #toldAbsent = new Set<SegmentKey>();
  #configDigest: string;
  #lifetimeMs: number;
  /** What this host is not ready for, as the others are told. */
  #unready: MemberMeta['unready'];
  readonly #timer = new DueTimer(() => this.#step({ kind: 'time-passed' }));
  /** When the election last looked at the time. */
  #steppedAt: Instant = bootTimeMs();
  /** Whether routine heartbeats wait for the next step. */
  #isCalm = false;
  /** While packets that waited are told: the step that they come before arms the timer once for all. */
  #isTaking = false;
  #closed = false;
  #isFrozen = false;
  readonly #undelivered: ReturnType<Entitlement['grantsChanged']>[number][] = [];

  constructor(options: GossipOptions) {
    this.#options = options;
    const { local, logger } = options;
    this.#configDigest = options.meta.configDigest;
    this.#lifetimeMs = local.lifetimeMs();
    this.#segments = this.#ownSegments();
    this.#listenOn = this.#boundAddresses();
    this.election = new Election({
      name: options.name,
      meta: this.#meta(),
      settings: options.settings,
      isolation: options.isolation,
      random: options.random,
      restored: options.restored,
      leaseLeftMs: (now) => local.leaseLeftMs(now),
      now: bootTimeMs(),
    });
    this.#entitlement = new Entitlement(() => this.election.grants());
    this.#transport = new Transport({
      ...options.transport,
      bind: this.#listenOn,
      logger,
      state: () => this.election.state(true, bootTimeMs()),
      hello: () => ({ kind: 'hello', from: options.name, incarnation: this.election.swim.incarnation }),
      onMessage: (message, arrival, at) => this.#stepAt({ kind: 'message', message, ...arrival }, at),
      onWatchOpened: (peer, segment) => this.#step({ kind: 'watch-opened', peer, segment }),
      onWatchClosed: (peer, segment, how) => this.#step({ kind: 'watch-closed', peer, segment, how }),
    });
  }

  /** Rejects with an LbdError when the port cannot be had. */
  async start(): Promise<void> {
    const { bind, transport } = this.#options;
    if (bind.length > 0 && this.#listenOn.length === 0) {
      const wanted = bind.map(formatPrefix).join(', ');
      const message = `cannot listen on port ${transport.port}: expected an address of this host in ${wanted} (gossip.bind), got none`;
      throw new LbdError('gossip.bind-failed', message, { fields: { bind: wanted } });
    }
    await this.#transport.start();
    this.#tellSegments();
    this.#step({ kind: 'time-passed' });
  }

  /** Ends the gossip; `restarting` and `leaving` are told to the others first. */
  async close(why: 'restarting' | 'leaving'): Promise<void> {
    this.#step({ kind: 'farewell', why });
    this.#closed = true;
    this.#timer.close();
    this.#transport.close();
  }

  /** Who wants what, then what of it this host may hold. */
  plan(wanted: Wanted, desired: readonly DesiredAddress[], candidates: readonly Ip[]): void {
    const unready = toldUnready(wanted.unready?.keys() ?? []);
    const isNews = !sameUnready(unready, this.#unready);
    this.#unready = unready;
    // First what it may not have, so that it takes nothing of that.
    if (isNews) this.#step({ kind: 'meta-changed', meta: this.#meta() });
    this.#step({ kind: 'wanted-changed', wanted });
    this.#deliver(this.#entitlement.planned(desired, candidates));
  }

  /** Tells what the addresses on this host have come to. */
  localChanged(
    changes: Parameters<NonNullable<ConstructorParameters<typeof LocalDriver>[0]['onLocalChange']>>[0],
  ): void {
    // Before the others hear of more addresses: so long may they stay when this lbd dies.
    this.#tellLifetime();
    this.#step({ kind: 'local-changed', changes: [...changes] });
  }

  /** A frame on the wire: a reference that answers proves that the NIC works. */
  claimHeard(ifIndex: IfIndex, claim: WireClaim): void {
    if (claim.kind !== 'has') return;
    for (const [key, own] of this.#segments) {
      if (own.ifIndex !== ifIndex || familyOf(own.segment.ip) !== familyOf(claim.ip)) continue;
      if (this.#references(own).includes(claim.ip)) this.#step({ kind: 'reference-heard', segment: key });
    }
  }

  /** The host's own NICs or addresses may have changed. */
  hostChanged(): void {
    const segments = this.#ownSegments();
    const listenOn = this.#boundAddresses();
    if (describe(segments) === describe(this.#segments) && String(listenOn) === String(this.#listenOn))
      return;
    this.#segments = segments;
    this.#listenOn = listenOn;
    this.#forgetForbidden();
    this.#tellSegments();
    this.#step({ kind: 'meta-changed', meta: this.#meta() });
  }

  /** What the others are told of this host's configuration; its NICs may be others by it, too. */
  reconfigure(configDigest: string): void {
    this.hostChanged();
    const isNews = configDigest !== this.#configDigest;
    this.#configDigest = configDigest;
    if (isNews) this.#step({ kind: 'meta-changed', meta: this.#meta() });
    this.#tellLifetime();
  }

  /** The lifetime grows with the addresses that are held. */
  #tellLifetime(): void {
    const lifetimeMs = this.#options.local.lifetimeMs();
    if (lifetimeMs === this.#lifetimeMs) return;
    this.#lifetimeMs = lifetimeMs;
    this.#step({ kind: 'meta-changed', meta: this.#meta() });
  }

  /** Before the local addresses decide anything: whether this host was running is for the election to find out first. */
  beforeLocalStep(now: Instant): void {
    const { overrunMs } = this.#options.settings;
    // What the election itself orders it has just decided.
    if (now - this.#timer.at > overrunMs && now - this.#steppedAt > overrunMs)
      this.#step({ kind: 'time-passed' });
  }

  step(event: ElectionEvent): void {
    this.#step(event);
  }

  /** The subnets of this host in which it has no part, its own address there, and why. */
  absent(): readonly AbsentSubnet[] {
    return this.#absent.map(({ segment: { subnet, ip }, why }) => ({ subnet: segmentKey(subnet), ip, why }));
  }

  refusals(withinMs: number): ReturnType<Transport['refusals']> {
    return this.#transport.refusals(withinMs);
  }

  counters(): ReturnType<Transport['counters']> {
    return this.#transport.counters();
  }

  setKeys(keys: Parameters<Transport['setKeys']>[0]): void {
    this.#transport.setKeys(keys);
  }

  #step(event: ElectionEvent): void {
    // What came before it comes first.
    this.#isTaking = true;
    this.#transport.takeKept();
    this.#isTaking = false;
    this.#stepAt(event, bootTimeMs());
  }

  #stepAt(event: ElectionEvent, at: Instant): void {
    if (this.#closed) return;
    if (at > this.#steppedAt) this.#steppedAt = at;
    const effects = this.election.step(event, this.#steppedAt);
    if (!this.#isTaking) this.#timer.set(this.election.deadline());
    if (effects.length > 0) this.#carryOut(effects);
    const { isCalm } = this.election.watch;
    if (isCalm === this.#isCalm) return;
    this.#isCalm = isCalm;
    const { heartbeatMs, overrunMs } = this.#options.settings;
    this.#transport.keepRoutine(isCalm ? heartbeatMs + overrunMs : undefined);
  }

  /** Addresses first: what this host must not hold any more goes before anything is said about it. */
  #carryOut(effects: readonly Effect[]): void {
    const areRenewalsNews = effects.some(({ kind }) => kind === 'renewals-changed');
    if (areRenewalsNews) this.#renewalsChanged(false);
    if (effects.some(({ kind }) => kind === 'grants-changed')) {
      this.#deliver(this.#entitlement.grantsChanged());
      this.#options.onChange();
    }
    if (areRenewalsNews) this.#renewalsChanged(true);
    for (const effect of effects) {
      switch (effect.kind) {
        case 'grants-changed':
        case 'renewals-changed':
          break;
        case 'ask-reference':
          this.#askReference(effect.segment);
          break;
        case 'withdraw':
          // Granted by now, what an earlier life left is no leftover any more.
          this.#options.local.withdraw(effect.ips.filter((ip) => !this.election.grants().has(ip)));
          break;
        case 'announce':
          this.#options.local.announce(effect.ips);
          break;
        case 'persist':
          this.#options.onPersist();
          break;
        case 'report':
          this.#options.onReport(effect.report);
          break;
        default:
          this.#transport.perform(effect satisfies NetworkEffect);
      }
    }
  }

  /** From now on nothing is granted: lbd is about to take everything off. */
  freeze(): void {
    this.#isFrozen = true;
  }

  /** In order, also what comes of what is delivered: an older plan must not come last. */
  #deliver(events: ReturnType<Entitlement['grantsChanged']>): void {
    if (this.#isFrozen) return;
    this.#undelivered.push(...events);
    if (this.#undelivered.length > events.length) return;
    const { local } = this.#options;
    for (let event = this.#undelivered[0]; event !== undefined; event = this.#undelivered[0]) {
      if (event.kind === 'withdraw') local.withdraw(event.ips);
      else if (event.kind === 'desired-changed') local.plan(event.addresses, event.candidates);
      this.#undelivered.shift();
    }
  }

  /** What is forbidden is so before anything else; what is allowed, after what was lost meanwhile is off. */
  #renewalsChanged(to: boolean): void {
    for (const [key, { ifIndex, segment }] of this.#segments) {
      const isAllowed = this.election.mayRenew(key);
      if (isAllowed === !this.#forbidden.has(key) || isAllowed !== to) continue;
      if (isAllowed) this.#forbidden.delete(key);
      else this.#forbidden.set(key, { ifIndex, segment });
      this.#options.local.allowRenewals(isAllowed, ifIndex, segment.subnet);
    }
  }

  /** A segment that this host has no more forbids nothing. */
  #forgetForbidden(): void {
    for (const [key, { ifIndex, segment }] of this.#forbidden) {
      if (this.#segments.get(key)?.ifIndex === ifIndex) continue;
      this.#forbidden.delete(key);
      this.#options.local.allowRenewals(true, ifIndex, segment.subnet);
    }
  }

  #askReference(key: SegmentKey): void {
    const own = this.#segments.get(key);
    if (own !== undefined) this.#options.local.askReference(own.ifIndex, this.#references(own));
  }

  #references({ segment, ifIndex }: OwnSegment): readonly Ip[] {
    return referencesOf(segment.subnet, this.#options.reference, this.#options.local.gateways(ifIndex));
  }

  /** Where others reach this host: what the configuration names first, else an address in a segment, else any. */
  #ownAddress(segments: readonly Segment[]): Ip {
    return this.#listenOn[0] ?? segments[0]?.ip ?? this.#reachable()[0] ?? LOOPBACK;
  }

  /** The addresses of this host that `bind` names, in its order. */
  #boundAddresses(): readonly Ip[] {
    const reachable = this.#reachable();
    return this.#options.bind.flatMap((prefix) => reachable.filter((ip) => prefixContains(prefix, ip)));
  }

  /** The host's own addresses but for those that mean something else on each host. */
  #reachable(): readonly Ip[] {
    return [...this.#options.local.host().ownAddresses.keys()].filter(
      (ip) => ip !== '::1' && !ip.startsWith('127.') && !prefixContains(LINK_LOCAL, ip),
    );
  }

  #ownSegments(): ReadonlyMap<SegmentKey, OwnSegment> {
    const { bind, local, logger } = this.#options;
    const { segments, absent } = chooseSegments(local.host(), local.nics(), bind);
    this.#absent = absent;
    for (const { segment, why } of absent) {
      const subnet = segmentKey(segment.subnet);
      if (this.#toldAbsent.has(subnet)) continue;
      this.#toldAbsent.add(subnet);
      logger.warn({ subnet, ip: segment.ip, why }, 'gossip.subnet.absent');
    }
    return segments;
  }

  #tellSegments(): void {
    const segments = [...this.#segments.values()].map(({ segment }) => segment);
    if (this.#options.bind.length === 0) this.#transport.setSegments(segments);
    else this.#transport.setSegments(segments, this.#listenOn);
  }

  #meta(): MemberMeta {
    const { port, ...meta } = this.#options.meta;
    const segments = [...this.#segments.values()].map(({ segment }) => segment);
    const ip = this.#ownAddress(segments);
    const changing = { configDigest: this.#configDigest, lifetimeMs: this.#lifetimeMs };
    const own = { ...meta, ...changing, endpoint: { ip, port }, drained: this.#options.drained };
    if (this.#unready === undefined) return { ...own, segments };
    const listed = { ...own, segments, unready: this.#unready };
    return metaBytes(listed) > MAX_META_BYTES ? { ...listed, unready: 'all' } : listed;
  }
}

function describe(segments: ReadonlyMap<SegmentKey, OwnSegment>): string {
  return JSON.stringify([...segments]);
}
