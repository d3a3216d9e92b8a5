import { chmodSync, chownSync, lstatSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { errorText, LbdError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import { makeDirectory } from '../sys/directory.ts';
import { groupId, OPERATORS_GROUP } from '../sys/group.ts';

/**
 * HTTP and JSON on a unix socket: what `lbctl` speaks, and `curl --unix-socket` too. Documents by their path, such as
 * `GET /v1/status`, and commands, such as `POST /v1/drain`. Access is the socket's mode: root and members of the group
 * `lbd`, to either.
 */

const SOCKET_MODE = 0o660;

export type ControlLimits = {
  /** Further ones are closed at once. */
  readonly connections: number;
  /** From the connection, or the end of the last request on it, to the end of a request. */
  readonly requestTimeoutMs: number;
  /** Without a byte in either direction; ends a reader that takes no answer. */
  readonly idleTimeoutMs: number;
};

const LIMITS: ControlLimits = { connections: 64, requestTimeoutMs: 5_000, idleTimeoutMs: 10_000 };

/** No command takes more than its path says; what is sent all the same is read up to here and then refused. */
const MAX_BODY_BYTES = 1_024;

/** What is answered on which path, made anew for each request. They may throw or reject with `ControlRefusal`. */
export type ControlApi = {
  readonly documents: Readonly<Record<string, (query: URLSearchParams) => unknown>>;
  readonly commands: Readonly<Record<string, () => unknown>>;
};

/** A request that cannot be met, and why in words; no failure of lbd. */
export class ControlRefusal extends LbdError {
  /** Of HTTP: 400 called wrongly, 404 not known, 409 not possible on this host. */
  readonly status: 400 | 404 | 409;

  constructor(status: 400 | 404 | 409, message: string) {
    super('control.request-refused', message);
    this.status = status;
  }
}

export class ControlServer {
  readonly #path: string;
  readonly #server: Server;
  readonly #logger: Logger;

  constructor(path: string, api: ControlApi, logger: Logger, limits: ControlLimits = LIMITS) {
    this.#path = path;
    this.#logger = logger;
    const requestTimeout = limits.requestTimeoutMs;
    // Node looks only every 30 s by default, in which few slow clients would shut everybody out.
    const options = { requestTimeout, connectionsCheckingInterval: requestTimeout / 5 };
    this.#server = createServer(options, (request, response) => {
      answer(request, response, api).catch((error: unknown) => {
        if (error instanceof ControlRefusal) return respond(response, error.status, { error: error.message });
        logger.error({ path: request.url, error: errorText(error) }, 'control.request-failed');
        respond(response, 500, { error: errorText(error) });
      });
    });
    this.#server.maxConnections = limits.connections;
    this.#server.setTimeout(limits.idleTimeoutMs);
    // A reader that goes away in the middle is its own problem.
    this.#server.on('clientError', (_error, socket) => socket.destroy());
  }

  /**
   * Takes the socket's path over, which only the holder of the host lock may do: a file there is left over from a
   * daemon that is gone. Throws `LbdError` when the directory or the socket cannot be made.
   */
  async listen(): Promise<void> {
    try {
      makeDirectory(dirname(this.#path));
      removeLeftOver(this.#path);
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen(this.#path, () => resolve());
      });
      this.#server.on('error', (error) => {
        this.#logger.error({ error: errorText(error) }, 'control.accept-failed');
      });
      chmodSync(this.#path, SOCKET_MODE);
    } catch (error) {
      throw new LbdError('control.listen-failed', `cannot listen on the control socket "${this.#path}"`, {
        fields: { path: this.#path },
        cause: error,
      });
    }
    const group = groupId(OPERATORS_GROUP);
    if (group === undefined) return;
    try {
      chownSync(this.#path, -1, group);
    } catch {
      // Not root and not in the group: the socket stays with the daemon's own group.
    }
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

/** A path that a typing mistake leads to may be anybody's file: only a socket is taken away. */
function removeLeftOver(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error('it exists and is no socket; name another path or remove it');
  rmSync(path);
}

async function answer(request: IncomingMessage, response: ServerResponse, api: ControlApi): Promise<void> {
  const [path = '', query] = (request.url ?? '').split('?', 2);
  const document = Object.hasOwn(api.documents, path) ? api.documents[path] : undefined;
  const command = Object.hasOwn(api.commands, path) ? api.commands[path] : undefined;
  if (document === undefined && command === undefined) {
    const paths = [...new Set([...Object.keys(api.documents), ...Object.keys(api.commands)])];
    return respond(response, 404, { error: `no such path: ${path}`, paths });
  }
  const { method } = request;
  if (document !== undefined && (method === 'GET' || method === 'HEAD'))
    return respond(response, 200, document(new URLSearchParams(query)));
  if (command !== undefined && method === 'POST') {
    await refuseBody(request);
    return respond(response, 200, await command());
  }
  const allowed = [
    ...(document === undefined ? [] : ['GET', 'HEAD']),
    ...(command === undefined ? [] : ['POST']),
  ];
  response.setHeader('allow', allowed.join(', '));
  respond(response, 405, { error: `${method} is not allowed here` });
}

/** Resolves at the end of a request that brings nothing but, perhaps, an empty object; rejects for any other. */
function refuseBody(request: IncomingMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const refuse = (): void => {
      reject(new ControlRefusal(400, `expected no body, got ${JSON.stringify(text.slice(0, 40))}`));
    };
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => {
      if (text.length > MAX_BODY_BYTES) return;
      text += chunk;
      if (text.length > MAX_BODY_BYTES) refuse();
    });
    request.on('end', () => (['', '{}'].includes(text.trim()) ? resolve() : refuse()));
    request.on('close', () => reject(new ControlRefusal(400, 'the request broke off')));
  });
}

function respond(response: ServerResponse, code: number, body: unknown): void {
  if (response.headersSent) return;
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(text);
}
