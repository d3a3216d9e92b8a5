import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
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
/** The exit status of build-image.sh when it gets no packages. */
const NO_PACKAGES = 75;
const REMOVED_AFTER_MS = 24 * 3_600_000;
const CACHE = fileURLToPath(new URL('../../../.cache/vm', import.meta.url));

/** Why there is no image of a suite and none can be made, for want of Debian's packages; false when there is one now. */
export async function imageObstacle(suite: Suite): Promise<string | false> {
  try {
    await imageOf(suite);
    return false;
  } catch (error) {
    if (!(error instanceof LbdError && error.code === 'vm.no-packages')) throw error;
    return error.message;
  }
}

/** The image of a suite, from the cache or built now (half a minute). Throws with the builder's output. */
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
    booted: join(directory, `booted.${machineHash()}`),
  };
}

/** Memory fits into the QEMU that saved it, started in the same way, and into no other. */
function machineHash(): string {
  const version = execFileSync('qemu-system-x86_64', ['--version']);
  const hash = createHash('sha256')
    .update(version)
    .update(readFileSync(join(SUPPORT, 'machine.ts')));
  return hash.digest('hex').slice(0, 12);
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
    if (code === NO_PACKAGES) throw new LbdError('vm.no-packages', noPackages(suite, output));
    throw new LbdError('vm.image', `build-image.sh ${suite} failed (${code}): ${output.slice(-2_000)}`);
  }
  if (existsSync(directory)) await rm(unfinished, { recursive: true });
  else await rename(unfinished, directory);
}

function noPackages(suite: Suite, output: string): string {
  const errors = output.split('\n').filter((line) => /^E: /.test(line));
  return `mmdebstrap cannot make a Debian ${suite} here: ${errors[0] ?? output.slice(-200)}`;
}

/** Those of older recipes; a test that runs still may have begun with one of today. */
async function removeOthers(suite: Suite, kept: string): Promise<void> {
  for (const name of await readdir(CACHE)) {
    const path = join(CACHE, name);
    const isOther = name.startsWith(`${suite}-`) && path !== kept;
    if (isOther && Date.now() - (await stat(path)).mtimeMs > REMOVED_AFTER_MS)
      await rm(path, { recursive: true, force: true });
  }
}
