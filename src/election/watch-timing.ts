import type { ElectionSettings } from './settings.ts';

/**
 * When a silent neighbour is asked and judged, and when a silent segment makes this host let go; all counted from the
 * last packet heard. With the `lan` profile:
 *
 *   neighbour   0 ··50··100────────150─────────────200      heartbeats expected at 50, 100, 150
 *                        └ nudges ─┴─ inquiry ──────┴ verdict
 *   segment     0 ··50··100────────150
 *                        └ asks ────┴ isolated
 *
 * A nudge is ASKS_PER_SLOT urgent heartbeats, every `inquiryEveryMs`; the inquiry asks as well through `indirect` other
 * members and over the watch connection. For a silent segment there are SEGMENT_ASKS urgent heartbeats beside, to others
 * of the segment if there are such, and the reference addresses are asked.
 *
 * How likely is it that all of this is lost to a healthy neighbour, when each packet is lost with probability p? A
 * heartbeat is lost with p, an ask or its answer with a = 1 - (1-p)^2, an ask through another member with
 * b = 1 - (1-p)^4. With m missed heartbeats, s slots of nudges, i slots of inquiry, k members asked each time, n neighbours of this host:
 *
 *   false verdict    p^m · a^(2s) · (a^2 · b^k)^i         lan, p = 0.05, k = 0:  8e-25    p = 0.3, k = 0:  4e-8
 *   false isolation  p^(2n) · a^((3+2n)s)                 lan, p = 0.05, n = 1:  1e-28    p = 0.3, n = 1:  4e-9
 *
 * for each heartbeat that is heard, without counting on the watch connection or a reference.
 * `test/unit/election/watch-odds.test.ts` holds the machine against these formulas. Loss in bursts longer than the asks
 * is not loss but an outage: there the wire decides.
 */
export type WatchTiming = {
  readonly heartbeatMs: number;
  readonly everyMs: number;
  readonly nudgeAfterMs: number;
  readonly inquireAfterMs: number;
  readonly inquiryMs: number;
  readonly verdictMs: number;
  /** Asks that must have been made in an inquiry, however late the timer: less would judge a host by one's own pause. */
  readonly inquirySlots: number;
  readonly isolationMs: number;
  readonly isolationAskMs: number;
  /** A neighbour that says that it let go is believed after so long, as it may be answered this very moment. */
  readonly letGoMs: number;
  readonly overrunMs: number;
  readonly indirect: number;
};

export const ASKS_PER_SLOT = 2;
export const SEGMENT_ASKS = 3;
/** The least number of rounds of asks before a host calls itself isolated; late timers make it wait for them. */
export const MIN_SEGMENT_SLOTS = 2;

/** From the last packet of a member to its neighbours' verdict. */
export function verdictMs(settings: ElectionSettings): number {
  const { heartbeatMs, missedHeartbeats, heartbeatSlackMs, inquiryMs } = settings;
  return heartbeatMs * missedHeartbeats + heartbeatSlackMs + inquiryMs;
}

export function watchTiming(settings: ElectionSettings): WatchTiming {
  const { heartbeatMs, missedHeartbeats, heartbeatSlackMs, inquiryMs, inquiryEveryMs } = settings;
  return {
    heartbeatMs,
    everyMs: inquiryEveryMs,
    nudgeAfterMs: heartbeatMs * (missedHeartbeats - 1) + heartbeatSlackMs,
    inquireAfterMs: heartbeatMs * missedHeartbeats + heartbeatSlackMs,
    inquiryMs,
    verdictMs: verdictMs(settings),
    inquirySlots: Math.max(1, Math.ceil(inquiryMs / inquiryEveryMs) - 1),
    isolationMs: settings.isolationMs,
    isolationAskMs: settings.isolationMs - Math.min(inquiryMs, settings.isolationMs),
    letGoMs: 2 * heartbeatMs,
    overrunMs: settings.overrunMs,
    indirect: settings.indirect,
  };
}
