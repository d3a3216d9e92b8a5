import { Command, CommanderError } from 'commander';
import { errorText, LbdError } from '../lib/errors.ts';
import { VERSION } from '../lib/version.ts';
import { type CliIo, EXIT_FAILURE, EXIT_OK, EXIT_USAGE } from './cli-io.ts';
import { printable } from './text.ts';

/** A command tree that writes to `io` and never ends the process by itself. */
export function createProgram(name: string, description: string, io: CliIo): Command {
  return new Command(name)
    .description(description)
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand(false)
    .showHelpAfterError(`(${name} --help shows what there is)`)
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err, getOutHasColors: () => io.colour });
}

/** Runs a program on the arguments after its name and gives the exit status: 0 done, 1 failed, 2 called wrongly. */
export async function runProgram(program: Command, args: readonly string[], io: CliIo): Promise<number> {
  try {
    await program.parseAsync(args, { from: 'user' });
    return EXIT_OK;
  } catch (thrown) {
    if (thrown instanceof ExitStatus) return thrown.status;
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT_OK : EXIT_USAGE;
    if (!(thrown instanceof LbdError)) throw thrown;
    io.err(`${program.name()}: ${printable(errorText(thrown))}\n`);
    return EXIT_FAILURE;
  }
}

/** Ends a command with the exit status it came to; commander drops what an action returns. */
export function exitWith(status: number): void {
  if (status !== EXIT_OK) throw new ExitStatus(status);
}

class ExitStatus extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`exit status ${status}`);
    this.status = status;
  }
}
