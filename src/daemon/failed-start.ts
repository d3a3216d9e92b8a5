import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '../lib/errors.ts';
import { ServiceNotifier } from '../sys/sd-notify.ts';

/**
 * What keeps an lbd that cannot start from being started twenty times a second: the unit restarts it at once, however
 * often it takes, because after a kill every millisecond counts.
 *
 * The first failure ends the process at once, so that `systemctl start` tells of it at once. When the start before this one
 * failed in the same way, the process stays for a while before it ends: 1 s, then twice as long each time, at most 10 s.
 * A change of the configuration ends the wait, and so does a stop.
 *
 * The memory from one process to the next is a file in $RUNTIME_DIRECTORY, which systemd keeps over a restart and removes
 * at a stop. Without that variable nobody restarts lbd, and nothing here waits.
 */

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
const LOOK_EVERY_MS = 250;
const MEMORY_BYTES_MAX = 1_000;

type Environment = Readonly<Record<string, string | undefined>>;

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
  const times = known?.failure === hash ? known.times + 1 : 1;
  const pauseMs = remember(file, { failure: hash, times }) ? pauseAfter(times) : LONGEST_PAUSE_MS;
  if (pauseMs === 0) return 'failed';
  const notify = tellServiceManager(environment, pauseMs);
  const outcome = await untilChange(watched, pauseMs);
  // A stop or a restart that was asked for: the next failure is news again.
  if (outcome === 'stopped') forgetFailedStarts(environment);
  notify?.close();
  return outcome;
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
  const directory = environment['RUNTIME_DIRECTORY']?.split(':')[0];
  return directory === undefined || directory === '' ? undefined : join(directory, 'failed-start.json');
}

function remembered(file: string): Memory | undefined {
  try {
    const text = readFileSync(file, 'utf8');
    const parsed: unknown = text.length > MEMORY_BYTES_MAX ? undefined : JSON.parse(text);
    return isMemory(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function isMemory(value: unknown): value is Memory {
  if (typeof value !== 'object' || value === null || !('failure' in value) || !('times' in value))
    return false;
  return typeof value.failure === 'string' && Number.isSafeInteger(value.times);
}

/** Returns false when it cannot: then no failure is known to be the first. */
function remember(file: string, memory: Memory): boolean {
  try {
    writeFileSync(file, JSON.stringify(memory), { mode: 0o640 });
    return true;
  } catch {
    return false;
  }
}

/** For `systemctl status`, which has nothing else to show of an lbd that is not ready. */
function tellServiceManager(environment: Environment, pauseMs: number): ServiceNotifier | undefined {
  try {
    const notify = new ServiceNotifier(environment, () => {});
    notify.status(`cannot start; tries again in ${pauseMs / 1_000} s, or when the configuration changes`);
    return notify;
  } catch (error) {
    process.stderr.write(`${errorText(error)}\n`);
    return undefined;
  }
}

function untilChange(watched: readonly string[], pauseMs: number): Promise<'failed' | 'stopped'> {
  const before = fingerprint(watched);
  return new Promise((resolve) => {
    const done = (outcome: 'failed' | 'stopped') => {
      clearInterval(look);
      clearTimeout(end);
      process.off('SIGTERM', stop);
      resolve(outcome);
    };
    const stop = () => done('stopped');
    const look = setInterval(() => {
      if (fingerprint(watched) !== before) done('failed');
    }, LOOK_EVERY_MS);
    const end = setTimeout(() => done('failed'), pauseMs);
    process.once('SIGTERM', stop);
  });
}

/** Changes with a file or with the files in a directory. */
function fingerprint(paths: readonly string[]): string {
  return paths.flatMap((path) => [path, ...entriesOf(path)].map(stamp)).join('\n');
}

function entriesOf(path: string): readonly string[] {
  try {
    return readdirSync(path).map((name) => join(path, name));
  } catch {
    return [];
  }
}

function stamp(path: string): string {
  try {
    const { ino, size, mtimeNs } = statSync(path, { bigint: true });
    return `${path} ${ino} ${size} ${mtimeNs}`;
  } catch {
    return `${path} -`;
  }
}
