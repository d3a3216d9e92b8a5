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

  // systemd 252 makes both in the host's /tmp: no service with them starts on a full or read-only disk.
  test(`${name} needs no writable /tmp of the host`, () => {
    assert.doesNotMatch(unit(name), /^Private(Devices|Tmp)=/m);
  });
}

test('lbd-cleanup.service is as closed as lbd.service, and more where it can be', () => {
  const own = directives('lbd-cleanup.service');
  const missing = [...directives('lbd.service')].filter((line) => !own.has(line));
  assert.deepEqual(missing, [
    'AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE',
    'CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE',
    'ReadWritePaths=/proc/sys/net',
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
