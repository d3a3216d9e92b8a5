import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lbctl } from '../../../src/cli/lbctl.ts';
import { fakeDaemon, temporaryDirectory } from './support/fake-daemon.ts';
import { ip, statusDocument } from './support/status-document.ts';
import { testIo } from './support/test-io.ts';

const ADDRESS = {
  ip: ip('192.0.2.10'),
  services: ['a/web'],
  state: 'held',
  interface: 'eth0',
  prefixLength: 32,
  lifetimeLeftMs: 28_000,
  heldSinceMs: 60_000,
  kind: 'local',
  announcements: 3,
  unsentFrames: 0,
  repairs: 0,
  reason: undefined,
} as const;

test('lbctl status shows what the daemon on the socket says', async (context) => {
  const socket = await fakeDaemon(context, statusDocument());
  const io = testIo();
  assert.equal(await lbctl(['--socket', socket, 'status'], io), 0);
  assert.match(io.stdout(), /^edge-1: ok, no Services\n/);
  assert.equal(io.stderr(), '');
});

test('lbctl status takes the socket from the environment', async (context) => {
  const socket = await fakeDaemon(context, statusDocument());
  const io = testIo({ env: { LBD_SOCKET: socket } });
  assert.equal(await lbctl(['status'], io), 0);
});

test('lbctl status uses colours when the terminal has them', async (context) => {
  const socket = await fakeDaemon(context, statusDocument());
  const io = testIo({ env: { LBD_SOCKET: socket }, colour: true });
  await lbctl(['status'], io);
  assert.ok(io.stdout().includes('\u001b[32mok\u001b[39m'));
});

test('lbctl status --json gives the whole document, also of a version that lbctl does not know', async (context) => {
  const document = { ...statusDocument(), version: 7, news: true };
  const socket = await fakeDaemon(context, document);
  const io = testIo();
  assert.equal(await lbctl(['-s', socket, 'status', '--json'], io), 0);
  assert.deepEqual(JSON.parse(io.stdout()), JSON.parse(JSON.stringify(document)));
});

test('lbctl addresses shows them as a table and as JSON', async (context) => {
  const socket = await fakeDaemon(context, statusDocument({ addresses: [ADDRESS] }));
  const [table, json] = [testIo(), testIo()];
  assert.equal(await lbctl(['-s', socket, 'addresses'], table), 0);
  assert.match(
    table.stdout(),
    /^192\.0\.2\.10\/32 +IPv4 +local +announced +eth0 +1m +28s +3 +no pool +a\/web$/m,
  );
  assert.equal(await lbctl(['-s', socket, 'addresses', '--json'], json), 0);
  assert.deepEqual(JSON.parse(json.stdout()), [{ ...JSON.parse(JSON.stringify(ADDRESS)), family: 'v4' }]);
});

test('lbctl version shows both ends', async (context) => {
  const socket = await fakeDaemon(context, statusDocument());
  const [text, json] = [testIo(), testIo()];
  assert.equal(await lbctl(['-s', socket, 'version'], text), 0);
  assert.match(
    text.stdout(),
    /^lbctl {2}0\.1\.0-dev \(source\), Node v\d+.*\nlbd {4}0\.1\.0 \(abc1234\), Node v26\.10\.0\n$/,
  );
  assert.equal(await lbctl(['-s', socket, 'version', '--json'], json), 0);
  assert.deepEqual(JSON.parse(json.stdout()).lbd, statusDocument().lbd);
});

test('lbctl version works without a daemon', async () => {
  const [text, json] = [testIo(), testIo()];
  assert.equal(await lbctl(['-s', '/nonexistent/lbd.sock', 'version'], text), 0);
  assert.match(
    text.stdout(),
    /^lbctl .*\nlbd {4}no socket \/nonexistent\/lbd\.sock: lbd is not running here/,
  );
  assert.equal(await lbctl(['-s', '/nonexistent/lbd.sock', 'version', '--json'], json), 0);
  assert.match(JSON.parse(json.stdout()).lbd.error, /^no socket/);
});

test('lbctl fails with status 1 and one line when the daemon is not there', async () => {
  for (const command of [['status'], ['status', '--json'], ['addresses']]) {
    const io = testIo();
    assert.equal(await lbctl(['-s', '/nonexistent/lbd.sock', ...command], io), 1);
    assert.equal(io.stdout(), '');
    assert.match(io.stderr(), /^lbctl: no socket \/nonexistent\/lbd\.sock: [^\n]*\n$/);
  }
});

test('lbctl config check accepts and refuses as the daemon would', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  writeFileSync(file, '[hots]\n');
  const refused = testIo();
  assert.equal(await lbctl(['config', 'check', file], refused), 1);
  assert.equal(
    refused.stderr(),
    `${file}:1: hots: expected a known key, got "hots"; did you mean "host"?\n${file}: refused: 1 error\n`,
  );
  writeFileSync(file, '');
  assert.equal(await lbctl(['config', 'check', file], testIo()), 0);
});

test('lbctl ends with status 2 and a hint when it is called wrongly', async () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /^Usage: lbctl /],
    [['statu'], /unknown command 'statu'\n\(Did you mean status\?\)\n\(lbctl --help/],
    [['status', '--jsn'], /unknown option '--jsn'/],
    [['status', 'extra'], /too many arguments/],
    [['config'], /^Usage: lbctl config /],
    [['--socket'], /argument missing/],
  ];
  for (const [args, message] of cases) {
    const io = testIo();
    assert.equal(await lbctl(args, io), 2, args.join(' '));
    assert.match(io.stderr(), message);
    assert.equal(io.stdout(), '');
  }
});

test('lbctl --help and --version are answers, not errors', async () => {
  const [help, version] = [testIo(), testIo()];
  assert.equal(await lbctl(['--help'], help), 0);
  for (const command of ['status', 'addresses', 'version', 'config'])
    assert.match(help.stdout(), new RegExp(`^  ${command}`, 'm'));
  assert.equal(await lbctl(['--version'], version), 0);
  assert.equal(version.stdout(), '0.1.0-dev\n');
});
