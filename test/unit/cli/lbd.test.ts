import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lbd } from '../../../src/cli/lbd.ts';
import { temporaryDirectory } from './support/fake-daemon.ts';
import { testIo } from './support/test-io.ts';

test('lbd check says what a configuration means on this host', async (context) => {
  const directory = temporaryDirectory(context);
  const file = join(directory, 'lbd.toml');
  const kubeconfig = join(directory, 'kubeconfig');
  writeFileSync(file, `[kubernetes]\nkubeconfig = "${kubeconfig}"\n[local]\ninterfaces = ["no-such-nic"]\n`);
  const io = testIo();
  assert.equal(await lbd(['check', '--offline', file], io), 1);
  assert.match(io.stderr(), /: warning: expected at least one \[\[pool\]\], got none/);
  const text = io.stdout();
  assert.match(text, /^[^\n]*: valid, 1 warning \(digest [0-9a-f]{12}\)\n\nNetwork\n/);
  assert.match(text, /^ {2}WARNING: "no-such-nic" of \[local\] interfaces matches no NIC/m);
  assert.match(text, /^ {2}ERROR: kubeconfig [^\n]* cannot be read: ENOENT/m);
  assert.match(text, /\n\n\d errors?, \d warnings?\n$/);
  assert.doesNotMatch(text, /API server/);
});

test('lbd check refuses with every problem, one a line', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  writeFileSync(file, '[host]\nname = 1\n[log]\nlevel = 2\n');
  const io = testIo();
  assert.equal(await lbd(['check', file], io), 1);
  assert.equal(io.stdout(), '');
  assert.deepEqual(io.stderr().split('\n'), [
    `${file}:2: host.name: expected text in quotes, got 1`,
    `${file}:4: log.level: expected "trace" or "debug" or "info" or "warn" or "error", got 2`,
    `${file}: refused: 2 errors`,
    '',
  ]);
});

test('lbd schema prints a JSON Schema', async () => {
  const io = testIo();
  assert.equal(await lbd(['schema'], io), 0);
  assert.equal(JSON.parse(io.stdout()).$schema, 'https://json-schema.org/draft/2020-12/schema');
});

test('lbd version prints the version', async () => {
  const io = testIo();
  assert.equal(await lbd(['version'], io), 0);
  assert.match(io.stdout(), /^lbd 0\.1\.0-dev \(source\), Node v\d+\.\d+\.\d+, addon source\n$/);
});

test('lbd ends with status 2 when it is called wrongly', async () => {
  for (const args of [[], ['rnu'], ['run', '--config'], ['check', 'a', 'b']]) {
    const io = testIo();
    assert.equal(await lbd(args, io), 2, args.join(' '));
    assert.notEqual(io.stderr(), '');
  }
});
