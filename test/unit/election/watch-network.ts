import assert from 'node:assert/strict';
import type { Effect, Report } from '../../../src/election/effects.ts';
import type { Message } from '../../../src/election/message.ts';
import { type ElectionSettings, PROFILES } from '../../../src/election/settings.ts';
import type { Endpoint, Member, MemberMeta, MemberName, SegmentKey } from '../../../src/election/types.ts';
import { Watch } from '../../../src/election/watch.ts';
import type { WatchEnd, WatchEvent } from '../../../src/election/watch-types.ts';
import type { Mac } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { type Random, seededRandom } from '../../../src/lib/prng.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';

/**
 * Some hosts that watch each other over a network of a few switches, on one virtual clock, from one seed: the watch
 * alone, with a stand-in for SWIM (the relays of ping-requests) and for the claims (one versioned number a host).
 */

export const DATA = '10.0.0.0/24' as SegmentKey;
export const STORAGE = '10.0.1.0/24' as SegmentKey;
const PORT = 7946;
const LEASE_MS = 3_000;
/** So much at one instant is a deadline that does not move. */
const STILL_LIMIT = 1_000;

export type Logged = { readonly at: number; readonly host: MemberName } & WatchEvent;
export type LoggedReport = { readonly at: number; readonly host: MemberName } & Report;

/** How a packet fares from one host to another; `tcp` is a watch connection's. */
export type Path = {
  readonly from: MemberName;
  readonly to: MemberName;
  readonly segment: SegmentKey;
  readonly tcp: boolean;
};

type Record = { digest: number; version: number };
type Job = { readonly at: number; readonly order: number; readonly run: () => void };
type Carried =
  | Message
  /** A relay's probe, and its answer. */
  | {
      readonly kind: 'probe' | 'probe-answer';
      readonly for: MemberName;
      readonly seq: number;
      readonly from: MemberName;
    };

export type Host = {
  readonly name: MemberName;
  readonly index: number;
  watch: Watch;
  out: Effect[];
  life: number;
  state: 'running' | 'paused' | 'process-gone' | 'off';
  incarnation: number;
  /** What its own clock does not show of the time that has passed. */
  hiddenMs: number;
  waiting: (() => void)[];
  timerAt: number;
  members: Map<MemberName, Member>;
  readonly records: Map<MemberName, Record>;
  connections: Set<string>;
};

export type NetworkOptions = {
  readonly hosts: number;
  readonly seed?: number;
  readonly loss?: number;
  readonly segments?: readonly SegmentKey[];
  readonly reference?: boolean;
  readonly settings?: Partial<ElectionSettings>;
  /** Of a timer, beside what the network does. */
  readonly jitterMs?: number;
  /** One way: from, to. */
  readonly latencyMs?: readonly [number, number];
};

export class Network {
  readonly hosts: readonly Host[];
  readonly events: Logged[] = [];
  readonly reports: LoggedReport[] = [];
  /** How many events there were when a host started anew. */
  readonly restarts: { readonly host: MemberName; readonly after: number }[] = [];
  readonly settings: ElectionSettings;
  readonly random: Random;
  sent = 0;
  loss: number;
  reference: boolean;
  jitterMs: number;
  /** Whether a packet gets through, apart from loss. */
  passes: (path: Path) => boolean = () => true;
  referencePasses: (host: MemberName, segment: SegmentKey) => boolean = () => true;
  now = 1_000;
  readonly #segments: readonly SegmentKey[];
  readonly #latencyMs: readonly [number, number];
  readonly #jobs: Job[] = [];
  #order = 0;
  #still = 0;

