import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';
import type { IfIndex } from '../../src/iface/types.ts';

const MARK = 'LBD_TEST_OWN_NAMESPACE';

/** Why the tests of this file cannot run here, or false. */
export const SKIP: string | false =
  process.getuid?.() === 0 ? false : 'needs root: it makes network namespaces';

/**
 * Puts this process, which is to run one test file and nothing else, into a network and a mount namespace of its own,
 * by starting it anew. They end with the process: nothing is left behind, also when a test crashes.
 */
export function enterOwnNamespace(file: string): void {
  if (SKIP !== false || process.env[MARK] === file) return;
  const command = ['unshare', '--net', '--mount', process.execPath, ...process.execArgv, file];
  process.execve?.('/usr/bin/env', ['env', ...command], { ...process.env, [MARK]: file });
}

/** Runs a program and returns what it prints; throws with its error output when it fails. */
export function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
}

/** `ip` with the arguments of one line. */
export function ip(line: string): string {
  return run('ip', ...line.split(' '));
}

/** The interface index of a link of this namespace. */
export function indexOf(name: string): IfIndex {
  const [link] = JSON.parse(ip(`-j link show dev ${name}`)) as readonly { ifindex: number }[];
  if (link === undefined) throw new Error(`no link ${name}`);
  return link.ifindex as IfIndex;
}

/** `ip -batch` with these lines. */
export function ipBatch(lines: readonly string[]): void {
  execFileSync('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n`, stdio: ['pipe', 'ignore', 'pipe'] });
}

/** Another host: a network namespace that lives until the end of the file's tests. */
export type OtherHost = { readonly pid: number; ip(line: string): string; run(...command: string[]): string };

export async function startOtherHost(): Promise<OtherHost> {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec sleep infinity'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  after(() => child.kill());
  await once(child.stdout, 'data');
  const { pid } = child;
  if (pid === undefined) throw new Error('unshare did not start');
  const inside = (...command: string[]) => run('nsenter', '-t', String(pid), '-n', ...command);
  return { pid, ip: (line) => inside('ip', ...line.split(' ')), run: inside };
}
