/**
 * Keeps the last known state of one resource equal to the API server's: a paged list, then a watch from where the list
 * ended, for ever. (Kubernetes API concepts: "Efficient detection of changes", "Retrieving large results sets in chunks",
 * "410 Gone responses", "Watch bookmarks".)
 *
 *   phase        event                          → phase         effect
 *   idle         started                        → listing       list the first page
 *   listing      page listed, more to come      → listing       list the next page
 *                page listed, the last          → watching      (list − known = changes) watch from the list's version
 *                failed: 410                    → listing       list again from the start, without backoff the first time
 *                failed: too large              → listing       list again with smaller pages
 *                failed: anything else          → backing-off   –
 *   watching     object changed, bookmarked     → watching      –
 *                closed (the server's timeout)  → watching      watch from the last version seen
 *                closed within a second         → backing-off   – (then watch)
 *                failed: 410, 400, 504, garbage → listing       list; backoff when it happens again
 *                failed: anything else          → backing-off   – (then watch from the last version seen)
 *                deadline: overdue              → watching      cancel; watch from the last version seen
 *                verified: a change is missing  → watching      – (it has VERIFY_GRACE_MS to arrive)
 *                deadline: it did not arrive    → watching      cancel; watch from the last version seen
 *                deadline: doubt is 30 s old    → listing       cancel; list
 *                bookmark older than last seen  → listing       cancel; list (the server's history went back)
 *   backing-off  deadline                       → listing or watching
 *                server recovered               → the same, unless the server said how long to wait
 *   watching     version checked: too old       → listing       cancel; list (the server's history went back)
 *   any          list wanted                    → listing       cancel; list (in `backing-off`: list when it is over)
 *   any          object written                 – the answer to a write of our own, ahead of the watch
 *   any          stopped                        → stopped       cancel
 *
 * Each request carries an attempt number; what arrives from an earlier attempt is ignored. The store is mutated in place
 * (see `object-store.ts`); the rest of the state is replaced.
 *
 * Limits: PAGE_LIMIT objects a page, WATCH_MIN_MS..WATCH_MAX_MS a watch, backoff 0.2 s..30 s.
 */

import { assert, unreachable } from '../lib/assert.ts';
import type { Random } from '../lib/prng.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { type ApiFailure, failureText } from './api-failure.ts';
import { backoffMs } from './backoff.ts';
import {
  applyChange,
  applyList,
  applyWritten,
  checkStore,
  doubtDeadline,
  emptyStore,
} from './object-store.ts';
import type { Item } from './objects.ts';
import type {
  ReflectorConfig,
  ReflectorEffect,
  ReflectorEvent,
  ReflectorState,
  ReflectorStep,
} from './reflector-types.ts';
import { compareResourceVersions, isNotNewer } from './resource-version.ts';
import type { ReflectorStatus } from './types.ts';

export const PAGE_LIMIT = 500;
const WATCH_MIN_MS = 5 * 60_000;
const WATCH_MAX_MS = 10 * 60_000;
/** How long past its own timeout a watch may live before it counts as dead. */
const WATCH_GRACE_MS = 15_000;
/** How far one replica of the API server may be ahead of another before a watch counts as dead. */
const VERIFY_GRACE_MS = 2_000;
/** A watch that lived less was refused in all but name. */
const SHORT_WATCH_MS = 1_000;
/** A watch that lived this long proves that the server is well again. */
const STEADY_WATCH_MS = 5_000;

/** `cached` is what was known before this process: it counts as known (and is doubted about), but not as synced. */
export function initialReflector<Value>(
  config: ReflectorConfig,
  cached: readonly Item<Value>[] = [],
): ReflectorState<Value> {
  const store = emptyStore<Value>(config.doubts);
  for (const item of cached) applyChange(store, item, false);
  return {
    config,
    store,
    phase: { kind: 'idle' },
    attempt: 0,
    failures: 0,
    isHurried: false,
    expirations: 0,
    pageLimit: PAGE_LIMIT,
    resourceVersion: undefined,
    synced: false,
    listedSince: undefined,
    relists: 0,
    heardAt: undefined,
    error: undefined,
  };
}

