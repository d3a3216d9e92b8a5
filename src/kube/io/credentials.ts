/**
 * What a request to the API server carries: server, TLS material, Authorization. It follows whatever may rotate (the
 * kubeconfig itself, token file, certificate files, exec plugin), because a daemon outlives them all.
 */

import { readFileSync, statSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions } from 'node:https';
import { errorText, LbdError } from '../../lib/errors.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Instant } from '../../lib/time.ts';
import { supersedes } from '../account-token.ts';
import { type LoadedKubeconfig, loadKubeconfig } from './kubeconfig.ts';

/** How often files and plugin are looked at while requests flow. */
const RECHECK_MS = 10_000;
const EXEC_TIMEOUT_MS = 30_000;
/** Idle and dead is found after KEEPALIVE_MS + 10 probes at 1 s (libuv's interval and count). */
export const KEEPALIVE_MS = 10_000;
const MOST_SOCKETS = 64;
const MOST_IDLE_SOCKETS = 40;
const LARGEST_TOKEN_BYTES = 64 * 1_024;

export type Connection = {
  readonly server: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly agent: HttpAgent;
};

type TlsMaterial = Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized' | 'servername'>;

export type CredentialsOptions = {
  readonly path: string;
  readonly context: string | undefined;
  readonly logger: Logger;
  readonly now: () => Instant;
  /** A token that followed the one in the kubeconfig: used while it is the newer one of the same account. */
  readonly renewedToken?: string | undefined;
  /** See `loadKubeconfig()`. */
  readonly mayBeExposed?: boolean;
};

export class Credentials {
  readonly #options: CredentialsOptions;
  #loaded: LoadedKubeconfig;
  #connection: Connection | undefined;
  #checkedAt = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<Connection> | undefined;
  #agentDigest = '';
  #problem = '';
  #renewedToken: string | undefined;

  /** Throws LbdError when the kubeconfig cannot serve (see `checkKubeconfig()`). */
  constructor(options: CredentialsOptions) {
    this.#options = options;
    this.#renewedToken = options.renewedToken;
    this.#loaded = this.#load();
  }

