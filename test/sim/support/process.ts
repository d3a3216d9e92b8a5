import { Entitlement } from '../../../src/daemon/entitlement.ts';
import type { Effect as ElectionEffect, Report as ElectionReport } from '../../../src/election/effects.ts';
import { Election } from '../../../src/election/election.ts';
import type { ElectionEvent } from '../../../src/election/election-types.ts';
import type { Message } from '../../../src/election/message.ts';
import { type ElectionSettings, PROFILES } from '../../../src/election/settings.ts';
import type {
  Endpoint,
  LocalState,
  MemberMeta,
  MemberName,
  PersistentState,
  Segment,
} from '../../../src/election/types.ts';
import { LocalAddresses } from '../../../src/iface/local-addresses.ts';
import type {
  Effect as LocalEffect,
  Event as LocalEvent,
  Report as LocalReport,
  Outcome,
} from '../../../src/iface/local-types.ts';
import type { HostView, Nic } from '../../../src/iface/nic-selection.ts';
import { ProgramQueue } from '../../../src/iface/program-queue.ts';
import type { IfIndex, KernelAddress } from '../../../src/iface/types.ts';
import type { WireClaim } from '../../../src/iface/wire-claims.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import { type Instant, NEVER } from '../../../src/lib/time.ts';
import type { SimHost } from './host.ts';
import { GATEWAY_IP, type Link, MANAGEMENT_NIC_INDEX, NIC_INDEX, SEGMENTS, SUBNETS } from './lan-plan.ts';
import type { Plan } from './world.ts';

export type SimProcessOptions = {
  readonly settings?: Partial<ElectionSettings>;
  readonly isolation?: 'release' | 'hold' | 'auto';
  readonly weight?: (index: number) => number;
  readonly lifetimeMs?: number;
  /** Asks the gateway before it believes to be isolated. */
  readonly reference?: boolean;
};

/** A timer of the event loop fires so late at most, by its rounding and by what else runs. */
const TIMER_LATE_MS = 1.5;
const DEFAULT_LIFETIME_MS = 30_000;
const REPORTS_KEPT = 200;
/** As many as the addon keeps for one socket. */
const KEPT_LIMIT = 64;

/** lbd on one host: the real cores, driven by the simulation as the daemon drives them. */
export class SimProcess {
  readonly election: Election;
  readonly local: LocalAddresses;
  readonly settings: ElectionSettings;
  readonly reports: (ElectionReport | LocalReport)[] = [];
  readonly #host: SimHost;
  readonly #options: SimProcessOptions;
  readonly #entitlement: Entitlement;
  readonly #random: Random;
  /** By segment and peer. */
  readonly #watches = new Map<string, number>();
  readonly #seeds: readonly Endpoint[];
  readonly startedAt: number;
  #timerAt = Number.POSITIVE_INFINITY;
  /** What the timer is for; it is late by a little. */
  #dueAt = Number.POSITIVE_INFINITY;
  readonly #undelivered: LocalEvent[] = [];
  #localDeadline: Instant = NEVER;
  /** When the election last looked at the time. */
  #steppedAt: Instant;
  /** Routine heartbeats that came while the watch was calm, which wait for the next step. */
  #kept: { readonly event: ElectionEvent; readonly at: Instant }[] = [];
  #mayRenew = true;
  readonly #programs = new ProgramQueue();
  #isProgramming = false;

  constructor(
    host: SimHost,
    options: SimProcessOptions,
    restored: PersistentState | undefined,
    seeds: readonly SimHost[],
  ) {
    this.#host = host;
    this.#options = options;
    this.startedAt = host.world.now;
    this.#steppedAt = host.clock();
    this.#seeds = seeds.filter((seed) => seed !== host).map((seed) => endpointOf(seed));
    this.#random = seededRandom(Math.floor(host.world.random() * 2 ** 32));
    const lifetimeMs = options.lifetimeMs ?? DEFAULT_LIFETIME_MS;
    this.local = new LocalAddresses({ prefix: 'host', lifetimeMs });
    this.settings = { ...PROFILES.lan, ...options.settings };
    this.election = new Election({
      name: host.name as MemberName,
      meta: metaOf(host, options),
      settings: this.settings,
      isolation: options.isolation ?? 'auto',
      random: this.#random,
      restored,
      leaseLeftMs: (now) => this.local.lease.leaseLeftMs(now),
      now: host.clock(),
    });
    this.#entitlement = new Entitlement(() => this.election.grants());
  }

