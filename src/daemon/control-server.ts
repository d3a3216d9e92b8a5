import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { errorText, LbdError } from '../lib/errors.ts';
import type { Logger } from '../lib/logger.ts';
import type { StatusDocument } from './types.ts';

/**
 * HTTP and JSON on a unix socket: what `lbctl` speaks, and `curl --unix-socket` too. Read-only so far:
 * `GET /v1/status`. Access is the socket's mode: root and members of the group `lbd`.
 */

const SOCKET_MODE = 0o660;
const OPERATORS_GROUP = 'lbd';
const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 5_000;

export class ControlServer {
  readonly #path: string;
  readonly #server: Server;

  constructor(path: string, status: () => StatusDocument, logger: Logger) {
    this.#path = path;
    this.#server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
      try {
        answer(request, response, status);
      } catch (error) {
        logger.error({ path: request.url, error: errorText(error) }, 'control.request-failed');
        respond(response, 500, { error: errorText(error) });
      }
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
    // A reader that goes away in the middle is its own problem.
    this.#server.on('clientError', (_error, socket) => socket.destroy());
  }

  /**
   * Takes the socket's path over, which only the holder of the host lock may do: a file there is left over from a
   * daemon that is gone. Throws `LbdError` when the directory or the socket cannot be made.
   */
  async listen(): Promise<void> {
    try {
      mkdirSync(dirname(this.#path), { recursive: true });
      rmSync(this.#path, { force: true });
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen(this.#path, () => resolve());
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

function answer(request: IncomingMessage, response: ServerResponse, status: () => StatusDocument): void {
  const path = (request.url ?? '').split('?', 1)[0];
  if (path !== '/v1/status')
    return respond(response, 404, { error: `no such path: ${path}`, paths: ['/v1/status'] });
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('allow', 'GET, HEAD');
    return respond(response, 405, { error: `${request.method} is not allowed here` });
  }
  respond(response, 200, status());
}

function respond(response: ServerResponse, code: number, body: unknown): void {
  if (response.headersSent) return;
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

function groupId(name: string): number | undefined {
  try {
    const line = readFileSync('/etc/group', 'utf8')
      .split('\n')
      .find((entry) => entry.startsWith(`${name}:`));
    const id = Number(line?.split(':')[2]);
    return line === undefined || !Number.isInteger(id) ? undefined : id;
  } catch {
    return undefined;
  }
}
