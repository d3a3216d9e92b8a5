import { errorText, LbdError } from '../../src/lib/errors.ts';

export type WaitOptions = {
  /** How long to wait before it is a failure. */
  readonly timeoutMs?: number;
  readonly everyMs?: number;
  /** What is waited for, in words: the failure reads "waited 5000 ms for <describe>". */
  readonly describe: string;
};

const DEFAULT_TIMEOUT_MS = 5_000;
const DEFAULT_INTERVAL_MS = 10;
const LONGEST_TEXT = 2_000;

/**
 * Polls until `probe` gives something else than undefined, null or false, and resolves with it. For what has no event to wait
 * for; everything else waits for its event. Throws `LbdError` `wait.timeout` with what the probe last gave or threw.
 */
export async function waitFor<T>(
  probe: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  options: WaitOptions,
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const deadline = performance.now() + timeoutMs;
  let last = 'nothing';
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== null && value !== false) return value;
      last = String(value);
    } catch (error) {
      last = errorText(error);
    }
    if (performance.now() >= deadline) {
      const seen = last.length > LONGEST_TEXT ? `${last.slice(0, LONGEST_TEXT)}…` : last;
      throw new LbdError('wait.timeout', `waited ${timeoutMs} ms for ${options.describe}; last: ${seen}`);
    }
    await sleep(options.everyMs ?? DEFAULT_INTERVAL_MS);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Fails with `describe` when `promise` has not settled in time; the timer never outlives it. */
export async function within<T>(promise: Promise<T>, timeoutMs: number, describe: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new LbdError('wait.timeout', `waited ${timeoutMs} ms for ${describe()}`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
