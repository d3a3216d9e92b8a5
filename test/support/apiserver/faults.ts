/**
 * Misbehaviour on command. Faults per request (fail, throttle, delay, stall) match by verb, resource and
 * user and may be limited in number; the others act on connections, watches, the listener or the history.
 */

import { ApiError } from './errors.ts';

/** Which requests a fault hits; an absent field matches all. Resources with subresource: `services/status`. */
export interface FaultMatch {
  readonly verbs?: readonly string[];
  readonly resources?: readonly string[];
  readonly users?: readonly string[];
  /** How many requests to hit; without it all, until clear(). */
  readonly times?: number;
}

export interface RequestInfo {
  readonly verb: string;
  readonly resource: string;
  readonly user: string;
}

export interface RestartOptions {
  /** How long connections are refused, ms. */
  readonly downMs?: number;
  /** `lost`: every resourceVersion from before is too old. */
  readonly history?: 'kept' | 'lost';
  /** `reset`: revisions start again from a low number, as after an etcd restore. */
  readonly revisions?: 'continued' | 'reset';
  /** `lost`: all objects but the namespaces are gone, without a deletion event. */
  readonly objects?: 'kept' | 'lost';
}

/** What the server offers for faults to act on. */
export interface FaultHost {
  dropConnections(): void;
  /** Keeps open connections open but never sends anything on them again. */
  freezeConnections(): void;
  closeWatches(): void;
  failWatches(error: ApiError): void;
  sendBookmarks(): void;
  stopListening(): Promise<void>;
  startListening(): Promise<void>;
  setStalled(stalled: boolean): void;
  expireHistory(): void;
  replay(count: number): void;
  reset(options: RestartOptions): void;
  setBookmarks(on: boolean): void;
  setWatchTooOld(answer: 'event' | 'http'): void;
}

interface Injected {
  readonly match: FaultMatch;
  left: number;
  readonly delayMs: number;
  readonly error: ApiError | undefined;
  readonly effect: 'answer' | 'hang' | 'drop';
}

/** What is to happen to one request before it is served. */
export interface Verdict {
  readonly delayMs: number;
  readonly error: ApiError | undefined;
  readonly effect: 'serve' | 'answer' | 'hang' | 'drop';
}

export class Faults {
  private readonly host: FaultHost;
  private injected: Injected[] = [];
  private refusing = false;

  constructor(host: FaultHost) {
    this.host = host;
  }

  /** Asked by the server for every request. */
  verdict(info: RequestInfo): Verdict {
    let delayMs = 0;
    for (const fault of this.injected) {
      if (fault.left <= 0 || !hits(fault.match, info)) continue;
      fault.left -= 1;
      delayMs += fault.delayMs;
      if (fault.error !== undefined || fault.effect !== 'answer')
        return { delayMs, error: fault.error, effect: fault.effect };
    }
    return { delayMs, error: undefined, effect: 'serve' };
  }

  /** Answers with this code and a Status of that reason. */
  fail(code: number, match: FaultMatch = {}, reason = 'InternalError', message = 'injected fault'): void {
    this.inject(match, { error: new ApiError(code, reason, message), effect: 'answer', delayMs: 0 });
  }

  /** 429 with Retry-After, as priority and fairness answers. */
  throttle(retryAfterSeconds: number, match: FaultMatch = {}): void {
    const error = new ApiError(
      429,
      'TooManyRequests',
      'Too many requests, please try again later.',
      { retryAfterSeconds },
      { 'Retry-After': String(retryAfterSeconds) },
    );
    this.inject(match, { error, effect: 'answer', delayMs: 0 });
  }

  /** Serves, but only after this long. */
  delay(ms: number, match: FaultMatch = {}): void {
    this.inject(match, { error: undefined, effect: 'answer', delayMs: ms });
  }

  /** Takes the request and never answers. */
  hang(match: FaultMatch = {}): void {
    this.inject(match, { error: undefined, effect: 'hang', delayMs: 0 });
  }

  /** Closes the connection instead of answering. */
  drop(match: FaultMatch = {}): void {
    this.inject(match, { error: undefined, effect: 'drop', delayMs: 0 });
  }

  private inject(match: FaultMatch, fault: Omit<Injected, 'match' | 'left'>): void {
    this.injected.push({ ...fault, match, left: match.times ?? Number.POSITIVE_INFINITY });
  }

  /** Ends every fault: requests are served again, connections accepted, silence broken. */
  async clear(): Promise<void> {
    this.injected = [];
    this.host.setStalled(false);
    this.host.setBookmarks(true);
    this.host.setWatchTooOld('event');
    await this.acceptConnections();
  }

  dropConnections(): void {
    this.host.dropConnections();
  }

  /** Connections are refused, open ones closed, until acceptConnections(). */
  async refuseConnections(): Promise<void> {
    if (this.refusing) return;
    this.refusing = true;
    const stopped = this.host.stopListening();
    this.host.dropConnections();
    await stopped;
  }

  async acceptConnections(): Promise<void> {
    if (!this.refusing) return;
    this.refusing = false;
    await this.host.startListening();
  }

  /** Like a stopped process: connections are accepted by the kernel, nothing is ever sent, until resume(). */
  stall(): void {
    this.host.setStalled(true);
  }

  /** Ends stall(): requests and watch events held back are now served. */
  resume(): void {
    this.host.setStalled(false);
  }

  /** Half-open: what is connected now stays connected and silent for good; new connections work. */
  freezeConnections(): void {
    this.host.freezeConnections();
  }

  /** Ends every open watch in order, as a timeout does. */
  closeWatches(): void {
    this.host.closeWatches();
  }

  /** Sends an ERROR event into every open watch, by default 410 Expired, and ends it. */
  failWatches(code = 410, reason = 'Expired', message = 'too old resource version'): void {
    this.host.failWatches(new ApiError(code, reason, message));
  }

  /** Every resourceVersion before now is too old: watches from it and page tokens get 410. */
  expireHistory(): void {
    this.host.expireHistory();
  }

  /** How watches from a too old resourceVersion are told: an ERROR event (the default) or HTTP 410. */
  watchTooOld(answer: 'event' | 'http'): void {
    this.host.setWatchTooOld(answer);
  }

  /** Sends the latest changes of each resource again into its open watches. */
  replayWatchEvents(count: number): void {
    this.host.replay(count);
  }

  /** Off: bookmarks are never sent, as a server is free to do. */
  bookmarks(on: boolean): void {
    this.host.setBookmarks(on);
  }

  /** Sends a bookmark now to every watch that asked for them. */
  sendBookmarks(): void {
    this.host.sendBookmarks();
  }

  async restart(options: RestartOptions = {}): Promise<void> {
    await this.refuseConnections();
    this.host.reset(options);
    await new Promise((resolve) => setTimeout(resolve, options.downMs ?? 0));
    await this.acceptConnections();
  }
}

function hits(match: FaultMatch, info: RequestInfo): boolean {
  return (
    (match.verbs?.includes(info.verb) ?? true) &&
    (match.resources?.includes(info.resource) ?? true) &&
    (match.users?.includes(info.user) ?? true)
  );
}
