import parser from 'toml/lib/parser.js';
import type { KeyPath } from './problem.ts';

/** Finds the 1-based line of what a path names, or of the nearest thing around it that the document has. */
export type Locator = (path: KeyPath) => number | undefined;

/**
 * A locator for a document that `toml.parse()` accepts: tables, arrays of tables, dotted keys, inline tables and the
 * elements of arrays. It reads the package's own syntax tree, so that both agree on what stands where.
 */
export function createLocator(text: string): Locator {
  const root = buildTree(parser.parse(text) as readonly TomlNode[]);
  const lineOf = createLineIndex(text);
  return (path) => {
    let place = root;
    for (const part of path) {
      const next = typeof part === 'number' ? place.items[part] : place.keys.get(part);
      if (next === undefined) break;
      place = next;
    }
    return place.offset === undefined ? undefined : lineOf(place.offset);
  };
}

/** 1-based line and column of an offset. */
export function lineAndColumn(
  text: string,
  offset: number,
): { readonly line: number; readonly column: number } {
  const line = createLineIndex(text)(offset);
  return { line, column: offset - text.slice(0, offset).lastIndexOf('\n') };
}

/** The tree of the toml package, as far as places go; offsets are in UTF-16 units. */
type TomlNode =
  | {
      readonly type: 'ObjectPath' | 'ArrayPath';
      readonly value: readonly string[];
      readonly offset: number;
    }
  | TomlAssignment
  | { readonly type: 'Comment' };

type TomlAssignment = {
  readonly type: 'Assign' | 'InlineTableValue';
  readonly key: string | readonly string[];
  readonly value: TomlValue;
  readonly offset: number;
};

type TomlValue =
  | { readonly type: 'Array'; readonly value: readonly TomlValue[]; readonly offset: number }
  | { readonly type: 'InlineTable'; readonly value: readonly TomlAssignment[]; readonly offset: number }
  | { readonly type: 'String' | 'Integer' | 'Float' | 'Boolean'; readonly offset: number };

type Place = {
  /** Undefined for the root, which is nowhere in particular. */
  readonly offset: number | undefined;
  readonly keys: Map<string, Place>;
  readonly items: Place[];
};

function place(offset: number | undefined): Place {
  return { offset, keys: new Map(), items: [] };
}

function buildTree(nodes: readonly TomlNode[]): Place {
  const root = place(undefined);
  let table = root;
  for (const node of nodes) {
    if (node.type === 'ObjectPath') table = descend(root, node.value, node.offset);
    if (node.type === 'ArrayPath') {
      const array = child(
        descend(root, node.value.slice(0, -1), node.offset),
        node.value.at(-1) ?? '',
        node.offset,
      );
      table = place(node.offset);
      array.items.push(table);
    }
    if (node.type === 'Assign') assign(table, node.key, node.value, node.offset);
  }
  return root;
}

function assign(table: Place, key: string | readonly string[], value: TomlValue, offset: number): void {
  const path = typeof key === 'string' ? [key] : key;
  const parent = descend(table, path.slice(0, -1), offset);
  const target = place(offset);
  parent.keys.set(path.at(-1) ?? '', target);
  fill(target, value);
}

function fill(target: Place, value: TomlValue): void {
  if (value.type === 'Array') {
    for (const element of value.value) {
      const item = place(element.offset);
      target.items.push(item);
      fill(item, element);
    }
  }
  if (value.type === 'InlineTable') {
    for (const entry of value.value) {
      if (entry.type === 'InlineTableValue') assign(target, entry.key, entry.value, entry.offset);
    }
  }
}

/** A header that passes through an array of tables means its latest element (TOML 1.1, Array of Tables). */
function descend(from: Place, path: readonly string[], offset: number): Place {
  let table = from;
  for (const key of path) {
    const next = child(table, key, offset);
    table = next.items.at(-1) ?? next;
  }
  return table;
}

function child(table: Place, key: string, offset: number): Place {
  const existing = table.keys.get(key);
  if (existing !== undefined) return existing;
  const created = place(offset);
  table.keys.set(key, created);
  return created;
}

function createLineIndex(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let [low, high] = [0, starts.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  };
}
