/** One open watch: initial events, live changes filtered by its selectors, bookmarks, and its end. */

import { type Cluster, prefixOf } from './cluster.ts';
import { ApiError, type FieldError, forbiddenField, invalid, unsupportedField } from './errors.ts';
import { selectorOf } from './read.ts';
import { flag, revisionOf, type View, wholeNumber } from './request.ts';
import type { Resource } from './resources.ts';
import type { Predicate } from './selectors.ts';
import { type Change, type ChangeType, Entry, type Table } from './store.ts';
import { bookmarkText, type IncludeObject, oneText } from './tables.ts';

const LIST_OPTIONS = { group: 'meta.k8s.io', plural: 'listoptions', kind: 'ListOptions' };
/** The real server ends a watch without timeoutSeconds after 30 to 60 minutes. */
const DEFAULT_TIMEOUT_SECONDS = 1800;
/** A bookmark comes shortly before a watch times out, so that the client resumes close to the end. */
const LAST_BOOKMARK_MS = 2000;

export interface WatchSettings {
  readonly bookmarkIntervalMs: number;
  /** False: bookmarks are asked for in vain, as the API allows. */
  bookmarks: boolean;
  /** How a too old resourceVersion is answered: an ERROR event in a 200 stream, or HTTP 410. */
  watchTooOld: 'event' | 'http';
}

/** Where lines go. The HTTP layer implements it; faults may swallow what is written. */
export interface WatchSink {
  /** Starts the response; called once, before the first line. */
  open(): void;
  line(text: string): void;
  /** Ends the stream in order. */
  end(): void;
}

export interface WatchRequest {
  readonly resource: Resource;
  readonly namespace: string;
  readonly query: URLSearchParams;
  readonly view: View;
  readonly include: IncludeObject;
}

export class Watch {
  private readonly cluster: Cluster;
  private readonly request: WatchRequest;
  private readonly settings: WatchSettings;
  private readonly sink: WatchSink;
  private readonly table: Table;
  private readonly prefix: string;
  private readonly selector: Predicate | undefined;
  private readonly wantsBookmarks: boolean;
  private readonly timers: NodeJS.Timeout[] = [];
  /** Only changes after this revision are delivered. */
  private afterRevision = 0;
  private headerSent = false;
  private closed = false;
  private readonly onChange = (change: Change): void => this.deliver(change);

  constructor(cluster: Cluster, request: WatchRequest, settings: WatchSettings, sink: WatchSink) {
    this.cluster = cluster;
    this.request = request;
    this.settings = settings;
    this.sink = sink;
    this.table = cluster.table(request.resource);
    this.prefix = prefixOf(request.resource, request.namespace);
    this.selector = selectorOf(request.resource, request.query);
    this.wantsBookmarks = flag(request.query, 'allowWatchBookmarks');
  }

  /** Throws an ApiError when the request itself is refused; after that errors go into the stream. */
  start(): void {
    const { query } = this.request;
    checkWatchOptions(query);
    const wanted = revisionOf(query.get('resourceVersion') ?? '', 'resourceVersion') ?? 0;
    const sendInitial = query.get('sendInitialEvents');
    const initial = sendInitial === null ? wanted === 0 : sendInitial === 'true';
    let missed: Change[] = [];
    if (!initial) {
      try {
        missed = wanted === 0 ? [] : this.table.since(wanted);
      } catch (error) {
        this.refuse(error);
        return;
      }
    }
    this.sink.open();
    if (initial) this.sendInitial(sendInitial === 'true', wanted);
    else this.afterRevision = wanted === 0 ? this.cluster.revisions.current : wanted;
    for (const change of missed) this.deliver(change);
    this.table.on('change', this.onChange);
    this.startTimers();
  }

  private refuse(error: unknown): void {
    if (!(error instanceof ApiError) || this.settings.watchTooOld === 'http') throw error;
    this.sink.open();
    this.sink.line(`{"type":"ERROR","object":${JSON.stringify(error.status)}}\n`);
    this.stop();
    this.sink.end();
  }

  private sendInitial(streamingList: boolean, wanted: number): void {
    for (const entry of this.table.list(this.prefix)) {
      if (this.selector?.(entry.object) ?? true) this.send('ADDED', entry);
    }
    this.afterRevision = Math.max(wanted, this.cluster.revisions.current);
    if (streamingList && this.wantsBookmarks) this.bookmark(true);
  }

