import type { Ip, Prefix } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Instant } from '../../lib/time.ts';
import { bootTimeMs } from '../../sys/clock.ts';
import { decodeMessage, encodeMessage } from '../codec.ts';
import type { Effect } from '../effects.ts';
import { type Hello, MAX_PACKET_BYTES, type Message, type State } from '../message.ts';
import { segmentKey } from '../segment-key.ts';
import type { Endpoint, MemberName, Segment, SegmentKey } from '../types.ts';
import { Envelope } from './envelope.ts';
import type { GossipKey } from './key-ring.ts';
import type { Link, LinkEnd } from './link.ts';
import { Links } from './links.ts';
import type { StreamFailure } from './sealed-stream.ts';
import { Sealer } from './sealer.ts';
import { SourceFilter } from './source-filter.ts';
import { type PacketSource, UdpSockets } from './udp-sockets.ts';

/** One line a reason in so long tells that packets are refused; the counters have them all. */
const REFUSALS_LOGGED_EVERY_MS = 60_000;

export type TransportOptions = {
  readonly port: number;
  /** What to listen on at first; empty: every address of the host, for good. */
  readonly bind: readonly Ip[];
  readonly label: string;
  /** Undefined: nothing is sealed, because the configuration says `insecure = true`. */
  readonly keys: readonly GossipKey[] | undefined;
  /** Source addresses; empty: all. */
  readonly allow: readonly Prefix[];
  readonly logger: Logger;
  /** This host's state, wanting a reply, at the time when an exchange begins. */
  readonly state: () => State;
  readonly hello: () => Hello;
  /** `at` is when it came: a little ago, for a routine one that was kept. */
  readonly onMessage: (message: Message, arrival: Arrival, at: Instant) => void;
  /** The peer answered on a watch connection, under its own name. */
  readonly onWatchOpened: (peer: MemberName, segment: SegmentKey) => void;
  /** One that was asked for ended or could not be made; not after `watch-close`. */
  readonly onWatchClosed: (peer: MemberName, segment: SegmentKey, how: LinkEnd) => void;
  /** A clock that never goes back; default: the boot-time clock. */
  readonly nowMs?: () => Instant;
};

/** How a message came. */
export type Arrival = {
  /** Over TCP with this host's own port, because the peer's is one that nobody listens on. */
  readonly from: Endpoint;
  /** The host's own address that it came to belongs to this segment. */
  readonly segment: SegmentKey | undefined;
  /** For a reply over TCP. */
  readonly connection: number | undefined;
};

/** The effects of the election that go over the network. */
export type NetworkEffect = Extract<
  Effect,
  { readonly kind: 'send' | 'exchange' | 'reply' | 'watch-open' | 'watch-close' | 'watch-send' }
>;

/** Where an authentic packet came from, while it waits for its session's proof. */
type Origin = {
  readonly ip: Ip;
  readonly port: number;
  readonly localIp: Ip | undefined;
  readonly at: Instant;
};

/** Everything between the election and the network: sockets, sealing, source addresses, limits. Messages in, messages out. */
export class Transport {
  readonly #options: TransportOptions;
  readonly #envelope: Envelope;
  readonly #sealer: Sealer<Origin>;
  readonly #filter: SourceFilter;
  readonly #udp: UdpSockets;
  readonly #links: Links;
  readonly #nowMs: () => Instant;
  #addresses: ReadonlyMap<SegmentKey, Ip> = new Map();
  #segmentOf: ReadonlyMap<Ip, SegmentKey> = new Map();
  readonly #refused = new Map<string, number>();
  /** By reason: the last one. */
  readonly #refusals = new Map<string, { readonly from: string; readonly atMs: number }>();
  readonly #refusalLoggedAtMs = new Map<string, number>();
  #sent = 0;
  #sentBytes = 0;
  #oversized = 0;
  #received = 0;
  #receivedBytes = 0;