/** `random` gives the jitter of backoffs and watch timeouts. */
export function stepReflector<Value>(
  state: ReflectorState<Value>,
  event: ReflectorEvent<Value>,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  if (state.phase.kind === 'stopped') return { state, effects: [] };
  if ('attempt' in event && event.attempt !== state.attempt) return { state, effects: [] };
  const heard = isFromServer(event) ? { ...state, heardAt: now } : state;
  switch (event.kind) {
    case 'started':
      return state.phase.kind === 'idle' ? startList(state, now) : { state, effects: [] };
    case 'page-listed':
      return onPage(heard, event, now, random);
    case 'watch-opened':
      return recovered(heard);
    case 'object-changed':
      return onChange(heard, event);
    case 'bookmarked':
      return onBookmark(heard, event.resourceVersion, now);
    case 'watch-closed':
      return onWatchClosed(heard, now, random);
    case 'request-failed':
      return onFailure(heard, event.failure, now, random);
    case 'change-verified':
      return onVerified(state, event.resourceVersion, now);
    case 'version-checked':
      return onVersion(heard, event.resourceVersion, event.resumedFrom, now);
    case 'list-wanted':
      return onListWanted(state, now);
    case 'server-recovered':
      return onServerRecovered(state, now, random);
    case 'object-written':
      return onWritten(state, event.item);
    case 'deadline-passed':
      return onDeadline(state, now, random);
    case 'stopped':
      return { state: { ...state, phase: { kind: 'stopped' } }, effects: [{ kind: 'cancel' }] };
    default:
      return unreachable(event);
  }
}

function isFromServer<Value>(event: ReflectorEvent<Value>): boolean {
  if (event.kind === 'change-verified') return false;
  return event.kind === 'request-failed' ? event.failure.status !== undefined : 'attempt' in event;
}

/** When `deadline-passed` is due; NEVER while only the network can bring news. */
export function reflectorDeadline<Value>(state: ReflectorState<Value>): Instant {
  if (state.phase.kind === 'backing-off') return state.phase.until;
  if (state.phase.kind === 'watching') {
    return earliest(state.phase.overdueAt, state.phase.awaited?.by ?? NEVER, doubtDeadline(state.store));
  }
  return NEVER;
}

function startList<Value>(state: ReflectorState<Value>, now: Instant): ReflectorStep<Value> {
  const attempt = state.attempt + 1;
  return {
    state: {
      ...state,
      attempt,
      relists: state.synced ? state.relists + 1 : state.relists,
      phase: {
        kind: 'listing',
        since: now,
        items: new Map(),
        resourceVersion: undefined,
        written: new Map(),
      },
    },
    effects: [
      { kind: 'cancel' },
      { kind: 'list', attempt, limit: state.pageLimit, continueToken: undefined },
    ],
  };
}

function startWatch<Value>(state: ReflectorState<Value>, now: Instant, random: Random): ReflectorStep<Value> {
  const { resourceVersion } = state;
  if (resourceVersion === undefined) return startList(state, now);
  const attempt = state.attempt + 1;
  const timeoutMs = Math.round(WATCH_MIN_MS + (WATCH_MAX_MS - WATCH_MIN_MS) * random());
  const overdueAt = after(now, timeoutMs + WATCH_GRACE_MS);
  return {
    state: { ...state, attempt, phase: { kind: 'watching', since: now, overdueAt, awaited: undefined } },
    effects: [
      { kind: 'cancel' },
      { kind: 'watch', attempt, resourceVersion, timeoutMs },
      { kind: 'check-version', attempt, resumedFrom: resourceVersion },
    ],
  };
}

