import { createLab, type Lab } from './lab.ts';
import type { NewService } from './lab-api.ts';
import type { LabHost } from './lab-host.ts';
import { type Lbd, type LbdOptions, lbdCommand } from './lab-lbd.ts';
import type { RunResult } from './lab-process.ts';
import type { HostOptions, SegmentOptions } from './lab-topology.ts';
import { BINARY, type ShownAddress } from './scenario.ts';
import { type WaitOptions, waitFor } from './wait.ts';

/**
 * Hosts whose addresses are virtual, beside an API server: what the tests of kube-lb0 are told in. One lab serves all
 * tests of a file, each from a clean state.
 */

export const LINK = 'kube-lb0';

export type VirtualLabOptions = {
  /** Run lbd. */
  readonly hosts: Readonly<Record<string, HostOptions>>;
  readonly others?: Readonly<Record<string, HostOptions>>;
  readonly segments?: Readonly<Record<string, SegmentOptions>>;
};

/** A route as `ip -j route` shows it. */
export type ShownRoute = {
  readonly dst: string;
  readonly dev?: string;
  readonly gateway?: string;
  readonly protocol?: string;
};

/** The conditions of an endpoint. */
export type EndpointConditions = {
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
};

export const READY: EndpointConditions = { ready: true, serving: true, terminating: false };
/** A last resort: it still serves, but not for long. */
export const TERMINATING: EndpointConditions = { ready: false, serving: true, terminating: true };
const SLICES = '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices';

export class VirtualLab {
  readonly lab: Lab;
  readonly hosts: readonly LabHost[];
  #daemons: Lbd[] = [];

  private constructor(lab: Lab, hosts: readonly string[]) {
    this.lab = lab;
    this.hosts = hosts.map((name) => lab.host(name));
  }

  static async start({ hosts, others = {}, segments }: VirtualLabOptions): Promise<VirtualLab> {
    const lab = await createLab({
      hosts: { api: {}, ...hosts, ...others },
      ...(segments === undefined ? {} : { segments }),
    });
    try {
      await lab.startApiServer();
      return new VirtualLab(lab, Object.keys(hosts));
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  host(name: string): LabHost {
    return this.lab.host(name);
  }

  /** Starts lbd on the host; it is ended with the test at the latest. */
  async startLbd(host: LabHost, toml: string, options: Omit<LbdOptions, 'toml'> = {}): Promise<Lbd> {
    const lbd = await this.lab.startLbd(host, {
      binary: BINARY,
      readyTimeoutMs: 30_000,
      ...options,
      toml,
    });
    this.#daemons.push(lbd);
    return lbd;
  }

  /** Creates a Service that asks for these addresses; resolves once its status has them. */
  async serve(name: string, addresses: readonly string[], spec: NewService['spec'] = {}): Promise<void> {
    const families = addresses.map((ip) => (ip.includes(':') ? 'IPv6' : 'IPv4'));
    await this.lab.api.createService({
      name,
      annotations: { 'lbd.io/addresses': addresses.join(',') },
      spec: {
        ipFamilies: families,
        ipFamilyPolicy: families.length === 2 ? 'RequireDualStack' : 'SingleStack',
        ...spec,
      },
    });
    await this.lab.api.waitForAddresses(name);
  }

  /** Says on which hosts a Service has endpoints of both families, ready ones unless it is said otherwise. */
  async setEndpoints(
    service: string,
    hosts: readonly LabHost[],
    conditionsOf: (host: LabHost) => EndpointConditions = () => READY,
  ): Promise<void> {
    await Promise.all(
      (['IPv4', 'IPv6'] as const).map((addressType) => {
        const endpoints = hosts.map((host) => ({
          addresses: [addressType === 'IPv4' ? host.ip : host.ip6],
          nodeName: host.name,
          conditions: conditionsOf(host),
        }));
        return this.#putSlice(`${service}-${addressType.toLowerCase()}`, { service, addressType, endpoints });
      }),
    );
  }

  async #putSlice(
    name: string,
    {
      service,
      ...slice
    }: { readonly service: string; readonly addressType: string; readonly endpoints: unknown },
  ): Promise<void> {
    const { api } = this.lab;
    const known = await api.request('GET', `${SLICES}/${name}`);
    if (known.code === 200) {
      const patch = { endpoints: slice.endpoints };
      await api.expect('PATCH', `${SLICES}/${name}`, patch, 'application/merge-patch+json');
      return;
    }
    await api.expect('POST', SLICES, {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, labels: { 'kubernetes.io/service-name': service } },
      ...slice,
    });
  }

