/**
 * The last known state of one resource, and the rules by which news changes it. A plain mutable value: 10,000 objects
 * are too many to copy on each event. Only the functions here write to it.
 *
 * Rules
 * - An object goes only when a watch says DELETED or a complete list does not name it.
 * - News about an object that is older than what is known of it (by resourceVersion, where comparable) changes nothing.
 * - Doubt (safety rule 7): when a complete list lacks more than half of ≥ 10 known objects, the missing ones stay, marked
 *   with the time; they go when a list at least DOUBT_MS later lacks them too. Watch events about them count at once.
 */

import { assert } from '../lib/assert.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { Item } from './objects.ts';
import { isNotNewer } from './resource-version.ts';

export const DOUBT_MS = 30_000;
const FEWEST_TO_DOUBT = 10;

export type ObjectStore<Value> = {
  readonly objects: Map<string, Value>;
  /** resourceVersion of each kept object. */
  readonly versions: Map<string, string>;
  /** Kept although the last complete list lacks them: since when. A subset of `objects`. */
  readonly doubted: Map<string, Instant>;
  /** Whether a mass disappearance is doubted at all: only for what lbd would take addresses away for. */
  readonly doubts: boolean;
};

export function emptyStore<Value>(doubts: boolean): ObjectStore<Value> {
  return { objects: new Map(), versions: new Map(), doubted: new Map(), doubts };
}

/** Applies a watch event. Returns whether what is known changed. */
export function applyChange<Value>(store: ObjectStore<Value>, item: Item<Value>, deleted: boolean): boolean {
  const known = store.versions.get(item.key);
  // What is doubted may carry a version from before a restore of the API server's data: nothing to compare with.
  const comparable = known !== undefined && !store.doubted.has(item.key);
  if (comparable && isNotNewer(item.resourceVersion, known)) return false;
  if (deleted || item.value === undefined) return remove(store, item.key);
  return put(store, item);
}

/** Applies what a write of our own returned: only to an object still known, and only forward. */
export function applyWritten<Value>(store: ObjectStore<Value>, item: Item<Value>): boolean {
  const known = store.versions.get(item.key);
  if (known === undefined || !isNotNewer(known, item.resourceVersion)) return false;
  return applyChange(store, item, false);
}

/**
 * Applies a complete list: the difference between it and what is known. `written` names objects that a write of our own
 * changed while the list was under way, about which the list may be older. Returns whether anything changed.
 */
export function applyList<Value>(
  store: ObjectStore<Value>,
  listed: ReadonlyMap<string, Item<Value>>,
  written: ReadonlySet<string>,
  now: Instant,
): boolean {
  const missing = [...store.objects.keys()].filter((key) => !listed.has(key) && !written.has(key));
  let changed = settleMissing(store, missing, now);
  for (const item of listed.values()) {
    const known = store.versions.get(item.key);
    const listIsOlder = known !== undefined && isNotNewer(item.resourceVersion, known);
    if (written.has(item.key) && listIsOlder) continue;
    changed = (item.value === undefined ? remove(store, item.key) : put(store, item)) || changed;
  }
  return changed;
}

/** Removes the missing objects that may be believed gone and marks the others as doubted. */
function settleMissing<Value>(store: ObjectStore<Value>, missing: readonly string[], now: Instant): boolean {
  const confirmed = missing.filter((key) => {
    const since = store.doubted.get(key);
    return since !== undefined && now >= after(since, DOUBT_MS);
  });
  for (const key of confirmed) remove(store, key);
  const rest = missing.filter((key) => store.objects.has(key));
  const known = store.objects.size;
  const doubtful = store.doubts && known >= FEWEST_TO_DOUBT && rest.length * 2 > known;
  const before = new Map(store.doubted);
  store.doubted.clear();
  let changed = confirmed.length > 0;
  for (const key of rest) {
    const since = before.get(key);
    if (since !== undefined || doubtful) store.doubted.set(key, since ?? now);
    else changed = remove(store, key) || changed;
  }
  return changed;
}

/** When the next complete list can confirm the oldest doubt; NEVER without doubt. */
export function doubtDeadline<Value>(store: ObjectStore<Value>): Instant {
  let first: Instant = NEVER;
  for (const since of store.doubted.values()) first = earliest(first, since);
  return first === NEVER ? NEVER : after(first, DOUBT_MS);
}

function put<Value>(store: ObjectStore<Value>, item: Item<Value>): boolean {
  assert(item.value !== undefined, 'only an object with a value is kept');
  store.doubted.delete(item.key);
  const known = store.objects.get(item.key);
  const version = store.versions.get(item.key);
  store.versions.set(item.key, item.resourceVersion);
  if (known !== undefined && (version === item.resourceVersion || sameJson(known, item.value))) return false;
  store.objects.set(item.key, item.value);
  return true;
}

function remove<Value>(store: ObjectStore<Value>, key: string): boolean {
  store.doubted.delete(key);
  store.versions.delete(key);
  return store.objects.delete(key);
}

/** Values are built by one function each, so equal values have equal text. */
function sameJson(left: unknown, right: unknown): boolean {
  return JSON.stringify(left) === JSON.stringify(right);
}

export function checkStore<Value>(store: ObjectStore<Value>): void {
  assert(store.objects.size === store.versions.size, 'each kept object has one resourceVersion');
  for (const key of store.doubted.keys()) assert(store.objects.has(key), `doubted but not kept: ${key}`);
}
