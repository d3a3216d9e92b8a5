import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { type Environment, pause, remember, remembered, runtimeFile } from './restart-pause.ts';

/**
 * What keeps an lbd that cannot start from being started twenty times a second.
 *
 * The first failure ends the process at once, so that `systemctl start` tells of it at once. When the start before this one
 * failed in the same way, the process stays for a while before it ends: 1 s, then twice as long each time, at most 10 s.
 * A change of the configuration ends the wait, and so does a stop.
 */

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;

/** A failure, and how often it has come in a row. */
type Memory = { readonly failure: string; readonly times: number };

/**
 * Stays as long as it takes, after the failure was printed. `watched` are files and directories whose change promises
 * another outcome. Resolves with `stopped` when SIGTERM came, else with `failed`; never rejects.
 */
export async function afterFailedStart(
  failure: string,
  watched: readonly string[],
  environment: Environment,
): Promise<'failed' | 'stopped'> {
  const file = memoryFile(environment);
  if (file === undefined) return 'failed';
  const known = remembered(file);
  const hash = createHash('sha256').update(failure).digest('hex');
  const times = isMemory(known) && known.failure === hash ? known.times + 1 : 1;
  // Where nothing can be remembered, no failure is known to be the first.
  const pauseMs = remember(file, { failure: hash, times }) ? pauseAfter(times) : LONGEST_PAUSE_MS;
  if (pauseMs === 0) return 'failed';
  const status = `cannot start; tries again in ${pauseMs / 1_000} s, or when the configuration changes`;
  const outcome = await pause({ pauseMs, status, watched }, environment);
  if (outcome === 'over') return 'failed';
  // A stop or a restart that was asked for: the next failure is news again.
  forgetFailedStarts(environment);
  return 'stopped';
}

/** lbd has started: what failed before counts no more. */
export function forgetFailedStarts(environment: Environment): void {
  const file = memoryFile(environment);
  if (file === undefined) return;
  try {
    rmSync(file, { force: true });
  } catch {
    // It costs a pause some day.
  }
}

/** How long to stay when the same start has failed so many times in a row, in ms. */
export function pauseAfter(times: number): number {
  return times <= 1 ? 0 : Math.min(FIRST_PAUSE_MS * 2 ** (times - 2), LONGEST_PAUSE_MS);
}

function memoryFile(environment: Environment): string | undefined {
  return runtimeFile(environment, 'failed-start.json');
}

function isMemory(value: unknown): value is Memory {
  if (typeof value !== 'object' || value === null || !('failure' in value) || !('times' in value))
    return false;
  return typeof value.failure === 'string' && Number.isSafeInteger(value.times);
}
