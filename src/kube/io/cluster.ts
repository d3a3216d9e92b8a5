/**
 * The Kubernetes cluster as the daemon sees it: what is known of Services, EndpointSlices and Nodes, whether this host is
 * the allocator, and the few writes lbd makes. Everything inside keeps trying for ever; nothing here throws for a server
 * that is away.
 */

import type { KubernetesConfig } from '../../config/types.ts';
import type { Ip } from '../../lib/ip.ts';
import type { Logger } from '../../lib/logger.ts';
import type { Random } from '../../lib/prng.ts';
import type { Instant } from '../../lib/time.ts';
import type { TokenStatus } from '../account-token.ts';
import { endpointSliceItem, nodeItem, serviceItem } from '../objects.ts';
import type {
  EndpointSlice,
  EventNote,
  Node,
  NodeName,
  ReflectorStatus,
  Service,
  ServiceKey,
} from '../types.ts';
import { ApiClient } from './api-client.ts';
import { Credentials } from './credentials.ts';
import { EventWriter } from './event-writer.ts';
import { LeaseShell } from './lease-shell.ts';
import { ReflectorShell } from './reflector-shell.ts';
import { ServiceCacheFile } from './service-cache-file.ts';
import { type StatusOutcome, StatusWriter } from './status-writer.ts';
import { readRenewedToken, TokenRenewal } from './token-renewal.ts';

/**
 * Each tick asks about one of the three watches in turn, so each is verified every 24 s: a connection that died without a
 * word is found within 24 s + the machine's 2 s of grace, a server that hangs within 8 s + 8 s.
 */
const VERIFY_INTERVAL_MS = 8_000;
const VERIFY_TIMEOUT_MS = 8_000;

export type KubeClusterOptions = {
  readonly config: KubernetesConfig;
  readonly stateDirectory: string;
  /** Names this host in the Lease and in Events. */
  readonly hostName: string;
  readonly logger: Logger;
  /** Something that `services()`, `endpointSlices()`, `nodes()`, `isAllocator()` or `synced()` say changed; once a turn. */
  readonly onChange: () => void;
  readonly random: Random;
  /** CLOCK_BOOTTIME, because a Lease goes on while the host sleeps. */
  readonly now: () => Instant;
  /** For tests. */
  readonly verifyIntervalMs?: number;
  readonly verifyTimeoutMs?: number;
  readonly wallNow?: () => number;
};

export type KubeStatus = {
  readonly server: string | undefined;
  readonly reachable: boolean;
  readonly fromCache: boolean;
  readonly error: string | undefined;
  /** What else could not be written, by its last try: the Services for the next start, Events. */
  readonly unwritten: readonly string[];
  readonly reflectors: readonly ReflectorStatus[];
  /** The ServiceAccount token; undefined when the kubeconfig has none that ends. */
  readonly token: TokenStatus | undefined;
  readonly allocator: {
    readonly holder: string | undefined;
    readonly self: boolean;
    readonly error: string | undefined;
  };
};

export class KubeCluster {
  readonly #options: KubeClusterOptions;
  readonly #credentials: Credentials;
  readonly #client: ApiClient;
  readonly #services: ReflectorShell<Service>;
  readonly #endpointSlices: ReflectorShell<EndpointSlice>;
  readonly #nodes: ReflectorShell<Node>;
  readonly #lease: LeaseShell;
  readonly #events: EventWriter;
  readonly #statusWriter: StatusWriter;
  readonly #cache: ServiceCacheFile;
  readonly #tokenRenewal: TokenRenewal;
  #verifyTimer: NodeJS.Timeout | undefined;
  #verifyTurn = 0;
  #notifying: NodeJS.Immediate | undefined;
  #stopped = false;

