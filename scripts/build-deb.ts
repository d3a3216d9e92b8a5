/**
 * Builds the Debian package: `node scripts/build-deb.ts [--version V] [--output DIRECTORY] [--compression xz|zstd|gzip
 * [--level N]]`, from build/lbd. Prints the path of the package.
 *
 * The same tree gives the same bytes: files are dated by SOURCE_DATE_EPOCH, by default the time of the last commit, and
 * owned by root. Nothing is packed when the content is that of the last build.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { configJsonSchema } from '../src/config/json-schema.ts';
import { debianChangelog } from './debian/changelog.ts';
import { programs } from './debian/commands.ts';
import { bashCompletion, fishCompletion, zshCompletion } from './debian/completions.ts';
import { copyrightFile } from './debian/copyright.ts';
import { commandManual, configManual } from './debian/manual.ts';

const ROOT = join(import.meta.dirname, '..');
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
const MAINTAINER_SCRIPTS = ['preinst', 'postinst', 'prerm', 'postrm'];
const CONFIG_FILES = ['/etc/lbd.toml'];

process.chdir(ROOT);
main();

function main(): void {
  const { values: options } = parseArgs({
    options: {
      version: { type: 'string', default: packageVersion() },
      output: { type: 'string', default: 'build' },
      // Debian's own choice, and what every tool for archives reads; zstd is a tenth larger and quicker to unpack.
      compression: { type: 'string', default: 'xz' },
      level: { type: 'string', default: '6' },
    },
  });
  const architecture = ARCHITECTURES[process.arch];
  if (architecture === undefined) throw new Error(`build-deb: no Debian architecture for ${process.arch}`);
  if (!existsSync('build/lbd')) throw new Error('build-deb: build/lbd is not there: run make binary');
  const epoch = sourceDateEpoch();
  const output = join(options.output, `lbd_${options.version}_${architecture}.deb`);
  const stage = mkdtempSync(join(tmpdir(), 'lbd-deb-'));
  try {
    chmodSync(stage, 0o755);
    putFiles(stage, options.version, epoch);
    putControl(stage, options.version, architecture);
    for (const path of everythingIn(stage)) lutimesSync(join(stage, path), epoch, epoch);
    const stamp = digest(stage, [epoch, options.compression, options.level].join(' '));
    if (
      !existsSync(output) ||
      !existsSync(stampFile(output)) ||
      readFileSync(stampFile(output), 'utf8') !== stamp
    ) {
      pack(stage, output, epoch, options.compression, options.level);
      writeFileSync(stampFile(output), stamp);
    }
  } finally {
    rmSync(stage, { recursive: true });
  }
  console.log(output);
}

function packageVersion(): string {
  return (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;
}

function sourceDateEpoch(): number {
  const given = process.env['SOURCE_DATE_EPOCH'];
  const epoch = Number(given ?? execFileSync('git', ['log', '-1', '--format=%ct'], { encoding: 'utf8' }));
  if (Number.isSafeInteger(epoch) && epoch > 0) return epoch;
  throw new Error(`build-deb: SOURCE_DATE_EPOCH: expected seconds since 1970, got "${given}"`);
}

// --- what is installed ---

function putFiles(stage: string, version: string, epoch: number): void {
  const put = (path: string, content: string | Uint8Array, mode = 0o644): void => {
    const target = join(stage, path);
    makeDirectories(stage, dirname(path));
    writeFileSync(target, content);
    chmodSync(target, mode);
  };
  const copy = (from: string, path: string, mode = 0o644): void => {
    makeDirectories(stage, dirname(path));
    copyFileSync(from, join(stage, path));
    chmodSync(join(stage, path), mode);
  };
  copy('build/lbd', 'usr/bin/lbd', 0o755);
  symlinkSync('lbd', join(stage, 'usr/bin/lbctl'));
  for (const unit of globSync('packaging/systemd/*.service').sort()) {
    copy(unit, unit.replace('packaging/systemd', 'usr/lib/systemd/system'));
  }
  copy('packaging/deb/modules-load.conf', 'usr/lib/modules-load.d/lbd.conf');
  copy('etc/lbd.toml.example', 'etc/lbd.toml');
  makeDirectories(stage, 'etc/lbd');
  put('usr/share/lbd/lbd.schema.json', `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`);
  for (const file of globSync('packaging/kubernetes/*').sort()) {
    copy(file, file.replace('packaging/kubernetes', 'usr/share/lbd/kubernetes'));
  }
  for (const file of globSync('packaging/examples/{*.md,*/*}').sort()) {
    copy(file, file.replace('packaging/examples', 'usr/share/doc/lbd/examples'));
  }

  const { lbd, lbctl } = programs();
  const when = { date: new Date(epoch * 1000).toISOString().slice(0, 10), version };
  put('usr/share/man/man8/lbd.8.gz', gzip(commandManual(lbd, 8, when)));
  put('usr/share/man/man1/lbctl.1.gz', gzip(commandManual(lbctl, 1, when)));
  put('usr/share/man/man5/lbd.toml.5.gz', gzip(configManual(when)));
  for (const program of [lbd, lbctl]) {
    put(`usr/share/bash-completion/completions/${program.name}`, bashCompletion(program));
    put(`usr/share/zsh/vendor-completions/_${program.name}`, zshCompletion(program));
    put(`usr/share/fish/vendor_completions.d/${program.name}.fish`, fishCompletion(program));
  }

  put(
    'usr/share/doc/lbd/copyright',
    copyrightFile({ root: ROOT, sourceMap: readFileSync('build/lbd.cjs.map', 'utf8') }),
  );
  const maintainer = /^Maintainer: (.*)$/m.exec(readFileSync('packaging/deb/control', 'utf8'))?.[1] ?? '';
  const markdown = readFileSync('CHANGELOG.md', 'utf8');
  put('usr/share/doc/lbd/changelog.gz', gzip(debianChangelog({ markdown, version, maintainer, epoch })));
  copy('packaging/deb/lintian-overrides', 'usr/share/lintian/overrides/lbd');
}

