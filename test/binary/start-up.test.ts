/** What the single executable does before it does anything: it takes V8's code cache, and runs only modules it needs. */

import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { fakeDaemon } from '../unit/cli/support/fake-daemon.ts';
import { statusDocument } from '../unit/cli/support/status-document.ts';

const BUILD = join(import.meta.dirname, '../../build');
const BUNDLE = 'build/lbd.cjs';
/** Of the blob that Node finds in its own executable, and one of its flags (Node's src/node_sea.cc, node_sea.h). */
const BLOB_MAGIC = 0x143da20;
const USE_CODE_CACHE = 1 << 2;
const REFUSED = /Warning: Code cache data rejected/;

function temporaryDirectory(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-start-'));
  context.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('the executable brings a code cache, which V8 takes', (context) => {
  const bytes = readFileSync(join(BUILD, 'lbd'));
  const { flags, codeCacheAt } = blobIn(bytes);
  assert.equal(flags & USE_CODE_CACHE, USE_CODE_CACHE);
  const version = (executable: string) =>
    spawnSync(executable, ['version'], { encoding: 'utf8', argv0: 'lbd' }).stderr;
  assert.equal(version(join(BUILD, 'lbd')), '');
  // Silence means that it was taken: a cache that says it is of another V8 is refused with a warning.
  bytes.writeUInt8(bytes.readUInt8(codeCacheAt + 4) ^ 1, codeCacheAt + 4);
  const other = join(temporaryDirectory(context), 'lbd');
  writeFileSync(other, bytes, { mode: 0o755 });
  assert.match(version(other), REFUSED);
});

/** Where things are in the blob that Node finds in the executable: flags, path, source and code cache, in this order. */
function blobIn(executable: Buffer): { readonly flags: number; readonly codeCacheAt: number } {
  const path = Buffer.from(BUNDLE);
  const pathAt = executable.indexOf(Buffer.concat([lengthOf(path), path]));
  assert.ok(pathAt > 0, `the executable holds ${BUNDLE}`);
  const sourceAt = pathAt + 8 + path.length;
  const codeCacheAt = sourceAt + 8 + Number(executable.readBigUInt64LE(sourceAt)) + 8;
  // Before the path there are the magic number, the flags, one byte on NODE_OPTIONS and one on the kind of module.
  assert.equal(executable.readUInt32LE(pathAt - 10), BLOB_MAGIC);
  return { flags: executable.readUInt32LE(pathAt - 6), codeCacheAt };
}

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return length;
}

/** What prints takes from these at most words and types: a table, a constant. */
const NOT_NEEDED = [
  /\/io\//,
  /^src\/(kube|ipam|iface|bgp|sys)\//,
  /^src\/config\/(?!defaults\.ts)/,
  /^src\/daemon\/(?!types\.ts|election-problems\.ts)/,
  /^node_modules\/(?!commander\/)/,
];
/** Of several hundred; seven of them are commander. */
const MOST_MODULES = 40;
const PRINTING: readonly (readonly [args: string, own: string])[] = [
  ['lbctl --help', 'src/cli/lbctl.ts'],
  ['lbctl version', 'src/cli/version.ts'],
  ['lbctl status', 'src/cli/render-status.ts'],
  ['lbd version', 'src/cli/version.ts'],
];

for (const [args, own] of PRINTING) {
  test(`${args} runs no module of the daemon, of the configuration or of the API client`, async (context) => {
    const socket = await fakeDaemon(context, statusDocument());
    const modules = await modulesRunBy(args.split(' '), socket, temporaryDirectory(context));
    assert.ok(modules.includes(own), modules.join(' '));
    assert.deepEqual(
      modules.filter((module) => NOT_NEEDED.some((pattern) => pattern.test(module))),
      [],
    );
    assert.ok(modules.length <= MOST_MODULES, modules.join(' '));
  });
}

test('lbctl config check runs the configuration, and still nothing of the daemon or of the API client', async (context) => {
  const example = join(import.meta.dirname, '../../etc/lbd.toml.example');
  const modules = await modulesRunBy(['lbctl', 'config', 'check', example], '', temporaryDirectory(context));
  assert.ok(modules.includes('src/config/parse.ts') && modules.includes('node_modules/toml/index.js'));
  const beyond = modules.filter((module) => !/^(src\/(lib|cli|config)|node_modules)\//.test(module));
  assert.deepEqual(beyond, []);
  assert.deepEqual(
    modules.filter((module) => module.includes('@kubernetes')),
    [],
  );
});

type Coverage = {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly {
      readonly functionName: string;
      readonly ranges: readonly { readonly count: number }[];
    }[];
  }[];
};

/** The modules of the bundle that ran: each is a function of its path's name in it, and V8 counts calls when asked to. */
async function modulesRunBy(
  [name = '', ...args]: readonly string[],
  socket: string,
  directory: string,
): Promise<readonly string[]> {
  await promisify(execFile)(join(BUILD, name), args, {
    env: { PATH: process.env['PATH'], LBD_SOCKET: socket, NODE_V8_COVERAGE: directory },
  });
  const files = readdirSync(directory);
  assert.equal(files.length, 1);
  const coverage = JSON.parse(readFileSync(join(directory, files[0] ?? ''), 'utf8')) as Coverage;
  const bundle = coverage.result.find(({ url }) => url === BUNDLE);
  assert.ok(bundle, `V8 counted ${BUNDLE}`);
  return bundle.functions
    .filter(({ functionName, ranges }) => functionName.includes('/') && (ranges[0]?.count ?? 0) > 0)
    .map(({ functionName }) => functionName.replace(/^(\.\.\/)+.*(?=node_modules\/)/, ''));
}
