/**
 * Leader election on one Lease (coordination.k8s.io/v1), with the semantics of client-go's leaderelection package: who
 * holds the Lease renews it every RETRY_MS; who sees no renewal for the Lease's duration, measured on its own monotonic
 * clock from when it saw the last one, takes it. Clocks of different hosts are never compared; every write carries the
 * resourceVersion of the read it rests on, so of two writers one fails.
 *
 *   phase     event                              → phase     effect
 *   idle      started                            → reading   read
 *   waiting   deadline                           → reading   read (candidate); writing, write (holder)
 *   reading   read: absent                       → writing   create
 *             read: released, expired, ours      → writing   write
 *             read: held by another              → waiting   –
 *   writing   written: ours                      → waiting   – (holder from when the write was sent)
 *             failed: 409                        → reading   read
 *   any       failed                             → waiting   –
 *   holder    no renewal for RENEW_DEADLINE_MS   → candidate
 *   any       stopped                            → stopped   write an empty holder when we hold it
 *
 * "Ours" at the first read is this host before a restart, and taken at once; later it is another lbd of the same name,
 * which is reported and treated as a stranger.
 */

import { unreachable } from '../lib/assert.ts';
import type { Random } from '../lib/prng.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import { type ApiFailure, failureText } from './api-failure.ts';
import { recordOf, shortTextOf, textOf, wholeOf } from './raw.ts';

export const LEASE_NAME = 'lbd-allocator';
export const LEASE_DURATION_MS = 15_000;
const RENEW_DEADLINE_MS = 10_000;
export const RETRY_MS = 2_000;
/** client-go's jitter factor for candidates: 2 s to 4.4 s, so that they do not come all at once. */
const RETRY_JITTER = 1.2;
/** What cannot succeed before somebody acts (a missing permission) is tried less often. */
const REFUSED_RETRY_MS = 15_000;
const MOST_CONFLICTS = 3;
/** A Lease that claims to last longer is taken over all the same. */
const LONGEST_DURATION_S = 300;

/** What a Lease says, as read. */
export type LeaseRecord = {
  readonly resourceVersion: string;
  /** '' when released. */
  readonly holder: string;
  readonly durationMs: number;
  readonly acquireTime: string | undefined;
  readonly renewTime: string | undefined;
  readonly transitions: number;
};

/** What to write; renewTime is the moment of writing. */
export type LeaseWrite = {
  readonly holder: string;
  readonly durationSeconds: number;
  /** undefined: the moment of writing. */
  readonly acquireTime: string | undefined;
  readonly transitions: number;
};

type Phase =
  | { readonly kind: 'idle' | 'stopped' }
  | { readonly kind: 'reading' }
  | { readonly kind: 'writing'; readonly sentAt: Instant }
  | { readonly kind: 'waiting'; readonly until: Instant };

export type LeaseState = {
  readonly identity: string;
  readonly phase: Phase;
  readonly attempt: number;
  /** The last record seen, and when its content was first seen. */
  readonly observed: { readonly record: LeaseRecord; readonly since: Instant } | undefined;
  /** Set while we hold the Lease: until when without a further renewal. */
  readonly holdsUntil: Instant | undefined;
  /** Since when we hold it without a break. */
  readonly heldSince: Instant | undefined;
  /** No answer to a write: it may or may not have happened. */
  readonly unsure: boolean;
  /** 409s in a row. */
  readonly conflicts: number;
  /** Another lbd was seen to renew under our name: only an expired Lease is ours to take. */
  readonly namesake: boolean;
  readonly error: string | undefined;
};

export type LeaseEvent =
  | { readonly kind: 'started' }
  | { readonly kind: 'read'; readonly attempt: number; readonly record: LeaseRecord | undefined }
  | { readonly kind: 'written'; readonly attempt: number; readonly record: LeaseRecord }
  | {
      readonly kind: 'failed';
      readonly attempt: number;
      readonly verb: 'get' | 'create' | 'patch';
      readonly failure: ApiFailure;
    }
  | { readonly kind: 'deadline-passed' }
  | { readonly kind: 'stopped' };

