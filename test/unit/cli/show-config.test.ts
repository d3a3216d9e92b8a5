import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lbctl } from '../../../src/cli/lbctl.ts';
import { lbd } from '../../../src/cli/lbd.ts';
import { listConfig, loadConfig } from '../../../src/config/io/load.ts';
import { fakeDaemon, listen, temporaryDirectory } from './support/fake-daemon.ts';
import { testIo } from './support/test-io.ts';

function writeConfig(directory: string): string {
  const file = join(directory, 'lbd.toml');
  writeFileSync(file, '[host]\nname = "edge-1"\n[[pool]]\nname = "a"\naddresses = ["192.0.2.0/24"]\n');
  mkdirSync(join(directory, 'lbd.d'));
  writeFileSync(join(directory, 'lbd.d/10-log.toml'), '[log]\nlevel = "debug"\n');
  return file;
}

test('lbd config show and lbctl config show --file print the same of a file, drop-ins included', async (context) => {
  const directory = temporaryDirectory(context);
  const file = writeConfig(directory);
  const [own, other] = [testIo(), testIo()];
  assert.equal(await lbd(['config', 'show', file], own), 0);
  assert.equal(await lbctl(['config', 'show', '--file', file], other), 0);
  assert.equal(other.stdout(), own.stdout());
  assert.match(own.stdout(), new RegExp(`^level = "debug" {2}# ${directory}/lbd.d/10-log.toml:2$`, 'm'));
  assert.match(own.stdout(), new RegExp(`^name = "edge-1" {2}# ${file}:2$`, 'm'));
  assert.match(own.stdout(), /^prefix = "host" +# default$/m);
});

test('lbd config show refuses what lbd would refuse', async (context) => {
  const directory = temporaryDirectory(context);
  const file = writeConfig(directory);
  writeFileSync(join(directory, 'lbd.d/20-bad.toml'), '[log]\nlevel = 1\n');
  const io = testIo();
  assert.equal(await lbd(['config', 'show', file], io), 1);
  assert.equal(io.stdout(), '');
  assert.match(io.stderr(), /\/lbd\.d\/20-bad\.toml:2: log\.level: expected .*, got 1\n$/);
});

test('lbctl config show prints what the daemon runs with', async (context) => {
  const loaded = loadConfig(writeConfig(temporaryDirectory(context)));
  assert.ok(loaded.ok);
  const listing = listConfig(loaded.value);
  const socket = await listen(context, (request, response) => {
    assert.equal(request.url, '/v1/config');
    response.end(JSON.stringify(listing));
  });
  const [text, json] = [testIo(), testIo()];
  assert.equal(await lbctl(['--socket', socket, 'config', 'show'], text), 0);
  assert.match(text.stdout(), /^level = "debug" {2}# .*10-log.toml:2$/m);
  assert.equal(await lbctl(['--socket', socket, 'config', 'show', '--json'], json), 0);
  assert.deepEqual(JSON.parse(json.stdout()), JSON.parse(JSON.stringify(listing)));
});

test('lbctl config show says so when what answers is an lbd without it', async (context) => {
  const socket = await fakeDaemon(context, {});
  const io = testIo();
  assert.equal(await lbctl(['--socket', socket, 'config', 'show'], io), 1);
  assert.match(io.stderr(), /^lbctl: cannot ask lbd on .*: HTTP 404: no such document/);
});
