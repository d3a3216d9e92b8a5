/**
 * Total readers of parsed JSON: each takes what it was promised or gives a stated fallback, and never throws.
 * What the API server sends is remote input: a wrong type is a fact about the cluster, not a bug of lbd.
 */

export type RawRecord = Readonly<Record<string, unknown>>;

const NOTHING: RawRecord = Object.freeze({});

/** The value as an object; an empty one when it is anything else (null, array, text). */
export function recordOf(value: unknown): RawRecord {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as RawRecord)
    : NOTHING;
}

/** The first `limit` elements; none when the value is no array. */
export function listOf(value: unknown, limit: number): readonly unknown[] {
  if (!Array.isArray(value)) return [];
  return value.length > limit ? value.slice(0, limit) : value;
}

/** The text, cut to `limit` characters (the cut is marked by `…`, so that no cut text passes for a whole one). */
export function textOf(value: unknown, limit: number): string | undefined {
  if (typeof value !== 'string') return undefined;
  return value.length <= limit ? value : detached(`${value.slice(0, limit - 1)}…`);
}

/** The text when it is a whole one of 1 to `limit` characters; undefined otherwise. */
export function shortTextOf(value: unknown, limit: number): string | undefined {
  return typeof value === 'string' && value.length > 0 && value.length <= limit ? value : undefined;
}

/** A whole number from `low` to `high`; undefined otherwise. */
export function wholeOf(value: unknown, low: number, high: number): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high
    ? value
    : undefined;
}

/** One of the given words; undefined otherwise. Gives back our own copy of the word, so that none are stored twice. */
export function wordOf<Word extends string>(value: unknown, words: readonly Word[]): Word | undefined {
  return words.find((word) => word === value);
}

/**
 * The same text in memory of its own. V8 makes a slice of 13 or more characters a view that keeps the whole original
 * alive: 64 characters of a 1 MB annotation would hold the megabyte.
 */
function detached(text: string): string {
  return ` ${text}`.slice(1);
}

const SECOND_MS = 1_000;
const DAY_MS = 86_400_000;

/** RFC 3339 in UTC, as metav1.Time and MicroTime write it, to milliseconds since the epoch; undefined for other text. */
export function epochMsOf(value: unknown): number | undefined {
  if (typeof value !== 'string' || value.length > 40) return undefined;
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?Z$/.exec(value);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const fractionMs = Math.floor(Number(`0.${match[7] ?? '0'}`) * SECOND_MS);
  return (
    daysFromCivil(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * SECOND_MS + fractionMs
  );
}

/** Days since 1970-01-01 in the proleptic Gregorian calendar; years start in March so that the leap day comes last. */
function daysFromCivil(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}
