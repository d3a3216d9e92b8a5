import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { loadAll } from 'js-yaml';
import { accessManifests, accessRules, DEFAULT_ACCESS, PERMISSIONS } from '../../../src/kube/permissions.ts';
import { LBD_RULES } from '../../support/apiserver/types.ts';

const RBAC = readFileSync(new URL('../../../packaging/kubernetes/rbac.yaml', import.meta.url), 'utf8');

test('rbac.yaml is what accessManifests() gives', () => {
  assert.deepEqual(loadAll(RBAC), accessManifests(DEFAULT_ACCESS));
});

test('rbac.yaml states the reason of each verb', () => {
  for (const { verb, reason } of PERMISSIONS) {
    assert.ok(RBAC.includes(`  # ${verb}: ${reason}\n`), `${verb}: ${reason}`);
  }
});

test('LBD_RULES grant each permission once and nothing else', () => {
  const granted = LBD_RULES.flatMap(({ apiGroups, resources, verbs, resourceNames = [''], namespace = '' }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) =>
        verbs.flatMap((verb) =>
          resourceNames.map((name) => `${verb} ${resource} ${group} ${namespace} ${name}`),
        ),
      ),
    ),
  );
  const wanted = PERMISSIONS.map(({ verb, resource, group, scope, name = '' }) => {
    return `${verb} ${resource} ${group} ${scope === 'cluster' ? '' : 'kube-system'} ${name}`;
  });
  assert.deepEqual(granted.toSorted(), wanted.toSorted());
});

test('accessManifests() has a Role in each namespace when the Lease is in another one', () => {
  const options = { namespace: 'lb', leaseNamespace: 'leases' };
  const roles = accessManifests(options).filter(({ kind }) => kind === 'Role');
  assert.deepEqual(
    roles.map(({ metadata, rules }) => [
      metadata.namespace,
      (rules as { resources: string[] }[]).map((rule) => rule.resources[0]),
    ]),
    [
      ['leases', ['leases', 'leases']],
      ['lb', ['serviceaccounts/token']],
    ],
  );
  const subjects = accessManifests(options).flatMap((manifest) => manifest['subjects'] ?? []);
  assert.deepEqual(
    new Set(subjects.map((subject) => (subject as { namespace: string }).namespace)),
    new Set(['lb']),
  );
  assert.equal(accessRules(options).length, accessRules(DEFAULT_ACCESS).length);
});
