/** A small client for tests: plain requests and watches over one keep-alive agent, no retries, no cleverness. */

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { JsonObject } from './json.ts';
import type { ApiTarget } from './types.ts';

export interface Answer {
  readonly code: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON; `{}` when it is none. */
  readonly body: JsonObject;
}

export interface RequestOptions {
  readonly contentType?: string;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as it is instead of the JSON body. */
  readonly raw?: string | Buffer;
}

export interface WatchEvent {
  readonly type: string;
  readonly object: JsonObject;
}

/** What of a server a client needs. */
export type ClientTarget = Pick<ApiTarget, 'url' | 'caPem' | 'tokenOf'>;

const WATCH_EVENT_TIMEOUT_MS = 10_000;

export class Client {
  private readonly target: ClientTarget;
  private readonly token: string | undefined;
  private readonly agent: Agent;
  private readonly watches = new Set<WatchStream>();

  /** Speaks as the user, or with the credentials given; `{}` is anonymous. */
  constructor(target: ClientTarget, as: string | { token?: string; cert?: string; key?: string } = 'admin') {
    const credentials = typeof as === 'string' ? { token: target.tokenOf(as) } : as;
    this.target = target;
    this.token = credentials.token;
    const pair = 'cert' in credentials ? { cert: credentials.cert, key: credentials.key } : {};
    this.agent = new Agent({ keepAlive: true, ca: target.caPem, ...pair });
  }

  async send(method: string, path: string, body?: unknown, options: RequestOptions = {}): Promise<Answer> {
    const payload = options.raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const response = await this.open(method, path, payload, options);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    return { code: response.statusCode ?? 0, headers: response.headers, text, body: jsonOf(text) };
  }

  get(path: string, options?: RequestOptions): Promise<Answer> {
    return this.send('GET', path, undefined, options);
  }

  post(path: string, body: unknown, options?: RequestOptions): Promise<Answer> {
    return this.send('POST', path, body, options);
  }

  put(path: string, body: unknown, options?: RequestOptions): Promise<Answer> {
    return this.send('PUT', path, body, options);
  }

  delete(path: string, body?: unknown): Promise<Answer> {
    return this.send('DELETE', path, body);
  }

  /** A merge patch, or another kind by its name: `json`, `strategic-merge`. */
  patch(path: string, body: unknown, kind: 'json' | 'merge' | 'strategic-merge' = 'merge'): Promise<Answer> {
    return this.send('PATCH', path, body, { contentType: `application/${kind}-patch+json` });
  }

  apply(path: string, manager: string, body: unknown, query = ''): Promise<Answer> {
    return this.send('PATCH', `${path}?fieldManager=${manager}${query}`, body, {
      contentType: 'application/apply-patch+yaml',
    });
  }

  /** Opens a watch. Throws when the server does not answer 200, with its answer in the message. */
  async watch(path: string, options: RequestOptions = {}): Promise<WatchStream> {
    const response = await this.open(
      'GET',
      `${path}${path.includes('?') ? '&' : '?'}watch=1`,
      undefined,
      options,
    );
    if (response.statusCode !== 200) {
      let text = '';
      for await (const chunk of response) text += chunk;
      throw new Error(`watch ${path}: ${response.statusCode} ${text}`);
    }
    const stream = new WatchStream(response);
    this.watches.add(stream);
    return stream;
  }

  private open(
    method: string,
    path: string,
    payload: string | Buffer | undefined,
    options: RequestOptions,
  ): Promise<IncomingMessage> {
    const headers: Record<string, string | number> = {
      Accept: options.accept ?? 'application/json',
      ...options.headers,
    };
    if (this.token !== undefined) headers['Authorization'] = `Bearer ${this.token}`;
    if (payload !== undefined) {
      headers['Content-Type'] = options.contentType ?? 'application/json';
      headers['Content-Length'] = Buffer.byteLength(payload);
    }
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        `${this.target.url}${path}`,
        { method, headers, agent: this.agent },
        resolve,
      );
      request.on('error', reject);
      request.end(payload);
    });
  }

  close(): void {
    for (const watch of this.watches) watch.close();
    this.agent.destroy();
  }
}

/** The events of one watch, in order, read one by one. */
export class WatchStream {
  private readonly response: IncomingMessage;
  private readonly events: WatchEvent[] = [];
  private waiting: (() => void) | undefined;
  private rest = '';
  ended = false;

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8');
    response.on('data', (text: string) => this.take(text));
    response.on('error', () => this.end());
    response.on('close', () => this.end());
    response.on('end', () => this.end());
  }

  private take(text: string): void {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') this.events.push(JSON.parse(line) as WatchEvent);
    this.waiting?.();
  }

  private end(): void {
    this.ended = true;
    this.waiting?.();
  }

  /** The next event; undefined when the stream ended. Throws when neither happens in time. */
  async next(timeoutMs = WATCH_EVENT_TIMEOUT_MS): Promise<WatchEvent | undefined> {
    if (this.events.length === 0 && !this.ended) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no watch event within ${timeoutMs} ms`)), timeoutMs);
        this.waiting = (): void => {
          if (this.events.length === 0 && !this.ended) return;
          clearTimeout(timer);
          this.waiting = undefined;
          resolve();
        };
      });
    }
    return this.events.shift();
  }

  /** The next event that is no bookmark. */
  async nextChange(timeoutMs?: number): Promise<WatchEvent | undefined> {
    for (;;) {
      const event = await this.next(timeoutMs);
      if (event?.type !== 'BOOKMARK') return event;
    }
  }

  /** How many events have come and were not read yet. */
  get pending(): number {
    return this.events.length;
  }

  close(): void {
    this.response.destroy();
  }
}

function jsonOf(text: string): JsonObject {
  try {
    return JSON.parse(text) as JsonObject;
  } catch {
    return {};
  }
}
