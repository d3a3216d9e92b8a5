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

/** Causes beyond it are left out: a chain so long is a circle or tells nothing more. */
const CAUSES_MAX = 8;

/** The text of whatever was thrown, causes included, on one line. */
export function errorText(thrown: unknown): string {
  return textOf(thrown, CAUSES_MAX).replace(/\s*[\r\n]\s*/g, ' ');
}

function textOf(thrown: unknown, causesLeft: number): string {
  if (!(thrown instanceof Error)) return typeof thrown === 'string' ? thrown : inspected(thrown);
  const message = thrown.message === '' ? nameless(thrown, causesLeft) : thrown.message;
  if (thrown.cause === undefined || causesLeft === 0) return message;
  const cause = textOf(thrown.cause, causesLeft - 1);
  return message.includes(cause) ? message : `${message}: ${cause}`;
}

/** A connection that failed on each address of a host name is an AggregateError without a message of its own. */
function nameless(error: Error, causesLeft: number): string {
  if (!(error instanceof AggregateError) || causesLeft === 0) return error.name;
  const texts = error.errors.slice(0, CAUSES_MAX).map((each) => textOf(each, causesLeft - 1));
  return [...new Set(texts)].join('; ') || error.name;
}

function inspected(thrown: unknown): string {
  try {
    return String(thrown);
  } catch {
    return 'something without a text was thrown';
  }
}
