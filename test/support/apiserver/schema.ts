/**
 * A small schema language for API types, after the Go types behind the REST API: which fields exist, how an
 * absent or zero value is written back, which list entries merge by which key. One schema per kind drives
 * decoding (unknown fields are dropped, wrong types refused), strategic merge patch, server-side apply and
 * the OpenAPI documents.
 */

import { badRequest } from './errors.ts';
import { isObject, type Json, type JsonObject } from './json.ts';

/**
 * How a value that carries nothing is written: `omit` like Go's `omitempty` on a plain field, `pointer` keeps
 * an explicit zero but drops null, `always` writes the zero value.
 */
export type Presence = 'omit' | 'pointer' | 'always';

interface Base {
  readonly presence: Presence;
}
export interface ScalarSchema extends Base {
  readonly type: 'string' | 'int32' | 'int64' | 'bool' | 'time' | 'microTime' | 'intOrString' | 'any';
}
export interface MapSchema extends Base {
  readonly type: 'map';
  readonly of: Schema;
  /** Server-side apply: owned as a whole. */
  readonly atomic: boolean;
}
export interface ListSchema extends Base {
  readonly type: 'list';
  readonly of: Schema;
  /** Strategic merge: entries merge by this field; `''` merges a list of plain values; undefined replaces. */
  readonly mergeKey: string | undefined;
  /** Server-side apply: the fields that identify an entry; empty means a set; undefined means atomic. */
  readonly applyKeys: readonly string[] | undefined;
}
export interface StructSchema extends Base {
  readonly type: 'struct';
  readonly name: string;
  readonly fields: Readonly<Record<string, Schema>>;
  readonly atomic: boolean;
}
export type Schema = ScalarSchema | MapSchema | ListSchema | StructSchema;

const scalar = (type: ScalarSchema['type']): ScalarSchema => ({ type, presence: 'omit' });

export const string = scalar('string');
export const int32 = scalar('int32');
export const int64 = scalar('int64');
export const bool = scalar('bool');
export const intOrString: ScalarSchema = { type: 'intOrString', presence: 'always' };
export const time: ScalarSchema = { type: 'time', presence: 'pointer' };
export const microTime: ScalarSchema = { type: 'microTime', presence: 'pointer' };
export const any: ScalarSchema = { type: 'any', presence: 'pointer' };

export function map(of: Schema, options: { atomic?: boolean } = {}): MapSchema {
  return { type: 'map', presence: 'omit', of, atomic: options.atomic ?? false };
}

export function list(
  of: Schema,
  options: { mergeKey?: string; applyKeys?: readonly string[] } = {},
): ListSchema {
  return {
    type: 'list',
    presence: 'omit',
    of,
    mergeKey: options.mergeKey,
    applyKeys: options.applyKeys,
  };
}

/** A struct held by value: it is always written, if only as `{}`. */
export function struct(
  name: string,
  fields: Record<string, Schema>,
  options: { atomic?: boolean } = {},
): StructSchema {
  return { type: 'struct', presence: 'always', name, fields, atomic: options.atomic ?? false };
}

export function pointer<S extends Schema>(schema: S): S {
  return { ...schema, presence: 'pointer' };
}

export function always<S extends Schema>(schema: S): S {
  return { ...schema, presence: 'always' };
}

// ── decoding ─────────────────────────────────────────────────────────────────────────────────────

/** Collects what `fieldValidation=Strict` (or `Warn`) reports. */
export interface DecodeReport {
  readonly unknown: string[];
}

interface Place {
  readonly report: DecodeReport;
  readonly kind: string;
  readonly version: string;
}

/**
 * Reads a request body as the kind the schema describes. Fields come out in schema order, so equal objects
 * serialise to equal text.
 * Throws 400 BadRequest for a value of the wrong type.
 */
export function decode(schema: StructSchema, value: Json, version: string, report: DecodeReport): JsonObject {
  const place: Place = { report, kind: schema.name, version };
  return decodeStruct(schema, value, '', place);
}

function decodeStruct(schema: StructSchema, value: Json, path: string, place: Place): JsonObject {
  if (!isObject(value)) throw wrongType(value, schema.name, path, place);
  const out: JsonObject = {};
  for (const key in value) {
    if (!(key in schema.fields)) place.report.unknown.push(path === '' ? key : `${path}.${key}`);
  }
  for (const key in schema.fields) {
    const field = schema.fields[key];
    if (field === undefined) continue;
    const decoded = decodeField(field, value[key], path === '' ? key : `${path}.${key}`, place);
    if (decoded !== undefined) out[key] = decoded;
  }
  return out;
}

function decodeField(schema: Schema, value: Json | undefined, path: string, place: Place): Json | undefined {
  if (value === undefined || value === null) return schema.presence === 'always' ? zero(schema) : undefined;
  const decoded = decodeValue(schema, value, path, place);
  return schema.presence === 'omit' && isZero(decoded) ? undefined : decoded;
}

