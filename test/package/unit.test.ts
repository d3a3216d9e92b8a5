/** The systemd unit, as far as it can be judged without running it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { skipWithout } from './support/built.ts';

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

function analyze(...args: readonly string[]): { readonly stdout: string; readonly stderr: string } {
  return spawnSync('systemd-analyze', args, {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
}
