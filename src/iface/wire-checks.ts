import { formatPrefix, type Ip, type Prefix, prefixContains } from '../lib/ip.ts';
import { after, earliest, type Instant, NEVER } from '../lib/time.ts';
import type { TokenBucket } from '../lib/token-bucket.ts';
import type { ProbeFrame } from './probing.ts';
import { SAMPLES, TAKE_OVER_PROBE_INTERVAL_MS, TAKE_OVER_PROBES } from './take-over.ts';
import type { IfIndex } from './types.ts';

/**
 * What this host holds may have been taken by others while it did not run or heard nobody. When a peer has confirmed its
 * claims, the wire is asked as well before any of that is renewed or announced again (safety rule 3). A few addresses
 * stand for all of a subnet, each time others, because who takes over takes all that it can.
 *
 *   (none) ──renewals allowed again──► asking ──3 probes, silence──► (none): go on
 *     ▲                                  │ └──a member answers──► comparing ──COMPARE_MS──► (none): go on
 *     └───────────forbidden again────────┴──────────────────────────┘
 *
 * comparing: all others are asked for, each once; who answers is told the claims, and whoever has the lower epoch lets go.
 *
 * The lifetimes run meanwhile. A host that stops over and over, so that no question of its own comes to an end, is content
 * with a short one after INTERRUPTIONS; nor is a NIC waited for that takes no frames, as a peer was heard on it.
 */
export const WIRE_CHECK_MS = TAKE_OVER_PROBES * TAKE_OVER_PROBE_INTERVAL_MS;
/** For the claims to go to a member that answers and, when they are outdated, for its word to come back. */
export const COMPARE_MS = 200;
export const INTERRUPTIONS = 3;
const SHORT_MS = 5;
const UNSENT_RETRY_MS = 50;
const UNSENT_RETRIES = 5;

/** A subnet of a NIC; all its subnets, or all NICs, when they are undefined. */
export type Scope = { readonly ifIndex: IfIndex | undefined; readonly subnet?: Prefix | undefined };

type Held = { readonly ip: Ip; readonly ifIndex: IfIndex };

type Check = {
  readonly scope: Scope;
  /** It is about what was held before. */
  readonly startedAt: Instant;
  readonly held: readonly Held[];
  readonly samples: readonly Held[];
  readonly intervalMs: number;
  /** Rounds of probes that are still to be sent. */
  rounds: number;
  /** The next round, or the end. */
  nextAt: Instant;
  unsent: number;
  /** While comparing: those to be asked for. */
  others: Held[] | undefined;
};

export type CheckRound = { readonly frames: readonly ProbeFrame[]; readonly ended: readonly Scope[] };

const NOTHING: CheckRound = { frames: [], ended: [] };

export class WireChecks {
  readonly #budget: TokenBucket;
  readonly #checks = new Map<string, Check>();
  /** How many checks in a row did not come to their end. */
  readonly #interrupted = new Map<string, number>();
  #turn = 0;

  constructor(budget: TokenBucket) {
    this.#budget = budget;
  }

  /** `held` there, in any order, is not to be renewed before its check has ended. */
  begin(scope: Scope, held: readonly Held[], now: Instant): void {
    const key = keyOf(scope);
    if (held.length === 0) {
      this.#interrupted.delete(key);
      return;
    }
    const isShort = (this.#interrupted.get(key) ?? 0) >= INTERRUPTIONS;
    this.#turn += 1;
    this.#checks.set(key, {
      scope,
      startedAt: now,
      held,
      samples: spread(held, this.#turn),
      intervalMs: isShort ? SHORT_MS : TAKE_OVER_PROBE_INTERVAL_MS,
      rounds: isShort ? 1 : TAKE_OVER_PROBES,
      nextAt: now,
      unsent: 0,
      others: undefined,
    });
  }

