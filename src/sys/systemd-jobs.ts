import { execFileSync } from 'node:child_process';
import { errorText } from '../lib/errors.ts';

/**
 * Its answer takes some 10 ms, and on a host short of processor time a second: without one, a planned restart would cost
 * the addresses. A service manager that does not answer at all must not hold up a stop.
 */
const ANSWER_TIMEOUT_MS = 5_000;

/** What systemd is about to do with a unit: the types of its queued jobs (systemd's src/core/job.c), or why that is unknown. */
export type QueuedJobs =
  | { readonly kind: 'known'; readonly types: readonly string[] }
  | { readonly kind: 'unknown'; readonly reason: string };

/** Asks systemctl, which any user may, over the D-Bus system bus. Never throws. */
export function queuedJobs(unit: string): QueuedJobs {
  try {
    const listing = execFileSync(
      'systemctl',
      ['list-jobs', '--full', '--plain', '--no-legend', '--no-pager', unit],
      {
        encoding: 'utf8',
        timeout: ANSWER_TIMEOUT_MS,
        killSignal: 'SIGKILL',
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    return { kind: 'known', types: parseJobs(listing, unit) };
  } catch (thrown) {
    return { kind: 'unknown', reason: errorText(thrown).trim() };
  }
}

/** The job types of a unit in the lines of `systemctl list-jobs`: number, unit, type, state. */
export function parseJobs(listing: string, unit: string): readonly string[] {
  return listing.split('\n').flatMap((line) => {
    const [number, name, type] = line.trim().split(/\s+/);
    return name === unit && type !== undefined && /^\d+$/.test(number ?? '') ? [type] : [];
  });
}
