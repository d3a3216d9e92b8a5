import { configJsonSchema } from '../../../src/config/json-schema.ts';

/** The tables of the JSON Schema, those in tables included, for tests that compare documents with it. */

export type JsonSchema = {
  readonly description?: string;
  readonly default?: unknown;
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
};

export type SchemaTable = {
  /** `[log]`, `[[pool]]`, `[gossip.timing]`. */
  readonly header: string;
  readonly path: readonly string[];
  readonly schema: JsonSchema;
  readonly keys: readonly (readonly [name: string, schema: JsonSchema])[];
  /** It changes something by being there: a list of tables, or one without a default. */
  readonly isOptional: boolean;
};

export function schemaTables(): readonly SchemaTable[] {
  return tablesOf([], configJsonSchema() as JsonSchema, false);
}

function tablesOf(
  path: readonly string[],
  schema: JsonSchema,
  isWithinOptional: boolean,
): readonly SchemaTable[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, table]) => {
    if (table.properties === undefined && table.items?.properties === undefined) return [];
    const own = [...path, name];
    const isOptional = isWithinOptional || table.items !== undefined || table.default === undefined;
    const entries = Object.entries((table.items ?? table).properties ?? {});
    const keys = entries.filter(([, value]) => value.properties === undefined);
    const header = table.items === undefined ? `[${own.join('.')}]` : `[[${own.join('.')}]]`;
    return [
      { header, path: own, schema: table, keys, isOptional },
      ...tablesOf(own, table.items ?? table, isOptional),
    ];
  });
}
