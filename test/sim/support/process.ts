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
  SegmentKey,
} from '../../../src/election/types.ts';
import { LocalAddresses } from '../../../src/iface/local-addresses.ts';
import type {
  Effect as LocalEffect,
  Event as LocalEvent,
  Report as LocalReport,
} from '../../../src/iface/local-types.ts';
import type { HostView } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, KernelAddress } from '../../../src/iface/types.ts';
import type { WireClaim } from '../../../src/iface/wire-claims.ts';
import { formatPrefix, type Ip } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import { NEVER } from '../../../src/lib/time.ts';
import type { SimHost } from './host.ts';
import { GATEWAY_IP, NIC_INDEX, SUBNET } from './lan-plan.ts';

export type SimProcessOptions = {
  readonly settings?: Partial<ElectionSettings>;
  readonly isolation?: 'release' | 'hold' | 'auto';
  readonly weight?: (index: number) => number;
  readonly lifetimeMs?: number;
  /** Asks the gateway before it believes to be isolated. */
  readonly reference?: boolean;
};

const PORT = 7946;
export const SEGMENT = formatPrefix(SUBNET) as string as SegmentKey;
/** A timer of the event loop fires so late at most, by its rounding and by what else runs. */
const TIMER_LATE_MS = 1.5;
const DEFAULT_LIFETIME_MS = 30_000;
const REPORTS_KEPT = 200;

/** lbd on one host: the real cores, driven by the simulation as the daemon drives them. */
export class SimProcess {
  readonly election: Election;
  readonly local: LocalAddresses;
  readonly reports: (ElectionReport | LocalReport)[] = [];
  readonly #host: SimHost;
  readonly #options: SimProcessOptions;
  readonly #entitlement: Entitlement;
  readonly #random: Random;
  readonly #watches = new Map<MemberName, number>();
  readonly #seeds: readonly Endpoint[];
  #timerAt = Number.POSITIVE_INFINITY;
  #mayRenew = true;

  constructor(
    host: SimHost,
    options: SimProcessOptions,
    restored: PersistentState | undefined,
    seeds: readonly SimHost[],
  ) {
    this.#host = host;
    this.#options = options;
    this.#seeds = seeds.filter((seed) => seed !== host).map(({ ip }) => ({ ip, port: PORT }));
    this.#random = seededRandom(Math.floor(host.world.random() * 2 ** 32));
    const lifetimeMs = options.lifetimeMs ?? DEFAULT_LIFETIME_MS;
    this.local = new LocalAddresses({ prefix: 'host', lifetimeMs });
    const settings: ElectionSettings = { ...PROFILES.lan, ...options.settings };
    this.election = new Election({
      name: host.name as MemberName,
      meta: metaOf(host, options),
      settings,
      isolation: options.isolation ?? 'auto',
      random: this.#random,
      restored,
      leaseLeftMs: (now) => this.local.leaseLeftMs(now),
      now: host.clock(),
    });
    this.#entitlement = new Entitlement(() => this.election.grants());
  }

