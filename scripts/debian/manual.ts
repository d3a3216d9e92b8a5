import type { Argument, Option } from 'commander';
import { configJsonSchema } from '../../src/config/json-schema.ts';
import type { CommandPage, Program } from './commands.ts';
import { PROSE, type Prose } from './manual-prose.ts';

/** Manual pages in the man(7) macros: the commands as `--help` has them, the configuration as its schema has it. */

export type ManualDate = {
  /** As in `2026-11-23`. */
  readonly date: string;
  readonly version: string;
};

/** lbd(8) or lbctl(1). */
export function commandManual(program: Program, section: 1 | 8, when: ManualDate): string {
  const [root, ...commands] = program.pages;
  const prose = PROSE[program.name];
  if (root === undefined || prose === undefined) throw new Error(`manual: no prose for ${program.name}`);
  return page([
    header(program.name, section, when),
    heading('NAME'),
    `${text(program.name)} \\- ${text(prose.purpose)}`,
    heading('SYNOPSIS'),
    ...synopsis(program.name, [root, ...commands]),
    heading('DESCRIPTION'),
    ...paragraphs(prose.description),
    heading('OPTIONS'),
    ...root.options.flatMap(optionEntry),
    heading('COMMANDS'),
    ...commands.filter((command) => command.children.length === 0).flatMap(commandEntry),
    ...sections(prose),
    heading('EXIT STATUS'),
    ...entry('0', 'Done.'),
    ...entry('1', 'It failed; standard error says what and why.'),
    ...entry('2', 'Called wrongly: an unknown command or option.'),
    heading('SEE ALSO'),
    text(prose.seeAlso),
  ]);
}

/** lbd.toml(5). */
export function configManual(when: ManualDate): string {
  const prose = PROSE['lbd.toml'];
  if (prose === undefined) throw new Error('manual: no prose for lbd.toml');
  const tables = tablesOf([], configJsonSchema() as Schema);
  return page([
    header('lbd.toml', 5, when),
    heading('NAME'),
    `lbd.toml \\- ${text(prose.purpose)}`,
    heading('SYNOPSIS'),
    '.I /etc/lbd.toml',
    heading('DESCRIPTION'),
    ...paragraphs(prose.description),
    ...tables.flatMap(([name, table]) => [
      heading(table.items === undefined ? `[${name}]` : `[[${name}]]`),
      ...paragraphs([table.description ?? '']),
      ...keysOf(table).flatMap(([key, schema]) =>
        entry(bold(key), [schema.description ?? '', keyRemark(schema, isRequired(table, key))].join('\n')),
      ),
    ]),
    ...sections(prose),
    heading('SEE ALSO'),
    text(prose.seeAlso),
  ]);
}

type Schema = {
  readonly description?: string;
  readonly type?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
};

/** Every table by its dotted name, each before the tables in it. */
function tablesOf(path: readonly string[], table: Schema): readonly (readonly [string, Schema])[] {
  return Object.entries((table.items ?? table).properties ?? {}).flatMap(([key, schema]) => {
    if (schema.properties === undefined && schema.items?.properties === undefined) return [];
    const own = [...path, key];
    return [[own.join('.'), schema] as const, ...tablesOf(own, schema)];
  });
}

function keysOf(table: Schema): readonly (readonly [string, Schema])[] {
  const entries = Object.entries((table.items ?? table).properties ?? {});
  return entries.filter(([, schema]) => schema.properties === undefined);
}

/** A key with a default is in `required` of what is read, not of what is written: the schema is the one for writing. */
function isRequired(table: Schema, key: string): boolean {
  return (table.items ?? table).required?.includes(key) ?? false;
}

function keyRemark(schema: Schema, required: boolean): string {
  if (schema.default !== undefined) return `Default: ${JSON.stringify(schema.default)}.`;
  return required ? 'Must be given.' : 'No default.';
}

function synopsis(name: string, pages: readonly CommandPage[]): readonly string[] {
  return pages
    .filter((one) => one.children.length === 0)
    .flatMap((one) => {
      const options = one.options.length > 1 ? ['[options]'] : [];
      const words = [...options, ...one.arguments.map(argumentWord)].join(' ');
      return [`.B ${text([name, ...one.path].join(' '))}`, ...(words === '' ? [] : [text(words)]), '.br'];
    })
    .slice(0, -1);
}

function argumentWord(argument: Argument): string {
  return argument.required ? `<${argument.name()}>` : `[${argument.name()}]`;
}

function commandEntry(command: CommandPage): readonly string[] {
  const title = [command.path.join(' '), ...command.arguments.map(argumentWord)].join(' ');
  const details = [
    ...command.arguments.flatMap((argument) =>
      entry(argumentWord(argument), sentence(argument.description, argument.defaultValue)),
    ),
    ...command.options.filter((option) => option.long !== '--help').flatMap(optionEntry),
  ];
  return [
    `.SS ${text(title)}`,
    text(sentence(command.description)),
    ...(details.length === 0 ? [] : ['.RS', ...details, '.RE']),
  ];
}

function optionEntry(option: Option): readonly string[] {
  return entry(bold(option.flags), sentence(option.description, option.defaultValue));
}

/** "the configuration" as a sentence, with its default when that tells something. */
function sentence(description: string, fallback?: unknown): string {
  const tells = fallback !== undefined && fallback !== false;
  const begun = description.charAt(0).toUpperCase() + description.slice(1);
  return `${begun}${tells ? ` (default: ${String(fallback)})` : ''}.`;
}

function sections(prose: Prose): readonly string[] {
  return prose.sections.flatMap(({ title, entries }) => [
    heading(title),
    ...entries.flatMap(([term, meaning]) => entry(bold(term), meaning)),
  ]);
}

function header(name: string, section: number, { date, version }: ManualDate): string {
  return `.TH "${name.toUpperCase()}" "${section}" "${date}" "lbd ${version}" "lbd"`;
}

function heading(title: string): string {
  return `.SH "${text(title)}"`;
}

function paragraphs(texts: readonly string[]): readonly string[] {
  return texts.flatMap((one, index) => (index === 0 ? [text(one)] : ['.PP', text(one)]));
}

/** A term and, indented below it, what it means. `term` may hold font escapes already. */
function entry(term: string, meaning: string): readonly string[] {
  return ['.TP', term.startsWith('\\fB') ? term : text(term), text(meaning)];
}

function bold(words: string): string {
  return `\\fB${text(words)}\\fR`;
}

function page(lines: readonly string[]): string {
  return `.\\" Generated from the command definitions and the schema of the configuration.\n${lines.join('\n')}\n`;
}

/** Text in which roff sees no request and no escape. A hyphen-minus is one that can be copied to a shell. */
function text(plain: string): string {
  return plain
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replaceAll('…', '...')
    .replaceAll(/^(?=[.'])/gm, '\\&');
}
