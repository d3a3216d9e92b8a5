/** The same tree gives the same executable, wherever it lies. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '../..');
/** What the build reads, and what it takes as it is: dependencies, Node's headers, and Node without its symbols. */
const SOURCES = ['package.json', 'tsconfig.json', 'native', 'scripts', 'src'];
const SHARED = ['node_modules', '.cache', 'build/node-headers'];

test('a build of the same tree in another directory, time zone and umask gives the same bytes', (context) => {
  const tree = mkdtempSync(join(tmpdir(), 'lbd-a-tree-elsewhere-'));
  context.after(() => rmSync(tree, { recursive: true }));
  for (const name of SOURCES) cpSync(join(ROOT, name), join(tree, name), { recursive: true });
  mkdirSync(join(tree, 'build'));
  for (const name of SHARED.filter((name) => existsSync(join(ROOT, name))))
    symlinkSync(join(ROOT, name), join(tree, name));
  const version = execFileSync(join(ROOT, 'build/lbd'), ['version'], { encoding: 'utf8' });
  const [, commit = ''] = /\(([0-9a-f]{12}|unknown)\)/.exec(version) ?? [];
  const before = process.umask(0o077);
  try {
    for (const script of ['build-native.mjs', 'build-sea.mjs']) {
      execFileSync(process.execPath, [join(tree, 'scripts', script)], {
        cwd: tree,
        env: { ...process.env, HOME: tree, TZ: 'Pacific/Auckland', LBD_COMMIT: commit },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
    }
  } finally {
    process.umask(before);
  }
  for (const file of ['build/native/lbd_sys.node', 'build/lbd.cjs', 'build/lbd'])
    assert.equal(sha256(join(tree, file)), sha256(join(ROOT, file)), `${file}, after make binary`);
});

function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}
