import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type AccessReport, checkAccess } from '../../../src/kube/io/access-check.ts';
import { accessRules, DEFAULT_ACCESS, PERMISSIONS } from '../../../src/kube/permissions.ts';
import { Harness } from './harness.ts';

/** The token is none that ends, so that nothing is asked about renewing it. */
const ASKED = PERMISSIONS.filter(({ scope }) => scope !== 'self').length;

let harness: Harness;
beforeEach(async () => {
  harness = await Harness.start();
});
afterEach(() => harness.close());

function checked(
  kubeconfig: string,
  options: {
    readonly isOffline?: boolean;
    readonly timeoutMs?: number;
    readonly leaseNamespace?: string;
  } = {},
): Promise<AccessReport> {
  const { isOffline = false, timeoutMs = 5_000, leaseNamespace = 'kube-system' } = options;
  return checkAccess({
    config: { kubeconfig, context: undefined, leaseNamespace },
    stateDirectory: harness.directory,
    isOffline,
    timeoutMs,
  });
}

function missing({ api }: AccessReport): readonly string[] {
  assert.ok(api?.kind === 'answers', JSON.stringify(api));
  return api.missing.map(({ verb, resource }) => `${verb} ${resource}`);
}

async function closedPort(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `https://127.0.0.1:${port}`;
}

describe('checkAccess()', () => {
  it('finds nothing missing for lbd itself', async () => {
    const report = await checked(harness.kubeconfig());
    assert.deepEqual(report.kubeconfig, { kind: 'usable', server: harness.api.url, token: undefined });
    assert.deepEqual(missing(report), []);
    assert.ok(report.api?.kind === 'answers');
    assert.equal(report.api.asked, ASKED);
    assert.match(report.api.version ?? '', /^v1\./);
  });

  it('finds each verb that is missing', async () => {
    const rules = accessRules(DEFAULT_ACCESS).filter(
      ({ resources }) => !resources.includes('services/status'),
    );
    const less = rules.map((rule) => ({ ...rule, verbs: rule.verbs.filter((verb) => verb !== 'watch') }));
    await harness.api.createUser('less', { rules: less });
    assert.deepEqual(missing(await checked(harness.kubeconfig('less'))), [
      'watch services',
      'patch services/status',
      'watch endpointslices',
      'watch nodes',
    ]);
    await harness.api.createUser('nobody');
    assert.equal(missing(await checked(harness.kubeconfig('nobody'))).length, ASKED);
  });

  it('asks about the Lease in its own namespace', async () => {
    const report = await checked(harness.kubeconfig(), { leaseNamespace: 'elsewhere' });
    assert.deepEqual(missing(report), ['create leases', 'get leases', 'patch leases']);
  });

  it('says why a kubeconfig cannot serve', async () => {
    const path = harness.kubeconfig();
    chmodSync(path, 0o644);
    const report = await checked(path);
    assert.equal(report.api, undefined);
    assert.ok(report.kubeconfig.kind === 'unusable');
    assert.match(report.kubeconfig.problem, /is open to every user of this host \(mode 0644\)/);
  });

  it('tells a file that this user may not see from one that is not there', {
    skip: process.geteuid?.() !== 0,
  }, async () => {
    const path = harness.kubeconfig();
    chmodSync(harness.directory, 0o755);
    process.seteuid?.(65_534);
    try {
      assert.deepEqual(await checked(path), { kubeconfig: { kind: 'unseen' }, api: undefined });
      assert.equal((await checked(`${path}-none`)).kubeconfig.kind, 'unusable');
    } finally {
      process.seteuid?.(0);
    }
  });

  it('says that credentials are refused', async () => {
    const path = harness.kubeconfig();
    harness.api.rotateToken('lbd');
    const { api } = await checked(path);
    assert.ok(api?.kind === 'failed');
    assert.match(api.problem, /401 Unauthorized \(the credentials in the kubeconfig are refused\)/);
  });

  it('waits no longer than it is told for a server that hangs, or is away', async () => {
    const path = harness.kubeconfig();
    harness.api.faults.stall();
    const hanging = await checked(path, { timeoutMs: 300 });
    harness.api.faults.resume();
    assert.deepEqual(hanging.api, { kind: 'failed', problem: 'cannot get /version: no answer within 0.3 s' });
    // A port that nobody listens on any more.
    const away = harness.kubeconfig('lbd', 'token', await closedPort());
    const { api } = await checked(away);
    assert.ok(api?.kind === 'failed');
    assert.match(api.problem, /^cannot get \/version: .*ECONNREFUSED/);
  });

  it('asks nobody when it is offline', async () => {
    const away = harness.kubeconfig('lbd', 'token', await closedPort());
    const report = await checked(away, { isOffline: true });
    assert.equal(report.api, undefined);
    assert.equal(report.kubeconfig.kind, 'usable');
  });
});