/** With the mode that Debian wants, whatever the umask. */
function makeDirectories(stage: string, path: string): void {
  if (path === '.' || existsSync(join(stage, path))) return;
  makeDirectories(stage, dirname(path));
  mkdirSync(join(stage, path));
  chmodSync(join(stage, path), 0o755);
}

function gzip(text: string): Uint8Array {
  return gzipSync(text, { level: 9 });
}

// --- what dpkg is told ---

function putControl(stage: string, version: string, architecture: string): void {
  const files = everythingIn(stage).filter((path) => lstatSync(join(stage, path)).isFile());
  const directory = join(stage, 'DEBIAN');
  mkdirSync(directory);
  chmodSync(directory, 0o755);
  const put = (name: string, content: string, mode = 0o644): void => {
    writeFileSync(join(directory, name), content);
    chmodSync(join(directory, name), mode);
  };
  const control = readFileSync('packaging/deb/control', 'utf8')
    .replace('@VERSION@', version)
    .replace('@ARCHITECTURE@', architecture)
    .replace('@INSTALLED_SIZE@', String(installedKibibytes(stage, files)));
  put('control', control);
  put('conffiles', CONFIG_FILES.map((file) => `${file}\n`).join(''));
  const sums = files
    .filter((path) => !CONFIG_FILES.includes(`/${path}`))
    .map(
      (path) =>
        `${createHash('md5')
          .update(readFileSync(join(stage, path)))
          .digest('hex')}  ${path}\n`,
    );
  put('md5sums', sums.join(''));
  for (const script of MAINTAINER_SCRIPTS) {
    put(script, readFileSync(join('packaging/deb', script), 'utf8'), 0o755);
  }
}

/** As dpkg-gencontrol counts: each file rounded up, one for everything else. */
function installedKibibytes(stage: string, files: readonly string[]): number {
  const others = everythingIn(stage).length - files.length;
  return files.reduce((sum, path) => sum + Math.ceil(lstatSync(join(stage, path)).size / 1024), others);
}

// --- the package ---

function everythingIn(stage: string): readonly string[] {
  return globSync('**', { cwd: stage })
    .filter((path) => path !== '' && path !== '.')
    .sort();
}

function digest(stage: string, parameters: string): string {
  const hash = createHash('sha256').update(parameters);
  for (const path of everythingIn(stage)) {
    const status = lstatSync(join(stage, path));
    hash.update(`\0${path}\0${status.mode}\0`);
    if (status.isFile()) hash.update(readFileSync(join(stage, path)));
    if (status.isSymbolicLink()) hash.update(readlinkSync(join(stage, path)));
  }
  return hash.digest('hex');
}

function stampFile(output: string): string {
  return join(dirname(output), `.${output.slice(dirname(output).length + 1)}.stamp`);
}

function pack(stage: string, output: string, epoch: number, compression: string, level: string): void {
  mkdirSync(dirname(output), { recursive: true });
  rmSync(stampFile(output), { force: true });
  lutimesSync(stage, epoch, epoch);
  // Of this process alone: tests that run side by side build the same package.
  const unfinished = `${output}.${process.pid}`;
  execFileSync(
    'dpkg-deb',
    [
      '--root-owner-group',
      '--uniform-compression',
      `-Z${compression}`,
      `-z${level}`,
      '--build',
      stage,
      unfinished,
    ],
    { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, SOURCE_DATE_EPOCH: String(epoch) } },
  );
  renameSync(unfinished, output);
  process.stderr.write(`build-deb: ${output}, ${(lstatSync(output).size / 1e6).toFixed(1)} MB\n`);
}
