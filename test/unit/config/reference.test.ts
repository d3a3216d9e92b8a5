import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { configJsonSchema } from '../../../src/config/json-schema.ts';

/** The tables of docs/configuration.md against the schema, so that neither gets a key, a default or a sentence that the other lacks. */

const REFERENCE = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8');

type JsonSchema = {
  readonly description?: string;
  readonly default?: unknown;
  readonly required?: readonly string[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
};

/** The section of one table of the configuration, as the document should have it. */
function section(name: string, schema: JsonSchema): string {
  const table = schema.items ?? schema;
  const rows = Object.entries(table.properties ?? {}).map(([key, value]) => {
    const isRequired = value.default === undefined && schema.items !== undefined;
    const fallback =
      value.default === undefined ? (isRequired ? 'required' : '–') : `\`${toToml(value.default)}\``;
    return `| \`${key}\` | ${fallback} | ${value.description} |`;
  });
  const header = schema.items === undefined ? `[${name}]` : `[[${name}]]`;
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
  const { properties } = configJsonSchema() as JsonSchema;
  for (const [name, schema] of Object.entries(properties ?? {})) {
    const expected = section(name, schema);
    assert.ok(REFERENCE.includes(expected), `docs/configuration.md should have\n\n${expected}`);
  }
  const tables = [...REFERENCE.matchAll(/^### `\[+(\w+)\]+`$/gm)].map((match) => match[1]);
  assert.deepEqual(tables, Object.keys(properties ?? {}));
});
