import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { lbctl } from '../../../src/cli/lbctl.ts';
import { parseAccountToken } from '../../../src/kube/account-token.ts';
import { checkAccess } from '../../../src/kube/io/access-check.ts';
import { type ApiServer, startApiServer } from '../../support/apiserver/server.ts';
import { type TestIo, testIo } from './support/test-io.ts';

let api: ApiServer;
let directory: string;
let admin: string;
before(async () => {
  api = await startApiServer();
  directory = mkdtempSync(join(tmpdir(), 'lbd-kubeconfig-'));
  admin = join(directory, 'admin');
  // As open as many administrators' own are.
  writeFileSync(admin, api.kubeconfigFor('admin'), { mode: 0o644 });
  writeFileSync(join(directory, 'ca.crt'), api.caPem);
});
after(async () => {
  await api.close();
  rmSync(directory, { recursive: true });
});

async function run(args: readonly string[], env: TestIo['env'] = {}): Promise<TestIo & { status: number }> {
  const io = testIo({ env });
  const status = await lbctl(['kubeconfig', ...args], io);
  return { ...io, status };
}

function tokenIn(text: string): string {
  return /token: "(.+)"/.exec(text)?.[1] ?? '';
}

test('lbctl kubeconfig makes account and roles, and writes a kubeconfig that lbd can work with', async () => {
  const output = join(directory, 'new/kubeconfig');
  const args = [
    '--admin-kubeconfig',
    admin,
    '--server',
    api.url,
    '--ca',
    join(directory, 'ca.crt'),
    '-o',
    output,
  ];
  const made = await run(args);
  assert.equal(made.status, 0, made.stderr());
  assert.deepEqual(made.stdout().split('\n').slice(0, 5), [
    'ServiceAccount kube-system/lbd is in place',
    'ClusterRole lbd is in place',
    'ClusterRoleBinding lbd is in place',
    'Role kube-system/lbd is in place',
    'RoleBinding kube-system/lbd is in place',
  ]);
  assert.match(made.stdout(), /\nits token is valid for 30d; lbd renews it at half of that/);
  assert.equal((statSync(output).mode & 0o777 & ~0o040).toString(8), '600');
  assert.deepEqual(readdirSync(join(directory, 'new')), ['kubeconfig']);
  const { kubeconfig, api: asked } = await checkAccess({
    config: { kubeconfig: output, context: undefined, leaseNamespace: 'kube-system' },
    stateDirectory: directory,
    isOffline: false,
    timeoutMs: 5_000,
  });
  assert.ok(kubeconfig.kind === 'usable' && asked?.kind === 'answers', JSON.stringify({ kubeconfig, asked }));
  assert.equal(kubeconfig.token?.account, 'kube-system/lbd');
  assert.deepEqual(asked.missing, []);

  const before = readFileSync(output, 'utf8');
  const again = await run(args);
  assert.equal(again.status, 0, again.stderr());
  assert.equal(again.stdout(), made.stdout());
  const now = readFileSync(output, 'utf8');
  assert.notEqual(tokenIn(now), tokenIn(before));
  assert.equal(
    now.replace(tokenIn(now), ''),
    before.replace(tokenIn(before), ''),
    'only the token is another one',
  );
});

test('lbctl kubeconfig finds the administrator where kubectl does, and takes server and CA from there', async () => {
  const made = await run(['--output', '-', '--token-lifetime', '2h'], { KUBECONFIG: `${admin}:/nowhere` });
  assert.equal(made.status, 0, made.stderr());
  assert.match(made.stdout(), new RegExp(`server: "${api.url}"`));
  const token = parseAccountToken(tokenIn(made.stdout()));
  assert.ok(token);
  assert.equal(token.expiresAtMs - token.issuedAtMs, 2 * 3_600_000);
  assert.match(made.stderr(), /RoleBinding kube-system\/lbd is in place\nits token is valid for 2h;/);
});

test('lbctl kubeconfig writes nothing that lbd could not work with, unless it is told to', async () => {
  const output = join(directory, 'unreachable');
  const args = ['--admin-kubeconfig', admin, '--server', 'https://127.0.0.1:9', '-o', output];
  const refused = await run(args);
  assert.equal(refused.status, 1);
  assert.match(
    refused.stderr(),
    /^lbctl: nothing is written, because lbd could not work with it on https:\/\/127\.0\.0\.1:9: .*ECONNREFUSED/,
  );
  assert.throws(() => statSync(output), /ENOENT/);
  const made = await run([...args, '--no-verify']);
  assert.equal(made.status, 0, made.stderr());
  assert.match(readFileSync(output, 'utf8'), /server: "https:\/\/127\.0\.0\.1:9"/);
});

test('lbctl kubeconfig says what is in the way', async () => {
  await api.createUser('nobody');
  const nobody = join(directory, 'nobody');
  writeFileSync(nobody, api.kubeconfigFor('nobody'), { mode: 0o600 });
  const output = join(directory, 'none');
  const base = ['--admin-kubeconfig', admin, '--output', output];
  const empty = join(directory, 'empty');
  writeFileSync(empty, '');
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [
      ['--admin-kubeconfig', nobody],
      /^lbctl: cannot patch serviceaccounts: 403 .* \(grant verb patch on serviceaccounts\)\n$/,
    ],
    [['--admin-kubeconfig', '/nowhere'], /^lbctl: kubeconfig \/nowhere cannot be read: ENOENT/],
    [
      [...base, '--server', 'http://a:1'],
      /^lbctl: expected https:\/\/HOST:PORT as the server, got "http:\/\/a:1"\n$/,
    ],
    [[...base, '--ca', '/nowhere'], /^lbctl: cannot read the CA: ENOENT/],
    [[...base, '--ca', empty], /^lbctl: expected certificates in PEM in .*\/empty, got none\n$/],
    [[...base, '--token-lifetime', '5m'], /^lbctl: --token-lifetime: expected at least 10m, got "5m"\n$/],
    [
      [...base, '--token-lifetime', 'long'],
      /^lbctl: --token-lifetime: expected a duration such as "30s" or "1m30s", got/,
    ],
    [
      [...base, '--lease-namespace', 'missing'],
      /^lbctl: cannot patch roles: 404 namespaces "missing" not found\n$/,
    ],
    [
      ['--admin-kubeconfig', admin, '--output', `${empty}/x`],
      /^lbctl: cannot write .*\/empty\/x: .*(ENOTDIR|EEXIST)/,
    ],
  ];
  for (const [args, message] of cases) {
    const { status, stderr } = await run(args, { HOME: directory });
    assert.equal(status, 1, args.join(' '));
    assert.match(stderr(), message);
  }
  assert.throws(() => statSync(output), /ENOENT/);
  const lost = await run([], { HOME: directory });
  assert.match(lost.stderr(), /^lbctl: expected an administrator's kubeconfig, found none at \$KUBECONFIG, /);
});
