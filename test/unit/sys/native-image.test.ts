import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs, {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { LbdError } from '../../../src/lib/errors.ts';
import { extractionDirectories, loadFromImage } from '../../../src/sys/native-image.ts';
import { asUnprivileged, openDescriptors } from './support.ts';

const workspace = mkdtempSync(join(tmpdir(), 'lbd-image-'));
after(() => rmSync(workspace, { recursive: true }));

const image = new TextEncoder().encode('not really a shared object');
const sha256 = createHash('sha256').update(image).digest('hex');

function emptyDirectory(name: string): string {
  const directory = join(workspace, name);
  mkdirSync(directory);
  return directory;
}

function thrownBy(action: () => unknown): LbdError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof LbdError, String(error));
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('loadFromImage()', () => {
  it('loads a private, verified file and leaves nothing behind', () => {
    const directory = emptyDirectory('good');
    const descriptors = openDescriptors();
    const loaded = loadFromImage({
      image,
      sha256,
      directories: [directory],
      load(path) {
        const parent = join(directory, readdirSync(directory)[0] ?? '');
        assert.equal(statSync(parent).mode & 0o777, 0o700);
        assert.equal(statSync(join(parent, 'lbd_sys.node')).mode & 0o777, 0o500);
        assert.deepEqual(new Uint8Array(readFileSync(path)), image);
        return 'the addon';
      },
    });
    assert.equal(loaded, 'the addon');
    assert.deepEqual(readdirSync(directory), []);
    assert.equal(openDescriptors(), descriptors);
  });

  it('goes on to the next directory, and names each with its reason when none is left', () => {
    const absent = join(workspace, 'absent');
    const noexec = emptyDirectory('noexec');
    const last = emptyDirectory('last');
    const tried: string[] = [];
    const options = {
      image,
      sha256,
      directories: [absent, noexec, last],
      load() {
        const used = [noexec, last].find((directory) => readdirSync(directory).length > 0) ?? '';
        tried.push(used);
        if (used === noexec) throw new Error('lbd_sys.node: failed to map segment from shared object');
        return used;
      },
    };
    assert.equal(loadFromImage(options), last);
    assert.deepEqual(tried, [noexec, last]);
    const error = thrownBy(() => loadFromImage({ ...options, directories: [absent, noexec] }));
    assert.equal(error.code, 'native.not-loadable');
    assert.match(error.message, /set LBD_NATIVE_DIR to a writable directory on a mount without noexec/);
    assert.match(error.message, new RegExp(`${absent}: ENOENT`));
    assert.match(error.message, new RegExp(`${noexec}: mounted noexec \\(.*failed to map segment`));
    assert.deepEqual(readdirSync(noexec), []);
  });

  it('refuses an image that is not the one that was built, without writing it', () => {
    const directory = emptyDirectory('corrupt');
    const damaged = image.slice();
    damaged[3] = 0;
    const error = thrownBy(() =>
      loadFromImage({ image: damaged, sha256, directories: [directory], load: () => assert.fail('loaded') }),
    );
    assert.equal(error.code, 'native.corrupt');
    assert.match(error.message, new RegExp(`expected SHA-256 ${sha256}, got [0-9a-f]{64}`));
  });

  // No other user can do this to a directory of mode 0700: it is the second line, against a file system that lies.
  const needsRoot = process.geteuid?.() === 0 ? false : 'needs root, to give a file away';
  const changes = [
    ['belongs to somebody else', /belongs to uid 65534, not 0$/, (file: string) => chownSync(file, 65534, 0)],
    ['is writable for its group', /is writable for others$/, (file: string) => chmodSync(file, 0o520)],
    ['is writable for everybody', /is writable for others$/, (file: string) => chmodSync(file, 0o502)],
    [
      'has other content',
      /reads back changed: expected SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}$/,
      (file: string) => {
        chmodSync(file, 0o700);
        writeFileSync(file, 'somebody else wrote this');
      },
    ],
  ] as const;
  for (const [what, reason, change] of changes) {
    it(`refuses a file that ${what} once it is written, and takes it away`, {
      skip: needsRoot,
    }, (context) => {
      const directory = emptyDirectory(what.replaceAll(' ', '-'));
      const open = fs.openSync;
      context.mock.method(fs, 'openSync', (path: string, flags: number) => {
        // writeFileSync() comes this way too, when there is no file yet.
        if (existsSync(path)) change(path);
        return open(path, flags);
      });
      syncBuiltinESMExports();
      const error = thrownBy(() =>
        loadFromImage({ image, sha256, directories: [directory], load: () => assert.fail('loaded') }),
      );
      context.mock.restoreAll();
      syncBuiltinESMExports();
      assert.equal(error.code, 'native.not-loadable');
      assert.match(error.message, reason);
      assert.deepEqual(readdirSync(directory), []);
    });
  }

  it('a directory that may not be written to is one of the reasons', () => {
    const directory = emptyDirectory('read-only');
    chmodSync(directory, 0o500);
    const error = thrownBy(() =>
      asUnprivileged(() => loadFromImage({ image, sha256, directories: [directory], load: () => 0 })),
    );
    assert.match(error.message, /read-only: EACCES/);
  });
});

