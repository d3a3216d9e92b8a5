import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LbdError } from '../../src/lib/errors.ts';
import { createLab } from '../support/lab.ts';
import { addressesOf } from '../support/lab-api.ts';
import { labTimeMs } from '../support/lab-time.ts';

const HOSTS = { api: {}, h1: {}, client: {} };
const TOML = '[[pool]]\nname = "lan"\naddresses = ["10.77.0.200-10.77.0.220"]\n';

test('lab.startApiServer() serves kubectl and tells when a watch saw a change', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  await lab.startApiServer();
  const created = await lab.api.createService({ name: 'web', annotations: { 'lbd.io/pool': 'lan' } });
  assert.equal(created.code, 201);
  assert.ok(created.answeredAtMs > created.sentAtMs && created.answeredAtMs <= labTimeMs());
  const seen = await lab.api.waitForService('web', (_, { type }) => type === 'ADDED');
  assert.ok(seen.atMs >= created.sentAtMs);
  const { stdout } = await lab.kubectl(['get', 'service', 'web', '-o', 'jsonpath={.spec.type}']);
  assert.equal(stdout, 'LoadBalancer');
  const ingress = [{ ip: '10.77.0.200', ipMode: 'VIP' }];
  const patch = { status: { loadBalancer: { ingress } } };
  await lab.api.expect(
    'PATCH',
    '/api/v1/namespaces/default/services/web/status',
    patch,
    'application/merge-patch+json',
  );
  assert.deepEqual((await lab.api.waitForAddresses('web')).addresses, ['10.77.0.200']);
  assert.deepEqual(addressesOf(await lab.api.getService('web')), ['10.77.0.200']);
  await lab.api.deleteService('web');
  await lab.api.waitForService('web', (_, { type }) => type === 'DELETED');
  await assert.rejects(lab.api.getService('web'), /GET .*services\/web: 404 services "web" not found/);
});

test('apiServer.fault() and createUser() reach the server', { skip: skipWithRealServer() }, async () => {
  await using lab = await createLab({ hosts: HOSTS });
  const server = await lab.startApiServer('api');
  await server.fault('fail', 503, { resources: ['nodes'] });
  await assert.rejects(lab.api.expect('GET', '/api/v1/nodes'), /503 injected fault/);
  await server.fault('clear');
  await lab.api.expect('GET', '/api/v1/nodes');
  await server.createUser('nobody');
  assert.match(await server.kubeconfig('nobody'), /user: "?nobody/);
  assert.ok(((await server.stats()).requests['list nodes']?.count ?? 0) >= 1);
  await assert.rejects(server.fault('nonesuch'), /unknown fault "nonesuch"/);
});

test('lab.startLbd() resolves when lbd is ready, and reads its status and log', async () => {
  await using lab = await createLab({ hosts: HOSTS });
  await lab.startApiServer();
  const lbd = await lab.startLbd('h1', { toml: TOML });
  const readyMs = await lbd.ready();
  assert.ok(readyMs > 0 && readyMs < 15_000, `${readyMs} ms`);
  assert.equal((await lbd.status()).host.name, 'h1');
  await lbd.waitForLog('daemon.started', { host: 'h1' });
  await lbd.waitForStatus((status) => status.pools.some(({ name }) => name === 'lan'), {
    describe: 'the pool in the status',
  });
  assert.equal(JSON.parse((await lbd.lbctl(['status', '--json'])).stdout).host.name, 'h1');
  await lbd.reload('pool = 3\n');
  await lbd.waitForStatus((status) => status.config.reloadProblems.length > 0, {
    describe: 'the refused reload',
  });
  assert.deepEqual(await lbd.stop(), { code: 0, signal: null });
});

test('lab.startLbd() throws what lbd said when it does not start', async () => {
  await using lab = await createLab({ hosts: { h1: {} } });
  await assert.rejects(lab.startLbd('h1', { toml: '[pol]\n' }), (error) => {
    assert.ok(error instanceof LbdError);
    return /lbd on h1 ended \(1\) before READY=1:\n.*pol/s.test(error.message);
  });
});

function skipWithRealServer(): string | false {
  return process.env['KUBE_APISERVER'] ? 'a real API server takes no faults' : false;
}
