import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { LabHost } from './lab-host.ts';
import type { LabProcess } from './lab-process.ts';
import { waitFor } from './wait.ts';

/** Routing daemons inside a lab: those of hosts run the shipped examples, a router runs BIRD with everything. */

const EXAMPLES = fileURLToPath(new URL('../../packaging/examples/', import.meta.url));
const FRR = '/usr/lib/frr';
/** Not measured: a busy machine takes long over it. */
const START_TIMEOUT_MS = 30_000;

/** Why these tests cannot run here, or false. */
export const NO_ROUTING: string | false =
  existsSync('/usr/sbin/bird') && existsSync(`${FRR}/zebra`)
    ? false
    : 'needs the Debian packages bird2 and frr';

/** A shipped example as an operator would fill it in, with timers for a test. */
export async function example(path: string, host: LabHost, router: LabHost): Promise<string> {
  const text = await readFile(`${EXAMPLES}${path}`, 'utf8');
  return (
    text
      .replaceAll('192.0.2.11', host.ip)
      .replaceAll('192.0.2.1', router.ip)
      .replaceAll('2001:db8::1', router.ip6)
      // OSPF and RIP find each other by timers, not at once.
      .replaceAll(/\bhello(-interval)? 10\b/g, 'hello$1 1')
      .replaceAll(/\bdead(-interval)? 40\b/g, 'dead$1 4')
      .replaceAll(/( ip ospf| ipv6 ospf6) hello-interval 1$/gm, '$&\n$1 retransmit-interval 2')
      .replaceAll(/\bhello 1;/g, 'hello 1; retransmit 2;')
      .replaceAll('update time 30', 'update time 1')
      .replaceAll('timeout time 180', 'timeout time 4')
      .replaceAll('timers basic 30 180 120', 'timers basic 5 15 10')
  );
}

/** Hosts of a lab share most of /run. */
function directoryOf(host: LabHost): string {
  return `/run/lab/hosts/${host.name}/routing`;
}

export class RoutingDaemon {
  readonly #processes: readonly LabProcess[];

  private constructor(processes: readonly LabProcess[]) {
    this.#processes = processes;
  }

  static async startBird(host: LabHost, config: string): Promise<RoutingDaemon> {
    const directory = directoryOf(host);
    await host.writeFile(`${directory}/bird.conf`, config);
    const socket = `${directory}/bird.ctl`;
    const bird = await host.spawn(['bird', '-f', '-c', `${directory}/bird.conf`, '-s', socket]);
    try {
      await waitFor(async () => (await host.run(['birdc', '-s', socket, 'show', 'status'])).stdout, {
        describe: `BIRD on ${host.name}`,
        timeoutMs: START_TIMEOUT_MS,
      });
    } catch (cause) {
      throw new Error(`${cause}: ${bird.stderr}`, { cause });
    }
    return new RoutingDaemon([bird]);
  }

  /** Each daemon by itself, with its part of the one configuration, as FRR's own start scripts do it. */
  static async startFrr(host: LabHost, config: string, daemons: readonly string[]): Promise<RoutingDaemon> {
    const directory = directoryOf(host);
    await host.run(['install', '-d', '-o', 'frr', '-g', 'frrvty', '-m', '755', directory]);
    await host.writeFile(`${directory}/frr.conf`, config);
    const processes: LabProcess[] = [];
    for (const name of ['zebra', ...daemons]) {
      await host.writeFile(`${directory}/${name}.conf`, '', 0o644);
      processes.push(
        await host.spawn([
          `${FRR}/${name}`,
          ...['-A', '127.0.0.1', '-P', '0'],
          ...['-i', `${directory}/${name}.pid`, '-f', `${directory}/${name}.conf`],
          ...['-z', `${directory}/zserv.api`, '--vty_socket', directory],
        ]),
      );
      await waitFor(async () => (await host.run(['ls', directory])).stdout.includes(`${name}.vty`), {
        describe: `${name} on ${host.name}`,
        timeoutMs: START_TIMEOUT_MS,
      });
    }
    const { stdout, stderr } = await host.run(
      ['vtysh', '--vty_socket', directory, '-f', `${directory}/frr.conf`],
      {
        mayFail: true,
      },
    );
    const complaint = /^.*(?:unknown command|error|invalid|failure).*$/im.exec(stdout + stderr)?.[0];
    if (complaint !== undefined) throw new Error(`FRR refuses the example: ${complaint}\n${stdout}${stderr}`);
    return new RoutingDaemon(processes);
  }