  start(): void {
    const present = this.#host.kernel.dump();
    this.#toLocal({ kind: 'host-changed', host: viewOf(this.#host) });
    if (present.length > 0) this.#toLocal({ kind: 'addresses-changed', present, gone: [] });
    this.#step({ kind: 'seeds', endpoints: this.#seeds });
    this.wantedChanged();
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

  wantedChanged(): void {
    const { world } = this.#host;
    this.#step({ kind: 'wanted-changed', wanted: world.wanted() });
    this.#deliver(this.#entitlement.planned(world.desired(), []));
  }

  message(message: Message, from: SimHost, connection: number | undefined): void {
    this.#step({ kind: 'message', message, from: endpointOf(from), segment: SEGMENT, connection });
  }

  kernelChanged(present: readonly KernelAddress[], gone: readonly KernelAddress[]): void {
    this.#toLocal({ kind: 'addresses-changed', present, gone });
  }

  isInterestedIn(ip: Ip): boolean {
    return ip === GATEWAY_IP || this.local.isInterestedIn(ip, NIC_INDEX);
  }

  claimHeard(ifIndex: IfIndex, claim: WireClaim): void {
    if (claim.ip === GATEWAY_IP) this.#step({ kind: 'reference-heard', segment: SEGMENT });
    else this.#toLocal({ kind: 'claim-heard', ifIndex, claim });
  }

  timePassed(): void {
    const now = this.#host.clock();
    // Whether this host was running is for the election to find out, before any address is renewed.
    if (this.election.deadline() <= now) this.#step({ kind: 'time-passed' });
    if (this.local.deadline() <= now) this.#toLocal({ kind: 'time-passed' });
    this.#arm();
  }

  // --- the election ---------------------------------------------------------------------------------------------

  #step(event: ElectionEvent): void {
    const effects = this.election.step(event, this.#host.clock());
    if (effects.length > 0) this.#carryOut(effects);
    this.#arm();
  }

  #carryOut(effects: readonly ElectionEffect[]): void {
    let grantsChanged = false;
    for (const effect of effects) {
      if (effect.kind === 'send') this.#send(effect.to, effect.message);
      else if (effect.kind === 'grants-changed') grantsChanged = true;
      else if (effect.kind === 'report') this.#keep(effect.report);
      else this.#carryOutRare(effect);
    }
    if (grantsChanged) this.#deliver(this.#entitlement.grantsChanged());
  }

  #carryOutRare(effect: Exclude<ElectionEffect, { kind: 'send' | 'grants-changed' | 'report' }>): void {
    const { connections } = this.#host.world;
    switch (effect.kind) {
      case 'exchange':
        return this.#exchange(effect.with);
      case 'reply':
        return connections.reply(effect.connection, effect.message);
      case 'watch-open':
        return this.#watch(effect.peer, effect.to);
      case 'watch-close': {
        const id = this.#watches.get(effect.peer);
        if (id !== undefined) connections.close(id);
        this.#watches.delete(effect.peer);
        return;
      }
      case 'watch-send': {
        const id = this.#watches.get(effect.peer);
        if (id !== undefined) connections.send(id, effect.message);
        return;
      }
      case 'ask-reference':
        if (this.#options.reference === true) this.#ask(GATEWAY_IP);
        return;
      case 'announce':
      case 'withdraw':
        return this.#toLocal({ kind: effect.kind, ips: effect.ips });
      case 'renewals-changed':
        return this.#renewalsChanged();
      case 'persist':
        this.#host.save(this.election.persistent());
        return;
      default:
        effect satisfies never;
    }
  }

