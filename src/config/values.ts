import { profileTiming } from './gossip.ts';
import type { MergedDocument } from './merge.ts';
import type { KeyPath } from './problem.ts';
import type { ConfigDocument } from './schema.ts';
import { type ConfigTable, configTables } from './tables.ts';
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
  const tables = configTables();
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
  if (config.gossip !== undefined) {
    for (const [key, value] of profileTiming(config.gossip.profile))
      derived.set(`gossip.timing.${key}`, value);
  }
  const addTable = (table: ConfigTable, path: KeyPath, content: unknown): void => {
    // An optional table that nobody wrote has no values.
    if (content === undefined) return;
    for (const key of table.keys)
      add([...path, key], field(content, key) ?? derived.get([...path, key].join('.')));
    const depth = table.path.length;
    for (const inner of tables.filter(({ path: other }) => other.length === depth + 1)) {
      const name = inner.path[depth];
      if (name === undefined || !table.path.every((key, index) => key === inner.path[index])) continue;
      addContent(inner, [...path, name], field(content, name));
    }
  };
  const addContent = (table: ConfigTable, path: KeyPath, content: unknown): void => {
    if (!table.isList) return addTable(table, path, content);
    for (const [index, element] of (content as readonly unknown[]).entries())
      addTable(table, [...path, index], element);
  };
  for (const table of tables) {
    const [name, ...rest] = table.path;
    if (name !== undefined && rest.length === 0) addContent(table, [name], field(document, name));
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
  return table === undefined ? undefined : (table as Readonly<Record<string, unknown>>)[key];
}