  constructor(options: NetworkOptions) {
    this.random = seededRandom(options.seed ?? 1);
    this.loss = options.loss ?? 0;
    this.reference = options.reference ?? false;
    this.jitterMs = options.jitterMs ?? 0;
    this.#latencyMs = options.latencyMs ?? [0.1, 0.5];
    this.settings = { ...PROFILES.lan, ...options.settings };
    this.#segments = options.segments ?? [DATA];
    this.hosts = Array.from({ length: options.hosts }, (_, index) => this.#boot(index));
    for (const host of this.hosts) {
      for (const { name } of this.hosts) host.records.set(name, { digest: 7, version: 1 });
      host.members = new Map(this.hosts.map((other) => [other.name, this.member(other, 'alive')]));
      this.#start(host);
    }
  }

  host(index: number): Host {
    const host = this.hosts[index];
    assert.ok(host);
    return host;
  }

  member(host: Host, state: Member['state'], segments = this.#segments): Member {
    const meta: MemberMeta = {
      endpoint: { ip: ipOf(host.index, this.#segments[0] ?? DATA), port: PORT },
      node: host.name,
      version: '1.0.0',
      segments: segments.map((key) => ({
        subnet: { network: key.slice(0, key.indexOf('/')) as Ip, length: 24 },
        ip: ipOf(host.index, key),
        mac: `02:00:00:00:00:${String(host.index + 10)}` as Mac,
      })),
      drained: false,
      weight: 100,
      configDigest: '00000000',
      lifetimeMs: LEASE_MS,
    };
    return { name: host.name, incarnation: host.incarnation, state, meta, since: instant(this.now) };
  }

  /** All members that run learn that `host` is in `state`. */
  tell(host: Host, state: Member['state'], to: readonly Host[] = this.hosts): void {
    for (const other of to) {
      if (other === host) continue;
      other.members.set(host.name, this.member(host, state));
      if (other.state !== 'running') continue;
      other.watch.membersChanged([host.name], other.members, this.clock(other));
      this.#settle(other);
    }
  }

  /** What happened to the claims of `host` while it was away: gossip has told everybody else. */
  supersede(host: Host): void {
    const known = this.host((host.index + 1) % this.hosts.length).records.get(host.name);
    assert.ok(known);
    const record = { digest: known.digest + 1, version: known.version + 1 };
    for (const other of this.hosts) if (other !== host) other.records.set(host.name, record);
  }

  kill(host: Host): void {
    host.state = 'off';
    host.life += 1;
  }

  /** The process ends, the host's kernel says so on its connections. */
  killProcess(host: Host, how: WatchEnd = 'fin'): void {
    host.state = 'process-gone';
    host.life += 1;
    for (const other of this.hosts) this.#end(other, host, how);
    host.connections = new Set();
  }

  /** A connection of `from` to `to` ends, and nothing else. */
  cutConnection(from: Host, to: Host, how: WatchEnd = 'rst'): void {
    this.#end(from, to, how);
  }

  restart(host: Host, incarnation = host.incarnation): void {
    host.incarnation = incarnation;
    host.life += 1;
    this.restarts.push({ host: host.name, after: this.events.length });
    this.#start(host);
  }

  pause(host: Host): void {
    host.state = 'paused';
  }

  resume(host: Host, pausedMs: number, hidden: boolean): void {
    if (hidden) host.hiddenMs += pausedMs;
    host.state = 'running';
    const { waiting } = host;
    host.waiting = [];
    for (const deliver of waiting) deliver();
    host.watch.advance(this.clock(host));
    this.#settle(host);
  }

  of<K extends Logged['kind']>(kind: K): readonly Extract<Logged, { kind: K }>[] {
    return this.events.filter((event): event is Extract<Logged, { kind: K }> => event.kind === kind);
  }

  clock(host: Host): Instant {
    return instant(this.now - host.hiddenMs);
  }

  run(forMs: number): void {
    const end = this.now + forMs;
    for (;;) {
      const job = this.#jobs[0];
      if (job === undefined || job.at > end) break;
      this.#pop();
      this.#still = job.at > this.now ? 0 : this.#still + 1;
      assert.ok(this.#still < STILL_LIMIT, 'it stands still');
      this.now = job.at;
      job.run();
    }
    this.now = end;
  }

  // --- hosts ----------------------------------------------------------------------------------------------------

  #boot(index: number): Host {
    const name = `host-${index}` as MemberName;
    const out: Effect[] = [];
    const host: Host = {
      name,
      index,
      watch: undefined as unknown as Watch,
      out,
      life: 0,
      state: 'off',
      incarnation: 1,
      hiddenMs: 0,
      waiting: [],
      timerAt: Number.POSITIVE_INFINITY,
      members: new Map(),
      records: new Map(),
      connections: new Set(),
    };
    return host;
  }

  #start(host: Host): void {
    const digest = (name: MemberName) => host.records.get(name)?.digest ?? 0;
    host.out = [];
    host.connections = new Set();
    host.state = 'running';
    host.timerAt = Number.POSITIVE_INFINITY;
    host.watch = new Watch({
      name: host.name,
      settings: this.settings,
      random: seededRandom(Math.floor(this.random() * 2 ** 32)),
      out: host.out,
      digests: { own: () => digest(host.name), table: () => 0, of: digest },
      leaseLeftMs: () => LEASE_MS,
      incarnation: () => host.incarnation,
    });
    const own = this.member(host, 'alive').meta.segments;
    host.watch.segmentsChanged(own, host.members, this.clock(host));
    this.#settle(host);
  }

  /** Carries out what the host wants, and sets its timer. */
  #settle(host: Host): void {
    const { watch, out } = host;
    for (const effect of out) this.#carry(host, effect);
    out.length = 0;
    for (const event of watch.take()) this.events.push({ at: this.now, host: host.name, ...event });
    // What its clock hides is added and taken off again: not without rounding.
    const deadline = watch.deadline() + host.hiddenMs + (host.hiddenMs > 0 ? 1e-6 : 0);
    if (deadline >= host.timerAt) return;
    host.timerAt = deadline;
    const { life } = host;
    this.#at(deadline + this.random() * this.jitterMs, () => {
      if (host.life !== life || host.timerAt !== deadline) return;
      host.timerAt = Number.POSITIVE_INFINITY;
      if (host.state !== 'running') return;
      host.watch.advance(this.clock(host));
      host.watch.checkInvariants();
      this.#settle(host);
    });
  }

  #carry(host: Host, effect: Effect): void {
    switch (effect.kind) {
      case 'send': {
        assert.ok(effect.segment);
        this.#transmit(host, this.#at_(effect.to), effect.segment, effect.message);
        return;
      }
      case 'reply': {
        const opener = this.hosts[effect.connection];
        const segment = 'segment' in effect.message ? effect.message.segment : undefined;
        if (opener === undefined || segment === undefined) return;
        this.#stream(host, opener, segment, effect.message, host.index);
        return;
      }
      case 'watch-send': {
        const peer = this.#named(effect.peer);
        if (!host.connections.has(connectionKey(peer, effect.segment))) return;
        this.#stream(host, peer, effect.segment, effect.message, host.index);
        return;
      }
      case 'watch-open':
        return this.#connect(host, this.#named(effect.peer), effect.segment);
      case 'watch-close':
        host.connections.delete(connectionKey(this.#named(effect.peer), effect.segment));
        return;
      case 'ask-reference': {
        if (!this.reference || !this.referencePasses(host.name, effect.segment)) return;
        if (this.random() < this.loss || this.random() < this.loss) return;
        this.#deliver(host, this.#latency() * 2, () =>
          host.watch.referenceHeard(effect.segment, this.clock(host)),
        );
        return;
      }
      case 'exchange':
        return this.#exchange(host, this.#at_(effect.with));
      case 'report':
        this.reports.push({ at: this.now, host: host.name, ...effect.report });
        return;
      case 'grants-changed':
      case 'persist':
        return;
    }
  }

  // --- the network ----------------------------------------------------------------------------------------------

  #transmit(from: Host, to: Host | undefined, segment: SegmentKey, message: Carried): void {
    this.sent += 1;
    if (to === undefined || to.state === 'off' || this.random() < this.loss) return;
    if (!this.passes({ from: from.name, to: to.name, segment, tcp: false })) return;
    this.#deliver(to, this.#latency(), () => this.#receive(from, to, segment, message));
  }

  #receive(from: Host, to: Host, segment: SegmentKey, message: Carried): void {
    const now = this.clock(to);
    if (message.kind === 'heartbeat') {
      to.watch.heartbeat(message, { ip: ipOf(from.index, segment), port: PORT }, segment, undefined, now);
      return;
    }
    to.watch.heard(from.name, segment, now);
    switch (message.kind) {
      case 'ping-request': {
        const target = this.#at_(message.targetEndpoint);
        const probe = { kind: 'probe', for: message.from, seq: message.seq, from: to.name } as const;
        return this.#transmit(to, target, segment, probe);
      }
      case 'probe':
        return this.#transmit(to, from, segment, { ...message, kind: 'probe-answer' });
      case 'probe-answer':
        return this.#transmit(to, this.#named(message.for), segment, {
          kind: 'ack',
          from: to.name,
          seq: message.seq,
          updates: [],
        });
      case 'ack':
        assert.equal(to.watch.acked(message.seq, now), true);
        return;
    }
  }

  #stream(from: Host, to: Host, segment: SegmentKey, message: Message, connection: number): void {
    if (message.kind !== 'heartbeat' || to.state === 'off') return;
    if (!this.passes({ from: from.name, to: to.name, segment, tcp: true })) return;
    const retransmissionMs = this.random() < this.loss ? 200 : 0;
    this.#deliver(to, this.#latency() + retransmissionMs, () => {
      const endpoint = { ip: ipOf(from.index, segment), port: PORT };
      to.watch.heartbeat(message, endpoint, segment, connection, this.clock(to));
    });
  }

  #connect(from: Host, to: Host, segment: SegmentKey): void {
    const path = { from: from.name, to: to.name, segment, tcp: true };
    const back = { from: to.name, to: from.name, segment, tcp: true };
    const { life } = from;
    this.#at(this.now + this.#latency() * 2, () => {
      const reached = to.state !== 'off' && this.passes(path) && this.passes(back);
      const how = reached && to.state === 'process-gone' ? 'rst' : 'timeout';
      if (reached && to.state !== 'process-gone') {
        this.#deliver(from, 0, () => {
          from.connections.add(connectionKey(to, segment));
          from.watch.watchOpened(to.name, segment, this.clock(from));
        });
        return;
      }
      this.#at(this.now + (how === 'timeout' ? 1_000 : 0), () => {
        if (from.life !== life) return;
        this.#deliver(from, 0, () => from.watch.watchClosed(to.name, segment, how, this.clock(from)));
      });
    });
  }

  #end(from: Host, to: Host, how: WatchEnd): void {
    for (const segment of this.#segments) {
      if (!from.connections.delete(connectionKey(to, segment))) continue;
      if (!this.passes({ from: to.name, to: from.name, segment, tcp: true })) continue;
      this.#deliver(from, this.#latency(), () =>
        from.watch.watchClosed(to.name, segment, how, this.clock(from)),
      );
    }
  }

  #exchange(from: Host, to: Host | undefined): void {
    if (to === undefined || to.state !== 'running') return;
    this.#deliver(from, this.#latency() * 3, () => {
      for (const { name } of this.hosts) {
        const [mine, theirs] = [from.records.get(name), to.records.get(name)];
        if (mine === undefined || theirs === undefined) continue;
        const newer = mine.version > theirs.version ? mine : theirs;
        from.records.set(name, newer);
        to.records.set(name, newer);
      }
    });
  }

  #deliver(to: Host, inMs: number, deliver: () => void): void {
    const { life } = to;
    const run = () => {
      if (to.life !== life) return;
      if (to.state === 'paused') {
        to.waiting.push(deliver);
        return;
      }
      if (to.state !== 'running') return;
      deliver();
      this.#settle(to);
    };
    this.#at(this.now + inMs, run);
  }

  #latency(): number {
    const [from, to] = this.#latencyMs;
    return from + this.random() * (to - from);
  }

  #at_({ ip }: Endpoint): Host | undefined {
    return this.hosts[Number(ip.slice(ip.lastIndexOf('.') + 1)) - 1];
  }

  #named(name: MemberName): Host {
    const host = this.hosts[Number(name.slice('host-'.length))];
    assert.ok(host);
    return host;
  }

  // --- the agenda: a binary heap ----------------------------------------------------------------------------------

  #at(at: number, run: () => void): void {
    const job = { at, order: this.#order++, run };
    const heap = this.#jobs;
    let index = heap.length;
    heap.push(job);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const other = heap[parent];
      if (other === undefined || !isEarlier(job, other)) break;
      heap[index] = other;
      index = parent;
    }
    heap[index] = job;
  }

  #pop(): void {
    const heap = this.#jobs;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      let other = heap[child];
      const right = heap[child + 1];
      if (other === undefined) break;
      if (right !== undefined && isEarlier(right, other)) {
        other = right;
        child += 1;
      }
      if (!isEarlier(other, last)) break;
      heap[index] = other;
      index = child;
    }
    heap[index] = last;
  }
}

function isEarlier(left: Job, right: Job): boolean {
  return left.at === right.at ? left.order < right.order : left.at < right.at;
}

function connectionKey(peer: Host, segment: SegmentKey): string {
  return `${peer.name} ${segment}`;
}

function ipOf(index: number, segment: SegmentKey): Ip {
  return `${segment.slice(0, segment.lastIndexOf('.'))}.${index + 1}` as Ip;
}
