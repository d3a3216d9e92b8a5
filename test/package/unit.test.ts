/** The systemd unit, as far as it can be judged without running it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { scratchDirectory, skipWithout } from './support/built.ts';

const UNITS = join(import.meta.dirname, '../../packaging/systemd');
const LARGEST_EXPOSURE = 3.0;

const skip = skipWithout('systemd-analyze');

for (const name of ['lbd.service', 'lbd-cleanup.service']) {
  test(`${name} is exposed by at most ${LARGEST_EXPOSURE}`, { skip }, (context) => {
    const { stdout, stderr } = analyze('security', '--offline=true', '--no-pager', join(UNITS, name));
    const exposure = Number(/Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)?.[1]);
    context.diagnostic(`exposure ${exposure}`);
    assert.ok(exposure <= LARGEST_EXPOSURE, `${stdout}${stderr}`);
  });

  test(`${name} has no key that systemd does not know`, { skip }, () => {
    const { stderr } = analyze('verify', '--man=no', join(UNITS, name));
    // The executables are on the hosts that the package is on.
    const complaints = stderr
      .split('\n')
      .filter((line) => line.includes('lbd') && !/Command \/usr\/bin\/\w+ is not executable/.test(line));
    assert.deepEqual(complaints, []);
  });

  test(`${name} leaves nothing open that lbd.service does not give the reason for`, { skip }, () => {
    const { stdout } = analyze('security', '--offline=true', '--no-pager', '--json=short', join(UNITS, name));
    const points = JSON.parse(stdout) as readonly { name: string; exposure: string | null }[];
    const open = points.filter(({ exposure }) => Number(exposure) > 0);
    assert.ok(open.length > 5, `${open.length} open points`);
    const [, explained = ''] = /^# What stays open,.*\n((?:#.*\n)+)/m.exec(unit('lbd.service')) ?? [];
    const words = new Set(explained.match(/@?\w+/g));
    const unexplained = open.flatMap((point) => wordsOf(point.name)).filter((word) => !words.has(word));
    assert.deepEqual(unexplained, []);
  });

  // systemd 252 makes both in the host's /tmp: no service with them starts on a full or read-only disk.
  test(`${name} needs no writable /tmp of the host`, () => {
    assert.doesNotMatch(unit(name), /^Private(Devices|Tmp)=/m);
  });
}

/** What brings lbd back, soon and for ever, also on a host that is short of memory and time. */
const KEPT: Readonly<Record<string, string>> = {
  Type: 'notify',
  Restart: 'always',
  RestartSec: '50ms',
  StartLimitIntervalSec: '0',
  WatchdogSec: '10s',
  WatchdogSignal: 'SIGKILL',
  RuntimeDirectory: 'lbd',
  RuntimeDirectoryPreserve: 'restart',
  StateDirectory: 'lbd',
  User: 'lbd',
  Group: 'lbd',
  OOMScoreAdjust: '-900',
  MemorySwapMax: '0',
  CPUWeight: '1000',
  IOWeight: '1000',
};

for (const [directive, value] of Object.entries(KEPT)) {
  test(`lbd.service has ${directive}=${value}, once`, () => {
    assert.deepEqual(valuesOf('lbd.service', directive), [value]);
  });
}

// A second process before lbd would cost every restart the start of one; lbd checks its configuration by itself.
test('lbd.service starts nothing before lbd, and waits for no network that is "online"', () => {
  for (const directive of ['ExecStartPre', 'ExecCondition', 'Wants', 'Requires', 'BindsTo'])
    assert.deepEqual(valuesOf('lbd.service', directive), [], directive);
  assert.deepEqual(valuesOf('lbd.service', 'ExecStart'), ['/usr/bin/lbd run']);
  assert.doesNotMatch(unit('lbd.service'), /^After=.*network-online/m);
});

test('lbd.service reloads by a signal, and a file or a drop-in that lbd refuses fails the reload', () => {
  const reload = valuesOf('lbd.service', 'ExecReload');
  assert.deepEqual(reload, ['/bin/kill -HUP $MAINPID', '/usr/bin/lbctl config check']);
});

// The log says which program changed an address, which takes a look at the processes of others.
test('lbd.service sees the processes of others', () => {
  for (const directive of ['ProtectProc', 'ProcSubset'])
    assert.deepEqual(valuesOf('lbd.service', directive), []);
});

test('lbd-cleanup.service is as closed as lbd.service, and more where it can be', () => {
  const own = directives('lbd-cleanup.service');
  const missing = [...directives('lbd.service')].filter((line) => !own.has(line));
  assert.deepEqual(missing, [
    'AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE',
    'CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE',
    'ExecPaths=/run/lbd',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET',
  ]);
});

