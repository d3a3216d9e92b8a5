import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Endpoint } from './types.ts';

/** Overflow: a request beyond it is not served; its sender asked others as well. */
export const RELAY_LIMIT = 256;

export type Requester = { readonly to: Endpoint; readonly seq: number };

type Relay = Requester & { readonly dueAt: Instant };

/** Probes on behalf of others, each under a number of its own until it is answered or too old to be. */
export class Relays {
  /** In the order of their time, as is each map that only grows at its end. */
  readonly #waiting = new Map<number, Relay>();
  readonly #late = new Map<number, Relay>();

  /** Whether there is room for it; no answer until `nackAt` is told to the requester. */
  add(ownSeq: number, requester: Requester, nackAt: Instant): boolean {
    if (this.#waiting.size >= RELAY_LIMIT) return false;
    this.#waiting.set(ownSeq, { ...requester, dueAt: nackAt });
    return true;
  }

  /** Who waits for this answer. */
  acked(ownSeq: number): Requester | undefined {
    const relay = this.#waiting.get(ownSeq) ?? this.#late.get(ownSeq);
    this.#waiting.delete(ownSeq);
    this.#late.delete(ownSeq);
    return relay;
  }

  deadline(): Instant {
    const first = this.#waiting.values().next();
    return first.done === true ? NEVER : first.value.dueAt;
  }

  /** A requester that is to be told that there is no answer so far; to be called until there is none. */
  takeOverdue(now: Instant, keepMs: number): Requester | undefined {
    for (const [seq, relay] of this.#late) {
      if (relay.dueAt > now) break;
      this.#late.delete(seq);
    }
    const first = this.#waiting.entries().next();
    if (first.done === true || first.value[1].dueAt > now) return undefined;
    const [seq, relay] = first.value;
    this.#waiting.delete(seq);
    if (this.#late.size < RELAY_LIMIT) this.#late.set(seq, { ...relay, dueAt: after(now, keepMs) });
    return relay;
  }
}
