/** Takes one HTTP request apart: what it asks for, of which resource, in whose name, with which body. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  type ApiError,
  badRequest,
  forbidden,
  methodNotAllowed,
  noSuchResource,
  unsupportedMediaType,
} from './errors.ts';
import { isObject, type Json, type JsonObject } from './json.ts';
import { fromProtobuf, PROTOBUF, readsProtobuf } from './protobuf.ts';
import type { Attempt } from './rbac.ts';
import { isWatch } from './read.ts';
import { type ResourcePath, resourcePath } from './request.ts';
import type { Resource } from './resources.ts';
import type { StructSchema } from './schema.ts';
import type { Identity } from './users.ts';

/** As etcd and the real server limit it. */
export const BODY_LIMIT_BYTES = 3 * 1024 * 1024;
/** One request, taken apart. */
export interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly path: ResourcePath | undefined;
  readonly verb: string;
  /** With the subresource; a path when it names no resource. */
  readonly resource: string;
  readonly name: string;
  readonly body: Buffer;
  readonly receivedAtMs: number;
  startedAt: number;
  readonly identity: Identity | undefined;
  readonly warnings: string[];
}

/** The whole body; undefined when the client went away. Reads on past the limit, but keeps no more. */
export async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  if (request.method === 'GET' || request.method === 'HEAD') return Buffer.alloc(0);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of request) {
      size += (chunk as Buffer).length;
      if (size <= BODY_LIMIT_BYTES + 65_536) chunks.push(chunk as Buffer);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks);
}

export function takeApart(
  request: IncomingMessage,
  response: ServerResponse,
  body: Buffer,
  identity: Identity | undefined,
): Call {
  const url = new URL(request.url ?? '/', 'https://server');
  const path = resourcePath(url.pathname);
  const verb = verbOf(request.method ?? 'GET', path, url.searchParams);
  const resource =
    path === undefined || path.plural === ''
      ? url.pathname
      : `${path.plural}${path.subresource === '' ? '' : `/${path.subresource}`}`;
  return {
    request,
    response,
    url,
    path,
    verb,
    resource,
    name: path?.name || selectedName(url.searchParams),
    body,
    receivedAtMs: Date.now(),
    startedAt: performance.now(),
    identity,
    warnings: [],
  };
}

function verbOf(method: string, path: ResourcePath | undefined, query: URLSearchParams): string {
  if (path === undefined || path.plural === '') return method === 'HEAD' ? 'get' : method.toLowerCase();
  const collection = path.name === '';
  switch (method) {
    case 'GET':
    case 'HEAD':
      if (isWatch(query)) return 'watch';
      return collection ? 'list' : 'get';
    case 'POST':
      return 'create';
    case 'PUT':
      return 'update';
    case 'PATCH':
      return 'patch';
    case 'DELETE':
      return collection ? 'deletecollection' : 'delete';
    default:
      return method.toLowerCase();
  }
}

/** A collection selected down to one name counts as that name for authorization. */
function selectedName(query: URLSearchParams): string {
  return /(?:^|,)metadata\.name==?([^,]+)/.exec(query.get('fieldSelector') ?? '')?.[1] ?? '';
}

export function checkPath(resource: Resource, path: ResourcePath, verb: string): void {
  const readsAll = verb === 'list' || verb === 'watch' || verb === 'deletecollection';
  if (!resource.namespaced && path.namespace !== '') throw noSuchResource();
  if (resource.namespaced && path.namespace === '') {
    if (path.name !== '') throw noSuchResource();
    if (!readsAll || verb === 'deletecollection') throw methodNotAllowed();
  }
  if (path.subresource === 'token') return;
  const collectionVerb = readsAll || verb === 'create';
  if (path.name === '' && !collectionVerb) throw methodNotAllowed();
  if (path.name !== '' && verb === 'create') throw methodNotAllowed();
  if (path.subresource === '') return;
  if (path.subresource !== 'status' || !resource.hasStatus) throw noSuchResource();
  if (!['get', 'update', 'patch'].includes(verb)) throw methodNotAllowed();
}

export function refusal(identity: Identity, attempt: Attempt): ApiError {
  const where =
    attempt.namespace === ''
      ? 'at the cluster scope'
      : `in the namespace ${JSON.stringify(attempt.namespace)}`;
  const plural = attempt.resource.split('/')[0] ?? '';
  return forbidden(
    { group: attempt.group, plural, kind: plural },
    attempt.verb === 'list' || attempt.verb === 'watch' ? '' : attempt.name,
    `User ${JSON.stringify(identity.name)} cannot ${attempt.verb} resource ${JSON.stringify(attempt.resource)} in API group ${JSON.stringify(attempt.group)} ${where}`,
  );
}

export function mediaType(request: IncomingMessage): string {
  return (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}

/** The manager of a client that names none: the program's name in its User-Agent. */
export function managerOf(request: IncomingMessage): string {
  return (request.headers['user-agent'] ?? 'unknown').split('/')[0]?.slice(0, 128) || 'unknown';
}

export function parseBody(call: Call, schema: StructSchema): JsonObject {
  const type = mediaType(call.request);
  if (type === PROTOBUF && readsProtobuf(schema)) return fromProtobuf(schema, call.body);
  if (type !== '' && type !== 'application/json' && type !== '*/*') {
    throw unsupportedMediaType(['application/json', 'application/yaml', PROTOBUF]);
  }
  const value = parseJson(call.body);
  if (!isObject(value)) throw badRequest('the body of the request must be a JSON object');
  return value;
}

/** DeleteOptions; undefined when there are none. */
export function deleteOptions(call: Call): JsonObject | undefined {
  if (call.body.length === 0 || mediaType(call.request) === PROTOBUF) return undefined;
  const value = parseJson(call.body);
  return isObject(value) ? value : undefined;
}

export function parseJson(body: Buffer): Json {
  try {
    return JSON.parse(body.toString()) as Json;
  } catch (error) {
    throw badRequest(
      `the object provided is unrecognized: json parse error: ${error instanceof Error ? error.message : error}`,
    );
  }
}