function decodeValue(schema: Schema, value: Json, path: string, place: Place): Json {
  switch (schema.type) {
    case 'struct':
      return decodeStruct(schema, value, path, place);
    case 'map':
      return decodeMap(schema, value, path, place);
    case 'list':
      if (!Array.isArray(value)) throw wrongType(value, 'list', path, place);
      return value.map((item, index) =>
        item === null ? zero(schema.of) : decodeValue(schema.of, item, `${path}[${index}]`, place),
      );
    case 'string':
      if (typeof value !== 'string') throw wrongType(value, 'string', path, place);
      return value;
    case 'bool':
      if (typeof value !== 'boolean') throw wrongType(value, 'bool', path, place);
      return value;
    case 'int32':
    case 'int64':
      return decodeInteger(schema.type, value, path, place);
    case 'intOrString':
      if (typeof value === 'string') return value;
      return decodeInteger('int32', value, path, place);
    case 'time':
      return decodeTime(value, path, place);
    case 'microTime':
      return decodeMicroTime(value, path, place);
    case 'any':
      return value;
    default:
      return schema satisfies never;
  }
}

function decodeMap(schema: MapSchema, value: Json, path: string, place: Place): JsonObject {
  if (!isObject(value)) throw wrongType(value, 'map', path, place);
  const out: JsonObject = {};
  for (const key of Object.keys(value).sort()) {
    const item = value[key];
    if (item === undefined) continue;
    out[key] = item === null ? zero(schema.of) : decodeValue(schema.of, item, `${path}.${key}`, place);
  }
  return out;
}

function decodeInteger(type: 'int32' | 'int64', value: Json, path: string, place: Place): number {
  if (typeof value !== 'number') throw wrongType(value, type, path, place);
  const limit = type === 'int32' ? 2 ** 31 : 2 ** 63;
  if (!Number.isInteger(value) || value >= limit || value < -limit) {
    throw badRequest(
      `${heading(place)}json: cannot unmarshal number ${value} into Go struct field ${goPath(place, path)} of type ${type}`,
    );
  }
  return value;
}

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;
const RFC3339_MICRO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{6})(Z|[+-]\d\d:\d\d)$/;

function decodeTime(value: Json, path: string, place: Place): string {
  if (typeof value !== 'string') throw wrongType(value, 'string', path, place);
  const ms = RFC3339.test(value) ? Date.parse(value) : Number.NaN;
  if (Number.isNaN(ms)) throw badTime(value, '2006-01-02T15:04:05Z07:00', place);
  return timeText(ms);
}

/** metav1.MicroTime: exactly six fraction digits, otherwise the API server refuses the object. */
function decodeMicroTime(value: Json, path: string, place: Place): string {
  if (typeof value !== 'string') throw wrongType(value, 'string', path, place);
  const match = RFC3339_MICRO.exec(value);
  const ms = match === null ? Number.NaN : Date.parse(value);
  if (Number.isNaN(ms)) throw badTime(value, '2006-01-02T15:04:05.000000Z07:00', place);
  return `${new Date(ms).toISOString().slice(0, 19)}.${match?.[1]}Z`;
}

function badTime(value: string, layout: string, place: Place): Error {
  return badRequest(
    `${heading(place)}parsing time ${JSON.stringify(value)} as ${JSON.stringify(layout)}: cannot parse`,
  );
}

/** metav1.Time: whole seconds, UTC. */
export function timeText(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function heading(place: Place): string {
  return `${place.kind} in version ${JSON.stringify(place.version)} cannot be handled as a ${place.kind}: `;
}

function goPath(place: Place, path: string): string {
  return `${place.kind}.${path.replaceAll(/\[\d+\]/g, '')}`;
}

function wrongType(value: Json, expected: string, path: string, place: Place): Error {
  const got = Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value;
  const said = got === 'boolean' ? 'bool' : got;
  return badRequest(
    `${heading(place)}json: cannot unmarshal ${said} into Go struct field ${goPath(place, path)} of type ${expected}`,
  );
}

function zero(schema: Schema): Json {
  switch (schema.type) {
    case 'struct': {
      const out: JsonObject = {};
      for (const key in schema.fields) {
        const field = schema.fields[key];
        if (field?.presence === 'always') out[key] = zero(field);
      }
      return out;
    }
    case 'map':
      return {};
    case 'list':
      return [];
    case 'string':
      return '';
    case 'time':
    case 'microTime':
      return null;
    case 'bool':
      return false;
    case 'int32':
    case 'int64':
    case 'intOrString':
      return 0;
    case 'any':
      return null;
    default:
      return schema satisfies never;
  }
}

function isZero(value: Json): boolean {
  if (value === '' || value === 0 || value === false || value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  return isObject(value) && Object.keys(value).length === 0;
}
