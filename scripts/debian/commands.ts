import type { Argument, Command, Option } from 'commander';
import type { CliIo } from '../../src/cli/cli-io.ts';
import { lbctlProgram } from '../../src/cli/lbctl.ts';
import { lbdProgram } from '../../src/cli/lbd.ts';

/**
 * The commands of lbd and lbctl as the manual and the completions see them: what `--help` shows, taken from where it
 * takes it.
 */

export type CommandPage = {
  /** The words after the program's name; none for the program itself. */
  readonly path: readonly string[];
  readonly description: string;
  readonly arguments: readonly Argument[];
  /** Its own, with --help last. */
  readonly options: readonly Option[];
  readonly children: readonly string[];
};

export type Program = { readonly name: string; readonly pages: readonly CommandPage[] };

/** A terminal that nobody reads, with no environment: defaults are the ones of a fresh host. */
const NOWHERE: CliIo = { out: () => {}, err: () => {}, env: {}, colour: false };

export function programs(): { readonly lbd: Program; readonly lbctl: Program } {
  return { lbd: describe(lbdProgram(NOWHERE)), lbctl: describe(lbctlProgram(NOWHERE)) };
}

function describe(command: Command): Program {
  return { name: command.name(), pages: pagesOf(command, []) };
}

/** A command, then those below it, in the order of `--help`. */
function pagesOf(command: Command, path: readonly string[]): readonly CommandPage[] {
  const help = command.createHelp();
  // commander adds a command "help" below each; --help is enough.
  const children = help.visibleCommands(command).filter((child) => child.name() !== 'help');
  const page: CommandPage = {
    path,
    description: command.description(),
    arguments: help.visibleArguments(command),
    options: help.visibleOptions(command),
    children: children.map((child) => child.name()),
  };
  return [page, ...children.flatMap((child) => pagesOf(child, [...path, child.name()]))];
}

/** `text` for "--output <text>"; undefined for a switch. */
export function valueName(option: Option): string | undefined {
  return /[<[]([^>\]]+)[>\]]/.exec(option.flags)?.[1];
}

/** Whether what stands for the value is the name of a file. */
export function isFile(name: string): boolean {
  return /^(file|path|socket|ca)$/.test(name.replace(/\.\.\.$/, ''));
}
