import type { Effect, Report } from '../../../src/election/effects.ts';
import type { Message } from '../../../src/election/message.ts';
import { type ElectionSettings, PROFILES } from '../../../src/election/settings.ts';
import { Swim } from '../../../src/election/swim.ts';
import type { Endpoint, MemberMeta, MemberName, MemberState, Silence } from '../../../src/election/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import { after, type Instant, instant, NEVER } from '../../../src/lib/time.ts';

/** Some `Swim`s on one virtual clock and a network that delays, loses and blocks. */

export type Host = {
  readonly name: MemberName;
  readonly endpoint: Endpoint;
  swim: Swim;
  out: Effect[];
  up: boolean;
  /** Does not run until then; what comes meanwhile waits. */
  pausedUntil: Instant;
  timerAt: Instant;
  readonly reports: Report[];
  readonly inbox: (() => void)[];
};

type Event = { readonly at: Instant; readonly order: number; readonly run: () => void };

export class SwimNetwork {
  readonly hosts: Host[] = [];
  readonly settings: ElectionSettings;
  readonly random: Random;
  now = instant(0);
  loss = 0;
  /** Whether packets, and connections, from one host get to another. */
  passes: (from: Host, to: Host) => boolean = () => true;
  tcpPasses: (from: Host, to: Host) => boolean = (from, to) => this.passes(from, to) && this.passes(to, from);
  packets = 0;
  exchanges = 0;
  keepReports = true;
  /** What every packet goes through on its way, as it would on a real wire. */
  wire: (message: Message) => Message = (message) => message;
  readonly #byEndpoint = new Map<string, Host>();
  readonly #events: Event[] = [];
  #order = 0;

  constructor(seed: number, settings: Partial<ElectionSettings> = {}) {
    this.settings = { ...PROFILES.lan, ...settings };
    this.random = seededRandom(seed);
  }

  add(name: string, options: { readonly ip?: string; readonly incarnation?: number } = {}): Host {
    const number = this.hosts.length + 1;
    const ip = options.ip ?? `10.0.${number >> 8}.${number & 255}`;
    const endpoint = { ip: ip as Ip, port: 7946 };
    const out: Effect[] = [];
    const swim = this.#swim(name as MemberName, endpoint, options.incarnation ?? 1, out);
    const host: Host = {
      name: name as MemberName,
      endpoint,
      swim,
      out,
      up: true,
      pausedUntil: this.now,
      timerAt: NEVER,
      reports: [],
      inbox: [],
    };
    this.hosts.push(host);
    this.#byEndpoint.set(endpoint.ip, host);
    return host;
  }

  /** `count` hosts that know of each other from the first. */
  joined(count: number): Host[] {
    for (let index = 0; index < count; index++) this.add(`host-${index}`);
    const everybody = this.hosts.flatMap(({ swim }) => swim.state(this.now));
    for (const host of this.hosts) this.act(host, () => host.swim.merge(everybody, this.now));
    return this.hosts;
  }

  restart(host: Host, incarnation: number): void {
    host.out = [];
    host.swim = this.#swim(host.name, host.endpoint, incarnation, host.out);
    host.up = true;
    host.timerAt = NEVER;
  }

  /** Does something with a host's Swim and carries out what it asks for. */
  act(host: Host, action: () => void): void {
    if (!host.up) return;
    action();
    this.#carryOut(host);
  }

