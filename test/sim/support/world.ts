import type { Report as ElectionReport } from '../../../src/election/effects.ts';
import type { Wanted } from '../../../src/election/types.ts';
import type { Report as LocalReport } from '../../../src/iface/local-types.ts';
import type { DesiredAddress, Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import { Client } from './client.ts';
import { Connections } from './connections.ts';
import { EventQueue } from './event-queue.ts';
import { SimHost, type SimHostOptions } from './host.ts';
import { Invariants } from './invariants.ts';
import { Lan, type LanSettings, type PortId, QUIET_LAN } from './lan.ts';
import { GATEWAY_IP, GATEWAY_MAC, type Link } from './lan-plan.ts';

/** A frame on the segment, reduced to what ARP and neighbour discovery say. */
export type Frame = {
  /** `ask` wants an answer of who has `ip`; `tell` says that the sender has it. */
  readonly kind: 'ask' | 'tell';
  readonly ip: Ip;
  /** Undefined in a probe (sender 0.0.0.0, or the unspecified address). */
  readonly senderIp: Ip | undefined;
  readonly senderMac: Mac;
  /** Undefined is everybody. */
  readonly to: Mac | undefined;
};

export type WorldOptions = {
  readonly seed: number;
  readonly hosts: number;
  readonly lan?: Partial<LanSettings>;
  /** Whether the segment has a gateway that answers for its own address, on a port of its own. */
  readonly gateway?: boolean;
  readonly clients?: number;
  /** The hosts gossip on a network beside the one that carries the addresses, which may carry some as well, or not. */
  readonly management?: 'segment' | 'gossip';
  /** The network over which hosts gossip: that for management, if there is one. */
  readonly gossip?: Link;
  readonly host?: SimHostOptions;
};

/** What Services have, as a host knows it. */
export type Plan = {
  readonly wanted: Wanted;
  readonly desired: readonly DesiredAddress[];
  /** The API server's version: a host never goes back to an earlier one. */
  readonly version: number;
};

/** One segment with hosts that run lbd, clients and perhaps a gateway, all from one seed. */
export class World {
  readonly seed: number;
  readonly queue = new EventQueue();
  readonly random: Random;
  readonly lan: Lan;
  readonly management: Lan | undefined;
  readonly invariants = new Invariants(this);
  readonly hosts: readonly SimHost[];
  readonly clients: readonly Client[];
  /** The networks that may carry addresses. */
  readonly segments: readonly Link[];
  readonly gossip: Link;
  /** Whether isolated hosts hold what they have. */
  readonly holdsIsolated: boolean;
  readonly #gateway: PortId | undefined;
  /** When a host's port last changed, or it last went on after a pause. */
  readonly #changedAt = new Map<SimHost, number>();
  readonly #byMac = new Map<Mac, SimHost>();
  readonly #byIp = new Map<Ip, { readonly host: SimHost; readonly link: Link }>();
  readonly connections = new Connections(this);
  /** Called with everything that a host reports. */
  onReport: ((host: SimHost, report: ElectionReport | LocalReport) => void) | undefined;
  #wanted: Wanted = { addresses: new Map(), excludedNodes: new Set(), fresh: true };
  #desired: readonly DesiredAddress[] = [];
  #version = 0;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.segments = options.management === 'segment' ? ['data', 'management'] : ['data'];
    this.gossip = options.gossip ?? (options.management === undefined ? 'data' : 'management');
    this.holdsIsolated = options.host?.isolation === 'hold';
    this.random = seededRandom(options.seed);
    this.lan = new Lan(this.queue, seededRandom(options.seed ^ 0x5bd1e995), { ...QUIET_LAN, ...options.lan });
    if (options.management !== undefined)
      this.management = new Lan(this.queue, seededRandom(options.seed ^ 0x2c1b3c6d), QUIET_LAN);
    const hosts: SimHost[] = [];
    for (let index = 0; index < options.hosts; index++) {
      const host = new SimHost(this, index, options.host ?? {});
      hosts.push(host);
      this.#byMac.set(host.mac, host);
      this.#byIp.set(host.ip, { host, link: 'data' });
      this.#byIp.set(host.managementIp, { host, link: 'management' });
    }
    this.hosts = hosts;
    this.clients = Array.from(
      { length: options.clients ?? 1 },
      () => new Client(this.lan, () => this.queue.now),
    );
    this.#gateway = options.gateway === true ? this.lan.addPort() : undefined;
    this.lan.onChange = (port) => this.#reachChanged(port);
  }

  get now(): number {
    return this.queue.now;
  }

  get client(): Client {
    const client = this.clients[0];
    if (client === undefined) throw new Error('the world has no client');
    return client;
  }

  host(index: number): SimHost {
    const host = this.hosts[index];
    if (host === undefined) throw new Error(`there is no host ${index}`);
    return host;
  }

  /** Whose address that is. */
  placeOf(ip: Ip): { readonly host: SimHost; readonly link: Link } | undefined {
    return this.#byIp.get(ip);
  }

  hostByMac(mac: Mac): SimHost | undefined {
    return this.#byMac.get(mac);
  }

  lanOf(link: Link): Lan {
    if (link === 'data') return this.lan;
    if (this.management === undefined) throw new Error('the world has no network for management');
    return this.management;
  }

  /** Of everything so far: equal for two runs that were the same. */
  get trace(): number {
    return this.queue.trace;
  }

  /**
   * The Services' addresses, told to every host that runs. `nodesOf` gives the nodes that may have one
   * (externalTrafficPolicy Local), undefined for all. `lateMs` is how long a host takes to learn of it.
   */
  want(
    addresses: readonly Ip[],
    nodesOf: (ip: Ip) => ReadonlySet<string> | undefined = () => undefined,
    excludedNodes: ReadonlySet<string> = new Set(),
    lateMs: (host: SimHost) => number = () => 0,
  ): void {
    const wanted = new Map(addresses.map((ip) => [ip, { ip, nodes: nodesOf(ip) }]));
    this.#wanted = { addresses: wanted, excludedNodes, fresh: true };
    this.#desired = addresses.map((ip) => ({ ip, services: [] }));
    this.#version += 1;
    const plan = this.plan();
    for (const host of this.hosts) {
      const ms = lateMs(host);
      if (ms === 0) host.planned(plan);
      else this.queue.in(ms, () => host.planned(plan));
    }
  }

  plan(): Plan {
    return { wanted: this.#wanted, desired: this.#desired, version: this.#version };
  }

  run(ms: number): void {
    this.queue.runUntil(this.queue.now + ms);
  }

  /** Runs until the condition holds, looked at every `everyMs`; returns how long that took, or throws. */
  runUntil(condition: () => boolean, timeoutMs: number, everyMs = 1): number {
    const startedAt = this.queue.now;
    while (!condition()) {
      if (this.queue.now - startedAt > timeoutMs) {
        throw new Error(`seed ${this.seed}: not so within ${timeoutMs} ms of simulated time`);
      }
      this.queue.runUntil(this.queue.now + everyMs);
    }
    return this.queue.now - startedAt;
  }

  /** Forgets gaps and doubles that were: what follows is measured. */
  measure(): void {
    for (const client of this.clients) client.reset();
  }

  /** Puts a frame on the segment. */
  transmit(from: SimHost, frame: Frame): void {
    if (frame.kind === 'ask') this.invariants.asked(from, frame.ip);
    if (frame.to !== undefined) {
      const host = this.#byMac.get(frame.to);
      if (host !== undefined) this.lan.send(from.port, host.port, () => host.receive(frame), false);
      else if (frame.to === GATEWAY_MAC) this.#askGateway(from, frame);
      return;
    }
    if (frame.ip === GATEWAY_IP && frame.kind === 'ask') this.#askGateway(from, frame);
    this.lan.broadcast(() => {
      for (const host of this.hosts) {
        if (host === from || !this.lan.passes(from.port, host.port) || this.lan.losesCopy()) continue;
        host.receive(frame);
      }
      if (frame.kind !== 'tell') return;
      for (const client of this.clients) {
        // Two frames, of which either form is enough (RFC 5227 3).
        const isLost = this.lan.losesCopy() && this.lan.losesCopy();
        if (this.lan.passes(from.port, client.port) && !isLost) client.heard(frame.ip, from.index);
      }
    });
  }

  /** What the host answers for may have changed. */
  answersChanged(host: SimHost, ip: Ip): void {
    this.queue.note(host.index);
    for (const client of this.clients) {
      const does =
        host.answersFor(ip) &&
        this.lan.passes(host.port, client.port) &&
        this.lan.passes(client.port, host.port);
      client.judge.answers(ip, host.index, does);
      client.look(ip);
      this.invariants.answered(client, ip);
    }
  }

  changedAt(host: SimHost): number {
    return this.#changedAt.get(host) ?? Number.NEGATIVE_INFINITY;
  }

  /** Others may find it where they just found nobody. */
  noteChange(host: SimHost): void {
    this.#changedAt.set(host, this.now);
  }

  #askGateway(from: SimHost, frame: Frame): void {
    const gateway = this.#gateway;
    if (gateway === undefined || frame.kind !== 'ask' || frame.ip !== GATEWAY_IP) return;
    this.lan.send(
      from.port,
      gateway,
      () => {
        const answer: Frame = {
          kind: 'tell',
          ip: GATEWAY_IP,
          senderIp: GATEWAY_IP,
          senderMac: GATEWAY_MAC,
          to: from.mac,
        };
        this.lan.send(gateway, from.port, () => from.receive(answer), false);
      },
      false,
    );
  }

  /** A port's reach changed: every address of that host, or of all, is judged anew. */
  #reachChanged(port: PortId | undefined): void {
    const isHost = this.hosts.some((host) => host.port === port);
    for (const host of this.hosts) {
      if (isHost && host.port !== port) continue;
      this.noteChange(host);
      for (const ip of host.kernel.addresses()) this.answersChanged(host, ip);
    }
  }
}
