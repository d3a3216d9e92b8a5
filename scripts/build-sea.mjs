// Builds the single executable: build/lbd, and build/lbctl, which is the same file under its other name.
//
//   src/main.ts --esbuild--> build/lbd.cjs --node --build-sea--> build/lbd
//                            build/native/lbd_sys.node, its SHA-256 ──┘ (assets)
//
// The same input gives the same bytes, and nothing is built when the input is that of the last build.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { replaceModules } from './bundle-replacements.mjs';

const ROOT = join(import.meta.dirname, '..');
const BUILD = 'build';
const ADDON = join(BUILD, 'native', 'lbd_sys.node');
const ADDON_HASH = join(BUILD, 'native', 'lbd_sys.sha256');
const BUNDLE = join(BUILD, 'lbd.cjs');
const EXECUTABLE = join(BUILD, 'lbd');
const SECOND_NAME = join(BUILD, 'lbctl');
const STAMP = join(BUILD, 'lbd.stamp');

// V8 lets its heap grow to a multiple of what lives, which suits a server that has the machine to itself. With 1,000
// Services (anonymous memory after start, processor time alike): defaults 109..120 MB, the young generation at most
// 4 MB 70..79 MB, and growth of the old one by half 56..61 MB. The second is set when the daemon starts and not on
// the command line: there it is among the flags that V8 compares before it takes a code cache, and costs every lbctl
// 13 ms.
const YOUNG_GENERATION = ['--max-semi-space-size=4'];
const OLD_GENERATION = `if(process.argv[2]==='run')require('node:v8').setFlagsFromString('--heap-growing-percent=50');`;

const { values: options } = parseArgs({
  options: {
    // For measurements of the bundle itself: another entry, where to put its bundle, which is all that is built then,
    // and the list of what weighs most.
    entry: { type: 'string', default: 'src/main.ts' },
    bundle: { type: 'string' },
    weigh: { type: 'boolean', default: false },
  },
});

process.chdir(ROOT);
mkdirSync(BUILD, { recursive: true });

const bundled = await bundle().catch((error) => {
  // esbuild has said it all, with the lines; its error repeats that over a stack of its own.
  if (error.errors === undefined) throw error;
  process.exit(1);
});
if (options.weigh) printWeights(bundled.metafile);
if (options.bundle !== undefined) {
  writeFileSync(options.bundle, bundled.code);
  process.exit();
}
const stamp = inputsHash([bundled.code, checkedAddon(), readFileSync(import.meta.filename), nodeIdentity()]);
if (!isBuilt(stamp)) buildExecutable(bundled, stamp);

/**
 * One CommonJS file, because that is what keeps a dynamic import() lazy inside a single file: esbuild turns it into a
 * function that runs the module when it is first asked for.
 */
async function bundle() {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  const replacements = replaceModules();
  const result = await build({
    entryPoints: [options.entry],
    outfile: BUNDLE,
    write: false,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node26',
    // ASCII alone makes V8 keep the source with one byte a character.
    charset: 'ascii',
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    sourcemap: 'external',
    metafile: true,
    // Modules are called by their path in the bundle: node_modules may be a link, and is called that all the same.
    preserveSymlinks: true,
    logLevel: 'warning',
    define: {
      // CommonJS has none. The one user, the addon's loader, asks only outside of a single executable.
      'import.meta.url': '"file:///lbd.cjs"',
      __LBD_VERSION__: JSON.stringify(version),
      __LBD_COMMIT__: JSON.stringify(commit()),
      __LBD_ADDON__: JSON.stringify(readFileSync(ADDON_HASH, 'utf8').slice(0, 12)),
    },
    banner: { js: OLD_GENERATION },
    plugins: [replacements.plugin],
  });
  if (result.warnings.length > 0)
    throw new Error('build-sea: esbuild warned (above); a warning fails the build');
  replacements.check(Object.keys(result.metafile.inputs));
  const file = (suffix) => result.outputFiles.find((output) => output.path.endsWith(suffix)).contents;
  return { code: file('.cjs'), map: file('.map'), metafile: result.metafile };
}

