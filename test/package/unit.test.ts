/** The systemd unit, as far as it can be judged without running it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { scratchDirectory, skipWithout } from './support/built.ts';

const UNIT = join(import.meta.dirname, '../../packaging/systemd/lbd.service');
const LARGEST_EXPOSURE = 3.0;

const skip = skipWithout('systemd-analyze');

test(`lbd.service is exposed by at most ${LARGEST_EXPOSURE}`, { skip }, (context) => {
  const { stdout, stderr } = analyze('security', '--offline=true', '--no-pager', UNIT);
  const exposure = Number(/Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)?.[1]);
  context.diagnostic(`exposure ${exposure}`);
  assert.ok(exposure <= LARGEST_EXPOSURE, `${stdout}${stderr}`);
});

test('lbd.service has no key that systemd does not know', { skip }, () => {
  const { stderr } = analyze('verify', '--man=no', UNIT);
  // The executables are on the hosts that the package is on.
  const complaints = stderr
    .split('\n')
    .filter((line) => line.includes('lbd') && !/Command \/usr\/bin\/\w+ is not executable/.test(line));
  assert.deepEqual(complaints, []);
});

const CASES: readonly (readonly [what: string, result: string, jobs: string, cleansUp: boolean])[] = [
  ['was killed', 'signal', '', false],
  ['was killed while it was being stopped', 'signal', '7 lbd.service stop running', true],
  ['did not stop in time', 'timeout', '7 lbd.service stop running', true],
  ['did not stop in time for a restart', 'timeout', '7 lbd.service restart running', false],
  ['stopped', 'success', '7 lbd.service stop running', true],
  ['crashed where systemd does not answer', 'exit-code', 'Failed to connect to bus', false],
];

for (const [what, result, jobs, cleansUp] of CASES) {
  test(`ExecStopPost= ${cleansUp ? 'leaves it to lbd cleanup' : 'does nothing'} when lbd ${what}`, () => {
    const scratch = scratchDirectory();
    try {
      for (const [name, script] of [
        ['systemctl', `[ "$1" = list-jobs ] && echo '${jobs}'`],
        ['lbd', 'echo "$@"'],
      ] as const) {
        writeFileSync(join(scratch.path, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      }
      const { stdout, status } = spawnSync('sh', ['-c', stopPostCommand()], {
        encoding: 'utf8',
        env: { PATH: `${scratch.path}:/usr/bin:/bin`, SERVICE_RESULT: result },
      });
      const expected = cleansUp ? 'cleanup --unless-restarting --unit lbd.service\n' : '';
      assert.deepEqual({ stdout, status }, { stdout: expected, status: 0 });
    } finally {
      scratch.remove();
    }
  });
}

/** The shell command of ExecStopPost= as systemd would hand it to sh. */
function stopPostCommand(): string {
  const [, command] = /^ExecStopPost=\/bin\/sh -c '(.*)'$/m.exec(readFileSync(UNIT, 'utf8')) ?? [];
  assert.ok(command);
  return command.replaceAll('$$', '$').replaceAll('%n', 'lbd.service');
}

function analyze(...args: readonly string[]): { readonly stdout: string; readonly stderr: string } {
  return spawnSync('systemd-analyze', args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
}
