/**
 * Makes a signed flat repository for apt of the packages given: `node scripts/build-apt-repo.ts [--output DIRECTORY]
 * [--key FILE] DEB...`. A host that has it takes lbd by `apt install lbd`:
 *
 *   /usr/share/keyrings/lbd.gpg        the file lbd.gpg of the repository
 *   /etc/apt/sources.list.d/lbd.list   deb [signed-by=/usr/share/keyrings/lbd.gpg] https://where.it/is ./
 *
 * --key is an armoured secret key without a passphrase. Without it one is made and kept in .cache, which is good enough
 * for trying things out, and for nothing else.
 */

import { execFileSync } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

const OWN_KEY = join(import.meta.dirname, '../.cache/apt-signing-key.asc');
const KEY_NAME = 'lbd, a key for trying things out <nobody@lbd.invalid>';

const { values: options, positionals: packages } = parseArgs({
  options: {
    output: { type: 'string', default: 'build/apt' },
    key: { type: 'string' },
  },
  allowPositionals: true,
});
if (packages.length === 0) throw new Error('build-apt-repo: expected the packages as arguments, got none');
buildRepository(packages, options.output, options.key);
console.log(options.output);

function buildRepository(debs: readonly string[], directory: string, key: string | undefined): void {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const stanzas = debs.map((deb) => {
    copyFileSync(deb, join(directory, basename(deb)));
    return packageStanza(deb);
  });
  const list = `${stanzas.join('\n')}`;
  writeFileSync(join(directory, 'Packages'), list);
  writeFileSync(join(directory, 'Packages.gz'), gzipSync(list, { level: 9 }));
  writeFileSync(join(directory, 'Release'), release(directory, debs));
  withKey(key, (gpg) => {
    gpg(['--clearsign', '--output', join(directory, 'InRelease'), join(directory, 'Release')]);
    gpg(['--detach-sign', '--armor', '--output', join(directory, 'Release.gpg'), join(directory, 'Release')]);
    gpg(['--export', '--output', join(directory, 'lbd.gpg')]);
  });
}

/** The package's own control fields, and how to get it. */
function packageStanza(deb: string): string {
  const control = execFileSync('dpkg-deb', ['--field', deb], { encoding: 'utf8' }).trimEnd();
  const bytes = readFileSync(deb);
  return [
    control,
    `Filename: ./${basename(deb)}`,
    `Size: ${bytes.length}`,
    `MD5sum: ${hex('md5', bytes)}`,
    `SHA256: ${hex('sha256', bytes)}`,
    '',
  ].join('\n');
}

function release(directory: string, debs: readonly string[]): string {
  const architectures = debs.map((deb) =>
    execFileSync('dpkg-deb', ['--field', deb, 'Architecture'], { encoding: 'utf8' }).trim(),
  );
  const files = ['Packages', 'Packages.gz'].map((name) => {
    const bytes = readFileSync(join(directory, name));
    return ` ${hex('sha256', bytes)} ${bytes.length} ${name}`;
  });
  return [
    'Origin: lbd',
    'Label: lbd',
    `Date: ${new Date().toUTCString().replace('GMT', '+0000')}`,
    `Architectures: ${[...new Set(architectures)].sort().join(' ')}`,
    'Description: lbd, addresses for Kubernetes Services of type LoadBalancer',
    'SHA256:',
    ...files,
    '',
  ].join('\n');
}

function hex(algorithm: string, bytes: Uint8Array): string {
  const hash: Hash = createHash(algorithm);
  return hash.update(bytes).digest('hex');
}

/** Runs `use` with a gpg that has one secret key, in a home of its own that is gone afterwards, its agent too. */
function withKey(key: string | undefined, use: (gpg: (args: readonly string[]) => void) => void): void {
  // The agent's socket is in it, and its path must be short.
  const home = mkdtempSync(join(tmpdir(), 'lbd-gpg-'));
  chmodSync(home, 0o700);
  const env = { ...process.env, GNUPGHOME: home };
  const gpg = (args: readonly string[]): void => {
    const all = [
      '--batch',
      '--yes',
      '--quiet',
      '--no-tty',
      '--pinentry-mode',
      'loopback',
      '--passphrase',
      '',
    ];
    execFileSync('gpg', [...all, ...args], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  try {
    if (key === undefined && !existsSync(OWN_KEY)) makeOwnKey(gpg);
    else gpg(['--import', key ?? OWN_KEY]);
    use(gpg);
  } finally {
    execFileSync('gpgconf', ['--kill', 'all'], { env, stdio: 'ignore' });
    rmSync(home, { recursive: true, force: true });
  }
}

function makeOwnKey(gpg: (args: readonly string[]) => void): void {
  gpg(['--quick-generate-key', KEY_NAME, 'ed25519', 'sign', 'never']);
  mkdirSync(join(OWN_KEY, '..'), { recursive: true });
  gpg(['--armor', '--export-secret-keys', '--output', OWN_KEY]);
  chmodSync(OWN_KEY, 0o600);
}
