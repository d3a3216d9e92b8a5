import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What a process costs, read from /proc. */

const TICKS_PER_SECOND = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** The share of one core (1 is all of it) that the process uses over the next `durationMs`. */
export async function cpuShare(pid: number, durationMs: number): Promise<number> {
  const before = cpuSeconds(pid);
  const started = performance.now();
  await new Promise((resolve) => setTimeout(resolve, durationMs));
  return ((cpuSeconds(pid) - before) * 1000) / (performance.now() - started);
}

function cpuSeconds(pid: number): number {
  // After the command in parentheses, which may hold anything: utime and stime are fields 14 and 15 of proc(5).
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** How often the main thread of the process went to sleep by itself so far: what it is woken for, each time. */
export function sleepsOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/task/${pid}/status`, 'latin1');
  return Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
}

/** Resident memory in MB of 10^6 bytes: all of it, and what is the process's own (not of files). */
export function memoryOf(pid: number): { readonly residentMb: number; readonly anonymousMb: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  const megabytes = (key: string) =>
    (Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024) / 1e6;
  return { residentMb: megabytes('VmRSS'), anonymousMb: megabytes('RssAnon') };
}
