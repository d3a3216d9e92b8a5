/** Who may do what: tokens, client certificates, kubeconfigs, refusals; and what anybody may read. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { arrayOf, at, type JsonObject, stringOf } from '../support/apiserver/json.ts';
import { LBD_RULES } from '../support/apiserver/types.ts';
import { contract, created, eventually, ok, refused, service, servicesPath } from './target.ts';

contract('access', (context) => {
  it('a wrong token is 401, no credentials at all is the anonymous user and 403', async () => {
    const { client } = context();
    const status = refused(await client({ token: 'wrong' }).get('/api/v1/services'), 401, 'Unauthorized');
    assert.equal(status['message'], 'Unauthorized');
    const anonymous = refused(await client({}).get('/api/v1/services'), 403, 'Forbidden');
    assert.match(stringOf(anonymous['message']), /User "system:anonymous" cannot list resource "services"/);
  });

  it('without a rule every verb is 403 and the message names verb, resource, group and scope', async () => {
    const { target, client, namespace } = context();
    await target.createUser('nobody');
    const nobody = client('nobody');
    const ns = await namespace();
    const list = refused(await nobody.get('/api/v1/services'), 403, 'Forbidden');
    assert.equal(
      list['message'],
      'services is forbidden: User "nobody" cannot list resource "services" in API group "" at the cluster scope',
    );
    const patch = refused(await nobody.patch(servicesPath(ns, 'a', '/status'), {}), 403, 'Forbidden');
    assert.equal(
      patch['message'],
      `services "a" is forbidden: User "nobody" cannot patch resource "services/status" in API group "" in the namespace "${ns}"`,
    );
    const lease = refused(
      await nobody.post(`/apis/coordination.k8s.io/v1/namespaces/${ns}/leases`, {}),
      403,
      'Forbidden',
    );
    assert.equal(
      lease['message'],
      `leases.coordination.k8s.io is forbidden: User "nobody" cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "${ns}"`,
    );
    refused(await nobody.get('/api/v1/services?watch=1'), 403, 'Forbidden');
  });

  it('the rules of lbd allow what lbd does and no more', async () => {
    const { target, admin, client, namespace } = context();
    await target.createUser('lbd', { rules: LBD_RULES });
    const lbd = client('lbd');
    const ns = await namespace();
    created(await admin.post(servicesPath(ns), service('a')));
    ok(await lbd.get('/api/v1/services'));
    ok(await lbd.get('/api/v1/nodes'));
    ok(await lbd.get('/apis/discovery.k8s.io/v1/endpointslices'));
    (await lbd.watch('/api/v1/services')).close();
    ok(
      await lbd.patch(servicesPath(ns, 'a', '/status'), {
        status: { loadBalancer: { ingress: [{ ip: '192.0.2.1' }] } },
      }),
    );
    created(
      await lbd.post('/apis/coordination.k8s.io/v1/namespaces/kube-system/leases', {
        metadata: { name: 'lbd-allocator' },
      }),
    );
    ok(await lbd.get('/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/lbd-allocator'));
    refused(
      await lbd.post(`/apis/coordination.k8s.io/v1/namespaces/${ns}/leases`, { metadata: { name: 'other' } }),
      403,
      'Forbidden',
    );
    refused(await lbd.patch(servicesPath(ns, 'a'), {}), 403, 'Forbidden');
    refused(await lbd.post(servicesPath(ns), service('b')), 403, 'Forbidden');
    refused(await lbd.get('/api/v1/namespaces'), 403, 'Forbidden');
    refused(
      await lbd.delete('/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/lbd-allocator'),
      403,
      'Forbidden',
    );
  });

  it('rules may be limited to a namespace and to names', async () => {
    const { target, client, namespace } = context();
    const [mine, other] = [await namespace(), await namespace()];
    await target.createUser('limited', {
      rules: [
        { apiGroups: [''], resources: ['services'], verbs: ['list'], namespace: mine },
        {
          apiGroups: ['coordination.k8s.io'],
          resources: ['leases'],
          verbs: ['get'],
          resourceNames: ['one'],
          namespace: mine,
        },
      ],
    });
    const limited = client('limited');
    ok(await limited.get(servicesPath(mine)));
    refused(await limited.get(servicesPath(other)), 403, 'Forbidden');
    refused(await limited.get('/api/v1/services'), 403, 'Forbidden');
    const leases = `/apis/coordination.k8s.io/v1/namespaces/${mine}/leases`;
    refused(await limited.get(`${leases}/one`), 404, 'NotFound');
    refused(await limited.get(`${leases}/two`), 403, 'Forbidden');
  });

  it('a client certificate names the user and its groups', async () => {
    const { target, client } = context();
    await target.createUser('certified', { groups: ['system:masters'] });
    const config = target.kubeconfigFor('certified', { form: 'clientCertificate' });
    const pem = (field: string): string => {
      const data = new RegExp(`${field}: (\\S+)`).exec(config)?.[1] ?? '';
      return Buffer.from(data, 'base64').toString();
    };
    const certified = client({ cert: pem('client-certificate-data'), key: pem('client-key-data') });
    ok(await certified.get('/api/v1/services'));
  });

  it('a rotated token replaces the old one, in the token file too', async () => {
    const { target, client } = context();
    await target.createUser('rotating', { groups: ['system:masters'] });
    const path = /tokenFile: (\S+)/.exec(target.kubeconfigFor('rotating', { form: 'tokenFile' }))?.[1] ?? '';
    const old = target.tokenOf('rotating');
    assert.equal(readFileSync(path, 'utf8'), old);
    ok(await client({ token: old }).get('/api/v1/services'));
    const fresh = target.rotateToken('rotating');
    assert.notEqual(fresh, old);
    assert.equal(readFileSync(path, 'utf8'), fresh);
    ok(await client({ token: fresh }).get('/api/v1/services'));
    const stale = client({ token: old });
    await eventually(async () => {
      refused(await stale.get('/api/v1/services'), 401, 'Unauthorized');
    });
  });

  it('revoked tokens are refused', async () => {
    const { target, client } = context();
    await target.createUser('revoked', { groups: ['system:masters'] });
    const revoked = client('revoked');
    ok(await revoked.get('/api/v1/services'));
    target.revokeTokens('revoked');
    await eventually(async () => {
      refused(await revoked.get('/api/v1/services'), 401, 'Unauthorized');
    });
  });

  it('a SelfSubjectAccessReview tells a user what it may do', async () => {
    const { target, client } = context();
    await target.createUser('asking', {
      rules: [{ apiGroups: [''], resources: ['services'], verbs: ['list'] }],
    });
    const asking = client('asking');
    const may = async (verb: string): Promise<unknown> => {
      const body: JsonObject = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectAccessReview',
        spec: { resourceAttributes: { verb, resource: 'services' } },
      };
      return at(
        created(await asking.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', body)),
        'status',
        'allowed',
      );
    };
    assert.equal(await may('list'), true);
    assert.equal(await may('delete'), false);
  });

  it('a service account token speaks as the account', async () => {
    const { admin, client, namespace } = context();
    const ns = await namespace();
    created(await admin.post(`/api/v1/namespaces/${ns}/serviceaccounts`, { metadata: { name: 'robot' } }));
    const body = {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { expirationSeconds: 600 },
    };
    const answer = created(await admin.post(`/api/v1/namespaces/${ns}/serviceaccounts/robot/token`, body));
    const robot = client({ token: stringOf(at(answer, 'status', 'token')) });
    const status = refused(await robot.get(servicesPath(ns)), 403, 'Forbidden');
    assert.match(
      stringOf(status['message']),
      new RegExp(`User "system:serviceaccount:${ns}:robot" cannot list`),
    );
  });
});

contract('discovery', (context) => {
  it('health and version are open to everybody', async () => {
    const { client } = context();
    const anonymous = client({});
    for (const path of ['/healthz', '/readyz', '/livez'])
      assert.equal((await anonymous.get(path)).text, 'ok');
    assert.match(stringOf(ok(await anonymous.get('/version'))['gitVersion']), /^v1\./);
  });

  it('lists groups, versions and resources with their verbs and short names', async () => {
    const { admin } = context();
    assert.deepEqual(ok(await admin.get('/api'))['versions'], ['v1']);
    const groups = arrayOf(ok(await admin.get('/apis'))['groups']).map((group) =>
      stringOf(at(group, 'name')),
    );
    for (const group of ['coordination.k8s.io', 'discovery.k8s.io', 'events.k8s.io'])
      assert(groups.includes(group), group);
    const core = arrayOf(ok(await admin.get('/api/v1'))['resources']);
    const services = core.find((resource) => at(resource, 'name') === 'services');
    assert.equal(at(services, 'kind'), 'Service');
    assert.equal(at(services, 'namespaced'), true);
    assert.deepEqual(at(services, 'shortNames'), ['svc']);
    assert(arrayOf(at(services, 'verbs')).includes('watch'), 'services can be watched');
    assert(
      core.some((resource) => at(resource, 'name') === 'services/status'),
      'services/status is listed',
    );
    const leases = arrayOf(ok(await admin.get('/apis/coordination.k8s.io/v1'))['resources']);
    assert(
      leases.some((resource) => at(resource, 'name') === 'leases'),
      'leases are listed',
    );
  });

  it('serves aggregated discovery to those who ask', async () => {
    const { admin } = context();
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json';
    const answer = await admin.get('/api', { accept });
    assert.equal(ok(answer)['kind'], 'APIGroupDiscoveryList');
    assert.match(String(answer.headers['content-type']), /as=APIGroupDiscoveryList/);
  });

  it('serves OpenAPI documents that name the kinds', async () => {
    const { admin } = context();
    const paths = Object.keys(at(ok(await admin.get('/openapi/v3')), 'paths') as JsonObject);
    assert(paths.includes('api/v1'), 'api/v1');
    const document = ok(await admin.get('/openapi/v3/api/v1'));
    assert(
      'io.k8s.api.core.v1.Service' in (at(document, 'components', 'schemas') as JsonObject),
      'Service has a schema',
    );
  });
});