  start(): void {
    const present = this.#host.kernel.dump();
    this.#toLocal({ kind: 'host-changed', host: viewOf(this.#host) });
    if (present.length > 0) this.#toLocal({ kind: 'addresses-changed', present, gone: [] });
    this.#step({ kind: 'seeds', endpoints: this.#seeds });
    this.planned(this.#host.plan);
  }

  /** The process ends; `vanished` says that its kernel does, too. */
  end(how: 'killed' | 'vanished'): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    this.#host.world.connections.processEnded(this.#host, how);
  }

  farewell(why: 'restarting' | 'leaving'): void {
    this.#step({ kind: 'farewell', why });
  }

  command(command: 'drain' | 'undrain' | 'rebalance'): void {
    this.#step({ kind: 'command', command });
  }

  planned({ wanted, desired }: Plan): void {
    this.#step({ kind: 'wanted-changed', wanted });
    this.#deliver(this.#entitlement.planned(desired, []));
  }

  message(
    message: Message,
    from: SimHost,
    link: Link,
    connection: number | undefined,
    isRoutine: boolean,
  ): void {
    const segment = this.#host.world.segments.includes(link) ? SEGMENTS[link] : undefined;
    const event = { kind: 'message', message, from: from.endpointOn(link), segment, connection } as const;
    if (isRoutine && this.election.watch.isCalm && this.#kept.length < KEPT_LIMIT)
      this.#kept.push({ event, at: this.#host.clock() });
    else this.#step(event);
  }

  /** The host's own NICs changed. */
  hostChanged(): void {
    this.#step({ kind: 'meta-changed', meta: metaOf(this.#host, this.#options) });
    this.#toLocal({ kind: 'host-changed', host: viewOf(this.#host) });
  }

  kernelChanged(present: readonly KernelAddress[], gone: readonly KernelAddress[]): void {
    this.#toLocal({ kind: 'addresses-changed', present, gone });
  }

  isInterestedIn(ip: Ip): boolean {
    return ip === GATEWAY_IP || this.local.isInterestedIn(ip, NIC_INDEX);
  }

  claimHeard(ifIndex: IfIndex, claim: WireClaim): void {
    if (claim.ip === GATEWAY_IP) {
      this.#host.world.invariants.heardReference(this.#host);
      this.#step({ kind: 'reference-heard', segment: SEGMENTS.data });
      return;
    }
    const name = this.#host.world.hostByMac(claim.mac)?.name as MemberName | undefined;
    const isMember = name !== undefined && this.election.swim.member(name) !== undefined;
    this.#toLocal({ kind: 'claim-heard', ifIndex, claim, isMember });
  }

  timePassed(): void {
    const now = this.#host.clock();
    // Whether this host was running is for the election to find out, before any address is renewed.
    if (this.election.deadline() <= now) this.#step(TIME_PASSED);
    if (this.#localDeadline <= now) this.#toLocal(TIME_PASSED);
    this.#arm();
  }

  // --- the election ---------------------------------------------------------------------------------------------

  #step(event: ElectionEvent): void {
    const kept = this.#kept;
    if (kept.length > 0) {
      this.#kept = [];
      for (const { event, at } of kept) this.#stepAt(event, at);
    }
    this.#stepAt(event, this.#host.clock());
  }

  #stepAt(event: ElectionEvent, at: Instant): void {
    if (at > this.#steppedAt) this.#steppedAt = at;
    const effects = this.election.step(event, this.#steppedAt);
    if (effects.length > 0) this.#carryOut(effects);
    this.#arm();
  }

  #carryOut(effects: readonly ElectionEffect[]): void {
    // In the order of the daemon: what may not be held any more goes before anything else is done or said.
    const areRenewalsNews = effects.some(({ kind }) => kind === 'renewals-changed');
    if (areRenewalsNews) this.#renewalsChanged(false);
    if (effects.some(({ kind }) => kind === 'grants-changed'))
      this.#deliver(this.#entitlement.grantsChanged());
    if (areRenewalsNews) this.#renewalsChanged(true);
    for (const effect of effects) {
      if (effect.kind === 'send') this.#send(effect.to, effect.message, effect.routine === true);
      else if (effect.kind === 'report') this.#keep(effect.report);
      else if (effect.kind !== 'grants-changed' && effect.kind !== 'renewals-changed')
        this.#carryOutRare(effect);
    }
  }

  #carryOutRare(
    effect: Exclude<ElectionEffect, { kind: 'send' | 'grants-changed' | 'renewals-changed' | 'report' }>,
  ): void {
    const { connections } = this.#host.world;
    switch (effect.kind) {
      case 'exchange':
        return this.#exchange(effect.with);
      case 'reply':
        return connections.reply(effect.connection, effect.message);
      case 'watch-open':
        return this.#watch(effect.peer, effect.to);
      case 'watch-close': {
        const key = watchKey(effect);
        const id = this.#watches.get(key);
        if (id !== undefined) connections.close(id);
        this.#watches.delete(key);
        return;
      }
      case 'watch-send': {
        const id = this.#watches.get(watchKey(effect));
        if (id !== undefined) connections.send(id, effect.message);
        return;
      }
      case 'ask-reference':
        if (this.#options.reference === true && effect.segment === SEGMENTS.data) this.#ask(GATEWAY_IP);
        return;
      case 'announce':
        return this.#toLocal({ kind: 'announce', ips: effect.ips });
      case 'withdraw': {
        const grants = this.election.grants();
        return this.#toLocal({ kind: 'withdraw', ips: effect.ips.filter((ip) => !grants.has(ip)) });
      }
      case 'persist':
        this.#host.save(this.election.persistent());
        this.#host.world.invariants.claimsChanged(this.#host);
        return;
      default:
        effect satisfies never;
    }
  }

  #send(to: Endpoint, message: Message, isRoutine: boolean): void {
    const { world } = this.#host;
    const place = world.placeOf(to.ip);
    if (place === undefined) return;
    const from = this.#host;
    const { host, link } = place;
    const sentAt = world.now;
    world.lanOf(link).send(from.portOn(link), host.portOn(link), () => {
      host.take(message, from, link, undefined, sentAt, isRoutine);
    });
  }

