// Builds the native addon with the system's C compiler, without node-gyp: one call of cc.
//
//   node scripts/build-native.mjs              → build/native/lbd_sys.node, lbd_sys.sha256
//   node scripts/build-native.mjs --sanitize   → build/native-asan/lbd_sys.node (AddressSanitizer, UBSan)
//
// Does nothing when source, flags, compiler and headers are those of the last build.
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sanitize = process.argv.includes('--sanitize');
const sourceDirectory = join(root, 'native');
const sources = readdirSync(sourceDirectory)
  .filter((name) => name.endsWith('.c'))
  .map((name) => join(sourceDirectory, name));
const outputDirectory = join(root, 'build', sanitize ? 'native-asan' : 'native');
const output = join(outputDirectory, 'lbd_sys.node');
const compiler = process.env.CC ?? 'cc';
const nodePackage = `node-linux-${process.arch}`;

const warnings = ['-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wvla', '-Wno-missing-field-initializers'];
const hardening = [
  '-D_FORTIFY_SOURCE=2',
  '-fstack-protector-strong',
  '-fstack-clash-protection',
  ...(process.arch === 'x64' ? ['-fcf-protection=full'] : []),
  '-Wl,-z,relro,-z,now,-z,noexecstack',
  '-Wl,--build-id=none',
];
const sanitizers = [
  '-g',
  '-fno-omit-frame-pointer',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
];

const sha256 = (data) => createHash('sha256').update(data).digest('hex');

/** Stops with a message that names the way out. */
function fail(message) {
  console.error(`build-native: ${message}`);
  process.exit(1);
}

function compilerVersion() {
  try {
    return execFileSync(compiler, ['--version'], { encoding: 'utf8' });
  } catch (cause) {
    return fail(
      `cannot run the C compiler "${compiler}" (${cause.code ?? cause.message}): apt install gcc libc6-dev`,
    );
  }
}

const isHeaderDirectory = (directory) =>
  existsSync(join(directory, 'node_api.h')) && existsSync(join(directory, 'uv.h'));

/**
 * The headers of the pinned Node. The npm package `node` brings them in a nested package, which a later `npm install`
 * prunes: then they are taken from that package's archive, mostly out of npm's own cache. Node-API and libuv 1 are
 * ABI-stable, so the headers of the system's Node serve as well when there is no network.
 */
function headerDirectory() {
  const unpacked = join(root, 'build', 'node-headers', `${process.version}-${process.arch}`);
  const candidates = [
    process.env.LBD_NODE_HEADERS ?? '',
    join(root, 'node_modules', 'node', 'node_modules', nodePackage, 'include', 'node'),
    join(root, 'node_modules', nodePackage, 'include', 'node'),
    join(unpacked, 'include', 'node'),
    join(dirname(dirname(process.execPath)), 'include', 'node'),
  ];
  const found = candidates.find((directory) => directory !== '' && isHeaderDirectory(directory));
  if (found !== undefined) return found;
  try {
    return unpackHeaders(unpacked);
  } catch (cause) {
    if (isHeaderDirectory('/usr/include/node')) return '/usr/include/node';
    return fail(
      `no Node headers: looked in ${candidates.filter(Boolean).join(', ')}; fetching ${nodePackage} failed ` +
        `(${cause.message.split('\n')[0]}). Set LBD_NODE_HEADERS to a directory with node_api.h and uv.h, or ` +
        'apt install libnode-dev',
    );
  }
}

function unpackHeaders(directory) {
  const staging = `${directory}.${randomBytes(4).toString('hex')}`;
  mkdirSync(staging, { recursive: true });
  try {
    const specification = `${nodePackage}@${process.version.slice(1)}`;
    const options = ['--silent', '--prefer-offline', '--fetch-retries=1', '--pack-destination', staging];
    execFileSync('npm', ['pack', specification, ...options], {
      cwd: staging,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const members = [
      'node_api.h',
      'node_api_types.h',
      'js_native_api.h',
      'js_native_api_types.h',
      'uv.h',
      'uv',
    ];
    execFileSync('tar', [
      ...['-xzf', join(staging, `${nodePackage}-${process.version.slice(1)}.tgz`), '-C', staging],
      '--strip-components=1',
      ...members.map((name) => `package/include/node/${name}`),
    ]);
    rmSync(join(staging, `${nodePackage}-${process.version.slice(1)}.tgz`));
    if (!existsSync(directory)) renameSync(staging, directory);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  return join(directory, 'include', 'node');
}

const headers = headerDirectory();
const flags = [
  ...['-std=gnu11', '-O2', '-fPIC', '-shared', '-fvisibility=hidden'],
  ...warnings,
  ...(sanitize ? sanitizers : hardening),
  `-ffile-prefix-map=${root}=.`,
  ...['-isystem', headers],
];
const stamp = sha256(
  JSON.stringify([
    ...[...sources, join(sourceDirectory, 'lbd_sys.h')].map((file) => readFileSync(file, 'utf8')),
    flags,
    compilerVersion(),
    ...['node_api.h', 'js_native_api.h', 'uv.h'].map((name) => sha256(readFileSync(join(headers, name)))),
  ]),
);
const stampFile = join(outputDirectory, 'lbd_sys.stamp');

const isCurrent =
  existsSync(output) &&
  existsSync(stampFile) &&
  readFileSync(stampFile, 'utf8') === `${stamp} ${sha256(readFileSync(output))}\n`;
if (!isCurrent) {
  mkdirSync(outputDirectory, { recursive: true });
  // Built beside and moved into place: another process may be loading the old one.
  const staging = `${output}.${randomBytes(4).toString('hex')}`;
  try {
    execFileSync(compiler, [...flags, '-o', staging, ...sources], { stdio: 'inherit' });
    const hash = sha256(readFileSync(staging));
    renameSync(staging, output);
    writeFileSync(join(outputDirectory, 'lbd_sys.sha256'), `${hash}\n`);
    writeFileSync(stampFile, `${stamp} ${hash}\n`);
  } catch (cause) {
    fail(`${compiler} failed (exit status ${cause.status ?? cause.code}) on ${sourceDirectory}`);
  } finally {
    rmSync(staging, { force: true });
  }
  console.log(`build-native: built ${output}`);
}
