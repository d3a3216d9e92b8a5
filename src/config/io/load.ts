import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { fail, ok, type Result } from '../../lib/result.ts';
import { parseConfig } from '../parse.ts';
import type { ConfigProblem, LoadedConfig } from '../types.ts';

/** Some thousand times a large configuration: what is bigger is another file. */
const MAX_CONFIG_BYTES = 1 << 20;

export type LoadedFile = LoadedConfig & {
  /** The first 12 hexadecimal digits of the SHA-256 of the file: tells whether two hosts run the same configuration. */
  readonly digest: string;
};

/** Reads and checks a configuration file. Whatever stands in the way is a problem in the result; nothing is thrown. */
export function loadConfig(file: string): Result<LoadedFile, readonly ConfigProblem[]> {
  const bytes = readBounded(file);
  if (!bytes.ok) return fail([fileProblem(file, bytes.error)]);
  const text = decode(bytes.value);
  if (text === undefined) {
    return fail([
      fileProblem(file, 'expected UTF-8 text, as TOML demands, got other bytes; save it as UTF-8'),
    ]);
  }
  const parsed = parseConfig(text, file, { hostName: hostname() });
  if (!parsed.ok) return parsed;
  const digest = createHash('sha256').update(bytes.value).digest('hex').slice(0, 12);
  return ok({ ...parsed.value, digest });
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