  #exchange(to: Endpoint): void {
    const { world } = this.#host;
    const place = world.placeOf(to.ip);
    if (place === undefined || place.host === this.#host) return;
    const { host: peer, link } = place;
    const first = (): Message => this.election.state(true, this.#host.clock());
    const id = world.connections.connect(this.#host, peer, link, first, {
      onMessage: (message) => {
        this.message(message, peer, link, undefined, false);
        world.connections.close(id);
      },
      onClosed: () => {},
    });
  }

  #watch(peer: MemberName, to: Endpoint): void {
    const { world } = this.#host;
    const place = world.placeOf(to.ip);
    if (place === undefined) return;
    const { host: other, link } = place;
    const segment = SEGMENTS[link];
    const key = watchKey({ peer, segment });
    const known = this.#watches.get(key);
    if (known !== undefined) world.connections.close(known);
    const { incarnation } = this.election.swim;
    const from = this.#host.name as MemberName;
    const hello = (): Message => ({ kind: 'hello', from, incarnation });
    const id = world.connections.connect(this.#host, other, link, hello, {
      onOpened: () => this.#step({ kind: 'watch-opened', peer, segment }),
      onMessage: (message) => this.message(message, other, link, id, false),
      onClosed: (how) => {
        if (this.#watches.get(key) === id) this.#watches.delete(key);
        this.#step({ kind: 'watch-closed', peer, segment, how });
      },
    });
    this.#watches.set(key, id);
  }

  #ask(ip: Ip): void {
    const { mac, ip: senderIp, world } = this.#host;
    world.transmit(this.#host, { kind: 'ask', ip, senderIp, senderMac: mac, to: undefined });
  }

  #renewalsChanged(to: boolean): void {
    const allowed = this.election.mayRenew(SEGMENTS.data);
    if (allowed === this.#mayRenew || allowed !== to) return;
    this.#mayRenew = allowed;
    this.#toLocal({ kind: 'renewals', allowed, ifIndex: NIC_INDEX });
  }

  // --- local addresses --------------------------------------------------------------------------------------------

  /** In order, also what comes of what is delivered: an older plan must not come last. */
  #deliver(events: readonly LocalEvent[]): void {
    this.#undelivered.push(...events);
    if (this.#undelivered.length > events.length) return;
    for (let event = this.#undelivered[0]; event !== undefined; event = this.#undelivered[0]) {
      this.#toLocal(event);
      this.#undelivered.shift();
    }
  }

  #toLocal(event: LocalEvent): void {
    // As the daemon does: whether this host was running is for the election to find out first.
    const overrunAt = Math.max(this.election.deadline(), this.#steppedAt) + this.settings.overrunMs;
    if (this.#host.clock() > overrunAt) this.#step(TIME_PASSED);
    const effects = this.local.step(event, this.#host.clock());
    this.#localDeadline = this.local.deadline();
    if (effects.length > 0) {
      const changes: (readonly [Ip, LocalState])[] = [];
      for (const effect of effects) this.#carryOutLocal(effect, changes);
      if (changes.length > 0) this.#step({ kind: 'local-changed', changes });
    }
    this.#arm();
  }

  #carryOutLocal(effect: LocalEffect, changes: (readonly [Ip, LocalState])[]): void {
    const host = this.#host;
    switch (effect.kind) {
      case 'program':
        this.#programs.push(effect.requests, effect.deadline);
        if (!this.#isProgramming) this.#programNext();
        return;
      case 'send':
        return host.world.transmit(host, {
          kind: effect.frame === 'announce' ? 'tell' : 'ask',
          ip: effect.ip,
          senderIp: effect.frame === 'announce' ? effect.ip : undefined,
          senderMac: host.mac,
          to: effect.to,
        });
      case 'state-changed':
        changes.push([effect.ip, effect.state]);
        return;
      case 'report': {
        const { report } = effect;
        this.#keep(report);
        if (report.kind === 'rival-heard')
          this.#step({ kind: 'rival-heard', ip: report.ip, mac: report.mac });
        return;
      }
      case 'evidence-changed':
        return;
      default:
        effect satisfies never;
    }
  }

  /** As the daemon does: one batch at a time, and each request is looked at once more before it goes. */
  #programNext(): void {
    const batch = this.#programs.take();
    this.#isProgramming = batch !== undefined;
    if (batch === undefined) return;
    const host = this.#host;
    const sentAt = host.clock();
    const requests = batch.requests.filter((request) => this.local.isMeant(request));
    const refused = batch.requests.filter((request) => !requests.includes(request));
    const failures = refused.map((request): Outcome => {
      return { ok: false, request, errno: 'ETIME', message: 'not meant any more' };
    });
    host.world.invariants.programming(host, requests);
    host.kernel.program(requests, batch.deadline, (outcomes) => {
      host.toProcess(() => {
        if (host.process !== this) return;
        this.#programNext();
        this.#toLocal({ kind: 'programmed', outcomes: [...outcomes, ...failures], sentAt });
      });
    });
  }

  #keep(report: ElectionReport | LocalReport): void {
    this.#host.world.invariants.reported(this.#host, report);
    this.#host.world.onReport?.(this.#host, report);
    if (this.reports.length < REPORTS_KEPT) this.reports.push(report);
  }

  // --- time -------------------------------------------------------------------------------------------------------

  #arm(): void {
    const host = this.#host;
    const election = this.election.deadline();
    const deadline = this.#localDeadline < election ? this.#localDeadline : election;
    if (deadline === NEVER) return;
    const dueAt = host.simTime(deadline);
    if (dueAt >= this.#dueAt) return;
    this.#dueAt = dueAt;
    const wakeAt = Math.max(host.world.now, dueAt) + this.#random() * TIMER_LATE_MS;
    if (wakeAt >= this.#timerAt) return;
    this.#timerAt = wakeAt;
    host.world.queue.at(wakeAt, () => {
      if (this.#timerAt !== wakeAt) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      this.#dueAt = Number.POSITIVE_INFINITY;
      // A process that does not run looks at the time when it goes on.
      if (host.process === this && host.isRunning) this.timePassed();
    });
  }
}

const TIME_PASSED = { kind: 'time-passed' } as const;

function watchKey({ peer, segment }: { readonly peer: MemberName; readonly segment: string }): string {
  return `${segment} ${peer}`;
}

/** Hosts with a network for management mostly gossip there: it is the data network whose loss must be noticed all the same. */
function endpointOf(host: SimHost): Endpoint {
  return host.endpointOn(host.world.gossip);
}

function metaOf(host: SimHost, options: SimProcessOptions): MemberMeta {
  const segments: Segment[] = [];
  if (host.hasCarrier) segments.push({ subnet: SUBNETS.data, ip: host.ip, mac: host.mac });
  if (host.world.segments.includes('management'))
    segments.push({ subnet: SUBNETS.management, ip: host.managementIp, mac: host.managementMac });
  return {
    endpoint: endpointOf(host),
    node: host.name,
    version: '0.0.0',
    segments,
    drained: false,
    weight: options.weight?.(host.index) ?? 100,
    configDigest: '00000000',
    lifetimeMs: options.lifetimeMs ?? DEFAULT_LIFETIME_MS,
  };
}

function viewOf(host: SimHost): HostView {
  const data: Nic = {
    ifIndex: NIC_INDEX,
    name: 'eth0',
    mac: host.mac,
    up: host.hasCarrier,
    subnets: [SUBNETS.data],
  };
  const nics: Nic[] = [data];
  if (host.managementPort !== undefined)
    nics.push({
      ifIndex: MANAGEMENT_NIC_INDEX,
      name: 'eth1',
      mac: host.managementMac,
      up: true,
      subnets: [SUBNETS.management],
    });
  return {
    nics,
    selected: { v4: new Set([NIC_INDEX]), v6: new Set() },
    ownAddresses: new Map([[host.ip, 'eth0']]),
    gateways: new Set([GATEWAY_IP]),
    macs: new Set(nics.map(({ mac }) => mac)),
    signature: host.hasCarrier ? 'up' : 'down',
  };
}
