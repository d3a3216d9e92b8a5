import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { fail, ok, type Result } from '../../lib/result.ts';
import { type ConfigText, parseConfigFiles } from '../parse.ts';
import type { ConfigListing, ConfigProblem, LoadedConfig } from '../types.ts';

/** Some thousand times a large configuration: what is bigger is another file. */
const MAX_CONFIG_BYTES = 1 << 20;
/** A directory with more files than this is not one that a person keeps. */
const MAX_DROP_INS = 100;

export type LoadedFile = LoadedConfig & {
  /**
   * The first 12 hexadecimal digits of the SHA-256 of the file, and of the names and contents of its drop-ins if it has
   * any: tells whether two hosts run the same configuration.
   */
  readonly digest: string;
  /** The main file, then its drop-ins in the order in which they apply. */
  readonly files: readonly string[];
};

/** The directory whose `*.toml` files are merged over `file` in the order of their names: /etc/lbd.d of /etc/lbd.toml. */
export function dropInDirectory(file: string): string {
  return `${file.replace(/\.toml$/, '')}.d`;
}

/**
 * Reads and checks a configuration: a file and its drop-ins. Whatever stands in the way is a problem in the result;
 * nothing is thrown.
 */
export function loadConfig(file: string): Result<LoadedFile, readonly ConfigProblem[]> {
  const dropIns = listDropIns(dropInDirectory(file));
  const files = [file, ...(dropIns.ok ? dropIns.value : [])];
  const read = files.map((name) => ({ file: name, content: readText(name) }));
  const unread = read.flatMap(({ file: name, content }) =>
    content.ok ? [] : [fileProblem(name, content.error)],
  );
  if (!dropIns.ok) unread.push(fileProblem(dropInDirectory(file), dropIns.error));
  if (unread.length > 0) return fail(unread);
  const contents = read.flatMap(({ file: name, content }) =>
    content.ok ? [{ file: name, ...content.value }] : [],
  );
  const parsed = parseConfigFiles(contents, { hostName: hostname() });
  if (!parsed.ok) return parsed;
  return ok({ ...parsed.value, digest: digestOf(contents), files });
}

/** What a loaded configuration comes to, for whoever shows it. */
export function listConfig(loaded: LoadedFile): ConfigListing {
  const { files, digest } = loaded;
  return { version: 1, files, digest, values: loaded.values(), waiting: [] };
}

function listDropIns(directory: string): Result<readonly string[], string> {
  let names: readonly string[];
  try {
    names = readdirSync(directory);
  } catch (thrown) {
    const error = thrown as NodeJS.ErrnoException;
    if (error.code === 'ENOENT') return ok([]);
    if (error.code === 'ENOTDIR') return fail('expected a directory of drop-ins, got a file');
    return fail(describeError(error));
  }
  // In the order of their characters, so that every host and locale has the same.
  const chosen = names.filter((name) => name.endsWith('.toml') && !name.startsWith('.')).sort();
  if (chosen.length > MAX_DROP_INS) {
    return fail(`expected at most ${MAX_DROP_INS} drop-ins, got ${chosen.length}`);
  }
  return ok(chosen.map((name) => join(directory, name)));
}

type Content = ConfigText & { readonly bytes: Uint8Array };

function digestOf([main, ...dropIns]: readonly Content[]): string {
  const hash = createHash('sha256').update(main?.bytes ?? '');
  for (const { file, bytes } of dropIns) {
    hash.update(`\0${basename(file)}\0${bytes.length}\0`).update(bytes);
  }
  return hash.digest('hex').slice(0, 12);
}

function readText(file: string): Result<{ readonly text: string; readonly bytes: Uint8Array }, string> {
  const bytes = readBounded(file);
  if (!bytes.ok) return bytes;
  const text = decode(bytes.value);
  if (text !== undefined) return ok({ text, bytes: bytes.value });
  return fail('expected UTF-8 text, as TOML demands, got other bytes; save it as UTF-8');
}

function fileProblem(file: string, message: string): ConfigProblem {
  return { severity: 'error', file, line: undefined, key: '', message };
}

function readBounded(file: string): Result<Uint8Array, string> {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = fstatSync(descriptor);
    if (!stats.isFile())
      return fail(`expected a file, got ${stats.isDirectory() ? 'a directory' : 'something else'}`);
    const bytes = stats.size > MAX_CONFIG_BYTES ? undefined : readFileSync(descriptor);
    if (bytes !== undefined && bytes.length <= MAX_CONFIG_BYTES) return ok(bytes);
    return fail(
      `expected a configuration of at most ${MAX_CONFIG_BYTES} bytes, got ${bytes?.length ?? stats.size}`,
    );
  } catch (thrown) {
    return fail(describeError(thrown as NodeJS.ErrnoException));
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function describeError(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ENOENT':
      return 'expected a configuration file, got none (ENOENT); start from lbd.toml.example or name another one';
    case 'EACCES':
      return 'expected a file that this user may read, got EACCES; run as root or correct its permissions';
    default:
      return `expected a readable file, got ${error.code ?? error.message}`;
  }
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
