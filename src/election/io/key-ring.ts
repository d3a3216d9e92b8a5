import { createHash, randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { LbdError } from '../../lib/errors.ts';
import { fail, ok, type Result } from '../../lib/result.ts';

/**
 * The file of keys that the members of a cluster share: one key a line, 32 bytes in base64, the first seals and every one
 * opens. White space and what follows a `#` do not count.
 */

export type GossipKey = {
  /** The first eight hex digits of the SHA-256 of the key: names it without telling it. */
  readonly id: string;
  readonly secret: Buffer;
};

export const KEY_BYTES = 32;
/** A rotation has two; who needs more than these forgot to remove some. */
export const MAX_KEYS = 8;
const MAX_FILE_BYTES = 4_096;
/** Nobody but the owner may write, and others not even read. */
const FORBIDDEN_MODE = 0o027;

export function newKey(): GossipKey {
  return keyOf(randomBytes(KEY_BYTES));
}

function keyOf(secret: Buffer): GossipKey {
  return { id: createHash('sha256').update(secret).digest('hex').slice(0, 8), secret };
}

export function keyText(key: GossipKey): string {
  return key.secret.toString('base64');
}

/** The keys of a file in their order, or what is wrong with which line; a key itself is never told. */
export function parseKeys(text: string): Result<readonly GossipKey[], string> {
  const keys: GossipKey[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const content = line.replace(/#.*/, '').trim();
    if (content === '') continue;
    const secret = Buffer.from(content, 'base64');
    // Node skips what is not base64; a key must be exactly what was written.
    if (secret.length !== KEY_BYTES || secret.toString('base64') !== content) {
      return fail(
        `line ${index + 1}: expected a key of ${KEY_BYTES} bytes in base64, got ${content.length} characters that are none`,
      );
    }
    const key = keyOf(secret);
    if (keys.some(({ id }) => id === key.id)) {
      return fail(`line ${index + 1}: expected each key once, got ${key.id} again`);
    }
    keys.push(key);
  }
  if (keys.length === 0) return fail('expected at least one key, got none; make one by "lbctl keygen"');
  if (keys.length > MAX_KEYS) return fail(`expected at most ${MAX_KEYS} keys, got ${keys.length}`);
  return ok(keys);
}

/** Reads and checks the file of keys. Throws an LbdError `gossip.bad-keys` that says what was expected. */
export function loadKeys(file: string): readonly GossipKey[] {
  const parsed = parseKeys(readChecked(file));
  if (!parsed.ok) throw badKeys(file, parsed.error);
  return parsed.value;
}

function readChecked(file: string): string {
  let descriptor: number | undefined;
  try {
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const { mode, size } = fstatSync(descriptor);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw badKeys(file, 'expected a file');
    if ((mode & FORBIDDEN_MODE) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, '0');
      throw badKeys(
        file,
        `expected a file that only its owner can write and others cannot read (mode 0640 or 0600), got mode ${shown}; ` +
          `correct it by "chmod 0640 ${file}", and make new keys if others could read these`,
      );
    }
    if (size > MAX_FILE_BYTES)
      throw badKeys(file, `expected at most ${MAX_FILE_BYTES} bytes of keys, got ${size}`);
    return readFileSync(descriptor, 'utf8');
  } catch (thrown) {
    if (thrown instanceof LbdError) throw thrown;
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      throw badKeys(file, 'expected a file of keys, got none (ENOENT); make one by "lbctl keygen --out"');
    }
    if (code === 'EACCES') {
      throw badKeys(
        file,
        `expected a file that this user may read, got EACCES; it belongs to root:lbd with mode 0640`,
      );
    }
    throw badKeys(file, `expected a readable file, got ${code ?? message}`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function badKeys(file: string, message: string): LbdError {
  return new LbdError('gossip.bad-keys', `${file}: ${message}`, { fields: { file } });
}
