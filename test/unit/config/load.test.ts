import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadConfig } from '../../../src/config/io/load.ts';
import { formatProblem } from '../../../src/config/problem.ts';

const directory = mkdtempSync(join(tmpdir(), 'lbd-config-'));
after(() => rmSync(directory, { recursive: true }));

function write(name: string, content: string | Uint8Array): string {
  const file = join(directory, name);
  writeFileSync(file, content);
  return file;
}

function refusal(file: string): readonly string[] {
  const loaded = loadConfig(file);
  assert.ok(!loaded.ok);
  return loaded.error.map(formatProblem);
}

const POOL = '[[pool]]\nname = "a"\naddresses = ["192.0.2.0/24"]\n[host]\nname = "edge"\n';

test('loadConfig() gives the configuration and the start of the SHA-256 of its file', () => {
  const loaded = loadConfig(write('good.toml', POOL));
  assert.ok(loaded.ok);
  assert.equal(loaded.value.config.host.name, 'edge');
  assert.match(loaded.value.digest, /^[0-9a-f]{12}$/);
  const empty = loadConfig(write('empty.toml', ''));
  assert.ok(empty.ok);
  assert.equal(empty.value.digest, 'e3b0c44298fc');
});

test('loadConfig() says how to go on when there is no file', () => {
  const file = join(directory, 'none.toml');
  assert.deepEqual(refusal(file), [
    `${file}: expected a configuration file, got none (ENOENT); start from lbd.toml.example or name another one`,
  ]);
});

test('loadConfig() refuses what is no regular file, and waits for nobody to write into a pipe', () => {
  assert.deepEqual(refusal(directory), [`${directory}: expected a file, got a directory`]);
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', [pipe]);
  assert.deepEqual(refusal(pipe), [`${pipe}: expected a file, got something else`]);
});

test('loadConfig() refuses a file beyond 1 MiB without reading it', () => {
  const file = write('large.toml', `# ${'x'.repeat(1 << 20)}`);
  assert.deepEqual(refusal(file), [
    `${file}: expected a configuration of at most 1048576 bytes, got ${(1 << 20) + 2}`,
  ]);
});

test('loadConfig() refuses what is not UTF-8', () => {
  const file = write('latin1.toml', Buffer.from('# caf\xe9\n', 'latin1'));
  assert.deepEqual(refusal(file), [
    `${file}: expected UTF-8 text, as TOML demands, got other bytes; save it as UTF-8`,
  ]);
});

test('loadConfig() says what to do about a file that this user may not read', () => {
  const file = write('secret.toml', POOL);
  chmodSync(directory, 0o755);
  chmodSync(file, 0);
  assert.deepEqual(
    asNobody(() => refusal(file)),
    [`${file}: expected a file that this user may read, got EACCES; run as root or correct its permissions`],
  );
});

/** Root may read everything; so a test that runs as root becomes nobody for the moment. */
function asNobody<Value>(action: () => Value): Value {
  if (process.geteuid?.() !== 0) return action();
  process.seteuid?.(65_534);
  try {
    return action();
  } finally {
    process.seteuid?.(0);
  }
}

test('loadConfig() names the file in every problem of its content', () => {
  const file = write('bad.toml', '[hots]\n');
  assert.deepEqual(refusal(file), [
    `${file}:1: hots: expected a known key, got "hots"; did you mean "host"?`,
  ]);
});
