/** The patch formats and the status subresource. */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { arrayOf, at, type JsonObject } from '../support/apiserver/json.ts';
import {
  type Context,
  contract,
  created,
  invalidAt,
  ok,
  refused,
  revisionOf,
  service,
  servicesPath,
} from './target.ts';

const INGRESS = [{ ip: '192.0.2.10', ipMode: 'VIP' }];

async function start(context: Context, spec: JsonObject = {}): Promise<{ path: string; made: JsonObject }> {
  const path = servicesPath(await context.namespace());
  const made = created(await context.admin.post(path, service('a', spec)));
  return { path: `${path}/a`, made };
}

contract('patches', (context) => {
  it('merge patch sets, replaces lists whole and removes with null', async () => {
    const { admin } = context();
    const { path } = await start(context(), { selector: { a: '1', b: '2' } });
    const patched = ok(
      await admin.patch(path, { spec: { selector: { a: null, c: '3' }, ports: [{ port: 81 }] } }),
    );
    assert.deepEqual(at(patched, 'spec', 'selector'), { b: '2', c: '3' });
    assert.deepEqual(
      arrayOf(at(patched, 'spec', 'ports')).map((port) => at(port, 'port')),
      [81],
    );
  });

  it('strategic merge patch merges ports by port and deletes by directive', async () => {
    const { admin } = context();
    const { path } = await start(context(), {
      ports: [
        { name: 'a', port: 80 },
        { name: 'b', port: 81 },
      ],
    });
    const added = ok(
      await admin.patch(
        path,
        {
          spec: {
            ports: [
              { name: 'c', port: 82 },
              { port: 80, targetPort: 8080 },
            ],
          },
        },
        'strategic-merge',
      ),
    );
    const ports = arrayOf(at(added, 'spec', 'ports'));
    assert.deepEqual(new Set(ports.map((port) => at(port, 'port'))), new Set([80, 81, 82]));
    assert.equal(
      at(
        ports.find((port) => at(port, 'port') === 80),
        'targetPort',
      ),
      8080,
    );
    assert.equal(
      at(
        ports.find((port) => at(port, 'port') === 80),
        'name',
      ),
      'a',
    );
    const removed = ok(
      await admin.patch(path, { spec: { ports: [{ port: 81, $patch: 'delete' }] } }, 'strategic-merge'),
    );
    assert.deepEqual(
      new Set(arrayOf(at(removed, 'spec', 'ports')).map((port) => at(port, 'port'))),
      new Set([80, 82]),
    );
  });

  it('strategic merge patch merges conditions by type and replaces ingress whole', async () => {
    const { admin } = context();
    const { path } = await start(context());
    const condition = (type: string, status: string): JsonObject => ({
      type,
      status,
      reason: 'R',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    });
    const two = [{ ip: '192.0.2.1' }, { ip: '192.0.2.2' }];
    ok(
      await admin.patch(
        `${path}/status`,
        { status: { conditions: [condition('A', 'True')], loadBalancer: { ingress: two } } },
        'strategic-merge',
      ),
    );
    const patched = ok(
      await admin.patch(
        `${path}/status`,
        {
          status: { conditions: [condition('B', 'False')], loadBalancer: { ingress: [{ ip: '192.0.2.3' }] } },
        },
        'strategic-merge',
      ),
    );
    assert.deepEqual(
      new Set(arrayOf(at(patched, 'status', 'conditions')).map((entry) => at(entry, 'type'))),
      new Set(['A', 'B']),
    );
    assert.deepEqual(at(patched, 'status', 'loadBalancer', 'ingress'), [{ ip: '192.0.2.3', ipMode: 'VIP' }]);
  });

  it('json patch adds, replaces, removes and tests', async () => {
    const { admin } = context();
    const { path } = await start(context(), { selector: { a: '1' } });
    const patched = ok(
      await admin.patch(
        path,
        [
          { op: 'test', path: '/spec/selector/a', value: '1' },
          { op: 'replace', path: '/spec/selector/a', value: '2' },
          { op: 'add', path: '/metadata/annotations', value: { 'example.com/k': 'v' } },
          { op: 'add', path: '/metadata/annotations/example.com~1l', value: 'w' },
          { op: 'remove', path: '/metadata/annotations/example.com~1k' },
        ],
        'json',
      ),
    );
    assert.deepEqual(at(patched, 'spec', 'selector'), { a: '2' });
    assert.deepEqual(at(patched, 'metadata', 'annotations'), { 'example.com/l': 'w' });
    const failed = await admin.patch(path, [{ op: 'test', path: '/spec/selector/a', value: '1' }], 'json');
    assert.equal(failed.code, 422, failed.text);
  });

  it('an unknown patch type is 415', async () => {
    const { admin } = context();
    const { path } = await start(context());
    const answer = await admin.send('PATCH', path, {}, { contentType: 'application/json' });
    refused(answer, 415, 'UnsupportedMediaType');
  });

  it('resourceVersion in a patch is a precondition: 409 when it is not the current one', async () => {
    const { admin } = context();
    const { path, made } = await start(context());
    const changed = ok(
      await admin.patch(path, { metadata: { resourceVersion: revisionOf(made), labels: { a: '1' } } }),
    );
    const late = { metadata: { resourceVersion: revisionOf(made), labels: { a: '2' } } };
    refused(await admin.patch(path, late), 409, 'Conflict');
    refused(await admin.patch(path, late, 'strategic-merge'), 409, 'Conflict');
    refused(
      await admin.patch(`${path}/status`, {
        metadata: { resourceVersion: revisionOf(made) },
        status: { loadBalancer: { ingress: INGRESS } },
      }),
      409,
      'Conflict',
    );
    assert.equal(at(ok(await admin.get(path)), 'metadata', 'labels', 'a'), '1');
    assert.equal(revisionOf(ok(await admin.get(path))), revisionOf(changed));
  });

  it('a patch of the status subresource changes status and no spec', async () => {
    const { admin } = context();
    const { path } = await start(context());
    const patched = ok(
      await admin.patch(`${path}/status`, {
        spec: { ports: [{ port: 99 }] },
        status: { loadBalancer: { ingress: INGRESS } },
      }),
    );
    assert.deepEqual(at(patched, 'status', 'loadBalancer', 'ingress'), INGRESS);
    assert.equal(at(arrayOf(at(patched, 'spec', 'ports'))[0], 'port'), 80);
  });

  it('a write of the main resource changes spec and no status', async () => {
    const { admin } = context();
    const { path } = await start(context());
    ok(await admin.patch(`${path}/status`, { status: { loadBalancer: { ingress: INGRESS } } }));
    const patched = ok(
      await admin.patch(path, {
        metadata: { labels: { a: 'b' } },
        status: { loadBalancer: { ingress: null } },
      }),
    );
    assert.deepEqual(at(patched, 'status', 'loadBalancer', 'ingress'), INGRESS);
    const whole = structuredClone(patched);
    whole['status'] = { loadBalancer: { ingress: [{ ip: '192.0.2.99' }] } };
    assert.deepEqual(at(ok(await admin.put(path, whole)), 'status', 'loadBalancer', 'ingress'), INGRESS);
  });

  it('create ignores a status', async () => {
    const { admin, namespace } = context();
    const body = { ...service('a'), status: { loadBalancer: { ingress: INGRESS } } };
    const made = created(await admin.post(servicesPath(await namespace()), body));
    assert.deepEqual(at(made, 'status'), { loadBalancer: {} });
  });

  it('ipMode defaults to VIP for an ip, and is refused without one or with another value', async () => {
    const { admin } = context();
    const { path } = await start(context());
    const status = (entry: JsonObject): JsonObject => ({ status: { loadBalancer: { ingress: [entry] } } });
    const patched = ok(await admin.patch(`${path}/status`, status({ ip: '192.0.2.1' })));
    assert.deepEqual(at(patched, 'status', 'loadBalancer', 'ingress'), [{ ip: '192.0.2.1', ipMode: 'VIP' }]);
    ok(await admin.patch(`${path}/status`, status({ ip: '2001:db8::1', ipMode: 'Proxy' })));
    const field = 'status.loadBalancer.ingress[0]';
    invalidAt(
      await admin.patch(`${path}/status`, status({ hostname: 'a.example', ipMode: 'VIP' })),
      `${field}.ipMode`,
    );
    invalidAt(
      await admin.patch(`${path}/status`, status({ ip: '192.0.2.1', ipMode: 'Direct' })),
      `${field}.ipMode`,
    );
    invalidAt(await admin.patch(`${path}/status`, status({ ip: '192.0.2.256' })), `${field}.ip`);
    invalidAt(await admin.patch(`${path}/status`, status({ hostname: '192.0.2.1' })), `${field}.hostname`);
  });

  it('status addresses are refused while the Service is no LoadBalancer', async () => {
    const { admin, namespace } = context();
    const path = servicesPath(await namespace());
    created(await admin.post(path, { metadata: { name: 'a' }, spec: { ports: [{ port: 80 }] } }));
    invalidAt(
      await admin.patch(`${path}/a/status`, { status: { loadBalancer: { ingress: INGRESS } } }),
      'status.loadBalancer.ingress',
    );
  });

  it('leases and endpoint slices have no status subresource', async () => {
    const { admin, namespace } = context();
    const path = `/apis/coordination.k8s.io/v1/namespaces/${await namespace()}/leases`;
    created(await admin.post(path, { metadata: { name: 'l' }, spec: {} }));
    assert.equal((await admin.patch(`${path}/l/status`, {})).code, 404);
  });
});

