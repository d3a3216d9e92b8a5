import { dropInDirectory, type LoadedFile, listConfig, loadConfig } from '../config/io/load.ts';
import { formatProblem } from '../config/problem.ts';
import type { ConfigProblem } from '../config/types.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { collectGarbage } from '../sys/collect-garbage.ts';
import { ServiceNotifier, watchdogIntervalMs } from '../sys/sd-notify.ts';
import { beforeStart, endedInOrder } from './crash-loop.ts';
import { Daemon } from './daemon.ts';
import { afterFailedStart, forgetFailedStarts } from './failed-start.ts';
import { createLogger, type DaemonLogger } from './logger.ts';

/** `systemctl status` shows what lbd is doing; brought up to date this often. */
const SUMMARY_INTERVAL_MS = 5_000;
/** By then everything was listed and put in place, and what that took is garbage. */
const STARTED_MS = 4_000;

export type RunOptions = {
  readonly configFile: string;
  /** Run for a person who watches: however it ends, the addresses go with it. */
  readonly foreground: boolean;
};

/**
 * The daemon's life: configuration, start, signals, stop. Resolves with the exit status: 0 after a stop that was
 * asked for, 1 when it could not start.
 *
 *   SIGTERM  stops; addresses stay, because a restart may follow: `lbd cleanup` or their lifetime ends them
 *   SIGINT   stops; addresses go at once, as somebody at a terminal expects
 *   SIGHUP   reads the configuration again (safety rule 8: a bad one changes nothing)
 */
export async function run(options: RunOptions): Promise<number> {
  // What ps, top and pgrep show; without it every Node program is a MainThread.
  process.title = 'lbd';
  const loaded = loadConfig(options.configFile);
  printProblems(loaded.ok ? loaded.value.warnings : loaded.error);
  const files = [options.configFile, dropInDirectory(options.configFile)];
  if (loaded.ok) files.push(loaded.value.config.kubernetes.kubeconfig);
  const failure = loaded.ok
    ? await serve(options, loaded.value, files)
    : loaded.error.map(formatProblem).join('\n');
  endedInOrder(process.env);
  if (failure === undefined) return 0;
  const outcome = await afterFailedStart(failure, files, process.env);
  return outcome === 'stopped' ? 0 : 1;
}

/** Runs the daemon until it is asked to stop. Resolves with what kept it from starting, which it has printed. */
async function serve(
  options: RunOptions,
  loaded: LoadedFile,
  files: readonly string[],
): Promise<string | undefined> {
  const { config, digest, warnings } = loaded;
  const logger = createLogger(config.log.level);
  crashLoudly(logger);
  const listing = () => listConfig(loaded);
  let daemon: Daemon;
  try {
    const { lifetimeMs } = config.local;
    const onPause = (crashes: number, pauseMs: number) => {
      logger.error({ crashes, pause_ms: pauseMs }, 'daemon.crash-loop');
      logger.flush();
    };
    const crashLoop = { watched: files, lifetimeMs, nowMs: bootTimeMs(), onPause };
    if ((await beforeStart(crashLoop, process.env)) === 'stopped') return undefined;
    daemon = new Daemon({ configFile: options.configFile, config, digest, warnings, listing, logger });
  } catch (error) {
    return startFailed(error, logger);
  }
  const notify = new ServiceNotifier(process.env, (error) => {
    logger.warn({ error: errorText(error) }, 'systemd.notify-failed');
  });
  // Before the start, which it would end: a reload then finds what the start is about to take.
  const onHangup = () => reload(options.configFile, daemon, notify);
  process.on('SIGHUP', onHangup);
  try {
    await daemon.start();
  } catch (error) {
    const failure = startFailed(error, logger);
    // What had started would keep the process, and with it the host lock.
    await daemon.stop('leave');
    process.off('SIGHUP', onHangup);
    notify.close();
    logger.flush();
    return failure;
  }
  forgetFailedStarts(process.env);
  notify.ready();
  const timers = keepAlive(daemon, notify);
  const signal = await stopSignal();
  for (const timer of timers) clearInterval(timer);
  notify.stopping();
  await daemon.stop(options.foreground || signal === 'SIGINT' ? 'remove' : 'leave');
  notify.close();
  logger.flush();
  return undefined;
}

/** Says what keeps lbd from starting on this host and returns it; what is no `LbdError` is a bug and thrown on. */
function startFailed(error: unknown, logger: DaemonLogger): string {
  if (!(error instanceof LbdError)) throw error;
  logger.error({ ...error.fields, code: error.code, error: errorText(error) }, 'daemon.start-failed');
  logger.flush();
  return `${error.code}: ${errorText(error)}`;
}

function reload(file: string, daemon: Daemon, notify: ServiceNotifier): void {
  notify.reloading();
  const loaded = loadConfig(file);
  if (loaded.ok) {
    const { config, digest, warnings } = loaded.value;
    daemon.reconfigure(config, digest, warnings, () => listConfig(loaded.value));
  } else daemon.refuseReload(loaded.error.map(formatProblem));
  notify.ready();
}

/** The watchdog is fed from the event loop, so that a loop that hangs is a daemon that is restarted. */
function keepAlive(daemon: Daemon, notify: ServiceNotifier): readonly NodeJS.Timeout[] {
  let last: string | undefined;
  const tell = () => {
    const text = daemon.summary();
    if (text !== last) notify.status(text);
    last = text;
  };
  tell();
  const summary = setInterval(tell, SUMMARY_INTERVAL_MS);
  const started = setTimeout(collectGarbage, STARTED_MS);
  const intervalMs = watchdogIntervalMs(process.env);
  if (intervalMs === undefined) return [summary, started];
  return [summary, started, setInterval(() => notify.watchdog(), intervalMs)];
}

function stopSignal(): Promise<'SIGTERM' | 'SIGINT'> {
  return new Promise((resolve) => {
    process.once('SIGTERM', () => resolve('SIGTERM'));
    process.once('SIGINT', () => resolve('SIGINT'));
  });
}

/** A bug ends the process with its stack in the log; the restart reconciles. */
function crashLoudly(logger: DaemonLogger): void {
  process.on('uncaughtException', (error, origin) => {
    logger.error({ error: errorText(error), stack: error.stack, origin }, 'daemon.crashed');
    logger.flush();
    process.exit(70);
  });
}

function printProblems(problems: readonly ConfigProblem[]): void {
  for (const problem of problems) process.stderr.write(`${formatProblem(problem)}\n`);
}
