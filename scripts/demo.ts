import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Clients } from '../test/support/clients.ts';
import { createLab, type Lab } from '../test/support/lab.ts';
import type { LabHost } from '../test/support/lab-host.ts';
import type { Lbd } from '../test/support/lab-lbd.ts';
import { labTimeMs } from '../test/support/lab-time.ts';
import { shown } from '../test/support/scenario.ts';
import { sleep, waitFor } from '../test/support/wait.ts';

/**
 * The main job, shown: an API server, three hosts with lbd and a web server, and a client, as network namespaces of this
 * machine. A Service is created with kubectl, its address is followed until it answers; the host that has it is cut off,
 * and another one takes over. The real binary, the real configuration file, the real daemon. `--keep` leaves the lab up
 * until it is interrupted.
 */

const BINARY = fileURLToPath(new URL('../build/lbd', import.meta.url));
const LBCTL = BINARY.replace(/lbd$/, 'lbctl');
const NODES = ['node1', 'node2', 'node3'];
const GATEWAYS = ['10.77.0.1/24', 'fd77::1/64'];
const KEYS = '/etc/lbd/gossip.keys';
const CONFIG = `# The same on every host, as is ${KEYS}, which "lbctl keygen" made.
[gossip]
seeds = ["10.77.0.12", "10.77.0.13", "10.77.0.14"]

[[pool]]
name = "default"
addresses = ["10.77.0.200-10.77.0.220"]
`;
const WEB_SERVER = `require('node:http').createServer((request, response) => {
  response.end('hello from ' + require('node:os').hostname() + ', asked as ' + request.headers.host + '\\n');
}).listen(80, '0.0.0.0', () => console.log('listening'));`;

class Stage {
  readonly #started = performance.now();

  say(text: string): void {
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(2).padStart(5);
    process.stdout.write(`\n[${seconds} s] ${text}\n`);
  }

  /** Runs a command on a host and shows it as a person would have typed it there. */
  async type(host: LabHost, argv: readonly string[]): Promise<string> {
    const result = await host.run(argv[0] === 'lbctl' ? [LBCTL, ...argv.slice(1)] : argv);
    process.stdout.write(`${host.name}# ${argv.join(' ')}\n${result.stdout}`);
    return result.stdout;
  }

  async kubectl(lab: Lab, ...args: readonly string[]): Promise<void> {
    const result = await lab.kubectl(args);
    process.stdout.write(`$ kubectl ${args.join(' ')}\n${result.stdout}`);
  }
}

async function show(lab: Lab, stage: Stage): Promise<void> {
  const nodes = NODES.map((name) => lab.host(name));
  const daemons = await startHosts(lab, nodes);
  const [first] = nodes;
  if (first === undefined) throw new Error('there are no nodes');
  stage.say('lbd runs on three hosts, which found each other');
  process.stdout.write(`${first.name}# cat /etc/lbd.toml\n${CONFIG}`);
  await stage.type(first, ['lbctl', 'members']);

  stage.say('A Service of type LoadBalancer');
  await stage.kubectl(lab, 'create', 'service', 'loadbalancer', 'web', '--tcp=80:80');
  const [address] = (await lab.api.waitForAddresses('web')).addresses;
  if (address === undefined) throw new Error('the Service got no address');
  const owner = await holder(nodes, address);
  await stage.kubectl(lab, 'get', 'svc', 'web');

  stage.say(`It is on the NIC of ${owner.name}, with a lifetime that lbd renews`);
  await stage.type(owner, ['ip', '-4', 'addr', 'show', 'dev', 'eth0']);

  stage.say('A client on the same segment reaches it');
  const client = lab.host('client');
  await stage.type(client, ['curl', '-s', `http://${address}/`]);

  const heir = await failOver(lab, stage, nodes, { address, owner, daemons });
  await stage.type(client, ['curl', '-s', `http://${address}/`]);
  await stage.type(heir, ['lbctl', 'status']);
  await stage.type(heir, ['lbctl', 'members']);
  await comeBack(lab, stage, { address, owner, heir, daemons });

  if (process.argv.includes('--keep')) return keep(lab);
  stage.say('The Service is deleted, and its address is gone');
  await stage.kubectl(lab, 'delete', 'svc', 'web');
  await waitFor(async () => (await shown(heir, address)) === undefined, { describe: 'no address' });
  await stage.type(heir, ['ip', '-4', 'addr', 'show', 'dev', 'eth0']);
}

