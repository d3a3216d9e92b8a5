import assert from 'node:assert/strict';
import { test } from 'node:test';
import { error, note, renderReport, unseen, warning } from '../../../src/cli/check-report.ts';
import { colourPaint } from '../../../src/cli/table.ts';

test('renderReport() prints headings, sentences and what it comes to', () => {
  const sections = [
    { title: 'Network', remarks: [note('It is so.'), warning('Is it meant so?')] },
    { title: 'Empty', remarks: [] },
    { title: 'Kubernetes', remarks: [error('It is \u001b[31mwrong.'), unseen('the rest.')] },
  ];
  assert.equal(
    renderReport(sections),
    `Network
  It is so.
  WARNING: Is it meant so?

Kubernetes
  ERROR: It is \\u{1b}[31mwrong.
  not seen: the rest.

1 error, 1 warning, 1 not seen
`,
  );
  assert.ok(renderReport(sections, colourPaint).includes('\u001b[31mERROR: It is'));
});

test('renderReport() says that all is well', () => {
  assert.equal(renderReport([{ title: 'A', remarks: [note('b')] }]), 'A\n  b\n\nno errors\n');
});
