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
