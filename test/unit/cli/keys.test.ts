import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { lbctl } from '../../../src/cli/lbctl.ts';
import { loadKeys } from '../../../src/election/io/key-ring.ts';
import { testIo } from './support/test-io.ts';

const directory = mkdtempSync(join(tmpdir(), 'lbd-cli-keys-'));
after(() => rmSync(directory, { recursive: true }));

let files = 0;

function newFile(): string {
  return join(directory, `keys-${files++}`);
}

type Ran = { readonly status: number; readonly out: string; readonly err: string };

async function run(...args: readonly string[]): Promise<Ran> {
  const io = testIo();
  const status = await lbctl(args, io);
  return { status, out: io.stdout(), err: io.stderr() };
}

async function done(...args: readonly string[]): Promise<string> {
  const ran = await run(...args);
  assert.equal(ran.status, 0, ran.err);
  return ran.out;
}

async function refused(...args: readonly string[]): Promise<string> {
  const ran = await run(...args);
  assert.equal(ran.status, 1, ran.out);
  return ran.err;
}

function idsOf(file: string): readonly string[] {
  return loadKeys(file).map(({ id }) => id);
}

test('lbctl keygen prints a key, another one each time', async () => {
  const [one, two] = [await done('keygen'), await done('keygen')];
  assert.match(one, /^[A-Za-z0-9+/]{43}=\n$/);
  assert.notEqual(one, two);
});

test('lbctl keygen --out writes a file that lbd takes and others cannot read, and no file twice', async () => {
  const file = newFile();
  const said = await done('keygen', '--out', file);
  const [id] = idsOf(file);
  assert.ok(said.startsWith(`${file}: key ${id} is written (mode 06`), said);
  assert.match(said, /copy it to every host and run "systemctl reload lbd" there/);
  assert.equal(statSync(file).mode & 0o007, 0);
  const before = readFileSync(file, 'utf8');
  assert.match(await refused('keygen', '--out', file), /expected no such file, got one; "lbctl keys add/);
  assert.equal(readFileSync(file, 'utf8'), before);
});

test('lbctl keys adds, uses and removes a key, each step saying what is next', async () => {
  const file = newFile();
  await done('keygen', '-o', file);
  const [old = ''] = idsOf(file);
  const added = await done('keys', 'add', file);
  const fresh = idsOf(file)[1] ?? '';
  assert.ok(added.startsWith(`${file}: key ${fresh} opens; copy it to every host`), added);
  assert.ok(added.endsWith(`, then "lbctl keys use ${fresh}"\n`), added);
  assert.deepEqual(idsOf(file), [old, fresh]);

  const used = await done('keys', 'use', fresh, file);
  assert.ok(used.endsWith(`, then "lbctl keys remove ${old}"\n`), used);
  assert.deepEqual(idsOf(file), [fresh, old]);

  await done('keys', 'remove', old, file);
  assert.deepEqual(idsOf(file), [fresh]);
});

test('lbctl keys list shows ids and never keys', async () => {
  const file = newFile();
  await done('keygen', '-o', file);
  await done('keys', 'add', file);
  const [one = '', two = ''] = idsOf(file);
  assert.equal(await done('keys', 'list', file), `KEY       USE\n${one}  seals and opens\n${two}  opens\n`);
  assert.deepEqual(JSON.parse(await done('keys', 'list', '--json', file)), [
    { id: one, seals: true },
    { id: two, seals: false },
  ]);
});

test('lbctl keys add --from takes a key made elsewhere, once', async () => {
  const [file, other] = [newFile(), newFile()];
  await done('keygen', '-o', file);
  await done('keygen', '-o', other);
  await done('keys', 'add', file, '--from', other);
  assert.deepEqual(idsOf(file).slice(1), idsOf(other));
  assert.match(await refused('keys', 'add', file, '--from', other), /expected a new key, got \w{8} again/);
  assert.match(
    await refused('keys', 'add', file, '--from', '/dev/null'),
    /\/dev\/null: expected at least one key/,
  );
  assert.match(
    await refused('keys', 'add', file, '--from', newFile()),
    /expected a file of keys, got ENOENT/,
  );
});

test('lbctl keys keeps comments, mode and a missing last newline in order', async () => {
  const file = newFile();
  const [one, two] = [(await done('keygen')).trim(), (await done('keygen')).trim()];
  writeFileSync(file, `# cluster one\n${one} # 2026\n${two}`);
  chmodSync(file, 0o640);
  const [first = '', second = ''] = idsOf(file);
  await done('keys', 'use', second, file);
  assert.equal(readFileSync(file, 'utf8'), `# cluster one\n${two}\n${one} # 2026`);
  await done('keys', 'add', file);
  assert.deepEqual(idsOf(file).slice(0, 2), [second, first]);
  assert.equal(statSync(file).mode & 0o777, 0o640);
});

test('lbctl keys refuses what would leave a gap', async () => {
  const file = newFile();
  await done('keygen', '-o', file);
  const [only = ''] = idsOf(file);
  assert.match(await refused('keys', 'remove', only, file), /expected a key that no longer seals/);
  assert.match(
    await refused('keys', 'use', '00000000', file),
    new RegExp(`expected the id of a key \\(${only}\\)`),
  );
  for (let count = 0; count < 7; count++) await done('keys', 'add', file);
  assert.match(await refused('keys', 'add', file), /expected at most 8 keys, got 9; nothing is changed/);
  assert.equal(idsOf(file).length, 8);
});

test('lbctl keys works on no file that others can read', async () => {
  const file = newFile();
  await done('keygen', '-o', file);
  chmodSync(file, 0o644);
  for (const args of [['list'], ['add']]) {
    assert.match(await refused('keys', ...args, file), /got mode 0644; correct it by "chmod 0640/);
  }
});