  private startTimers(): void {
    const seconds = wholeNumber(this.request.query, 'timeoutSeconds') || DEFAULT_TIMEOUT_SECONDS;
    const ms = seconds * 1000;
    this.timers.push(setTimeout(() => this.finish(), ms));
    if (!this.wantsBookmarks) return;
    const last = Math.max(0, ms - LAST_BOOKMARK_MS);
    this.timers.push(setTimeout(() => this.bookmark(false), last));
    this.timers.push(setInterval(() => this.bookmark(false), this.settings.bookmarkIntervalMs));
  }

  /** Sends a change the way this watch's selectors see it. */
  private deliver(change: Change): void {
    if (change.revision <= this.afterRevision || !change.entry.key.startsWith(this.prefix)) return;
    const selector = this.selector;
    if (selector === undefined) {
      this.send(change.type, change.entry);
      return;
    }
    const is = change.type !== 'DELETED' && selector(change.entry.object);
    const was = change.previous !== undefined && selector(change.previous.object);
    if (is) this.send(was ? 'MODIFIED' : 'ADDED', change.entry);
    else if (was) this.send('DELETED', change.type === 'DELETED' ? change.entry : lastMatching(change));
  }

  /** Sends the latest changes again, as a replaying server or proxy would. */
  replayLatest(count: number): void {
    const before = this.afterRevision;
    this.afterRevision = 0;
    for (const change of this.table.latest(count)) this.deliver(change);
    this.afterRevision = before;
  }

  private send(type: ChangeType, entry: Entry): void {
    if (this.closed) return;
    const { resource, view, include } = this.request;
    const text = oneText(resource, entry, view, include, !this.headerSent);
    this.headerSent = true;
    this.sink.line(`{"type":"${type}","object":${text}}\n`);
  }

  bookmarkIfWanted(): void {
    if (this.wantsBookmarks) this.bookmark(false);
  }

  private bookmark(endsInitialEvents: boolean): void {
    if (this.closed || (!this.settings.bookmarks && !endsInitialEvents)) return;
    const { resource, view } = this.request;
    const text = bookmarkText(resource, this.cluster.revisions.current, view, endsInitialEvents);
    this.sink.line(`{"type":"BOOKMARK","object":${text}}\n`);
  }

  /** Puts an ERROR event into the stream and ends it. */
  fail(error: ApiError): void {
    if (this.closed) return;
    this.sink.line(`{"type":"ERROR","object":${JSON.stringify(error.status)}}\n`);
    this.finish();
  }

  /** Ends the stream in order, as at the timeout. */
  finish(): void {
    if (this.closed) return;
    this.stop();
    this.sink.end();
  }

  /** Stops delivering; the connection is the caller's business. */
  stop(): void {
    this.closed = true;
    this.table.off('change', this.onChange);
    for (const timer of this.timers) clearTimeout(timer);
  }
}

/** An object that left the selection is reported deleted in its last matching state, at the new revision. */
function lastMatching(change: Change): Entry {
  const object = change.previous?.object ?? change.entry.object;
  const metadata = { ...object.metadata, resourceVersion: String(change.revision) };
  return new Entry(change.entry.key, { ...object, metadata }, change.revision);
}

function checkWatchOptions(query: URLSearchParams): void {
  const match = query.get('resourceVersionMatch') ?? '';
  const errors: FieldError[] = [];
  const field = 'resourceVersionMatch';
  if (query.has('sendInitialEvents') && match !== 'NotOlderThan') {
    errors.push(
      forbiddenField(field, 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan'),
    );
  }
  if (match !== '') {
    if (!query.has('sendInitialEvents')) {
      errors.push(
        forbiddenField(
          field,
          'resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided',
        ),
      );
    }
    if (match !== 'NotOlderThan') errors.push(unsupportedField(field, match, ['NotOlderThan']));
    if ((query.get('continue') ?? '') !== '') {
      errors.push(forbiddenField(field, 'resourceVersionMatch is forbidden when continue is provided'));
    }
  }
  if (errors.length > 0) throw invalid(LIST_OPTIONS, '', errors);
}
