/** The repository that `make apt-repo` makes, as apt on a host sees it: who signed it, and that nothing was changed. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { scratchDirectory, skipWithout } from './support/built.ts';

const ROOT = join(import.meta.dirname, '../..');
const DEB = 'lbd_0.1.0_all.deb';

describe('the repository for apt', { skip: skipWithout('dpkg-deb', 'gpg', 'gpgconf', 'apt-get') }, () => {
  const scratch = scratchDirectory();
  const inScratch = (...path: readonly string[]): string => join(scratch.path, ...path);
  const keys = { operator: inScratch('operator.asc'), stranger: inScratch('stranger.asc') };
  let deb: string;

  before(() => {
    deb = smallPackage(inScratch('package'), inScratch(DEB));
    for (const [name, file] of Object.entries(keys)) makeKey(inScratch(name), name, file);
  });
  after(scratch.remove);

  const repository = (name: string, key: string): string => {
    const directory = inScratch(name);
    execFileSync(process.execPath, ['scripts/build-apt-repo.ts', '--output', directory, '--key', key, deb], {
      cwd: ROOT,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return directory;
  };

  test('make apt-repo hands KEY= on', () => {
    const commands = execFileSync(
      'make',
      ['--dry-run', '--no-print-directory', 'apt-repo', 'KEY=/a key.asc'],
      {
        cwd: ROOT,
        encoding: 'utf8',
      },
    );
    assert.match(
      commands,
      /^\S+ scripts\/build-apt-repo\.ts --key '\/a key\.asc' "\$\(\S+ scripts\/build-deb\.ts \)"$/m,
    );
  });

  test('is signed with the key given, and apt installs from it what was put there', () => {
    const directory = repository('signed', keys.operator);
    const apt = aptOf(inScratch('host'), directory, join(directory, 'lbd.gpg'));
    assert.deepEqual(apt('apt-get', 'update'), { status: 0, complaints: [] });
    assert.deepEqual(apt('apt-get', 'download', 'lbd'), { status: 0, complaints: [] });
    assert.deepEqual(readFileSync(inScratch('host', DEB)), readFileSync(deb));
    const signer = execFileSync('gpg', ['--show-keys', '--with-colons', join(directory, 'lbd.gpg')], {
      encoding: 'utf8',
      env: { ...process.env, GNUPGHOME: inScratch('operator') },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    assert.match(signer, /^uid:.*:operator <operator@lbd\.invalid>:/m);
    assert.doesNotMatch(readFileSync(join(directory, 'lbd.gpg'), 'latin1'), /PRIVATE/);
  });

  test('is refused when somebody else signed it', () => {
    const theirs = repository('theirs', keys.stranger);
    const ours = repository('ours', keys.operator);
    const { status, complaints } = aptOf(
      inScratch('wary'),
      theirs,
      join(ours, 'lbd.gpg'),
    )('apt-get', 'update');
    assert.notEqual(status, 0);
    assert.match(complaints.join('\n'), /NO_PUBKEY|not signed/);
  });

  test('is refused when its list or its package was changed after it was signed', () => {
    const directory = repository('changed', keys.operator);
    const keyring = join(directory, 'lbd.gpg');
    const apt = aptOf(inScratch('early'), directory, keyring);
    assert.equal(apt('apt-get', 'update').status, 0);
    appendFileSync(join(directory, DEB), 'x');
    assert.notEqual(apt('apt-get', 'download', 'lbd').status, 0);
    for (const name of ['Packages', 'Packages.gz']) appendFileSync(join(directory, name), '\n');
    const { status, complaints } = aptOf(inScratch('late'), directory, keyring)('apt-get', 'update');
    assert.notEqual(status, 0);
    assert.match(complaints.join('\n'), /unexpected size|Hash Sum mismatch/);
  });
});

/** A package of lbd's name with nothing in it: what apt looks at is the same. */
function smallPackage(directory: string, deb: string): string {
  mkdirSync(join(directory, 'DEBIAN'), { recursive: true });
  const fields = {
    Package: 'lbd',
    Version: '0.1.0',
    Architecture: 'all',
    Maintainer: 'nobody <nobody@lbd.invalid>',
  };
  const lines = Object.entries({ ...fields, Description: 'nothing' }).map(
    ([name, value]) => `${name}: ${value}\n`,
  );
  writeFileSync(join(directory, 'DEBIAN/control'), lines.join(''));
  chmodSync(join(directory, 'DEBIAN'), 0o755);
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', directory, deb], { stdio: 'ignore' });
  return deb;
}

function makeKey(home: string, name: string, file: string): void {
  mkdirSync(home, { mode: 0o700 });
  const env = { ...process.env, GNUPGHOME: home };
  const gpg = (...args: readonly string[]): unknown =>
    execFileSync('gpg', ['--batch', '--quiet', '--passphrase', '', '--pinentry-mode', 'loopback', ...args], {
      env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  gpg('--quick-generate-key', `${name} <${name}@lbd.invalid>`, 'ed25519', 'sign', 'never');
  gpg('--armor', '--output', file, '--export-secret-keys');
  execFileSync('gpgconf', ['--kill', 'all'], { env, stdio: 'ignore' });
}

type Apt = (...command: readonly [string, ...string[]]) => {
  readonly status: number | null;
  readonly complaints: readonly string[];
};

const DIRECTORIES_OF_APT = [
  ...['apt.conf.d', 'preferences.d', 'sources.list.d', 'trusted.gpg.d'].map((name) => `etc/apt/${name}`),
  'var/lib/apt/lists/partial',
  'var/lib/dpkg',
  'var/cache/apt/archives/partial',
];

/** apt with all that it keeps below `host`, and this repository alone. */
function aptOf(host: string, repository: string, keyring: string): Apt {
  for (const directory of DIRECTORIES_OF_APT) mkdirSync(join(host, directory), { recursive: true });
  writeFileSync(join(host, 'var/lib/dpkg/status'), '');
  writeFileSync(join(host, 'etc/apt/sources.list'), `deb [signed-by=${keyring}] file:${repository} ./\n`);
  const config = join(host, 'apt.conf');
  const settings = {
    Dir: `${host}/`,
    'Dir::State::status': `${host}/var/lib/dpkg/status`,
    'APT::Sandbox::User': 'root',
  };
  writeFileSync(
    config,
    Object.entries(settings)
      .map(([key, value]) => `${key} "${value}";\n`)
      .join(''),
  );
  return (command, ...args) => {
    const { status, stdout, stderr } = spawnSync(command, args, {
      cwd: host,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], APT_CONFIG: config, LC_ALL: 'C.UTF-8' },
    });
    return {
      status,
      complaints: `${stdout}${stderr}`.split('\n').filter((line) => /^([WE]:|Err:)/.test(line)),
    };
  };
}
