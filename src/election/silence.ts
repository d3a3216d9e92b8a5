import { after, type Instant, NEVER } from '../lib/time.ts';
import type { SilenceUpdate } from './message.ts';
import type { Silence } from './types.ts';

/** Why a member counts as gone, for people. */
export const SILENCE_WORDS: Readonly<Record<Silence['why'], string>> = {
  silent: 'nothing is heard of it',
  'process-gone': 'its lbd ended',
  restarting: 'its lbd is restarting',
  isolated: 'it says that it is isolated',
};

/** A silence as it goes to another member, whose clock is another: ages for instants. */
export function toSilenceUpdate(silence: Silence, now: Instant): SilenceUpdate {
  const { why, lastHeardAt, leaseEndsAt } = silence;
  return {
    why,
    silentMs: Math.max(0, now - lastHeardAt),
    leaseLeftMs: leaseEndsAt === NEVER ? undefined : Math.max(0, leaseEndsAt - now),
  };
}

/** A silence as another member told it. The way here makes it look shorter, never longer. */
export function fromSilenceUpdate(update: SilenceUpdate, now: Instant): Silence {
  const { why, silentMs, leaseLeftMs } = update;
  const leaseEndsAt = leaseLeftMs === undefined ? NEVER : after(now, leaseLeftMs);
  return { why, lastHeardAt: after(now, -silentMs), leaseEndsAt };
}

/** Of two reasons the one that knows more holds: what a host says of itself, then what its watch connection told. */
const REASON_RANK: Readonly<Record<Silence['why'], number>> = {
  silent: 0,
  'process-gone': 1,
  isolated: 2,
  restarting: 3,
};

/** Two reports of one silence, in any order: heard is heard, so the later instants hold. */
export function joinSilences(known: Silence | undefined, told: Silence): Silence {
  if (known === undefined) return told;
  const why = REASON_RANK[known.why] >= REASON_RANK[told.why] ? known.why : told.why;
  const lastHeardAt = known.lastHeardAt > told.lastHeardAt ? known.lastHeardAt : told.lastHeardAt;
  const leaseEndsAt = known.leaseEndsAt > told.leaseEndsAt ? known.leaseEndsAt : told.leaseEndsAt;
  return { why, lastHeardAt, leaseEndsAt };
}
