import type { StatusDocument } from '../../src/daemon/types.ts';
import { createLab, type Lab } from './lab.ts';
import type { NewService } from './lab-api.ts';
import type { LabHost } from './lab-host.ts';
import type { Lbd, LbdOptions } from './lab-lbd.ts';
import { BINARY, POOL, shown } from './scenario.ts';
import { waitFor } from './wait.ts';

/**
 * Several hosts with lbd that gossip, beside an API server and a client: what the tests and benches of ownership are
 * told in. Hosts are h1, h2, …; which of them owns an address is for the test to find out.
 */

export type ClusterOptions = {
  readonly hosts: number;
  readonly pool?: readonly string[];
  /** More TOML, in front of `[gossip]`. */
  readonly toml?: string;
  /** More lines of `[gossip]`. */
  readonly gossip?: string;
  /** Plain machines beside them, by name. */
  readonly others?: readonly string[];
};

export class Cluster {
  readonly lab: Lab;
  readonly hosts: readonly LabHost[];
  readonly client: LabHost;
  readonly #options: ClusterOptions;
  readonly #daemons = new Map<LabHost, Lbd>();

  private constructor(lab: Lab, options: ClusterOptions) {
    this.lab = lab;
    this.#options = options;
    this.hosts = Array.from({ length: options.hosts }, (_, index) => lab.host(`h${index + 1}`));
    this.client = lab.host('client');
  }

  /** Boots the machines; no lbd runs yet. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const names = Array.from({ length: options.hosts }, (_, index) => `h${index + 1}`);
    const all = ['api', ...names, 'client', ...(options.others ?? [])];
    const lab = await createLab({ hosts: Object.fromEntries(all.map((name) => [name, {}])) });
    try {
      await lab.startApiServer();
      return new Cluster(lab, options);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** Every host's configuration is the same but for its seeds, which are the others. */
  toml(host: LabHost): string {
    const seeds = this.hosts.filter((other) => other !== host).map((other) => other.ip);
    const pool = JSON.stringify(this.#options.pool ?? POOL);
    return [
      this.#options.toml ?? '',
      '[gossip]',
      'insecure = true',
      `seeds = ${JSON.stringify(seeds)}`,
      this.#options.gossip ?? '',
      '[[pool]]',
      'name = "default"',
      `addresses = ${pool}`,
      '',
    ].join('\n');
  }

  async startLbd(host: LabHost, options: Omit<LbdOptions, 'toml'> = {}): Promise<Lbd> {
    const lbd = await this.lab.startLbd(host, {
      binary: BINARY,
      readyTimeoutMs: 30_000,
      ...options,
      toml: this.toml(host),
    });
    this.#daemons.set(host, lbd);
    return lbd;
  }

  /** Starts lbd on every host and waits until each sees all of them. */
  async startAll(): Promise<void> {
    await Promise.all(this.hosts.map((host) => this.startLbd(host)));
    await this.joined();
  }

  lbd(host: LabHost): Lbd {
    const lbd = this.#daemons.get(host);
    if (lbd === undefined) throw new Error(`lbd was not started on ${host.name}`);
    return lbd;
  }

  /** Waits until each of the hosts sees exactly `names` alive. */
  async joined(hosts: readonly LabHost[] = this.hosts, timeoutMs = 15_000): Promise<void> {
    const names = hosts.map((host) => host.name).sort();
    await Promise.all(
      hosts.map((host) =>
        this.lbd(host).waitForStatus(
          (status) => JSON.stringify(aliveMembers(status)) === JSON.stringify(names),
          { describe: `${names.join(', ')} alive as ${host.name} sees it`, timeoutMs },
        ),
      ),
    );
  }

  /** Creates a Service; resolves with its address and the host that holds it. */
  async serve(service: NewService): Promise<{ readonly ip: string; readonly owner: LabHost }> {
    await this.lab.api.createService(service);
    const { addresses } = await this.lab.api.waitForAddresses(service.name);
    const ip = addresses[0] ?? '';
    return { ip, owner: await this.ownerOf(ip) };
  }

  /** Hosts that have the address on their NIC now. */
  async holders(ip: string): Promise<readonly LabHost[]> {
    const found = await Promise.all(
      this.hosts.map(async (host) => ((await shown(host, ip)) === undefined ? [] : [host])),
    );
    return found.flat();
  }

  /** Waits until exactly one host, and none of `but`, has the address. */
  async ownerOf(
    ip: string,
    options: { readonly but?: readonly LabHost[]; readonly timeoutMs?: number } = {},
  ) {
    return waitFor(
      async () => {
        const holders = (await this.holders(ip)).filter((host) => options.but?.includes(host) !== true);
        return holders.length === 1 ? holders[0] : undefined;
      },
      { describe: `one host with ${ip}`, timeoutMs: options.timeoutMs ?? 15_000 },
    );
  }

  others(host: LabHost): readonly LabHost[] {
    return this.hosts.filter((other) => other !== host);
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** The names of the members that the host sees alive, itself included, sorted. */
export function aliveMembers(status: StatusDocument): readonly string[] {
  const members = status.election?.members ?? [];
  return members
    .filter((member) => member.state === 'alive')
    .map((member) => member.name)
    .sort();
}
