import { parse } from 'toml';
import { fail, ok, type Result } from '../lib/result.ts';
import { lineAndColumn } from './locate.ts';
import { quote } from './problem.ts';

export type TomlTable = Readonly<Record<string, unknown>>;

export type SyntaxProblem = {
  readonly line: number | undefined;
  readonly column: number | undefined;
  readonly message: string;
};

/**
 * TOML 1.1 as plain tables, arrays, strings, numbers and booleans. Dates and times, which no key of lbd takes, become
 * null, which TOML does not have: the package would give local ones as strings, and Dates pass for tables.
 */
export function parseToml(text: string): Result<TomlTable, SyntaxProblem> {
  try {
    return ok(parse(text, { useTemporal: true, temporal: DATES_AS_NULL }));
  } catch (thrown) {
    return fail(describeFailure(text, thrown));
  }
}

const NULL_TYPE = { from: () => null };
const DATES_AS_NULL = {
  ZonedDateTime: NULL_TYPE,
  PlainDateTime: NULL_TYPE,
  PlainDate: NULL_TYPE,
  PlainTime: NULL_TYPE,
};

/** What the package throws: the grammar's errors carry `location`, those of the rules beyond it `line` and `column`. */
type TomlError = {
  readonly message: string;
  readonly location?: { readonly start: { readonly offset: number } };
  readonly expected?: readonly Expectation[];
  readonly line?: number;
  readonly column?: number;
};

type Expectation = { readonly type: string; readonly text?: string };

function describeFailure(text: string, thrown: unknown): SyntaxProblem {
  const error = thrown as TomlError;
  if (error.location === undefined || error.expected === undefined) {
    return { line: error.line, column: error.column, message: describeRule(error.message) };
  }
  const { offset } = error.location.start;
  const expected = describeExpectations(error.expected, text, offset);
  return {
    ...lineAndColumn(text, offset),
    message: `expected ${expected}, got ${describeFound(text, offset)}`,
  };
}

/** The package's own words for broken rules, such as a key given twice, but for advice that only its caller could follow. */
function describeRule(message: string): string {
  const redefined = /^Cannot redefine existing key '(.*)'\.$/s.exec(message);
  if (redefined !== null) return `expected each key and table once, got ${quote(redefined[1] ?? '')} again`;
  const integer = /^Integer (-?\d+) /.exec(message);
  if (integer !== null) return `expected an integer of at most 15 digits, got ${quote(integer[1] ?? '')}`;
  return quote(message).slice(1, -1).replaceAll('\\"', '"').replace(/\.$/, '');
}

function describeFound(text: string, offset: number): string {
  const rest = text.slice(offset, offset + 40);
  if (rest === '') return 'the end of the file';
  if (/^\r?\n/.test(rest)) return 'the end of the line';
  return quote(/^(?:[\w.-]+|.)/su.exec(rest)?.[0] ?? rest);
}

/** The grammar lists every character that could follow; a person wants to know what kind of thing is missing. */
function describeExpectations(expected: readonly Expectation[], text: string, offset: number): string {
  const literals = new Set(expected.flatMap((one) => (one.type === 'literal' ? [one.text ?? ''] : [])));
  if (literals.has('true') && literals.has('{')) {
    return literals.has(']') ? 'a value or "]"' : 'a value (text needs quotes)';
  }
  if (literals.has('=')) return '"=" and a value after the key';
  const inText = literals.has('\\') || literals.has("'''") || (literals.size === 1 && literals.has("'"));
  if (inText) return 'the closing quote of the text before';
  if (literals.has(']') && literals.has(',')) return '"," or "]" after an element of the array';
  if (literals.has('}')) return '"," or "}" in the inline table';
  if (literals.has(']')) return '"]" at the end of the table name';
  if (/(?:^|\n)[ \t]*$/.test(text.slice(0, offset))) return 'a key, a [table] or a comment';
  if (literals.has('#')) return 'the end of the line';
  return 'a complete value';
}
