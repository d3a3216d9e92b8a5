/** Takes one authenticated request through faults, authorization and routing to its answer. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import {
  BODY_LIMIT_BYTES,
  type Call,
  checkPath,
  deleteOptions,
  managerOf,
  mediaType,
  parseBody,
  parseJson,
  readBody,
  refusal,
  takeApart,
} from './call.ts';
import type { Cluster } from './cluster.ts';
import { discoveryDocument } from './discovery.ts';
import {
  ApiError,
  internalError,
  methodNotAllowed,
  noSuchResource,
  notFound,
  unauthorized,
} from './errors.ts';
import type { Faults } from './faults.ts';
import { type JsonObject, stringOf } from './json.ts';
import { SELF_SUBJECT_ACCESS_REVIEW, TOKEN_REQUEST } from './kinds.ts';
import type { Attempt, Authorizer } from './rbac.ts';
import { getEntry, listEntries } from './read.ts';
import { type ResourcePath, viewOf } from './request.ts';
import type { Resource } from './resources.ts';
import { accessReview, tokenRequest } from './reviews.ts';
import type { StatsCounter } from './stats.ts';
import { type IncludeObject, listText, oneText } from './tables.ts';
import { authenticated, type Identity, type Users } from './users.ts';
import { Watch, type WatchSettings } from './watch.ts';
import type { WriteRequest, WriteResult, Writer } from './write.ts';

/** A watcher that takes nothing for this much is cut off. */
const WATCH_BACKLOG_LIMIT_BYTES = 64 * 1024 * 1024;

export interface HandlerParts {
  readonly cluster: Cluster;
  readonly writer: Writer;
  readonly authorizer: Authorizer;
  readonly users: Users;
  readonly faults: Faults;
  readonly counter: StatsCounter;
  readonly watchSettings: WatchSettings;
  readonly watches: Set<Watch>;
  /** Runs work on a connection unless faults silence it. */
  readonly whenAwake: (socket: Socket, work: () => void) => void;
}

export class Handler {
  private readonly parts: HandlerParts;

  constructor(parts: HandlerParts) {
    this.parts = parts;
  }

