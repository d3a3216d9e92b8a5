/**
 * HTTP requests to the API server: JSON in, JSON out, and watches as streams of lines. Every failure is an ApiError that
 * names verb and resource; bodies, lines and waiting times are bounded.
 */

import { ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { errorText, LbdError } from '../../lib/errors.ts';
import type { Instant } from '../../lib/time.ts';
import { type ApiFailure, failureText, httpFailure, otherFailure } from '../api-failure.ts';
import { LINE_TOO_LONG, LineSplitter } from '../line-splitter.ts';
import { type Connection, type Credentials, KEEPALIVE_MS } from './credentials.ts';

/** A page of 500 Services of 2 KB is 1 MB; a page beyond this is asked for again in smaller ones. */
export const LARGEST_BODY_BYTES = 32 * 1_024 * 1_024;
/** etcd takes objects up to 1.5 MiB; JSON with escapes makes more of them. */
export const LONGEST_LINE_BYTES = 8 * 1_024 * 1_024;
const DEFAULT_TIMEOUT_MS = 10_000;

/** `kube.request-failed`; `failure` says how. */
export class ApiError extends LbdError {
  readonly failure: ApiFailure;

  constructor(failure: ApiFailure, verb: string, resource: string) {
    super('kube.request-failed', failureText(failure, verb, resource), {
      fields: { verb, resource, status: failure.status, reason: failure.reason },
    });
    this.failure = failure;
  }
}

export type ApiRequest = {
  /** As RBAC names them: `patch`, `services/status`. */
  readonly verb: string;
  readonly resource: string;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH';
  /** Path and query. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: 'application/json' | 'application/merge-patch+json' | 'application/apply-patch+yaml';
  /** To the end of the answer; for a watch to its headers. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /**
   * Asked right before the request is written to a connection that stands: making one takes its time, and this process
   * may have been asleep meanwhile. `withdrawn` when the answer is no.
   */
  readonly maySend?: () => boolean;
};

export type WatchHandlers = { readonly opened: () => void; readonly line: (line: string) => void };

/** Whether the server answers at all, for status. */
export type Reachability = {
  readonly reachable: boolean;
  readonly heardAt: Instant | undefined;
  readonly error: string | undefined;
};

export class ApiClient {
  readonly #credentials: Credentials;
  readonly #now: () => Instant;
  #reachability: Reachability = { reachable: false, heardAt: undefined, error: undefined };

  constructor(credentials: Credentials, now: () => Instant) {
    this.#credentials = credentials;
    this.#now = now;
  }

  get reachability(): Reachability {
    return this.#reachability;
  }

  /** The parsed body of a 2xx answer. Rejects with ApiError otherwise. */
  async request(request: ApiRequest): Promise<unknown> {
    const response = await this.#send(request);
    const body = await this.#body(request, response);
    const status = response.statusCode ?? 0;
    if (status >= 200 && status < 300) return body;
    throw new ApiError(
      httpFailure(status, body, response.headers['retry-after']),
      request.verb,
      request.resource,
    );
  }

  /**
   * Follows a watch until the server ends it (resolves) or it fails (rejects with ApiError). Lines come whole, in order.
   * An exception of a handler is a bug and is not caught.
   */
  async watch(request: ApiRequest, handlers: WatchHandlers): Promise<void> {
    const response = await this.#send(request);
    const status = response.statusCode ?? 0;
    if (status !== 200) {
      const body = await this.#body(request, response);
      throw new ApiError(
        httpFailure(status, body, response.headers['retry-after']),
        request.verb,
        request.resource,
      );
    }
    handlers.opened();
    const splitter = new LineSplitter(LONGEST_LINE_BYTES);
    await this.#consume(request, response, (chunk) => {
      const lines = splitter.push(chunk);
      if (lines === LINE_TOO_LONG) return `a line of more than ${LONGEST_LINE_BYTES} bytes`;
      for (const line of lines) handlers.line(line);
      return undefined;
    });
  }

  /** Sends the request and gives the answer's head; asks again once with renewed credentials after a 401. */
  async #send(request: ApiRequest): Promise<IncomingMessage> {
    const connection = await this.#connection(request);
    const response = await this.#exchange(request, connection);
    if (response.statusCode !== 401) return response;
    const renewed = await this.#credentials.refused(connection).catch(() => false);
    if (!renewed) return response;
    response.resume();
    return this.#exchange(request, await this.#connection(request));
  }

  async #connection(request: ApiRequest): Promise<Connection> {
    try {
      return await this.#credentials.current();
    } catch (error) {
      throw new ApiError(otherFailure('credentials', errorText(error)), request.verb, request.resource);
    }
  }

  /**
   * An idle connection that the server closed meanwhile fails at once when used: then a new one is tried. Not for a watch,
   * whose owner must know that the server may have restarted.
   */
  async #exchange(request: ApiRequest, connection: Connection): Promise<IncomingMessage> {
    for (let attempt = 0; ; attempt++) {
      const outcome = await exchange(request, connection);
      if (outcome.kind === 'answered') {
        this.#reachability = { reachable: true, heardAt: this.#now(), error: undefined };
        return outcome.response;
      }
      if (outcome.stale && request.verb !== 'watch' && attempt < 3) continue;
      throw this.#failed(request, outcome.failure);
    }
  }

  #failed(request: ApiRequest, failure: ApiFailure): ApiError {
    if (request.signal?.aborted !== true && (failure.kind === 'network' || failure.kind === 'timeout')) {
      this.#reachability = { ...this.#reachability, reachable: false, error: failure.message };
    }
    // Idle connections are as old as the one that is dead: the next try must not meet them one after the other.
    if (failure.kind === 'timeout') this.#credentials.closeIdle();
    return new ApiError(failure, request.verb, request.resource);
  }

  async #body(request: ApiRequest, response: IncomingMessage): Promise<unknown> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    await this.#consume(request, response, (chunk) => {
      bytes += chunk.length;
      if (bytes > LARGEST_BODY_BYTES) return `an answer of more than ${LARGEST_BODY_BYTES} bytes`;
      chunks.push(chunk);
      return undefined;
    });
    const text = Buffer.concat(chunks).toString('utf8');
    try {
      return JSON.parse(text);
    } catch {
      if ((response.statusCode ?? 0) >= 300) return text;
      throw new ApiError(otherFailure('protocol', 'the answer is no JSON'), request.verb, request.resource);
    }
  }

  /** Reads the answer to its end; `take` may return a text, which ends it as too large. */
  #consume(
    request: ApiRequest,
    response: IncomingMessage,
    take: (chunk: Buffer) => string | undefined,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      let settled = false;
      const fail = (kind: 'network' | 'too-large', message: string) => {
        if (settled) return;
        settled = true;
        reject(this.#failed(request, otherFailure(kind, message)));
      };
      response.on('data', (chunk: Buffer) => {
        if (settled) return;
        const tooLarge = take(chunk);
        if (tooLarge === undefined) return;
        fail('too-large', tooLarge);
        response.destroy();
      });
      response.on('end', () => {
        settled = true;
        resolve();
      });
      response.on('error', (error) => fail('network', networkText(error)));
      response.on('close', () => fail('network', 'the connection was closed in the middle of an answer'));
    });
  }
}

