import type { Ip } from '../lib/ip.ts';
import { after, type Instant, NEVER } from '../lib/time.ts';
import type { HandOver } from './message.ts';
import type { ElectionSettings } from './settings.ts';
import type { Claim, Endpoint, MemberName } from './types.ts';

/**
 * The taking side of a planned move. What was offered and accepted is granted at once; when the kernel has it and the
 * segment was told, the owner is told, until it says that it let go.
 *
 *   accepted ──held──► taken ──"released", or TAKEN_TRIES──► (nothing)
 *      └──too late, or the wire or the kernel refused──► declined
 */

/** "Taken" is repeated so often and in this rhythm: the overlap lasts until it arrives. */
const TAKEN_TRIES = 20;
const TAKEN_RETRY_MS = 15;
/** Addresses of one batch become held one after the other, mostly within this. */
const TAKEN_GATHER_MS = 2;
/** Addresses accepted at a time; what is offered beyond is declined, and offered again later. */
const INCOMING_LIMIT = 4_096;

type Batch = {
  readonly seq: number;
  readonly from: MemberName;
  readonly endpoint: Endpoint;
  readonly pending: Set<Ip>;
  readonly taken: Map<Ip, Claim>;
  readonly expiresAt: Instant;
  resendAt: Instant;
  tries: number;
};

export class IncomingHandOvers {
  readonly #self: MemberName;
  readonly #settings: ElectionSettings;
  readonly #send: (to: Endpoint, message: HandOver) => void;
  readonly #batches = new Map<string, Batch>();
  readonly #pending = new Map<Ip, Batch>();

  constructor(self: MemberName, settings: ElectionSettings, send: (to: Endpoint, message: HandOver) => void) {
    this.#self = self;
    this.#settings = settings;
    this.#send = send;
  }

  /** Offers that are not settled with their owner. */
  get size(): number {
    return this.#batches.size;
  }

  /** Whether `ip` was accepted from `from` and is not yet held. */
  isPending(ip: Ip, from: MemberName): boolean {
    return this.#pending.get(ip)?.from === from;
  }

  /** Until when what was accepted and is not yet held may be taken. */
  patientUntil(ip: Ip): Instant | undefined {
    return this.#pending.get(ip)?.expiresAt;
  }

  /**
   * Sorts an offer: `accepted` are to be granted; `taken` are ours already, which is said again; the rest is declined.
   * An offer that is repeated while its batch is under way changes nothing.
   */
  offered(
    offer: HandOver,
    endpoint: Endpoint,
    now: Instant,
    judge: (claim: Claim) => 'accept' | 'decline' | Claim,
  ): readonly Ip[] {
    const key = keyOf(offer);
    const known = this.#batches.get(key);
    const batch = known ?? this.#newBatch(offer, endpoint, now);
    const accepted: Ip[] = [];
    const declined: Claim[] = [];
    for (const claim of offer.claims) {
      if (batch.pending.has(claim.ip) || batch.taken.has(claim.ip)) continue;
      const verdict = this.#pending.size >= INCOMING_LIMIT ? 'decline' : judge(claim);
      if (verdict === 'decline') declined.push(claim);
      else if (verdict === 'accept') {
        this.#pending.get(claim.ip)?.pending.delete(claim.ip);
        batch.pending.add(claim.ip);
        this.#pending.set(claim.ip, batch);
        accepted.push(claim.ip);
      } else {
        batch.taken.set(claim.ip, verdict);
        batch.resendAt = now;
      }
    }
    if (declined.length > 0) this.#send(endpoint, this.#message('declined', offer.seq, declined));
    if (batch.taken.size > 0 && known !== undefined) batch.resendAt = now;
    if (batch.pending.size + batch.taken.size > 0) this.#batches.set(key, batch);
    return accepted;
  }

  /** `ip` is held and `claim` says so to everybody; its old owner is told. */
  held(claim: Claim, now: Instant): void {
    const batch = this.#pending.get(claim.ip);
    if (batch === undefined) return;
    this.#pending.delete(claim.ip);
    batch.pending.delete(claim.ip);
    batch.taken.set(claim.ip, claim);
    batch.tries = 0;
    const soon = batch.pending.size === 0 ? now : after(now, TAKEN_GATHER_MS);
    if (soon < batch.resendAt) batch.resendAt = soon;
  }

  /** It cannot be held after all; the owner, whose claim stands, turns to the next. */
  decline(ip: Ip, standing: Claim | undefined): void {
    const batch = this.#pending.get(ip);
    this.forget(ip);
    if (batch === undefined || standing === undefined) return;
    this.#send(batch.endpoint, this.#message('declined', batch.seq, [standing]));
  }

  /** It is not taken by hand-over any more; the owner knows, or is gone. */
  forget(ip: Ip): void {
    const batch = this.#pending.get(ip);
    if (batch === undefined) return;
    this.#pending.delete(ip);
    batch.pending.delete(ip);
    this.#forgetIfDone(batch);
  }

  /** The old owner let go of all that was taken with this batch. */
  released(from: MemberName, seq: number): void {
    const batch = this.#batches.get(keyOf({ from, seq }));
    if (batch === undefined) return;
    batch.taken.clear();
    batch.resendAt = NEVER;
    this.#forgetIfDone(batch);
  }

  /** Returns what was accepted and took too long: the owner turns to somebody else by now. */
  advance(now: Instant): readonly Ip[] {
    const late: Ip[] = [];
    for (const batch of [...this.#batches.values()]) {
      if (now >= batch.expiresAt) late.push(...batch.pending);
      if (now >= batch.resendAt) this.#sendTaken(batch, now);
    }
    return late;
  }

  deadline(): Instant {
    let first: Instant = NEVER;
    for (const { resendAt, expiresAt, pending } of this.#batches.values()) {
      if (resendAt < first) first = resendAt;
      if (pending.size > 0 && expiresAt < first) first = expiresAt;
    }
    return first;
  }

  #sendTaken(batch: Batch, now: Instant): void {
    batch.tries += 1;
    batch.resendAt = after(now, TAKEN_RETRY_MS);
    this.#send(batch.endpoint, this.#message('taken', batch.seq, [...batch.taken.values()]));
    if (batch.tries < TAKEN_TRIES) return;
    // Gossip tells it as well; who is still deaf is for the members' failure detection.
    batch.taken.clear();
    batch.resendAt = NEVER;
    this.#forgetIfDone(batch);
  }

  #forgetIfDone(batch: Batch): void {
    if (batch.pending.size + batch.taken.size === 0) this.#batches.delete(keyOf(batch));
  }

  #newBatch({ seq, from }: HandOver, endpoint: Endpoint, now: Instant): Batch {
    // Earlier than the owner's own patience, so that two heirs never take the same address.
    const expiresAt = after(now, this.#settings.handOverTimeoutMs * 0.8);
    const pending = new Set<Ip>();
    return { seq, from, endpoint, pending, taken: new Map(), expiresAt, resendAt: NEVER, tries: 0 };
  }

  #message(kind: HandOver['kind'], seq: number, claims: readonly Claim[]): HandOver {
    return { kind, from: this.#self, seq, claims };
  }
}

function keyOf({ from, seq }: { readonly from: MemberName; readonly seq: number }): string {
  return `${seq} ${from}`;
}