export type LeaseEffect =
  | { readonly kind: 'read'; readonly attempt: number }
  /** `resourceVersion` undefined: create. */
  | {
      readonly kind: 'write';
      readonly attempt: number;
      readonly resourceVersion: string | undefined;
      readonly lease: LeaseWrite;
    }
  /** Whether we hold the Lease changed. */
  | { readonly kind: 'notify' }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn';
      readonly event: string;
      readonly fields: Readonly<Record<string, unknown>>;
    };

export type LeaseStep = { readonly state: LeaseState; readonly effects: readonly LeaseEffect[] };

/** `identity` names this host in the Lease; two hosts must not share one. */
export function initialLease(identity: string): LeaseState {
  return {
    identity,
    phase: { kind: 'idle' },
    attempt: 0,
    observed: undefined,
    holdsUntil: undefined,
    heldSince: undefined,
    unsure: false,
    conflicts: 0,
    namesake: false,
    error: undefined,
  };
}

/** The Lease as JSON, to what counts of it; total. undefined when it has no version to write against. */
export function leaseRecord(raw: unknown): LeaseRecord | undefined {
  const spec = recordOf(recordOf(raw)['spec']);
  const resourceVersion = shortTextOf(recordOf(recordOf(raw)['metadata'])['resourceVersion'], 64);
  if (resourceVersion === undefined) return undefined;
  const durationS =
    wholeOf(spec['leaseDurationSeconds'], 1, Number.MAX_SAFE_INTEGER) ?? LEASE_DURATION_MS / 1_000;
  return {
    resourceVersion,
    holder: textOf(spec['holderIdentity'], 253) ?? '',
    durationMs: Math.min(durationS, LONGEST_DURATION_S) * 1_000,
    acquireTime: shortTextOf(spec['acquireTime'], 40),
    renewTime: shortTextOf(spec['renewTime'], 40),
    transitions: wholeOf(spec['leaseTransitions'], 0, 2 ** 31 - 2) ?? 0,
  };
}

/** Whether this host may allocate at `now`: it holds the Lease and has renewed it recently enough. */
export function holdsLease(state: LeaseState, now: Instant): boolean {
  return state.holdsUntil !== undefined && now < state.holdsUntil;
}

export function leaseDeadline(state: LeaseState): Instant {
  const wake = state.phase.kind === 'waiting' ? state.phase.until : NEVER;
  return state.phase.kind === 'stopped' ? NEVER : earliest(wake, state.holdsUntil ?? NEVER);
}

/** `random` spreads candidates. */
export function stepLease(state: LeaseState, event: LeaseEvent, now: Instant, random: Random): LeaseStep {
  if (state.phase.kind === 'stopped') return { state, effects: [] };
  if ('attempt' in event && event.attempt !== state.attempt) return { state, effects: [] };
  switch (event.kind) {
    case 'started':
      return state.phase.kind === 'idle' ? read(state) : { state, effects: [] };
    case 'read':
      return onRead(state, event.record, now, random);
    case 'written':
      return onWritten(state, event.record, now);
    case 'failed':
      return onFailed(state, event, now, random);
    case 'deadline-passed':
      return onDeadline(state, now);
    case 'stopped':
      return onStopped(state, now);
    default:
      return unreachable(event);
  }
}

function read(state: LeaseState): LeaseStep {
  const attempt = state.attempt + 1;
  return { state: { ...state, attempt, phase: { kind: 'reading' } }, effects: [{ kind: 'read', attempt }] };
}

