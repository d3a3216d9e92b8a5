import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fakeDaemon } from './support/fake-daemon.ts';
import { statusDocument } from './support/status-document.ts';

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

type Outcome = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

/** The program as a process; `calledAs` is its argv[0]. */
function call(args: readonly string[], calledAs = 'node', nodeArgs: readonly string[] = []): Outcome {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...nodeArgs, MAIN, ...args], {
    argv0: calledAs,
    encoding: 'utf8',
    env: { ...process.env, LBD_SOCKET: '/nonexistent/lbd.sock' },
  });
  return { status, stdout, stderr };
}

test('main chooses the program by the name it is called by', () => {
  assert.match(call(['version'], '/usr/bin/lbctl').stdout, /^lbctl {2}0/);
  assert.match(call(['version'], 'lbd').stdout, /^lbd 0/);
  assert.match(call(['version'], 'lbctl-1.2.3').stdout, /^lbctl {2}0/);
});

test('main takes the name of the program from the first argument when run from the sources', () => {
  assert.match(call(['lbctl', 'version']).stdout, /^lbctl {2}0/);
  assert.match(call(['lbd', 'version']).stdout, /^lbd 0/);
  const wrong = call(['version']);
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /expected to be called as lbd or lbctl/);
});

test('main ends with the status of the command', () => {
  assert.equal(call(['lbctl', 'status']).status, 1);
  assert.equal(call(['lbctl', 'nonsense']).status, 2);
  assert.equal(call(['lbctl', 'version']).status, 0);
});

test('lbctl version and a failing status load no library but the command line one', () => {
  const logLoads =
    'data:text/javascript,import { registerHooks } from "node:module";' +
    'registerHooks({ load(url, context, next) { process.stderr.write(url + "\\n"); return next(url, context); } });';
  for (const command of ['version', 'status']) {
    const { stderr } = call(['lbctl', command], 'node', ['--import', logLoads]);
    const loaded = [...stderr.matchAll(/node_modules\/((?:@[^/]+\/)?[^/]+)/g)].map((match) => match[1]);
    assert.deepEqual([...new Set(loaded)], ['commander']);
    assert.doesNotMatch(stderr, /src\/daemon\/(?!types)/);
  }
});

test('lbctl status ends quietly when nobody reads on', { timeout: 20_000 }, async (context) => {
  const services = Array.from({ length: 20_000 }, (_, index) => ({
    name: `namespace/service-${index}`,
    addresses: [],
    state: 'refused' as const,
    reason: 'pool default is full',
  }));
  const socket = await fakeDaemon(context, statusDocument({ services }));
  const child = spawn(process.execPath, [MAIN, 'lbctl', '--socket', socket, 'status'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdout.once('data', () => child.stdout.destroy());
  const [status] = await once(child, 'close');
  assert.equal(status, 0);
  assert.equal(stderr, '');
});