  #send(to: Endpoint, message: Message): void {
    const host = this.#host.world.hostByIp(to.ip);
    if (host === undefined) return;
    const from = this.#host;
    from.world.lan.send(from.port, host.port, () => {
      host.deliver(() => host.process?.message(message, from, undefined));
    });
  }

  #exchange(to: Endpoint): void {
    const { world } = this.#host;
    const peer = world.hostByIp(to.ip);
    if (peer === undefined || peer === this.#host) return;
    const id = world.connections.connect(
      this.#host,
      peer,
      () => this.election.state(true, this.#host.clock()),
      {
        onMessage: (message) => {
          this.message(message, peer, undefined);
          world.connections.close(id);
        },
        onClosed: () => {},
      },
    );
  }

  #watch(peer: MemberName, to: Endpoint): void {
    const { world } = this.#host;
    const other = world.hostByIp(to.ip);
    if (other === undefined) return;
    const known = this.#watches.get(peer);
    if (known !== undefined) world.connections.close(known);
    const { incarnation } = this.election.swim;
    const from = this.#host.name as MemberName;
    const id = world.connections.connect(this.#host, other, () => ({ kind: 'hello', from, incarnation }), {
      onOpened: () => this.#step({ kind: 'watch-opened', peer, segment: SEGMENT }),
      onMessage: (message) => this.message(message, other, id),
      onClosed: (how) => {
        if (this.#watches.get(peer) === id) this.#watches.delete(peer);
        this.#step({ kind: 'watch-closed', peer, segment: SEGMENT, how });
      },
    });
    this.#watches.set(peer, id);
  }

  #ask(ip: Ip): void {
    const { mac, ip: senderIp, world } = this.#host;
    world.transmit(this.#host, { kind: 'ask', ip, senderIp, senderMac: mac, to: undefined });
  }

  #renewalsChanged(): void {
    const allowed = this.election.mayRenew(SEGMENT);
    if (allowed === this.#mayRenew) return;
    this.#mayRenew = allowed;
    this.#toLocal({ kind: 'renewals', allowed, ifIndex: NIC_INDEX });
  }

  // --- local addresses --------------------------------------------------------------------------------------------

  #deliver(events: readonly LocalEvent[]): void {
    for (const event of events) this.#toLocal(event);
  }

  #toLocal(event: LocalEvent): void {
    const effects = this.local.step(event, this.#host.clock());
    const changes: (readonly [Ip, LocalState])[] = [];
    for (const effect of effects) this.#carryOutLocal(effect, changes);
    if (changes.length > 0) this.#step({ kind: 'local-changed', changes });
    this.#arm();
  }

  #carryOutLocal(effect: LocalEffect, changes: (readonly [Ip, LocalState])[]): void {
    const host = this.#host;
    switch (effect.kind) {
      case 'program': {
        const sentAt = host.clock();
        return host.kernel.program(effect.requests, effect.deadline, (outcomes) => {
          host.toProcess(() => {
            if (host.process === this) this.#toLocal({ kind: 'programmed', outcomes, sentAt });
          });
        });
      }
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

  #keep(report: ElectionReport | LocalReport): void {
    this.#host.world.onReport?.(this.#host, report);
    if (this.reports.length < REPORTS_KEPT) this.reports.push(report);
  }

  // --- time -------------------------------------------------------------------------------------------------------

  #arm(): void {
    const host = this.#host;
    const local = this.local.deadline();
    const election = this.election.deadline();
    const deadline = local < election ? local : election;
    if (deadline === NEVER) return;
    const wakeAt = Math.max(host.world.now, host.simTime(deadline)) + this.#random() * TIMER_LATE_MS;
    if (wakeAt >= this.#timerAt) return;
    this.#timerAt = wakeAt;
    host.world.queue.at(wakeAt, () => {
      if (this.#timerAt !== wakeAt) return;
      this.#timerAt = Number.POSITIVE_INFINITY;
      // A process that does not run looks at the time when it goes on.
      if (host.process === this && host.isRunning) this.timePassed();
    });
  }
}

function endpointOf(host: SimHost): Endpoint {
  return { ip: host.ip, port: PORT };
}

function metaOf(host: SimHost, options: SimProcessOptions): MemberMeta {
  return {
    endpoint: endpointOf(host),
    node: host.name,
    version: '0.0.0',
    segments: [{ subnet: SUBNET, ip: host.ip, mac: host.mac }],
    drained: false,
    weight: options.weight?.(host.index) ?? 100,
    configDigest: '00000000',
    lifetimeMs: options.lifetimeMs ?? DEFAULT_LIFETIME_MS,
  };
}

function viewOf(host: SimHost): HostView {
  return {
    nics: [{ ifIndex: NIC_INDEX, name: 'eth0', mac: host.mac, up: true, subnets: [SUBNET] }],
    selected: { v4: new Set([NIC_INDEX]), v6: new Set() },
    ownAddresses: new Map([[host.ip, 'eth0']]),
    gateways: new Set([GATEWAY_IP]),
    macs: new Set([host.mac]),
    signature: 'up',
  };
}
