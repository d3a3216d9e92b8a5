import type { Locator } from './locate.ts';
import type { KeyPath } from './problem.ts';
import type { TomlTable } from './syntax.ts';

/**
 * One configuration out of the main file and its drop-ins, which remembers where each value came from. Later files win:
 * tables merge key by key, arrays of tables such as [[pool]] append, and everything else takes the place of what was there.
 */

/** One file of the configuration, parsed. */
export type Layer = { readonly file: string; readonly document: TomlTable; readonly locate: Locator };

export type MergedDocument = {
  readonly document: TomlTable;
  /** Where a value of the merged document was written, or the nearest thing around it. */
  readonly originOf: (path: KeyPath) => Origin;
};

export type Origin = {
  /** The index of the file among the layers. */
  readonly layer: number;
  readonly file: string;
  /** 1-based; undefined for the root, which is nowhere in particular. */
  readonly line: number | undefined;
  /** The path within that file: the first [[pool]] of a drop-in is its `pool[0]`, however many come before it. */
  readonly path: KeyPath;
};

/** Tables within tables, far more than the schema has: what is deeper is replaced as a whole. */
const MERGE_DEPTH = 8;

/** `layers` has at least the main file. Pure; the given documents stay as they are. */
export function mergeLayers(layers: readonly Layer[]): MergedDocument {
  const [first] = layers;
  if (first === undefined) return { document: {}, originOf: () => NOWHERE };
  let root: Merged = { value: first.document, source: { kind: 'whole', layer: 0, path: [] } };
  for (const [layer, { document }] of layers.entries()) {
    if (layer > 0) root = mergeTable(root, document, { layer, path: [] }, MERGE_DEPTH);
  }
  const { value, source } = root;
  return { document: value as TomlTable, originOf: (path) => originOf(path, source, layers) };
}

const NOWHERE: Origin = { layer: 0, file: '', line: undefined, path: [] };

type Spot = { readonly layer: number; readonly path: KeyPath };

/** Where the parts of a value are from, opened up only where files were merged. */
type Source = Spot &
  (
    | { readonly kind: 'whole' }
    | { readonly kind: 'table'; readonly keys: ReadonlyMap<string, Source> }
    | { readonly kind: 'array'; readonly items: readonly Source[] }
  );

type Merged = { readonly value: unknown; readonly source: Source };

function mergeTable(base: Merged, over: TomlTable, spot: Spot, depth: number): Merged {
  // No prototype: a key may be called __proto__.
  const value: Record<string, unknown> = Object.assign(Object.create(null), base.value);
  const keys = new Map<string, Source>();
  for (const key of Object.keys(value)) keys.set(key, child(base.source, key));
  for (const [key, given] of Object.entries(over)) {
    const there = keys.get(key);
    const at = { layer: spot.layer, path: [...spot.path, key] };
    const before: Merged | undefined = there && { value: value[key], source: there };
    const merged = mergeValue(before, given, at, depth - 1);
    value[key] = merged.value;
    keys.set(key, merged.source);
  }
  const { layer, path } = base.source;
  return { value, source: { kind: 'table', layer, path, keys } };
}

function mergeValue(before: Merged | undefined, given: unknown, at: Spot, depth: number): Merged {
  if (before !== undefined && depth > 0) {
    if (isTable(before.value) && isTable(given)) return mergeTable(before, given, at, depth);
    if (isArrayOfTables(before.value) && isArrayOfTables(given)) {
      return append(before, before.value, given, at);
    }
  }
  return { value: given, source: { kind: 'whole', ...at } };
}

function append(
  { source }: Merged,
  before: readonly TomlTable[],
  given: readonly TomlTable[],
  at: Spot,
): Merged {
  const items = [
    ...before.map((_, index) => child(source, index)),
    ...given.map((_, index): Source => ({ kind: 'whole', layer: at.layer, path: [...at.path, index] })),
  ];
  const { layer, path } = source;
  return { value: [...before, ...given], source: { kind: 'array', layer, path, items } };
}

function child(source: Source, part: string | number): Source {
  const known =
    source.kind === 'table' && typeof part === 'string'
      ? source.keys.get(part)
      : source.kind === 'array' && typeof part === 'number'
        ? source.items[part]
        : undefined;
  return known ?? { kind: 'whole', layer: source.layer, path: [...source.path, part] };
}

function originOf(path: KeyPath, root: Source, layers: readonly Layer[]): Origin {
  let source = root;
  for (const part of path) source = child(source, part);
  const layer = layers[source.layer];
  if (layer === undefined) return NOWHERE;
  return {
    layer: source.layer,
    file: layer.file,
    line: layer.locate(source.path),
    path: source.path,
  };
}

function isTable(value: unknown): value is TomlTable {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isArrayOfTables(value: unknown): value is readonly TomlTable[] {
  return Array.isArray(value) && value.length > 0 && value.every(isTable);
}
