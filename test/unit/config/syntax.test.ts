import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseToml } from '../../../src/config/syntax.ts';

/** `line:column: message` of the failure that `text` must give. */
function problemOf(text: string): string {
  const parsed = parseToml(text);
  assert.ok(!parsed.ok, text);
  return `${parsed.error.line}:${parsed.error.column}: ${parsed.error.message}`;
}

test('parseToml() says where the syntax breaks and what was expected there', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['a = \n', '1:5: expected a value (text needs quotes), got the end of the line'],
    ['ok = 1\na = eth0\n', '2:5: expected a value (text needs quotes), got "eth0"'],
    ['a = "x\n', '1:7: expected the closing quote of the text before, got the end of the line'],
    ["a = 'x\n", '1:7: expected the closing quote of the text before, got the end of the line'],
    ['a = """x\n', '2:1: expected the closing quote of the text before, got the end of the file'],
    ["a = '''x\n", '2:1: expected the closing quote of the text before, got the end of the file'],
    ['[a\n', '1:3: expected "]" at the end of the table name, got the end of the line'],
    ['[[pool]\n', '1:8: expected "]" at the end of the table name, got the end of the line'],
    ['a = [1,\n2', '2:2: expected "," or "]" after an element of the array, got the end of the file'],
    ['a = [1 2]\n', '1:8: expected "," or "]" after an element of the array, got "2"'],
    ['a = [', '1:6: expected a value or "]", got the end of the file'],
    ['a = { b = 1 c = 2 }\n', '1:13: expected "," or "}" in the inline table, got "c"'],
    ['foo\n', '1:4: expected "=" and a value after the key, got the end of the line'],
    ['= 3\n', '1:1: expected a key, a [table] or a comment, got "="'],
    ['a = 1 b = 2\n', '1:7: expected the end of the line, got "b"'],
    ['a = 192.0.2.1\n', '1:10: expected the end of the line, got ".2.1"'],
    ['a = 01\n', '1:7: expected a complete value, got the end of the line'],
  ];
  for (const [text, problem] of cases) assert.equal(problemOf(text), problem, text);
});

test('parseToml() says which rule beyond the grammar is broken', () => {
  assert.equal(problemOf('x = 1\nx = 2\n'), '2:1: expected each key and table once, got "x" again');
  assert.equal(problemOf('[a]\n[b]\n[a]\n'), '3:1: expected each key and table once, got "a" again');
  assert.equal(
    problemOf('a = 9007199254740993\n'),
    '1:5: expected an integer of at most 15 digits, got "9007199254740993"',
  );
  assert.equal(problemOf('a = 2026-13-01\n'), '1:5: Invalid date: month 13 out of range');
});

test('parseToml() survives nesting beyond any stack', () => {
  assert.match(problemOf(`a = ${'['.repeat(100_000)}`), /^1:\d+: /);
  assert.match(problemOf(`a = ${'{a='.repeat(100_000)}`), /^1:\d+: /);
});

test('parseToml() gives dates and times of every kind as null, never as text or as a table', () => {
  const parsed = parseToml(
    'a = 2026-01-02T03:04:05Z\nb = 2026-01-02T03:04:05\nc = 2026-01-02\nd = 03:04:05\n',
  );
  assert.ok(parsed.ok);
  assert.deepEqual({ ...parsed.value }, { a: null, b: null, c: null, d: null });
});

test('parseToml() takes __proto__ for a key like any other', () => {
  const parsed = parseToml('[__proto__]\npolluted = true\n');
  assert.ok(parsed.ok);
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  assert.deepEqual(Object.keys(parsed.value), ['__proto__']);
});
