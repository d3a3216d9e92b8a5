/**
 * Runs the tests of this machine: `node scripts/run-tests.ts [PATTERN]`. The last line is always
 * `N passed, N failed, N skipped`; the status is 1 when a test failed or none ran.
 *
 * PATTERN is a regular expression: the test files whose path it matches, or, when it matches none, the tests whose
 * name it matches. Each file runs in a process of its own and is ended when it outstays its suite's limit.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { inspect } from 'node:util';
import { SIMULATION_FLAGS } from './simulation-flags.ts';

type Suite = {
  readonly directory: string;
  readonly concurrency: number;
  readonly fileLimitMs: number;
  /** Whether what tests measured (`t.diagnostic()`) is printed also when nothing failed. */
  readonly printsFigures?: boolean;
  /** Whether the longest file, which is likely to take longest, begins: then those side by side end together. */
  readonly longestFirst?: boolean;
  /**
   * What it may take on a quiet machine, printed beside what it took: all of its files, and single ones. More is a failure only
   * where LBD_BOUNDS says so: on a busy machine it says nothing of lbd.
   */
  readonly bounds?: { readonly allMs: number; readonly fileMs: Readonly<Record<string, number>> };
  /** What its processes are started with, beside what this one was. */
  readonly flags?: readonly string[];
  /** A script that makes what its tests need, before the first; what it takes is printed. */
  readonly preparation?: string;
  /** Why the suite cannot run here, undefined when it can. */
  readonly obstacle: () => string | undefined;
};

type Failure = { readonly title: string; readonly place: string; readonly error: unknown };
type Skip = { readonly title: string; readonly reason: string };
type Timing = { readonly title: string; readonly file: string; readonly durationMs: number };

/** What one test file, or all of them, came to. */
type Outcome = {
  passed: number;
  /** What tests said of themselves, each under its title. */
  figures: string[];
  /** What went wrong after the test that began it had ended: node:test lets it pass, or ends the file without a word. */
  lateErrors: string[];
  failures: Failure[];
  skips: Skip[];
  timings: Timing[];
};

/** What a test:pass or test:fail event carries, as far as it is used here. */
type Finished = {
  readonly name: string;
  readonly testId: number;
  readonly parentId: number | undefined;
  readonly file?: string | undefined;
  readonly line?: number | undefined;
  readonly skip?: string | boolean | undefined;
  readonly todo?: string | boolean | undefined;
  readonly details: {
    readonly duration_ms: number;
    readonly type?: string | undefined;
    readonly error?: Error;
  };
};

const ROOT = join(import.meta.dirname, '..');
const BOUNDS_COUNT = process.env['LBD_BOUNDS'] === 'count';
const SLOW_MS = 1_000;
const SLOW_SHOWN = 10;
const MAX_OUTPUT_CHARS = 200_000;
/** What node:test says of an error that came when its test was over. */
const LATE = /generated asynchronous activity after the test ended/;

// A lab runs many processes, and its tests measure time: each gets two processors.
const LABS_AT_ONCE = Math.max(1, Math.floor(availableParallelism() / 2));

const SUITES: readonly Suite[] = [
  { directory: 'unit', concurrency: availableParallelism(), fileLimitMs: 120_000, obstacle: none },
  { directory: 'contract', concurrency: availableParallelism(), fileLimitMs: 300_000, obstacle: none },
  {
    directory: 'sim',
    concurrency: availableParallelism(),
    fileLimitMs: process.env['LBD_SIM'] === 'full' ? 12 * 3_600_000 : 600_000,
    flags: SIMULATION_FLAGS,
    obstacle: none,
  },
  { directory: 'binary', concurrency: 1, fileLimitMs: 120_000, obstacle: none },
  { directory: 'package', concurrency: availableParallelism(), fileLimitMs: 300_000, obstacle: none },
  { directory: 'netns', concurrency: LABS_AT_ONCE, fileLimitMs: 600_000, obstacle: namespacesObstacle },
  // Each file says itself what a machine in software emulation needs, and skips itself where that is missing. A machine
  // has one processor, and its tests bear to wait for it.
  {
    directory: 'vm',
    concurrency: Math.min(2, availableParallelism()),
    fileLimitMs: 2_400_000,
    printsFigures: true,
    longestFirst: true,
    preparation: 'test/vm/support/prepare.ts',
    bounds: { allMs: 15 * 60_000, fileMs: { 'test/vm/short.test.ts': 2 * 60_000 } },
    obstacle: none,
  },
];

