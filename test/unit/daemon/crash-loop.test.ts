import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { beforeStart, endedInOrder, pauseBefore } from '../../../src/daemon/crash-loop.ts';

const NOW_MS = 5_000_000;
/** Of which the longest pause is a third. */
const LIFETIME_MS = 30_000;

class Runtime {
  readonly directory = mkdtempSync(join(tmpdir(), 'lbd-crash-loop-'));
  readonly environment = { RUNTIME_DIRECTORY: this.directory };
  readonly notes = join(this.directory, 'starts.json');
  readonly config = join(this.directory, 'lbd.toml');
  readonly paused: (readonly [crashes: number, pauseMs: number])[] = [];

  constructor(t: TestContext) {
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
    writeFileSync(this.config, '');
  }

  start(nowMs = NOW_MS, lifetimeMs = LIFETIME_MS): Promise<'start' | 'stopped'> {
    const onPause = (crashes: number, pauseMs: number) => void this.paused.push([crashes, pauseMs]);
    return beforeStart({ watched: [this.config], lifetimeMs, nowMs, onPause }, this.environment);
  }

  write(...starts: readonly number[]): void {
    writeFileSync(this.notes, JSON.stringify(starts));
  }
}

test('pauseBefore() is nothing for the first four restarts, then doubles from 1 s to 10 s', () => {
  const crashes = [0, 1, 3, 4, 5, 6, 7, 8, 2_000];
  assert.deepEqual(
    crashes.map((count) => pauseBefore(count, LIFETIME_MS)),
    [0, 0, 0, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000],
  );
});

test('pauseBefore() is never longer than a third of the lifetime of addresses', () => {
  assert.equal(pauseBefore(8, 6_000), 2_000);
  assert.equal(pauseBefore(4, 1_500), 500);
  assert.equal(pauseBefore(8, 0), 10_000);
});

test('beforeStart() waits with the fifth start within a minute, and longer with the sixth', async (t) => {
  const runtime = new Runtime(t);
  for (const atMs of [0, 50, 100, 150]) assert.equal(await runtime.start(NOW_MS + atMs), 'start');
  assert.deepEqual(runtime.paused, []);
  const startedAt = performance.now();
  // A short lifetime, so that a test does not take seconds.
  assert.equal(await runtime.start(NOW_MS + 200, 300), 'start');
  assert.ok(performance.now() - startedAt >= 99);
  assert.equal(await runtime.start(NOW_MS + 250, 300), 'start');
  assert.deepEqual(runtime.paused, [
    [4, 100],
    [5, 100],
  ]);
});

test('beforeStart() counts no start of more than a minute ago, and none from before the boot', async (t) => {
  const runtime = new Runtime(t);
  runtime.write(NOW_MS - 61_000, NOW_MS - 60_000, NOW_MS - 59_000, NOW_MS - 10, NOW_MS - 5, NOW_MS + 1_000);
  assert.equal(await runtime.start(), 'start');
  assert.deepEqual(runtime.paused, []);
  assert.deepEqual(JSON.parse(readFileSync(runtime.notes, 'utf8')), [
    NOW_MS - 59_000,
    NOW_MS - 10,
    NOW_MS - 5,
    NOW_MS,
  ]);
});

test('beforeStart() keeps few notes, however often lbd crashes', async (t) => {
  const runtime = new Runtime(t);
  runtime.write(...Array.from({ length: 100 }, (_, index) => NOW_MS - index));
  await runtime.start(NOW_MS, 3);
  assert.equal((JSON.parse(readFileSync(runtime.notes, 'utf8')) as unknown[]).length, 10);
});

test('endedInOrder() lets the next start be the first', async (t) => {
  const runtime = new Runtime(t);
  runtime.write(NOW_MS - 4, NOW_MS - 3, NOW_MS - 2, NOW_MS - 1);
  endedInOrder(runtime.environment);
  assert.equal(existsSync(runtime.notes), false);
  await runtime.start();
  assert.deepEqual(runtime.paused, []);
  endedInOrder({});
});

test('beforeStart() ends its pause when the configuration changes', async (t) => {
  const runtime = new Runtime(t);
  runtime.write(...Array.from({ length: 9 }, () => NOW_MS));
  const startedAt = performance.now();
  const started = runtime.start();
  writeFileSync(runtime.config, 'x');
  assert.equal(await started, 'start');
  assert.ok(performance.now() - startedAt < 5_000, 'long before the 10 s of the pause');
});

test('beforeStart() ends its pause at SIGTERM, after which the next start is the first', async (t) => {
  const runtime = new Runtime(t);
  runtime.write(...Array.from({ length: 9 }, () => NOW_MS));
  const started = runtime.start();
  process.kill(process.pid, 'SIGTERM');
  assert.equal(await started, 'stopped');
  assert.equal(process.listenerCount('SIGTERM'), 0);
  assert.equal(existsSync(runtime.notes), false);
});

test('beforeStart() does not wait where nobody restarts lbd, nor where it can note nothing', async (t) => {
  const runtime = new Runtime(t);
  for (const environment of [{}, { RUNTIME_DIRECTORY: join(runtime.directory, 'none') }]) {
    for (let start = 0; start < 9; start++) {
      const onPause = () => assert.fail('it waits');
      const options = { watched: [], lifetimeMs: LIFETIME_MS, nowMs: NOW_MS, onPause };
      assert.equal(await beforeStart(options, environment), 'start');
    }
  }
});

for (const torn of ['', '{', '{}', '5', 'null', '[null,"x",{}]', `[${'1,'.repeat(900)}1]`]) {
  test(`beforeStart() takes ${JSON.stringify(torn.slice(0, 24))} for no notes`, async (t) => {
    const runtime = new Runtime(t);
    writeFileSync(runtime.notes, torn);
    assert.equal(await runtime.start(), 'start');
    assert.deepEqual(JSON.parse(readFileSync(runtime.notes, 'utf8')), [NOW_MS]);
  });
}
