import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createLab, type Lab } from '../support/lab.ts';
import type { LabHost } from '../support/lab-host.ts';
import { LabCommandError } from '../support/lab-process.ts';
import { waitFor } from '../support/wait.ts';

const LAB_MODULE = fileURLToPath(new URL('../support/lab.ts', import.meta.url));

test('createLab() joins hosts by v4 and v6', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  assert.equal(lab.host('h1').ip, '10.77.0.11');
  assert.equal(lab.host('client').ip6, 'fd77::12');
  await ping(lab.host('client'), lab.host('h1').ip);
  await ping(lab.host('client'), lab.host('h1').ip6);
});

test('createLab() makes a host with a NIC on each of two segments route between them', async () => {
  await using lab = await createLab({
    segments: { lan: {}, wan: { v4: '192.0.2.0/24', v6: null } },
    hosts: {
      router: {
        nics: { eth0: { addresses: ['10.77.0.1/24'] }, eth1: { segment: 'wan' } },
        gateways: null,
        sysctls: { 'net.ipv4.ip_forward': '1' },
      },
      h1: {},
      far: { nics: { eth0: { segment: 'wan' } }, gateways: ['192.0.2.11'] },
    },
  });
  assert.equal(lab.host('far').ip, '192.0.2.13');
  await ping(lab.host('h1'), '192.0.2.13');
});

test('createLab() lets two labs with the same addresses live side by side', async () => {
  const options = { hosts: { h1: {}, client: {} } };
  const labs = await Promise.all([createLab(options), createLab(options)]);
  try {
    const [one, other] = labs;
    await one.host('h1').run(['ip', 'link', 'set', 'eth0', 'down']);
    await ping(other.host('client'), other.host('h1').ip);
    await noPing(one.host('client'), one.host('h1').ip);
  } finally {
    await Promise.all(labs.map((lab) => lab.close()));
  }
});

test('createLab() throws what the command said when a host cannot be configured', async () => {
  const name = labName();
  await assert.rejects(
    createLab({ name, hosts: { h1: { routes: ['192.0.2.0/24 via 203.0.113.1'] } } }),
    (error) => error instanceof LabCommandError && /^h1: `ip -batch -` failed.*Nexthop/s.test(error.message),
  );
  assert.deepEqual(await processesOf(name), []);
});

test('host.run() gives a host its own name, files, sysctls and processes', async () => {
  await using lab = await createLab({ hosts: { h1: {}, h2: {} } });
  const [h1, h2] = [lab.host('h1'), lab.host('h2')];
  await h1.writeFile('/etc/lbd/kubeconfig', 'one');
  await h1.run(['sh', '-c', 'echo state >/var/lib/lbd/x; echo run >/run/lbd/x']);
  await h1.run(['sh', '-c', 'echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore']);
  assert.equal((await h1.run(['hostname'])).stdout, 'h1\n');
  assert.equal((await h1.run(['cat', '/etc/lbd/kubeconfig'])).stdout, 'one');
  assert.equal(await h1.readFile('/var/lib/lbd/x'), 'state\n');
  const links = (await h1.run(['ls', '/sys/class/net'])).stdout.split('\n');
  assert.ok(links.includes('eth0') && links.includes('lo'));
  assert.equal((await h2.run(['cat', '/proc/sys/net/ipv4/conf/all/arp_ignore'])).stdout, '0\n');
  assert.equal((await h2.run(['ls', '/etc/lbd', '/run/lbd', '/var/lib/lbd'])).stdout.includes('x'), false);
  await assert.rejects(readFile('/var/lib/lbd/x'));
});

test('host.run() throws the command, its exit status and its stderr', async () => {
  await using lab = await createLab({ hosts: { h1: {} } });
  const failing = lab.host('h1').run(['ip', 'link', 'set', 'nonesuch', 'up']);
  await assert.rejects(failing, (error) => {
    assert.ok(error instanceof LabCommandError);
    assert.equal(error.exitCode, 1);
    assert.match(error.message, /h1: `ip link set nonesuch up` failed \(exit status 1\): Cannot find device/);
    return true;
  });
  const result = await lab.host('h1').run(['sh', '-c', 'echo out; exit 3'], { mayFail: true });
  assert.deepEqual(result, { code: 3, stdout: 'out\n', stderr: '' });
});

test('host.run() kills a command that takes longer than timeoutMs', async () => {
  await using lab = await createLab({ hosts: { h1: {} } });
  await assert.rejects(lab.host('h1').run(['sleep', '60'], { timeoutMs: 50 }), /did not end within 50 ms/);
});

test('host.spawn() gives a process with its real pid, its lines and its exit status', async () => {
  await using lab = await createLab({ hosts: { h1: {} } });
  const script =
    'trap "echo caught; exit 7" TERM; echo ready; read -r line; echo "got $line"; sleep 60 & wait';
  const child = await lab.host('h1').spawn(['sh', '-c', script], { env: { MARK: 'x' }, cwd: '/etc' });
  await child.waitForLine(/^ready$/);
  assert.match(await readFile(`/proc/${child.pid}/cmdline`, 'latin1'), /trap/);
  assert.match(await readFile(`/proc/${child.pid}/environ`, 'latin1'), /MARK=x\0/);
  child.write('hello\n');
  await child.waitForLine(/^got hello$/);
  assert.deepEqual(await child.stop('SIGTERM'), { code: 7, signal: null });
  assert.equal(child.stdout, 'ready\ngot hello\ncaught\n');
});

