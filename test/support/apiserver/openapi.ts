/**
 * OpenAPI documents, as far as kubectl needs them: it looks for the patch operation of a kind to learn that
 * the server checks fields itself, and (older ones) for the schemas themselves.
 */

import { createHash } from 'node:crypto';
import type { Listed } from './discovery.ts';
import type { JsonObject } from './json.ts';
import type { Resource } from './resources.ts';
import type { Schema } from './schema.ts';

const INFO = { title: 'Kubernetes', version: 'v1.36.0' };

function groupVersionPath(resource: Listed): string {
  return resource.group === '' ? `api/${resource.version}` : `apis/${resource.group}/${resource.version}`;
}

function componentName(resource: Resource): string {
  const group = resource.group === '' ? 'core' : resource.group.split('.')[0];
  return `io.k8s.api.${group}.${resource.version}.${resource.kind}`;
}

function groupVersionKind(resource: Resource): JsonObject {
  return { group: resource.group, version: resource.version, kind: resource.kind };
}

/** The list of documents; the hash makes clients fetch a document again when it changed. */
export function openApiV3Index(resources: readonly Listed[]): JsonObject {
  const paths = [...new Set(resources.map(groupVersionPath))].filter(
    (path) => !path.includes('authorization'),
  );
  const entries = paths.map((path) => {
    const hash = createHash('sha256').update(INFO.version).update(path).digest('hex').toUpperCase();
    return [path, { serverRelativeURL: `/openapi/v3/${path}?hash=${hash}` }];
  });
  return { paths: Object.fromEntries(entries) as JsonObject };
}

export function openApiV3(resources: readonly Resource[]): JsonObject {
  const schemas: JsonObject = {};
  const paths: JsonObject = {};
  for (const resource of resources) {
    schemas[componentName(resource)] = kindSchema(resource);
    paths[itemPath(resource)] = { patch: patchOperation(resource, true) };
  }
  return { openapi: '3.0.0', info: INFO, paths, components: { schemas } };
}

export function openApiV2(resources: readonly Resource[]): JsonObject {
  const definitions: JsonObject = {};
  const paths: JsonObject = {};
  for (const resource of resources) {
    definitions[componentName(resource)] = kindSchema(resource);
    paths[itemPath(resource)] = { patch: patchOperation(resource, false) };
  }
  return { swagger: '2.0', info: INFO, paths, definitions };
}

/** The same document in protobuf, without its schemas: a client then leaves checking to the server. */
export function openApiV2Protobuf(): Buffer {
  const text = (field: number, value: string): Buffer =>
    Buffer.concat([Buffer.from([(field << 3) | 2, Buffer.byteLength(value)]), Buffer.from(value)]);
  const info = Buffer.concat([text(1, INFO.title), text(2, INFO.version)]);
  return Buffer.concat([text(1, '2.0'), Buffer.from([(2 << 3) | 2, info.length]), info]);
}

function itemPath(resource: Resource): string {
  const scope = resource.namespaced ? 'namespaces/{namespace}/' : '';
  return `/${groupVersionPath(resource)}/${scope}${resource.plural}/{name}`;
}

function patchOperation(resource: Resource, v3: boolean): JsonObject {
  const query = (name: string): JsonObject => ({
    name,
    in: 'query',
    ...(v3 ? { schema: { type: 'string', uniqueItems: true } } : { type: 'string', uniqueItems: true }),
  });
  return {
    operationId: `patch${resource.kind}`,
    parameters: ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map(query),
    responses: { '200': { description: 'OK' } },
    'x-kubernetes-action': 'patch',
    'x-kubernetes-group-version-kind': groupVersionKind(resource),
  };
}

function kindSchema(resource: Resource): JsonObject {
  return { ...schemaOf(resource.schema), 'x-kubernetes-group-version-kind': [groupVersionKind(resource)] };
}

function schemaOf(schema: Schema): JsonObject {
  switch (schema.type) {
    case 'struct':
      return {
        type: 'object',
        properties: Object.fromEntries(
          Object.entries(schema.fields).map(([key, field]) => [key, schemaOf(field)]),
        ),
        ...(schema.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
      };
    case 'map':
      return {
        type: 'object',
        additionalProperties: schemaOf(schema.of),
        ...(schema.atomic ? { 'x-kubernetes-map-type': 'atomic' } : {}),
      };
    case 'list':
      return { type: 'array', items: schemaOf(schema.of), ...listExtensions(schema) };
    case 'int32':
    case 'int64':
      return { type: 'integer', format: schema.type };
    case 'bool':
      return { type: 'boolean' };
    case 'time':
    case 'microTime':
      return { type: 'string', format: 'date-time' };
    case 'intOrString':
      return { type: 'string', format: 'int-or-string' };
    case 'string':
      return { type: 'string' };
    case 'any':
      return {};
    default:
      return schema satisfies never;
  }
}

function listExtensions(schema: Extract<Schema, { type: 'list' }>): JsonObject {
  const out: JsonObject = {};
  if (schema.applyKeys === undefined) out['x-kubernetes-list-type'] = 'atomic';
  else if (schema.applyKeys.length === 0) out['x-kubernetes-list-type'] = 'set';
  else {
    out['x-kubernetes-list-type'] = 'map';
    out['x-kubernetes-list-map-keys'] = [...schema.applyKeys];
  }
  if (schema.mergeKey !== undefined) out['x-kubernetes-patch-strategy'] = 'merge';
  if (schema.mergeKey !== undefined && schema.mergeKey !== '')
    out['x-kubernetes-patch-merge-key'] = schema.mergeKey;
  return out;
}
