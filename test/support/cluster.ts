import type { StatusDocument } from '../../src/daemon/types.ts';
import { Clients, type ClientsOptions } from './clients.ts';
import { setEndpoints } from './endpoints.ts';
import { createLab, type Lab } from './lab.ts';
import type { NewService } from './lab-api.ts';
import type { LabHost } from './lab-host.ts';
import { type Lbd, type LbdOptions, lbdCommand } from './lab-lbd.ts';
import { favoured } from './lab-process.ts';
import { BINARY, POOL, shown } from './scenario.ts';
import { unixRequest } from './unix-http.ts';
import { waitFor } from './wait.ts';

/**
 * Several hosts with lbd that gossip, beside an API server and a client: what the tests and benches of ownership are
 * told in. Hosts are h1, h2, …; which of them owns an address is for the test to find out.
 */

const GATEWAYS = ['10.77.0.1/24', 'fd77::1/64'];

const WEB_SERVER = `require('node:http')
  .createServer((request, response) => response.end(require('node:os').hostname()))
  .listen({ port: 80, host: '0.0.0.0', backlog: 1024 }, () => console.log('listening'))`;

export type ClusterOptions = {
  readonly hosts: number;
  readonly pool?: readonly string[];
  /** More TOML, in front of `[gossip]`. */
  readonly toml?: string;
  /** More lines of `[gossip]`, the same for all or by host; default: `insecure = true` and the others as seeds. */
  readonly gossip?: string | ((host: LabHost) => string);
  /** Whether something answers at the gateway's address, as it does on most networks. Default true. */
  readonly gateway?: boolean;
  /** Plain machines beside them, by name. */
  readonly others?: readonly string[];
};

export class Cluster {
  readonly lab: Lab;
  readonly hosts: readonly LabHost[];
  readonly client: LabHost;
  readonly #options: ClusterOptions;
  readonly #daemons = new Map<LabHost, Lbd>();
  readonly #webServers = new Set<LabHost>();

  private constructor(lab: Lab, options: ClusterOptions) {
    this.lab = lab;
    this.#options = options;
    this.hosts = Array.from({ length: options.hosts }, (_, index) => lab.host(`h${index + 1}`));
    this.client = lab.host('client');
  }

  /** Boots the machines; no lbd runs yet. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const names = Array.from({ length: options.hosts }, (_, index) => `h${index + 1}`);
    const all = ['api', 'judge', ...names, 'client', ...(options.others ?? [])];
    const lab = await createLab({ hosts: Object.fromEntries(all.map((name) => [name, {}])) });
    if (options.gateway !== false)
      await lab.host('api').ipBatch(GATEWAYS.map((ip) => `addr add ${ip} dev eth0 nodad`));
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
    const pool = JSON.stringify(this.#options.pool ?? POOL);
    const { gossip } = this.#options;
    return [
      this.#options.toml ?? '',
      '[gossip]',
      typeof gossip === 'function' ? gossip(host) : `${this.seeds(host)}\ninsecure = true\n${gossip ?? ''}`,
      '[[pool]]',
      'name = "default"',
      `addresses = ${pool}`,
      '',
    ].join('\n');
  }

  /** A line of `[gossip]`. */
  seeds(host: LabHost): string {
    return `seeds = ${JSON.stringify(this.others(host).map(({ ip }) => ip))}`;
  }

