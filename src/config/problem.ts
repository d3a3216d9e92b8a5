import type { ConfigProblem } from './types.ts';

/** Where a value stands in the document: `['pool', 0, 'addresses', 1]`. */
export type KeyPath = readonly (string | number)[];

/** More than anybody reads at once; a file that is not TOML for lbd at all could otherwise yield one per line. */
const MAX_PROBLEMS = 100;

const LONGEST_QUOTE = 80;

/** `file:line: key: message`, without the parts that are unknown; the form that editors and `grep -n` use. */
export function formatProblem(problem: ConfigProblem): string {
  const column = problem.column === undefined ? '' : `:${problem.column}`;
  const place = problem.line === undefined ? problem.file : `${problem.file}:${problem.line}${column}`;
  const severity = problem.severity === 'warning' ? 'warning: ' : '';
  return `${place}: ${severity}${problem.key === '' ? '' : `${problem.key}: `}${problem.message}`;
}

/** `pool[0].addresses[1]`; a key that is not bare TOML is quoted, as in the file. */
export function formatKey(path: KeyPath): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += `${text === '' ? '' : '.'}${/^[A-Za-z0-9_-]+$/.test(part) ? shorten(part) : quote(part)}`;
  }
  return text;
}

/** How a message shows what it got: values as they are written in TOML, containers by kind. */
export function formatValue(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'a date or time';
  if (typeof value === 'string') return quote(value);
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array';
  if (typeof value === 'object') return 'a table';
  return value === Number.POSITIVE_INFINITY ? 'inf' : String(value);
}

/** JSON text, on one line and harmless to a terminal, shortened in the middle of nowhere when it is long. */
export function quote(text: string): string {
  return JSON.stringify(shorten(text)).replaceAll(
    /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Errors and warnings in the order of the files, at most MAX_PROBLEMS and then one that counts the rest. */
export function sortProblems(
  problems: readonly ConfigProblem[],
  files: readonly { readonly file: string }[] = [],
): readonly ConfigProblem[] {
  const order = new Map(files.map(({ file }, index) => [file, index]));
  const sorted = problems.toSorted(
    (left, right) =>
      (order.get(left.file) ?? 0) - (order.get(right.file) ?? 0) ||
      (left.line ?? 0) - (right.line ?? 0) ||
      (left.column ?? 0) - (right.column ?? 0) ||
      left.key.localeCompare(right.key, 'en', { numeric: true }),
  );
  const rest = sorted.slice(MAX_PROBLEMS);
  const [first] = rest;
  if (first === undefined) return sorted;
  const severity = rest.some((problem) => problem.severity === 'error') ? 'error' : 'warning';
  const message = `${rest.length} more problems are not shown`;
  return [
    ...sorted.slice(0, MAX_PROBLEMS),
    { severity, file: first.file, line: undefined, key: '', message },
  ];
}

function shorten(text: string): string {
  return text.length <= LONGEST_QUOTE ? text : `${text.slice(0, LONGEST_QUOTE)}…`;
}
