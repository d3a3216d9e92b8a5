/**
 * Starts a real kube-apiserver with its etcd on free ports, for whoever has the binaries:
 * KUBE_APISERVER=/path/to/kube-apiserver, and etcd from $ETCD or the PATH. Users, tokens and kubeconfigs
 * work as with the stand-in, so tests and labs need not know which one they talk to.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CertificateAuthority, type Pair } from './certificates.ts';
import { Client } from './client.ts';
import { kubeconfig } from './kubeconfig.ts';
import { rbacObjects } from './rbac.ts';
import { startTokenWebhook, type TokenWebhook } from './token-webhook.ts';
import type { ApiTarget, KubeconfigOptions, UserOptions } from './types.ts';
import { Users } from './users.ts';

export interface RealApiServerOptions {
  /** Default $KUBE_APISERVER. */
  readonly kubeApiserver?: string;
  /** Default $ETCD, or `etcd` from the PATH. */
  readonly etcd?: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  readonly certificateHosts?: readonly string[];
  /** Where token files go; default inside the temporary directory of the server. */
  readonly directory?: string;
  readonly nodePorts?: { readonly first: number; readonly last: number };
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;
const POLL_MS = 100;

/** The path of the real server to test against, or undefined when none is given. */
export function realApiServerPath(): string | undefined {
  const path = process.env['KUBE_APISERVER'];
  return path === undefined || path === '' ? undefined : path;
}

/** Ready when /readyz answers ok and the namespace `default` exists. Throws with the end of the log otherwise. */
export async function startRealApiServer(options: RealApiServerOptions = {}): Promise<ApiTarget> {
  const server = new RealApiServer(options);
  try {
    await server.start();
    return server;
  } catch (error) {
    await server.close();
    throw error;
  }
}

class RealApiServer implements ApiTarget {
  readonly isStandIn = false;
  readonly caPem: string;
  private readonly options: RealApiServerOptions;
  private readonly host: string;
  private port = 0;
  private readonly home: string;
  private readonly authority: CertificateAuthority;
  private readonly users: Users;
  private webhook: TokenWebhook | undefined;
  private readonly children: Child[] = [];
  private client: Client | undefined;

  constructor(options: RealApiServerOptions) {
    this.options = options;
    this.host = options.host ?? '127.0.0.1';
    this.home = mkdtempSync(join(tmpdir(), 'lbd-kube-'));
    process.once('exit', this.removeHome);
    this.authority = CertificateAuthority.create('lbd-test-ca');
    this.caPem = this.authority.certPem;
    this.users = new Users(this.authority, options.directory ?? join(this.home, 'users'));
    this.users.set('admin', ['system:masters']);
  }

  get url(): string {
    return `https://${this.host.includes(':') ? `[${this.host}]` : this.host}:${this.port}`;
  }

  async start(): Promise<void> {
    const path = this.options.kubeApiserver ?? realApiServerPath();
    if (path === undefined) throw new Error('no kube-apiserver: set KUBE_APISERVER=/path/to/kube-apiserver');
    this.port = this.options.port || (await freePort(this.host));
    this.webhook = await startTokenWebhook(this.authority, this.users);
    const etcdUrl = await this.startEtcd();
    this.children.push(
      new Child(path, this.flags(etcdUrl, this.webhook.url), join(this.home, 'apiserver.log')),
    );
    const client = new Client(this, 'admin');
    this.client = client;
    await this.until(async () => (await client.get('/readyz')).text === 'ok');
    await this.until(async () => (await client.get('/api/v1/namespaces/default')).code === 200);
  }

  private async startEtcd(): Promise<string> {
    const [clientPort, peerPort] = [await freePort('127.0.0.1'), await freePort('127.0.0.1')];
    const [client, peer] = [`http://127.0.0.1:${clientPort}`, `http://127.0.0.1:${peerPort}`];
    const etcd = this.options.etcd ?? process.env['ETCD'] ?? 'etcd';
    const flags = [
      `--data-dir=${join(this.home, 'etcd')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      // the data is thrown away: durability would only cost the test machine's disk time
      '--unsafe-no-fsync',
    ];
    this.children.push(new Child(etcd, flags, join(this.home, 'etcd.log')));
    await this.until(async () => (await fetch(`${client}/health`)).ok);
    return client;
  }

  private flags(etcdUrl: string, webhookUrl: string): string[] {
    const hosts = ['localhost', '127.0.0.1', '::1', this.host, ...(this.options.certificateHosts ?? [])];
    const serving = this.pair('serving', this.authority.server(hosts));
    const serviceAccounts = this.pair('service-accounts', this.authority.client('service-accounts', []));
    const loopback = this.host === '::1' || this.host.startsWith('127.');
    const webhook = kubeconfig({
      server: webhookUrl,
      caPem: this.caPem,
      user: 'webhook',
      credential: { form: 'token', token: 'unused' },
      namespace: undefined,
    });
    const { first, last } = this.options.nodePorts ?? { first: 30_000, last: 32_767 };
    return [
      `--etcd-servers=${etcdUrl}`,
      `--bind-address=${this.host}`,
      `--secure-port=${this.port}`,
      // it must not be a loopback address; with no reconciler it is used nowhere
      `--advertise-address=${loopback ? '192.0.2.1' : this.host}`,
      '--endpoint-reconciler-type=none',
      `--tls-cert-file=${serving.cert}`,
      `--tls-private-key-file=${serving.key}`,
      `--client-ca-file=${this.file('ca.crt', this.caPem)}`,
      `--service-account-key-file=${serviceAccounts.key}`,
      `--service-account-signing-key-file=${serviceAccounts.key}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      '--service-cluster-ip-range=10.96.0.0/12,fd00:10:96::/112',
      `--service-node-port-range=${first}-${last}`,
      '--authorization-mode=RBAC',
      `--authentication-token-webhook-config-file=${this.file('webhook.kubeconfig', webhook)}`,
      '--authentication-token-webhook-version=v1',
      '--authentication-token-webhook-cache-ttl=1s',
      // no controller manager runs that would create the accounts it asks for
      '--disable-admission-plugins=ServiceAccount',
    ];
  }

