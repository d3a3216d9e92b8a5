/**
 * The stand-in for kube-apiserver: listens, authenticates, authorizes, applies faults, serves. Everything
 * that the API means is in the modules beside this one; here is only the way of a request through them.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { CertificateAuthority } from './certificates.ts';
import { Cluster, keyOf } from './cluster.ts';
import type { ApiError } from './errors.ts';
import { type FaultHost, Faults, type RestartOptions } from './faults.ts';
import { Handler } from './handler.ts';
import { type KubeObject, stringOf } from './json.ts';
import { Authorizer, rbacObjects } from './rbac.ts';
import { type Stats, StatsCounter } from './stats.ts';
import { DEFAULT_HISTORY_LIMIT } from './store.ts';
import type { ApiTarget, KubeconfigOptions, UserOptions } from './types.ts';
import { ANONYMOUS, authenticated, type Identity, Users } from './users.ts';
import type { Watch, WatchSettings } from './watch.ts';
import { Writer } from './write.ts';

export interface ApiServerOptions {
  /** Default 127.0.0.1; `::` or `0.0.0.0` listens everywhere. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  /** More names and addresses for the server certificate. */
  readonly certificateHosts?: readonly string[];
  /** Where token files go; default a temporary directory, removed by close(). */
  readonly directory?: string;
  /** Changes kept per resource for watches and old lists. */
  readonly historyLimit?: number;
  /** The real server sends a bookmark about once a minute. */
  readonly bookmarkIntervalMs?: number;
  /** Cluster-IP ranges, primary family first. */
  readonly clusterCidrs?: readonly string[];
  readonly nodePorts?: { readonly first: number; readonly last: number };
}

/** The stand-in, as ApiTarget plus what only a stand-in can do. */
export interface ApiServer extends ApiTarget {
  readonly faults: Faults;
  readonly port: number;
  stats(): Stats;
  resetStats(): void;
  /**
   * Stores objects without going through HTTP: `checked` as a create would (default), otherwise exactly as
   * given, also what the API would refuse. An object that exists is overwritten when unchecked.
   */
  load(objects: readonly KubeObject[], options?: { readonly checked?: boolean }): void;
}

const BOOKMARK_INTERVAL_MS = 60_000;
const KEEP_ALIVE_MS = 180_000;
const CLUSTER_CIDRS = ['10.96.0.0/12', 'fd00:10:96::/112'];
const NODE_PORTS = { first: 30_000, last: 32_767 };

/** Mints certificates and starts listening; ready when the promise resolves. */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const server = new StandIn(options);
  await server.startListening();
  await server.createUser('admin', { groups: ['system:masters'] });
  return server;
}

class StandIn implements ApiServer, FaultHost {
  readonly caPem: string;
  readonly isStandIn = true;
  readonly faults: Faults;
  private readonly host: string;
  private listenPort: number;
  private readonly users: Users;
  private readonly cluster: Cluster;
  private readonly handler: Handler;
  private readonly counter = new StatsCounter();
  private readonly watches = new Set<Watch>();
  private readonly watchSettings: WatchSettings;
  private readonly https: HttpsServer;
  private listener: NetServer | undefined;
  private readonly sockets = new Set<Socket>();
  private readonly tlsSockets = new Set<TLSSocket>();
  private readonly frozen = new WeakSet<Socket>();
  /** Connections and work held back while stalled; undefined when not stalled. */
  private held: (() => void)[] | undefined;

