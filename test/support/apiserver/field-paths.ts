/**
 * Field paths as server-side apply speaks of them: `f:name` for a field, `k:{...}` for an entry of a keyed
 * list, `v:...` for a member of a set. A set of paths and the nested FieldsV1 form convert into each other.
 */

import { arrayOf, isObject, type Json, type JsonObject } from './json.ts';
import type { ListSchema, Schema } from './schema.ts';

/** One path: its elements joined by a newline, which no element contains. */
export type Path = string;

/** Each leaf path with its value. An entry of a keyed list counts as a leaf of its own, valued null. */
export type Leaves = Map<Path, Json>;

/** Key fields of list entries that have a default in the API. */
const KEY_DEFAULTS: Readonly<Record<string, Json>> = { protocol: 'TCP' };

export function leaves(schema: Schema, value: Json): Leaves {
  const out: Leaves = new Map();
  collect(schema, value, '', out);
  return out;
}

function collect(schema: Schema | undefined, value: Json, path: Path, out: Leaves): void {
  const inner = (element: string): Path => (path === '' ? element : `${path}\n${element}`);
  if (isObject(value) && (schema?.type === 'map' || schema?.type === 'struct') && !schema.atomic) {
    for (const [key, item] of Object.entries(value)) {
      if (item === undefined || item === null) continue;
      const child = schema.type === 'map' ? schema.of : schema.fields[key];
      if (child !== undefined) collect(child, item, inner(`f:${key}`), out);
    }
    return;
  }
  if (schema?.type === 'list' && schema.applyKeys !== undefined && Array.isArray(value)) {
    for (const item of value) {
      const element = listElement(schema, item);
      out.set(inner(element), null);
      if (schema.applyKeys.length > 0) collect(schema.of, item, inner(element), out);
    }
    return;
  }
  out.set(path, value);
}

/** How an entry of a keyed list or a set is named in a path. */
export function listElement(schema: ListSchema, item: Json): string {
  const keys = schema.applyKeys ?? [];
  if (keys.length === 0) return `v:${JSON.stringify(item)}`;
  const fields = isObject(item) ? item : {};
  return `k:${JSON.stringify(Object.fromEntries(keys.map((key) => [key, fields[key] ?? KEY_DEFAULTS[key] ?? null])))}`;
}

/** Removes what the path names from the value, in place. */
export function removePath(
  schema: Schema | undefined,
  value: Json | undefined,
  path: readonly string[],
): void {
  const [element = '', ...rest] = path;
  if (Array.isArray(value) && schema?.type === 'list') {
    const index = value.findIndex((item) => listElement(schema, item) === element);
    if (index < 0) return;
    if (rest.length === 0) value.splice(index, 1);
    else removePath(schema.of, value[index], rest);
  } else if (isObject(value)) {
    const key = element.slice(2);
    const child =
      schema?.type === 'struct' ? schema.fields[key] : schema?.type === 'map' ? schema.of : undefined;
    if (rest.length === 0) delete value[key];
    else removePath(child, value[key], rest);
  }
}

/** Puts what an apply says over what is there: keyed lists merge by key, sets unite, the rest is replaced. */
export function mergeApplied(schema: Schema | undefined, live: Json | undefined, applied: Json): Json {
  if (isObject(applied) && (schema?.type === 'map' || schema?.type === 'struct') && !schema.atomic) {
    const out: JsonObject = isObject(live) ? { ...live } : {};
    for (const [key, item] of Object.entries(applied)) {
      if (item === undefined || item === null) continue;
      out[key] = mergeApplied(schema.type === 'map' ? schema.of : schema.fields[key], out[key], item);
    }
    return out;
  }
  if (schema?.type !== 'list' || schema.applyKeys === undefined || !Array.isArray(applied)) return applied;
  const out = [...arrayOf(live)];
  for (const item of applied) {
    const element = listElement(schema, item);
    const index = out.findIndex((other) => listElement(schema, other) === element);
    if (index < 0) out.push(item);
    else out[index] = mergeApplied(schema.of, out[index], item);
  }
  return out;
}

/** `.spec.ports[port=80,protocol="TCP"].nodePort`, as conflict messages write paths. */
export function shownPath(path: Path): string {
  return path
    .split('\n')
    .map((element) => {
      const rest = element.slice(2);
      if (element.startsWith('f:')) return `.${rest}`;
      if (element.startsWith('v:')) return `[=${rest}]`;
      const keys = Object.entries(JSON.parse(rest) as JsonObject);
      return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`;
    })
    .join('');
}

export function toFieldsV1(paths: Iterable<Path>): JsonObject {
  const root: JsonObject = {};
  for (const path of paths) {
    let here = root;
    for (const element of path.split('\n')) {
      const next = here[element];
      const child: JsonObject = isObject(next) ? next : {};
      here[element] = child;
      here = child;
    }
    if (!path.slice(path.lastIndexOf('\n') + 1).startsWith('f:')) here['.'] = {};
  }
  return root;
}

export function fromFieldsV1(fields: Json | undefined): Set<Path> {
  const out = new Set<Path>();
  const walk = (node: JsonObject, path: Path): void => {
    const keys = Object.keys(node);
    if ((keys.length === 0 || '.' in node) && path !== '') out.add(path);
    for (const key of keys) {
      const child = node[key];
      if (key !== '.' && isObject(child)) walk(child, path === '' ? key : `${path}\n${key}`);
    }
  };
  if (isObject(fields)) walk(fields, '');
  return out;
}