  private file(name: string, text: string): string {
    const path = join(this.home, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  private pair(name: string, pair: Pair): { cert: string; key: string } {
    return { cert: this.file(`${name}.crt`, pair.certPem), key: this.file(`${name}.key`, pair.keyPem) };
  }

  /** Polls until the check is true; throws as soon as a child has died, or after the start timeout. */
  private async until(check: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const done = await check().catch(() => false);
      if (done) return;
      const dead = this.children.find((child) => child.exit !== undefined);
      if (dead !== undefined) throw new Error(`${dead.command} ended: ${dead.exit}\n${dead.logTail()}`);
      if (Date.now() > deadline)
        throw new Error(`not ready after ${START_TIMEOUT_MS} ms\n${this.children.at(-1)?.logTail()}`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async createUser(name: string, options: UserOptions = {}): Promise<void> {
    const client = this.client;
    if (client === undefined) throw new Error('the server is not running');
    this.users.set(name, options.groups ?? []);
    for (const object of rbacObjects(name, options.rules ?? [])) {
      const namespace = object.metadata['namespace'];
      const scope = namespace === undefined ? '' : `/namespaces/${namespace}`;
      const path = `/apis/rbac.authorization.k8s.io/v1${scope}/${object.kind.toLowerCase()}s/${object.metadata.name}`;
      const answer = await client.put(path, object);
      if (answer.code >= 300) throw new Error(`createUser ${name}: ${answer.code} ${answer.text}`);
    }
    await this.untilRulesApply(name, options);
  }

  /** The authorizer learns of new roles through a watch, a moment after they were written. */
  private async untilRulesApply(name: string, options: UserOptions): Promise<void> {
    const rule = options.rules?.at(-1);
    if (rule === undefined) return;
    const client = new Client(this, name);
    const [resource = '', subresource] = (rule.resources.at(-1) ?? '').split('/');
    const resourceAttributes = {
      verb: rule.verbs.at(-1),
      group: rule.apiGroups.at(-1),
      resource,
      ...(subresource === undefined ? {} : { subresource }),
      ...(rule.namespace === undefined ? {} : { namespace: rule.namespace }),
      ...(rule.resourceNames === undefined ? {} : { name: rule.resourceNames.at(-1) }),
    };
    const review = {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes },
    };
    try {
      await this.until(async () => {
        const answer = await client.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', review);
        return /"allowed":\s*true/.test(answer.text);
      });
    } finally {
      client.close();
    }
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

  async close(): Promise<void> {
    this.client?.close();
    for (const child of this.children.reverse()) await child.stop();
    this.webhook?.close();
    this.removeHome();
    process.off('exit', this.removeHome);
  }

  private readonly removeHome = (): void => rmSync(this.home, { recursive: true, force: true });
}

class Child {
  readonly command: string;
  readonly logPath: string;
  private readonly process: ChildProcess;
  private readonly ended: Promise<void>;
  /** How it ended; undefined while it runs. */
  exit: string | undefined;

  constructor(command: string, parameters: readonly string[], logPath: string) {
    this.command = command;
    this.logPath = logPath;
    mkdirSync(join(logPath, '..'), { recursive: true });
    const log = createWriteStream(logPath);
    this.process = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stdout?.pipe(log, { end: false });
    this.process.stderr?.pipe(log, { end: false });
    // it must not outlive this process, also when that ends while starting
    const kill = (): boolean => this.process.kill('SIGKILL');
    process.once('exit', kill);
    this.ended = new Promise((resolve) => {
      const done = (how: string): void => {
        process.off('exit', kill);
        this.exit ??= how;
        log.end();
        resolve();
      };
      this.process.once('error', (error) => done(error.message));
      this.process.once('exit', (code, signal) => done(`exit status ${code ?? signal}`));
    });
  }

  logTail(): string {
    try {
      return readFileSync(this.logPath, 'utf8').slice(-4000);
    } catch {
      return '';
    }
  }

  async stop(): Promise<void> {
    if (this.exit !== undefined) return;
    this.process.kill('SIGTERM');
    const timer = setTimeout(() => this.process.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }
}

async function freePort(host: string): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