  /** Throws LbdError (`kube.kubeconfig-…`) when the kubeconfig cannot serve; asks no server. */
  constructor(options: KubeClusterOptions) {
    this.#options = options;
    const { config, logger, random, now, hostName } = options;
    const { kubeconfig: path, context } = config;
    const renewedToken = readRenewedToken(options.stateDirectory);
    this.#credentials = new Credentials({ path, context, logger, now, renewedToken });
    const client = new ApiClient(this.#credentials, now);
    this.#client = client;
    this.#cache = new ServiceCacheFile({
      directory: options.stateDirectory,
      server: this.#credentials.server,
      services: () => [...this.services().values()].filter((service) => this.#isOurs(service)),
      logger,
    });
    const notify = () => this.#notify();
    // Not in the same turn: the one that recovered is in the middle of a step.
    const recovered = () =>
      setImmediate(() => {
        if (!this.#stopped) for (const reflector of this.#reflectors()) reflector.serverRecovered();
      });
    const common = { client, logger, random, now, recovered, query: '' };
    this.#services = new ReflectorShell({
      ...common,
      config: { resource: 'services', doubts: true },
      path: '/api/v1/services',
      convert: serviceItem,
      cached: this.#cache.load(),
      notify: () => {
        if (this.#services.synced) this.#cache.changed();
        notify();
      },
    });
    this.#endpointSlices = new ReflectorShell({
      ...common,
      config: { resource: 'endpointslices', doubts: false },
      path: '/apis/discovery.k8s.io/v1/endpointslices',
      // Headless Services have no address to announce (the label is the endpoint controllers' own).
      query: `labelSelector=${encodeURIComponent('!service.kubernetes.io/headless')}`,
      convert: endpointSliceItem,
      cached: [],
      notify,
    });
    this.#nodes = new ReflectorShell({
      ...common,
      config: { resource: 'nodes', doubts: false },
      path: '/api/v1/nodes',
      convert: nodeItem,
      cached: [],
      notify,
    });
    this.#lease = new LeaseShell({
      client,
      namespace: config.leaseNamespace,
      identity: hostName,
      logger,
      random,
      now,
      notify: () => {
        // What the allocator before us wrote last may not have come through our watch yet.
        if (this.#lease.heldSince() !== undefined) this.#services.relist();
        notify();
      },
    });
    this.#tokenRenewal = new TokenRenewal({
      client,
      credentials: this.#credentials,
      stateDirectory: options.stateDirectory,
      logger,
      wallNow: options.wallNow ?? Date.now,
    });
    this.#events = new EventWriter({ client, hostName, logger, now });
    this.#statusWriter = new StatusWriter(
      client,
      () => this.isAllocator(),
      (item) => this.#services.written(item),
    );
  }

  /** Begins to list, watch and stand for election; returns at once, also with no server in sight. */
  start(): void {
    for (const reflector of this.#reflectors()) reflector.start();
    this.#lease.start();
    this.#tokenRenewal.start();
    const intervalMs = this.#options.verifyIntervalMs ?? VERIFY_INTERVAL_MS;
    this.#verifyTimer = setInterval(() => void this.#verify(), intervalMs);
  }

  /** Gives the Lease back, writes the cache and closes every connection. Never rejects; takes at most 7 s, mostly some ms. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    clearInterval(this.#verifyTimer);
    if (this.#notifying !== undefined) clearImmediate(this.#notifying);
    for (const reflector of this.#reflectors()) reflector.stop();
    this.#events.stop();
    await Promise.all([this.#release(), this.#cache.close(), this.#tokenRenewal.stop()]);
    this.#credentials.close();
  }

  /** Every LoadBalancer Service of the cluster whatever its class, and what still carries ingress. Live, changed in place. */
  services(): ReadonlyMap<ServiceKey, Service> {
    return this.#services.objects as ReadonlyMap<ServiceKey, Service>;
  }

  /** By `namespace/name`. Live, changed in place. */
  endpointSlices(): ReadonlyMap<string, EndpointSlice> {
    return this.#endpointSlices.objects;
  }

  /** Live, changed in place. */
  nodes(): ReadonlyMap<NodeName, Node> {
    return this.#nodes.objects as ReadonlyMap<NodeName, Node>;
  }

  /** Whether Services were listed completely since start: before that they are what the state directory knew. */
  synced(): boolean {
    return this.#services.synced;
  }

  /** The same for EndpointSlices and Nodes: before that nothing may be concluded from an absence. */
  endpointsSynced(): boolean {
    return this.#endpointSlices.synced && this.#nodes.synced;
  }

  /**
   * Whether this host may allocate at this moment: it holds the Lease, and has listed the Services since it does, so that no
   * address that the allocator before it gave away looks free.
   */
  isAllocator(): boolean {
    const heldSince = this.#lease.heldSince();
    return !this.#stopped && heldSince !== undefined && this.#services.isListedSince(heldSince);
  }

  /** See `StatusWriter.write()`; `stale` also when this host is not the allocator. */
  writeStatus(service: Service, ips: readonly Ip[]): Promise<StatusOutcome> {
    return this.#statusWriter.write(service, ips);
  }

  /** Queues an Event; see `../events.ts` for what becomes of it. */
  event(note: EventNote): void {
    this.#events.offer(note);
  }

  status(): KubeStatus {
    const { reachable, error } = this.#client.reachability;
    const reflectors = this.#reflectors().map((reflector) => reflector.status());
    return {
      server: this.#credentials.server,
      reachable,
      fromCache: !this.#services.synced && this.#services.objects.size > 0,
      error: error ?? reflectors.find((reflector) => reflector.error !== undefined)?.error,
      unwritten: [this.#cache.problem, this.#events.problem].filter((problem) => problem !== undefined),
      reflectors,
      token: this.#tokenRenewal.status(),
      allocator: this.#lease.status(),
    };
  }

  /** The Lease goes only when no write of ours can come after it. */
  async #release(): Promise<void> {
    await this.#statusWriter.drained();
    await this.#lease.stop();
  }

  #reflectors(): readonly (ReflectorShell<Service> | ReflectorShell<EndpointSlice> | ReflectorShell<Node>)[] {
    return [this.#services, this.#endpointSlices, this.#nodes];
  }

  /** `setImmediate` runs after all of this turn's input was read: one call for however many events came with it. */
  #notify(): void {
    if (this.#stopped || this.#notifying !== undefined) return;
    this.#notifying = setImmediate(() => {
      this.#notifying = undefined;
      this.#options.onChange();
    });
  }

  async #verify(): Promise<void> {
    const reflectors = this.#reflectors();
    const timeoutMs = this.#options.verifyTimeoutMs ?? VERIFY_TIMEOUT_MS;
    const reflector = reflectors[this.#verifyTurn++ % reflectors.length];
    if (reflector === undefined || (await reflector.verify(timeoutMs))) return;
    const reason = 'the API server does not answer any more';
    for (const each of this.#reflectors()) each.interrupt(reason);
  }

  #isOurs(service: Service): boolean {
    return service.loadBalancerClass === this.#options.config.loadBalancerClass;
  }
}
