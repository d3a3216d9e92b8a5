import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { DrainMark } from '../../../src/daemon/drain-mark.ts';
import { type Logger, SILENT_LOGGER } from '../../../src/lib/logger.ts';

function stateDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-drain-'));
  t.after(() => {
    chmodSync(directory, 0o700);
    rmSync(directory, { recursive: true, force: true });
  });
  return join(directory, 'state');
}

test('a drain stands for every later life until it is ended', async (t) => {
  const directory = stateDirectory(t);
  const first = new DrainMark(directory, SILENT_LOGGER);
  assert.equal(first.isSet, false);
  await first.set(true);
  assert.equal(statSync(join(directory, 'drained')).mode & 0o777, 0o640);
  const second = new DrainMark(directory, SILENT_LOGGER);
  assert.deepEqual([first.isSet, second.isSet, second.problem], [true, true, undefined]);
  await second.set(false);
  assert.equal(new DrainMark(directory, SILENT_LOGGER).isSet, false);
});

test('of commands that follow each other at once the last one stands', async (t) => {
  const directory = stateDirectory(t);
  const mark = new DrainMark(directory, SILENT_LOGGER);
  await Promise.all([true, false, true, false, true].map((isDrained) => mark.set(isDrained)));
  assert.equal(new DrainMark(directory, SILENT_LOGGER).isSet, true);
  await Promise.all([false, true, false].map((isDrained) => mark.set(isDrained)));
  assert.equal(new DrainMark(directory, SILENT_LOGGER).isSet, false);
});

test('to end a drain that never was needs no state directory', async (t) => {
  const directory = stateDirectory(t);
  const mark = new DrainMark(directory, SILENT_LOGGER);
  await mark.set(false);
  assert.deepEqual([mark.problem, existsSync(directory)], [undefined, false]);
});

test('what cannot be kept is said, and tried again by the next command', async (t) => {
  const directory = stateDirectory(t);
  const logged: string[] = [];
  const logger: Logger = { ...SILENT_LOGGER, error: (_fields, event) => void logged.push(event) };
  writeFileSync(directory, 'no directory');
  const mark = new DrainMark(directory, logger);
  await mark.set(true);
  assert.match(mark.problem ?? '', /^the drain would not survive a restart: cannot write .*\/drained: /);
  assert.equal(mark.isSet, false);
  rmSync(directory);
  await mark.set(true);
  assert.deepEqual([mark.problem, mark.isSet], [undefined, true]);
  assert.deepEqual(logged, ['gossip.drain-mark.failed']);
});

test('a drain that cannot be ended on the disk is said', async (t) => {
  const directory = stateDirectory(t);
  mkdirSync(join(directory, 'drained', 'inside'), { recursive: true });
  const mark = new DrainMark(directory, SILENT_LOGGER);
  assert.equal(mark.isSet, true);
  await mark.set(false);
  assert.match(mark.problem ?? '', /^a restart would drain this host again: cannot remove .*\/drained: /);
});
