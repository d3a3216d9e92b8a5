/** The three patch formats that change a document in place: JSON patch, merge patch, strategic merge patch. */

import { ApiError, badRequest } from './errors.ts';
import { arrayOf, clone, equal, isObject, type Json, type JsonObject, stringOf } from './json.ts';
import type { ListSchema, Schema } from './schema.ts';

/** RFC 7386. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const out: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined) continue;
    if (value === null) delete out[key];
    else out[key] = mergePatch(out[key], value);
  }
  return out;
}

// ── JSON patch, RFC 6902 ─────────────────────────────────────────────────────────────────────────

/** Applies the operations in order. Throws 400 for a malformed patch, 422 when one cannot be applied. */
export function jsonPatch(target: JsonObject, patch: Json): JsonObject {
  if (!Array.isArray(patch)) throw badRequest('error decoding patch: expected an array of operations');
  let document: Json = clone(target);
  for (const operation of patch) {
    if (!isObject(operation)) throw badRequest('error decoding patch: an operation must be an object');
    document = applyOperation(document, operation);
  }
  if (!isObject(document)) throw unapplicable('the document is no object any more');
  return document;
}

function unapplicable(why: string): ApiError {
  return new ApiError(
    422,
    'Invalid',
    `the server rejected our request due to an error in our request: ${why}`,
    {},
  );
}

function applyOperation(document: Json, operation: JsonObject): Json {
  const path = pointer(stringOf(operation['path']));
  const value = operation['value'];
  switch (operation['op']) {
    case 'add':
      return edit(document, path, () => required(value), 'add');
    case 'replace':
      return edit(document, path, () => required(value), 'replace');
    case 'remove':
      return edit(document, path, () => undefined, 'replace');
    case 'test':
      if (!equal(read(document, path), required(value)))
        throw unapplicable(`testing path ${operation['path']} failed`);
      return document;
    case 'copy':
      return edit(document, path, () => clone(read(document, pointer(stringOf(operation['from'])))), 'add');
    case 'move': {
      const from = pointer(stringOf(operation['from']));
      const moved = read(document, from);
      return edit(
        edit(document, from, () => undefined, 'replace'),
        path,
        () => moved,
        'add',
      );
    }
    default:
      throw badRequest(`error decoding patch: unexpected operation ${JSON.stringify(operation['op'])}`);
  }
}

function required(value: Json | undefined): Json {
  if (value === undefined) throw badRequest('error decoding patch: missing value');
  return value;
}

