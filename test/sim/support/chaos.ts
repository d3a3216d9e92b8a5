import assert from 'node:assert/strict';
import type { MemberName } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import type { SimHost } from './host.ts';
import { STRICT } from './invariants.ts';
import { allAlive } from './partition.ts';
import { type Cluster, disagreement, mostMoves, seedsOf, vips } from './scenario.ts';
import { World, type WorldOptions } from './world.ts';

/**
 * A cluster to which anything may happen, several things at once, all from one seed; the invariants watch. In the end
 * everything is well again, and so must be the addresses: one owner each, who is the one that all believe in.
 */

const FAULTS_FOR_MS = 60_000;
const LIFETIMES_MS = [5_000, 10_000, 30_000];
/** The longest lifetime, what its kernel is late, and a settle. */
const REST_MS = 45_000;
const QUIET_MS = 5_000;
/** What two hosts may do at once so soon after one of them came back from somewhere. */
const RETURN_MS = 2_000;

/** Two that were started while they were cut off from each other find each other by their seeds, asked every 12 s at most. */
const SEEDS_MS = 15_000;

export type ChaosResult = {
  /** Of every event, in its order. */
  readonly trace: number;
  readonly log: readonly string[];
  readonly hosts: number;
  readonly simulatedMs: number;
};

export function chaos(seed: number): ChaosResult {
  const run = new Chaos(seed);
  try {
    run.faults();
    run.rest();
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed}: ${what}\n${run.log.join('\n')}`, { cause: error });
  }
  const { trace, hosts, now } = run.world;
  return { trace: trace >>> 0, log: run.log, hosts: hosts.length, simulatedMs: now };
}

/** What is wrong with a host, one of each kind at a time; called to make it right. */
type Slot = 'machine' | 'port' | 'management' | 'drain';
type Trouble = { readonly slot: Slot; readonly begin: () => void; readonly end: () => void };

export class Chaos {
  readonly world: World;
  readonly log: string[] = [];
  readonly #random: Random;
  readonly #ips: readonly Ip[];
  /** What is wrong now. */
  readonly #troubled = new Map<string, () => void>();
  /** Only meant for two hosts, of which one block at a time is possible. */
  #blockedUntil = Number.NEGATIVE_INFINITY;
  #nodesOf = new Map<Ip, ReadonlySet<string>>();

  constructor(seed: number) {
    this.#random = seededRandom(seed ^ 0x3c6ef372);
    const options = this.#options(seed);
    this.world = new World(options);
    this.#ips = vips(1 + this.#upTo(3 * options.hosts));
    this.world.invariants.limits = { ...STRICT, unheardMs: 100 };
    this.world.invariants.doubleLimit = (_ip, hosts) => this.#doubleLimit(hosts);
    this.world.want(this.#ips);
    const { hosts, management, gateway } = options;
    this.#say(
      `${hosts} hosts, ${this.#ips.length} addresses, ${management ?? 'one network'}, gateway ${gateway}`,
    );
    this.#say(`loss ${options.lan?.loss}, lifetime ${options.host?.lifetimeMs}`);
  }

  /** One thing after the other goes wrong, and is made right a while later. */
  faults(): void {
    const { world } = this;
    for (const host of world.hosts) host.start(seedsOf(world));
    world.run(this.#random() < 0.7 ? 8_000 : 1_000);
    const endAt = world.now + FAULTS_FOR_MS;
    while (world.now < endAt) {
      this.#something();
      world.run(this.#random() < 0.3 ? 50 * this.#random() : 4_000 * this.#random());
    }
  }

  rest(): void {
    const { world } = this;
    this.#say('all is made right');
    for (const end of [...this.#troubled.values()]) end();
    const cluster: Cluster = { world, ips: this.#ips, first: this.#ips[0] ?? ('' as Ip) };
    world.run(REST_MS);
    assert.equal(disagreement(cluster), undefined);
    assert.ok(allAlive(world), 'somebody is not alive to somebody');
    // A client's own cache is not looked at: whom it could not hear while it was cut off it asks for itself.
    for (const client of world.clients) {
      for (const ip of this.#ips) {
        const holder = world.host(client.judge.holder(ip) ?? 0);
        assert.ok(this.#nodesOf.get(ip)?.has(holder.name) ?? true, `${ip} is on ${holder.name}`);
      }
    }
    world.measure();
    world.run(QUIET_MS);
    assert.equal(mostMoves(cluster, this.#ips), 0, 'moved at rest');
  }

  #options(seed: number): WorldOptions {
    const hosts = this.#pick([2, 3, 3, 4, 5, 5, 6, 7, 8, 10, 10, 15]);
    const gateway = this.#random() < 0.5;
    const management = this.#pick([undefined, undefined, undefined, 'segment', 'gossip'] as const);
    return {
      seed,
      hosts,
      gateway,
      clients: 2,
      lan: { loss: this.#pick([0, 0, 0, 0.01, 0.05]) },
      host: { lifetimeMs: this.#pick(LIFETIMES_MS), reference: gateway },
      ...(management === undefined ? {} : { management }),
    };
  }

  /** Two hosts at once are right while one of them cannot know better, or has just come back from there. */
  #doubleLimit(hosts: readonly SimHost[]): number | undefined {
    const { world } = this;
    if (hosts.some((host) => !host.isRunning)) return Number.POSITIVE_INFINITY;
    // There is no third host that could tell one of them what the other knows.
    if (world.hosts.length === 2 && world.now - this.#blockedUntil < RETURN_MS)
      return Number.POSITIVE_INFINITY;
    if (hosts.some((host) => !knowsAll(host, hosts))) return SEEDS_MS;
    const isBack = hosts.some((host) => {
      const startedAt = host.process?.startedAt ?? 0;
      return world.now - Math.max(world.changedAt(host), startedAt) < RETURN_MS;
    });
    return isBack || this.#troubled.has('storm') ? RETURN_MS : undefined;
  }

  // --- what may go wrong --------------------------------------------------------------------------------------------

  #something(): void {
    const { world } = this;
    const host = world.host(this.#upTo(world.hosts.length));
    const draw = this.#random();
    if (draw < 0.4) this.#machine(host);
    else if (draw < 0.65) this.#network(host);
    else if (draw < 0.75) this.#block(host);
    else if (draw < 0.8) this.#cut();
    else if (draw < 0.85) this.#storm();
    else if (draw < 0.95) this.#order(host);
    else this.#endpoints();
  }

  #machine(host: SimHost): void {
    const { world } = this;
    const start = (): void => host.start(seedsOf(world));
    const clockNotices = this.#random() < 0.5;
    const trouble = this.#pick<readonly [string, number, () => void, () => void]>([
      ['is killed', 40_000, () => host.kill(), start],
      ['is killed, and started again', 500, () => host.kill(), start],
      ['is restarted', 3_000, () => host.stopForRestart(), start],
      ['hangs', 12_000, () => host.stopProcess(), () => host.continueProcess()],
      ['hangs a little', 600, () => host.stopProcess(), () => host.continueProcess()],
      ['is paused', 12_000, () => host.pause(), () => host.resume(clockNotices)],
      ['is paused a little', 600, () => host.pause(), () => host.resume(clockNotices)],
      [
        'loses power',
        20_000,
        () => host.powerOff(),
        () => {
          host.powerOn();
          start();
        },
      ],
    ]);
    const [what, limitMs, begin, end] = trouble;
    this.#trouble(host, { slot: 'machine', begin, end }, what, limitMs);
  }

  #network(host: SimHost): void {
    const { lan } = this.world;
    const trouble = this.#pick<readonly [string, number, () => void, () => void]>([
      [
        'is cut off',
        20_000,
        () => lan.setPort(host.port, { up: false }),
        () => lan.setPort(host.port, { up: true }),
      ],
      [
        'is cut off for a moment',
        400,
        () => lan.setPort(host.port, { up: false }),
        () => lan.setPort(host.port, { up: true }),
      ],
      [
        'is deaf',
        10_000,
        () => lan.setPort(host.port, { hears: false }),
        () => lan.setPort(host.port, { hears: true }),
      ],
      [
        'is mute',
        10_000,
        () => lan.setPort(host.port, { speaks: false }),
        () => lan.setPort(host.port, { speaks: true }),
      ],
      ['has no carrier', 10_000, () => host.setCarrier(false), () => host.setCarrier(true)],
    ]);
    const [what, limitMs, begin, end] = trouble;
    const { management } = this.world;
    if (management !== undefined && this.#random() < 0.3) {
      const port = host.portOn('management');
      const setUp = (up: boolean) => (): void => management.setPort(port, { up });
      this.#trouble(
        host,
        { slot: 'management', begin: setUp(false), end: setUp(true) },
        'manages nothing',
        15_000,
      );
    } else this.#trouble(host, { slot: 'port', begin, end }, what, limitMs);
  }

  /** Gossip from one host to another is lost, or both ways; frames pass. */
  #block(host: SimHost): void {
    const { world } = this;
    const other = world.host(this.#upTo(world.hosts.length));
    if (other === host) return;
    const pairs =
      this.#random() < 0.5
        ? ([[host, other]] as const)
        : ([
            [host, other],
            [other, host],
          ] as const);
    const name = [host.name, other.name].toSorted().join(' and ');
    const begin = (): void => {
      for (const [from, to] of pairs) world.lan.block(from.port, to.port);
      this.#blockedUntil = Number.POSITIVE_INFINITY;
    };
    const end = (): void => {
      for (const [from, to] of pairs) world.lan.unblock(from.port, to.port);
      this.#blockedUntil = world.now;
    };
    this.#lasting(name, `block ${pairs.length} ways`, begin, end, 20_000);
  }

  #cut(): void {
    const { lan, hosts, clients } = this.world;
    const ports = hosts.map(({ port }) => port).filter(() => this.#random() < 0.5);
    if (clients[1] !== undefined) ports.push(clients[1].port);
    const setGroup = (group: number) => (): void => {
      for (const port of ports) lan.setPort(port, { group });
    };
    this.#lasting('the segment', `is cut: ${ports.join(' ')}`, setGroup(1), setGroup(0), 15_000);
  }

  #storm(): void {
    const { lan, invariants } = this.world;
    const { settings } = lan;
    const { limits } = invariants;
    const begin = (): void => {
      lan.settings = { ...settings, loss: 0.3, latencyMs: 2, jitterMs: 5 };
      // Now even the wire may be silent for who lives.
      invariants.limits = { ...limits, unheardMs: Number.POSITIVE_INFINITY };
    };
    const end = (): void => {
      lan.settings = settings;
      invariants.limits = limits;
      invariants.lossEnded();
    };
    this.#lasting('storm', 'begins', begin, end, 2_000);
  }

  /** What an operator does. */
  #order(host: SimHost): void {
    const { process } = host;
    if (process === undefined || !host.isRunning) return;
    if (this.#random() < 0.3) {
      this.#say(`${host.name} rebalances`);
      process.command('rebalance');
      return;
    }
    const begin = (): void => process.command('drain');
    // A process that was started anew meanwhile is not drained.
    const end = (): void => host.toProcess(() => host.process?.command('undrain'));
    this.#trouble(host, { slot: 'drain', begin, end }, 'is drained', 10_000);
  }

  /** Endpoints of Services with externalTrafficPolicy Local move. */
  #endpoints(): void {
    const { world } = this;
    this.#nodesOf = new Map();
    for (const ip of this.#ips) {
      if (this.#random() < 0.6) continue;
      const nodes = world.hosts.filter(() => this.#random() < 0.5).map(({ name }) => name);
      if (nodes.length > 0) this.#nodesOf.set(ip, new Set(nodes));
    }
    this.#say(`endpoints of ${this.#nodesOf.size} addresses move`);
    const lateMs = this.#random() < 0.5 ? 0 : 1_000;
    world.want(
      this.#ips,
      (ip) => this.#nodesOf.get(ip),
      new Set(),
      () => lateMs * this.#random(),
    );
  }

  // --- for a while --------------------------------------------------------------------------------------------------

  #trouble(host: SimHost, { slot, begin, end }: Trouble, what: string, limitMs: number): void {
    this.#lasting(host.name, what, begin, end, limitMs, slot);
  }

  #lasting(who: string, what: string, begin: () => void, end: () => void, limitMs: number, slot = ''): void {
    const key = slot === '' ? who : `${who} ${slot}`;
    if (this.#troubled.has(key)) return;
    const ms = limitMs * this.#random();
    this.#say(`${who} ${what} for ${ms.toFixed(0)} ms`);
    begin();
    const stop = (): void => {
      if (this.#troubled.get(key) !== stop) return;
      this.#troubled.delete(key);
      this.#say(`${who} no more: ${what}`);
      end();
    };
    this.#troubled.set(key, stop);
    this.world.queue.in(ms, stop);
  }

  #say(what: string): void {
    this.log.push(`${(this.world?.now ?? 0).toFixed(1).padStart(9)}  ${what}`);
  }

  #upTo(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<Value>(values: readonly Value[]): Value {
    const value = values[this.#upTo(values.length)];
    if (value === undefined && !values.includes(value as Value)) throw new Error('nothing to pick from');
    return value as Value;
  }
}

function knowsAll({ process }: SimHost, hosts: readonly SimHost[]): boolean {
  return hosts.every(({ name }) => process?.election.swim.member(name as MemberName) !== undefined);
}