const pattern = process.argv[2];
process.exitCode = await main(pattern === undefined ? undefined : new RegExp(pattern));

async function main(only: RegExp | undefined): Promise<number> {
  const files = globSync('test/**/*.test.ts', { cwd: ROOT }).sort();
  refuseStrays(files);
  const byPath = only === undefined ? files : files.filter((file) => only.test(file));
  const names = byPath.length === 0 ? only : undefined;
  const candidates = names === undefined ? byPath : filesThatName(names, files);
  const total = emptyOutcome();
  for (const suite of SUITES) {
    const chosen = candidates.filter((file) => isIn(suite, file));
    if (chosen.length > 0) await runSuite(suite, chosen, names, total);
  }
  report(total);
  return total.failures.length > 0 || total.passed === 0 ? 1 : 0;
}

/** Where a test of such a name is: by the text of the files, or, for a name that is put together, any of them. */
function filesThatName(names: RegExp, files: readonly string[]): readonly string[] {
  const found = files.filter((file) => names.test(readFileSync(join(ROOT, file), 'utf8')));
  return found.length > 0 ? found : files;
}

/** A test in a directory that no suite names would never run and never be missed. */
function refuseStrays(files: readonly string[]): void {
  const strays = files.filter((file) => !SUITES.some((suite) => isIn(suite, file)));
  if (strays.length === 0) return;
  throw new Error(`run-tests: no suite in scripts/run-tests.ts has ${strays.join(', ')}`);
}

function isIn(suite: Suite, file: string): boolean {
  return file.startsWith(`test/${suite.directory}/`);
}

async function runSuite(
  suite: Suite,
  files: readonly string[],
  names: RegExp | undefined,
  total: Outcome,
): Promise<void> {
  const obstacle = suite.obstacle();
  if (obstacle !== undefined) {
    for (const file of files) total.skips.push({ title: file, reason: obstacle });
    return;
  }
  const startedAt = performance.now();
  if (suite.preparation !== undefined) prepare(suite.preparation);
  const waiting = [...files];
  const bytesOf = (file: string): number => statSync(join(ROOT, file)).size;
  if (suite.longestFirst === true) waiting.sort((a, b) => bytesOf(b) - bytesOf(a));
  const tookMs = new Map<string, number>();
  const worker = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const fileStartedAt = performance.now();
      const outcome = await runFile(file, suite, names);
      if (outcome.passed + outcome.failures.length > 0) tookMs.set(file, performance.now() - fileStartedAt);
      addOutcome(total, outcome);
    }
  };
  await Promise.all(Array.from({ length: suite.concurrency }, worker));
  const allMs = performance.now() - startedAt;
  if (names === undefined) total.failures.push(...reportBounds(suite, tookMs, allMs));
}