test('process.waitForLine() throws the output when the process ends before', async () => {
  await using lab = await createLab({ hosts: { h1: {} } });
  const child = await lab.host('h1').spawn(['sh', '-c', 'echo sorry >&2; exit 4']);
  await assert.rejects(
    child.waitForLine(/ready/),
    /ended \(exit status 4\) before a line that matches .*sorry/s,
  );
});

test('process.kill() stops, continues and kills a process', async () => {
  await using lab = await createLab({ hosts: { h1: {} } });
  const child = await lab.host('h1').spawn(['sh', '-c', 'while read -r line; do echo "got $line"; done']);
  child.kill('SIGSTOP');
  await waitFor(() => processState(child.pid, 'T'), { describe: 'the process to be stopped' });
  child.write('a\n');
  child.kill('SIGCONT');
  await child.waitForLine(/got a/);
  assert.deepEqual(await child.stop('SIGKILL'), { code: null, signal: 'SIGKILL' });
});

test('segment.disconnect() silences a host without taking its carrier, until connect()', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  const [h1, client] = [lab.host('h1'), lab.host('client')];
  await lab.segment('lan').disconnect(h1);
  await noPing(client, h1.ip);
  assert.equal(await carrier(h1), '1\n');
  await lab.segment('lan').connect(h1);
  await ping(client, h1.ip);
});

test('segment.carrierDown() takes the carrier, until carrierUp()', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  const [h1, client] = [lab.host('h1'), lab.host('client')];
  await lab.segment().carrierDown(h1);
  await waitFor(async () => (await carrier(h1)) === '0\n', { describe: 'no carrier' });
  await lab.segment().carrierUp(h1);
  await waitFor(() => pings(client, h1.ip), { describe: 'a ping through the new carrier' });
});

test('segment.drop() loses the frames that match, one way, until removed', async () => {
  await using lab = await createLab({ hosts: { h1: {}, h2: {}, client: {} } });
  const [h1, h2, client] = [lab.host('h1'), lab.host('h2'), lab.host('client')];
  const fault = await lab.segment().drop({ from: client, to: h1, match: 'ether type ip' });
  await noPing(client, h1.ip);
  await ping(client, h1.ip6);
  await ping(client, h2.ip);
  await fault.remove();
  await ping(client, h1.ip);
});

test('segment.drop() loses about as many frames of 100 as asked', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  await ping(lab.host('client'), lab.host('h1').ip);
  await using _fault = await lab
    .segment()
    .drop({ to: lab.host('h1'), match: 'icmp type echo-request', percent: 30 });
  const argv = ['ping', '-q', '-c', '300', '-i', '0.002', '-W', '0.2', lab.host('h1').ip];
  const { stdout } = await lab.host('client').run(argv, { mayFail: true });
  const received = Number(/(\d+) received/.exec(stdout)?.[1]);
  assert.ok(received > 150 && received < 270, `${received} of 300 received with 30 % loss`);
});

test('host.linkUp() restores the addresses and routes that linkDown() cost', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  const h1 = lab.host('h1');
  const before = await addressesAndRoutes(h1);
  await h1.linkDown();
  assert.notDeepEqual(await addressesAndRoutes(h1), before);
  await h1.linkUp();
  assert.deepEqual(await addressesAndRoutes(h1), before);
  await ping(lab.host('client'), h1.ip6);
});

test('host.restoreNic() puts a removed NIC back under another index', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  const h1 = lab.host('h1');
  const index = () => h1.run(['cat', '/sys/class/net/eth0/ifindex'], { mayFail: true });
  const before = (await index()).stdout;
  await h1.removeNic();
  assert.notEqual((await index()).code, 0);
  await h1.restoreNic();
  assert.notEqual((await index()).stdout, before);
  await ping(lab.host('client'), h1.ip);
});

test('host.powerOff() kills what runs on the host, and powerOn() boots it with the disk it had', async () => {
  await using lab = await createLab({ hosts: { h1: {}, client: {} } });
  const [h1, client] = [lab.host('h1'), lab.host('client')];
  const child = await h1.spawn(['sleep', '1000']);
  await h1.writeFile('/var/lib/lbd/services.json', 'kept');
  await h1.writeFile('/run/lbd/lbd.pid', 'lost');
  await h1.powerOff();
  assert.deepEqual(await child.exit, { code: null, signal: 'SIGKILL' });
  await noPing(client, h1.plan.nics[0]?.addresses[0]?.split('/')[0] ?? '');
  assert.throws(() => h1.pid, /powered off/);
  await h1.powerOn();
  assert.equal(await h1.readFile('/var/lib/lbd/services.json'), 'kept');
  await assert.rejects(h1.readFile('/run/lbd/lbd.pid'));
  await ping(client, h1.ip);
});

