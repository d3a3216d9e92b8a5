import type { MergedDocument } from './merge.ts';
import type { KeyPath } from './problem.ts';
import { type ConfigDocument, configSchema } from './schema.ts';
import type { Config, ConfigValue } from './types.ts';

/**
 * Every value of a configuration with where it was written, table by table in the order of the schema. `document` has
 * its defaults, `config` what lbd made of it, `merged` what was written.
 */
export function configValues(
  document: ConfigDocument,
  config: Config,
  merged: MergedDocument,
): readonly ConfigValue[] {
  const values: ConfigValue[] = [];
  const add = (path: KeyPath, value: unknown): void => {
    const origin = isWritten(merged.document, path) ? merged.originOf(path) : undefined;
    values.push({
      path,
      value: value as ConfigValue['value'],
      origin: origin && { file: origin.file, line: origin.line },
    });
  };
  const { host } = config;
  const derived = new Map<string, unknown>([
    ['host.name', host.name],
    ['host.node', host.node],
  ]);
  for (const [table, schema] of Object.entries(configSchema().shape)) {
    const inner = schema.def.innerType;
    const content: unknown = document[table as keyof ConfigDocument];
    if ('element' in inner.def) {
      for (const [index, element] of (content as readonly object[]).entries()) {
        for (const key of Object.keys(inner.def.element.shape)) add([table, index, key], field(element, key));
      }
      continue;
    }
    for (const key of Object.keys(inner.def.shape)) {
      add([table, key], field(content, key) ?? derived.get(`${table}.${key}`));
    }
  }
  return values;
}

function isWritten(document: unknown, path: KeyPath): boolean {
  let value = document;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return false;
    value = (value as Record<string | number, unknown>)[part];
  }
  return true;
}

function field(table: unknown, key: string): unknown {
  return (table as Readonly<Record<string, unknown>>)[key];
}
