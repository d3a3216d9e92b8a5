import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Adopted } from './kernel-addresses.ts';
import { renewDeadline } from './lifetime.ts';
import type { Held } from './local-types.ts';

/** Repairs of one address closer together than this wait, so that two programs at war do not burn the host. */
const REPAIR_INTERVAL_MS = 50;

/** What a held address needs now, before its next regular renewal. `lost`: too late for anything but to take it anew. */
export type Upkeep =
  | { readonly kind: 'nothing' | 'renew' | 'repair' | 'lost' }
  | { readonly kind: 'wait'; readonly until: Instant };

/**
 * By what the kernel has of it. A held address that the kernel no longer has was removed by somebody, unless its time
 * was up; one with another kind of lifetime was changed by somebody.
 */
export function upkeepOf(
  entry: Held,
  present: Adopted | undefined,
  lifetimeMs: number,
  now: Instant,
): Upkeep {
  if (present !== undefined) {
    const isPermanent = present.validUntil === NEVER;
    const isAsMeant = isPermanent === (lifetimeMs === 0) && entry.failure === undefined;
    return { kind: isAsMeant ? 'nothing' : 'renew' };
  }
  if (now >= renewDeadline(entry)) return { kind: 'lost' };
  const until = entry.repairedAt === undefined ? now : after(entry.repairedAt, REPAIR_INTERVAL_MS);
  return now < until ? { kind: 'wait', until } : { kind: 'repair' };
}
