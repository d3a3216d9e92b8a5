/**
 * Checks what neither tsc nor biome can: who may import whom (docs/architecture.md), what a pure core may touch, and
 * the size of a file. `node scripts/check-floors.ts` prints one finding a line and ends with 1 when there are any.
 *
 *   main > cli > daemon > config kube ipam iface election bgp > sys > lib     imports only go down
 *   a feature imports of another feature only its types.ts
 *   a feature outside its io/ is a pure core: no node:* module, no sys, no clock, no chance, no timer
 */

import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { blank, type Import, importsOf } from './source-text.ts';

export type Finding = { readonly path: string; readonly line: number; readonly problem: string };

const FEATURES = ['config', 'kube', 'ipam', 'iface', 'election', 'bgp'];

/** Lowest first; a part may import the parts before it. The features are one floor. */
const FLOORS: readonly (readonly string[])[] = [['lib'], ['sys'], FEATURES, ['daemon'], ['cli'], ['main.ts']];

/** Where a package may be imported; one that is not here, anywhere above the cores. */
const PACKAGE_HOMES: Readonly<Record<string, readonly string[]>> = {
  '@kubernetes/client-node': ['src/kube/io/'],
  commander: ['src/cli/'],
  'ip-address': ['src/lib/'],
  pino: ['src/daemon/'],
  'prom-client': ['src/daemon/'],
  toml: ['src/config/'],
  zod: ['src/config/'],
};

/** Numbers under their kernel names: the one part of sys that is no shell. */
const PURE_OF_SYS = ['src/sys/constants.ts'];

const MAX_LINES = 500;

/** What would make a core's step depend on more than its arguments. A property of that name is none of these. */
const IMPURE = new RegExp(
  String.raw`(?<![.\w$])(?:Date\.now|new Date\b|performance(?=[.[])|Math\.random|crypto(?=[.[])|process(?=[.[])|` +
    String.raw`(?:setTimeout|setInterval|setImmediate|queueMicrotask|fetch)(?=\())`,
  'g',
);

/** @param path relative to the root of the tree, with `/`. */
export function checkFile(path: string, source: string): Finding[] {
  const text = blank(source);
  const findings: Finding[] = [];
  const report = (offset: number, problem: string): void => {
    findings.push({ path, line: lineAt(source, offset), problem });
  };
  for (const imported of importsOf(source, text)) {
    const problem = path.startsWith('src/') ? importProblem(path, imported) : undefined;
    if (problem !== undefined) report(imported.offset, problem);
  }
  if (!path.endsWith('.d.ts')) {
    for (const match of text.matchAll(/\bexport\s+default\b/g)) {
      report(match.index, 'a default export: export it by its name');
    }
  }
  if (isCore(path)) {
    for (const match of text.matchAll(IMPURE)) {
      report(match.index, `${match[0]} in a pure core: take it as an argument, or move this to io/`);
    }
  }
  const lines = source.split('\n').length - 1;
  if (path.startsWith('src/') && lines > MAX_LINES) {
    report(source.length - 1, `${lines} lines, at most ${MAX_LINES}: it is probably two ideas`);
  }
  return findings;
}

function importProblem(path: string, imported: Import): string | undefined {
  const { specifier } = imported;
  if (specifier.startsWith('.')) {
    const target = normalize(join(dirname(path), specifier));
    return target.startsWith('src/')
      ? relativeProblem(path, target, imported.typeOnly)
      : `imports ${target}, outside src`;
  }
  if (specifier.startsWith('node:')) {
    if (!isCore(path) || imported.typeOnly) return undefined;
    return `imports ${specifier} in a pure core: only files under its io/ may`;
  }
  return packageProblem(path, specifier);
}

function relativeProblem(path: string, target: string, typeOnly: boolean): string | undefined {
  const from = partOf(path);
  const to = partOf(target);
  const [fromFloor, toFloor] = [floorOf(from), floorOf(to)];
  if (fromFloor < 0) return `is in no part that the floors know (${FLOORS.flat().join(', ')})`;
  if (toFloor < 0) return `imports ${target}, which is in no part that the floors know`;
  if (toFloor > fromFloor) return `imports ${target}: ${from} is below ${to}, and imports only go down`;
  if (toFloor === fromFloor && to !== from && target !== `src/${to}/types.ts`) {
    return `imports ${target}: of its sibling ${to}, ${from} may import only types.ts`;
  }
  if (!isCore(path) || typeOnly) return undefined;
  if (to === 'sys' && !PURE_OF_SYS.includes(target)) {
    return `imports ${target} in a pure core: only files under its io/ may (types by "import type")`;
  }
  if (target.startsWith(`src/${from}/io/`)) {
    return `imports ${target} in a pure core, which must not know its shell (types by "import type")`;
  }
  return undefined;
}

function packageProblem(path: string, specifier: string): string | undefined {
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
  const homes = PACKAGE_HOMES[name];
  if (homes === undefined) {
    return isCore(path) ? `imports ${name} in a pure core: only files under its io/ may` : undefined;
  }
  if (homes.some((home) => path.startsWith(home))) return undefined;
  return `imports ${name}, whose place is ${homes.join(' or ')}`;
}

/** The part of the tree a file under src belongs to: its directory, or a file's own name at the top. */
function partOf(path: string): string {
  return path.split('/')[1] ?? '';
}

function floorOf(part: string): number {
  return FLOORS.findIndex((parts) => parts.includes(part));
}

function isCore(path: string): boolean {
  const [top, feature, next] = path.split('/');
  return top === 'src' && feature !== undefined && FEATURES.includes(feature) && next !== 'io';
}

function lineAt(source: string, offset: number): number {
  return source.slice(0, offset).split('\n').length;
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '..');
  const files = globSync('{src,test,bench,scripts}/**/*.ts', { cwd: root }).sort();
  const findings = files.flatMap((path) => checkFile(path, readFileSync(join(root, path), 'utf8')));
  for (const { path, line, problem } of findings) console.error(`${path}:${line}: ${problem}`);
  if (findings.length > 0) process.exitCode = 1;
}
