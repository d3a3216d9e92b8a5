import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Child } from './child.ts';

const KUBECONFIG = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`;

/** A network namespace of its own, without being root: only there may a daemon of a test start. */
const NAMESPACE = ['unshare', '--user', '--map-root-user', '--net'] as const;
const hasNamespaces = spawnSync(NAMESPACE[0], [...NAMESPACE.slice(1), 'true']).status === 0;

class Host {
  readonly directory = mkdtempSync(join(tmpdir(), 'lbd-run-'));
  readonly config = join(this.directory, 'lbd.toml');

  constructor(t: TestContext) {
    t.after(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  write(name: string, text: string): string {
    const file = join(this.directory, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  }

  /** A configuration that is right but for what the test makes wrong. */
  writeConfig(kubeconfig: string, socket = join(this.directory, 'lbd.sock')): void {
    this.write(
      'lbd.toml',
      `[kubernetes]\nkubeconfig = "${kubeconfig}"\n[control]\nsocket = "${socket}"\n` +
        `[state]\ndirectory = "${join(this.directory, 'state')}"\n` +
        '[[pool]]\nname = "p"\naddresses = ["192.0.2.0/28"]\n',
    );
  }

  run(t: TestContext): Child {
    return Child.run(t, process.execPath, 'src/main.ts', 'lbd', 'run', '--config', this.config);
  }

  runInNamespace(t: TestContext): Child {
    const [command, ...options] = NAMESPACE;
    return Child.run(
      t,
      command,
      ...options,
      process.execPath,
      'src/main.ts',
      'lbd',
      'run',
      '-c',
      this.config,
    );
  }
}

test('lbd run ends with 1 and every problem of the configuration on stderr, with its line', async (t) => {
  const host = new Host(t);
  host.write(
    'lbd.toml',
    '[local]\nlifetime = "1s"\ninterface = ["eth0"]\n[[pool]]\nname = "a"\naddresses = ["192.0.2.9-192.0.2.1", "::1/129"]\n',
  );
  const { code, stdout, stderr } = await host.run(t).ended();
  assert.deepEqual([code, stdout], [1, '']);
  const lines = stderr.trimEnd().split('\n');
  for (const [line, key] of [
    [2, 'local.lifetime'],
    [3, 'local.interface'],
    [6, 'pool[0].addresses[0]'],
    [6, 'pool[0].addresses[1]'],
  ] as const) {
    assert.ok(
      lines.some((text) => text.startsWith(`${host.config}:${line}`) && text.includes(key)),
      `${key} in:\n${stderr}`,
    );
  }
  assert.equal(lines.length, 4);
  assert.deepEqual(readdirSync(host.directory), ['lbd.toml']);
});

test('lbd run ends with 1 and the place when the file is no TOML', async (t) => {
  const host = new Host(t);
  host.write('lbd.toml', '[local]\nprefix = "host\n');
  const { code, stderr } = await host.run(t).ended();
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`^${host.config}:2`));
});

test('lbd run ends with 1 and the name of the file when there is none', async (t) => {
  const host = new Host(t);
  const { code, stderr } = await host.run(t).ended();
  assert.equal(code, 1);
  assert.ok(stderr.includes(host.config), stderr);
});

test('lbd run ends with 1 and one line when the kubeconfig is missing', async (t) => {
  const host = new Host(t);
  host.writeConfig(join(host.directory, 'none'));
  const { code, stderr } = await host.run(t).ended();
  assert.equal(code, 1);
  assert.match(stderr, /^[^\n]*kubeconfig .*none cannot be read: ENOENT[^\n]*daemon\.start-failed[^\n]*\n$/);
});

test('lbd run that a service manager starts again and again with a bad configuration does not burn the processor', async (t) => {
  const host = new Host(t);
  host.write('lbd.toml', '[nonsense');
  const startedAt = performance.now();
  const lbd = ['env', `RUNTIME_DIRECTORY=${host.directory}`, process.execPath, 'src/main.ts', 'lbd', 'run'];
  const command = [...lbd, '-c', host.config].map((word) => `'${word}'`).join(' ');
  const { code, stderr } = await Child.run(t, 'sh', '-c', `${command}; ${command}; ${command}`).ended();
  assert.equal(code, 1);
  assert.equal(stderr.split('\n').filter((line) => line.startsWith(host.config)).length, 3);
  // Nothing after the first, 1 s after the second, 2 s after the third.
  assert.ok(performance.now() - startedAt >= 2_990);
});

test('lbd run ends, and does not linger, when it cannot start for something that comes after its first sockets', {
  skip: hasNamespaces ? false : 'user namespaces are not allowed here',
}, async (t) => {
  const host = new Host(t);
  const file = host.write('file', '');
  host.writeConfig(host.write('kubeconfig', KUBECONFIG), join(file, 'lbd.sock'));
  const { code, stderr } = await host.runInNamespace(t).ended();
  assert.equal(code, 1);
  assert.match(stderr, /"code":"control\.listen-failed".*"event":"daemon\.start-failed"/);
});

test('lbd run serves without a state directory, and says that it cannot make it', {
  skip: hasNamespaces ? false : 'user namespaces are not allowed here',
}, async (t) => {
  const host = new Host(t);
  host.writeConfig(host.write('kubeconfig', KUBECONFIG));
  host.write('state', 'a file in its place');
  host.write('lbd.toml', readFileSync(host.config, 'utf8').replace('/state"', '/state/below"'));
  const log = join(host.directory, 'log');
  const [command, ...options] = NAMESPACE;
  const script =
    `'${process.execPath}' src/main.ts lbd run -c '${host.config}' 2>'${log}' & lbd=$!\n` +
    `until grep -q daemon.started '${log}' || ! kill -0 $lbd; do sleep 0.02; done; kill -INT $lbd; wait $lbd`;
  const { code } = await Child.run(t, command, ...options, 'sh', '-c', script).ended();
  const said = readFileSync(log, 'utf8');
  assert.equal(code, 0, said);
  assert.match(said, /"path":"[^"]*below","error":"ENOTDIR[^"]+","event":"state\.directory-failed"/);
});

test('lbd run ends with 1 when another lbd has the host, which goes on', {
  skip: hasNamespaces ? false : 'user namespaces are not allowed here',
}, async (t) => {
  const host = new Host(t);
  host.writeConfig(host.write('kubeconfig', KUBECONFIG));
  const second = new Host(t);
  second.writeConfig(second.write('kubeconfig', KUBECONFIG));
  const lbd = `'${process.execPath}' src/main.ts lbd run -c`;
  const [command, ...options] = NAMESPACE;
  const script =
    `${lbd} '${host.config}' & first=$!; until [ -S '${host.directory}/lbd.sock' ]; do sleep 0.02; done\n` +
    `${lbd} '${second.config}' 2>&1 | grep start-failed; kill -INT $first; wait $first; echo "first: $?"`;
  const { stdout } = await Child.run(t, command, ...options, 'sh', '-c', script).ended();
  assert.match(stdout, /"code":"host-lock\.held","error":"another lbd already runs on this host \(pid \d+\)/);
  assert.match(stdout, /first: 0\n$/);
});
