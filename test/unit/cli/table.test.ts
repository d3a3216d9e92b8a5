import assert from 'node:assert/strict';
import { test } from 'node:test';
import { colourPaint, plainPaint, renderColumns, renderTable } from '../../../src/cli/table.ts';

test('renderTable() aligns columns and leaves no space at the end of a line', () => {
  const lines = renderTable(
    ['NAME', 'STATE', 'REASON'],
    [
      ['a-long-name', 'ok', ''],
      ['b', { text: 'refused', style: 'red' }, 'full'],
    ],
    plainPaint,
  );
  assert.deepEqual(lines, [
    'NAME         STATE    REASON', //
    'a-long-name  ok',
    'b            refused  full',
  ]);
});

test('renderTable() aligns what a reader sees, not the codes of its colours', () => {
  const lines = renderTable(['A', 'B'], [[{ text: 'x', style: 'red' }, 'y']], colourPaint);
  assert.deepEqual(lines, ['\u001b[1mA\u001b[22m  \u001b[1mB\u001b[22m', '\u001b[31mx\u001b[39m  y']);
});

test('renderColumns() lets no cell break its line or reach the terminal', () => {
  assert.deepEqual(renderColumns([['a\nb', '\u001b[2J']], plainPaint), ['a b  \\u{1b}[2J']);
  assert.deepEqual(renderColumns([], plainPaint), []);
  assert.deepEqual(renderColumns([['', '']], plainPaint), ['']);
});