function onPage<Value>(
  state: ReflectorState<Value>,
  page: Extract<ReflectorEvent<Value>, { kind: 'page-listed' }>,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  if (state.phase.kind !== 'listing') return { state, effects: [] };
  const { items, written, since } = state.phase;
  for (const item of page.items) items.set(item.key, item);
  const resourceVersion = state.phase.resourceVersion ?? page.resourceVersion;
  if (page.continueToken !== undefined) {
    const attempt = state.attempt + 1;
    return {
      state: { ...state, attempt, phase: { ...state.phase, resourceVersion } },
      effects: [{ kind: 'list', attempt, limit: state.pageLimit, continueToken: page.continueToken }],
    };
  }
  const hadDoubt = state.store.doubted.size > 0;
  // A version within a list's own is in it; a later one is news that the list cannot know.
  const newer = new Set([...written].flatMap(([key, at]) => (isNotNewer(at, resourceVersion) ? [] : [key])));
  applyList(state.store, items, newer, now);
  const listed = recovered({
    ...state,
    synced: true,
    listedSince: since,
    failures: 0,
    isHurried: false,
    resourceVersion,
  });
  const watch = startWatch(listed.state, now, random);
  // Also without a change: what waits for a complete list goes on.
  const notify: readonly ReflectorEffect[] = [{ kind: 'notify' }];
  return {
    state: watch.state,
    effects: [...notify, ...listed.effects, ...doubtLog(state, hadDoubt), ...watch.effects],
  };
}

function doubtLog<Value>(state: ReflectorState<Value>, hadDoubt: boolean): readonly ReflectorEffect[] {
  const { store, config } = state;
  const fields = { resource: config.resource, missing: store.doubted.size, known: store.objects.size };
  if (store.doubted.size > 0 && !hadDoubt)
    return [{ kind: 'log', level: 'warn', event: 'kube.doubt.begun', fields }];
  if (store.doubted.size === 0 && hadDoubt)
    return [{ kind: 'log', level: 'warn', event: 'kube.doubt.ended', fields }];
  return [];
}

function onChange<Value>(
  state: ReflectorState<Value>,
  event: Extract<ReflectorEvent<Value>, { kind: 'object-changed' }>,
): ReflectorStep<Value> {
  if (state.phase.kind !== 'watching') return { state, effects: [] };
  const { resourceVersion } = event.item;
  // A watch from version N brings only what is newer than N, in order: anything else is a replay.
  if (state.resourceVersion !== undefined && isNotNewer(resourceVersion, state.resourceVersion)) {
    return { state, effects: [] };
  }
  const changed = applyChange(state.store, event.item, event.deleted);
  const next = resourceVersion === '' ? state.resourceVersion : resourceVersion;
  return {
    state: { ...state, resourceVersion: next, expirations: 0 },
    effects: changed ? [{ kind: 'notify' }] : [],
  };
}

function onBookmark<Value>(
  state: ReflectorState<Value>,
  resourceVersion: string,
  now: Instant,
): ReflectorStep<Value> {
  if (state.phase.kind !== 'watching') return { state, effects: [] };
  const back = onVersion(state, resourceVersion, state.resourceVersion ?? '', now);
  if (back.effects.length > 0) return back;
  return { state: { ...state, resourceVersion, expirations: 0 }, effects: [] };
}

/** A server that is now at an older version than one it has shown before has lost history: only a list tells the truth. */
function onVersion<Value>(
  state: ReflectorState<Value>,
  resourceVersion: string,
  shown: string,
  now: Instant,
): ReflectorStep<Value> {
  const order = compareResourceVersions(resourceVersion, shown);
  if (state.phase.kind !== 'watching' || order === undefined || order >= 0) return { state, effects: [] };
  const list = startList(state, now);
  const fields = { resource: state.config.resource, shown, now: resourceVersion };
  return {
    state: list.state,
    effects: [{ kind: 'log', level: 'warn', event: 'kube.history.went-back', fields }, ...list.effects],
  };
}

function onWatchClosed<Value>(
  state: ReflectorState<Value>,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  if (state.phase.kind !== 'watching') return { state, effects: [] };
  const lifetimeMs = now - state.phase.since;
  if (lifetimeMs >= SHORT_WATCH_MS) return startWatch(steadied(state, lifetimeMs), now, random);
  return backOff(state, 'watch', undefined, now, random);
}

