import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Lab } from '../../support/lab.ts';
import type { RunResult } from '../../support/lab-process.ts';
import { readmeBlock } from './readme.ts';

/** The package under test, built from this tree, in a signed repository that a host of the lab serves. */

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const DIRECTORY = 'build/vm';
const PORT = 8000;
const REMOVED_AFTER_MS = 3_600_000;

export type Repository = {
  readonly directory: string;
  /** Of the package's bytes. */
  readonly hash: string;
};

/** Where a machine of the lab has the repository. */
export const REPOSITORY_URL = `http://lab-server:${PORT}`;

/** What the README says to type on a fresh machine. */
export const INSTALL_COMMANDS = readmeBlock('apt install lbd', { repository: REPOSITORY_URL });

// What users get is packed with xz, which takes a minute to pack and 20 s to unpack in emulation: this has the same files.
const PACKED_QUICKLY = ['--compression', 'zstd', '--level', '3'];

/**
 * A signed repository with lbd's package as `version`, built from build/lbd unless it is there already: tests side by side
 * serve the same one.
 */
export async function buildRepository(version: string): Promise<Repository> {
  const file = await script('build-deb.ts', '--version', version, '--output', DIRECTORY, ...PACKED_QUICKLY);
  const sha256 = createHash('sha256').update(await readFile(join(ROOT, file)));
  const hash = sha256.digest('hex').slice(0, 12);
  const directory = join(ROOT, DIRECTORY, version, hash);
  if (!existsSync(directory)) {
    await removeOld(dirname(directory));
    const unfinished = `${directory}.${process.pid}`;
    await script('build-apt-repo.ts', '--output', unfinished, file);
    await rename(unfinished, directory).catch(() => rm(unfinished, { recursive: true }));
  }
  return { directory, hash };
}

/** Of builds long before this one, which no test serves any more. */
async function removeOld(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const name of await readdir(directory)) {
    const status = await stat(join(directory, name)).catch(() => undefined);
    if (status !== undefined && Date.now() - status.mtimeMs > REMOVED_AFTER_MS)
      await rm(join(directory, name), { recursive: true, force: true });
  }
}

/** The repository that the README's command makes of this tree, `make apt-repo`, and what the command said. */
export async function makeRepositoryAsTyped(
  command: string,
): Promise<{ readonly directory: string; readonly result: RunResult }> {
  const { MAKEFLAGS: _, MAKELEVEL: __, MFLAGS: ___, ...environment } = process.env;
  const env = { ...environment, DEB_ARGS: PACKED_QUICKLY.join(' ') };
  const output = await promisify(execFile)('bash', ['-c', command], { cwd: ROOT, env });
  return { directory: join(ROOT, 'build/apt'), result: { code: 0, ...output } };
}

async function script(name: string, ...args: readonly string[]): Promise<string> {
  const argv = ['-n', '10', process.execPath, join('scripts', name), ...args];
  const { stdout } = await promisify(execFile)('nice', argv, { cwd: ROOT });
  return stdout.trim();
}

/** Serves a repository as `http://lab-server:8000`; a second call replaces the first one's. */
export async function serveRepository(
  lab: Lab,
  repository: Pick<Repository, 'directory'>,
): Promise<() => Promise<unknown>> {
  const argv = ['busybox', 'httpd', '-f', '-p', String(PORT), '-h', repository.directory];
  const server = await lab.host('server').spawn(argv);
  return () => server.stop('SIGKILL');
}
