/** The single executable as it is shipped: build/lbd and build/lbctl, which `make test` builds first. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

const BUILD = join(import.meta.dirname, '../../build');
const LBD = join(BUILD, 'lbd');
const LBCTL = join(BUILD, 'lbctl');

const needsRoot = process.getuid?.() === 0 ? false : 'needs root, to make network and mount namespaces';

type Ran = { readonly status: number | null; readonly out: string; readonly err: string };

function ran(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ...env },
    timeout: 30_000,
  });
  assert.equal(error, undefined);
  return { status, out: stdout, err: stderr };
}

/** `lbd cleanup` in a network namespace of its own: the shortest way through the native addon. */
function ranCleanup(executable: string, env: Readonly<Record<string, string>> = {}): Ran {
  return ran('unshare', ['--net', executable, 'cleanup'], env);
}

function temporaryDirectory(context: TestContext): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'lbd-binary-')));
  context.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('lbd version prints the version, the commit, Node and the hash of the addon, and V8 takes its code cache', () => {
  const { status, out, err } = ran(LBD, ['version']);
  assert.equal(status, 0);
  const addon = readFileSync(join(BUILD, 'native/lbd_sys.sha256'), 'utf8').slice(0, 12);
  assert.match(
    out,
    new RegExp(`^lbd 0\\.1\\.0 \\((?:[0-9a-f]{12}|unknown)\\), Node v26\\.[0-9.]+, addon ${addon}\n$`),
  );
  // Node warns of a code cache that V8 refuses, as it does when flags differ from those of the build.
  assert.equal(err, '');
});

test('lbctl version says which it is, also when it finds no daemon', () => {
  const { out } = ran(LBCTL, ['version', '--socket', '/nonexistent/lbd.sock']);
  assert.match(out, /^lbctl +0\.1\.0 \((?:[0-9a-f]{12}|unknown)\), Node v26\./);
});

test('the name it is called by decides, also through a link elsewhere', (context) => {
  const directory = temporaryDirectory(context);
  const link = join(directory, 'lbctl-next');
  symlinkSync(LBD, link);
  assert.match(ran(link, ['--help']).out, /^Usage: lbctl /m);
  const stranger = join(directory, 'something');
  symlinkSync(LBD, stranger);
  assert.match(ran(stranger, ['--help']).err, /expected to be called as lbd or lbctl/);
});

test('NODE_OPTIONS of the caller changes nothing', () => {
  const { status, err } = ran(LBD, ['version'], { NODE_OPTIONS: '--require /nonexistent/evil.js' });
  assert.deepEqual({ status, err }, { status: 0, err: '' });
});

test('the native addon is loaded from inside the executable and leaves nothing behind', {
  skip: needsRoot,
}, (context) => {
  const directory = temporaryDirectory(context);
  const { status, out, err } = ranCleanup(LBD, { LBD_NATIVE_DIR: directory });
  assert.deepEqual({ status, out, err }, { status: 0, out: 'nothing of lbd is on this host\n', err: '' });
  assert.deepEqual(readdirSync(directory), []);
});

test('an executable whose addon was changed is refused', { skip: needsRoot }, (context) => {
  const changed = join(temporaryDirectory(context), 'lbd');
  copyFileSync(LBD, changed);
  const bytes = readFileSync(changed);
  const addon = readFileSync(join(BUILD, 'native/lbd_sys.node'));
  const at = bytes.indexOf(addon);
  assert.ok(at > 0, 'the executable holds the addon');
  const victim = at + Math.floor(addon.length / 2);
  bytes.writeUInt8(bytes.readUInt8(victim) ^ 1, victim);
  writeFileSync(changed, bytes);
  const { status, err } = ranCleanup(changed);
  assert.equal(status, 1);
  assert.match(err, /the native addon inside the executable is damaged: expected SHA-256 [0-9a-f]{64}, got /);
});

/** Where the addon may go when nobody says where, in the order of the tries. */
const PLACES = ['/run/lbd', '/var/lib/lbd', '/tmp', '/dev/shm'] as const;

// The executable is opened before the mounts, which may hide the tree it lies in.
const WITH_MOUNTS = `
  exec 3<"$1"
  shift
  for mount; do mount -t tmpfs -o "\${mount#*:}" tmpfs "\${mount%%:*}"; done
  mkdir /run/lbd /var/lib/lbd
  ( exec -a lbd /proc/self/fd/3 cleanup ) || exit
  find /run /var/lib /tmp /dev/shm -mindepth 1 -name 'lbd-native-*'`;

/** `lbd cleanup` where each place is on a mount of its own with these options. */
function ranWithMounts(optionsOf: (place: (typeof PLACES)[number]) => string): Ran {
  const mounts = PLACES.map((place) => `${place.replace(/\/lbd$/, '')}:${optionsOf(place)}`);
  return ran('unshare', ['--net', '--mount', 'bash', '--norc', '-euc', WITH_MOUNTS, 'bash', LBD, ...mounts]);
}

for (const place of PLACES) {
  test(`the addon is loaded from ${place}, the only one of the places that is mounted with exec`, {
    skip: needsRoot,
  }, () => {
    const { status, out, err } = ranWithMounts((mounted) => (mounted === place ? 'exec' : 'noexec'));
    assert.deepEqual({ status, out, err }, { status: 0, out: 'nothing of lbd is on this host\n', err: '' });
  });
}

test('mounts without exec everywhere get an error that names each of them and the way out', {
  skip: needsRoot,
}, () => {
  const { status, err } = ranWithMounts(() => 'noexec');
  assert.equal(status, 1);
  assert.match(err, /set LBD_NATIVE_DIR to a writable directory on a mount without noexec/);
  const tried = PLACES.map((place) => `${place}: mounted noexec \\(.*?\\)`).join('; ');
  assert.match(err, new RegExp(`Tried: ${tried}$`, 'm'));
});

test('full file systems everywhere get the same error with their own reason', { skip: needsRoot }, () => {
  const { status, err } = ranWithMounts(() => 'exec,size=4k,nr_inodes=3');
  assert.equal(status, 1);
  assert.match(err, /\/run\/lbd: ENOSPC/);
});

test('a full file system and one without exec are passed over together', { skip: needsRoot }, () => {
  const options = {
    '/run/lbd': 'exec,size=4k,nr_inodes=3',
    '/var/lib/lbd': 'noexec',
    '/tmp': 'exec',
    '/dev/shm': 'noexec',
  };
  const { status, out, err } = ranWithMounts((place) => options[place]);
  assert.deepEqual({ status, out, err }, { status: 0, out: 'nothing of lbd is on this host\n', err: '' });
});