  constructor(options: ApiServerOptions) {
    this.host = options.host ?? '127.0.0.1';
    this.listenPort = options.port ?? 0;
    const authority = CertificateAuthority.create('lbd-test-ca');
    this.caPem = authority.certPem;
    this.users = new Users(authority, options.directory);
    this.cluster = new Cluster({
      clusterCidrs: options.clusterCidrs ?? CLUSTER_CIDRS,
      nodePorts: options.nodePorts ?? NODE_PORTS,
      historyLimit: options.historyLimit ?? DEFAULT_HISTORY_LIMIT,
    });
    this.watchSettings = {
      bookmarkIntervalMs: options.bookmarkIntervalMs ?? BOOKMARK_INTERVAL_MS,
      bookmarks: true,
      watchTooOld: 'event',
    };
    this.faults = new Faults(this);
    const group = 'rbac.authorization.k8s.io';
    const authorizer = new Authorizer({
      roles: this.cluster.tableNamed(`${group}/roles`),
      roleBindings: this.cluster.tableNamed(`${group}/rolebindings`),
      clusterRoles: this.cluster.tableNamed(`${group}/clusterroles`),
      clusterRoleBindings: this.cluster.tableNamed(`${group}/clusterrolebindings`),
    });
    this.handler = new Handler({
      cluster: this.cluster,
      writer: new Writer(this.cluster),
      authorizer,
      users: this.users,
      faults: this.faults,
      counter: this.counter,
      watchSettings: this.watchSettings,
      watches: this.watches,
      whenAwake: (socket, work) => this.whenAwake(socket, work),
    });
    const hosts = [
      'localhost',
      '127.0.0.1',
      '::1',
      'kubernetes',
      'kubernetes.default',
      ...(options.certificateHosts ?? []),
    ];
    if (this.host !== '0.0.0.0' && this.host !== '::') hosts.push(this.host);
    this.https = this.createHttps(authority, hosts);
  }

  private createHttps(authority: CertificateAuthority, hosts: readonly string[]): HttpsServer {
    const { certPem, keyPem } = authority.server(hosts);
    const https = createHttpsServer(
      { cert: certPem, key: keyPem, ca: authority.certPem, requestCert: true, rejectUnauthorized: false },
      (request, response) => this.serve(request, response),
    );
    https.keepAliveTimeout = KEEP_ALIVE_MS;
    https.on('secureConnection', (socket) => {
      this.tlsSockets.add(socket);
      socket.on('close', () => this.tlsSockets.delete(socket));
    });
    https.on('tlsClientError', (_error, socket) => socket.destroy());
    return https;
  }

  get port(): number {
    return this.listenPort;
  }

  get url(): string {
    const host = this.host === '0.0.0.0' ? '127.0.0.1' : this.host === '::' ? '::1' : this.host;
    return `https://${host.includes(':') ? `[${host}]` : host}:${this.listenPort}`;
  }

  // ── the way of a request ───────────────────────────────────────────────────────────────────────

  private serve(request: IncomingMessage, response: ServerResponse): void {
    request.on('error', () => response.destroy());
    response.on('error', () => response.destroy());
    this.whenAwake(request.socket, () => {
      const identity = this.identify(request);
      this.handler.handle(request, response, identity).catch((error: unknown) => {
        // a bug in the stand-in must be seen, not hidden in a hanging client
        process.stderr.write(
          `test API server: ${request.method} ${request.url}: ${String(error instanceof Error ? error.stack : error)}\n`,
        );
        response.destroy();
      });
    });
  }

  /** undefined: credentials were given, but they are wrong. */
  private identify(request: IncomingMessage): Identity | undefined {
    const authorization = request.headers.authorization ?? '';
    if (authorization.startsWith('Bearer ')) {
      return this.users.identify(authorization.slice('Bearer '.length).trim(), Date.now());
    }
    const socket = request.socket as TLSSocket;
    const subject = socket.getPeerCertificate().subject as
      | Partial<Record<string, string | string[]>>
      | undefined;
    if (subject === undefined) return ANONYMOUS;
    if (!socket.authorized) return undefined;
    const groups = [subject['O'] ?? []].flat();
    return authenticated([subject['CN'] ?? ''].flat()[0] ?? '', groups);
  }

  /** Runs the work now, or after resume() while stalled, or never on a frozen connection. */
  private whenAwake(socket: Socket, work: () => void): void {
    if (this.frozen.has(socket)) return;
    if (this.held === undefined) work();
    else this.held.push(() => this.whenAwake(socket, work));
  }

  // ── FaultHost ──────────────────────────────────────────────────────────────────────────────────

