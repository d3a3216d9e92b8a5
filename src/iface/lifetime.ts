import { after, type Instant, NEVER } from '../lib/time.ts';
import type { Held, Target } from './local-types.ts';

/**
 * The dead-man's switch (safety rule 2): the kernel removes what is not renewed. Renewed when a quarter of the lifetime
 * is over, and when that fails several times more; never renewed when more than half is, because the kernel creates an
 * absent address on RTM_NEWADDR with NLM_F_REPLACE (net/ipv4/devinet.c, inet_rtm_newaddr), and an address that expired
 * may have another owner by now.
 */
const RENEW_FRACTION = 0.25;
/**
 * Renewing takes at most this share of a core: with more addresses than that allows, the lifetime is longer than configured
 * (docs/adr/0008-lifetimes-grow-with-the-addresses.md).
 */
const RENEWAL_SHARE = 0.04;
/** What one renewal costs, in the kernel and here. */
const RENEWAL_MS = 0.05;
/** For each one of v6, the kernel looks at every v6 address of the host (addrconf_verify_rtnl in net/ipv6/addrconf.c). */
const V6_WALK_MS = 0.0004;
/** No longer than this for the sake of cost: what a dead lbd left behind must not stay for a day. */
const LONGEST_GROWN_MS = 3_600_000;
const DEADLINE_FRACTION = 0.5;
const RETRY_FRACTION = 1 / 32;
const RETRY_LEAST_MS = 250;

/** Addresses that are renewed, by family, and all that the host has of v6: its own and virtual ones as well. */
export type RenewalLoad = { readonly v4: number; readonly v6: number; readonly v6OfHost: number };

/** What one renewal of all costs, in milliseconds of a core. */
export function renewalCostMs({ v4, v6, v6OfHost }: RenewalLoad): number {
  return (v4 + v6) * RENEWAL_MS + v6 * v6OfHost * V6_WALK_MS;
}

/**
 * The lifetime that addresses get: `configuredMs`, or the first multiple of it with which renewing takes no more than its
 * share of a core. 0 is permanent and stays so.
 */
export function lifetimeFor(configuredMs: number, load: RenewalLoad): number {
  if (configuredMs === 0) return 0;
  const neededMs = renewalCostMs(load) / (RENEWAL_SHARE * RENEW_FRACTION);
  const grownMs = Math.ceil(neededMs / configuredMs) * configuredMs;
  return Math.max(configuredMs, Math.min(grownMs, LONGEST_GROWN_MS));
}

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
    member: undefined,
    failure: undefined,
    repairs: 0,
    missingSince: undefined,
    lastRepair: undefined,
    isRepairing: false,
  };
}

/** When the next renewal of a batch renewed at `now` is due; NEVER for permanent addresses. */
export function nextRenewal(now: Instant, lifetimeMs: number): Instant {
  return lifetimeMs === 0 ? NEVER : after(now, lifetimeMs * RENEW_FRACTION);
}

/**
 * When what an earlier life left is renewed first: not at once, so that a restart writes nothing, unless more than half of
 * the lifetime is over.
 */
export function adoptedRenewal(now: Instant, validUntil: Instant, lifetimeMs: number): Instant {
  const leftMs = validUntil - now;
  const isFresh = leftMs >= lifetimeMs / 2 && validUntil !== NEVER;
  return isFresh ? after(now, leftMs * RENEW_FRACTION) : now;
}

/** Until when `held` may be renewed: half of what it had when it was renewed last, or adopted. */
export function renewDeadline({ validUntil, renewedAt }: Held): Instant {
  return validUntil === NEVER ? NEVER : after(renewedAt, (validUntil - renewedAt) * DEADLINE_FRACTION);
}

/** How long after a failed renewal the next attempt is made. */
export function renewRetryMs(lifetimeMs: number): number {
  return Math.max(RETRY_LEAST_MS, lifetimeMs * RETRY_FRACTION);
}
