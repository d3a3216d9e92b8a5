import type { Option } from 'commander';
import { type CommandPage, isFile, type Program, valueName } from './commands.ts';

/** Completion of commands, options and file names for bash, zsh and fish. */

// --- bash ---

export function bashCompletion({ name, pages }: Program): string {
  const commands = pages.flatMap(({ path }) => (path.length > 0 ? [shellWord(pathKey(path))] : []));
  const values = pages.flatMap((page) =>
    page.options.flatMap((option) => {
      const value = valueName(option);
      const flags = flagsOf(option).map((flag) => shellWord(`${pathKey(page.path)} ${flag}`));
      return value === undefined ? [] : [`    ${flags.join(' | ')}) ${isFile(value) ? 'files=1' : ':'} ;;`];
    }),
  );
  const words = pages.map((page) => {
    const offered = [...page.children, ...page.options.flatMap(flagsOf)].join(' ');
    return `    ${shellWord(pathKey(page.path))}) words=${shellWord(offered)}${takesFile(page) ? ' files=1' : ''} ;;`;
  });
  return `# bash completion for ${name}

_${name}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} path='' words='' files='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
    ${commands.join(' | ')}) path="$path \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path $prev" in
${values.join('\n')}
    *)
      case "$path" in
${words.map((line) => `  ${line}`).join('\n')}
      esac
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur"; [[ -z $files || $cur == -* ]] || compgen -f -- "$cur")
  [[ -z $files ]] || compopt -o filenames 2>/dev/null
}

complete -F _${name} ${name}
`;
}

function pathKey(path: readonly string[]): string {
  return path.map((word) => ` ${word}`).join('');
}

// --- zsh ---

export function zshCompletion({ name, pages }: Program): string {
  return `#compdef ${name}

${pages.map((page) => zshFunction(name, page)).join('\n')}
_${name} "$@"
`;
}

function zshFunction(name: string, page: CommandPage): string {
  const options = page.options.map(zshOption);
  const start = `${zshName(name, page.path)}() {\n`;
  if (page.children.length === 0) {
    const files = page.arguments.map((argument) => (isFile(argument.name()) ? "'*:file:_files'" : ''));
    return `${start}  _arguments -s ${[...options, ...files].join(' ')}\n}\n`;
  }
  const children = page.children.map((child) => `    ${child}) ${zshName(name, [...page.path, child])} ;;`);
  return `${start}  local line state
  _arguments -s -C ${options.join(' ')} '1:command:(${page.children.join(' ')})' '*::argument:->rest'
  [[ $state == rest ]] || return
  case $line[1] in
${children.join('\n')}
  esac
}
`;
}

function zshName(name: string, path: readonly string[]): string {
  return ['', name, ...path].join('_');
}

function zshOption(option: Option): string {
  const value = valueName(option);
  const flags = flagsOf(option);
  const label = `[${option.description.replaceAll(/[[\]:]/g, ' ')}]`;
  const argument = value === undefined ? '' : `:${value}:${isFile(value) ? '_files' : ''}`;
  const all = flags.length > 1 ? `'(${flags.join(' ')})'{${flags.join(',')}}` : shellWord(flags.join());
  return `${all}${shellWord(`${label}${argument}`)}`;
}

// --- fish ---

export function fishCompletion({ name, pages }: Program): string {
  const lines = pages.flatMap((page) => [
    ...page.children.map((child) => {
      const below = pages.find(({ path }) => path.join(' ') === [...page.path, child].join(' '));
      return `${fishStart(name, page)} -a ${child} -d ${fishText(below?.description ?? '')}`;
    }),
    ...page.options.map((option) => fishOption(name, page, option)),
    ...(takesFile(page) ? [`${fishStart(name, page)} -F`] : []),
  ]);
  return `# fish completion for ${name}\ncomplete -c ${name} -f\n${lines.join('\n')}\n`;
}

/** The words of the command are there and none of those below it. */
function fishStart(name: string, page: CommandPage): string {
  const seen = page.path.map((word) => `__fish_seen_subcommand_from ${word}`);
  const notYet =
    page.children.length > 0 ? [`not __fish_seen_subcommand_from ${page.children.join(' ')}`] : [];
  return `complete -c ${name} -n ${fishText([...seen, ...notYet].join('; and '))}`;
}

function fishOption(name: string, page: CommandPage, option: Option): string {
  const value = valueName(option);
  const flags = [
    option.short === undefined ? '' : ` -s ${option.short.slice(1)}`,
    option.long === undefined ? '' : ` -l ${option.long.slice(2)}`,
    value === undefined ? '' : isFile(value) ? ' -rF' : ' -x',
  ].join('');
  return `${fishStart(name, page)}${flags} -d ${fishText(option.description)}`;
}

// --- common ---

function flagsOf(option: Option): readonly string[] {
  return [option.short, option.long].flatMap((flag) => (flag === undefined ? [] : [flag]));
}

function takesFile(page: CommandPage): boolean {
  return page.arguments.some((argument) => isFile(argument.name()));
}

function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishText(text: string): string {
  return `'${text.replaceAll(/['\\]/g, '\\$&')}'`;
}
