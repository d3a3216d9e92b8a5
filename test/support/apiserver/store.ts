/**
 * What etcd and the watch cache are to kube-apiserver: objects in key order, one revision counter for
 * everything, a bounded history per resource from which watches resume and old lists are rebuilt.
 */

import { EventEmitter } from 'node:events';
import { expired, tooLargeResourceVersion } from './errors.ts';
import type { KubeObject } from './json.ts';

/** Changes kept per resource; a watch or a list older than that gets 410. */
export const DEFAULT_HISTORY_LIMIT = 20_000;

/** One version of one object. Immutable; texts in other shapes are rendered once and kept. */
export class Entry {
  readonly key: string;
  readonly object: KubeObject;
  readonly revision: number;
  private readonly texts = new Map<string, string>();

  constructor(key: string, object: KubeObject, revision: number) {
    this.key = key;
    this.object = object;
    this.revision = revision;
  }

  /** The object as JSON text in the shape called `shape`; rendered at most once. */
  text(shape: string, render: (object: KubeObject) => unknown): string {
    const known = this.texts.get(shape);
    if (known !== undefined) return known;
    const text = JSON.stringify(render(this.object));
    this.texts.set(shape, text);
    return text;
  }
}

export type ChangeType = 'ADDED' | 'MODIFIED' | 'DELETED';

export interface Change {
  readonly type: ChangeType;
  readonly revision: number;
  /** The version after the change; for a deletion the last state, carrying the deletion's revision. */
  readonly entry: Entry;
  readonly previous: Entry | undefined;
}

/** The revision counter that all tables of one server share, like etcd's. */
export class Revisions {
  current: number;

  constructor(start: number) {
    this.current = start;
  }

  next(): number {
    this.current += 1;
    return this.current;
  }
}

interface TableEvents {
  change: [Change];
}

/** All objects of one resource. */
export class Table extends EventEmitter<TableEvents> {
  private readonly revisions: Revisions;
  private readonly historyLimit: number;
  private readonly entries = new Map<string, Entry>();
  /** All keys in order. */
  private keys: string[] = [];
  private history: Change[] = [];
  /** Revisions up to this one are forgotten: only later changes can be replayed. */
  private compactedRevision: number;

  constructor(revisions: Revisions, historyLimit: number) {
    super();
    this.setMaxListeners(0);
    this.revisions = revisions;
    this.historyLimit = historyLimit;
    this.compactedRevision = revisions.current;
  }

  get size(): number {
    return this.entries.size;
  }

  get(key: string): Entry | undefined {
    return this.entries.get(key);
  }

  /** Writes a new version, whose metadata.resourceVersion is set here, and tells every watch. */
  put(key: string, object: KubeObject): Entry {
    const previous = this.entries.get(key);
    const entry = this.version(key, object);
    this.entries.set(key, entry);
    if (previous === undefined) this.keys.splice(lowerBound(this.keys, key), 0, key);
    this.record({
      type: previous === undefined ? 'ADDED' : 'MODIFIED',
      revision: entry.revision,
      entry,
      previous,
    });
    return entry;
  }

  delete(key: string): Entry | undefined {
    const previous = this.entries.get(key);
    if (previous === undefined) return undefined;
    const entry = this.version(key, previous.object);
    this.entries.delete(key);
    this.keys.splice(lowerBound(this.keys, key), 1);
    this.record({ type: 'DELETED', revision: entry.revision, entry, previous });
    return entry;
  }

  private version(key: string, object: KubeObject): Entry {
    const revision = this.revisions.next();
    const metadata = { ...object.metadata, resourceVersion: String(revision) };
    return new Entry(key, { ...object, metadata }, revision);
  }

  private record(change: Change): void {
    this.history.push(change);
    if (this.history.length > this.historyLimit * 1.25) this.trim(this.historyLimit);
    this.emit('change', change);
  }

  private trim(keep: number): void {
    const dropped = this.history.splice(0, this.history.length - keep);
    this.compactedRevision = dropped.at(-1)?.revision ?? this.compactedRevision;
  }

  /** Forgets all history: every revision before now is too old from here on. */
  compact(): void {
    this.history = [];
    this.compactedRevision = this.revisions.current;
  }

  /** Drops all objects and the history without telling watches; returns what was there. */
  forget(): Entry[] {
    const gone = [...this.entries.values()];
    this.entries.clear();
    this.keys = [];
    this.compact();
    return gone;
  }

  /** Gives every object the next revision without telling watches; the history is gone. */
  renumber(): void {
    for (const entry of this.list('')) this.entries.set(entry.key, this.version(entry.key, entry.object));
    this.compact();
  }

  /** Objects whose key starts with the prefix, in key order, as of now. */
  list(prefix: string): Entry[] {
    const { keys } = this;
    const out: Entry[] = [];
    for (let index = lowerBound(keys, prefix); index < keys.length; index += 1) {
      const key = keys[index];
      if (key === undefined || !key.startsWith(prefix)) break;
      const entry = this.entries.get(key);
      if (entry !== undefined) out.push(entry);
    }
    return out;
  }

  /**
   * The same as of an earlier revision, rebuilt by undoing the changes made since.
   * Throws 410 when that revision is no longer in the history, 504 when it is in the future.
   */
  listAt(prefix: string, revision: number): Entry[] {
    if (revision > this.revisions.current) throw tooLargeResourceVersion(revision, this.revisions.current);
    if (revision < this.compactedRevision) {
      throw expired(`The resourceVersion for the provided list is too old.`);
    }
    const then = new Map(this.list(prefix).map((entry) => [entry.key, entry]));
    for (const change of this.history.slice(this.firstAfter(revision)).reverse()) {
      if (!change.entry.key.startsWith(prefix)) continue;
      if (change.previous === undefined) then.delete(change.entry.key);
      else then.set(change.entry.key, change.previous);
    }
    return [...then.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Changes after the revision, oldest first. Throws 410 when some of them are forgotten. */
  since(revision: number): Change[] {
    if (revision < this.compactedRevision) {
      throw expired(`too old resource version: ${revision} (${this.compactedRevision + 1})`);
    }
    return this.history.slice(this.firstAfter(revision));
  }

  /** The latest changes, newest last, at most `count`. */
  latest(count: number): Change[] {
    return this.history.slice(Math.max(0, this.history.length - count));
  }

  private firstAfter(revision: number): number {
    let low = 0;
    let high = this.history.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.history[middle]?.revision ?? 0) <= revision) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function lowerBound(keys: readonly string[], wanted: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] ?? '') < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
