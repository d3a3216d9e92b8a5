import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Adopted } from './kernel-addresses.ts';
import { renewDeadline } from './lifetime.ts';
import type { Held } from './local-types.ts';
import { nextRepairAt, repairedAgain } from './repair-pace.ts';

/**
 * Without `promote_secondaries` the kernel removes the secondary addresses of a subnet right before the primary one, and says
 * so in that order. Put back in between, ours would be the primary one, and the host's own come back as a secondary one.
 */
const OWN_GOES_MS = 20;

/** The kernel counts whole seconds, and a notification is read a moment after it was true. */
const LIFETIME_SLACK_MS = 2_000;

/** What a held address needs now, before its next regular renewal. `lost`: too late for anything but to take it anew. */
export type Upkeep =
  | { readonly kind: 'nothing' | 'renew' | 'restore' | 'repair' | 'lost' }
  | { readonly kind: 'wait'; readonly until: Instant };

/**
 * By what the kernel has of it. A held address that the kernel no longer has was removed by somebody, unless its time
 * was up (`repair`); one with another lifetime than it was given, or other properties, was changed by somebody
 * (`restore`). `isShared`: it has the length of the host's own subnet. One that could not be renewed, or was given another kind of lifetime than it should have now, is renewed.
 */
export function upkeepOf(
  entry: Held,
  present: Adopted | undefined,
  isShared: boolean,
  lifetimeMs: number,
  now: Instant,
): Upkeep {
  if (present !== undefined) entry.missingSince = undefined;
  if (present !== undefined && !isChanged(entry, present, lifetimeMs, now)) {
    const isOfKind = (present.validUntil === NEVER) === (lifetimeMs === 0);
    return { kind: isOfKind && entry.failure === undefined ? 'nothing' : 'renew' };
  }
  if (now >= renewDeadline(entry)) return { kind: 'lost' };
  if (present === undefined) entry.missingSince ??= now;
  const until = Math.max(
    entry.lastRepair === undefined ? now : nextRepairAt(entry.lastRepair),
    present === undefined && isShared ? after(entry.missingSince ?? now, OWN_GOES_MS) : now,
  ) as Instant;
  if (now < until) return { kind: 'wait', until };
  return { kind: present === undefined ? 'repair' : 'restore' };
}

/** One more repair, of whatever kind. */
export function countRepair(entry: Held, now: Instant): void {
  entry.lastRepair = repairedAgain(entry.lastRepair, now);
  entry.isRepairing = true;
  entry.repairs += 1;
}

/** The kernel has done what was last asked of it. Only now can it be undone, which with thousands in a batch is much later. */
export function countDone(entry: Held, now: Instant): void {
  if (entry.isRepairing && entry.lastRepair !== undefined)
    entry.lastRepair = { ...entry.lastRepair, at: now };
  entry.isRepairing = false;
}

function isChanged(entry: Held, present: Adopted, lifetimeMs: number, now: Instant): boolean {
  if (present.isAltered === true || present.isUnrouted === true) return true;
  const given = entry.validUntil;
  if (present.validUntil === NEVER) return given !== NEVER && lifetimeMs !== 0;
  if (given === NEVER) return lifetimeMs === 0;
  // Longer than lbd gave it: it would outlive its daemon. Shorter: it would be gone before it is renewed.
  // One that it is just being given, longer or shorter than the last, is neither.
  const earliest = Math.min(given, after(now, lifetimeMs));
  const latest = Math.max(given, after(now, lifetimeMs));
  return present.validUntil > latest + LIFETIME_SLACK_MS || present.validUntil < earliest - LIFETIME_SLACK_MS;
}
