import { existsSync, globSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StatusDocument } from '../../src/daemon/types.ts';
import type { AddressStatus, SysctlState } from '../../src/iface/types.ts';
import { createLab, type Lab } from './lab.ts';
import type { LabApi, NewService } from './lab-api.ts';
import type { LabHost } from './lab-host.ts';
import { type Lbd, type LbdOptions, lbdCommand } from './lab-lbd.ts';
import type { RunResult } from './lab-process.ts';
import { waitFor } from './wait.ts';

/**
 * The whole daemon on one host of a lab, beside an API server, a client and a rival host that takes addresses: what
 * the tests of test/netns/ are told in. One lab serves all tests of a file, each from a clean state.
 */

/** Why these tests cannot run here, or false. */
export const SKIP: string | false =
  process.getuid?.() === 0 ? false : 'needs root: it makes network namespaces';

export const POOL = ['10.77.0.200-10.77.0.220'];
/** The first address of the pool: what the first Service gets. */
export const VIP = '10.77.0.200';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILT = join(ROOT, 'build/lbd');
const OBSERVER = fileURLToPath(new URL('observe-addresses.ts', import.meta.url));

/** The built lbd when it is newer than every source, because it starts three times as fast; otherwise the source. */
export const BINARY: string = process.env['LBD_BINARY'] ?? (isFresh(BUILT) ? BUILT : 'source');

function isFresh(binary: string): boolean {
  if (!existsSync(binary)) return false;
  const builtAt = statSync(binary).mtimeMs;
  const sources = globSync(['src/**/*.ts', 'native/*.{c,h}'], { cwd: ROOT });
  return sources.every((file) => statSync(join(ROOT, file)).mtimeMs < builtAt);
}

export type ScenarioLbdOptions = Omit<LbdOptions, 'toml'> & {
  readonly pool?: readonly string[];
  /** More TOML, in front of the pool. */
  readonly toml?: string;
};

/** An address as `ip -j addr` shows it. */
export type ShownAddress = {
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  readonly noprefixroute?: boolean;
  readonly secondary?: boolean;
  readonly nodad?: boolean;
  readonly tentative?: boolean;
  readonly valid_life_time: number;
  readonly preferred_life_time: number;
};

/** `valid_life_time` of a permanent address. */
export const FOREVER = 4_294_967_295;

export class Scenario {
  readonly lab: Lab;
  readonly host: LabHost;
  readonly client: LabHost;
  readonly rival: LabHost;
  #daemons: Lbd[] = [];

  private constructor(lab: Lab) {
    this.lab = lab;
    this.host = lab.host('h1');
    this.client = lab.host('client');
    this.rival = lab.host('rival');
  }