function pointer(text: string): string[] {
  if (text === '') return [];
  if (!text.startsWith('/'))
    throw badRequest(`error decoding patch: path ${JSON.stringify(text)} must start with "/"`);
  return text
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function read(document: Json, path: readonly string[]): Json {
  let here: Json | undefined = document;
  for (const key of path) {
    if (Array.isArray(here)) here = here[Number(key)];
    else here = isObject(here) ? here[key] : undefined;
    if (here === undefined) throw unapplicable(`path /${path.join('/')} does not exist`);
  }
  return here;
}

/** Changes the value at the path; the callback's undefined removes it. */
function edit(
  document: Json,
  path: readonly string[],
  change: () => Json | undefined,
  mode: 'add' | 'replace',
): Json {
  const last = path.at(-1);
  if (last === undefined) return change() ?? null;
  const parent = read(document, path.slice(0, -1));
  if (mode === 'replace') read(document, path);
  const value = change();
  if (Array.isArray(parent)) editList(parent, last, value, mode);
  else if (isObject(parent)) {
    if (value === undefined) delete parent[last];
    else parent[last] = value;
  } else throw unapplicable(`path /${path.join('/')} does not exist`);
  return document;
}

function editList(parent: Json[], key: string, value: Json | undefined, mode: 'add' | 'replace'): void {
  const index = key === '-' ? parent.length : Number(key);
  const limit = mode === 'add' ? parent.length : parent.length - 1;
  if (!Number.isInteger(index) || index < 0 || index > limit)
    throw unapplicable(`index ${key} is out of range`);
  if (value === undefined) parent.splice(index, 1);
  else parent.splice(index, mode === 'add' ? 0 : 1, value);
}

// ── strategic merge patch ────────────────────────────────────────────────────────────────────────

const DIRECTIVE = '$patch';
const DELETE_PRIMITIVES = '$deleteFromPrimitiveList/';
const SET_ORDER = '$setElementOrder/';
const RETAIN_KEYS = '$retainKeys';

/** Kubernetes' own merge: like RFC 7386, except that the schema says which lists merge and by which key. */
export function strategicMergePatch(schema: Schema, target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  if (patch[DIRECTIVE] === 'replace') return without(patch, DIRECTIVE);
  if (patch[DIRECTIVE] === 'delete') return {};
  const out: JsonObject = isObject(target) ? { ...target } : {};
  const retain = patch[RETAIN_KEYS];
  if (Array.isArray(retain)) {
    for (const key of Object.keys(out)) if (!retain.includes(key)) delete out[key];
  }
  for (const [key, value] of Object.entries(patch)) {
    if (value === undefined || key === DIRECTIVE || key === RETAIN_KEYS) continue;
    if (key.startsWith(SET_ORDER)) continue;
    if (key.startsWith(DELETE_PRIMITIVES)) {
      const name = key.slice(DELETE_PRIMITIVES.length);
      const gone = arrayOf(value);
      out[name] = arrayOf(out[name]).filter((item) => !gone.some((other) => equal(item, other)));
    } else if (value === null) delete out[key];
    else out[key] = mergeField(childSchema(schema, key), out[key], value);
  }
  for (const [key, order] of Object.entries(patch)) {
    if (key.startsWith(SET_ORDER)) setOrder(schema, out, key.slice(SET_ORDER.length), arrayOf(order));
  }
  return out;
}

function childSchema(schema: Schema | undefined, key: string): Schema | undefined {
  if (schema?.type === 'struct') return schema.fields[key];
  return schema?.type === 'map' ? schema.of : undefined;
}

function mergeField(schema: Schema | undefined, target: Json | undefined, patch: Json): Json {
  if (schema?.type === 'list' && Array.isArray(patch)) return mergeList(schema, arrayOf(target), patch);
  if (schema === undefined) return mergePatch(target, patch);
  return strategicMergePatch(schema, target, patch);
}

function mergeList(schema: ListSchema, target: Json[], patch: Json[]): Json[] {
  const replace = patch.some((item) => isObject(item) && item[DIRECTIVE] === 'replace');
  if (replace) return patch.filter((item) => !(isObject(item) && item[DIRECTIVE] === 'replace'));
  const key = schema.mergeKey;
  if (key === undefined) return patch;
  if (key === '') return [...target, ...patch.filter((item) => !target.some((other) => equal(item, other)))];
  const out = [...target];
  for (const item of patch) {
    if (!isObject(item)) throw badRequest('strategic merge patch: a list entry must be an object');
    const id = item[key];
    if (id === undefined) {
      throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    }
    const index = out.findIndex((other) => isObject(other) && equal(other[key], id));
    if (item[DIRECTIVE] === 'delete') {
      if (index >= 0) out.splice(index, 1);
    } else if (index >= 0) out[index] = strategicMergePatch(schema.of, out[index], item);
    else out.push(without(item, DIRECTIVE));
  }
  return out;
}

/** `$setElementOrder/x`: entries named there come in that order, the others keep their place behind. */
function setOrder(schema: Schema, out: JsonObject, name: string, order: Json[]): void {
  const list = out[name];
  const child = childSchema(schema, name);
  if (!Array.isArray(list) || child?.type !== 'list' || child.mergeKey === undefined) return;
  const key = child.mergeKey;
  const rank = (item: Json): number => {
    const index = order.findIndex((other) =>
      key === '' ? equal(item, other) : isObject(item) && isObject(other) && equal(item[key], other[key]),
    );
    return index < 0 ? order.length : index;
  };
  out[name] = list
    .map((item, index) => ({ item, index }))
    .sort((a, b) => rank(a.item) - rank(b.item) || a.index - b.index)
    .map(({ item }) => item);
}

function without(object: JsonObject, key: string): JsonObject {
  const { [key]: _, ...rest } = object;
  return rest;
}
