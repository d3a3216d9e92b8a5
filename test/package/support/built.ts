import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../../..');

/** Any date will do, as long as it is one. */
export const EPOCH = 1_790_000_000;

/** Packs build/lbd, which `make test` has built, in the quickest way that every tool reads; returns the package's path. */
export function buildPackage(
  output: string,
  options: { readonly version?: string; readonly umask?: number } = {},
): string {
  const version = options.version === undefined ? [] : ['--version', options.version];
  const before = process.umask(options.umask ?? 0o022);
  try {
    return execFileSync(
      process.execPath,
      ['scripts/build-deb.ts', '--output', output, '--compression', 'gzip', '--level', '1', ...version],
      {
        cwd: ROOT,
        encoding: 'utf8',
        env: { ...process.env, SOURCE_DATE_EPOCH: String(EPOCH) },
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    ).trim();
  } finally {
    process.umask(before);
  }
}

/** A directory for a test file, and how to remove it. */
export function scratchDirectory(): { readonly path: string; readonly remove: () => void } {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'lbd-package-')));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Why a test that needs these commands is skipped, or false. */
export function skipWithout(...commands: readonly string[]): string | false {
  const missing = commands.filter(
    (command) => spawnSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' }).status !== 0,
  );
  return missing.length === 0 ? false : `needs ${missing.join(', ')}`;
}