  pause(host: Host, ms: number): void {
    host.pausedUntil = after(this.now, ms);
    this.#schedule(ms, () => {
      // What waited in the socket is read before the timers run.
      for (const deliver of host.inbox.splice(0)) this.act(host, deliver);
      this.act(host, () => host.swim.advance(this.now));
    });
  }

  run(ms: number): void {
    this.runUntil(() => false, ms);
  }

  /** Until `done`, looked at every `everyMs`. Returns how long it took, or NaN when not within `ms`. */
  runUntil(done: () => boolean, ms: number, everyMs = ms): number {
    const start = this.now;
    const end = after(start, ms);
    for (let mark = after(start, everyMs); ; mark = after(mark, everyMs)) {
      const stop = mark < end ? mark : end;
      for (let next = this.#events[0]; next !== undefined && next.at <= stop; next = this.#events[0]) {
        this.#pop();
        this.now = next.at;
        next.run();
      }
      this.now = stop;
      if (done()) return this.now - start;
      if (stop >= end) return Number.NaN;
    }
  }

  /** Whether all hosts that are up hold `subject` for that. */
  allHold(subject: Host, state: MemberState, among: readonly Host[] = this.hosts): boolean {
    return among.every(
      (host) => !host.up || host === subject || host.swim.member(subject.name)?.state === state,
    );
  }

  converged(among: readonly Host[] = this.hosts): boolean {
    return among.every((host) => this.allHold(host, 'alive', among));
  }

  reported(kind: Report['kind']): number {
    return this.hosts.reduce((sum, host) => sum + host.reports.filter((r) => r.kind === kind).length, 0);
  }

  silence(lastHeardAt: Instant): Silence {
    return { why: 'silent', lastHeardAt, leaseEndsAt: after(this.now, 10_000) };
  }

  #swim(name: MemberName, endpoint: Endpoint, incarnation: number, out: Effect[]): Swim {
    const random = seededRandom(Math.floor(this.random() * 2 ** 32));
    const { settings, now } = this;
    return new Swim({ name, meta: metaAt(endpoint), incarnation, settings, random, out, now });
  }

  #carryOut(host: Host): void {
    for (const effect of host.out.splice(0)) {
      switch (effect.kind) {
        case 'send':
          this.#deliver(host, effect.to, effect.message);
          break;
        case 'exchange':
          this.#exchange(host, effect.with);
          break;
        case 'report':
          if (this.keepReports) host.reports.push(effect.report);
          break;
        default:
      }
    }
    const deadline = host.swim.deadline();
    if (deadline < host.timerAt) this.#setTimer(host, deadline);
  }

  #setTimer(host: Host, at: Instant): void {
    host.timerAt = at;
    this.#schedule(at - this.now, () => {
      if (host.timerAt !== at) return;
      host.timerAt = NEVER;
      if (this.now < host.pausedUntil) return;
      this.act(host, () => host.swim.advance(this.now));
    });
  }

  #deliver(from: Host, to: Endpoint, message: Message): void {
    this.packets += 1;
    const received = this.wire(message);
    const target = this.#byEndpoint.get(to.ip);
    if (target === undefined || this.random() < this.loss || !this.passes(from, target)) return;
    this.#at(target, 0.1 + this.random(), () => {
      switch (received.kind) {
        case 'ping':
        case 'ping-request':
        case 'ack':
        case 'nack':
        case 'gossip':
          target.swim.heard(received, from.endpoint, this.now);
          break;
        default:
      }
    });
  }

  #exchange(from: Host, to: Endpoint): void {
    this.exchanges += 1;
    const target = this.#byEndpoint.get(to.ip);
    if (target === undefined || target === from || !this.tcpPasses(from, target)) return;
    const ours = from.swim.state(this.now);
    this.#at(target, 2, () => {
      target.swim.merge(ours, this.now, from.name);
      const theirs = target.swim.state(this.now);
      this.#at(from, 1, () => from.swim.merge(theirs, this.now, target.name));
    });
  }

  #at(host: Host, ms: number, action: () => void): void {
    this.#schedule(ms, () => {
      if (!host.up) return;
      if (this.now < host.pausedUntil) host.inbox.push(action);
      else this.act(host, action);
    });
  }

  #schedule(ms: number, run: () => void): void {
    const event = { at: after(this.now, ms), order: this.#order++, run };
    const heap = this.#events;
    let index = heap.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || before(above, event)) break;
      heap[index] = above;
      index = parent;
    }
    heap[index] = event;
  }

  #pop(): void {
    const heap = this.#events;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      const left = heap[2 * index + 1];
      const right = heap[2 * index + 2];
      if (left === undefined) break;
      const goesRight = right !== undefined && before(right, left);
      const least = goesRight ? right : left;
      if (!before(least, last)) break;
      heap[index] = least;
      index = 2 * index + (goesRight ? 2 : 1);
    }
    heap[index] = last;
  }
}

function before(one: Event, other: Event): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}

export function metaAt(endpoint: Endpoint, more: Partial<MemberMeta> = {}): MemberMeta {
  return {
    endpoint,
    node: 'node',
    version: '1.0.0',
    segments: [],
    drained: false,
    weight: 100,
    configDigest: '00000000',
    lifetimeMs: 10_000,
    ...more,
  };
}
