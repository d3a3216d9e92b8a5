import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../../..');

/** Any date will do, as long as it is one. */
export const EPOCH = 1_790_000_000;

/** The level that takes the least time. */
const LEAST_EFFORT = { gzip: '1', xz: '0' } as const;

type PackageOptions = {
  readonly version?: string;
  readonly umask?: number;
  /** `gzip`, by default, is the quickest that every tool reads; with `xz`, as users get it, it takes some seconds. */
  readonly compression?: keyof typeof LEAST_EFFORT;
};

/** Packs build/lbd, which `make test` has built, with little effort; returns the package's path. */
export function buildPackage(output: string, options: PackageOptions = {}): string {
  const version = options.version === undefined ? [] : ['--version', options.version];
  const compression = options.compression ?? 'gzip';
  const packed = ['--compression', compression, '--level', LEAST_EFFORT[compression]];
  const before = process.umask(options.umask ?? 0o022);
  try {
    return execFileSync(
      process.execPath,
      ['scripts/build-deb.ts', '--output', output, ...packed, ...version],
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
