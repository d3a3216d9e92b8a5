import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Lab } from '../../support/lab.ts';
import { documentedCommands } from './story.ts';

/** The package under test, built from this tree, in a signed repository that a host of the lab serves. */

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const DIRECTORY = 'build/vm';
const PORT = 8000;

export type Repository = {
  readonly directory: string;
  /** Of the package's bytes. */
  readonly hash: string;
};

/** What the documentation says to type on a fresh machine, `lab-server` being where the repository is. */
export const INSTALL_COMMANDS: readonly string[] = documentedCommands('apt install lbd').map((line) =>
  line.replace('https://where.it/is', `http://lab-server:${PORT}`),
);

/** A signed repository with lbd's package as `version`, built from build/lbd unless it is there already. */
export async function buildRepository(version: string): Promise<Repository> {
  const output = join(DIRECTORY, version);
  const file = await script('build-deb.ts', '--version', version, '--output', DIRECTORY);
  const directory = await script('build-apt-repo.ts', '--output', output, file);
  const hash = createHash('sha256').update(await readFile(join(ROOT, file)));
  return { directory: join(ROOT, directory), hash: hash.digest('hex').slice(0, 12) };
}

async function script(name: string, ...args: readonly string[]): Promise<string> {
  const argv = ['-n', '10', process.execPath, join('scripts', name), ...args];
  const { stdout } = await promisify(execFile)('nice', argv, { cwd: ROOT });
  return stdout.trim();
}

/** Serves a repository as `http://lab-server:8000`; a second call replaces the first one's. */
export async function serveRepository(lab: Lab, repository: Repository): Promise<() => Promise<unknown>> {
  const argv = ['busybox', 'httpd', '-f', '-p', String(PORT), '-h', repository.directory];
  const server = await lab.host('server').spawn(argv);
  return () => server.stop('SIGKILL');
}
