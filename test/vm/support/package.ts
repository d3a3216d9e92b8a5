import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
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
  return repositoryWith(file, version);
}

/** A signed repository with this package, unless it is there already. */
async function repositoryWith(file: string, name: string): Promise<Repository> {
  const sha256 = createHash('sha256').update(await readFile(resolve(ROOT, file)));
  const hash = sha256.digest('hex').slice(0, 12);
  const directory = join(ROOT, DIRECTORY, name, hash);
  if (!existsSync(directory)) {
    await removeOld(dirname(directory));
    const unfinished = `${directory}.${process.pid}`;
    await script('build-apt-repo.ts', '--output', unfinished, file);
    await rename(unfinished, directory).catch(() => rm(unfinished, { recursive: true }));
  }
  return { directory, hash };
}

/** An lbd of an earlier day: before virtual addresses, gossip and `lbd-cleanup.service`, and with another `/etc/lbd.toml`. */
export const OLDER = { commit: 'be684b1fb180c54a879a90a3837e7b4d75a7e1bf', version: '0.0.9' } as const;

/** Why the older lbd cannot be built, or false: a clone may come without the history. */
export function olderObstacle(): string | false {
  const { status } = spawnSync('git', ['cat-file', '-e', `${OLDER.commit}^{commit}`], { cwd: ROOT });
  return status === 0
    ? false
    : `git knows no commit ${OLDER.commit.slice(0, 12)} here: a clone without history?`;
}

/** A signed repository with the older lbd, built from the history by the scripts of that day; kept by its commit. */
export async function buildOlderRepository(): Promise<Repository> {
  const name = `older-${OLDER.commit.slice(0, 12)}`;
  const kept = join(ROOT, '.cache/vm', `${name}.deb`);
  if (!existsSync(kept)) {
    const tree = await mkdtemp(join(tmpdir(), `lbd-${name}-`));
    try {
      await rename(await buildInside(tree), kept);
    } finally {
      await rm(tree, { recursive: true });
    }
  }
  return repositoryWith(kept, name);
}

/** Puts the older tree into a directory and builds its package there; resolves with the package's path. */
async function buildInside(tree: string): Promise<string> {
  const { commit, version } = OLDER;
  const [date = ''] = (await shell(`git log -1 --format=%ct ${commit}`)).split('\n');
  await shell(
    `git archive ${commit} | tar -x -C ${tree} && ln -s "$(realpath node_modules)" ${tree}/node_modules`,
  );
  const env = { ...process.env, LBD_COMMIT: commit.slice(0, 12), SOURCE_DATE_EPOCH: date };
  const pack = `scripts/build-deb.ts --version ${version} --output ${tree} ${PACKED_QUICKLY.join(' ')}`;
  for (const step of ['scripts/build-native.mjs', 'scripts/build-sea.mjs', pack])
    await promisify(execFile)('bash', ['-c', `nice -n 10 '${process.execPath}' ${step}`], { cwd: tree, env });
  // Between file systems nothing can be renamed.
  const beside = join(ROOT, '.cache/vm', `.${basename(tree)}`);
  await shell(`mkdir -p .cache/vm && cp ${tree}/lbd_${version}_*.deb ${beside}`);
  return beside;
}

async function shell(command: string): Promise<string> {
  return (await promisify(execFile)('bash', ['-o', 'pipefail', '-c', command], { cwd: ROOT })).stdout;
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
