import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type GossipKey, keyText, loadKeys, newKey, parseKeys } from '../election/io/key-ring.ts';
import { errorText, LbdError } from '../lib/errors.ts';
import { makeDirectory } from '../sys/directory.ts';
import { groupId, OPERATORS_GROUP } from '../sys/group.ts';
import { replaceFile } from '../sys/replace-file.ts';
import type { CliIo } from './cli-io.ts';
import { plainPaint, renderTable } from './table.ts';
import { printable } from './text.ts';

/**
 * The keys of gossip as a file: `lbctl keygen` and `lbctl keys`. A key is changed in three steps, each on every host before
 * the next: add the new one, which then opens; use it, so that it seals; remove the old one.
 */

const RELOAD = 'copy it to every host and run "systemctl reload lbd" there';

/** Prints a new key, or writes it as the first of a new file. Throws LbdError when the file is there already. */
export async function generateKey(out: string | undefined, io: CliIo): Promise<void> {
  const key = newKey();
  if (out === undefined) return io.out(`${keyText(key)}\n`);
  const path = resolve(out);
  if (existsSync(path)) {
    throw new LbdError(
      'cli.keys-exist',
      `${out}: expected no such file, got one; "lbctl keys add ${out}" adds a key to it`,
    );
  }
  const gid = process.geteuid?.() === 0 ? groupId(OPERATORS_GROUP) : undefined;
  const owner = gid === undefined ? undefined : { uid: 0, gid };
  await write(path, `${keyText(key)}\n`, owner === undefined ? 0o600 : 0o640, owner);
  const how = owner === undefined ? 'mode 0600' : `mode 0640, root:${OPERATORS_GROUP}`;
  io.out(`${printable(out)}: key ${key.id} is written (${how}); ${RELOAD}\n`);
}

/** Prints the ids of the keys, never the keys. */
export function listKeys(file: string, json: boolean, io: CliIo): void {
  const keys = loadKeys(file).map(({ id }, index) => ({ id, seals: index === 0 }));
  if (json) return io.out(`${JSON.stringify(keys, undefined, 2)}\n`);
  const rows = keys.map(({ id, seals }) => [id, seals ? 'seals and opens' : 'opens']);
  io.out(`${renderTable(['KEY', 'USE'], rows, plainPaint).join('\n')}\n`);
}

/** Adds the keys of the file `from` (`-` is standard input), or a new one; they open from then on. */
export async function addKeys(file: string, from: string | undefined, io: CliIo): Promise<void> {
  const present = loadKeys(file);
  const given = from === undefined ? [newKey()] : await keysFrom(from);
  const added = given.filter(({ id }) => !present.some((key) => key.id === id));
  if (added.length === 0) {
    throw new LbdError('cli.key-known', `${file}: expected a new key, got ${idsOf(given)} again`);
  }
  const text = await readFile(file, 'utf8');
  const end = text === '' || text.endsWith('\n') ? '' : '\n';
  await rewrite(file, `${text}${end}${added.map((key) => `${keyText(key)}\n`).join('')}`);
  const [first] = added;
  say(file, `key ${idsOf(added)} opens`, `then "lbctl keys use ${first?.id}"`, io);
}

/** Puts a key first, so that it seals. */
export async function useKey(file: string, id: string, io: CliIo): Promise<void> {
  const { lines, at } = await find(file, id);
  const line = lines[at] ?? '';
  const rest = lines.toSpliced(at, 1);
  const firstKey = rest.findIndex((one) => keyIdOf(one) !== undefined);
  const [sealed] = loadKeys(file);
  await rewrite(file, rest.toSpliced(firstKey < 0 ? at : firstKey, 0, line).join('\n'));
  const next = sealed === undefined || sealed.id === id ? undefined : `then "lbctl keys remove ${sealed.id}"`;
  say(file, `key ${id} seals`, next, io);
}

/** Removes a key that no longer seals. */
export async function removeKey(file: string, id: string, io: CliIo): Promise<void> {
  const { lines, at } = await find(file, id);
  const [sealing] = loadKeys(file);
  if (sealing?.id === id) {
    throw new LbdError(
      'cli.key-in-use',
      `${file}: expected a key that no longer seals, got ${id}, which does; run "lbctl keys use" with another one first`,
    );
  }
  await rewrite(file, lines.toSpliced(at, 1).join('\n'));
  say(file, `key ${id} is removed`, undefined, io);
}

async function keysFrom(from: string): Promise<readonly GossipKey[]> {
  const parsed = parseKeys(from === '-' ? await readStandardInput() : await readNamed(from));
  if (!parsed.ok) throw new LbdError('gossip.bad-keys', `${from}: ${parsed.error}`);
  return parsed.value;
}

async function readNamed(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new LbdError('cli.read-failed', `${file}: expected a file of keys, got ${errorText(error)}`);
  }
}

async function readStandardInput(): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of process.stdin) parts.push(part as Buffer);
  return Buffer.concat(parts).toString('utf8');
}

/** The lines of the file, and which of them has the key; comments stay where they are. */
async function find(file: string, id: string): Promise<{ readonly lines: string[]; readonly at: number }> {
  const keys = loadKeys(file);
  const lines = (await readFile(file, 'utf8')).split('\n');
  const at = lines.findIndex((line) => keyIdOf(line) === id);
  if (at >= 0) return { lines, at };
  throw new LbdError(
    'cli.key-unknown',
    `${file}: expected the id of a key (${idsOf(keys)}), got ${JSON.stringify(id)}`,
  );
}

function keyIdOf(line: string): string | undefined {
  const parsed = parseKeys(line);
  return parsed.ok ? parsed.value[0]?.id : undefined;
}

function idsOf(keys: readonly GossipKey[]): string {
  return keys.map(({ id }) => id).join(', ');
}

function say(file: string, done: string, next: string | undefined, io: CliIo): void {
  io.out(`${printable(file)}: ${done}; ${RELOAD}${next === undefined ? '' : `, ${next}`}\n`);
}

/** With the mode and owner that the file has. What it would become is checked before. */
async function rewrite(file: string, text: string): Promise<void> {
  const parsed = parseKeys(text);
  if (!parsed.ok) throw new LbdError('gossip.bad-keys', `${file}: ${parsed.error}; nothing is changed`);
  const { mode, uid, gid } = statSync(file);
  const isOwn = process.geteuid?.() === 0;
  await write(resolve(file), text, mode & 0o777, isOwn ? { uid, gid } : undefined);
}

async function write(
  path: string,
  text: string,
  mode: number,
  owner: { readonly uid: number; readonly gid: number } | undefined,
): Promise<void> {
  try {
    makeDirectory(dirname(path));
    await replaceFile(path, text, mode, owner);
  } catch (error) {
    throw new LbdError('cli.write-failed', `cannot write ${path}: ${errorText(error)}`, { cause: error });
  }
}
