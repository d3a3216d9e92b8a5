import { connect, createServer, type Server, type Socket } from 'node:net';
import { familyOf, type Ip, parseIp } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import { decodeMessage, encodeMessage } from '../codec.ts';
import type { Hello, Message, State } from '../message.ts';
import type { Endpoint, MemberName, SegmentKey } from '../types.ts';
import type { Envelope } from './envelope.ts';
import { Link, type LinkEnd } from './link.ts';
import { Listeners } from './listeners.ts';
import type { StreamFailure } from './sealed-stream.ts';
import type { SourceFilter } from './source-filter.ts';

/** Accepted connections: two watchers on each segment, and everybody who joins at once; then of one address. */
const MAX_ACCEPTED = 1_024;
const MAX_ACCEPTED_PER_IP = 32;
const MAX_EXCHANGES = 32;
/** From connecting to the peer's preamble, and on the accepting side to the first message. */
const OPEN_MS = 2_000;
/** What is no watch connection is done soon, or it is given up. */
const EXCHANGE_MS = 10_000;
/** A watcher whose host died without a word goes from the table some time. */
const KEEP_ALIVE_MS = 60_000;
const BACKLOG = 256;

export type LinksOptions = {
  readonly port: number;
  /** Empty: every address of the host. */
  readonly bind: readonly Ip[];
  readonly envelope: Envelope;
  readonly filter: SourceFilter;
  readonly logger: Logger;
  /** What to open an exchange and a watch connection with. */
  readonly state: () => State;
  readonly hello: () => Hello;
  readonly onMessage: (message: Message, link: Link) => void;
  /** What came over a connection was not believed, and it was ended. */
  readonly onRefused: (why: StreamFailure, from: Ip) => void;
  readonly onWatchOpened: (peer: MemberName, segment: SegmentKey) => void;
  readonly onWatchClosed: (peer: MemberName, segment: SegmentKey, how: LinkEnd) => void;
};

type Watch = {
  readonly peer: MemberName;
  readonly segment: SegmentKey;
  readonly link: Link;
  isOpened: boolean;
};

/** Everything over TCP: exchanges of states, watch connections, and whoever connects to this host. */
export class Links {
  readonly #options: LinksOptions;
  readonly #listeners: Listeners<Server>;
  /** Where connections are made from, when no segment says it. */
  #addresses: readonly Ip[];
  readonly #links = new Map<number, Link>();
  readonly #accepted = new Map<number, Link>();
  readonly #acceptedPerIp = new Map<string, number>();
  /** Connections to this host that said hello, by who and on which address. */
  readonly #watchers = new Map<string, Link>();
  readonly #exchanges = new Map<string, Link>();
  readonly #watches = new Map<string, Watch>();
  readonly #counters = { accepted: 0, turnedAway: 0, failed: 0, malformed: 0, undelivered: 0, exchanges: 0 };
  #nextId = 1;

