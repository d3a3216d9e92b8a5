import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SysctlGuard, type SysctlGuardOptions } from '../../../src/iface/io/sysctl-guard.ts';
import type { Logger } from '../../../src/lib/logger.ts';

/** A /proc/sys of its own, and a guard on it whose log is kept. */
class Host {
  readonly root = mkdtempSync(join(tmpdir(), 'lbd-sysctl-'));
  readonly events: string[] = [];
  readonly #guards: SysctlGuard[] = [];

  constructor(t: TestContext) {
    t.after(() => {
      for (const guard of this.#guards) guard.close();
      rmSync(this.root, { recursive: true });
    });
  }

  set(nic: string, ignore: number, announce: number): void {
    const directory = this.#directory(nic);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, 'arp_ignore'), `${ignore}\n`);
    writeFileSync(join(directory, 'arp_announce'), `${announce}\n`);
  }

  get(nic: string): string {
    const read = (key: string) => readFileSync(join(this.#directory(nic), key), 'utf8').trim();
    return `${read('arp_ignore')} ${read('arp_announce')}`;
  }

  remove(nic: string): void {
    rmSync(this.#directory(nic), { recursive: true });
  }

  guard(options: Partial<SysctlGuardOptions> = {}): SysctlGuard {
    const note = (_: unknown, event: string) => this.events.push(event);
    const logger: Logger = { debug: note, info: note, warn: note, error: note };
    const guard = new SysctlGuard({ logger, enforce: true, root: this.root, ...options });
    this.#guards.push(guard);
    return guard;
  }

  #directory(nic: string): string {
    return join(this.root, 'net/ipv4/conf', nic);
  }
}

test('watch() puts the values right, tells what they were and writes no others', (t) => {
  const host = new Host(t);
  host.set('all', 0, 0);
  host.set('eth0', 0, 1);
  host.set('eth1', 0, 0);
  let saves = 0;
  const guard = host.guard({ onBefore: () => (saves += 1) });
  guard.watch(['eth0']);
  assert.deepEqual(
    ['all', 'eth0', 'eth1'].map((nic) => host.get(nic)),
    ['0 0', '1 2', '0 0'],
  );
  assert.equal(saves, 2);
  assert.deepEqual(guard.states(), [
    {
      interface: 'eth0',
      key: 'net.ipv4.conf.eth0.arp_ignore',
      expected: '1 or 2',
      current: '1',
      before: '0',
      drifts: 0,
      error: undefined,
    },
    {
      interface: 'eth0',
      key: 'net.ipv4.conf.eth0.arp_announce',
      expected: '2',
      current: '2',
      before: '1',
      drifts: 0,
      error: undefined,
    },
  ]);
});

test('check() puts a drift right, counts it and keeps what was before lbd', (t) => {
  const host = new Host(t);
  host.set('all', 0, 0);
  host.set('eth0', 0, 0);
  const guard = host.guard();
  guard.watch(['eth0']);
  host.set('eth0', 3, 2);
  guard.check();
  host.set('all', 3, 0);
  guard.check();
  guard.check();
  assert.equal(host.get('eth0'), '1 2');
  assert.equal(host.get('all'), '1 0');
  const rows = guard.states().map((state) => [state.key, state.current, state.before, state.drifts]);
  assert.deepEqual(rows, [
    ['net.ipv4.conf.eth0.arp_ignore', '1', '0', 1],
    ['net.ipv4.conf.eth0.arp_announce', '2', '0', 0],
    ['net.ipv4.conf.all.arp_ignore', '1', '3', 1],
  ]);
  assert.deepEqual(host.events, ['sysctl.written', 'sysctl.written', 'sysctl.drift', 'sysctl.drift']);
});

test('a NIC that goes and comes back with the kernel’s default is no drift', (t) => {
  const host = new Host(t);
  host.set('all', 0, 0);
  host.set('eth0', 0, 0);
  const guard = host.guard();
  guard.watch(['eth0']);
  host.remove('eth0');
  guard.check();
  assert.match(guard.states()[0]?.error ?? '', /eth0\/arp_ignore: no such interface/);
  host.set('eth0', 0, 0);
  guard.check();
  assert.equal(host.get('eth0'), '1 2');
  assert.deepEqual(
    guard.states().map((state) => state.drifts),
    [0, 0],
  );
});

test('what an earlier run found before it wrote is what states() tells', (t) => {
  const host = new Host(t);
  host.set('all', 0, 0);
  host.set('eth0', 1, 2);
  const guard = host.guard({ before: new Map([['net.ipv4.conf.eth0.arp_ignore', '0']]) });
  guard.watch(['eth0']);
  host.set('eth0', 3, 2);
  guard.check();
  assert.equal(guard.states()[0]?.before, '0');
  assert.equal(guard.before().get('net.ipv4.conf.eth0.arp_ignore'), '0');
});

test('with enforce false, what is wrong is told and left alone until it is true', (t) => {
  const host = new Host(t);
  host.set('all', 0, 2);
  host.set('eth0', 0, 2);
  const guard = host.guard({ enforce: false });
  guard.watch(['eth0']);
  const left = guard.states()[0];
  assert.equal(
    left?.error,
    'net.ipv4.conf.eth0.arp_ignore is in effect 0, expected 1 or 2: [arp] enforce_sysctls = false leaves it so',
  );
  assert.equal(host.get('eth0'), '0 2');
  guard.setEnforce(true);
  assert.equal(host.get('eth0'), '1 2');
  assert.deepEqual(guard.states()[0]?.drifts, 0);
});