type Outcome =
  | { readonly kind: 'answered'; readonly response: IncomingMessage }
  | { readonly kind: 'failed'; readonly failure: ApiFailure; readonly stale: boolean };

function exchange(request: ApiRequest, connection: Connection): Promise<Outcome> {
  return new Promise((resolve) => {
    const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const outgoing = open(request, connection);
    if (!(outgoing instanceof ClientRequest)) {
      resolve({ kind: 'failed', failure: outgoing, stale: false });
      return;
    }
    let incoming: IncomingMessage | undefined;
    let timedOut = false;
    let withdrawn = false;
    const end = (reason: string) => (incoming ?? outgoing).destroy(new Error(reason));
    const abort = () => end('cancelled');
    const timer = setTimeout(() => {
      timedOut = true;
      end(`no answer within ${Number((timeoutMs / 1_000).toPrecision(2))} s`);
    }, timeoutMs);
    const settle = () => {
      clearTimeout(timer);
      request.signal?.removeEventListener('abort', abort);
    };
    const send = () => {
      if (outgoing.destroyed) return;
      withdrawn = request.maySend?.() === false;
      if (withdrawn) end('not sent');
      else outgoing.end(request.body === undefined ? undefined : JSON.stringify(request.body));
    };
    outgoing.on('socket', (socket) => {
      socket.setKeepAlive(true, KEEPALIVE_MS);
      whenConnected(socket, send);
    });
    outgoing.on('response', (response) => {
      incoming = response;
      if (request.verb === 'watch') clearTimeout(timer);
      response.on('close', settle);
      resolve({ kind: 'answered', response });
    });
    outgoing.on('error', (error) => {
      settle();
      const code = 'code' in error ? error.code : undefined;
      const stale = outgoing.reusedSocket && !timedOut && (code === 'ECONNRESET' || code === 'EPIPE');
      const kind = withdrawn ? 'withdrawn' : timedOut ? 'timeout' : 'network';
      const failure = otherFailure(kind, networkText(error));
      resolve({ kind: 'failed', failure, stale });
    });
    request.signal?.addEventListener('abort', abort, { once: true });
    if (request.signal?.aborted === true) abort();
  });
}

/** Calls `ready` when what is written to the socket goes to the peer and not into a queue: after the TLS handshake. */
function whenConnected(socket: Socket, ready: () => void): void {
  const isTls = socket instanceof TLSSocket;
  const isHandshaking = isTls && 'secureConnecting' in socket && socket.secureConnecting === true;
  if (!socket.connecting && !isHandshaking) ready();
  else socket.once(isTls ? 'secureConnect' : 'connect', ready);
}

/** Node throws at once for a header or a PEM text that it cannot use: those come from the kubeconfig. */
function open(request: ApiRequest, connection: Connection): ClientRequest | ApiFailure {
  try {
    return begin(request, connection);
  } catch (error) {
    return otherFailure('credentials', `cannot use what the kubeconfig holds: ${errorText(error)}`);
  }
}

function begin(request: ApiRequest, { server, headers, agent }: Connection): ClientRequest {
  const send = server.protocol === 'https:' ? httpsRequest : httpRequest;
  const basePath = server.pathname === '/' ? '' : server.pathname;
  return send({
    method: request.method,
    host: server.hostname.replace(/^\[|\]$/g, ''),
    port: server.port === '' ? (server.protocol === 'https:' ? 443 : 80) : server.port,
    path: basePath + request.path,
    agent,
    headers: {
      ...headers,
      accept: 'application/json',
      'user-agent': 'lbd',
      ...(request.body === undefined ? {} : { 'content-type': request.contentType ?? 'application/json' }),
    },
  });
}

/** Node gives an AggregateError without text when each address of a name was refused. */
function networkText(error: Error): string {
  if (error instanceof AggregateError && error.errors.length > 0) return errorText(error.errors[0]);
  return errorText(error);
}