contract('server-side apply', (context) => {
  const body = (spec: JsonObject): JsonObject => ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'a' },
    spec,
  });

  it('creates, then updates what its manager owns', async () => {
    const { admin, namespace } = context();
    const path = `${servicesPath(await namespace())}/a`;
    created(await admin.apply(path, 'one', body({ ports: [{ port: 80 }], selector: { a: '1' } })));
    const changed = ok(await admin.apply(path, 'one', body({ ports: [{ port: 80 }], selector: { a: '2' } })));
    assert.deepEqual(at(changed, 'spec', 'selector'), { a: '2' });
    const again = ok(await admin.apply(path, 'one', body({ ports: [{ port: 80 }], selector: { a: '2' } })));
    assert.equal(revisionOf(again), revisionOf(changed), 'applying the same again writes nothing');
  });

  it('needs a fieldManager', async () => {
    const { admin, namespace } = context();
    const path = `${servicesPath(await namespace())}/a`;
    const answer = await admin.send('PATCH', path, body({ ports: [{ port: 80 }] }), {
      contentType: 'application/apply-patch+yaml',
    });
    assert(answer.code === 400 || answer.code === 422, answer.text);
  });

  it('a field of another manager is a Conflict that names it, unless forced', async () => {
    const { admin, namespace } = context();
    const path = `${servicesPath(await namespace())}/a`;
    created(await admin.apply(path, 'one', body({ ports: [{ port: 80 }], selector: { a: '1' } })));
    const other = body({ ports: [{ port: 80 }], selector: { a: '2' } });
    const status = refused(await admin.apply(path, 'two', other), 409, 'Conflict');
    const cause = arrayOf(at(status, 'details', 'causes'))[0];
    assert.equal(at(cause, 'reason'), 'FieldManagerConflict');
    assert.equal(at(cause, 'field'), '.spec.selector');
    const forced = ok(await admin.apply(path, 'two', other, '&force=true'));
    assert.deepEqual(at(forced, 'spec', 'selector'), { a: '2' });
  });

  it('managers share what they agree on, and a field goes when its last owner drops it', async () => {
    const { admin, namespace } = context();
    const path = `${servicesPath(await namespace())}/a`;
    const labelled = (labels: JsonObject): JsonObject => ({
      ...body({ ports: [{ port: 80 }] }),
      metadata: { name: 'a', labels },
    });
    created(await admin.apply(path, 'one', labelled({ x: '1', y: '1' })));
    ok(await admin.apply(path, 'two', labelled({ x: '1' })));
    const without = ok(await admin.apply(path, 'one', labelled({})));
    assert.deepEqual(at(without, 'metadata', 'labels'), { x: '1' });
    const none = ok(await admin.apply(path, 'two', labelled({})));
    assert.equal(at(none, 'metadata', 'labels'), undefined);
  });

  it('ports of several managers live side by side', async () => {
    const { admin, namespace } = context();
    const path = `${servicesPath(await namespace())}/a`;
    created(await admin.apply(path, 'one', body({ ports: [{ name: 'a', port: 80, protocol: 'TCP' }] })));
    const both = ok(
      await admin.apply(path, 'two', body({ ports: [{ name: 'b', port: 81, protocol: 'TCP' }] })),
    );
    assert.deepEqual(
      arrayOf(at(both, 'spec', 'ports')).map((port) => at(port, 'port')),
      [80, 81],
    );
    const one = ok(await admin.apply(path, 'two', body({})));
    assert.deepEqual(
      arrayOf(at(one, 'spec', 'ports')).map((port) => at(port, 'port')),
      [80],
    );
  });

  it('what an update set belongs to the updater', async () => {
    const { admin, namespace } = context();
    const services = servicesPath(await namespace());
    created(await admin.post(`${services}?fieldManager=creator`, service('a', { selector: { a: '1' } })));
    const status = refused(
      await admin.apply(`${services}/a`, 'two', body({ selector: { a: '2' } })),
      409,
      'Conflict',
    );
    assert.match(String(status['message']), /"creator"/);
  });

  it('on the status subresource it applies status only', async () => {
    const { admin, namespace } = context();
    const services = servicesPath(await namespace());
    created(await admin.post(services, service('a')));
    const applied = ok(
      await admin.apply(`${services}/a/status`, 'lb', {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'a' },
        status: { loadBalancer: { ingress: INGRESS } },
      }),
    );
    assert.deepEqual(at(applied, 'status', 'loadBalancer', 'ingress'), INGRESS);
  });
});
