/** packaging/kubernetes/rbac.yaml, as an administrator applies it. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { promisify } from 'node:util';
import { DEFAULT_ACCESS, namespaceOf, PERMISSIONS } from '../../src/kube/permissions.ts';
import type { Client } from '../support/apiserver/client.ts';
import { at, type JsonObject, stringOf } from '../support/apiserver/json.ts';
import { contract, created } from './target.ts';

const run = promisify(execFile);
const RBAC = join(import.meta.dirname, '../../packaging/kubernetes/rbac.yaml');
const hasKubectl = await run('kubectl', ['version', '--client']).then(
  () => true,
  () => false,
);

async function mayI(client: Client, attributes: JsonObject): Promise<unknown> {
  const answer = await client.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: attributes },
  });
  return at(created(answer), 'status', 'allowed');
}

contract('rbac.yaml', (context) => {
  let directory = '';
  const kubectl = async (...parameters: string[]): Promise<string> => {
    const flags = ['--kubeconfig', join(directory, 'config'), '--cache-dir', join(directory, 'cache')];
    return (await run('kubectl', [...flags, ...parameters])).stdout;
  };
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'lbd-rbac-'));
    writeFileSync(join(directory, 'config'), context().target.kubeconfigFor('admin'), { mode: 0o600 });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('kubectl applies it, a second time without a change', { skip: !hasKubectl }, async () => {
    const first = await kubectl('apply', '-f', RBAC);
    assert.equal(first.match(/ (created|configured)$/gm)?.length, 5, first);
    const again = await kubectl('apply', '-f', RBAC);
    assert.equal(again.match(/ unchanged$/gm)?.length, 5, again);
  });

  it('a token of the ServiceAccount may do each thing on the list, and no more', {
    skip: !hasKubectl,
  }, async () => {
    await kubectl('apply', '-f', RBAC);
    const { admin, client } = context();
    const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} };
    const answer = await admin.post('/api/v1/namespaces/kube-system/serviceaccounts/lbd/token', request);
    const lbd = client({ token: stringOf(at(created(answer), 'status', 'token')) });
    for (const permission of PERMISSIONS) {
      const { group, verb, name = '' } = permission;
      const [resource = '', subresource = ''] = permission.resource.split('/');
      const namespace = namespaceOf(permission, DEFAULT_ACCESS) ?? '';
      const attributes = { group, resource, subresource, verb, name, namespace };
      assert.equal(await mayI(lbd, attributes), true, JSON.stringify(attributes));
      assert.equal(await mayI(lbd, { ...attributes, verb: 'delete' }), false);
    }
    const another = {
      resource: 'serviceaccounts',
      subresource: 'token',
      verb: 'create',
      namespace: 'kube-system',
    };
    assert.equal(await mayI(lbd, { ...another, name: 'default' }), false);
    const lease = { group: 'coordination.k8s.io', resource: 'leases', verb: 'get', name: 'lbd-allocator' };
    assert.equal(await mayI(lbd, { ...lease, namespace: 'default' }), false);
  });
});