  async stop(): Promise<void> {
    for (const process of this.#processes) await process.stop('SIGKILL');
  }
}

/** A router that takes in what any of the three protocols brings, and spreads traffic over all hosts that say the same. */
export function routerConfig(router: LabHost, hosts: readonly LabHost[]): string {
  const sessions = hosts.flatMap(({ ip, ip6, name }) => [
    bgp(`${name}_v4`, ip, 'ipv4'),
    bgp(`${name}_v6`, ip6, 'ipv6'),
  ]);
  const ospf = 'area 0 { interface "eth0" { hello 1; dead 4; wait 2; retransmit 2; priority 10; }; };';
  const rip = (version: string) =>
    `interface "eth0" { ${version} update time 1; timeout time 9; garbage time 5; }; ecmp on;`;
  return `
log stderr all;
router id ${router.ip};
protocol device { }
protocol kernel { merge paths on; ipv4 { import none; export where net !~ [ 10.77.0.0/16+ ]; }; }
protocol kernel { merge paths on; ipv6 { import none; export where net !~ [ fd77::/16+ ]; }; }
${sessions.join('\n')}
protocol ospf v2 { ecmp on; merge external on; ipv4 { import all; export none; }; ${ospf} }
protocol ospf v3 { ecmp on; merge external on; ipv6 { import all; export none; }; ${ospf} }
protocol rip { ipv4 { import all; export none; }; ${rip('version 2;')} }
protocol rip ng { ipv6 { import all; export none; }; ${rip('')} }
`;
}

function bgp(name: string, ip: string, family: 'ipv4' | 'ipv6'): string {
  return `protocol bgp ${name} {
  local as 64513; neighbor ${ip} as 64512; connect delay time 1; connect retry time 1; error wait time 1, 2;
  ${family} { import all; export none; };
}`;
}

/** What the router has learnt: `203.0.113.0/24 via 10.77.0.12 10.77.0.13`, hosts by name, sorted. */
export async function learnt(router: LabHost, hosts: readonly LabHost[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const family of ['-4', '-6']) {
    const { stdout } = await router.run(['ip', '-j', family, 'route', 'show', 'proto', 'bird']);
    for (const route of (stdout.trim() === '' ? [] : JSON.parse(stdout)) as readonly ShownRoute[]) {
      const hops = [route, ...(route.nexthops ?? [])].flatMap(({ gateway }) => gateway ?? []);
      const names = hops.map((hop) => hosts.find((host) => isOf(hop, host))?.name ?? hop).sort();
      found.push(`${route.dst} via ${[...new Set(names)].join(' ')}`);
    }
  }
  // v6 shows a multipath route of BIRD as one for each hop.
  return merged(found).sort();
}

type ShownRoute = {
  readonly dst: string;
  readonly gateway?: string;
  readonly nexthops?: readonly { readonly gateway?: string }[];
};

function merged(routes: readonly string[]): string[] {
  const hops = new Map<string, string[]>();
  for (const route of routes) {
    const [dst = '', names = ''] = route.split(' via ');
    hops.set(dst, [...(hops.get(dst) ?? []), ...names.split(' ')]);
  }
  return [...hops].map(([dst, names]) => `${dst} via ${[...new Set(names)].sort().join(' ')}`);
}

/** By its own address, or by the link-local one that is made of its hardware address. */
function isOf(hop: string, host: LabHost): boolean {
  const last = host.nic('eth0').mac.split(':').at(-1) ?? '';
  return (
    hop === host.ip ||
    hop === host.ip6 ||
    (hop.startsWith('fe80:') && hop.endsWith(Number.parseInt(last, 16).toString(16)))
  );
}
