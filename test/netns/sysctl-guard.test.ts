import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { SysctlGuard } from '../../src/iface/io/sysctl-guard.ts';
import { SILENT_LOGGER } from '../../src/lib/logger.ts';
import { waitFor } from '../support/wait.ts';
import { enterOwnNamespace, ip, run, SKIP } from './own-namespace.ts';

enterOwnNamespace(import.meta.filename);

const OPTIONS = { skip: SKIP, timeout: 60_000 };

function makeNic(t: TestContext, name: string): void {
  ip(`link add name ${name} type veth peer name peer0`);
  t.after(() => ip(`link del ${name}`));
}

function guard(t: TestContext): SysctlGuard {
  const made = new SysctlGuard({ logger: SILENT_LOGGER, enforce: true });
  t.after(() => made.close());
  return made;
}

function values(name: string): string {
  const read = (key: string) => run('cat', `/proc/sys/net/ipv4/conf/${name}/${key}`).trim();
  return `${read('arp_ignore')} ${read('arp_announce')}`;
}

test('watch() sets the kernel’s own files, also of a VLAN with a dot in its name', OPTIONS, (t) => {
  makeNic(t, 'nic0.100');
  guard(t).watch(['nic0.100']);
  assert.deepEqual([values('nic0.100'), values('all'), values('peer0')], ['1 2', '0 0', '0 0']);
});

const IGNORE = 'net.ipv4.conf.nic0.arp_ignore';
const WEAKEN = ['sysctl', '-qw', `${IGNORE}=0`];
/** By a procfs of its own, as every container has one. */
const ANOTHER_PROC = ['unshare', '--mount', '--pid', '--fork', '--mount-proc'];

/** How long after the end of that command, which changes the value, it was put right, in ms. */
async function drift(watching: SysctlGuard, command: readonly string[]): Promise<number> {
  const drifts = () => watching.states().find(({ key }) => key === IGNORE)?.drifts ?? 0;
  const before = drifts();
  const [program = '', ...args] = command;
  run(program, ...args);
  const fromMs = performance.now();
  await waitFor(() => drifts() > before, {
    describe: `what ${command.join(' ')} did to be found`,
    everyMs: 1,
  });
  assert.equal(values('nic0'), '1 2');
  assert.equal(drifts(), before + 1);
  return performance.now() - fromMs;
}

test('a value that somebody else writes is put right within 100 ms', OPTIONS, async (t) => {
  makeNic(t, 'nic0');
  const watching = guard(t);
  watching.watch(['nic0']);
  const both = ['sysctl', '-qw', 'net.ipv4.conf.nic0.arp_announce=0', `${IGNORE}=0`];
  const again = Array.from({ length: 5 }, () => WEAKEN);
  for (const command of [WEAKEN, ['unshare', '--mount', ...WEAKEN], both, ...again]) {
    const tookMs = await drift(watching, command);
    t.diagnostic(`${command.join(' ')}: ${tookMs.toFixed(1)} ms`);
    assert.ok(tookMs <= 100, `${tookMs} ms`);
  }
  run('sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=0');
});

test(
  'a value that is written by another procfs is found within a second, and the next one at once',
  OPTIONS,
  async (t) => {
    makeNic(t, 'nic0');
    const watching = guard(t);
    watching.watch(['nic0']);
    const tookMs = await drift(watching, [...ANOTHER_PROC, ...WEAKEN]);
    t.diagnostic(`${tookMs.toFixed(0)} ms`);
    assert.ok(tookMs <= 1_100, `${tookMs} ms`);
    assert.ok((await drift(watching, WEAKEN)) <= 100);
  },
);

test('a NIC that comes back under its name is watched again', OPTIONS, async (t) => {
  makeNic(t, 'nic0');
  const watching = guard(t);
  watching.watch(['nic0']);
  ip('link del nic0');
  ip('link add name nic0 type veth peer name peer0');
  // As the notification of the link asks for it.
  watching.check();
  assert.equal(values('nic0'), '1 2');
  for (let round = 0; round < 5; round++) assert.ok((await drift(watching, WEAKEN)) <= 100);
});

test('a fight over a value costs at most 30 looks a second', OPTIONS, async (t) => {
  makeNic(t, 'nic0');
  const watching = guard(t);
  watching.watch(['nic0']);
  const file = '/proc/sys/net/ipv4/conf/nic0/arp_ignore';
  const fight = spawn('sh', ['-c', `while echo 0 >${file}; do :; done`], { stdio: 'ignore' });
  const drifts = () => watching.states().find(({ key }) => key === IGNORE)?.drifts ?? 0;
  await waitFor(() => drifts() > 0, { describe: 'the first one' });
  const before = drifts();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const looks = drifts() - before;
  fight.kill();
  await once(fight, 'exit');
  assert.ok(looks > 5 && looks <= 30, `${looks}`);
  await waitFor(() => values('nic0') === '1 2', { describe: 'the right value', timeoutMs: 100 });
});

test('check() of ten NICs costs at most 2 ms', OPTIONS, (t) => {
  const names = Array.from({ length: 5 }, (_, at) => [`nic${at}`, `peer${at}`]).flat();
  for (let at = 0; at < 5; at++) {
    ip(`link add nic${at} type veth peer name peer${at}`);
    t.after(() => ip(`link del nic${at}`));
  }
  const watching = guard(t);
  watching.watch(names);
  const rounds = 200;
  const before = process.hrtime.bigint();
  for (let round = 0; round < rounds; round++) watching.check();
  const eachMs = Number(process.hrtime.bigint() - before) / 1e6 / rounds;
  t.diagnostic(`${eachMs.toFixed(3)} ms`);
  assert.ok(eachMs <= 2, `${eachMs.toFixed(3)} ms`);
});

// The last one: nothing in this mount namespace is writable after it.
test('a host whose /proc/sys is read-only gets an error that says so', OPTIONS, (t) => {
  makeNic(t, 'nic0');
  run('mount', '--bind', '/proc/sys', '/proc/sys');
  run('mount', '-o', 'remount,bind,ro', '/proc/sys');
  const watching = guard(t);
  watching.watch(['nic0']);
  const [ignore] = watching.states();
  assert.match(
    ignore?.error ?? '',
    /^cannot write 1 to \/proc\/sys\/net\/ipv4\/conf\/nic0\/arp_ignore: \/proc\/sys is mounted read-only/,
  );
  assert.deepEqual([ignore?.current, ignore?.before, ignore?.drifts], ['0', undefined, 0]);
});
