import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { dropInDirectory, loadConfig } from '../../../src/config/io/load.ts';
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

test('dropInDirectory() is named after the file', () => {
  assert.equal(dropInDirectory('/etc/lbd.toml'), '/etc/lbd.d');
  assert.equal(dropInDirectory('./edge.conf'), './edge.conf.d');
});

test('loadConfig() merges drop-ins in the order of their names, and its digest covers them', () => {
  const file = write('main.toml', POOL);
  const alone = loadConfig(file);
  mkdirSync(join(directory, 'main.d'));
  const none = loadConfig(file);
  write('main.d/20-b.toml', '[log]\nlevel = "warn"\n');
  const one = loadConfig(file);
  write('main.d/100-a.toml', '[log]\nlevel = "debug"\n[local]\ninterfaces = ["eth9"]\n');
  write('main.d/30-c.toml~', 'no TOML\n');
  write('main.d/.hidden.toml', 'no TOML\n');
  const two = loadConfig(file);
  assert.ok(alone.ok && none.ok && one.ok && two.ok);
  assert.equal(two.value.config.log.level, 'warn');
  assert.deepEqual(two.value.config.local.interfaces, ['eth9']);
  assert.equal(two.value.config.host.name, 'edge');
  assert.deepEqual(two.value.files, [
    file,
    `${directory}/main.d/100-a.toml`,
    `${directory}/main.d/20-b.toml`,
  ]);
  assert.equal(none.value.digest, alone.value.digest);
  assert.equal(new Set([alone, one, two].map((loaded) => loaded.value.digest)).size, 3);
  // A name is part of it, because names make the order.
  rmSync(join(directory, 'main.d/20-b.toml'));
  write('main.d/10-b.toml', '[log]\nlevel = "warn"\n');
  const renamed = loadConfig(file);
  assert.ok(renamed.ok);
  assert.notEqual(renamed.value.digest, two.value.digest);
});

test('loadConfig() refuses the whole when a drop-in is wrong, and names it', () => {
  const file = write('parts.toml', POOL);
  mkdirSync(join(directory, 'parts.d'));
  const bad = write('parts.d/50.toml', '[log]\nlevel = 1\n');
  assert.match(refusal(file).join('\n'), new RegExp(`^${bad}:2: log.level: expected .*, got 1$`));
  mkdirSync(join(directory, 'parts.d/60.toml'));
  assert.deepEqual(refusal(file), [`${directory}/parts.d/60.toml: expected a file, got a directory`]);
});

test('loadConfig() refuses a drop-in directory that is none', () => {
  const file = write('odd.toml', POOL);
  write('odd.d', '');
  assert.deepEqual(refusal(file), [`${directory}/odd.d: expected a directory of drop-ins, got a file`]);
});