function steadied<Value>(state: ReflectorState<Value>, lifetimeMs: number): ReflectorState<Value> {
  return lifetimeMs >= STEADY_WATCH_MS ? { ...state, failures: 0, isHurried: false, expirations: 0 } : state;
}

function onFailure<Value>(
  state: ReflectorState<Value>,
  failure: ApiFailure,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  const watching = state.phase.kind === 'watching';
  if (!watching && state.phase.kind !== 'listing') return { state, effects: [] };
  // After a long absence that is how it goes, and no failure.
  const steady = state.phase.kind === 'watching' ? steadied(state, now - state.phase.since) : state;
  if (failure.status === 410 && steady.expirations === 0)
    return startList({ ...steady, expirations: 1 }, now);
  const failed = blamed(steady, failure, watching ? 'watch' : 'list');
  const then = (step: ReflectorStep<Value>) => ({ ...step, effects: [...failed.effects, ...step.effects] });
  if (failure.status === 410) return then(onExpiredAgain(failed.state, now, random));
  if (!watching && failure.kind === 'too-large' && state.pageLimit > 1) {
    return then(startList({ ...failed.state, pageLimit: Math.ceil(state.pageLimit / 5) }, now));
  }
  const next = watching && !invalidatesVersion(failure) ? 'watch' : 'list';
  return then(backOff(failed.state, next, failure.retryAfterMs, now, random));
}

/** 410 again, without news from a watch since the last: a server in trouble, which lists must not make worse. */
function onExpiredAgain<Value>(
  state: ReflectorState<Value>,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  const expirations = state.expirations + 1;
  const failures = Math.max(state.failures, state.expirations - 1);
  return backOff({ ...state, expirations, failures }, 'list', undefined, now, random);
}

/** Answers that mean "not from this version", or a stream that cannot be followed any more: only a list helps. */
function invalidatesVersion(failure: ApiFailure): boolean {
  if (failure.kind === 'protocol' || failure.kind === 'too-large') return true;
  return failure.status === 400 || failure.status === 504 || failure.status === 422;
}

/** Records a failure; logs it when it is another one than the last. */
function blamed<Value>(
  state: ReflectorState<Value>,
  failure: ApiFailure,
  verb: 'list' | 'watch',
): ReflectorStep<Value> {
  const error = failureText(failure, verb, state.config.resource);
  const fields = { resource: state.config.resource, error };
  const isNews = error !== state.error;
  return {
    state: { ...state, error },
    effects: isNews ? [{ kind: 'log', level: 'warn', event: 'kube.request.failed', fields }] : [],
  };
}

function recovered<Value>(state: ReflectorState<Value>): ReflectorStep<Value> {
  if (state.error === undefined) return { state, effects: [] };
  const fields = { resource: state.config.resource, after: state.error };
  return {
    state: { ...state, error: undefined },
    effects: [{ kind: 'log', level: 'info', event: 'kube.request.recovered', fields }, { kind: 'recovered' }],
  };
}

function backOff<Value>(
  state: ReflectorState<Value>,
  next: 'list' | 'watch',
  retryAfterMs: number | undefined,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  const failures = state.failures + 1;
  const waitMs = Math.max(backoffMs(failures, random), retryAfterMs ?? 0);
  return {
    state: {
      ...state,
      failures,
      attempt: state.attempt + 1,
      phase: { kind: 'backing-off', until: after(now, waitMs), next, isTold: retryAfterMs !== undefined },
    },
    effects: [{ kind: 'cancel' }],
  };
}

function onListWanted<Value>(state: ReflectorState<Value>, now: Instant): ReflectorStep<Value> {
  const { phase } = state;
  if (phase.kind === 'idle') return { state, effects: [] };
  if (phase.kind === 'backing-off')
    return { state: { ...state, phase: { ...phase, next: 'list' } }, effects: [] };
  return startList(state, now);
}

