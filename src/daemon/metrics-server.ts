import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { errorText, LbdError } from '../lib/errors.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import { METRICS_CONTENT_TYPE } from './metrics-text.ts';

/**
 * `GET /metrics` for Prometheus, where the configuration says so. Anybody who reaches the port may read it and nothing
 * else: there is no other path and no other method.
 */

export type MetricsLimits = {
  /** Further ones are closed at once. */
  readonly connections: number;
  /** From the connection, or the end of the last request on it, to the end of a request. */
  readonly requestTimeoutMs: number;
  /** Without a byte in either direction. */
  readonly idleTimeoutMs: number;
  /** A scrape within so long of the last one is answered with the same text: figures cost more than they change. */
  readonly freshMs: number;
};

const LIMITS: MetricsLimits = {
  connections: 16,
  requestTimeoutMs: 5_000,
  idleTimeoutMs: 30_000,
  freshMs: 200,
};

const RETRY_MS = 5_000;

export type MetricsServerOptions = {
  readonly ip: Ip;
  /** 0 is any free one, for tests. */
  readonly port: number;
  /** The figures as they are now, in the text format. */
  readonly text: () => string;
  readonly logger: Logger;
  readonly limits?: MetricsLimits;
};

export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #limits: MetricsLimits;
  readonly #server: Server;
  #problem: string | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;
  #last: { readonly text: string; readonly atMs: number } | undefined;

  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#limits = options.limits ?? LIMITS;
    const { requestTimeoutMs, connections, idleTimeoutMs } = this.#limits;
    const serverOptions = {
      requestTimeout: requestTimeoutMs,
      connectionsCheckingInterval: requestTimeoutMs / 5,
      keepAliveTimeout: idleTimeoutMs,
    };
    this.#server = createServer(serverOptions, (request, response) => this.#answer(request, response));
    this.#server.maxConnections = connections;
    this.#server.setTimeout(idleTimeoutMs);
    this.#server.on('clientError', (_error, socket) => socket.destroy());
  }

  /** Listens as soon as that can be: the address may come up after lbd, or somebody else may have the port. */
  start(): void {
    this.listen().then(
      () => {
        this.#problem = undefined;
      },
      (error: unknown) => {
        const problem = errorText(error);
        if (problem !== this.#problem) this.#options.logger.error({ problem }, 'metrics.listen-failed');
        this.#problem = problem;
        if (!this.#closed) this.#retry = setTimeout(() => this.start(), RETRY_MS);
      },
    );
  }

  /** Why nobody can scrape now. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Resolves with the port; rejects with LbdError when it cannot be had. */
  async listen(): Promise<number> {
    const { ip, port, logger } = this.#options;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject);
        this.#server.listen(port, ip, () => {
          this.#server.off('error', reject);
          resolve();
        });
      });
    } catch (error) {
      throw new LbdError('metrics.listen-failed', `cannot listen on ${ip} port ${port} for Prometheus`, {
        fields: { ip, port },
        cause: error,
      });
    }
    this.#server.on('error', (error) => logger.error({ error: errorText(error) }, 'metrics.accept-failed'));
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : port;
  }

  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    try {
      const path = (request.url ?? '').split('?', 1)[0];
      if (path !== '/metrics') return respond(response, 404, 'expected /metrics\n');
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        response.setHeader('allow', 'GET, HEAD');
        return respond(response, 405, `${request.method} is not allowed here\n`);
      }
      response.setHeader('content-type', METRICS_CONTENT_TYPE);
      respond(response, 200, this.#text());
    } catch (error) {
      this.#options.logger.error({ error: errorText(error) }, 'metrics.request-failed');
      respond(response, 500, 'the figures could not be made; see the log\n');
    }
  }

  #text(): string {
    const nowMs = performance.now();
    if (this.#last === undefined || nowMs - this.#last.atMs >= this.#limits.freshMs)
      this.#last = { text: this.#options.text(), atMs: nowMs };
    return this.#last.text;
  }
}

function respond(response: ServerResponse, status: number, text: string): void {
  if (response.headersSent) return;
  if (status !== 200) response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.writeHead(status);
  response.end(text);
}
