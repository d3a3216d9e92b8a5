import assert from 'node:assert/strict';
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

test('a value that somebody else changes is put right by itself', OPTIONS, async (t) => {
  makeNic(t, 'nic0');
  const watching = guard(t);
  watching.watch(['nic0']);
  run('sysctl', '-qw', 'net.ipv4.conf.nic0.arp_ignore=0');
  const drifted = () => watching.states().find((state) => state.drifts > 0);
  const state = await waitFor(drifted, { describe: 'the drift to be found' });
  assert.deepEqual([state.key, state.current, state.drifts], ['net.ipv4.conf.nic0.arp_ignore', '1', 1]);
  assert.equal(values('nic0'), '1 2');
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
