import { ByteWriter } from '../../lib/bytes.ts';
import { errorText, LbdError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import { fail, ok, type Result } from '../../lib/result.ts';
import type { Instant } from '../../lib/time.ts';
import type { Datagram, RawSocket } from '../../sys/socket.ts';
import { isSystemError } from '../../sys/system-error.ts';
import { decodeDatagram, type NetlinkMessage } from '../netlink-codec.ts';
import { errnoName } from '../netlink-constants.ts';
import {
  encodeDumpAddresses,
  encodeDumpLinks,
  encodeDumpRoutes,
  isAddressRequest,
  MAIN_ROUTES,
  type RouteFilter,
  writeRequests,
} from '../netlink-requests.ts';
import {
  addressKey,
  type Observed,
  type ObservedChanges,
  ObservedState,
  type Subject,
  subjectsOf,
} from '../observed.ts';
import type { AddressRequest, KernelRequest, KernelRoute } from '../types.ts';
import { GrantedAddresses } from './granted-addresses.ts';
import { describeRequest, readDump, sortDump } from './netlink-answers.ts';
import { isFromKernel, openNotificationSocket } from './netlink-socket.ts';
import { type Exchange, RequestSocket } from './request-socket.ts';

/**
 * The kernel's links, addresses and routes: a copy of its state that follows its notifications, and changes of
 * addresses and of lbd's own link and routes. Requests and dumps go one after the other over one socket; notifications come over another.
 *
 * The copy is true again by itself after anything that makes it doubtful: a full receive buffer (ENOBUFS,
 * NLMSG_OVERRUN), a dump that the kernel's tables changed under (NLM_F_DUMP_INTR), a broken socket. All of them end in
 * a resynchronisation: a new dump in place of the old state, and what differs told as changes. Whatever else keeps
 * notifications away, a comparison with a dump finds once in a while.
 */

/** 4,000 addresses at once are 4 MB of notifications as the kernel counts them. Used only while it is full. */
const NOTIFICATION_BUFFER_BYTES = 16 * 1024 * 1024;
/** One send: the kernel is busy with it as long as the event loop stands still. */
const SEND_LIMIT_BYTES = 32 * 1024;
const DUMP_ATTEMPTS = 5;
/** Resynchronisations and route dumps are at least so far apart: whatever happens, they do not fill the day. */
const RESYNC_INTERVAL_MS = 200;
/** Failing ones take twice as long each time, up to this. */
const RESYNC_INTERVAL_MAX_MS = 5_000;
/**
 * A comparison of everything, in case that a notification never came. Nothing but a fault of the kernel's or of lbd's can
 * keep one back without a word, so that it is rare; reading 20,000 addresses is 0.1 s of work.
 */
const COMPARE_INTERVAL_MS = 60_000;
/** What was told of a change that a dump has already is here so long after it. */
const STRAGGLERS_MS = 50;
/** Routes change in groups: a moment's wait makes one dump of them. */
const ROUTES_DELAY_MS = 20;
/** After one of lbd's own went, which it puts back a few times a second at most, whatever others change meanwhile. */
const LOST_ROUTE_INTERVAL_MS = 50;
/** Notifications that wait for a dump to end. Beyond it, the dump is repeated instead. */
const BUFFERED_MESSAGES_LIMIT = 100_000;

export type RequestOutcome<Request extends KernelRequest = AddressRequest> =
  | { readonly ok: true; readonly request: Request }
  | {
      readonly ok: false;
      readonly request: Request;
      /** ETIME: the deadline had passed and nothing was sent. */
      readonly errno: string;
      /** For an operator, with the kernel's own words where it gives any. */
      readonly message: string;
    };

export type RtnetlinkOptions = {
  readonly logger: Logger;
  /** At most once in a turn of the event loop, with everything since the last time. */
  readonly onChange: (changes: ObservedChanges) => void;
  readonly notificationBufferBytes?: number;
  /** The routes that lbd makes itself; undefined when it makes none. */
  readonly ownRoutes?: RouteFilter | undefined;
  readonly compareIntervalMs?: number;
  /** In place of a socket that hears everything, for tests. */
  readonly openNotifications?: typeof openNotificationSocket;
};

export type RtnetlinkCounters = {
  readonly notifications: number;
  readonly ignored: number;
  /** Datagrams that could not be read. */
  readonly malformed: number;
  readonly resynchronisations: number;
  readonly interruptedDumps: number;
  /** Changes that only a comparison found. */
  readonly missed: number;
};

export class Rtnetlink {
  readonly #logger: Logger;
  readonly #onChange: (changes: ObservedChanges) => void;
  readonly #notificationBufferBytes: number;
  readonly #requests = new RequestSocket();
  readonly #ownRoutes: RouteFilter | undefined;
  readonly #state: ObservedState;
  readonly #granted = new GrantedAddresses();
  #notifications: RawSocket | undefined;
  /** Notifications that came during a dump of everything, to be applied after it. */
  #buffer: NetlinkMessage[] | undefined;
  /** Requests and dumps, one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #emit: NodeJS.Immediate | undefined;
  readonly #openNotifications: typeof openNotificationSocket;
  /** What notifications were about since a comparison began; undefined while there is none. */
  #heard: Set<Subject> | undefined;
  #compareTimer: NodeJS.Timeout | undefined;
  readonly #compareIntervalMs: number;
  #resyncTimer: NodeJS.Timeout | undefined;
  #routesTimer: NodeJS.Timeout | undefined;
  #routesDueAtMs = 0;
  #dumpedAtMs = Number.NEGATIVE_INFINITY;
  #resyncIntervalMs = RESYNC_INTERVAL_MS;
  #closed = false;
  #counters = {
    notifications: 0,
    ignored: 0,
    malformed: 0,
    resynchronisations: 0,
    interruptedDumps: 0,
    missed: 0,
  };

  constructor(options: RtnetlinkOptions) {
    this.#logger = options.logger;
    this.#onChange = options.onChange;
    this.#notificationBufferBytes = options.notificationBufferBytes ?? NOTIFICATION_BUFFER_BYTES;
    this.#ownRoutes = options.ownRoutes;
    this.#state = new ObservedState(options.ownRoutes, (portId) => this.#requests.isOwnPort(portId));
    this.#openNotifications = options.openNotifications ?? openNotificationSocket;
    this.#compareIntervalMs = options.compareIntervalMs ?? COMPARE_INTERVAL_MS;
  }

  /**
   * Subscribes, then reads everything. What is there at start is no change: only what comes later is told. Throws
   * LbdError `netlink.unavailable` when the kernel does not give one of both.
   */
  async start(): Promise<Observed> {
    try {
      this.#subscribe();
    } catch (cause) {
      throw new LbdError('netlink.unavailable', `cannot subscribe to rtnetlink: ${errorText(cause)}`, {
        cause,
      });
    }
    const failure = await this.#serialised(() => this.#dumpEverything());
    this.#state.takeChanges();
    if (failure === undefined) {
      this.#compareLater();
      return this.#state;
    }
    this.close();
    throw new LbdError('netlink.unavailable', `cannot read the kernel's links and addresses: ${failure}`);
  }

  /** The copy itself: it goes on changing. */
  observed(): Observed {
    return this.#state;
  }

  counters(): RtnetlinkCounters {
    return this.#counters;
  }

  /**
   * Asks the kernel for all of `requests`, in order and independently of each other, and returns an outcome for each in the
   * same order; by then the copy is at least as new as they are. Never rejects for what the kernel says. With `deadline`
   * nothing is sent once that has come; the clock is read right before each system call.
   */
  apply<Request extends KernelRequest>(
    requests: readonly Request[],
    options: { readonly deadline?: Instant } = {},
  ): Promise<readonly RequestOutcome<Request>[]> {
    return this.#serialised(async () => {
      const outcomes: RequestOutcome<Request>[] = [];
      this.#granted.begin();
      while (outcomes.length < requests.length) {
        outcomes.push(...(await this.#applyChunk(requests, outcomes.length, options.deadline)));
      }
      // The kernel tells of most changes before it answers, over the other socket: they come first here, too.
      this.#notifications?.deliverNow();
      if (this.#state.assume(this.#granted.end(outcomes, this.#state.addresses))) this.#emitSoon();
      return outcomes;
    });
  }

  /** What is under way or asked later ends as `ECANCELED`. */
  close(): void {
    this.#closed = true;
    this.#notifications?.close();
    this.#notifications = undefined;
    this.#requests.close();
    clearImmediate(this.#emit);
    clearTimeout(this.#compareTimer);
    clearTimeout(this.#resyncTimer);
    clearTimeout(this.#routesTimer);
  }

  #serialised<Value>(job: () => Promise<Value>): Promise<Value> {
    const result = this.#last.then(job);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #applyChunk<Request extends KernelRequest>(
    requests: readonly Request[],
    from: number,
    deadline: Instant | undefined,
  ): Promise<readonly RequestOutcome<Request>[]> {
    const limit = Math.min(requests.length, from + this.#requests.inFlightLimit);
    const first = this.#requests.takeSequences(limit - from);
    const writer = new ByteWriter(SEND_LIMIT_BYTES);
    const count = writeRequests(writer, first, requests.slice(from, limit), SEND_LIMIT_BYTES);
    const chunk = requests.slice(from, from + count);
    const last = first + count - 1;
    const exchange = await this.#requests.exchange(writer.finish(), first, last, deadline);
    const answers = exchange.kind === 'not-sent' ? [] : exchange.messages;
    const outcomes = new Map<number, RequestOutcome<Request>>();
    for (const answer of answers) {
      if (answer.kind !== 'ack') continue;
      const request = chunk[answer.sequence - first];
      if (request !== undefined) outcomes.set(answer.sequence, this.#outcome(request, answer));
    }
    if (exchange.kind === 'lost') await this.#dumpAfterLoss(exchange);
    return chunk.map((request, index) => {
      return outcomes.get(first + index) ?? this.#unanswered(request, exchange);
    });
  }

  #outcome<Request extends KernelRequest>(
    request: Request,
    answer: Extract<NetlinkMessage, { kind: 'ack' }>,
  ): RequestOutcome<Request> {
    const { errno, text } = answer.status;
    if (errno === 0) return { ok: true, request };
    const name = errnoName(errno);
    return this.#failed(request, name, text ?? '');
  }

  #failed<Request extends KernelRequest>(
    request: Request,
    errno: string,
    text: string,
  ): RequestOutcome<Request> {
    const action = describeRequest(request, this.#state.links);
    const hint = errno === 'EPERM' ? 'Operation not permitted: lbd needs CAP_NET_ADMIN' : text;
    return {
      ok: false,
      request,
      errno,
      message: hint === '' ? `${action}: ${errno}` : `${action}: ${errno}: ${hint}`,
    };
  }

  /** A request without an answer of its own: only failures and the last of a chunk have one. */
  #unanswered<Request extends KernelRequest>(request: Request, exchange: Exchange): RequestOutcome<Request> {
    if (exchange.kind === 'answered') return { ok: true, request };
    if (exchange.kind === 'not-sent') return this.#failed(request, exchange.errno, exchange.text);
    // The kernel did something and its word was lost: what it has now tells.
    if (this.#isFulfilled(request)) return { ok: true, request };
    const text = `the kernel's answer was lost (${exchange.text}), and what was asked for is not so`;
    return this.#failed(request, exchange.errno, text);
  }

  #isFulfilled(request: KernelRequest): boolean {
    // Of links and routes, whoever asked looks again and asks again.
    if (!isAddressRequest(request)) return false;
    const known = this.#state.addresses.get(addressKey(request));
    if (request.kind === 'delete') return known === undefined;
    if (known === undefined || known.protocol !== request.protocol) return false;
    // Two seconds for the exchange and the dump, and for the kernel's rounding.
    return known.validSeconds >= request.validSeconds - 2 && known.validSeconds <= request.validSeconds;
  }

  async #dumpAfterLoss(exchange: Extract<Exchange, { kind: 'lost' }>): Promise<void> {
    if (this.#closed) return;
    this.#logger.warn({ errno: exchange.errno, error: exchange.text }, 'netlink.answer-lost');
    await this.#dumpEverything();
    this.#emitSoon();
  }

  #subscribe(): void {
    const socket = this.#openNotifications(this.#notificationBufferBytes, this.#ownRoutes?.protocol);
    this.#notifications = socket;
    socket.startPolling({
      onDatagrams: (datagrams) => this.#notified(datagrams),
      onError: (error) => {
        if (error.stopped || error.code !== 'ENOBUFS') this.#unsubscribe();
        this.#resyncSoon(errorText(error));
      },
      onThrow: (thrown) => {
        throw thrown;
      },
    });
  }

  #unsubscribe(): void {
    this.#notifications?.close();
    this.#notifications = undefined;
  }

  #notified(datagrams: readonly Datagram[]): void {
    for (const datagram of datagrams) {
      if (!isFromKernel(datagram)) continue;
      const { messages, ignored, problems } = decodeDatagram(datagram.bytes);
      this.#counters.notifications += messages.length;
      this.#counters.ignored += ignored;
      if (problems.length > 0 || datagram.isTruncated) {
        this.#counters.malformed += 1;
        const length = datagram.fullLength;
        this.#logger.warn({ length, problem: problems[0]?.code ?? 'truncated' }, 'netlink.unreadable');
        this.#resyncSoon('a notification could not be read');
      }
      for (const message of messages) this.#notifiedOf(message);
    }
    this.#followRoutes();
    this.#emitSoon();
  }

  #notifiedOf(message: NetlinkMessage): void {
    this.#granted.heard(message);
    if (this.#heard !== undefined) for (const subject of subjectsOf(message)) this.#heard.add(subject);
    if (message.kind === 'overrun') this.#resyncSoon('NLMSG_OVERRUN');
    else if (this.#buffer === undefined) this.#state.apply(message);
    else if (this.#buffer.length < BUFFERED_MESSAGES_LIMIT) this.#buffer.push(message);
    else this.#resyncSoon('more notifications during a dump than are kept');
  }

  #emitSoon(): void {
    if (this.#closed) return;
    this.#emit ??= setImmediate(() => {
      this.#emit = undefined;
      // A dump is under way; its end tells everything.
      if (this.#buffer !== undefined) return;
      const changes = this.#state.takeChanges();
      if (changes !== undefined) this.#onChange(changes);
    });
  }

  #resyncSoon(reason: string): void {
    if (this.#closed || this.#resyncTimer !== undefined) return;
    this.#logger.warn({ reason }, 'netlink.resync');
    this.#counters.resynchronisations += 1;
    const pause = Math.max(0, this.#dumpedAtMs + this.#resyncIntervalMs - performance.now());
    this.#resyncTimer = setTimeout(() => void this.#serialised(() => this.#resync()), pause);
  }

  async #resync(): Promise<void> {
    // From here on, anything that makes the state doubtful asks for another one.
    this.#resyncTimer = undefined;
    if (this.#closed) return;
    const failure = this.#resubscribe() ?? (await this.#dumpEverything());
    this.#dumpedAtMs = performance.now();
    if (failure === undefined) this.#resyncIntervalMs = RESYNC_INTERVAL_MS;
    else {
      this.#resyncIntervalMs = Math.min(RESYNC_INTERVAL_MAX_MS, this.#resyncIntervalMs * 2);
      // Whatever is wrong, both sockets start anew.
      this.#unsubscribe();
      this.#resyncSoon(failure);
    }
    this.#emitSoon();
  }

  #resubscribe(): string | undefined {
    try {
      if (this.#notifications === undefined) this.#subscribe();
      return undefined;
    } catch (thrown) {
      if (!isSystemError(thrown)) throw thrown;
      return `cannot subscribe: ${errorText(thrown)}`;
    }
  }

  #compareLater(): void {
    if (this.#closed) return;
    this.#compareTimer = setTimeout(
      () => void this.#compare().then(() => this.#compareLater()),
      this.#compareIntervalMs,
    ).unref();
  }

  /** Reads everything anew. When that tells of a change that no notification told of, the socket is not to be trusted. */
  async #compare(): Promise<void> {
    const heard = new Set<Subject>();
    this.#heard = heard;
    let differing: ReadonlySet<Subject> = new Set();
    const failure = await this.#serialised(() => this.#dumpEverything((found) => (differing = found)));
    this.#emitSoon();
    if (failure !== undefined) this.#resyncSoon(failure);
    await new Promise((resolve) => setTimeout(resolve, STRAGGLERS_MS).unref());
    this.#heard = undefined;
    const missed = [...differing].filter((subject) => !heard.has(subject));
    if (this.#closed || missed.length === 0) return;
    this.#counters.missed += missed.length;
    this.#logger.warn({ changes: missed.length, example: missed[0] }, 'netlink.missed');
    this.#unsubscribe();
    this.#resyncSoon('changes were not told of');
  }

  /** Puts a dump of everything in place of the state; returns why that failed. Runs as a serialised job. */
  async #dumpEverything(onCompared?: (differing: ReadonlySet<Subject>) => void): Promise<string | undefined> {
    const buffer: NetlinkMessage[] = [];
    this.#buffer = buffer;
    try {
      const dumps = [
        await this.#dump('links', encodeDumpLinks),
        await this.#dump('addresses', (sequence) => encodeDumpAddresses(sequence, 'v4')),
        await this.#dump('addresses', (sequence) => encodeDumpAddresses(sequence, 'v6')),
      ];
      const routes = await this.#dumpRoutes();
      const failed = [...dumps, routes].find((result) => !result.ok);
      if (failed?.ok === false) return failed.error;
      const messages = dumps.flatMap((result) => (result.ok ? result.value : []));
      const dump = sortDump(messages, routes.ok ? routes.value : []);
      this.#granted.read();
      const differing = this.#state.replaceAll(dump, onCompared !== undefined);
      onCompared?.(differing);
      return undefined;
    } finally {
      // Older than the dump or newer: the last word on each thing is the kernel's last word on it.
      this.#buffer = undefined;
      for (const message of buffer) this.#state.apply(message);
      this.#dumpedAtMs = performance.now();
      this.#followRoutes();
    }
  }

  #followRoutes(): void {
    if (this.#closed || !this.#state.routesStale || this.#buffer !== undefined) return;
    const nowMs = performance.now();
    const intervalMs = this.#state.hasLostRoute ? LOST_ROUTE_INTERVAL_MS : RESYNC_INTERVAL_MS;
    const dueAtMs = Math.max(nowMs + ROUTES_DELAY_MS, this.#dumpedAtMs + intervalMs);
    if (this.#routesTimer !== undefined && this.#routesDueAtMs <= dueAtMs) return;
    clearTimeout(this.#routesTimer);
    this.#routesDueAtMs = dueAtMs;
    this.#routesTimer = setTimeout(() => void this.#serialised(() => this.#refreshRoutes()), dueAtMs - nowMs);
  }

  async #refreshRoutes(): Promise<void> {
    this.#routesTimer = undefined;
    if (this.#closed) return;
    this.#state.beginRouteDump();
    const routes = await this.#dumpRoutes();
    this.#dumpedAtMs = performance.now();
    if (routes.ok) this.#state.replaceRoutes(routes.value);
    else this.#resyncSoon(routes.error);
    this.#followRoutes();
    this.#emitSoon();
  }

  async #dumpRoutes(): Promise<Result<readonly KernelRoute[], string>> {
    const routes: KernelRoute[] = [];
    const own = this.#ownRoutes;
    const filters = own === undefined || own.table === MAIN_ROUTES.table ? [MAIN_ROUTES] : [MAIN_ROUTES, own];
    for (const filter of filters) {
      for (const family of ['v4', 'v6'] as const) {
        const dump = await this.#dump('routes', (sequence) => encodeDumpRoutes(sequence, family, filter));
        if (!dump.ok) return dump;
        for (const message of dump.value) if (message.kind === 'route') routes.push(...message.routes);
      }
    }
    return ok(routes);
  }

  /**
   * All messages of one dump, taken again while the kernel says that its tables changed meanwhile. When they never
   * stand still, what was read is used, and everything is read again a little later.
   */
  async #dump(
    what: string,
    encode: (sequence: number) => Uint8Array,
  ): Promise<Result<readonly NetlinkMessage[], string>> {
    let result: Result<readonly NetlinkMessage[], string> = fail(`no dump of ${what}`);
    for (let attempt = 1; attempt <= DUMP_ATTEMPTS && !this.#closed; attempt++) {
      const sequence = this.#requests.takeSequences(1);
      const exchange = await this.#requests.exchange(encode(sequence), sequence, sequence);
      result = readDump(what, exchange);
      if (!result.ok) continue;
      if (!result.value.some((message) => message.interrupted)) return result;
      this.#counters.interruptedDumps += 1;
    }
    if (result.ok) this.#resyncSoon(`${what} changed during each of ${DUMP_ATTEMPTS} dumps`);
    return result;
  }
}
