import assert from 'node:assert/strict';
import { test } from 'node:test';
import { restartFollows } from '../../../src/daemon/restart-follows.ts';
import type { QueuedJobs } from '../../../src/sys/systemd-jobs.ts';

const UNKNOWN: QueuedJobs = { kind: 'unknown', reason: 'no bus' };

function queued(...types: readonly string[]): QueuedJobs {
  return { kind: 'known', types };
}

const CASES: readonly (readonly [string, string | undefined, QueuedJobs, boolean])[] = [
  ['systemctl kill -s KILL', 'signal', queued(), true],
  ['a crash', 'exit-code', queued(), true],
  ['a core dump', 'core-dump', queued(), true],
  ['the watchdog', 'watchdog', queued(), true],
  ['out of memory', 'oom-kill', queued(), true],
  ['systemctl restart', 'success', queued('restart'), true],
  ['systemctl restart of an lbd that had to be killed', 'timeout', queued('restart'), true],
  ['systemctl try-restart', 'success', queued('try-restart'), true],
  ['a start while it stops', 'success', queued('start'), true],
  ['systemctl stop, also at shutdown', 'success', queued('stop'), false],
  ['systemctl stop of an lbd that had to be killed', 'timeout', queued('stop'), false],
  ['systemctl stop of an lbd that crashed at that moment', 'signal', queued('stop'), false],
  ['SIGTERM by hand', 'success', queued(), false],
  ['a clean end when systemd does not answer', 'success', UNKNOWN, false],
  ['a crash when systemd does not answer', 'signal', UNKNOWN, true],
  ['a call that is not from systemd', undefined, queued(), false],
  ['an empty result', '', UNKNOWN, false],
];

for (const [what, result, jobs, expected] of CASES) {
  test(`restartFollows() is ${expected} for ${what}`, () => {
    assert.equal(restartFollows(result, jobs), expected);
  });
}