/** Takes or renews the Lease as last observed; creates it when none was. */
function write(state: LeaseState, now: Instant): LeaseStep {
  const attempt = state.attempt + 1;
  const record = state.observed?.record;
  const ours = record?.holder === state.identity;
  const lease: LeaseWrite = {
    holder: state.identity,
    durationSeconds: LEASE_DURATION_MS / 1_000,
    acquireTime: ours ? record.acquireTime : undefined,
    transitions: record === undefined ? 0 : ours ? record.transitions : record.transitions + 1,
  };
  return {
    state: { ...state, attempt, phase: { kind: 'writing', sentAt: now } },
    effects: [{ kind: 'write', attempt, resourceVersion: record?.resourceVersion, lease }],
  };
}

function onRead(state: LeaseState, record: LeaseRecord | undefined, now: Instant, random: Random): LeaseStep {
  if (record === undefined) return write({ ...state, observed: undefined }, now);
  const before = state.observed?.record;
  const seen = observe(state, record, now);
  if (record.holder === state.identity) {
    const renewedElsewhere = before !== undefined && before.renewTime !== record.renewTime;
    if (!state.namesake && (!renewedElsewhere || state.unsure)) return write(seen, now);
    return namesake(seen, now, random);
  }
  const lost =
    seen.holdsUntil !== undefined
      ? giveUp(seen, `${record.holder || 'nobody'} holds it now`)
      : { state: seen, effects: [] };
  const since = lost.state.observed?.since ?? now;
  const expired = now >= after(since, record.durationMs);
  const next = record.holder === '' || expired ? write(lost.state, now) : wait(lost.state, now, random);
  return {
    state: { ...next.state, error: undefined, namesake: false },
    effects: [...lost.effects, ...next.effects],
  };
}

/** Somebody renews the Lease under our name. Two allocators would give one address to two Services. */
function namesake(state: LeaseState, now: Instant, random: Random): LeaseStep {
  const error = `another lbd runs under the name ${JSON.stringify(state.identity)} and renews lease ${LEASE_NAME}: give each host its own host.name`;
  const lost = state.holdsUntil === undefined ? { state, effects: [] } : giveUp(state, error);
  const since = state.observed?.since ?? now;
  if (now >= after(since, state.observed?.record.durationMs ?? 0)) return write(lost.state, now);
  const waiting = wait(lost.state, now, random);
  return { state: { ...waiting.state, error, namesake: true }, effects: lost.effects };
}

/** Keeps the moment at which the record's content was first seen: only a change of it is a sign of life. */
function observe(state: LeaseState, record: LeaseRecord, now: Instant): LeaseState {
  const known = state.observed;
  const same =
    known !== undefined &&
    known.record.holder === record.holder &&
    known.record.renewTime === record.renewTime &&
    known.record.transitions === record.transitions;
  return { ...state, observed: { record, since: same ? known.since : now } };
}

function onWritten(state: LeaseState, record: LeaseRecord, now: Instant): LeaseStep {
  if (state.phase.kind !== 'writing') return { state, effects: [] };
  const { sentAt } = state.phase;
  const wasHolder = state.holdsUntil !== undefined;
  const next: LeaseState = {
    ...observe(state, record, now),
    // From when the write was sent: the server cannot have counted from earlier.
    holdsUntil: after(sentAt, RENEW_DEADLINE_MS),
    heldSince: state.heldSince ?? now,
    phase: { kind: 'waiting', until: after(sentAt, RETRY_MS) },
    unsure: false,
    conflicts: 0,
    namesake: false,
    error: undefined,
  };
  if (wasHolder) return { state: next, effects: [] };
  const fields = { lease: LEASE_NAME, identity: state.identity };
  return {
    state: next,
    effects: [{ kind: 'notify' }, { kind: 'log', level: 'info', event: 'kube.allocator.acquired', fields }],
  };
}

