import { pino } from 'pino';
import type { LogConfig } from '../config/types.ts';
import type { Logger } from '../lib/logger.ts';
import { StderrWriter } from './stderr-writer.ts';

/** What waits for a stalled reader of stderr at most; beyond that lines are dropped rather than memory filled. */
const BUFFER_BYTES = 1 << 20;

export type DaemonLogger = Logger & {
  setLevel(level: LogConfig['level']): void;
  /** Writes what is still buffered; the last thing a process does. */
  flush(): void;
};

/** JSON lines on stderr, one for each event; never blocks the event loop on a slow reader. */
export function createLogger(level: LogConfig['level']): DaemonLogger {
  const destination = new StderrWriter(BUFFER_BYTES);
  const log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'event',
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
  return {
    debug: (fields, event) => log.debug(fields, event),
    info: (fields, event) => log.info(fields, event),
    warn: (fields, event) => log.warn(fields, event),
    error: (fields, event) => log.error(fields, event),
    setLevel: (next) => {
      log.level = next;
    },
    flush: () => destination.flush(),
  };
}