  #load(): LoadedKubeconfig {
    const { path, context, mayBeExposed } = this.#options;
    return loadKubeconfig(path, context, mayBeExposed);
  }

  get server(): string {
    return this.#loaded.server;
  }

  /** What to ask with now. Rejects with LbdError `kube.credentials` when there is nothing (a plugin that fails). */
  async current(): Promise<Connection> {
    const fresh = this.#options.now() - this.#checkedAt < RECHECK_MS;
    if (this.#connection !== undefined && fresh) return this.#connection;
    return this.#refresh();
  }

  /** The token that stands in the kubeconfig itself, or what followed it; undefined when it authenticates by other means. */
  accountToken(): string | undefined {
    const given = this.#givenToken();
    return given === undefined ? undefined : this.#following(given);
  }

  #givenToken(): string | undefined {
    const { kubeConfig, tokenFile } = this.#loaded;
    const user = kubeConfig.getCurrentUser();
    const isOnlyToken = tokenFile === undefined && user?.exec == null && user?.authProvider == null;
    return isOnlyToken && typeof user?.token === 'string' ? user.token.trim() : undefined;
  }

  #following(given: string): string {
    const renewed = this.#renewedToken;
    return renewed !== undefined && supersedes(renewed, given) ? renewed : given;
  }

  /** Takes a token that follows the one in use: the next request goes with it. */
  renewed(token: string): void {
    this.#renewedToken = token;
    this.#checkedAt = Number.NEGATIVE_INFINITY;
  }

  /**
   * After a 401: reads everything again, and makes a plugin give new credentials. Returns whether they differ from the
   * refused ones, so that asking again makes sense.
   */
  async refused(connection: Connection): Promise<boolean> {
    if (this.#connection === connection) {
      this.#reload();
      this.#checkedAt = Number.NEGATIVE_INFINITY;
      // The one in the kubeconfig may still be good, as when the renewed one was another cluster's of the same name.
      if (connection.headers['authorization'] === `Bearer ${this.#renewedToken}`)
        this.#renewedToken = undefined;
    }
    const renewed = await this.current();
    return (
      renewed.headers['authorization'] !== connection.headers['authorization'] ||
      renewed.agent !== connection.agent
    );
  }

  /** Closes connections that wait for a next request: what was silent must not be asked again. */
  closeIdle(): void {
    if (this.#connection !== undefined) closeIdleSockets(this.#connection.agent);
  }

  close(): void {
    this.#connection?.agent.destroy();
  }

  #refresh(): Promise<Connection> {
    this.#refreshing ??= this.#build().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #build(): Promise<Connection> {
    if (this.#kubeconfigChanged()) this.#reload();
    const loaded = this.#loaded;
    const options: RequestOptions = { headers: {} };
    try {
      await withTimeout(loaded.kubeConfig.applyToHTTPSOptions(options));
    } catch (error) {
      throw new LbdError(
        'kube.credentials',
        `cannot get credentials from the kubeconfig: ${errorText(error).trim()}`,
      );
    }
    const headers = this.#headers(options, loaded.tokenFile);
    const agent = this.#agent(loaded, options);
    const known = this.#connection;
    const same = known?.agent === agent && known.headers['authorization'] === headers['authorization'];
    if (known === undefined || !same || known.server.href !== new URL(loaded.server).href) {
      this.#connection = { server: new URL(loaded.server), headers, agent };
      if (known !== undefined && known.agent !== agent) closeIdleSockets(known.agent);
    }
    this.#checkedAt = this.#options.now();
    return this.#connection ?? { server: new URL(loaded.server), headers, agent };
  }

  #headers(options: RequestOptions, tokenFile: string | undefined): Readonly<Record<string, string>> {
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(options.headers ?? {})) {
      if (typeof value === 'string') headers[name.toLowerCase()] = value.trim();
    }
    if (typeof options.auth === 'string') {
      headers['authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`;
    }
    const token = tokenFile === undefined ? this.accountToken() : this.#token(tokenFile);
    if (token !== undefined) headers['authorization'] = `Bearer ${token}`;
    return headers;
  }

  /** The file's token; the last good one while the file cannot be read or is being written. */
  #token(path: string): string | undefined {
    try {
      const size = statSync(path).size;
      if (size > LARGEST_TOKEN_BYTES)
        throw new LbdError('kube.credentials', `expected a token, got ${size} bytes`);
      const token = readFileSync(path, 'utf8').trim();
      if (/^[\x21-\x7e]+$/.test(token)) return token;
      this.#complain(`token file ${path} holds no token`);
    } catch (error) {
      this.#complain(`cannot read token file ${path}: ${errorText(error)}`);
    }
    return this.#connection?.headers['authorization']?.replace(/^Bearer /, '');
  }

  #agent(loaded: LoadedKubeconfig, options: RequestOptions): HttpAgent {
    const material: TlsMaterial = {
      ...(options.ca === undefined ? {} : { ca: options.ca }),
      ...(options.cert === undefined ? {} : { cert: options.cert }),
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(options.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: options.rejectUnauthorized }),
      ...(options.servername === undefined ? {} : { servername: options.servername }),
    };
    const proxy = loaded.kubeConfig.getCurrentCluster()?.proxyUrl;
    const digest = JSON.stringify([loaded.server, proxy, material]);
    if (this.#connection !== undefined && digest === this.#agentDigest) return this.#connection.agent;
    this.#agentDigest = digest;
    if (proxy !== undefined && options.agent instanceof HttpAgent) return keptAlive(options.agent);
    const pool = {
      keepAlive: true,
      keepAliveMsecs: KEEPALIVE_MS,
      maxSockets: MOST_SOCKETS,
      maxFreeSockets: MOST_IDLE_SOCKETS,
    };
    return loaded.server.startsWith('https:')
      ? new HttpsAgent({ ...pool, ...material })
      : new HttpAgent(pool);
  }

  #kubeconfigChanged(): boolean {
    try {
      return statSync(this.#options.path).mtimeMs !== this.#loaded.modifiedMs;
    } catch {
      return false;
    }
  }

  /** A kubeconfig that got unusable while lbd runs is reported; the last good one stays. */
  #reload(): void {
    try {
      this.#loaded = this.#load();
      this.#problem = '';
    } catch (error) {
      this.#complain(errorText(error));
    }
  }

  #complain(problem: string): void {
    if (problem !== this.#problem) this.#options.logger.warn({ problem }, 'kube.credentials.problem');
    this.#problem = problem;
  }
}

/** client-node makes the agents for proxies; it does not hand them keepAlive, without which each request is a TLS handshake. */
function keptAlive(agent: HttpAgent): HttpAgent {
  return Object.assign(agent, {
    keepAlive: true,
    keepAliveMsecs: KEEPALIVE_MS,
    maxFreeSockets: MOST_IDLE_SOCKETS,
  });
}

function closeIdleSockets(agent: HttpAgent): void {
  for (const sockets of Object.values(agent.freeSockets)) {
    for (const socket of sockets ?? []) socket.destroy();
  }
}

async function withTimeout(work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const text = `the exec plugin gave no answer within ${EXEC_TIMEOUT_MS / 1_000} s`;
    timer = setTimeout(() => reject(new LbdError('kube.credentials', text)), EXEC_TIMEOUT_MS);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
