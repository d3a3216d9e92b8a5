import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatKey, formatProblem, formatValue, sortProblems } from '../../../src/config/problem.ts';
import type { ConfigProblem } from '../../../src/config/types.ts';

function problem(fields: Partial<ConfigProblem>): ConfigProblem {
  return {
    severity: 'error',
    file: '/etc/lbd.toml',
    line: 14,
    key: '',
    message: 'expected a, got b',
    ...fields,
  };
}

test('formatProblem() leaves out what is unknown', () => {
  const cases: readonly (readonly [Partial<ConfigProblem>, string])[] = [
    [{ key: 'pool[0].name' }, '/etc/lbd.toml:14: pool[0].name: expected a, got b'],
    [{ column: 3 }, '/etc/lbd.toml:14:3: expected a, got b'],
    [{ line: undefined }, '/etc/lbd.toml: expected a, got b'],
    [{ severity: 'warning', key: 'local' }, '/etc/lbd.toml:14: warning: local: expected a, got b'],
  ];
  for (const [fields, text] of cases) assert.equal(formatProblem(problem(fields)), text);
});

test('formatKey() quotes what is no bare key and shortens what has no end', () => {
  assert.equal(formatKey([]), '');
  assert.equal(formatKey(['pool', 0, 'addresses', 12]), 'pool[0].addresses[12]');
  assert.equal(formatKey(['a b', '', 'x.y']), '"a b"."".' + '"x.y"');
  assert.equal(formatKey(['\u001b[31m']), '"\\u001b[31m"');
  assert.equal(formatKey(['k'.repeat(5000)]).length, 81);
});

test('formatValue() shows values on one line and harmless to a terminal', () => {
  const cases: readonly (readonly [unknown, string])[] = [
    [undefined, 'nothing'],
    [null, 'a date or time'],
    ['text', '"text"'],
    ['a"b\n', '"a\\"b\\n"'],
    ['\u009b31m\u202e', '"\\u009b31m\\u202e"'],
    [5, '5'],
    [true, 'true'],
    [Number.POSITIVE_INFINITY, 'inf'],
    [Number.NaN, 'NaN'],
    [[], 'an empty array'],
    [[1], 'an array'],
    [{}, 'a table'],
  ];
  for (const [value, text] of cases) assert.equal(formatValue(value), text);
  assert.ok(formatValue('x'.repeat(5000)).length < 100);
});

test('sortProblems() goes by line, then by key in counting order', () => {
  const keys = ['a[10]', 'a[9]', 'z'];
  const problems = keys.map((key) => problem({ key, line: key === 'z' ? 1 : 2 }));
  assert.deepEqual(
    sortProblems(problems).map((one) => one.key),
    ['z', 'a[9]', 'a[10]'],
  );
});

test('sortProblems() counts what is too much to show, and does not hide an error among it', () => {
  const problems = Array.from({ length: 250 }, (_, index) =>
    problem({ line: index + 1, severity: index === 249 ? 'error' : 'warning' }),
  );
  const shown = sortProblems(problems);
  assert.equal(shown.length, 101);
  assert.equal(formatProblem(shown[100] ?? problem({})), '/etc/lbd.toml: 150 more problems are not shown');
});
