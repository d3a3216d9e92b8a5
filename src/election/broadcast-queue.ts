import type { Ip } from '../lib/ip.ts';
import type { Instant } from '../lib/time.ts';
import { updateBytes } from './codec-updates.ts';
import type { ClaimUpdate, MemberUpdate, Update } from './message.ts';
import { toSilenceUpdate } from './silence.ts';
import type { MemberName, Silence } from './types.ts';

/** Overflow: what was sent most often goes first; push/pull brings it to whoever missed it. */
export const QUEUED_MEMBERS_LIMIT = 4_096;
export const QUEUED_CLAIMS_LIMIT = 16_384;
/** While claims wait, updates of members get this share of a packet first: a death comes with thousands of claims. */
const MEMBERS_SHARE = 0.6;
/** The codec counts the updates of a packet in a byte. */
const UPDATES_LIMIT = 255;
/** So many that do not fit into what is left of a packet are passed over before it counts as full. */
const MISFITS_LIMIT = 8;

const NOTHING: readonly Update[] = [];

type Item<K, U> = {
  readonly key: K;
  readonly update: U;
  readonly silence: Silence | undefined;
  readonly bytes: number;
  sent: number;
};

type Batch = { readonly updates: Update[]; bytesLeft: number };

/**
 * Updates on their way to everybody: each rides on so many packets, the least travelled first, and a newer one of the
 * same member or address replaces the older.
 */
export class BroadcastQueue {
  readonly #members = new Lane<MemberName, MemberUpdate>(QUEUED_MEMBERS_LIMIT);
  readonly #claims = new Lane<Ip, ClaimUpdate>(QUEUED_CLAIMS_LIMIT);

  get size(): number {
    return this.#members.size + this.#claims.size;
  }

  /** `silence` takes the place of the update's own: its ages are computed when it is sent. */
  putMember(update: MemberUpdate, silence: Silence | undefined): void {
    this.#members.put(update.name, update, silence);
  }

  putClaim(update: ClaimUpdate): void {
    this.#claims.put(update.ip, update, undefined);
  }

  dropMember(name: MemberName): void {
    this.#members.drop(name);
  }

  /** Suspicions and deaths that `by` found, not yet spread, are not spread any more. */
  dropAccusations(by: MemberName): void {
    this.#members.dropWhere((update) => update.by === by && update.state !== 'alive');
  }

  /**
   * Updates for one packet that goes to `copies` members, at most `maxBytes` of them. Each leaves the queue when it has
   * been sent `limit` times.
   */
  take(maxBytes: number, copies: number, limit: number, now: Instant): readonly Update[] {
    if (this.size === 0) return NOTHING;
    const batch: Batch = { updates: [], bytesLeft: maxBytes };
    const reserved = this.#claims.size === 0 ? 0 : maxBytes * (1 - MEMBERS_SHARE);
    batch.bytesLeft -= reserved;
    this.#members.take(batch, copies, limit, now);
    batch.bytesLeft += reserved;
    this.#claims.take(batch, copies, limit, now);
    return batch.updates;
  }
}

/** Items in buckets by how often they were sent; the oldest first in each. */
class Lane<K, U extends Update> {
  readonly #items = new Map<K, Item<K, U>>();
  readonly #buckets: Set<Item<K, U>>[] = [];
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#items.size;
  }

  put(key: K, update: U, silence: Silence | undefined): void {
    this.drop(key);
    if (this.#items.size >= this.#limit) this.#dropMostSent();
    const item: Item<K, U> = { key, update, silence, bytes: updateBytes(update), sent: 0 };
    this.#items.set(key, item);
    this.#bucket(0).add(item);
  }

  drop(key: K): void {
    const item = this.#items.get(key);
    if (item !== undefined) this.#remove(item);
  }

  dropWhere(matches: (update: U) => boolean): void {
    for (const item of this.#items.values()) if (matches(item.update)) this.#remove(item);
  }

  take(batch: Batch, copies: number, limit: number, now: Instant): void {
    const taken: Item<K, U>[] = [];
    let misfits = 0;
    for (const bucket of this.#buckets) {
      for (const item of bucket) {
        if (item.bytes > batch.bytesLeft) {
          misfits += 1;
          if (misfits >= MISFITS_LIMIT) break;
          continue;
        }
        if (batch.updates.length >= UPDATES_LIMIT) break;
        batch.bytesLeft -= item.bytes;
        batch.updates.push(toSend(item, now));
        taken.push(item);
      }
      if (misfits >= MISFITS_LIMIT || batch.updates.length >= UPDATES_LIMIT) break;
    }
    for (const item of taken) this.#travelled(item, copies, limit);
  }

  #travelled(item: Item<K, U>, copies: number, limit: number): void {
    this.#bucket(item.sent).delete(item);
    item.sent += copies;
    if (item.sent >= limit) this.#items.delete(item.key);
    else this.#bucket(item.sent).add(item);
  }

  #remove(item: Item<K, U>): void {
    this.#items.delete(item.key);
    this.#bucket(item.sent).delete(item);
  }

  #dropMostSent(): void {
    for (let sent = this.#buckets.length - 1; sent >= 0; sent--) {
      const oldest = this.#buckets[sent]?.values().next();
      if (oldest === undefined || oldest.done === true) continue;
      this.#remove(oldest.value);
      return;
    }
  }

  #bucket(sent: number): Set<Item<K, U>> {
    while (this.#buckets.length <= sent) this.#buckets.push(new Set());
    return this.#buckets[sent] ?? new Set();
  }
}

function toSend<K, U extends Update>({ update, silence }: Item<K, U>, now: Instant): Update {
  if (silence === undefined || update.kind === 'claim') return update;
  return { ...update, silence: toSilenceUpdate(silence, now) };
}