  constructor(options: TransportOptions) {
    const { port, bind, label, keys, allow, logger } = options;
    this.#options = options;
    this.#nowMs = options.nowMs ?? bootTimeMs;
    this.#envelope = new Envelope(label, keys);
    this.#sealer = new Sealer(this.#envelope, this.#nowMs);
    this.#filter = new SourceFilter(allow);
    this.#udp = new UdpSockets({
      port,
      bind,
      routineByte: this.#envelope.firstByte('routine'),
      logger,
      onPacket: (packet, from) => this.#receive(packet, from),
    });
    this.#links = new Links({
      ...options,
      envelope: this.#envelope,
      filter: this.#filter,
      onMessage: (message, link) => this.#deliverFromLink(message, link),
      onRefused: (why, from) => this.#refuse(why, from),
    });
  }

  /** Rejects with an LbdError when the port cannot be had. */
  async start(): Promise<void> {
    try {
      await this.#udp.start();
      await this.#links.start();
    } catch (thrown) {
      this.close();
      throw thrown;
    }
  }

  /**
   * This host's own addresses in its segments: packets for a segment go out from there. `listenOn` are the addresses to
   * listen on, theirs among them; without `bind`, every address is listened on anyway.
   */
  setSegments(segments: readonly Segment[], listenOn?: readonly Ip[]): void {
    const own = segments.map(({ ip }) => ip);
    const wanted = listenOn ?? [...this.#options.bind, ...own];
    this.#addresses = new Map(segments.map((segment) => [segmentKey(segment.subnet), segment.ip]));
    this.#segmentOf = new Map(segments.map((segment) => [segment.ip, segmentKey(segment.subnet)]));
    this.#udp.setAddresses(wanted);
    this.#links.setAddresses(wanted);
  }

  /** From now on the first key seals and each of them opens; connections stay. */
  setKeys(keys: readonly GossipKey[]): void {
    this.#envelope.setKeys(keys);
  }

  /**
   * From now on routine packets wait for `takeKept()`, which comes at least once in `limitMs`; one that is none brings
   * them along. Undefined: no more wait.
   */
  keepRoutine(limitMs: number | undefined): void {
    this.#udp.keep(limitMs);
  }

  /** Gives what waits to `onMessage`. */
  takeKept(): void {
    this.#udp.takeKept();
  }

  perform(effect: NetworkEffect): void {
    switch (effect.kind) {
      case 'send': {
        const packet = this.#sealer.seal(encodeMessage(effect.message), effect.routine ? 'routine' : 'data');
        return this.#sendPacket(packet, effect.to, this.#addressIn(effect.segment));
      }
      case 'exchange':
        return this.#links.exchange(effect.with);
      case 'reply':
        return this.#links.reply(effect.connection, effect.message);
      case 'watch-open': {
        const { peer, segment, to } = effect;
        return this.#links.openWatch(peer, segment, to, this.#addressIn(segment));
      }
      case 'watch-close':
        return this.#links.closeWatch(effect.peer, effect.segment);
      case 'watch-send':
        return this.#links.sendToWatched(effect.peer, effect.segment, effect.message);
    }
  }

  /** What was not believed within the last `withinMs`: the last one for each reason. */
  refusals(withinMs: number): readonly RefusedLately[] {
    const sinceMs = this.#nowMs() - withinMs;
    return [...this.#refusals].flatMap(([why, { from, atMs }]) => (atMs >= sinceMs ? [{ why, from }] : []));
  }

  /** Totals since the start, for metrics; `refused` by reason, packets and connections together. */
  counters(): TransportCounters {
    const { send, overflow } = this.#udp.failures;
    return {
      sent: this.#sent,
      sentBytes: this.#sentBytes,
      oversized: this.#oversized,
      received: this.#received,
      receivedBytes: this.#receivedBytes,
      sendFailures: send,
      sendOverflows: overflow,
      late: this.#sealer.lateCount,
      refused: Object.fromEntries(this.#refused),
      sessions: this.#sealer.sessions,
      connections: this.#links.counters,
    };
  }

  /** Ends all connections after what was sent on them. Nothing is told of any of them afterwards. */
  close(): void {
    this.#udp.close();
    this.#links.close();
  }

  #addressIn(segment: SegmentKey | undefined): Ip | undefined {
    return segment === undefined ? undefined : this.#addresses.get(segment);
  }

  #sendPacket(packet: Uint8Array, to: Endpoint, from: Ip | undefined): void {
    this.#sent++;
    this.#sentBytes += packet.length;
    if (packet.length > MAX_PACKET_BYTES) this.#oversized++;
    this.#udp.send(packet, to, from);
  }

  #receive(packet: Buffer, { address, port, localIp, at }: PacketSource): void {
    this.#received++;
    this.#receivedBytes += packet.length;
    // No message can carry the zone of a link-local address.
    if (address.includes('%') || !this.#filter.allows(address)) return this.#refuse('source', address);
    const origin = { ip: address as Ip, port, localIp, at };
    const opened = this.#sealer.open(packet, origin);
    switch (opened.kind) {
      case 'refused':
        return this.#refuse(opened.why, address);
      case 'fresh':
        return this.#deliver(opened.body, origin);
      case 'held':
      case 'challenged':
        if (opened.answer !== undefined) this.#sendPacket(opened.answer, origin, localIp);
        return;
      case 'proven':
        // What was held before the proof counts from now on.
        for (const { body, context } of opened.held) this.#deliver(body, { ...context, at });
    }
  }

  #deliver(body: Uint8Array, { ip, port, localIp, at }: Origin): void {
    const decoded = decodeMessage(body);
    if (!decoded.ok) return this.#refuse(`malformed-${decoded.error.code}`, ip);
    const segment = localIp === undefined ? undefined : this.#segmentOf.get(localIp);
    this.#options.onMessage(decoded.value, { from: { ip, port }, segment, connection: undefined }, at);
  }

  #deliverFromLink(message: Message, link: Link): void {
    const { localIp } = link;
    const from = { ip: link.remoteIp, port: this.#options.port };
    const segment = localIp === undefined ? undefined : this.#segmentOf.get(localIp);
    // In the order in which all came.
    this.takeKept();
    this.#options.onMessage(message, { from, segment, connection: link.id }, this.#nowMs());
  }

  #refuse(why: StreamFailure | 'source' | `malformed-${string}`, address: string): void {
    const count = (this.#refused.get(why) ?? 0) + 1;
    this.#refused.set(why, count);
    // Nothing else is done for most of them: they are duplicates, or come in floods.
    if (why === 'replayed' || why === 'own') return;
    const nowMs = this.#nowMs();
    this.#refusals.set(why, { from: address, atMs: nowMs });
    const loggedAtMs = this.#refusalLoggedAtMs.get(why);
    if (loggedAtMs !== undefined && nowMs - loggedAtMs < REFUSALS_LOGGED_EVERY_MS) return;
    this.#refusalLoggedAtMs.set(why, nowMs);
    this.#options.logger.warn({ why, from: address, count }, 'gossip.packet.refused');
  }
}

/** Something that came over the network and was not believed. `from` is an address. */
export type RefusedLately = { readonly why: string; readonly from: string };

export type TransportCounters = {
  readonly sent: number;
  readonly sentBytes: number;
  /** Packets that a path may have to fragment. */
  readonly oversized: number;
  readonly received: number;
  readonly receivedBytes: number;
  readonly sendFailures: number;
  readonly sendOverflows: number;
  /** Authentic packets that came too late to mean anything. */
  readonly late: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly sessions: { readonly proven: number; readonly unproven: number; readonly held: number };
  readonly connections: Links['counters'];
};