function onFailed(
  state: LeaseState,
  event: Extract<LeaseEvent, { kind: 'failed' }>,
  now: Instant,
  random: Random,
): LeaseStep {
  const { failure, verb } = event;
  // Somebody was faster: look at once, but not for ever.
  if (failure.status === 409 && state.conflicts < MOST_CONFLICTS) {
    return read({ ...state, conflicts: state.conflicts + 1 });
  }
  const unsure = state.unsure || (verb !== 'get' && failure.status === undefined);
  // Somebody deleted it: the next write creates it.
  if (failure.status === 404 && verb === 'patch') return read({ ...state, observed: undefined });
  const refused = failure.status === 401 || failure.status === 403 || failure.status === 404;
  const error = leaseErrorText(failure, verb);
  const delayMs = Math.max(refused ? REFUSED_RETRY_MS : RETRY_MS, failure.retryAfterMs ?? 0);
  const isNews = error !== state.error;
  return {
    state: {
      ...state,
      attempt: state.attempt + 1,
      conflicts: 0,
      unsure,
      error,
      phase: { kind: 'waiting', until: after(now, refused ? delayMs * (1 + random()) : delayMs) },
    },
    effects: isNews
      ? [{ kind: 'log', level: 'warn', event: 'kube.allocator.failed', fields: { error } }]
      : [],
  };
}

function leaseErrorText(failure: ApiFailure, verb: string): string {
  const text = failureText(failure, verb, 'leases');
  if (failure.status === 403) {
    return `${text}; without verbs get, create and patch on leases (coordination.k8s.io) this host cannot allocate addresses`;
  }
  if (failure.status === 404)
    return `${text}; does the namespace of the lease exist (kubernetes.lease_namespace)?`;
  return text;
}

function onDeadline(state: LeaseState, now: Instant): LeaseStep {
  const expired = state.holdsUntil !== undefined && now >= state.holdsUntil;
  const lost = expired ? giveUp(state, state.error ?? 'not renewed in time') : { state, effects: [] };
  const { phase } = lost.state;
  if (phase.kind !== 'waiting' || now < phase.until) return lost;
  const renewing = lost.state.holdsUntil !== undefined && !lost.state.unsure;
  const next = renewing ? write(lost.state, now) : read(lost.state);
  return { state: next.state, effects: [...lost.effects, ...next.effects] };
}

function giveUp(state: LeaseState, why: string): LeaseStep {
  const fields = { lease: LEASE_NAME, identity: state.identity, why };
  return {
    state: { ...state, holdsUntil: undefined, heldSince: undefined },
    effects: [{ kind: 'notify' }, { kind: 'log', level: 'warn', event: 'kube.allocator.lost', fields }],
  };
}

function wait(state: LeaseState, now: Instant, random: Random): LeaseStep {
  const until = after(now, RETRY_MS * (1 + RETRY_JITTER * random()));
  return { state: { ...state, unsure: false, phase: { kind: 'waiting', until } }, effects: [] };
}

function onStopped(state: LeaseState, now: Instant): LeaseStep {
  const held = holdsLease(state, now);
  const attempt = state.attempt + 1;
  const record = state.observed?.record;
  const stopped: LeaseState = {
    ...state,
    attempt,
    holdsUntil: undefined,
    heldSince: undefined,
    phase: { kind: 'stopped' },
  };
  if (!held || record === undefined) return { state: stopped, effects: [] };
  const lease: LeaseWrite = {
    holder: '',
    durationSeconds: 1,
    acquireTime: record.acquireTime,
    transitions: record.transitions,
  };
  return {
    state: stopped,
    effects: [{ kind: 'write', attempt, resourceVersion: record.resourceVersion, lease }, { kind: 'notify' }],
  };
}

/** For status: who holds the Lease as far as this host knows. */
export function leaseStatus(
  state: LeaseState,
  now: Instant,
): { readonly holder: string | undefined; readonly self: boolean; readonly error: string | undefined } {
  const holder = state.observed?.record.holder;
  return { holder: holder === '' ? undefined : holder, self: holdsLease(state, now), error: state.error };
}
