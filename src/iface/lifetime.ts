import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Held, Target } from './local-types.ts';

/**
 * The dead-man's switch (safety rule 2): the kernel removes what is not renewed. Renewed when a quarter of the lifetime
 * is over, and when that fails several times more; never renewed when more than half is, because the kernel creates an
 * absent address on RTM_NEWADDR with NLM_F_REPLACE (net/ipv4/devinet.c, inet_rtm_newaddr), and an address that expired
 * may have another owner by now.
 */
const RENEW_FRACTION = 0.25;
const DEADLINE_FRACTION = 0.5;
const RETRY_FRACTION = 1 / 32;
const RETRY_LEAST_MS = 250;

/** An address that the kernel has from `now` on, until `validUntil`. */
export function newlyHeld(target: Target, validUntil: Instant, now: Instant): Held {
  return {
    status: 'held',
    target,
    since: now,
    validUntil,
    renewedAt: now,
    graceUntil: undefined,
    aside: undefined,
    rival: undefined,
    failure: undefined,
    repairs: 0,
    repairedAt: undefined,
    repairPauseMs: 0,
  };
}

/** When the next renewal of a batch renewed at `now` is due; NEVER for permanent addresses. */
export function nextRenewal(now: Instant, lifetimeMs: number): Instant {
  return lifetimeMs === 0 ? NEVER : after(now, lifetimeMs * RENEW_FRACTION);
}

/** Until when `held` may be renewed: half of what it had when it was renewed last, or adopted. */
export function renewDeadline({ validUntil, renewedAt }: Held): Instant {
  return validUntil === NEVER ? NEVER : after(renewedAt, (validUntil - renewedAt) * DEADLINE_FRACTION);
}

/** How long after a failed renewal the next attempt is made. */
export function renewRetryMs(lifetimeMs: number): number {
  return Math.max(RETRY_LEAST_MS, lifetimeMs * RETRY_FRACTION);
}
