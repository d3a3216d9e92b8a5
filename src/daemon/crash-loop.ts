import { rmSync } from 'node:fs';
import { type Environment, pause, remember, remembered, runtimeFile } from './restart-pause.ts';

/**
 * What keeps an lbd that crashes again and again from being started twenty times a second, whatever ends it: a bug, a
 * signal, the kernel's lack of memory.
 *
 * Each start is noted, and the note goes when lbd ends in order. So whoever finds notes follows crashes. The first
 * restarts come at once, so that no address is missed; with the fifth start within a minute, lbd waits before it starts:
 * 1 s, then twice as long each time, at most 10 s and never more than a third of the addresses' lifetime, so that a start
 * that works for a moment still renews them. A change of the configuration ends the wait, and so does a stop.
 */

const WITHIN_MS = 60_000;
const STARTS_AT_ONCE = 4;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
/** More would change no pause. */
const NOTES_MAX = 10;

export type CrashLoopOptions = {
  /** Files and directories whose change ends the pause. */
  readonly watched: readonly string[];
  /** Of local addresses; 0 when they have none. */
  readonly lifetimeMs: number;
  /** By a clock that goes on from one process to the next. */
  readonly nowMs: number;
  /** Called before the pause. */
  readonly onPause: (crashes: number, pauseMs: number) => void;
};

/**
 * Notes this start, after the pause that the crashes before it ask for. Resolves with `stopped` when SIGTERM came in the
 * pause, else with `start`; never rejects.
 */
export async function beforeStart(
  options: CrashLoopOptions,
  environment: Environment,
): Promise<'start' | 'stopped'> {
  const file = notesFile(environment);
  if (file === undefined) return 'start';
  const { nowMs, lifetimeMs, watched } = options;
  const crashed = notesOf(remembered(file)).filter((atMs) => atMs <= nowMs && nowMs - atMs < WITHIN_MS);
  const pauseMs = pauseBefore(crashed.length, lifetimeMs);
  // A note that cannot be written costs nothing: a kill must not wait because of a full disk.
  remember(file, [...crashed, nowMs].slice(-NOTES_MAX));
  if (pauseMs === 0) return 'start';
  options.onPause(crashed.length, pauseMs);
  const status = `crashed ${crashed.length} times within a minute; starts in ${pauseMs / 1_000} s, or when the configuration changes`;
  if ((await pause({ pauseMs, status, watched }, environment)) === 'over') return 'start';
  endedInOrder(environment);
  return 'stopped';
}

/** lbd ends as it was asked to, or for a reason that it can name: whatever crashed before counts no more. */
export function endedInOrder(environment: Environment): void {
  const file = notesFile(environment);
  if (file === undefined) return;
  try {
    rmSync(file, { force: true });
  } catch {
    // It may cost a pause.
  }
}

/** How long to wait before a start that so many crashed ones came before within a minute, in ms. */
export function pauseBefore(crashes: number, lifetimeMs: number): number {
  if (crashes < STARTS_AT_ONCE) return 0;
  const longestMs = lifetimeMs > 0 ? Math.min(LONGEST_PAUSE_MS, lifetimeMs / 3) : LONGEST_PAUSE_MS;
  return Math.min(FIRST_PAUSE_MS * 2 ** (crashes - STARTS_AT_ONCE), longestMs);
}

function notesFile(environment: Environment): string | undefined {
  return runtimeFile(environment, 'starts.json');
}

function notesOf(value: unknown): readonly number[] {
  return Array.isArray(value) ? value.filter((atMs) => Number.isFinite(atMs)) : [];
}
