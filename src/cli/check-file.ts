import { type LoadedFile, loadConfig } from '../config/io/load.ts';
import { formatProblem } from '../config/problem.ts';
import type { ConfigProblem } from '../config/types.ts';
import { type CliIo, EXIT_FAILURE, EXIT_OK } from './cli-io.ts';
import { describeConfig } from './describe-config.ts';
import { plural } from './text.ts';

/** Checks a file and prints every problem, then what the configuration means. The exit status says whether lbd would take it. */
export function checkFile(file: string, io: CliIo): number {
  const loaded = loadOrExplain(file, io);
  if (loaded === undefined) return EXIT_FAILURE;
  io.out(describeConfig(loaded.config));
  return EXIT_OK;
}

/** Loads a configuration and prints every problem of it, and whether it is valid; undefined when it is not. */
export function loadOrExplain(file: string, io: CliIo): LoadedFile | undefined {
  const loaded = loadConfig(file);
  const problems = loaded.ok ? loaded.value.warnings : loaded.error;
  for (const problem of problems) io.err(`${formatProblem(problem)}\n`);
  if (!loaded.ok) {
    io.err(`${file}: refused: ${countProblems(problems)}\n`);
    return undefined;
  }
  const counted = problems.length === 0 ? '' : `, ${countProblems(problems)}`;
  const [, ...dropIns] = loaded.value.files;
  const parts = dropIns.length === 0 ? '' : ` with ${dropIns.join(', ')}`;
  io.out(`${file}${parts}: valid${counted} (digest ${loaded.value.digest})\n`);
  return loaded.value;
}

function countProblems(problems: readonly ConfigProblem[]): string {
  const errors = problems.filter((problem) => problem.severity === 'error').length;
  const warnings = problems.length - errors;
  const parts = [errors > 0 ? plural(errors, 'error') : '', warnings > 0 ? plural(warnings, 'warning') : ''];
  return parts.filter((part) => part !== '').join(', ');
}