  static async start(): Promise<Scenario> {
    const lab = await createLab({ hosts: { api: {}, h1: {}, client: {}, rival: {} } });
    try {
      await lab.startApiServer();
      return new Scenario(lab);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  get api(): LabApi {
    return this.lab.api;
  }

  /** The configuration that `startLbd()` writes. */
  toml(options: ScenarioLbdOptions = {}): string {
    const addresses = JSON.stringify(options.pool ?? POOL);
    return `${options.toml ?? ''}\n[[pool]]\nname = "default"\naddresses = ${addresses}\n`;
  }

  /** Starts lbd on the host; it is ended with the test at the latest. */
  async startLbd(options: ScenarioLbdOptions = {}): Promise<Lbd> {
    const lbd = await this.lab.startLbd(this.host, {
      binary: BINARY,
      ...options,
      toml: this.toml(options),
      readyTimeoutMs: 20_000,
    });
    this.#daemons.push(lbd);
    return lbd;
  }

  /** Starts lbd and gives it a Service; resolves when its address is held. */
  async startWithService(
    options: ScenarioLbdOptions = {},
    service: Partial<NewService> = {},
  ): Promise<{ readonly lbd: Lbd; readonly ip: string }> {
    const lbd = await this.startLbd(options);
    const ip = await this.serve({ name: 'web', ...service });
    await held(lbd, ip);
    return { lbd, ip };
  }

  /** Creates a Service; resolves with its first address once its status has it. */
  async serve(service: NewService): Promise<string> {
    await this.api.createService(service);
    const { addresses } = await this.api.waitForAddresses(service.name);
    return addresses[0] ?? '';
  }

  /** Waits until an Event about the Service matches. */
  event(service: string, match: RegExp, timeoutMs = 5_000): Promise<string> {
    return waitFor(async () => (await this.api.eventsOf(service)).find((text) => match.test(text)), {
      describe: `an Event of ${service} like ${match}`,
      timeoutMs,
      everyMs: 50,
    });
  }

  /** Runs a command line of the program on the host. */
  command(program: 'lbd' | 'lbctl', args: readonly string[]): Promise<RunResult> {
    return this.host.run([...lbdCommand(program, BINARY), ...args], { mayFail: true });
  }

  ping(ip: string, from: LabHost = this.client): Promise<RunResult> {
    return from.run(['ping', '-n', '-c', '1', '-W', '2', ip]);
  }

  /** The rival puts the address on its NIC and says so on the wire. */
  async rivalTakes(ip: string): Promise<void> {
    await this.rival.ipBatch([`addr replace ${ip}/32 dev eth0`]);
    await this.rival.spawn(['arping', '-q', '-c', '1', '-i', 'eth0', '-S', ip, '-U', ip]);
  }

  /** Writes a sysctl of the host, `net/ipv4/conf/eth0/arp_ignore`. */
  async sysctl(path: string, value: number): Promise<void> {
    await this.host.run(['sh', '-c', 'echo "$2" >"/proc/sys/$1"', 'sh', path, String(value)]);
  }

  /** The addresses of lbd on the host, by the tag in the kernel: `10.77.0.200/32 eth0`. */
  async tagged(): Promise<readonly string[]> {
    const { stdout } = await this.host.run([process.execPath, OBSERVER]);
    return JSON.parse(stdout);
  }

  /** Takes the host back to where it was before the first test, whatever state a test left it in. */
  async reset(): Promise<void> {
    for (const lbd of this.#daemons.splice(0)) {
      lbd.kill('SIGCONT');
      await lbd.stop('SIGKILL');
    }
    await this.#deleteServices();
    const links = 'ip link delete kube-lb0 2>/dev/null';
    await this.host.run([
      'sh',
      '-c',
      `umount /proc/sys 2>/dev/null; ${links}; rm -rf /var/lib/lbd/* /run/lbd/*; true`,
    ]);
    for (const host of [this.host, this.rival]) {
      await host.run(['ip', 'addr', 'flush', 'dev', 'eth0'], { mayFail: true });
      await host.linkUp();
    }
    for (const name of ['all', 'eth0']) {
      for (const key of ['arp_ignore', 'arp_announce']) await this.sysctl(`net/ipv4/conf/${name}/${key}`, 0);
    }
    for (const host of [this.client, this.rival]) await host.run(['ip', 'neigh', 'flush', 'all']);
  }

  close(): Promise<void> {
    return this.lab.close();
  }

  async #deleteServices(): Promise<void> {
    const { body } = await this.api.expect('GET', '/api/v1/services');
    const items = (body['items'] ?? []) as readonly { metadata: { name: string; namespace: string } }[];
    for (const { metadata } of items) await this.api.deleteService(metadata.name, metadata.namespace);
    // The allocator's Lease of a daemon that was killed would keep the next one waiting.
    const leases = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/lbd-allocator';
    await this.api.request('DELETE', leases);
    await this.api.request('DELETE', '/apis/events.k8s.io/v1/namespaces/default/events');
  }
}

/** The address as `ip addr` shows it, or undefined. */
export async function shown(host: LabHost, ip: string, nic = 'eth0'): Promise<ShownAddress | undefined> {
  const { stdout, code } = await host.run(['ip', '-j', 'addr', 'show', 'dev', nic], { mayFail: true });
  if (code !== 0) return undefined;
  const links = JSON.parse(stdout) as readonly { addr_info?: readonly ShownAddress[] }[];
  return links.flatMap((link) => link.addr_info ?? []).find((address) => address.local === ip);
}

/** Waits until the address is on the NIC, or is not. */
export async function onNic(host: LabHost, ip: string, isThere = true, timeoutMs = 5_000): Promise<void> {
  await waitFor(async () => ((await shown(host, ip)) !== undefined) === isThere, {
    describe: `${ip} ${isThere ? 'on' : 'gone from'} the NIC of ${host.name}`,
    timeoutMs,
  });
}

export function addressOf(status: StatusDocument, ip: string): AddressStatus | undefined {
  return status.addresses.find((address) => address.ip === ip);
}

export function sysctlOf(status: StatusDocument, key: string): SysctlState | undefined {
  return status.sysctls.find((sysctl) => sysctl.key === key);
}

/** Waits until lbd says that the address is in this state; resolves with all it says about it. */
export async function inState(
  lbd: Lbd,
  ip: string,
  state: AddressStatus['state'],
  timeoutMs = 5_000,
): Promise<AddressStatus> {
  const status = await lbd.waitForStatus((document) => addressOf(document, ip)?.state === state, {
    describe: `${ip} to be ${state}`,
    timeoutMs,
  });
  const address = addressOf(status, ip);
  if (address === undefined) throw new Error(`${ip} is not in the status`);
  return address;
}

export function held(lbd: Lbd, ip: string, timeoutMs?: number): Promise<AddressStatus> {
  return inState(lbd, ip, 'held', timeoutMs);
}