for (const [result, state, cleansUp] of [
  ['signal', 'inactive', true],
  ['exit-code', 'failed', true],
  ['signal', 'active', false],
  ['signal', 'activating', false],
  ['signal', 'reloading', false],
  ['signal', 'deactivating', false],
  ['signal', '', false],
  ['success', 'inactive', false],
] as const) {
  test(`lbd-cleanup.service ${cleansUp ? 'cleans up' : 'does nothing'} after ${result} when lbd is "${state}"`, () => {
    const command = shellCommand('lbd-cleanup.service', 'ExecStart');
    const env = { MONITOR_SERVICE_RESULT: result };
    const { stdout, status } = ranBeside({ systemctl: `echo '${state}'` }, command, env);
    assert.deepEqual({ stdout, status }, { stdout: cleansUp ? 'cleanup\n' : '', status: 0 });
  });
}

const CASES: readonly (readonly [what: string, result: string, jobs: string, cleansUp: boolean])[] = [
  ['was killed', 'signal', '', false],
  ['was killed while it was being stopped', 'signal', '7 lbd.service stop running', true],
  ['did not stop in time', 'timeout', '7 lbd.service stop running', true],
  ['did not stop in time for a restart', 'timeout', '7 lbd.service restart running', false],
  ['is restarted', 'success', '7 lbd.service restart running', false],
  ['ended by itself, as far as it knows', 'success', '', true],
  ['ended where systemd does not answer', 'success', 'Failed to connect to bus', true],
  ['stopped', 'success', '7 lbd.service stop running', true],
  ['crashed where systemd does not answer', 'exit-code', 'Failed to connect to bus', false],
];

for (const [what, result, jobs, cleansUp] of CASES) {
  test(`ExecStopPost= ${cleansUp ? 'leaves it to lbd cleanup' : 'does nothing'} when lbd ${what}`, () => {
    const command = shellCommand('lbd.service', 'ExecStopPost');
    const systemctl = `[ "$1" = list-jobs ] && echo '${jobs}'`;
    const { stdout, status } = ranBeside({ systemctl }, command, { SERVICE_RESULT: result });
    const expected = cleansUp ? 'cleanup --unless-restarting --unit lbd.service\n' : '';
    assert.deepEqual({ stdout, status }, { stdout: expected, status: 0 });
  });
}

test('ExecStopPost= does nothing, and soon, when lbd crashed where systemd hangs', () => {
  const startedAt = performance.now();
  const command = shellCommand('lbd.service', 'ExecStopPost');
  const { stdout, status } = ranBeside({ systemctl: 'exec sleep 60' }, command, { SERVICE_RESULT: 'signal' });
  assert.deepEqual({ stdout, status }, { stdout: '', status: 0 });
  assert.ok(performance.now() - startedAt < 10_000);
});

/** What a shell command comes to where `commands` are what they are here, and lbd only says its arguments. */
function ranBeside(
  commands: Readonly<Record<string, string>>,
  command: string,
  env: Readonly<Record<string, string>>,
): { readonly stdout: string; readonly status: number | null } {
  const scratch = scratchDirectory();
  try {
    for (const [name, script] of Object.entries({ ...commands, lbd: 'echo "$@"' }))
      writeFileSync(join(scratch.path, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return spawnSync('sh', ['-c', command], {
      encoding: 'utf8',
      env: { PATH: `${scratch.path}:/usr/bin:/bin`, ...env },
    });
  } finally {
    scratch.remove();
  }
}

function unit(name: string): string {
  return readFileSync(join(UNITS, name), 'utf8');
}

function valuesOf(name: string, directive: string): readonly string[] {
  return [...unit(name).matchAll(new RegExp(`^${directive}=(.*)$`, 'gm'))].map(([, value = '']) => value);
}

/** `RestrictAddressFamilies=~AF_(INET|INET6)` is about AF_INET and AF_INET6, `RootDirectory=/RootImage=` about both. */
function wordsOf(point: string): readonly string[] {
  const [, negated] = /^\w+=~(\S+)$/.exec(point) ?? [];
  if (negated === undefined) return point.match(/\w+/g) ?? [];
  const [, prefix = '', choices = ''] = /^(\w*)\((.*)\)$/.exec(negated) ?? [];
  if (choices === '') return [negated];
  // Of the capabilities that are counted together, those that the unit keeps are the open ones.
  const asked = new Set(valuesOf('lbd.service', 'CapabilityBoundingSet').join(' ').split(' '));
  const all = choices.split('|').map((choice) => `${prefix}${choice}`);
  return point.startsWith('Capability') ? all.filter((word) => asked.has(word)) : all;
}

/** The lines of a unit's sandbox. */
function directives(name: string): ReadonlySet<string> {
  const [, sandbox = ''] = unit(name).split(/^# --- the sandbox.*$/m);
  const [section = ''] = sandbox.split(/^\[/m);
  return new Set(section.split('\n').filter((line) => /^\w+=/.test(line)));
}

/** The shell command of a directive as systemd would hand it to sh. */
function shellCommand(name: string, directive: string): string {
  const [, command] = new RegExp(`^${directive}=/bin/sh -c '(.*)'$`, 'm').exec(unit(name)) ?? [];
  assert.ok(command);
  return command.replaceAll('$$', '$').replaceAll('%n', name);
}

function analyze(...args: readonly string[]): { readonly stdout: string; readonly stderr: string } {
  return spawnSync('systemd-analyze', args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
}
