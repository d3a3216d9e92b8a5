import type { Config } from '../config/types.ts';
import type { Wanted } from '../election/types.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import { type CheckTarget, HealthChecks } from '../kube/health-checks.ts';
import { askHealth } from '../kube/io/health-prober.ts';
import type { Node, NodeName, Service, ServiceKey } from '../kube/types.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import { NEVER } from '../lib/time.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { listed } from './status.ts';

const LOOPBACK = '127.0.0.1' as Ip;
const LONGEST_TIMER_MS = 60_000;
/** Changes that follow each other within this are told together: 1,000 Services at a start are not 1,000 plans. */
const TELL_EVERY_MS = 100;

export type HealthCheckOptions = {
  /** The name of this host's Node. */
  readonly node: string;
  /** How addresses stand on this host now. */
  readonly addresses: () => readonly AddressStatus[];
  readonly logger: Logger;
  /** What `checked()` gives may be another now. */
  readonly onChange: () => void;
};

/** Whether kube-proxy of this host is ready for the addresses that it may have, by the Services' healthCheckNodePort. */
export class HealthCheckService {
  readonly #options: HealthCheckOptions;
  readonly #checks = new HealthChecks(bootTimeMs());
  #known: ReadonlySet<ServiceKey> = new Set();
  #ip: Ip = LOOPBACK;
  #timer: NodeJS.Timeout | undefined;
  #toldAt = bootTimeMs();
  #telling: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: HealthCheckOptions) {
    this.#options = options;
  }

  /**
   * Checks from now on the Services with an endpoint on this host, and adds to `wanted` what this host may not have by
   * that. Where no endpoint is, the port says no, and nothing is to be found out.
   */
  checked(
    wanted: Wanted,
    desired: readonly DesiredAddress[],
    services: ReadonlyMap<ServiceKey, Service>,
    nodes: ReadonlyMap<NodeName, Node>,
  ): Wanted {
    const { node } = this.#options;
    const users = usersOf(wanted, desired, services, node);
    this.#ip = nodes.get(node as NodeName)?.internalIps[0] ?? LOOPBACK;
    const isNew = [...users.keys()].some((service) => !this.#known.has(service));
    const held = new Set(isNew ? heldOf(this.#options.addresses()) : []);
    this.#checks.want(targetsOf(users, services, held), bootTimeMs());
    this.#known = new Set(users.keys());
    this.#ask();
    const unready = new Map<Ip, string>();
    for (const [service, reason] of this.#checks.unready()) {
      for (const ip of users.get(service) ?? []) {
        unready.set(ip, refusalText(service, reason));
      }
    }
    return { ...wanted, unready };
  }

  /** Services for which kube-proxy is not ready here, and what it answered, for status. */
  problems(): readonly string[] {
    return listed([...this.#checks.refused()].map(([service, reason]) => refusalText(service, reason)));
  }

  /** Services that are checked, by what is known of them. */
  counts(): ReturnType<HealthChecks['counts']> {
    return this.#checks.counts();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#telling);
  }

  #ask(): void {
    if (this.#isClosed) return;
    for (const { service, port } of this.#checks.take(bootTimeMs())) void this.#askOne(service, port);
    clearTimeout(this.#timer);
    const deadline = this.#checks.deadline();
    if (deadline === NEVER) return;
    const pauseMs = Math.min(LONGEST_TIMER_MS, Math.max(1, Math.ceil(deadline - bootTimeMs())));
    this.#timer = setTimeout(() => this.#ask(), pauseMs);
  }

  async #askOne(service: ServiceKey, port: number): Promise<void> {
    const answer = await askHealth(this.#ip, port);
    if (this.#checks.answered(service, port, answer, bootTimeMs())) {
      const { reason } = answer;
      const isReady = reason === undefined;
      this.#options.logger[isReady ? 'info' : 'warn'](
        { service, port, reason },
        isReady ? 'kube-proxy.ready' : 'kube-proxy.not-ready',
      );
      this.#tell();
    }
    this.#ask();
  }

  /** A first change at once, more of them later. */
  #tell(): void {
    if (this.#isClosed || this.#telling !== undefined) return;
    const pauseMs = Math.max(0, this.#toldAt + TELL_EVERY_MS - bootTimeMs());
    this.#telling = setTimeout(() => {
      this.#telling = undefined;
      this.#toldAt = bootTimeMs();
      this.#options.onChange();
    }, pauseMs);
  }
}

/** The checks, where the configuration asks for them. */
export function healthChecksOf(
  { kubernetes, host }: Config,
  options: Omit<HealthCheckOptions, 'node'>,
): HealthCheckService | undefined {
  return kubernetes.healthCheckNodePorts
    ? new HealthCheckService({ ...options, node: host.node })
    : undefined;
}

function refusalText(service: ServiceKey, reason: string): string {
  return `kube-proxy is not ready here for ${service}: its healthCheckNodePort ${reason}`;
}

function heldOf(addresses: readonly AddressStatus[]): readonly Ip[] {
  return addresses.filter(({ state }) => state === 'held').map(({ ip }) => ip);
}

/** The Services that are to be checked, with the addresses of each that are bound to endpoints on this host. */
function usersOf(
  wanted: Wanted,
  desired: readonly DesiredAddress[],
  services: ReadonlyMap<ServiceKey, Service>,
  node: string,
): ReadonlyMap<ServiceKey, readonly Ip[]> {
  const users = new Map<ServiceKey, Ip[]>();
  for (const { ip, services: keys } of desired) {
    const { nodes, isLastResort } = wanted.addresses.get(ip) ?? {};
    // The port says no to endpoints that terminate, which is to move clients away; here there is nowhere to go.
    if (nodes?.has(node) !== true || isLastResort) continue;
    for (const key of keys as readonly ServiceKey[]) {
      if (services.get(key)?.healthCheckNodePort === undefined) continue;
      const known = users.get(key);
      if (known === undefined) users.set(key, [ip]);
      else known.push(ip);
    }
  }
  return users;
}

function* targetsOf(
  users: ReadonlyMap<ServiceKey, readonly Ip[]>,
  services: ReadonlyMap<ServiceKey, Service>,
  held: ReadonlySet<Ip>,
): Iterable<CheckTarget> {
  for (const [service, ips] of users) {
    const port = services.get(service)?.healthCheckNodePort;
    if (port !== undefined) yield { service, port, isServed: ips.some((ip) => held.has(ip)) };
  }
}