async function startHosts(lab: Lab, nodes: readonly LabHost[]): Promise<ReadonlyMap<LabHost, Lbd>> {
  await lab.host('api').ipBatch(GATEWAYS.map((ip) => `addr add ${ip} dev eth0 nodad`));
  await lab.startApiServer('api');
  const key = (await lab.host('api').run([LBCTL, 'keygen'])).stdout;
  const started = await Promise.all(
    nodes.map(async (node): Promise<[LabHost, Lbd]> => {
      const web = await node.spawn([process.execPath, '-e', WEB_SERVER]);
      await web.waitForLine((line) => line === 'listening', { describe: 'the web server' });
      await node.writeFile(KEYS, key);
      return [node, await lab.startLbd(node, { toml: CONFIG, binary: BINARY })];
    }),
  );
  const daemons = new Map(started);
  for (const lbd of daemons.values()) await allAlive(lbd);
  return daemons;
}

async function allAlive(lbd: Lbd): Promise<void> {
  await lbd.waitForStatus(
    ({ election }) => election?.members.filter(({ state }) => state === 'alive').length === NODES.length,
    { describe: `all hosts alive as ${lbd.host.name} sees it`, timeoutMs: 10_000 },
  );
}

/** Waits until one host has the address. */
function holder(nodes: readonly LabHost[], address: string): Promise<LabHost> {
  return waitFor(
    async () => {
      for (const node of nodes) if ((await shown(node, address)) !== undefined) return node;
      return undefined;
    },
    { describe: `a host with ${address}`, timeoutMs: 10_000 },
  );
}

type Scene = {
  readonly address: string;
  readonly owner: LabHost;
  readonly daemons: ReadonlyMap<LabHost, Lbd>;
};

/** Cuts the owner off while it is watched; resolves with the host that took over. */
async function failOver(
  lab: Lab,
  stage: Stage,
  nodes: readonly LabHost[],
  { address, owner }: Scene,
): Promise<LabHost> {
  const { mac } = owner.nic('eth0');
  const clients = await watch(lab, address);
  stage.say(`${owner.name} is cut off: its switch port goes dead, its carrier stays`);
  const fromMs = labTimeMs();
  await lab.segment().disconnect(owner);
  const taken = await clients.firstOther(mac, fromMs);
  await sleep(500);
  const { gap, losses } = await clients.stop(fromMs);
  const pings = losses.reduce((sum, loss) => sum + loss.pings, 0);
  const heir = nodes.find((node) => node.nic('eth0').mac === taken.mac);
  if (heir === undefined) throw new Error(`no host has ${taken.mac}`);
  process.stdout.write(
    `Nobody answered ARP for ${address} for ${Math.round(gap.ms)} ms (asked every 2 ms); then ${heir.name} did.\n` +
      `The client lost ${pings} pings of one every 10 ms.\n`,
  );
  return heir;
}

/** Plugs the former owner in again while the address is watched. */
async function comeBack(
  lab: Lab,
  stage: Stage,
  { address, owner, heir, daemons }: Scene & { readonly heir: LabHost },
): Promise<void> {
  const clients = await watch(lab, address);
  stage.say(`${owner.name} is back: it has let go of the address, and ${heir.name} keeps it`);
  const fromMs = labTimeMs();
  await lab.segment().connect(owner);
  for (const lbd of daemons.values()) await allAlive(lbd);
  await sleep(500);
  const { doubleMs, losses } = await clients.stop(fromMs);
  const pings = losses.reduce((sum, loss) => sum + loss.pings, 0);
  process.stdout.write(
    `Two hosts answered for ${Math.round(doubleMs)} ms; the client lost ${pings === 0 ? 'no ping' : `${pings} pings`}.\n`,
  );
}

function watch(lab: Lab, address: string): Promise<Clients> {
  return Clients.start({ prober: lab.host('judge'), pings: lab.host('client') }, address, { probeMs: 2 });
}

async function keep(lab: Lab): Promise<void> {
  process.stdout.write('\nThe lab stays up. Enter a host with:\n');
  for (const host of lab.hosts) process.stdout.write(`  ${host.name.padEnd(8)}${host.enterCommand}\n`);
  process.stdout.write(`On the nodes, lbctl is ${LBCTL}. Ctrl-C ends the lab.\n`);
  // Something has to keep the process, and with it the lab, alive.
  const alive = setInterval(() => {}, 3_600_000);
  await new Promise((resolve) => process.once('SIGINT', resolve));
  clearInterval(alive);
}

if (process.getuid?.() !== 0) {
  process.stderr.write('make demo makes network namespaces: run it as root\n');
  process.exit(1);
}
if (!existsSync(BINARY)) {
  process.stderr.write(`no ${BINARY}: run "make demo", which builds it\n`);
  process.exit(1);
}
const stage = new Stage();
const names = ['api', ...NODES, 'client', 'judge'];
await using lab = await createLab({ hosts: Object.fromEntries(names.map((name) => [name, {}])) });
await show(lab, stage);
stage.say('done');
