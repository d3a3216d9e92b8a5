import type { QueuedJobs } from '../sys/systemd-jobs.ts';

/**
 * Whether systemd starts the service again after the stop that is under way, as told to a command of ExecStopPost.
 *
 *   job of the unit       $SERVICE_RESULT     lbd comes back
 *   restart, start        any                 yes: systemctl restart, an upgrade, a start during the stop
 *   stop                  any                 no: systemctl stop, a shutdown, also of an lbd that had to be killed
 *   none, or unknown      not "success"       yes, by Restart=always: killed, crashed, hung
 *   none, or unknown      "success", absent   no: ended by hand, or not called by systemd at all
 *
 * When it is unsure the kernel's lifetime has the last word: an address that was left is gone in seconds.
 */
export function restartFollows(serviceResult: string | undefined, jobs: QueuedJobs): boolean {
  const types = jobs.kind === 'known' ? jobs.types : [];
  if (types.some((type) => STARTING_JOBS.has(type))) return true;
  if (types.includes('stop')) return false;
  return serviceResult !== undefined && serviceResult !== '' && serviceResult !== 'success';
}

/** The job types that end in a running service. While a restart stops the old process its job still says `restart`. */
const STARTING_JOBS: ReadonlySet<string> = new Set(['restart', 'try-restart', 'start', 'reload-or-start']);