  /** Runs a command line of the program on the host. */
  command(host: LabHost, program: 'lbd' | 'lbctl', args: readonly string[]): Promise<RunResult> {
    return host.run([...lbdCommand(program, BINARY), ...args], { mayFail: true });
  }

  /** Takes everything back to where it was before the first test, whatever state a test left it in. */
  async reset(): Promise<void> {
    for (const lbd of this.#daemons.splice(0)) await lbd.stop('SIGKILL');
    const { api } = this.lab;
    for (const path of ['/api/v1/services', SLICES]) {
      const { body } = await api.expect('GET', path);
      const items = (body['items'] ?? []) as readonly { metadata: { name: string; namespace: string } }[];
      for (const { metadata } of items) {
        const own = path === SLICES ? SLICES : `/api/v1/namespaces/${metadata.namespace}/services`;
        await api.request('DELETE', `${own}/${metadata.name}`);
      }
    }
    await api.request('DELETE', '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/lbd-allocator');
    for (const host of this.hosts) {
      await host.run([
        'sh',
        '-c',
        `ip link delete ${LINK} 2>/dev/null; rm -rf /var/lib/lbd/* /run/lbd/*; true`,
      ]);
    }
  }

  close(): Promise<void> {
    return this.lab.close();
  }
}

/** The addresses on the link, in the order of the kernel; undefined when there is no such link. */
export async function onLink(host: LabHost, link = LINK): Promise<readonly ShownAddress[] | undefined> {
  const { stdout, code } = await host.run(['ip', '-j', 'addr', 'show', 'dev', link], { mayFail: true });
  if (code !== 0) return undefined;
  const links = JSON.parse(stdout) as readonly { addr_info?: readonly ShownAddress[] }[];
  return links.flatMap(({ addr_info = [] }) => addr_info);
}

/** The same as sorted text: `203.0.113.1/24`. Without link-local ones. */
export async function textsOnLink(host: LabHost, link = LINK): Promise<readonly string[]> {
  const shown = (await onLink(host, link)) ?? [];
  return shown
    .filter(({ local }) => !local.startsWith('fe80:'))
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
    .sort();
}

/** Waits until the link has exactly these addresses. */
export async function expectOnLink(
  host: LabHost,
  expected: readonly string[],
  options: Partial<WaitOptions> = {},
): Promise<void> {
  const wanted = expected.toSorted().join(' ');
  let last = '';
  try {
    await waitFor(
      async () => {
        last = (await textsOnLink(host)).join(' ');
        return last === wanted;
      },
      { describe: `${wanted || 'nothing'} on ${LINK} of ${host.name}`, timeoutMs: 5_000, ...options },
    );
  } catch (error) {
    throw new Error(`${error}; it has ${last || 'nothing'}`, { cause: error });
  }
}

/** Routes of the main table or another. Without those that every host has for multicast and link-local. */
export async function routes(
  host: LabHost,
  family: '-4' | '-6',
  args: readonly string[] = [],
): Promise<readonly ShownRoute[]> {
  const { stdout } = await host.run(['ip', '-j', family, 'route', 'show', ...args], { mayFail: true });
  const shown = stdout.trim() === '' ? [] : (JSON.parse(stdout) as readonly ShownRoute[]);
  return shown.filter(({ dst }) => !dst.startsWith('fe80:') && !dst.startsWith('ff00:'));
}

/** Destinations of the routes over the link, sorted. */
export async function routesOverLink(
  host: LabHost,
  args: readonly string[] = [],
): Promise<readonly string[]> {
  const both = [...(await routes(host, '-4', args)), ...(await routes(host, '-6', args))];
  return both
    .filter(({ dev }) => dev === LINK)
    .map(({ dst }) => dst)
    .sort();
}
