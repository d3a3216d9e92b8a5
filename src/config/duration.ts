import { fail, ok, type Result } from '../lib/result.ts';

/** The pattern of `parseDuration()`, for the JSON Schema. */
export const DURATION_PATTERN = /^(?=.)(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?$|^0$/;

/** `30s`, `1m30s`, `2h` or `0` in milliseconds; whole seconds only. The failure says what was expected. */
export function parseDuration(text: string): Result<number, string> {
  const match = DURATION_PATTERN.exec(text);
  if (match === null) {
    const fraction = /ms$|\d\.\d/.test(text) ? ' in whole seconds' : '';
    return fail(`expected a duration${fraction} such as "30s" or "1m30s"`);
  }
  const [hours, minutes, seconds] = [match[1], match[2], match[3]].map((digits) => Number(digits ?? 0));
  return ok((((hours ?? 0) * 60 + (minutes ?? 0)) * 60 + (seconds ?? 0)) * 1000);
}

/** The inverse of `parseDuration()`, for whole seconds. */
export function formatDuration(ms: number): string {
  const total = Math.floor(ms / 1000);
  const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const text = `${hours > 0 ? `${hours}h` : ''}${minutes > 0 ? `${minutes}m` : ''}${seconds > 0 ? `${seconds}s` : ''}`;
  return text === '' ? '0s' : text;
}

/** The pattern of `parseFineDuration()`, for the JSON Schema. */
export const FINE_DURATION_PATTERN = /^\d{1,7}(?:\.\d{1,3})?(?:ms|s|m)$/;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 };

/** `50ms`, `1.5s` or `1m` in whole milliseconds; undefined for anything else. */
export function parseFineDuration(text: string): number | undefined {
  const match = /^([\d.]+)(ms|s|m)$/.exec(text);
  if (match === null || !FINE_DURATION_PATTERN.test(text)) return undefined;
  return Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 0));
}

/** The inverse of `parseFineDuration()`, in the largest unit that leaves a whole number. */
export function formatFineDuration(ms: number): string {
  if (ms >= 60_000 && ms % 60_000 === 0) return `${ms / 60_000}m`;
  return ms >= 1_000 && ms % 1_000 === 0 ? `${ms / 1_000}s` : `${ms}ms`;
}