  /** Nothing may be renewed there again. */
  interrupt(scope: Scope): void {
    const keys = scope.ifIndex === undefined ? [...this.#checks.keys()] : [keyOf(scope)];
    for (const key of keys)
      if (this.#checks.delete(key)) this.#interrupted.set(key, (this.#interrupted.get(key) ?? 0) + 1);
  }

  /** Whether an address that is held since then waits for the end of a check. */
  covers(ifIndex: IfIndex, ip: Ip, since: Instant): boolean {
    for (const { scope, startedAt } of this.#checks.values())
      if (since < startedAt && isIn(scope, ifIndex, ip)) return true;
    return false;
  }

  /** A member says that it has an address that is held here. */
  memberHeard(ifIndex: IfIndex, ip: Ip, now: Instant): void {
    for (const check of this.#checks.values()) {
      if (check.others !== undefined || !isIn(check.scope, ifIndex, ip)) continue;
      check.others = check.held.filter((held) => !check.samples.includes(held));
      check.nextAt = after(now, COMPARE_MS);
    }
  }

  /** The NIC did not take the last frames for these: silence after them means nothing. */
  unsent(ips: readonly Ip[], now: Instant): void {
    for (const check of this.#checks.values()) {
      if (check.others !== undefined || check.unsent >= UNSENT_RETRIES) continue;
      if (!check.samples.some(({ ip }) => ips.includes(ip))) continue;
      check.unsent += 1;
      check.rounds += 1;
      check.nextAt = after(now, UNSENT_RETRY_MS);
    }
  }

  /** Sends what is due and affordable; what has `ended` may be renewed, as far as it is still held. */
  advance(now: Instant): CheckRound {
    if (this.#checks.size === 0) return NOTHING;
    const frames: ProbeFrame[] = [];
    const ended: Scope[] = [];
    for (const [key, check] of this.#checks) {
      const asked = check.others === undefined ? this.#askSamples(check, now) : this.#askOthers(check, now);
      for (const { ip, ifIndex } of asked) frames.push({ ip, ifIndex });
      if (check.rounds > 0 || now < check.nextAt || (check.others?.length ?? 0) > 0) continue;
      this.#checks.delete(key);
      this.#interrupted.delete(key);
      ended.push(check.scope);
    }
    return { frames, ended };
  }

  deadline(): Instant {
    let first: Instant = NEVER;
    for (const check of this.#checks.values()) {
      if (check.others !== undefined && check.others.length > 0) return this.#budget.readyAt(1);
      first = earliest(first, check.nextAt);
    }
    if (first === NEVER) return NEVER;
    const affordable = this.#budget.readyAt(SAMPLES);
    return affordable !== NEVER && affordable > first ? affordable : first;
  }

  #askSamples(check: Check, now: Instant): readonly Held[] {
    const { samples, intervalMs } = check;
    if (check.rounds === 0 || now < check.nextAt || this.#budget.available(now) < samples.length) return [];
    this.#budget.take(samples.length, now);
    check.rounds -= 1;
    check.nextAt = after(now, intervalMs);
    return samples;
  }

  #askOthers(check: Check, now: Instant): readonly Held[] {
    check.rounds = 0;
    const { others = [], nextAt } = check;
    const asked = others.splice(0, this.#budget.take(others.length, now));
    const listenUntil = after(now, TAKE_OVER_PROBE_INTERVAL_MS);
    if (asked.length > 0 && listenUntil > nextAt) check.nextAt = listenUntil;
    return asked;
  }
}

function keyOf({ ifIndex, subnet }: Scope): string {
  return `${ifIndex ?? ''} ${subnet === undefined ? '' : formatPrefix(subnet)}`;
}

function isIn({ ifIndex, subnet }: Scope, on: IfIndex, ip: Ip): boolean {
  return (ifIndex === undefined || ifIndex === on) && (subnet === undefined || prefixContains(subnet, ip));
}

/** SAMPLES of them, as far from each other as can be. */
function spread(held: readonly Held[], turn: number): readonly Held[] {
  const count = Math.min(SAMPLES, held.length);
  return Array.from({ length: count }, (_, index) =>
    held.at((turn + Math.floor((index * held.length) / count)) % held.length),
  ).filter((each) => each !== undefined);
}
