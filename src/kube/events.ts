/**
 * Which Events are written, and when: a bounded queue that forgets repetitions and a token bucket, so that neither a
 * flapping Service nor a thousand of them load the API server. Events are for people: losing one harms nothing, blocking
 * something for one would.
 *
 * Limits: QUEUE_LIMIT waiting (the oldest goes, counted), RECENT_LIMIT remembered, REPEAT_MS in which the same is not
 * said again but counted (events.k8s.io/v1 `series`, updated at most each SERIES_MS), BURST at once and RATE_PER_S after.
 */

import type { Instant } from '../lib/time.ts';
import { after, NEVER } from '../lib/time.ts';
import type { EventNote } from './types.ts';

export const QUEUE_LIMIT = 256;
export const RECENT_LIMIT = 1_024;
const REPEAT_MS = 5 * 60_000;
const SERIES_MS = 60_000;
const BURST = 25;
const RATE_PER_S = 5;
/** events.k8s.io/v1 allows 1,024 bytes. */
const LONGEST_NOTE = 1_000;

/** One write: a new Event, or the count of one that was written. */
export type EventWrite =
  | { readonly kind: 'create'; readonly digest: string; readonly note: EventNote }
  | {
      readonly kind: 'count';
      readonly digest: string;
      readonly eventName: string;
      readonly namespace: string;
      readonly count: number;
    };

type Recent = {
  readonly firstAt: Instant;
  readonly namespace: string;
  /** Known once the Event was written. */
  eventName: string | undefined;
  count: number;
  countedAt: Instant;
};

/** Mutable; only the functions here change it. */
export type EventQueue = {
  readonly waiting: EventWrite[];
  /** In order of first sight, so that the oldest is forgotten first. */
  readonly recent: Map<string, Recent>;
  tokens: number;
  refilledAt: Instant;
  dropped: number;
};

export function emptyEventQueue(now: Instant): EventQueue {
  return { waiting: [], recent: new Map(), tokens: BURST, refilledAt: now, dropped: 0 };
}

/** Takes a note, or counts it when the same was said within REPEAT_MS. */
export function offerEvent(queue: EventQueue, offered: EventNote, now: Instant): void {
  const note = { ...offered, note: shortened(offered.note) };
  const digest = JSON.stringify([
    note.service.uid,
    note.service.namespace,
    note.service.name,
    note.reason,
    note.note,
  ]);
  forgetOld(queue, now);
  const recent = queue.recent.get(digest);
  if (recent === undefined) {
    const { namespace } = note.service;
    queue.recent.set(digest, { firstAt: now, namespace, eventName: undefined, count: 1, countedAt: now });
    enqueue(queue, { kind: 'create', digest, note });
    return;
  }
  recent.count++;
  if (recent.eventName === undefined || now < after(recent.countedAt, SERIES_MS)) return;
  recent.countedAt = now;
  enqueue(queue, {
    kind: 'count',
    digest,
    eventName: recent.eventName,
    namespace: recent.namespace,
    count: recent.count,
  });
}

/** The next write when one may go now; undefined when none waits or the rate is used up. */
export function takeEvent(queue: EventQueue, now: Instant): EventWrite | undefined {
  refill(queue, now);
  if (queue.waiting.length === 0 || queue.tokens < 1) return undefined;
  queue.tokens -= 1;
  return queue.waiting.shift();
}

/** When `takeEvent()` will give something; NEVER when nothing waits. */
export function eventsDeadline(queue: EventQueue, now: Instant): Instant {
  refill(queue, now);
  if (queue.waiting.length === 0) return NEVER;
  return queue.tokens >= 1 ? now : after(now, ((1 - queue.tokens) * 1_000) / RATE_PER_S);
}

/** Remembers the name under which an Event was written, so that repetitions can be counted in it. */
export function eventWritten(queue: EventQueue, digest: string, eventName: string): void {
  const recent = queue.recent.get(digest);
  if (recent !== undefined) recent.eventName = eventName;
}

function enqueue(queue: EventQueue, write: EventWrite): void {
  queue.waiting.push(write);
  if (queue.waiting.length <= QUEUE_LIMIT) return;
  const lost = queue.waiting.shift();
  queue.dropped++;
  if (lost?.kind === 'create') queue.recent.delete(lost.digest);
}

function forgetOld(queue: EventQueue, now: Instant): void {
  for (const [digest, recent] of queue.recent) {
    if (now < after(recent.firstAt, REPEAT_MS) && queue.recent.size < RECENT_LIMIT) return;
    queue.recent.delete(digest);
  }
}

function refill(queue: EventQueue, now: Instant): void {
  const gained = ((now - queue.refilledAt) * RATE_PER_S) / 1_000;
  queue.tokens = Math.min(BURST, queue.tokens + Math.max(0, gained));
  queue.refilledAt = now;
}

/** Cut so that UTF-8 stays within the API's 1,024 bytes: no character of a note's first 340 needs more than 3. */
function shortened(note: string): string {
  if (note.length <= LONGEST_NOTE / 3) return note;
  const isAscii = /^[\x20-\x7e]*$/.test(note);
  const limit = isAscii ? LONGEST_NOTE : Math.floor(LONGEST_NOTE / 3);
  return note.length <= limit ? note : `${note.slice(0, limit)}…`;
}
