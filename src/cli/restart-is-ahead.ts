import { restartFollows } from '../daemon/restart-follows.ts';
import { queuedJobs } from '../sys/systemd-jobs.ts';
import type { CliIo } from './cli-io.ts';

/** Whether systemd will start the unit again, for a command of its ExecStopPost; says so when it will. */
export function restartIsAhead(unit: string, io: CliIo): boolean {
  const result = io.env['SERVICE_RESULT'];
  const jobs = queuedJobs(unit);
  if (jobs.kind === 'unknown') io.err(`cannot ask systemd what follows for ${unit}: ${jobs.reason}\n`);
  if (!restartFollows(result, jobs)) return false;
  const why =
    jobs.kind === 'known' && jobs.types.length > 0 ? `job ${jobs.types.join(', ')}` : `result ${result}`;
  io.out(`addresses stay: systemd starts ${unit} again (${why})\n`);
  return true;
}
