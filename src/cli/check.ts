import { loadConfig } from '../config/io/load.ts';
import { formatProblem } from '../config/problem.ts';
import type { ConfigProblem } from '../config/types.ts';
import { type CliIo, EXIT_FAILURE, EXIT_OK } from './cli-io.ts';
import { describeConfig } from './describe-config.ts';
import { plural } from './text.ts';

/** Checks a file and prints every problem, then what the configuration means. The exit status says whether lbd would take it. */
export function checkConfig(file: string, io: CliIo): number {
  const loaded = loadConfig(file);
  const problems = loaded.ok ? loaded.value.warnings : loaded.error;
  for (const problem of problems) io.err(`${formatProblem(problem)}\n`);
  if (!loaded.ok) {
    io.err(`${file}: refused: ${countProblems(problems)}\n`);
    return EXIT_FAILURE;
  }
  const counted = problems.length === 0 ? '' : `, ${countProblems(problems)}`;
  io.out(`${file}: valid${counted} (digest ${loaded.value.digest})\n`);
  io.out(describeConfig(loaded.value.config));
  return EXIT_OK;
}

function countProblems(problems: readonly ConfigProblem[]): string {
  const errors = problems.filter((problem) => problem.severity === 'error').length;
  const warnings = problems.length - errors;
  const parts = [errors > 0 ? plural(errors, 'error') : '', warnings > 0 ? plural(warnings, 'warning') : ''];
  return parts.filter((part) => part !== '').join(', ');
}
