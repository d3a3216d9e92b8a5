import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'toml';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';
import { type JsonSchema, type SchemaTable, schemaTables } from './schema-tables.ts';

/** etc/lbd.toml.example against the schema, so that neither gets a key, a default or a sentence that the other lacks. */

const EXAMPLE = readFileSync(new URL('../../../etc/lbd.toml.example', import.meta.url), 'utf8');

/** The example with every `#key = value` and `#[[table]]` switched on; prose has a space after its `#`. */
const SWITCHED_ON = EXAMPLE.replaceAll(/^#(?=[\w[])/gm, '');

type Key = { readonly table: SchemaTable; readonly name: string; readonly schema: JsonSchema };

const TABLES = schemaTables();

const KEYS: readonly Key[] = TABLES.flatMap((table) =>
  table.keys.map(([name, schema]) => ({ table, name, schema })),
);

/** As it stands in the example, where what changes something is switched off. */
function headerOf({ header, isOptional }: SchemaTable): string {
  return isOptional ? `#${header}` : header;
}

/** The prose directly above the first line that starts with `start`, below the header of its table, as one line. */
function proseAbove(start: string, header?: string): string | undefined {
  const lines = EXAMPLE.split('\n');
  const from = header === undefined ? 0 : lines.indexOf(header);
  const at = lines.findIndex((line, index) => index >= from && line.startsWith(start));
  if (at < 0) return undefined;
  const prose = lines.slice(
    lines.findLastIndex((line, index) => index < at && !line.startsWith('# ')) + 1,
    at,
  );
  return prose.map((line) => line.slice(2)).join(' ');
}

test('the example is accepted as it is, and with every key of it switched on', () => {
  for (const text of [EXAMPLE, SWITCHED_ON]) {
    const parsed = parseConfig(text, 'lbd.toml.example', { hostName: 'edge' });
    assert.ok(parsed.ok, parsed.ok ? '' : parsed.error.map(formatProblem).join('\n'));
  }
});

test('the example changes nothing until a key is switched on', () => {
  const [example, empty] = [EXAMPLE, ''].map((text) => parseConfig(text, 'f', { hostName: 'edge' }));
  assert.ok(example?.ok && empty?.ok);
  assert.deepEqual(example.value.config, empty.value.config);
});

test('the example has every table and every key of the schema, each with its documentation above it', () => {
  assert.ok(KEYS.length > 10);
  for (const table of TABLES) {
    assert.ok(table.schema.description, `${table.header} has a description`);
    assert.equal(proseAbove(headerOf(table)), table.schema.description, table.header);
  }
  for (const { table, name, schema } of KEYS) {
    assert.ok(schema.description, `${table.header} ${name} has a description`);
    assert.equal(proseAbove(`#${name} = `, headerOf(table)), schema.description, `${table.header} ${name}`);
  }
});

test('the example shows each key with its default', () => {
  const document = parse(SWITCHED_ON);
  for (const { table, name, schema } of KEYS) {
    const values = table.path.reduce((parent, key) => [parent[key]].flat()[0], document);
    assert.ok(Object.hasOwn(values, name), `${table.header} ${name} is in its table`);
    if (schema.default !== undefined)
      assert.deepEqual(values[name], schema.default, `${table.header} ${name}`);
  }
});
