import type { core } from 'zod/mini';
import { formatKey, formatValue, type KeyPath, quote } from './problem.ts';
import { nearest } from './suggest.ts';
import type { TomlTable } from './syntax.ts';

export type ShapeProblem = { readonly path: KeyPath; readonly message: string };

/** The keys of one table of the schema, tables in it included, by its name (`gossip.timing`); the root's own under the empty name. */
export type KnownKeys = ReadonlyMap<string, readonly string[]>;

/** What the schema found, in the words of lbd: one problem for each wrong value and each unknown key. */
export function shapeProblems(
  issues: readonly core.$ZodIssue[],
  document: TomlTable,
  known: KnownKeys,
): readonly ShapeProblem[] {
  return issues.flatMap((issue) => {
    const path = issue.path.filter((part) => typeof part !== 'symbol');
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: [...path, key], message: unknownKey(path, key, known) }));
    }
    const value = valueAt(document, path);
    return [
      {
        path,
        message: withTableHint(path, value, `${expectation(issue, value)}, got ${formatValue(value)}`),
      },
    ];
  });
}

function expectation(issue: core.$ZodIssue, value: unknown): string {
  if (issue.code === 'invalid_type' && issue.message.startsWith('expected')) return issue.message;
  if (issue.code === 'invalid_type') return `expected ${TYPE_WORDS[issue.expected] ?? issue.expected}`;
  if (issue.code === 'invalid_value') {
    const choices = issue.values.map(String);
    return `expected ${choices.map(quote).join(' or ')}`;
  }
  // A union says what each of its kinds expected; the kind of the value says which of them was meant.
  if (issue.code === 'invalid_union' && typeof value === 'string') {
    return (
      issue.errors.flat().find((nested) => nested.message.startsWith('expected'))?.message ?? issue.message
    );
  }
  return issue.message;
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  string: 'text in quotes',
  boolean: 'true or false',
  array: 'an array',
  object: 'a table',
};

/** The two mistakes that TOML invites: one `[pool]` where a list is meant, and `[[local]]` where there is one. */
function withTableHint(path: KeyPath, value: unknown, message: string): string {
  const [key] = path;
  if (path.length !== 1 || typeof key !== 'string') return message;
  if (key === 'pool' && typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return 'expected [[pool]], one for each pool, got [pool]';
  }
  if (Array.isArray(value)) return `expected one table [${key}], got an array`;
  return message;
}

function unknownKey(path: KeyPath, key: string, known: KnownKeys): string {
  const table = path.filter((part) => typeof part === 'string').join('.');
  const siblings = known.get(table) ?? [];
  const near = nearest(key, siblings);
  if (near !== undefined) return `expected a known key, got ${quote(key)}; did you mean ${quote(near)}?`;
  const home = [...known].find(([name, keys]) => name !== '' && keys.includes(key));
  if (home !== undefined)
    return `expected a known key, got ${quote(key)}, which belongs in ${tableHeader(home[0])}`;
  const what = table === '' ? 'a known table' : 'a known key';
  return `expected ${what} (${siblings.join(', ')}), got ${quote(key)}`;
}

function tableHeader(table: string): string {
  return table === 'pool' ? '[[pool]]' : `[${formatKey(table.split('.'))}]`;
}

function valueAt(document: TomlTable, path: KeyPath): unknown {
  let value: unknown = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}
