import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { LbdError } from '../../../src/lib/errors.ts';
import type { RunResult } from '../../support/lab-process.ts';

/** What the README says to type on the way from nothing to an address, read from the README itself. */

const README = fileURLToPath(new URL('../../../README.md', import.meta.url));
const HEADING = '## From nothing to an address\n';

/** Where a command is typed, as the first line of its block says it. */
const PLACES = {
  'in this repository': 'repository',
  'on the host, as root': 'host',
  'where kubectl works': 'kubectl',
  'on any machine of the network': 'client',
} as const;

export type Place = (typeof PLACES)[keyof typeof PLACES];

export type Command = { readonly place: Place; readonly text: string };

/** What the README cannot know, and what stands for it there. */
const PLACEHOLDERS = {
  repository: 'http://repository.example',
  apiServer: 'https://10.0.0.10:6443',
  pool: '192.0.2.10-192.0.2.50',
  subnet: '192.0.2.0/24',
  address: '192.0.2.10',
} as const;

export type Substitutions = Readonly<Partial<Record<keyof typeof PLACEHOLDERS, string>>>;

/** The commands of that section in their order, nothing of them changed but the placeholders. */
export function readmeCommands(substitutions: Substitutions): readonly Command[] {
  return [...section().matchAll(/^```sh\n([\s\S]*?)^```$/gm)].flatMap(([, block = '']) =>
    commandsOf(substituted(block, substitutions)),
  );
}

/** What the README shows as printed by the command that ends a block with the line `marker`. */
export function readmeTranscript(marker: string, substitutions: Substitutions): string {
  const [, rest] = section().split(`\n${marker}\n\`\`\`\n`);
  const [, transcript] = /^\n```\n([\s\S]*?)^```$/m.exec(rest ?? '') ?? [];
  if (transcript === undefined || !rest?.startsWith('\n```\n'))
    throw new LbdError('vm.readme', `README.md: expected what "${marker}" prints right after it`);
  return substituted(transcript, substitutions);
}

function section(): string {
  const text = readFileSync(README, 'utf8');
  const start = text.indexOf(HEADING);
  if (start === -1) throw new LbdError('vm.readme', `README.md: expected the heading "${HEADING.trim()}"`);
  return text.slice(start + HEADING.length).split(/^## /m)[0] ?? '';
}

/** Those of the block that has the line `marker`. */
export function readmeBlock(marker: string, substitutions: Substitutions): readonly string[] {
  const commands = readmeCommands(substitutions);
  const at = commands.findIndex(({ text }) => text === marker);
  const place = commands[at]?.place;
  if (place === undefined) throw new LbdError('vm.readme', `README.md: expected the command "${marker}"`);
  const before = commands.slice(0, at).findLastIndex((command) => command.place !== place);
  return commands.slice(before + 1, at + 1).map(({ text }) => text);
}

function substituted(block: string, substitutions: Substitutions): string {
  let result = block;
  for (const [name, placeholder] of Object.entries(PLACEHOLDERS)) {
    const value = substitutions[name as keyof typeof PLACEHOLDERS];
    if (value !== undefined) result = result.replaceAll(placeholder, value);
  }
  return result;
}

/** One for each line; the lines of a here-document belong to the one that opens it. */
function commandsOf(block: string): readonly Command[] {
  const [first = '', ...lines] = block.trimEnd().split('\n');
  const place = Object.entries(PLACES).find(([name]) => first === `# ${name}`)?.[1];
  if (place === undefined) throw new LbdError('vm.readme', `README.md: "${first}" names no place to type at`);
  const commands: Command[] = [];
  for (let line = lines.shift(); line !== undefined; line = lines.shift()) {
    const [, end] = /<<'(\w+)'/.exec(line) ?? [];
    const length = end === undefined ? 0 : lines.indexOf(end) + 1;
    commands.push({ place, text: [line, ...lines.splice(0, length)].join('\n') });
  }
  return commands;
}

/** Somebody who types the README's commands one after the other and leaves none out. */
export class Reader {
  readonly #waiting: Command[];
  readonly #type: (command: Command) => Promise<RunResult>;

  /** `type` runs a command at its place; it throws when the command fails. */
  constructor(substitutions: Substitutions, type: (command: Command) => Promise<RunResult>) {
    this.#waiting = [...readmeCommands(substitutions)];
    this.#type = type;
  }

  /** Types on until the command that begins with `beginning` is done; resolves with what that one printed. */
  async typeUntil(beginning: string): Promise<string> {
    for (let command = this.#waiting.shift(); command !== undefined; command = this.#waiting.shift()) {
      const { stdout } = await this.#type(command);
      if (command.text.startsWith(beginning)) return stdout;
    }
    throw new LbdError('vm.readme', `README.md: expected a command "${beginning}…" where none is left`);
  }

  /** What is not typed yet. */
  get left(): readonly Command[] {
    return this.#waiting;
  }
}
