import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createLab, type Lab } from '../test/support/lab.ts';
import type { LabHost } from '../test/support/lab-host.ts';

/**
 * The main job, shown: an API server, a host with lbd and a web server, and a client, as network namespaces of this
 * machine. A Service is created with kubectl, its address is followed until it answers, and seen off again. The real
 * binary, the real configuration file, the real daemon. `--keep` leaves the lab up until it is interrupted.
 */

const BINARY = fileURLToPath(new URL('../build/lbd', import.meta.url));
const CONFIG = `# /etc/lbd.toml
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
  async type(host: LabHost, argv: readonly string[], shown = argv): Promise<string> {
    const result = await host.run(argv);
    process.stdout.write(`${host.name}# ${shown.join(' ')}\n${result.stdout}`);
    return result.stdout;
  }
}

async function show(lab: Lab, stage: Stage): Promise<void> {
  const host = lab.host('node1');
  const client = lab.host('client');
  const api = await lab.startApiServer('api');
  const kubectl = async (...args: readonly string[]) => {
    const result = await api.kubectl(args);
    process.stdout.write(`$ kubectl ${args.join(' ')}\n${result.stdout}`);
    return result.stdout;
  };
  const web = await host.spawn([process.execPath, '-e', WEB_SERVER]);
  await web.waitForLine((line) => line === 'listening', { describe: 'the web server' });
  const lbd = await lab.startLbd(host, { toml: CONFIG, binary: BINARY });
  stage.say(`lbd runs on node1, ready after ${Math.round(await lbd.ready())} ms`);
  process.stdout.write(`node1# cat /etc/lbd.toml\n${CONFIG}`);
  await lbd.waitForStatus((status) => status.kubernetes.allocator.self, { describe: 'the allocator Lease' });

  stage.say('A Service of type LoadBalancer');
  await kubectl('create', 'service', 'loadbalancer', 'web', '--tcp=80:80');
  const [address] = (await lab.api.waitForAddresses('web')).addresses;
  if (address === undefined) throw new Error('the Service got no address');
  await lbd.waitForStatus((status) => status.services[0]?.state === 'announced', {
    describe: 'an announced address',
  });
  await kubectl('get', 'svc', 'web');

  stage.say('It is on the NIC of node1, with a lifetime that lbd renews');
  await stage.type(host, ['ip', '-4', 'addr', 'show', 'dev', 'eth0']);
  await stage.type(host, [BINARY.replace(/lbd$/, 'lbctl'), 'status'], ['lbctl', 'status']);

  stage.say('A client on the same segment reaches it');
  await stage.type(client, ['curl', '-s', `http://${address}/`]);
  await stage.type(client, ['ip', 'neigh', 'show', String(address)]);

  if (process.argv.includes('--keep')) return keep(lab);
  stage.say('The Service is deleted, and its address is gone');
  await kubectl('delete', 'svc', 'web');
  await lbd.waitForStatus((status) => status.addresses.length === 0, { describe: 'no address' });
  await stage.type(host, ['ip', '-4', 'addr', 'show', 'dev', 'eth0']);
}

async function keep(lab: Lab): Promise<void> {
  process.stdout.write('\nThe lab stays up. Enter a host with:\n');
  for (const host of lab.hosts) process.stdout.write(`  ${host.name.padEnd(8)}${host.enterCommand}\n`);
  process.stdout.write(`On node1, lbctl is ${BINARY.replace(/lbd$/, 'lbctl')}. Ctrl-C ends the lab.\n`);
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
await using lab = await createLab({ hosts: { api: {}, node1: {}, client: {} } });
await show(lab, stage);
stage.say('done');