  async startListening(): Promise<void> {
    const listener = createServer((socket) => this.accept(socket));
    this.listener = listener;
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen({ host: this.host, port: this.listenPort, backlog: 1024 }, resolve);
    });
    this.listenPort = (listener.address() as AddressInfo).port;
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.sockets.delete(socket));
    this.whenAwake(socket, () => {
      if (!socket.destroyed) this.https.emit('connection', socket);
    });
  }

  async stopListening(): Promise<void> {
    const listener = this.listener;
    this.listener = undefined;
    if (listener === undefined) return;
    await new Promise<void>((resolve) => listener.close(() => resolve()));
  }

  dropConnections(): void {
    for (const socket of [...this.tlsSockets, ...this.sockets]) socket.destroy();
  }

  freezeConnections(): void {
    for (const socket of [...this.tlsSockets, ...this.sockets]) this.frozen.add(socket);
  }

  setStalled(stalled: boolean): void {
    if (stalled) {
      this.held ??= [];
      return;
    }
    const held = this.held ?? [];
    this.held = undefined;
    for (const work of held) work();
  }

  closeWatches(): void {
    for (const watch of [...this.watches]) watch.finish();
  }

  failWatches(error: ApiError): void {
    for (const watch of [...this.watches]) watch.fail(error);
  }

  sendBookmarks(): void {
    for (const watch of this.watches) watch.bookmarkIfWanted();
  }

  replay(count: number): void {
    for (const watch of this.watches) watch.replayLatest(count);
  }

  expireHistory(): void {
    for (const table of this.cluster.allTables()) table.compact();
  }

  setBookmarks(on: boolean): void {
    this.watchSettings.bookmarks = on;
  }

  setWatchTooOld(answer: 'event' | 'http'): void {
    this.watchSettings.watchTooOld = answer;
  }

  reset(options: RestartOptions): void {
    if (options.objects === 'lost') this.cluster.loseObjects();
    if (options.revisions === 'reset') this.cluster.renumber();
    if (options.history === 'lost') this.expireHistory();
  }

  // ── ApiTarget ──────────────────────────────────────────────────────────────────────────────────

  createUser(name: string, options: UserOptions = {}): Promise<void> {
    this.users.set(name, options.groups ?? []);
    this.load(rbacObjects(name, options.rules ?? []), { checked: false });
    return Promise.resolve();
  }

  tokenOf(user: string): string {
    return this.users.tokenOf(user);
  }

  rotateToken(user: string): string {
    return this.users.rotate(user);
  }

  revokeTokens(user: string): void {
    this.users.revoke(user);
  }

  kubeconfigFor(user: string, options: KubeconfigOptions = {}): string {
    return this.users.kubeconfigFor(user, this.url, options);
  }

  stats(): Stats {
    return this.counter.snapshot(this.watches.size, this.cluster.revisions.current);
  }

  resetStats(): void {
    this.counter.reset(this.watches.size);
  }

  load(objects: readonly KubeObject[], options: { readonly checked?: boolean } = {}): void {
    const writer = new Writer(this.cluster);
    for (const object of objects) {
      const resource = this.cluster.resources.find(
        (candidate) =>
          candidate.kind === object.kind &&
          object.apiVersion ===
            (candidate.group === '' ? candidate.version : `${candidate.group}/${candidate.version}`),
      );
      if (resource === undefined) throw new Error(`load: unknown kind ${object.apiVersion} ${object.kind}`);
      const namespace = resource.namespaced ? stringOf(object.metadata['namespace']) || 'default' : '';
      if (options.checked === false) {
        const metadata = resource.namespaced ? { ...object.metadata, namespace } : object.metadata;
        const key = keyOf(resource, namespace, object.metadata.name);
        this.cluster.table(resource).put(key, resource.toStorage({ ...object, metadata }));
        continue;
      }
      writer.create({
        resource,
        namespace,
        name: '',
        subresource: '',
        query: new URLSearchParams(),
        body: object,
        manager: 'load',
        warnings: [],
      });
    }
  }

  async close(): Promise<void> {
    this.setStalled(false);
    for (const watch of [...this.watches]) watch.stop();
    this.watches.clear();
    const stopped = this.stopListening();
    this.dropConnections();
    await stopped;
    this.https.close();
    this.users.dispose();
  }
}
