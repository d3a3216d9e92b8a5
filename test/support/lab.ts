import { randomUUID } from 'node:crypto';
import { LbdError } from '../../src/lib/errors.ts';
import type { LabApi } from './lab-api.ts';
import { type ApiServerOptions, LabApiServer } from './lab-api-server.ts';
import { type HostCables, LabHost } from './lab-host.ts';
import { COMMAND_PATH, LabKeeper } from './lab-keeper.ts';
import { Lbd, type LbdOptions } from './lab-lbd.ts';
import { type RunOptions, type RunResult, runInside } from './lab-process.ts';
import { LabSegment } from './lab-segment.ts';
import {
  bridgeCommands,
  cableCommands,
  type HostOptions,
  type Nic,
  planHosts,
  planSegments,
  type Segment,
  type SegmentOptions,
} from './lab-topology.ts';

/**
 * A lab: hosts as network namespaces on bridges, for tests, benches and the demo.
 *
 *   await using lab = await createLab({ hosts: { h1: {}, h2: {}, client: {} } });
 *   await lab.host('client').run(['ping', '-c1', lab.host('h1').ip]);
 *
 * The machine's own network, files and process table show nothing of it, so several labs with the same addresses run
 * side by side; and it ends with the process that made it, by whatever end that comes to (`lab-init.sh`).
 */

export type LabOptions = {
  readonly name?: string;
  /** Default: one, `lan`, with 10.77.0.0/24 and fd77:0::/64. */
  readonly segments?: Readonly<Record<string, SegmentOptions>>;
  readonly hosts: Readonly<Record<string, HostOptions>>;
};

export async function createLab(options: LabOptions): Promise<Lab> {
  const segments = planSegments(options.segments ?? { lan: {} });
  const plans = planHosts(options.hosts, segments);
  const name = options.name ?? `lab-${randomUUID().slice(0, 8)}`;
  const keeper = await LabKeeper.start(name);
  const cables = new Cables(keeper, segments, name);
  try {
    const booted = await Promise.all([
      cables.addBridges(),
      ...plans.map(async (plan) => new LabHost(plan, cables, await keeper.boot(plan.name))),
    ]);
    const hosts = booted.filter((host) => host !== undefined);
    await cables.plugAll(hosts);
    await Promise.all(hosts.map((host) => host.configure()));
    keeper.unref();
    return new Lab(cables.name, keeper, segments, hosts);
  } catch (error) {
    await keeper.close();
    throw error;
  }
}

/** Joins hosts to the switch. */
class Cables implements HostCables {
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly #keeper: LabKeeper;
  readonly #segments: readonly Segment[];

  constructor(keeper: LabKeeper, segments: readonly Segment[], name: string) {
    this.name = name;
    this.#keeper = keeper;
    this.#segments = segments;
    // Nothing else of this process's environment: NODE_OPTIONS or a test runner's variables would reach lbd.
    this.environment = {
      PATH: COMMAND_PATH,
      LC_ALL: 'C.UTF-8',
      TMPDIR: '/run/lab/tmp',
      LBD_LAB: name,
    };
  }

  boot(name: string): Promise<number> {
    return this.#keeper.boot(name);
  }

  gone(name: string): Promise<void> {
    return this.#keeper.gone(name);
  }

  async addBridges(): Promise<undefined> {
    await this.#ip(bridgeCommands(this.#segments));
  }

  async plugAll(hosts: readonly LabHost[]): Promise<void> {
    await this.#ip(
      hosts.flatMap((host) =>
        host.plan.nics.flatMap((nic) => cableCommands(nic, this.#bridge(nic), host.pid)),
      ),
    );
  }

  async plug(nic: Nic, pid: number): Promise<void> {
    await this.#ip(cableCommands(nic, this.#bridge(nic), pid));
  }

  async unplug(nic: Nic): Promise<void> {
    await runInside(this.#keeper.switchEntrance, ['ip', 'link', 'delete', nic.port], { mayFail: true });
  }

  #bridge(nic: Nic): string {
    const segment = this.#segments.find(({ name }) => name === nic.segment);
    if (segment === undefined) throw new LbdError('lab.unknown', `no segment ${nic.segment}`);
    return segment.bridge;
  }

  async #ip(commands: readonly string[]): Promise<void> {
    await runInside(this.#keeper.switchEntrance, ['ip', '-batch', '-'], {
      stdin: `${commands.join('\n')}\n`,
    });
  }
}

export class Lab {
  readonly name: string;
  readonly hosts: readonly LabHost[];
  readonly segments: readonly LabSegment[];
  readonly #keeper: LabKeeper;
  readonly #atClose: (() => unknown)[] = [];
  #apiServer: LabApiServer | undefined;
  #closed: Promise<void> | undefined;

  constructor(name: string, keeper: LabKeeper, segments: readonly Segment[], hosts: readonly LabHost[]) {
    this.name = name;
    this.hosts = hosts;
    this.segments = segments.map((segment) => new LabSegment(segment, keeper.switchEntrance, hosts));
    this.#keeper = keeper;
  }

  host(name: string): LabHost {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host === undefined) {
      const known = this.hosts.map((candidate) => candidate.name).join(', ');
      throw new LbdError('lab.unknown', `the lab has no host ${name}, only ${known}`);
    }
    return host;
  }

  segment(name = 'lan'): LabSegment {
    const segment = this.segments.find((candidate) => candidate.name === name);
    if (segment === undefined) throw new LbdError('lab.unknown', `the lab has no segment ${name}`);
    return segment;
  }

  /** Starts the lab's one API server; a second start replaces one that was stopped. */
  async startApiServer(host: LabHost | string = 'api', options?: ApiServerOptions): Promise<LabApiServer> {
    this.#apiServer = await LabApiServer.start(this.#hostOf(host), options);
    return this.#apiServer;
  }

  /** Throws before `startApiServer()`. */
  get apiServer(): LabApiServer {
    if (this.#apiServer === undefined) throw new LbdError('lab.unknown', 'the lab has no API server yet');
    return this.#apiServer;
  }

  get api(): LabApi {
    return this.apiServer.client;
  }

  /** kubectl as admin; throws when it fails, unless `mayFail`. */
  kubectl(args: readonly string[], options?: RunOptions): Promise<RunResult> {
    return this.apiServer.kubectl(args, options);
  }

  /** Writes lbd's files on the host and starts it; resolves when it is ready. */
  async startLbd(host: LabHost | string, options: LbdOptions): Promise<Lbd> {
    const kubeconfig = options.kubeconfig ?? (await this.#lbdKubeconfig(options.kubeconfig));
    return Lbd.start(this.#hostOf(host), { ...options, kubeconfig });
  }

  async #lbdKubeconfig(asked: null | undefined): Promise<string | null> {
    return asked === null || this.#apiServer === undefined ? null : this.#apiServer.kubeconfig('lbd');
  }

  #hostOf(host: LabHost | string): LabHost {
    return typeof host === 'string' ? this.host(host) : host;
  }

  /** The real pid of the lab's PID 1: killing it ends the lab at once. */
  get pid(): number {
    return this.#keeper.pid;
  }

  /** Calls `cleanup` first thing when the lab closes, the last given first. */
  atClose(cleanup: () => unknown): void {
    this.#atClose.unshift(cleanup);
  }

  /** Ends everything of the lab; may be called twice. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    try {
      for (const cleanup of this.#atClose) await cleanup();
    } finally {
      await this.#keeper.close();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