describe('the addon itself out of an image', () => {
  const addon = new URL('../../../build/native/lbd_sys.node', import.meta.url).pathname;
  const loader = new URL('../../../src/sys/native-image.ts', import.meta.url).href;
  const program = `
    import { createHash } from 'node:crypto';
    import { readFileSync } from 'node:fs';
    import { loadFromImage } from '${loader}';
    const image = readFileSync('${addon}');
    const load = (path) => { const module = { exports: {} }; process.dlopen(module, path); return module.exports; };
    const sha256 = createHash('sha256').update(image).digest('hex');
    try {
      const native = loadFromImage({ image, sha256, directories: process.argv.slice(1), load });
      console.log('loaded', native.bootTimeMs() > 0);
    } catch (error) {
      console.log(error.code, error.message);
    }
  `;
  const arguments_ = [process.execPath, '--input-type=module-typescript', '--eval', program, '--'];

  it('loads and works after its file is gone', () => {
    const directory = emptyDirectory('real');
    const result = spawnSync(process.execPath, [...arguments_.slice(1), directory], { encoding: 'utf8' });
    assert.equal(result.stdout, 'loaded true\n', result.stderr);
    assert.deepEqual(readdirSync(directory), []);
  });

  const mayMount = spawnSync('unshare', ['--mount', 'true']).status === 0;
  it('a mount with noexec is named as that, and the next directory serves', {
    skip: !mayMount && 'needs root for a mount namespace',
  }, () => {
    const noexec = emptyDirectory('noexec-mount');
    const good = emptyDirectory('exec');
    const run = (directories: string[]): string => {
      const script = 'mount -t tmpfs -o noexec none "$1" && shift && exec "$@"';
      const result = spawnSync(
        'unshare',
        ['--mount', 'sh', '-c', script, 'sh', noexec, ...arguments_, ...directories],
        { encoding: 'utf8' },
      );
      return result.stdout + result.stderr;
    };
    const refused = run([noexec]);
    assert.match(refused, /^native\.not-loadable .*LBD_NATIVE_DIR/);
    assert.match(refused, /noexec-mount: mounted noexec/);
    assert.equal(run([noexec, good]), 'loaded true\n');
  });
});

describe('extractionDirectories()', () => {
  it('asks the operator first, then what systemd gives, each place once', () => {
    assert.deepEqual(
      extractionDirectories({
        LBD_NATIVE_DIR: '/opt/exec',
        RUNTIME_DIRECTORY: '/run/lbd:/run/other',
        STATE_DIRECTORY: '/srv/lbd',
        TMPDIR: '',
      }),
      ['/opt/exec', '/run/lbd', '/srv/lbd', '/var/lib/lbd', '/tmp', '/dev/shm'],
    );
    assert.deepEqual(extractionDirectories({}), ['/run/lbd', '/var/lib/lbd', '/tmp', '/dev/shm']);
  });
});
