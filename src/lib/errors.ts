/**
 * An operational failure: something outside lbd did not do what was asked (a file, a socket, the API server).
 * It ends as a log line, an Event or a CLI message. Bugs are assertions (`assert.ts`); bad remote input is a value.
 */
export class LbdError extends Error {
  /** Stable, for programs and tests: `config.unknown-key`, `netlink.request-failed`. */
  readonly code: string;
  /** What the message speaks of, for the structured log. */
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    options: { fields?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LbdError';
    this.code = code;
    this.fields = options.fields ?? {};
  }
}

/** The text of whatever was thrown, causes included, on one line. */
export function errorText(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  if (thrown.cause === undefined) return thrown.message;
  const cause = errorText(thrown.cause);
  return thrown.message.includes(cause) ? thrown.message : `${thrown.message}: ${cause}`;
}
