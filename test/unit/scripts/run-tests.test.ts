import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

/** What a run of a tree with one test file prints, when that file fails in a way that node:test has no message for. */
describe('scripts/run-tests.ts', { concurrency: true }, () => {
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lbd-run-tests-'));
  });
  after(() => rm(directory, { recursive: true }));

  async function runOf(name: string, content: string): Promise<string> {
    const root = join(directory, name);
    await mkdir(join(root, 'scripts'), { recursive: true });
    await mkdir(join(root, 'test/unit'), { recursive: true });
    const scripts = join(import.meta.dirname, '../../../scripts');
    for (const file of ['run-tests.ts', 'simulation-flags.ts'])
      await copyFile(join(scripts, file), join(root, 'scripts', file));
    await writeFile(
      join(root, 'test/unit/a.test.ts'),
      `import { after, test } from 'node:test';\n${content}\n`,
    );
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    return new Promise((resolve) => {
      execFile(process.execPath, ['scripts/run-tests.ts'], { cwd: root, env }, (error, stdout) => {
        assert.equal(error?.code, 1, stdout);
        resolve(stdout);
      });
    });
  }

  test('says which signal ended the process of a file', async () => {
    const printed = await runOf(
      'killed',
      "test('is killed', async () => { process.kill(process.pid, 'SIGKILL'); await new Promise(() => {}); });",
    );
    assert.match(printed, /its process ended by SIGKILL; /);
    assert.match(printed, /^0 passed, 1 failed, 0 skipped$/m);
  });

  test('says with which status the process of a file ended', async () => {
    const printed = await runOf('status', "test('goes', () => { setTimeout(() => process.exit(3), 10); });");
    assert.match(printed, /its process ended with status 3; no test was running\)/);
  });

  test('prints an error that came after the test that began it', async () => {
    const late = "setTimeout(() => { throw new Error('came late'); }, 50);";
    const printed = await runOf('late', `test('is over', () => { ${late} });`);
    assert.match(printed, /WARNING .*Test "is over" .*"Error: came late".*uncaughtException/);
  });

  test('prints what a hook of the file threw', async () => {
    const printed = await runOf(
      'hook',
      "test('passes', () => {}); after(() => { throw new Error('no end'); });",
    );
    assert.match(printed, /itself \(outside of its tests\)\n.*\n +Error: no end/);
  });
});