  async handle(
    request: IncomingMessage,
    response: ServerResponse,
    identity: Identity | undefined,
  ): Promise<void> {
    const body = await readBody(request);
    if (body === undefined) return;
    const call = takeApart(request, response, body, identity);
    const user = identity?.name ?? '';
    const verdict = this.parts.faults.verdict({ verb: call.verb, resource: call.resource, user });
    if (verdict.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, verdict.delayMs));
    if (verdict.effect === 'hang') return;
    if (verdict.effect === 'drop') {
      request.socket.destroy();
      return;
    }
    call.startedAt = performance.now();
    try {
      if (verdict.error !== undefined) throw verdict.error;
      if (body.length > BODY_LIMIT_BYTES) {
        throw new ApiError(
          413,
          'RequestEntityTooLarge',
          `Request entity too large: limit is ${BODY_LIMIT_BYTES}`,
        );
      }
      await this.authorizeAndServe(call);
    } catch (error) {
      this.answerError(call, error);
    }
  }

  private async authorizeAndServe(call: Call): Promise<void> {
    const { path } = call;
    if (call.identity === undefined) throw unauthorized();
    const identity = this.impersonated(call, call.identity);
    if (path === undefined || path.plural === '') {
      this.serveDocument(call, identity);
      return;
    }
    const attempt: Attempt = {
      verb: call.verb,
      group: path.group,
      resource: call.resource,
      namespace: path.namespace,
      name: call.name,
    };
    if (!this.parts.authorizer.allows(identity, attempt)) throw refusal(identity, attempt);
    if (path.group === 'authorization.k8s.io' && path.plural === 'selfsubjectaccessreviews') {
      if (call.verb !== 'create') throw methodNotAllowed();
      this.answer(
        call,
        201,
        JSON.stringify(
          accessReview(parseBody(call, SELF_SUBJECT_ACCESS_REVIEW), identity, this.parts.authorizer),
        ),
      );
      return;
    }
    const resource = this.parts.cluster.resource(path.group, path.version, path.plural);
    if (resource === undefined) throw noSuchResource();
    await this.serveResource(call, resource, path);
  }

  /** `kubectl --as`: acts as somebody else, for those who may. */
  private impersonated(call: Call, identity: Identity): Identity {
    const user = call.request.headers['impersonate-user'];
    if (typeof user !== 'string') return identity;
    const attempt = { verb: 'impersonate', group: '', resource: 'users', namespace: '', name: user };
    if (!this.parts.authorizer.allows(identity, attempt)) throw refusal(identity, attempt);
    return authenticated(user, [call.request.headers['impersonate-group'] ?? []].flat());
  }

  private serveDocument(call: Call, identity: Identity): void {
    const { pathname } = call.url;
    if (!this.parts.authorizer.allowsPath(identity, pathname)) {
      const text = `User ${JSON.stringify(identity.name)} cannot ${call.verb} path ${JSON.stringify(pathname)}`;
      throw new ApiError(403, 'Forbidden', `forbidden: ${text}`, {});
    }
    const document = discoveryDocument(
      this.parts.cluster.resources,
      pathname,
      call.request.headers.accept ?? '',
    );
    if (document === undefined) {
      this.answer(call, 404, '404 page not found\n', 'text/plain; charset=utf-8');
      return;
    }
    if (call.request.method !== 'GET' && call.request.method !== 'HEAD') throw methodNotAllowed();
    this.answer(call, 200, document.body, document.contentType);
  }

  private async serveResource(call: Call, resource: Resource, path: ResourcePath): Promise<void> {
    checkPath(resource, path, call.verb);
    const { cluster, writer } = this.parts;
    const view = viewOf(call.request.headers.accept);
    const include = (call.url.searchParams.get('includeObject') as IncludeObject | null) ?? 'Metadata';
    const query = call.url.searchParams;
    if (path.subresource === 'token') {
      this.serveToken(call, resource, path);
      return;
    }
    switch (call.verb) {
      case 'watch':
        this.serveWatch(call, resource, path, view, include);
        return;
      case 'list': {
        const result = await listEntries(cluster, resource, path.namespace, query);
        this.answer(call, 200, listText(resource, result.entries, result.metadata, view, include));
        return;
      }
      case 'get': {
        const entry = await getEntry(cluster, resource, path.namespace, path.name, query);
        this.answer(call, 200, oneText(resource, entry, view, include));
        return;
      }
      case 'create':
      case 'update':
      case 'patch':
      case 'delete':
        this.answerWrite(call, resource, this.write(call, resource, path, writer));
        return;
      case 'deletecollection':
        await this.deleteCollection(call, resource, path);
        return;
      default:
        throw methodNotAllowed();
    }
  }

  private write(call: Call, resource: Resource, path: ResourcePath, writer: Writer): WriteResult {
    const type = mediaType(call.request);
    const query = call.url.searchParams;
    const common = {
      resource,
      namespace: path.namespace,
      name: path.name,
      subresource: path.subresource,
      query,
      manager: query.get('fieldManager') || managerOf(call.request),
      warnings: call.warnings,
    };
    if (call.verb === 'patch') {
      const request: WriteRequest = { ...common, body: parseJson(call.body) as JsonObject };
      return writer.patch(request, type);
    }
    if (call.verb === 'delete') return writer.delete({ ...common, body: deleteOptions(call) });
    const request: WriteRequest = { ...common, body: parseBody(call, resource.schema) };
    if (call.verb === 'create') return writer.create(request);
    return writer.update(request);
  }

  private answerWrite(call: Call, resource: Resource, result: WriteResult): void {
    if (result.deleted === true && !resource.returnsDeleted) {
      const status = {
        kind: 'Status',
        apiVersion: 'v1',
        metadata: {},
        status: 'Success',
        details: {
          name: result.entry.object.metadata.name,
          ...(resource.group === '' ? {} : { group: resource.group }),
          kind: resource.plural,
          uid: stringOf(result.entry.object.metadata['uid']),
        },
      };
      this.answer(call, 200, JSON.stringify(status));
      return;
    }
    const view = viewOf(call.request.headers.accept);
    this.answer(call, result.code, oneText(resource, result.entry, view, 'Object'));
  }

  private async deleteCollection(call: Call, resource: Resource, path: ResourcePath): Promise<void> {
    const query = new URLSearchParams(call.url.searchParams);
    for (const name of ['limit', 'continue', 'resourceVersion', 'resourceVersionMatch']) query.delete(name);
    const { entries, metadata } = await listEntries(this.parts.cluster, resource, path.namespace, query);
    const body = deleteOptions(call);
    for (const entry of entries) this.parts.writer.remove({ resource, query, body }, entry);
    this.answer(call, 200, listText(resource, entries, metadata, 'object', 'None'));
  }

  private serveToken(call: Call, resource: Resource, path: ResourcePath): void {
    if (call.verb !== 'create' || resource.plural !== 'serviceaccounts') throw methodNotAllowed();
    const account = this.parts.cluster.table(resource).get(`${path.namespace}/${path.name}`);
    if (account === undefined) throw notFound(resource, path.name);
    const answer = tokenRequest(parseBody(call, TOKEN_REQUEST), path.namespace, path.name, this.parts.users);
    this.answer(call, 201, JSON.stringify(answer));
  }

  // ── watches ────────────────────────────────────────────────────────────────────────────────────

  private serveWatch(
    call: Call,
    resource: Resource,
    path: ResourcePath,
    view: ReturnType<typeof viewOf>,
    include: IncludeObject,
  ): void {
    const { response, request } = call;
    const { watches, counter, whenAwake } = this.parts;
    const query = new URLSearchParams(call.url.searchParams);
    if (path.name !== '') query.set('fieldSelector', `metadata.name=${path.name}`);
    const sink = {
      open: (): void => {
        response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' });
        whenAwake(request.socket, () => response.flushHeaders());
        this.record(call, 200);
      },
      line: (text: string): void => {
        counter.watchEvents += 1;
        whenAwake(request.socket, () => {
          if (response.writableLength > WATCH_BACKLOG_LIMIT_BYTES) request.socket.destroy();
          else response.write(text);
        });
      },
      end: (): void => {
        watches.delete(watch);
        whenAwake(request.socket, () => response.end());
      },
    };
    const watch = new Watch(
      this.parts.cluster,
      { resource, namespace: path.namespace, query, view, include },
      this.parts.watchSettings,
      sink,
    );
    response.on('close', () => {
      watch.stop();
      watches.delete(watch);
    });
    watches.add(watch);
    counter.watches(watches.size);
    try {
      watch.start();
    } catch (error) {
      watches.delete(watch);
      throw error;
    }
  }

  // ── answers ────────────────────────────────────────────────────────────────────────────────────

  private answerError(call: Call, error: unknown): void {
    const known = error instanceof ApiError ? error : internalError(String(error));
    if (known !== error) {
      process.stderr.write(
        `test API server: ${call.request.method} ${call.request.url}: ${error instanceof Error ? error.stack : error}\n`,
      );
    }
    if (call.response.headersSent) {
      call.response.destroy();
      return;
    }
    for (const [name, value] of Object.entries(known.headers)) call.response.setHeader(name, value);
    this.answer(call, known.code, JSON.stringify(known.status));
  }

  private answer(call: Call, code: number, text: string | Buffer, contentType = 'application/json'): void {
    const { response, request } = call;
    for (const warning of call.warnings) {
      response.appendHeader('Warning', `299 - ${JSON.stringify(warning)}`);
    }
    this.parts.whenAwake(request.socket, () => {
      if (response.destroyed) return;
      response.writeHead(code, {
        'Content-Type': contentType,
        'Content-Length': Buffer.byteLength(text),
        'Cache-Control': 'no-cache, private',
      });
      response.end(request.method === 'HEAD' ? undefined : text);
      this.record(call, code);
    });
  }

  private record(call: Call, code: number): void {
    this.parts.counter.request({
      receivedAtMs: call.receivedAtMs,
      verb: call.verb,
      resource: call.resource,
      namespace: call.path?.namespace ?? '',
      name: call.name,
      user: call.identity?.name ?? '',
      code,
      serverMs: performance.now() - call.startedAt,
    });
  }
}
