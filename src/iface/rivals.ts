import { after, type Instant } from '../lib/time.ts';
import type { Held } from './local-types.ts';
import type { Mac } from './types.ts';

/** RFC 5227 2.4 (b): an address is defended at most once in DEFEND_INTERVAL. */
export const DEFEND_INTERVAL_MS = 10_000;
/** A rival on the wire is shown so long after it was last heard. */
export const RIVAL_SHOWN_MS = 60_000;

/** A member that claims it is shown as long as it goes on: one frame is that of a hand-over, or of a host that is just back. */
export const MEMBER_SHOWN_MS = 2_000;

/** A member that goes on claiming an address is told of again after so long: what the election then says may be lost. */
const MEMBER_REPORT_MS = 200;

/** Somebody who is no member said that it has an address that is held here: whether to defend it, and to report. */
export function hearRival(
  entry: Held,
  mac: Mac,
  now: Instant,
): { readonly defend: boolean; readonly report: boolean } {
  const { rival } = entry;
  const defendedAt = rival?.defendedAt;
  const isQuiet = defendedAt !== undefined && now < after(defendedAt, DEFEND_INTERVAL_MS);
  const news = rival?.mac !== mac || now > after(rival.heardAt, RIVAL_SHOWN_MS);
  // A segment full of liars must not fill the log: a rival is news no more often than the address is defended.
  const shown = isQuiet ? (rival?.mac ?? mac) : mac;
  entry.rival = { mac: shown, heardAt: now, defendedAt: isQuiet ? defendedAt : now };
  return { defend: !isQuiet, report: !isQuiet && news };
}

/** A member said so: whether to report. */
export function hearMember(entry: Held, mac: Mac, now: Instant): boolean {
  const { member } = entry;
  const isOngoing = member?.mac === mac && now <= after(member.heardAt, MEMBER_SHOWN_MS);
  entry.member = { mac, since: isOngoing ? member.since : now, heardAt: now };
  return member?.mac !== mac || now > after(member.heardAt, MEMBER_REPORT_MS);
}
