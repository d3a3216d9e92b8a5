import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { ApiClient, type ApiRequest } from '../../../src/kube/io/api-client.ts';
import { KubeCluster, type KubeClusterOptions } from '../../../src/kube/io/cluster.ts';
import { Credentials } from '../../../src/kube/io/credentials.ts';
import { serviceKey } from '../../../src/kube/objects.ts';
import type { Service } from '../../../src/kube/types.ts';
import type { Logger } from '../../../src/lib/logger.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { seededRandom } from '../../../src/lib/prng.ts';
import { type Instant, instant } from '../../../src/lib/time.ts';
import { type ApiServer, type ApiServerOptions, startApiServer } from '../../support/apiserver/server.ts';
import { type CredentialForm, LBD_RULES } from '../../support/apiserver/types.ts';

export function now(): Instant {
  return instant(performance.now());
}

/** One API server, and any number of clusters that watch it; everything ends with `close()`. */
export class Harness {
  readonly api: ApiServer;
  readonly directory: string;
  /** What the clusters logged, `event field=…` is `event` and its fields as JSON. */
  readonly logged: string[] = [];
  readonly #closers: (() => Promise<void>)[] = [];
  #admin: ApiClient | undefined;
  #serial = 0;

  private constructor(api: ApiServer, directory: string) {
    this.api = api;
    this.directory = directory;
  }

  static async start(options: ApiServerOptions = {}): Promise<Harness> {
    const api = await startApiServer(options);
    await api.createUser('lbd', { rules: LBD_RULES });
    return new Harness(api, mkdtempSync(join(tmpdir(), 'lbd-kube-')));
  }

  get logger(): Logger {
    const keep = (fields: Readonly<Record<string, unknown>>, event: string) => {
      this.logged.push(`${event} ${JSON.stringify(fields)}`);
    };
    return { debug() {}, info: keep, warn: keep, error: keep };
  }

  kubeconfig(user = 'lbd', form: CredentialForm = 'token', server?: string): string {
    const path = join(this.directory, `kubeconfig-${this.#serial++}`);
    const options = { form, ...(server === undefined ? {} : { server }) };
    writeFileSync(path, this.api.kubeconfigFor(user, options), { mode: 0o600 });
    return path;
  }

  /** A cluster view, started unless `start` is false. */
  cluster(options: ClusterOptions = {}): TestCluster {
    const cluster = new TestCluster({
      config: {
        kubeconfig: options.kubeconfig ?? this.kubeconfig(),
        context: undefined,
        loadBalancerClass: undefined,
        healthCheckNodePorts: false,
        leaseNamespace: 'kube-system',
      },
      stateDirectory: options.stateDirectory ?? join(this.directory, `state-${this.#serial++}`),
      hostName: options.hostName ?? 'host-a',
      logger: this.logger,
      random: seededRandom(7),
      now,
      ...(options.verifyIntervalMs === undefined ? {} : { verifyIntervalMs: options.verifyIntervalMs }),
      ...(options.verifyTimeoutMs === undefined ? {} : { verifyTimeoutMs: options.verifyTimeoutMs }),
    });
    this.#closers.push(() => cluster.view.stop());
    cluster.view.start();
    return cluster;
  }

  /** A request as cluster administrator. */
  admin(method: ApiRequest['method'], path: string, body?: unknown): Promise<unknown> {
    if (this.#admin === undefined) {
      const path = this.kubeconfig('admin');
      const credentials = new Credentials({ path, context: undefined, logger: SILENT_LOGGER, now });
      this.#closers.push(async () => credentials.close());
      this.#admin = new ApiClient(credentials, now);
    }
    const contentType = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const common = { verb: method.toLowerCase(), resource: path, method, path, contentType } as const;
    return this.#admin.request(body === undefined ? common : { ...common, body });
  }

  /** Stores a Service directly, as if created by somebody. */
  loadService(name: string, spec: Record<string, unknown> = {}): void {
    this.api.load([serviceObject(name, spec)]);
  }

  closeWith(closer: () => Promise<void>): void {
    this.#closers.push(closer);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.reverse()) await close();
    await this.api.close();
    rmSync(this.directory, { recursive: true });
  }
}

export type ClusterOptions = {
  readonly kubeconfig?: string;
  readonly stateDirectory?: string;
  readonly hostName?: string;
  readonly verifyIntervalMs?: number;
  readonly verifyTimeoutMs?: number;
};

const WAIT_MS = 10_000;

export class TestCluster {
  readonly view: KubeCluster;
  #waiting: (() => void)[] = [];

  constructor(options: Omit<KubeClusterOptions, 'onChange'>) {
    this.view = new KubeCluster({ ...options, onChange: () => this.#wake() });
  }

  /** Resolves at the first change after which `condition` holds (or now); rejects with `what` after `ms`. */
  async until(condition: () => boolean, what: string, ms = WAIT_MS): Promise<void> {
    const late = now() + ms;
    while (!condition()) {
      const left = late - now();
      if (left <= 0) throw new Error(`waited ${ms} ms until ${what}; ${JSON.stringify(this.view.status())}`);
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        // Not every condition is told by a change (an error is not).
        timer = setTimeout(resolve, Math.min(left, 20));
      });
      clearTimeout(timer);
    }
  }

  ready(): Promise<void> {
    return this.until(
      () => this.view.synced() && this.view.endpointsSynced() && this.view.isAllocator(),
      'listed and allocator',
    );
  }

  service(name: string): Service | undefined {
    return this.view.services().get(serviceKey('default', name));
  }

  async appears(name: string, ms = WAIT_MS): Promise<Service> {
    await this.until(() => this.service(name) !== undefined, `service ${name} is known`, ms);
    const service = this.service(name);
    if (service === undefined) throw new Error(`service ${name} went again`);
    return service;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export function serviceObject(name: string, spec: Record<string, unknown> = {}) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default' },
    spec: { type: 'LoadBalancer', ports: [{ port: 80 }], ...spec },
  };
}
