type LogFields = Readonly<Record<string, unknown>>;

/** The part of a pino logger that features use: an event has a stable dotted name as its message and its facts as fields. */
export type Logger = {
  debug(fields: LogFields, event: string): void;
  info(fields: LogFields, event: string): void;
  warn(fields: LogFields, event: string): void;
  error(fields: LogFields, event: string): void;
};

/** For code that runs where nobody reads a log: tests and one-shot commands. */
export const SILENT_LOGGER: Logger = { debug() {}, info() {}, warn() {}, error() {} };
