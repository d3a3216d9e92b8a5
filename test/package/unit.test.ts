/** The systemd units, as far as they can be judged without running them. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { skipWithout } from './support/built.ts';

const UNITS = join(import.meta.dirname, '../../packaging/systemd');
const LARGEST_EXPOSURE = 3.0;

for (const unit of ['lbd.service', 'lbd-cleanup.service']) {
  test(`${unit} is exposed by at most ${LARGEST_EXPOSURE}`, {
    skip: skipWithout('systemd-analyze'),
  }, (context) => {
    const { stdout, stderr } = spawnSync(
      'systemd-analyze',
      ['security', '--offline=true', '--no-pager', join(UNITS, unit)],
      { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C.UTF-8' } },
    );
    const exposure = Number(/Overall exposure level for \S+: ([0-9.]+)/.exec(stdout)?.[1]);
    context.diagnostic(`exposure ${exposure}`);
    assert.ok(exposure <= LARGEST_EXPOSURE, `${stdout}${stderr}`);
  });

  test(`${unit} has no key that systemd does not know`, { skip: skipWithout('systemd-analyze') }, () => {
    const { stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', join(UNITS, unit)], {
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
    });
    // The executable is on the hosts that the package is on.
    const complaints = stderr
      .split('\n')
      .filter((line) => line.includes('lbd') && !/Command \/usr\/bin\/\w+ is not executable/.test(line));
    assert.deepEqual(complaints, []);
  });
}

test('both units run in the same sandbox, but for the reasons that they give', () => {
  const [daemon, cleanup] = ['lbd.service', 'lbd-cleanup.service'].map(sandbox);
  const only = [...(daemon ?? [])].filter((line) => !cleanup?.has(line));
  assert.deepEqual(only.map((line) => line.split('=')[0]).sort(), [
    'AmbientCapabilities',
    'CapabilityBoundingSet',
    'ExecPaths',
    'ReadWritePaths',
    'RemoveIPC',
    'RestrictAddressFamilies',
  ]);
});

/** The settings of a unit that take something away from its processes. */
function sandbox(unit: string): ReadonlySet<string> {
  const lines = readFileSync(join(UNITS, unit), 'utf8').split('\n');
  return new Set(
    lines.filter((line) =>
      /^(Protect|Private|Restrict|NoNew|Ambient|Capability|System(Call)|Lock|RemoveIPC|ExecPaths|ReadWrite)/.test(
        line,
      ),
    ),
  );
}