function onWritten<Value>(state: ReflectorState<Value>, item: Item<Value>): ReflectorStep<Value> {
  if (state.phase.kind === 'listing' && state.store.objects.has(item.key)) {
    state.phase.written.set(item.key, item.resourceVersion);
  }
  return { state, effects: applyWritten(state.store, item) ? [{ kind: 'notify' }] : [] };
}

/** After an outage the waits have grown to half a minute, each on its own; what ended it for one ends it for all. */
function onServerRecovered<Value>(
  state: ReflectorState<Value>,
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  if (state.phase.kind !== 'backing-off' || state.phase.isTold || state.isHurried)
    return { state, effects: [] };
  return again({ ...state, isHurried: true }, state.phase.next, now, random);
}

function again<Value>(
  state: ReflectorState<Value>,
  next: 'list' | 'watch',
  now: Instant,
  random: Random,
): ReflectorStep<Value> {
  return next === 'list' ? startList(state, now) : startWatch(state, now, random);
}

function onDeadline<Value>(state: ReflectorState<Value>, now: Instant, random: Random): ReflectorStep<Value> {
  if (now < reflectorDeadline(state)) return { state, effects: [] };
  if (state.phase.kind === 'backing-off') return again(state, state.phase.next, now, random);
  if (state.phase.kind !== 'watching') return { state, effects: [] };
  if (now >= doubtDeadline(state.store)) return startList(state, now);
  const { awaited } = state.phase;
  if (awaited !== undefined && now >= awaited.by && now < state.phase.overdueAt) {
    if (hasSeen(state, awaited.resourceVersion)) {
      return { state: { ...state, phase: { ...state.phase, awaited: undefined } }, effects: [] };
    }
    const fields = {
      resource: state.config.resource,
      seen: state.resourceVersion,
      missing: awaited.resourceVersion,
    };
    const watch = startWatch(state, now, random);
    return {
      state: watch.state,
      effects: [{ kind: 'log', level: 'warn', event: 'kube.watch.dead', fields }, ...watch.effects],
    };
  }
  return startWatch(state, now, random);
}

function onVerified<Value>(
  state: ReflectorState<Value>,
  resourceVersion: string,
  now: Instant,
): ReflectorStep<Value> {
  if (state.phase.kind !== 'watching' || state.phase.awaited !== undefined) return { state, effects: [] };
  if (hasSeen(state, resourceVersion)) return { state, effects: [] };
  const awaited = { resourceVersion, by: after(now, VERIFY_GRACE_MS) };
  return { state: { ...state, phase: { ...state.phase, awaited } }, effects: [] };
}

function hasSeen<Value>(state: ReflectorState<Value>, resourceVersion: string): boolean {
  const seen = state.resourceVersion;
  return seen === resourceVersion || (seen !== undefined && isNotNewer(resourceVersion, seen));
}

export function reflectorStatus<Value>(state: ReflectorState<Value>, now: Instant): ReflectorStatus {
  const { store } = state;
  return {
    resource: state.config.resource,
    phase: shownPhase(state),
    synced: state.synced,
    objects: store.objects.size,
    resourceVersion: state.resourceVersion,
    silentMs: state.heardAt === undefined ? undefined : Math.max(0, Math.round(now - state.heardAt)),
    relists: state.relists,
    error: state.error,
    doubt: store.doubted.size === 0 ? undefined : { missing: store.doubted.size, known: store.objects.size },
  };
}

function shownPhase<Value>(state: ReflectorState<Value>): ReflectorStatus['phase'] {
  const { kind } = state.phase;
  if (kind === 'backing-off') return 'backing-off';
  if (kind !== 'watching') return 'listing';
  return state.store.doubted.size > 0 ? 'doubting' : 'watching';
}

export function checkReflector<Value>(state: ReflectorState<Value>): void {
  checkStore(state.store);
  const { phase } = state;
  if (phase.kind === 'watching') {
    assert(state.synced, 'a watch follows a complete list');
    assert(state.resourceVersion !== undefined, 'a watch starts from a known version');
  }
  assert(state.pageLimit >= 1, 'a page holds at least one object');
}