  constructor(options: LinksOptions) {
    const { port, bind, logger } = options;
    this.#options = options;
    this.#addresses = bind;
    this.#listeners = new Listeners({
      protocol: 'TCP',
      port,
      logger,
      open: (ip) => this.#listen(ip),
      close: (server) => server.close(),
    });
  }

  get counters(): Readonly<
    Record<'accepted' | 'turnedAway' | 'failed' | 'malformed' | 'undelivered', number>
  > & {
    readonly open: number;
  } {
    return { ...this.#counters, open: this.#links.size };
  }

  /** Rejects with an LbdError when the port cannot be had; a family that the host has not is passed over. */
  start(): Promise<void> {
    const { bind } = this.#options;
    return bind.length === 0 ? this.#listeners.startEverywhere() : this.#listeners.start(bind);
  }

  /** What to listen on from now on, unless that is every address anyway. */
  setAddresses(addresses: readonly Ip[]): void {
    if (this.#options.bind.length === 0) return;
    this.#addresses = addresses;
    this.#listeners.set(new Set(addresses));
  }

  /** Sends this host's state to a member, and gives what it answers as a message. One at a time for each member. */
  exchange(to: Endpoint): void {
    const key = `${to.ip} ${to.port}`;
    if (this.#exchanges.has(key)) return;
    if (this.#exchanges.size >= MAX_EXCHANGES) {
      this.#counters.undelivered++;
      return;
    }
    const link = this.#connect(to, undefined, {
      onMessage: (message) => {
        this.#options.onMessage(message, link);
        if (message.kind === 'state') this.#closeExchange(key, link);
      },
      onOpen: () => {
        link.expectWithin(EXCHANGE_MS, 'state');
        link.send(encodeMessage(this.#options.state()));
      },
      onEnd: () => this.#exchanges.delete(key),
    });
    this.#exchanges.set(key, link);
    this.#counters.exchanges++;
  }

  #closeExchange(key: string, link: Link): void {
    if (this.#exchanges.get(key) === link) this.#exchanges.delete(key);
    this.#links.delete(link.id);
    link.close();
  }

  /** Keeps a connection to a neighbour, from the given address; whether and how it ends is told. */
  openWatch(peer: MemberName, segment: SegmentKey, to: Endpoint, from: Ip | undefined): void {
    const key = watchKey(peer, segment);
    this.closeWatch(peer, segment);
    const { hello, onMessage, onWatchOpened, onWatchClosed } = this.#options;
    const link = this.#connect(to, from, {
      onMessage: (message) => {
        if (message.from !== peer) return link.refuse(`it is ${message.from}, expected ${peer}`);
        if (!watch.isOpened) {
          watch.isOpened = true;
          link.expectWithin(undefined, '');
          onWatchOpened(peer, segment);
        }
        onMessage(message, link);
      },
      onOpen: () => link.expectWithin(OPEN_MS, 'hello'),
      onEnd: (how) => {
        this.#watches.delete(key);
        onWatchClosed(peer, segment, how);
      },
    });
    const watch: Watch = { peer, segment, link, isOpened: false };
    this.#watches.set(key, watch);
    link.send(encodeMessage(hello()));
  }

  closeWatch(peer: MemberName, segment: SegmentKey): void {
    const key = watchKey(peer, segment);
    const watch = this.#watches.get(key);
    if (watch === undefined) return;
    this.#watches.delete(key);
    this.#links.delete(watch.link.id);
    watch.link.close();
  }

  /** Over an open watch connection; lost when there is none. */
  sendToWatched(peer: MemberName, segment: SegmentKey, message: Message): void {
    const watch = this.#watches.get(watchKey(peer, segment));
    const sent = watch?.isOpened === true && watch.link.send(encodeMessage(message));
    if (!sent) this.#counters.undelivered++;
  }

  /** On a connection that a message came on; lost when it ended. */
  reply(connection: number, message: Message): void {
    const sent = this.#links.get(connection)?.send(encodeMessage(message)) ?? false;
    if (!sent) this.#counters.undelivered++;
  }

  close(): void {
    this.#listeners.close();
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
    this.#watches.clear();
    this.#exchanges.clear();
    this.#watchers.clear();
  }

  #connect(
    to: Endpoint,
    from: Ip | undefined,
    events: {
      readonly onMessage: (message: Message) => void;
      readonly onOpen: () => void;
      readonly onEnd: (how: LinkEnd) => void;
    },
  ): Link {
    const family = familyOf(to.ip);
    // What a host says comes from the address that others know and allow.
    const local = [from, ...this.#addresses].find((ip) => ip !== undefined && familyOf(ip) === family);
    const socket = connect({
      host: to.ip,
      port: to.port,
      ...(local === undefined ? {} : { localAddress: local }),
    });
    const link = this.#add(to.ip, socket, {
      onMessage: events.onMessage,
      onOpen: events.onOpen,
      onEnd: (how, failure) => {
        this.#options.logger.debug({ to: to.ip, how, failure }, 'gossip.connection.ended');
        events.onEnd(how);
      },
    });
    link.expectWithin(OPEN_MS, 'answer');
    return link;
  }

  #listen(ip: Ip): Promise<Server> {
    const server = createServer((socket) => this.#accept(socket));
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: ip, port: this.#options.port, ipv6Only: true, backlog: BACKLOG }, () => {
        server.removeListener('error', reject);
        server.on('error', (error) =>
          this.#options.logger.warn({ ip, error: error.message }, 'gossip.listen.failed'),
        );
        resolve(server);
      });
    });
  }

  #accept(socket: Socket): void {
    const remoteIp = parseIp(socket.remoteAddress ?? '');
    if (remoteIp === undefined || !this.#admits(remoteIp)) {
      this.#counters.turnedAway++;
      socket.destroy();
      return;
    }
    let isKnown = false;
    let watcher: string | undefined;
    const link = this.#add(remoteIp, socket, {
      onOpen: () => {},
      onMessage: (message) => {
        if (!isKnown) link.expectWithin(EXCHANGE_MS, 'end');
        isKnown = true;
        if (message.kind === 'hello') watcher = this.#welcome(message, link);
        this.#options.onMessage(message, link);
      },
      onEnd: (how, failure) => {
        this.#forget(link);
        if (watcher !== undefined && this.#watchers.get(watcher) === link) this.#watchers.delete(watcher);
        if (failure === undefined) return;
        this.#counters.failed++;
        this.#options.logger.debug({ from: remoteIp, how, failure }, 'gossip.connection.failed');
      },
    });
    this.#accepted.set(link.id, link);
    this.#acceptedPerIp.set(remoteIp, (this.#acceptedPerIp.get(remoteIp) ?? 0) + 1);
    this.#counters.accepted++;
    link.expectWithin(OPEN_MS, 'message');
  }

  /** Whoever waits longest without having said anything makes room: who only holds connections keeps nobody out. */
  #admits(remoteIp: Ip): boolean {
    if (!this.#options.filter.allows(remoteIp)) return false;
    if ((this.#acceptedPerIp.get(remoteIp) ?? 0) >= MAX_ACCEPTED_PER_IP) return false;
    if (this.#accepted.size < MAX_ACCEPTED) return true;
    const idle = this.#accepted.values().find((link) => !link.isOpen);
    if (idle === undefined) return false;
    idle.refuse('makes room for another');
    this.#forget(idle);
    return true;
  }

  #forget(link: Link): void {
    if (!this.#accepted.delete(link.id)) return;
    const count = (this.#acceptedPerIp.get(link.remoteIp) ?? 1) - 1;
    if (count > 0) this.#acceptedPerIp.set(link.remoteIp, count);
    else this.#acceptedPerIp.delete(link.remoteIp);
  }

  /** A watcher gets this host's name in return; of two of its connections the newer one counts. */
  #welcome(message: Hello, link: Link): string {
    const watcher = `${message.from} ${link.localIp ?? ''}`;
    const older = this.#watchers.get(watcher);
    if (older !== undefined && older !== link) {
      this.#forget(older);
      this.#links.delete(older.id);
      older.close();
    }
    this.#watchers.set(watcher, link);
    link.expectWithin(undefined, '');
    link.keepAlive(KEEP_ALIVE_MS);
    link.send(encodeMessage(this.#options.hello()));
    return watcher;
  }

  #add(
    remoteIp: Ip,
    socket: Socket,
    events: {
      readonly onMessage: (message: Message) => void;
      readonly onOpen: () => void;
      readonly onEnd: (how: LinkEnd, failure: string | undefined) => void;
    },
  ): Link {
    const id = this.#nextId++;
    const link = new Link(id, remoteIp, socket, this.#options.envelope, {
      onOpen: events.onOpen,
      onBytes: (bytes) => {
        const decoded = decodeMessage(bytes);
        if (decoded.ok) return events.onMessage(decoded.value);
        this.#counters.malformed++;
        link.refuse(`${decoded.error.code}: ${decoded.error.detail}`);
      },
      onEnd: (how, failure) => {
        this.#links.delete(id);
        if (link.refusal !== undefined) this.#options.onRefused(link.refusal, remoteIp);
        events.onEnd(how, failure);
      },
    });
    this.#links.set(id, link);
    return link;
  }
}

function watchKey(peer: MemberName, segment: SegmentKey): string {
  return `${peer} ${segment}`;
}