/** Without success, too, the tests run: they say what is missing. */
function prepare(script: string): void {
  const startedAt = performance.now();
  const { status, signal } = spawnSync(process.execPath, [join(ROOT, script)], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  const end = status === 0 ? '' : `, failed (${signal ?? `status ${status}`})`;
  console.log(`${script}: ${seconds(performance.now() - startedAt)}${end}`);
}

/**
 * Prints what was taken of each bound. Returns those that were missed, where that counts.
 * @param tookMs of the files in which tests ran. The suite's own bound is for all of its files.
 */
function reportBounds(
  { directory, bounds }: Suite,
  tookMs: ReadonlyMap<string, number>,
  allMs: number,
): readonly Failure[] {
  if (bounds === undefined) return [];
  const took: [string, number, number][] = [];
  for (const [file, boundMs] of Object.entries(bounds.fileMs)) {
    const fileMs = tookMs.get(file);
    if (fileMs !== undefined) took.push([file, fileMs, boundMs]);
  }
  const files = globSync(`test/${directory}/**/*.test.ts`, { cwd: ROOT });
  if (files.every((file) => tookMs.has(file))) took.push([`test/${directory}`, allMs, bounds.allMs]);
  if (took.length === 0) return [];
  console.log('\nof what may be taken on a quiet machine:');
  for (const [what, ms, boundMs] of took) {
    const over = ms > boundMs ? ' OVER' : '';
    console.log(`  ${what}: ${seconds(ms)} of ${seconds(boundMs)}${over}`);
  }
  const missed = took.filter(([, ms, boundMs]) => BOUNDS_COUNT && ms > boundMs);
  return missed.map(([place, ms, boundMs]) => ({
    title: `took ${seconds(ms)}, and may take ${seconds(boundMs)}`,
    place,
    error: undefined,
  }));
}

/** Runs one file and prints its line, and when something failed in it, the failures and all that it printed. */
async function runFile(
  file: string,
  { fileLimitMs: limitMs, printsFigures, flags = [] }: Suite,
  names: RegExp | undefined,
): Promise<Outcome> {
  const outcome = emptyOutcome();
  const output: string[] = [];
  const titles = new Map<number, string>();
  const running = new Map<number, string>();
  const limit = AbortSignal.timeout(limitMs);
  const startedAt = performance.now();
  const stream = run({
    files: [join(ROOT, file)],
    cwd: ROOT,
    signal: limit,
    execArgv: [...flags],
    ...(names === undefined ? {} : { testNamePatterns: [names] }),
  });
  const isTheFile = (data: Finished): boolean => data.name === data.file;

  stream.on('test:dequeue', ({ name, testId, file: at }) => {
    if (name !== at) running.set(testId, name);
  });
  stream.on('test:complete', ({ name, testId, file: at }) => {
    if (name !== at) running.delete(testId);
  });
  stream.on('test:start', (data) => {
    if (data.name === data.file) return;
    const parent = data.parentId === undefined ? undefined : titles.get(data.parentId);
    titles.set(data.testId, parent === undefined ? data.name : `${parent} > ${data.name}`);
  });
  stream.on('test:pass', (data: Finished) => {
    if (isTheFile(data)) return;
    recordPass(outcome, data, titles.get(data.testId) ?? data.name, file);
  });
  stream.on('test:fail', (data: Finished) => {
    const title = isTheFile(data)
      ? endedHow(file, limit.aborted ? limitMs : undefined, [...running.values()], data.details.error)
      : (titles.get(data.testId) ?? data.name);
    recordFailure(outcome, data, title, file);
  });
  stream.on('test:diagnostic', ({ message, nesting, file: at }) => {
    if (LATE.test(message)) outcome.lateErrors.push(message);
    else if (nesting > 0 && at !== undefined) outcome.figures.push(message);
  });
  stream.on('test:stdout', ({ message }) => output.push(message));
  stream.on('test:stderr', ({ message }) => output.push(message));
  for await (const _ of stream);

  if (names === undefined && outcome.passed + outcome.failures.length + outcome.skips.length === 0) {
    outcome.failures.push({ title: 'the file has no test', place: file, error: undefined });
  }
  const isSilent = names !== undefined && outcome.passed + outcome.failures.length === 0;
  if (printsFigures !== true) outcome.figures = [];
  if (!isSilent)
    printFile(file, outcome, performance.now() - startedAt, output.join('').slice(-MAX_OUTPUT_CHARS));
  return outcome;
}

/** @param overMs the limit that the file outstayed, if that is why it ended. */
function endedHow(
  file: string,
  overMs: number | undefined,
  running: readonly string[],
  error: Error | undefined,
): string {
  const what = running.length === 0 ? 'no test was running' : `still running: ${running.join(', ')}`;
  if (overMs !== undefined) return `${file} itself (not ended after ${overMs / 1_000} s; ${what})`;
  if (!isProcessError(error)) return `${file} itself (outside of its tests)`;
  const how = error.signal === null ? `with status ${error.exitCode}` : `by ${error.signal}`;
  return `${file} itself (it did not load, or its process ended ${how}; ${what})`;
}

/** What node:test makes of a test file whose process ended badly; its message is "test failed", whatever happened. */
function isProcessError(
  error: unknown,
): error is Error & { readonly exitCode: number | null; readonly signal: string | null } {
  return error instanceof Error && 'exitCode' in error && 'signal' in error;
}

function recordPass(outcome: Outcome, data: Finished, title: string, file: string): void {
  const notRun = data.skip ?? data.todo;
  if (notRun !== undefined && notRun !== false) {
    const fallback = data.skip === undefined ? 'still to be written' : 'no reason given';
    const reason = typeof notRun === 'string' && notRun !== '' ? notRun : fallback;
    outcome.skips.push({ title: `${file}: ${title}`, reason });
    return;
  }
  if (data.details.type === 'suite') return;
  outcome.passed += 1;
  outcome.timings.push({ title, file, durationMs: data.details.duration_ms });
}

function recordFailure(outcome: Outcome, data: Finished, title: string, file: string): void {
  const error = data.details.error;
  // A parent of a failed test fails with it; the test itself has been counted.
  if (error !== undefined && 'failureType' in error && error.failureType === 'subtestsFailed') return;
  const at = data.file === undefined ? file : relative(ROOT, data.file);
  const reason = isProcessError(error) ? undefined : (error?.cause ?? error);
  outcome.failures.push({ title, place: `${at}:${data.line ?? 1}`, error: reason });
}

function printFile(file: string, outcome: Outcome, tookMs: number, output: string): void {
  const failed = outcome.failures.length;
  const skipped = outcome.skips.length > 0 ? `, ${outcome.skips.length} skipped` : '';
  const failures = failed > 0 ? `, ${failed} FAILED` : '';
  console.log(`${file}: ${outcome.passed} passed${failures}${skipped}, ${seconds(tookMs)}`);
  for (const figure of outcome.figures) console.log(`  ${figure}`);
  for (const message of outcome.lateErrors) console.log(`  WARNING ${message}`);
  if (failed === 0) return;
  for (const failure of outcome.failures)
    console.log(`\nFAILED ${failure.title}\n${indent(failureText(failure))}`);
  if (output.trim() !== '') console.log(`\nwhat ${file} printed:\n${indent(output.trimEnd())}\n`);
}

function failureText({ place, error }: Failure): string {
  if (error === undefined) return `at ${place}`;
  // An assertion's message holds its difference; its fields would only say the same again.
  const isAssertion = error instanceof Error && 'code' in error && error.code === 'ERR_ASSERTION';
  const text = isAssertion ? (error.stack ?? error.message) : inspect(error, { depth: 8 });
  const ownFrames = text.replaceAll(/\n +at [^\n]*\bnode:[^\n]*?(?= \{\n|\n|$)/g, '');
  return `at ${place}\n${ownFrames}`;
}

function report(total: Outcome): void {
  const slow = total.timings.filter(({ durationMs }) => durationMs >= SLOW_MS);
  slow.sort((a, b) => b.durationMs - a.durationMs);
  if (slow.length > 0) {
    console.log(`\nslowest of ${slow.length} tests that took ${seconds(SLOW_MS)} or more:`);
    for (const { title, file, durationMs } of slow.slice(0, SLOW_SHOWN)) {
      console.log(`  ${seconds(durationMs).padStart(8)}  ${file}: ${title}`);
    }
  }
  for (const [reason, titles] of Map.groupBy(total.skips, (skip) => skip.reason)) {
    console.log(`\nskipped, ${reason}:`);
    for (const { title } of titles) console.log(`  ${title}`);
  }
  if (total.failures.length > 0) {
    console.log('\nfailed (each in full above):');
    for (const { title, place } of total.failures) console.log(`  ${place}: ${title}`);
  }
  console.log(`\n${total.passed} passed, ${total.failures.length} failed, ${total.skips.length} skipped`);
}

function emptyOutcome(): Outcome {
  return { passed: 0, figures: [], lateErrors: [], failures: [], skips: [], timings: [] };
}

function addOutcome(total: Outcome, outcome: Outcome): void {
  total.passed += outcome.passed;
  total.failures.push(...outcome.failures);
  total.skips.push(...outcome.skips);
  total.timings.push(...outcome.timings);
}

function none(): undefined {
  return undefined;
}

/** Root may still lack the capability: in a container, say. */
function namespacesObstacle(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root, to make network namespaces';
  if (!existsSync('/proc/self/ns/net')) return 'needs a kernel with network namespaces';
  const made = spawnSync('unshare', ['--net', '--mount', 'ip', 'link', 'add', 'probe', 'type', 'veth']);
  if (made.status === 0) return undefined;
  return `needs to make network namespaces: ${String(made.error ?? made.stderr).trim()}`;
}

function seconds(durationMs: number): string {
  return `${(durationMs / 1_000).toFixed(1)} s`;
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '  ');
}
