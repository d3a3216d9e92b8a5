import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { afterFailedStart, forgetFailedStarts, pauseAfter } from '../../../src/daemon/failed-start.ts';

const FAILURE = 'lbd.toml:3: pool: expected at least one';

class Runtime {
  readonly directory = mkdtempSync(join(tmpdir(), 'lbd-failed-start-'));
  readonly environment = { RUNTIME_DIRECTORY: this.directory };
  readonly memory = join(this.directory, 'failed-start.json');
  readonly config = join(this.directory, 'lbd.toml');
  readonly dropIns = join(this.directory, 'lbd.d');

  constructor(t: TestContext) {
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
    writeFileSync(this.config, '');
    mkdirSync(this.dropIns);
  }

  fail(failure = FAILURE): Promise<'failed' | 'stopped'> {
    return afterFailedStart(failure, [this.config, this.dropIns], this.environment);
  }

  /** As if the failure had come so often that the pause has its full length, by far longer than a test. */
  async failOften(): Promise<void> {
    await this.fail();
    const memory = JSON.parse(readFileSync(this.memory, 'utf8')) as object;
    writeFileSync(this.memory, JSON.stringify({ ...memory, times: 20 }));
  }
}

test('pauseAfter() is nothing for a first failure, then doubles from 1 s to 10 s', () => {
  const times = [1, 2, 3, 4, 5, 6, 2_000];
  assert.deepEqual(times.map(pauseAfter), [0, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
});

test('afterFailedStart() ends at once for a failure that is new, and pauses for the one before', async (t) => {
  const runtime = new Runtime(t);
  const startedAt = performance.now();
  assert.equal(await runtime.fail(), 'failed');
  assert.equal(await runtime.fail('another one'), 'failed');
  assert.equal(await runtime.fail(), 'failed');
  const quickMs = performance.now() - startedAt;
  assert.ok(quickMs < 500, `three new failures took ${quickMs} ms`);
  assert.equal(await runtime.fail(), 'failed');
  const pausedMs = performance.now() - startedAt - quickMs;
  assert.ok(pausedMs >= 990 && pausedMs < 1_900, `the second in a row took ${pausedMs} ms`);
});

test('afterFailedStart() does not pause where nobody restarts lbd', async (t) => {
  const runtime = new Runtime(t);
  await runtime.failOften();
  assert.equal(await afterFailedStart(FAILURE, [runtime.config], {}), 'failed');
});

for (const [what, change] of [
  ['the file is written', (runtime: Runtime) => writeFileSync(runtime.config, 'x')],
  ['the file is gone', (runtime: Runtime) => rmSync(runtime.config)],
  ['a drop-in is added', (runtime: Runtime) => writeFileSync(join(runtime.dropIns, 'a.toml'), '')],
] as const) {
  test(`afterFailedStart() ends its pause when ${what}`, async (t) => {
    const runtime = new Runtime(t);
    await runtime.failOften();
    const startedAt = performance.now();
    const ended = runtime.fail();
    change(runtime);
    assert.equal(await ended, 'failed');
    assert.ok(performance.now() - startedAt < 2_000, 'long before the 10 s of the pause');
  });
}

test('afterFailedStart() ends its pause at SIGTERM, after which the failure is new', async (t) => {
  const runtime = new Runtime(t);
  await runtime.failOften();
  const ended = runtime.fail();
  process.kill(process.pid, 'SIGTERM');
  assert.equal(await ended, 'stopped');
  assert.equal(process.listenerCount('SIGTERM'), 0);
  assert.equal(existsSync(runtime.memory), false);
});

test('afterFailedStart() pauses when it can remember nothing', async (t) => {
  const runtime = new Runtime(t);
  const environment = { RUNTIME_DIRECTORY: join(runtime.directory, 'none') };
  const ended = afterFailedStart(FAILURE, [runtime.config], environment);
  process.kill(process.pid, 'SIGTERM');
  assert.equal(await ended, 'stopped');
});

for (const torn of ['', '{', '[]', '{"failure":1,"times":2}', '"'.padEnd(2_000, 'x')]) {
  test(`afterFailedStart() takes ${JSON.stringify(torn.slice(0, 24))} for no memory`, async (t) => {
    const runtime = new Runtime(t);
    writeFileSync(runtime.memory, torn);
    assert.equal(await runtime.fail(), 'failed');
    assert.match(readFileSync(runtime.memory, 'utf8'), /"times":1/);
  });
}

test('forgetFailedStarts() makes the next failure new, and does nothing where there is none', async (t) => {
  const runtime = new Runtime(t);
  await runtime.failOften();
  forgetFailedStarts(runtime.environment);
  assert.equal(existsSync(runtime.memory), false);
  forgetFailedStarts(runtime.environment);
  forgetFailedStarts({});
});
