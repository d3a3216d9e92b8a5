import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';

/** What a run of a tree with one test file prints: of failures that node:test has no message for, and of bounds. */
describe('scripts/run-tests.ts', { concurrency: true }, () => {
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'lbd-run-tests-'));
  });
  after(() => rm(directory, { recursive: true }));

  type Printed = { readonly code: number; readonly stdout: string };

  /** Runs the tests of a tree that has one file. */
  async function runOfTree(
    name: string,
    file: string,
    content: string,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Printed> {
    const root = join(directory, name);
    await mkdir(join(root, 'scripts'), { recursive: true });
    await mkdir(join(root, dirname(file)), { recursive: true });
    const scripts = join(import.meta.dirname, '../../../scripts');
    for (const script of ['run-tests.ts', 'simulation-flags.ts'])
      await copyFile(join(scripts, script), join(root, 'scripts', script));
    await writeFile(join(root, file), `import { after, test } from 'node:test';\n${content}\n`);
    const { NODE_TEST_CONTEXT: _, LBD_BOUNDS: __, ...inherited } = process.env;
    const env = { ...inherited, ...environment };
    return new Promise((resolve) => {
      execFile(process.execPath, ['scripts/run-tests.ts'], { cwd: root, env }, (error, stdout) => {
        resolve({ code: Number(error?.code ?? 0), stdout });
      });
    });
  }

  async function runOf(name: string, content: string): Promise<string> {
    const { code, stdout } = await runOfTree(name, 'test/unit/a.test.ts', content);
    assert.equal(code, 1, stdout);
    return stdout;
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

  const CLOCKS = [
    { clock: 'a usual clock', times: 1, missed: false },
    { clock: 'a clock by which everything takes long', times: 100_000, missed: true },
  ] as const;
  for (const { clock, times, missed } of CLOCKS) {
    for (const counts of [true, false]) {
      const fails = missed && counts;
      test(`${fails ? 'fails' : 'passes'} with ${clock} where bounds ${counts ? 'count' : 'are only shown'}`, async () => {
        const fast = `const now = performance.now.bind(performance); performance.now = () => now() * ${times};`;
        const { code, stdout } = await runOfTree(
          `bounds-${times}-${counts}`,
          'test/vm/short.test.ts',
          "test('passes', () => {});",
          {
            NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(fast)}`,
            ...(counts ? { LBD_BOUNDS: 'count' } : {}),
          },
        );
        assert.match(
          stdout,
          missed ? /^ {2}test\/vm\/short\.test\.ts: [\d.]+ s of 120\.0 s OVER$/m : /s of 120\.0 s$/m,
        );
        assert.equal(code, fails ? 1 : 0, stdout);
        const failures = [...stdout.matchAll(/^ {2}(\S+): took [\d.]+ s, and may take ([\d.]+) s$/gm)];
        const shown = failures.map(([, place, bound]) => [place, bound]);
        const both = [
          ['test/vm/short.test.ts', '120.0'],
          ['test/vm', '900.0'],
        ];
        assert.deepEqual(shown, fails ? both : []);
      });
    }
  }
});
