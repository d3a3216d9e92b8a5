import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { type SchemaTable, schemaTables } from './schema-tables.ts';

/** The tables of docs/configuration.md against the schema, so that neither gets a key, a default or a sentence that the other lacks. */

const REFERENCE = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');

/** The section of one table of the configuration, as the document should have it. */
function section({ header, schema, keys }: SchemaTable): string {
  const rows = keys.map(([key, value]) => {
    const isRequired = value.default === undefined && schema.items !== undefined;
    const fallback =
      value.default === undefined ? (isRequired ? 'required' : '–') : `\`${toToml(value.default)}\``;
    return `| \`${key}\` | ${fallback} | ${value.description} |`;
  });
  return [
    `### \`${header}\``,
    '',
    schema.description,
    '',
    '| key | default | |',
    '|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

function toToml(value: unknown): string {
  return JSON.stringify(value);
}

test('docs/configuration.md has every table of the schema with every key, its default and its sentence', () => {
  const tables = schemaTables();
  for (const table of tables) {
    const expected = section(table);
    assert.ok(REFERENCE.includes(expected), `docs/configuration.md should have\n\n${expected}`);
  }
  const headers = [...REFERENCE.matchAll(/^### `(\[.*\])`$/gm)].map((match) => match[1]);
  assert.deepEqual(
    headers,
    tables.map(({ header }) => header),
  );
});
