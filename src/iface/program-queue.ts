import { familyOf } from '../lib/ip.ts';
import { earliest, type Instant, NEVER } from '../lib/time.ts';
import type { Program } from './local-types.ts';

/** So many go to the kernel at once; a removal waits for no more than these. On a NIC with 10,000 addresses that is 13 ms. */
const BATCH_REQUESTS = 64;
/** Each takes the kernel 0.4 ms for every thousand v6 addresses of the host, and there may be 10,000. */
const BATCH_V6_RENEWALS = 16;

/** Not sent at all once the deadline has passed. */
export type Batch = { readonly requests: Program[]; deadline: Instant | undefined };

/**
 * What the kernel is still to be asked for local addresses, in which order. Removals overtake what is to be added, because
 * an address must not be in two places; both overtake renewals, of which thousands take the kernel seconds. Bounded by the
 * addresses, as each has at most a few requests under way.
 */
export class ProgramQueue {
  #removals: Program[] = [];
  readonly #additions: Batch[] = [];
  readonly #renewals: Batch[] = [];

  push(requests: readonly Program[], deadline: Instant | undefined): void {
    for (const request of requests) {
      if (request.op === 'remove') this.#removals.push(request);
      else if (request.op === 'add') batchFor(this.#additions, deadline, BATCH_REQUESTS).push(request);
      else {
        const limit = familyOf(request.ip) === 'v6' ? BATCH_V6_RENEWALS : BATCH_REQUESTS;
        batchFor(this.#renewals, deadline, limit).push(request);
      }
    }
  }

  /** What goes next, all at once; undefined when nothing is left. */
  take(): Batch | undefined {
    const requests = this.#removals;
    this.#removals = [];
    if (requests.length > 0) return { requests, deadline: undefined };
    return this.#additions.shift() ?? this.#renewals.shift();
  }
}

/** The last of `batches` that has room and is bounded as well, or a new one; a bounded batch is bounded by its earliest. */
function batchFor(batches: Batch[], deadline: Instant | undefined, limit: number): Program[] {
  const last = batches.at(-1);
  const isSameKind = last !== undefined && (last.deadline === undefined) === (deadline === undefined);
  if (isSameKind && last.requests.length < limit) {
    last.deadline = deadline === undefined ? undefined : earliest(deadline, last.deadline ?? NEVER);
    return last.requests;
  }
  const batch: Batch = { requests: [], deadline };
  batches.push(batch);
  return batch.requests;
}
