import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What shells offer at the end of a line, with lbd's completions as they lie in an unpacked package. */

export type Shell = 'bash' | 'zsh' | 'fish';

const TIMEOUT_MS = 60_000;

const BASH = `
  for name in lbd lbctl; do source "$1/usr/share/bash-completion/completions/$name"; done
  shift
  for line; do
    read -ra COMP_WORDS <<<"$line"
    [[ $line != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    "_\${COMP_WORDS[0]}"
    echo "\${COMPREPLY[@]}"
  done`;

// By the file's name and first line, as zsh finds it; compadd is where every completion of zsh ends. Each key waits for
// the end of what the one before it did: typed ahead, it would cut a completion short.
const ZSH = `
  zmodload zsh/zpty
  say="print 'the ''end'"
  until_said() { zpty -r shell seen $'*the end*' }
  in_shell() { zpty -w shell "$1; $say"; until_said }
  zpty shell zsh -f -i
  in_shell "fpath=($1/usr/share/zsh/vendor-completions \\$fpath); autoload -Uz compinit; compinit -u -D
    list() { zle list-choices; $say }; zle -N list; bindkey '^I' list"
  in_shell "compadd() {
    typeset -a offered
    (( \\\${@[(I)-[OAD]]} )) || { builtin compadd -O offered \\"\\$@\\"; print -rn -- \\"\\$offered \\" >>$2; }
    builtin compadd \\"\\$@\\"
  }"
  for line in "\${@[3,-1]}"; do
    zpty -n -w shell "$line"$'\\t'; until_said
    zpty -n -w shell $'\\x15'
    in_shell "print >>$2"
  done
  zpty -d shell`;

const FISH = `
  for name in lbd lbctl; source $argv[1]/usr/share/fish/vendor_completions.d/$name.fish; end
  for line in $argv[2..]; echo (complete -C $line | string replace -r '\\t.*' ''); end`;

/** The words that the shell offers at the end of each line, file names being those in `directory`. */
export function completed(
  shell: Shell,
  tree: string,
  directory: string,
  lines: readonly string[],
): readonly (readonly string[])[] {
  const output = outputOf(shell, tree, directory, lines);
  const offered = output
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' ').filter((word) => word !== ''));
  assert.equal(offered.length, lines.length, output);
  return offered;
}

function outputOf(shell: Shell, tree: string, directory: string, lines: readonly string[]): string {
  const run = (args: readonly string[]): string =>
    execFileSync(shell, args, {
      cwd: directory,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], HOME: directory },
      timeout: TIMEOUT_MS,
    });
  if (shell === 'bash') return run(['--norc', '-c', BASH, 'bash', tree, ...lines]);
  if (shell === 'fish') return run(['--no-config', '-c', FISH, tree, ...lines]);
  const output = join(directory, 'offered-by-zsh');
  run(['-f', '-c', ZSH, 'zsh', tree, output, ...lines]);
  return readFileSync(output, 'utf8');
}
