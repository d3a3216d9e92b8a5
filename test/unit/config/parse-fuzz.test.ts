import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';

const EXAMPLE = readFileSync(new URL('../../../etc/lbd.toml.example', import.meta.url), 'utf8').replaceAll(
  /^#(?=\S)/gm,
  '',
);

/** What must hold of every text whatever: an answer, and one that can be printed. */
function checkAnswer(text: string): void {
  const parsed = parseConfig(text, '/etc/lbd.toml', { hostName: 'edge' });
  const problems = parsed.ok ? parsed.value.warnings : parsed.error;
  assert.equal(
    parsed.ok,
    problems.every((problem) => problem.severity === 'warning'),
  );
  const lines = text.split('\n').length;
  for (const problem of problems) {
    assert.ok(
      problem.line === undefined || (problem.line >= 1 && problem.line <= lines),
      `line ${problem.line}`,
    );
    const message = formatProblem(problem);
    assert.ok(message.length < 2_000, message);
    assert.doesNotMatch(message, /[\p{Cc}\p{Zl}\p{Zp}]/u);
  }
}

test('parseConfig() never throws, on text of any kind', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), checkAnswer), { numRuns: 500 });
});

test('parseConfig() never throws, on TOML of any shape', () => {
  const key = fc.constantFrom(
    ...['host', 'name', 'pool', 'addresses', 'local', 'lifetime', 'interfaces', 'log', 'level', '__proto__'],
    ...['kubernetes', 'context', 'constructor', '"a b"', "'\u202e'", 'toString'],
  );
  const scalar = fc.constantFrom(
    ...['1', '-0.0', 'nan', 'inf', 'true', '2026-01-01', '03:04:05', '""', '"192.0.2.0/24"', '"::/0"'],
    ...[
      '"0.0.0.0/0"',
      '"1.1.1.1-1.1.1.1"',
      '"30s"',
      '0',
      '"info"',
      '"\\u0000"',
      "'''\n\u009b'''",
      '"a-b"',
      '"-"',
    ],
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      scalar,
      fc.array(tie('value'), { maxLength: 3 }).map((values) => `[${values.join(',\n')}]`),
      fc
        .uniqueArray(fc.tuple(key, tie('value')), { maxLength: 3, selector: ([name]) => name })
        .map((pairs) => `{ ${pairs.map(([name, one]) => `${name} = ${one}`).join(', ')} }`),
    ),
  }));
  const line = fc.oneof(
    key.map((name) => `[${name}]`),
    key.map((name) => `[[${name}]]`),
    fc.constant('[[pool]]\nname = "a"'),
    fc.tuple(key, value).map(([name, one]) => `${name} = ${one}`),
    fc.tuple(key, key, value).map(([table, name, one]) => `${table}.${name} = ${one}`),
  );
  const document = fc.array(line, { maxLength: 8 }).map((lines) => lines.join('\n'));
  fc.assert(fc.property(document, checkAnswer), { numRuns: 1_000 });
});

test('parseConfig() never throws, on a good file with some characters changed', () => {
  const edit = fc.record({
    at: fc.nat(EXAMPLE.length),
    remove: fc.nat(12),
    insert: fc.string({ unit: fc.constantFrom(...'[]{}="\'#.\n0a-/:,\\'), maxLength: 3 }),
  });
  const edited = fc.array(edit, { minLength: 1, maxLength: 4 }).map((edits) => {
    let text = EXAMPLE;
    for (const { at, remove, insert } of edits) text = text.slice(0, at) + insert + text.slice(at + remove);
    return text;
  });
  fc.assert(fc.property(edited, checkAnswer), { numRuns: 300 });
});
