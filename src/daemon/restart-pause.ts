import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '../lib/errors.ts';
import { ServiceNotifier } from '../sys/sd-notify.ts';

/**
 * What one lbd leaves for the next, and how an lbd waits that has failed before: the unit starts it again at once, however
 * often it takes, because after a kill every millisecond counts. `failed-start.ts` and `crash-loop.ts` say when it waits.
 */

const LOOK_EVERY_MS = 250;
const MEMORY_BYTES_MAX = 1_000;

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The path of a file in $RUNTIME_DIRECTORY, which systemd keeps over a restart and removes at a stop. Undefined without
 * that variable: then nobody restarts lbd.
 */
export function runtimeFile(environment: Environment, name: string): string | undefined {
  const directory = environment['RUNTIME_DIRECTORY']?.split(':')[0];
  return directory === undefined || directory === '' ? undefined : join(directory, name);
}

/** What is in such a file, undefined when it cannot be read, is torn or was written by somebody else. */
export function remembered(file: string): unknown {
  try {
    const text = readFileSync(file, 'utf8');
    return text.length > MEMORY_BYTES_MAX ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns false when it cannot. */
export function remember(file: string, memory: unknown): boolean {
  try {
    writeFileSync(file, JSON.stringify(memory), { mode: 0o640 });
    return true;
  } catch {
    return false;
  }
}

export type Pause = {
  readonly pauseMs: number;
  /** What `systemctl status` shows, which has nothing else to show of an lbd that is not ready. */
  readonly status: string;
  /** Files and directories whose change promises another outcome, and ends the pause. */
  readonly watched: readonly string[];
};

/** Resolves with `stopped` when SIGTERM came, else with `over`; never rejects. */
export async function pause(options: Pause, environment: Environment): Promise<'over' | 'stopped'> {
  const notify = tellServiceManager(options.status, environment);
  const outcome = await untilChange(options.watched, options.pauseMs);
  notify?.close();
  return outcome;
}

function tellServiceManager(status: string, environment: Environment): ServiceNotifier | undefined {
  try {
    const notify = new ServiceNotifier(environment, () => {});
    notify.status(status);
    return notify;
  } catch (error) {
    process.stderr.write(`${errorText(error)}\n`);
    return undefined;
  }
}

function untilChange(watched: readonly string[], pauseMs: number): Promise<'over' | 'stopped'> {
  const before = fingerprint(watched);
  return new Promise((resolve) => {
    const done = (outcome: 'over' | 'stopped') => {
      clearInterval(look);
      clearTimeout(end);
      process.off('SIGTERM', stop);
      resolve(outcome);
    };
    const stop = () => done('stopped');
    const look = setInterval(() => {
      if (fingerprint(watched) !== before) done('over');
    }, LOOK_EVERY_MS);
    const end = setTimeout(() => done('over'), pauseMs);
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