/** What `lbd version` prints: given by a packager, else from git, else unknown. */
function commit() {
  if (process.env.LBD_COMMIT !== undefined) return process.env.LBD_COMMIT;
  try {
    return execFileSync('git', ['rev-parse', '--short=12', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
}

/** The addon, after a look that it and its hash are of one build: the executable would refuse to load it otherwise. */
function checkedAddon() {
  const addon = readFileSync(ADDON);
  const expected = readFileSync(ADDON_HASH, 'utf8').trim();
  const actual = createHash('sha256').update(addon).digest('hex');
  if (actual === expected) return addon;
  throw new Error(
    `build-sea: ${ADDON} has SHA-256 ${actual}, and ${ADDON_HASH} says ${expected}: run make clean`,
  );
}

function inputsHash(parts) {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(createHash('sha256').update(part).digest());
  return hash.digest('hex');
}

function nodeIdentity() {
  const { size, mtimeMs } = statSync(process.execPath);
  return `${process.version} ${process.arch} ${size} ${mtimeMs}`;
}

function isBuilt(stamp) {
  return (
    existsSync(EXECUTABLE) &&
    existsSync(SECOND_NAME) &&
    existsSync(STAMP) &&
    readFileSync(STAMP, 'utf8') === stamp
  );
}

function buildExecutable({ code, map }, stamp) {
  rmSync(STAMP, { force: true });
  writeFileSync(BUNDLE, code);
  writeFileSync(`${BUNDLE}.map`, map);
  const output = `${EXECUTABLE}.new`;
  const config = join(BUILD, 'sea-config.json');
  // Relative paths: the blob keeps that of `main`, and must not depend on where the tree lies.
  writeFileSync(
    config,
    JSON.stringify({
      main: BUNDLE,
      executable: strippedNode(),
      output,
      disableExperimentalSEAWarning: true,
      useCodeCache: true,
      // NODE_OPTIONS of whoever calls lbctl must not change what a root daemon loads.
      execArgvExtension: 'none',
      execArgv: YOUNG_GENERATION,
      assets: { 'lbd_sys.node': ADDON, 'lbd_sys.sha256': ADDON_HASH },
    }),
  );
  // V8 puts its hash seed into the code cache: a fixed one gives the same bytes each time. Not --hash-seed or
  // --predictable, which are part of what V8 compares before it takes a cache, and would have it refused at each start.
  execFileSync(process.execPath, ['--random-seed=1', '--build-sea', config], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  // Renamed into place: a running lbd keeps its own file, and nobody sees half of one.
  renameSync(output, EXECUTABLE);
  rmSync(SECOND_NAME, { force: true });
  symlinkSync('lbd', SECOND_NAME);
  writeFileSync(STAMP, stamp);
  process.stderr.write(`build-sea: ${EXECUTABLE}, ${(statSync(EXECUTABLE).size / 1e6).toFixed(1)} MB\n`);
}

/** Node without its symbols, a fifth smaller. Only before injection: strip would drop the injected section's segment. */
function strippedNode() {
  const path = join('.cache', `node-${inputsHash([nodeIdentity()]).slice(0, 16)}`);
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true });
  execFileSync('strip', ['-o', `${path}.new`, process.execPath], { stdio: 'inherit' });
  renameSync(`${path}.new`, path);
  return path;
}

/** What each package adds to the bundle, in bytes, heaviest first. */
function printWeights(metafile) {
  const weights = new Map();
  const output = Object.values(metafile.outputs).find((candidate) => candidate.entryPoint !== undefined);
  for (const [path, { bytesInOutput }] of Object.entries(output.inputs)) {
    const name =
      /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? path.split('/').slice(0, 2).join('/');
    weights.set(name, (weights.get(name) ?? 0) + bytesInOutput);
  }
  for (const [name, bytes] of [...weights].sort((a, b) => b[1] - a[1]))
    console.log(String(bytes).padStart(9), name);
}