test('lab.close() leaves nothing, with processes still running', async () => {
  const name = labName();
  const before = await machineState();
  const lab = await createLab({ name, hosts: { h1: {}, h2: {} } });
  const child = await lab.host('h1').spawn(['sh', '-c', 'trap "" TERM; setsid sleep 1000 & sleep 1000']);
  assert.ok((await processesOf(name)).length > 4);
  await lab.close();
  assert.deepEqual(await child.exit, { code: null, signal: 'SIGKILL' });
  assert.deepEqual(await processesOf(name), []);
  assert.deepEqual(await machineState(), before);
  await assert.rejects(lab.host('h1').run(['true']));
});

test('a lab ends with the process that made it when that is killed', async () => {
  const name = labName();
  const runner = runScript(`
    const lab = await createLab({ name: ${JSON.stringify(name)}, hosts: { h1: {}, h2: {} } });
    await lab.host('h1').spawn(['sh', '-c', 'setsid sleep 1000 & sleep 1000']);
    console.log('up');
    setInterval(() => {}, 1000);
  `);
  await firstOutput(runner);
  assert.ok((await processesOf(name)).length > 4);
  runner.kill('SIGKILL');
  await waitFor(async () => (await processesOf(name)).length === 0, { describe: 'the lab to end' });
});

test('a lab ends with the process that made it when that fails without closing it', async () => {
  const name = labName();
  const runner = runScript(`
    const lab = await createLab({ name: ${JSON.stringify(name)}, hosts: { h1: {} } });
    await lab.host('h1').spawn(['sleep', '1000']);
    throw new Error('a failed test');
  `);
  const [code] = await once(runner, 'exit');
  assert.equal(code, 1);
  await waitFor(async () => (await processesOf(name)).length === 0, { describe: 'the lab to end' });
});

test('a lab that is forgotten does not keep its process running', async () => {
  const name = labName();
  const runner = runScript(`await createLab({ name: ${JSON.stringify(name)}, hosts: { h1: {} } });`);
  const [code] = await once(runner, 'exit');
  assert.equal(code, 0);
  await waitFor(async () => (await processesOf(name)).length === 0, { describe: 'the lab to end' });
});

test('a lab ends when its PID 1 is killed', async () => {
  const name = labName();
  const lab: Lab = await createLab({ name, hosts: { h1: {} } });
  const child = await lab.host('h1').spawn(['sleep', '1000']);
  process.kill(lab.pid, 'SIGKILL');
  assert.deepEqual(await child.exit, { code: null, signal: 'SIGKILL' });
  await lab.close();
  assert.deepEqual(await processesOf(name), []);
});

let labs = 0;

function labName(): string {
  labs += 1;
  return `lab-test-${process.pid}-${labs}`;
}

async function pings(from: LabHost, ip: string): Promise<boolean> {
  return (await from.run(['ping', '-c', '1', '-W', '0.3', ip], { mayFail: true })).code === 0;
}

async function ping(from: LabHost, ip: string): Promise<void> {
  await from.run(['ping', '-c', '1', '-W', '2', ip]);
}

async function noPing(from: LabHost, ip: string): Promise<void> {
  assert.equal(await pings(from, ip), false, `${ip} answers ${from.name}`);
}

async function carrier(host: LabHost): Promise<string> {
  return (await host.run(['cat', '/sys/class/net/eth0/carrier'])).stdout;
}

async function addressesAndRoutes(host: LabHost): Promise<readonly string[]> {
  const outputs = await Promise.all([
    host.run(['ip', '-o', 'addr', 'show', 'eth0']),
    host.run(['ip', 'route']),
    host.run(['ip', '-6', 'route']),
  ]);
  return outputs.map(({ stdout }) => stdout.split('\n').sort().join('\n'));
}

async function processState(pid: number, state: string): Promise<boolean> {
  return (await readFile(`/proc/${pid}/stat`, 'latin1')).includes(`) ${state} `);
}

/** The real pids of everything that has the lab's name in its environment. */
async function processesOf(lab: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const pid of (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry))) {
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '');
    if (environment.split('\0').includes(`LBD_LAB=${lab}`)) found.push(pid);
  }
  return found;
}

/** What a lab must not change of the machine: links, mounts and the directories that a host has of its own. */
async function machineState(): Promise<unknown> {
  const mounts = await readFile('/proc/self/mountinfo', 'latin1');
  const directories = await Promise.all(['/etc', '/run', '/var/lib'].map((path) => readdir(path)));
  return { links: await readdir('/sys/class/net'), mounts, directories };
}

function runScript(script: string): ChildProcess {
  const source = `import { createLab } from ${JSON.stringify(LAB_MODULE)};\n${script}`;
  return spawn(process.execPath, ['--input-type=module-typescript', '-e', source], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

async function firstOutput(child: ChildProcess): Promise<void> {
  const stderr: string[] = [];
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk.toString()));
  const failed = once(child, 'exit').then(() => assert.fail(`it ended: ${stderr.join('')}`));
  if (child.stdout === null) throw new Error('no standard output');
  await Promise.race([once(child.stdout, 'data'), failed]);
  failed.catch(() => {});
}