  async startLbd(host: LabHost, options: Partial<LbdOptions> = {}): Promise<Lbd> {
    const lbd = await this.lab.startLbd(host, {
      binary: BINARY,
      readyTimeoutMs: 30_000,
      toml: this.toml(host),
      ...options,
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

  /** The real pids of all lbd that were started last on their host. */
  get pids(): readonly number[] {
    return [...this.#daemons.values()].map(({ pid }) => pid);
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

  /** Waits until all hosts name the same owner, with the same epoch, for every address. */
  async settled(timeoutMs = 10_000): Promise<void> {
    const views = () =>
      Promise.all(
        this.hosts.map(async (host) => {
          const { election } = await this.lbd(host).status();
          const owners = election?.owners.map(({ ip, owner, epoch }) => `${ip} ${owner} ${epoch}`) ?? [];
          return owners.some((text) => text.includes('undefined')) ? undefined : owners.sort().join();
        }),
      );
    await waitFor(
      async () => {
        const [first, ...others] = await views();
        return first !== undefined && others.every((view) => view === first);
      },
      { describe: 'one view of who owns what', timeoutMs },
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

  /** The host with this MAC on its NIC. */
  hostOf(mac: string): LabHost {
    const host = this.hosts.find((candidate) => macOf(candidate) === mac);
    if (host === undefined) throw new Error(`no host has ${mac}`);
    return host;
  }

  /** What clients see of the address, from now on. */
  watch(ip: string, options: Omit<ClientsOptions, 'daemons'> = {}): Promise<Clients> {
    return Clients.start({ prober: this.lab.host('judge'), pings: this.client }, ip, {
      ...options,
      daemons: () => this.pids,
    });
  }

  /** Starts a web server on the hosts, which answers with the host's name; once. */
  async startWebServers(hosts: readonly LabHost[] = this.hosts): Promise<void> {
    for (const host of hosts) {
      if (this.#webServers.has(host)) continue;
      this.#webServers.add(host);
      const web = await host.spawn(favoured([process.execPath, '-e', WEB_SERVER]));
      await web.waitForLine(/listening/);
    }
  }

  /** Has lbctl write a file with a new key; resolves with what is in it. */
  async writeKeys(host: LabHost, path: string): Promise<string> {
    const { stdout } = await host.run([...lbdCommand('lbctl', BINARY), 'keygen']);
    await host.writeFile(path, stdout);
    return stdout;
  }

  /** Drains the host; resolves when nothing is left on it. Throws when that takes longer than 10 s. */
  async drain(host: LabHost): Promise<void> {
    const done = async () => JSON.parse(await this.#control(host, 'GET', '/v1/drain')).done as boolean;
    await this.#control(host, 'POST', '/v1/drain');
    await waitFor(done, { describe: `${host.name} to be drained`, timeoutMs: 10_000 });
  }

  async undrain(host: LabHost): Promise<void> {
    await this.#control(host, 'POST', '/v1/undrain');
  }

  /** Says on which hosts a Service has endpoints that are ready. */
  async setEndpoints(service: string, hosts: readonly LabHost[]): Promise<void> {
    await setEndpoints(this.lab.api, service, hosts);
  }

  async labelNode(host: LabHost, labels: Readonly<Record<string, string | null>>): Promise<void> {
    const patch = { metadata: { labels } };
    await this.lab.api.expect('PATCH', `/api/v1/nodes/${host.name}`, patch, 'application/merge-patch+json');
  }

  async #control(host: LabHost, method: string, path: string): Promise<string> {
    const answer = await unixRequest(host.outside('/run/lbd/lbd.sock'), method, path);
    if (answer.code >= 400)
      throw new Error(`${method} ${path} on ${host.name}: ${answer.code} ${answer.text}`);
    return answer.text;
  }

  /** Creates the Node object of each host, which has the host's name. */
  async createNodes(): Promise<void> {
    const { api } = this.lab;
    for (const { name, ip } of this.hosts) {
      await api.expect('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata: { name } });
      const status = { addresses: [{ type: 'InternalIP', address: ip }] };
      await api.expect('PATCH', `/api/v1/nodes/${name}/status`, { status }, 'application/merge-patch+json');
    }
  }

  others(host: LabHost): readonly LabHost[] {
    return this.hosts.filter((other) => other !== host);
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** The MAC with which a host answers for addresses. */
export function macOf(host: LabHost): string {
  return host.nic('eth0').mac;
}

/** The names of the members that the host sees alive, itself included, sorted. */
export function aliveMembers(status: StatusDocument): readonly string[] {
  const members = status.election?.members ?? [];
  return members
    .filter((member) => member.state === 'alive')
    .map((member) => member.name)
    .sort();
}
