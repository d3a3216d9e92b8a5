import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LbdError } from '../../../src/lib/errors.ts';

/** What machines boot: Debian's cloud kernel and a minimal root, built once and kept by what they are made from. */

export type Suite = 'bookworm' | 'trixie';

export type Image = {
  readonly kernel: string;
  readonly initrd: string;
  readonly disk: string;
  /** Disk and memory of a machine that has booted; it may not be there yet. */
  readonly booted: string;
};

const SUPPORT = fileURLToPath(new URL('.', import.meta.url));
const CACHE = fileURLToPath(new URL('../../../.cache/vm', import.meta.url));

/** The image of a suite, from the cache or built now (about a minute). Throws with the builder's output. */
export async function imageOf(suite: Suite): Promise<Image> {
  const directory = join(CACHE, `${suite}-${recipeHash()}`);
  if (!existsSync(directory)) {
    await build(suite, directory);
    await removeOthers(suite, directory);
  }
  return {
    kernel: join(directory, 'kernel'),
    initrd: join(directory, 'initrd'),
    disk: join(directory, 'disk'),
    booted: join(directory, 'booted'),
  };
}

function recipeHash(): string {
  const hash = createHash('sha256');
  for (const file of ['build-image.sh', 'init', ...globSync('root/**/*', { cwd: SUPPORT }).sort()]) {
    const path = join(SUPPORT, file);
    if (existsSync(path) && !file.endsWith('/')) hash.update(`${file}\n`).update(contentOf(path));
  }
  return hash.digest('hex').slice(0, 12);
}

function contentOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EISDIR') return Buffer.alloc(0);
    throw error;
  }
}

/** Built beside and renamed, so that two test files at once, or a build that is killed, leave no half image. */
async function build(suite: Suite, directory: string): Promise<void> {
  const unfinished = `${directory}.${process.pid}`;
  await mkdir(unfinished, { recursive: true });
  const builder = spawn('nice', ['-n', '10', join(SUPPORT, 'build-image.sh'), suite, unfinished], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [builder.stdout, builder.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const [code] = await once(builder, 'close');
  if (code !== 0) {
    await rm(unfinished, { recursive: true, force: true });
    throw new LbdError('vm.image', `build-image.sh ${suite} failed (${code}): ${output.slice(-2_000)}`);
  }
  if (existsSync(directory)) await rm(unfinished, { recursive: true });
  else await rename(unfinished, directory);
}

async function removeOthers(suite: Suite, kept: string): Promise<void> {
  for (const name of await readdir(CACHE)) {
    const path = join(CACHE, name);
    const isFinished = name.startsWith(`${suite}-`) && !name.includes('.');
    if (isFinished && path !== kept) await rm(path, { recursive: true, force: true });
  }
}
