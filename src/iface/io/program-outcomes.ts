import type { Outcome, Program } from '../local-types.ts';
import { type AddressKey, addressKey, type Observed } from '../observed.ts';
import type { RequestOutcome } from './rtnetlink.ts';

/** What the kernel's answers to requests for local addresses say. */

/** After these the kernel may have the address: its answer got lost. */
const UNCERTAIN: ReadonlySet<string> = new Set([
  'EIO',
  'ENOBUFS',
  'ETIMEDOUT',
  'ECANCELED',
  'EMSGSIZE',
  'EPROTO',
]);

/** The kernel's answers, by the requests as the machine made them. */
export function named(requests: readonly Program[], outcomes: readonly RequestOutcome[]): readonly Outcome[] {
  return requests.map((request, index): Outcome => {
    const outcome = outcomes[index];
    if (outcome?.ok === true) return { ok: true, request };
    return failure(
      request,
      outcome?.errno ?? 'EIO',
      outcome?.message ?? `no answer from the kernel for ${request.ip}`,
    );
  });
}

export function failure(request: Program, errno: string, message: string): Extract<Outcome, { ok: false }> {
  return { ok: false, request, errno, message };
}

/** What the kernel gave the host and has taken away since, which it told before its answer: a link may go at any time. */
export function goneSince(
  outcomes: readonly Outcome[],
  addresses: Observed['addresses'],
): readonly Program[] {
  return outcomes.flatMap(({ ok, request }) =>
    ok && request.op !== 'remove' && !addresses.has(addressKey(request)) ? [request] : [],
  );
}

/** Which are lbd's no more, by the last word on each address, as one batch may remove and add the same. */
export function ownershipOf(outcomes: readonly Outcome[]): {
  readonly removed: readonly Program[];
  readonly refused: readonly Program[];
} {
  const removed = new Map<AddressKey, Program>();
  const refused: Program[] = [];
  for (const outcome of outcomes) {
    const { request } = outcome;
    if (!outcome.ok) {
      if (request.op === 'add' && !UNCERTAIN.has(outcome.errno)) refused.push(request);
    } else if (request.op === 'remove') removed.set(addressKey(request), request);
    else removed.delete(addressKey(request));
  }
  return { removed: [...removed.values()], refused };
}
