/** Create, read, update and delete: names, versions, preconditions, finalizers. */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { at, type JsonObject, objectOf, stringOf } from '../support/apiserver/json.ts';
import {
  contract,
  created,
  invalidAt,
  nameOf,
  ok,
  refused,
  revisionOf,
  service,
  servicesPath,
} from './target.ts';

contract('objects', (context) => {
  it('create gives uid, creationTimestamp and resourceVersion, and get returns the same', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(servicesPath(ns), service('a', {}, { labels: { app: 'x' } })));
    const metadata = objectOf(made['metadata']);
    assert.match(stringOf(metadata['uid']), /^[0-9a-f-]{36}$/);
    assert.match(stringOf(metadata['creationTimestamp']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    assert.match(revisionOf(made), /^[1-9]\d*$/);
    assert.equal(metadata['namespace'], ns);
    assert.deepEqual(ok(await admin.get(servicesPath(ns, 'a'))), made);
  });

  it('create refuses a name that is taken with AlreadyExists', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    created(await admin.post(servicesPath(ns), service('a')));
    const status = refused(await admin.post(servicesPath(ns), service('a')), 409, 'AlreadyExists');
    assert.equal(status['message'], 'services "a" already exists');
    assert.deepEqual(status['details'], { name: 'a', kind: 'services' });
  });

  it('create in a namespace that does not exist is NotFound and names the namespace', async () => {
    const { admin } = context();
    const status = refused(await admin.post(servicesPath('nowhere'), service('a')), 404, 'NotFound');
    assert.equal(status['message'], 'namespaces "nowhere" not found');
  });

  it('create makes up a name from generateName', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const body = service('');
    body['metadata'] = { generateName: 'web-' };
    const first = nameOf(created(await admin.post(servicesPath(ns), body)));
    const second = nameOf(created(await admin.post(servicesPath(ns), body)));
    assert.match(first, /^web-[a-z0-9]{5}$/);
    assert.notEqual(first, second);
  });

  it('create refuses bad and missing names with 422', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    for (const name of ['Upper', '1digit', 'a_b', 'a.b', '-a', 'x'.repeat(64)]) {
      invalidAt(await admin.post(servicesPath(ns), service(name)), 'metadata.name');
    }
    invalidAt(await admin.post(servicesPath(ns), service('')), 'metadata.name');
  });

  it('create refuses a body of another namespace, kind or version with 400', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    refused(await admin.post(servicesPath(ns), service('a', {}, { namespace: 'other' })), 400, 'BadRequest');
    refused(await admin.post(servicesPath(ns), { ...service('a'), kind: 'Node' }), 400, 'BadRequest');
    refused(await admin.post(servicesPath(ns), { ...service('a'), apiVersion: 'v2' }), 400, 'BadRequest');
    refused(await admin.send('POST', servicesPath(ns), undefined, { raw: '{"a":' }), 400, 'BadRequest');
  });

  it('create refuses values of the wrong type with 400 and drops unknown fields', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    refused(await admin.post(servicesPath(ns), service('a', { ports: [{ port: '80' }] })), 400, 'BadRequest');
    refused(await admin.post(servicesPath(ns), service('a', { type: 5 })), 400, 'BadRequest');
    const made = created(await admin.post(servicesPath(ns), service('a', { surprise: true })));
    assert.equal(at(made, 'spec', 'surprise'), undefined);
  });

  it('fieldValidation=Strict refuses unknown fields, Warn reports them in a header', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const body = service('a', { surprise: true });
    const strict = refused(
      await admin.post(`${servicesPath(ns)}?fieldValidation=Strict`, body),
      400,
      'BadRequest',
    );
    assert.match(stringOf(strict['message']), /unknown field "spec\.surprise"/);
    const warned = await admin.post(`${servicesPath(ns)}?fieldValidation=Warn`, body);
    created(warned);
    assert.match(String(warned.headers['warning']), /unknown field/);
  });

  it('an unknown content type is 415, an impossible Accept is 406', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const body = service('a');
    refused(
      await admin.post(servicesPath(ns), body, { contentType: 'text/plain' }),
      415,
      'UnsupportedMediaType',
    );
    refused(await admin.get(servicesPath(ns), { accept: 'text/html' }), 406, 'NotAcceptable');
  });

  it('get, update, patch and delete of an absent object are NotFound with its name', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    for (const answer of [
      await admin.get(servicesPath(ns, 'no')),
      await admin.patch(servicesPath(ns, 'no'), {}),
      await admin.delete(servicesPath(ns, 'no')),
    ]) {
      const status = refused(answer, 404, 'NotFound');
      assert.equal(status['message'], 'services "no" not found');
    }
    const leases = refused(
      await admin.get(`/apis/coordination.k8s.io/v1/namespaces/${ns}/leases/no`),
      404,
      'NotFound',
    );
    assert.equal(leases['message'], 'leases.coordination.k8s.io "no" not found');
    assert.deepEqual(leases['details'], { name: 'no', group: 'coordination.k8s.io', kind: 'leases' });
  });

  it('update with an old resourceVersion is a Conflict, with none it overwrites', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const first = created(await admin.post(servicesPath(ns), service('a')));
    const second = ok(await admin.put(servicesPath(ns, 'a'), withAnnotation(first, '1')));
    assert.notEqual(revisionOf(second), revisionOf(first));
    const status = refused(
      await admin.put(servicesPath(ns, 'a'), withAnnotation(first, '2')),
      409,
      'Conflict',
    );
    assert.match(
      stringOf(status['message']),
      /^Operation cannot be fulfilled on services "a": the object has been modified/,
    );
    const unconditional = withAnnotation(first, '3');
    delete objectOf(unconditional['metadata'])['resourceVersion'];
    const third = ok(await admin.put(servicesPath(ns, 'a'), unconditional));
    assert.equal(at(third, 'metadata', 'annotations', 'test'), '3');
  });

  it('update of a lease without a resourceVersion is refused', async () => {
    const { admin, namespace } = context();
    const path = `/apis/coordination.k8s.io/v1/namespaces/${await namespace()}/leases`;
    created(await admin.post(path, { metadata: { name: 'l' }, spec: { holderIdentity: 'a' } }));
    const answer = await admin.put(`${path}/l`, { metadata: { name: 'l' }, spec: { holderIdentity: 'b' } });
    invalidAt(answer, 'metadata.resourceVersion');
  });

  it('update with another uid is a Conflict, with another name 400', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(servicesPath(ns), service('a')));
    const other = structuredClone(made);
    objectOf(other['metadata'])['uid'] = '00000000-0000-0000-0000-000000000000';
    refused(await admin.put(servicesPath(ns, 'a'), other), 409, 'Conflict');
    refused(await admin.put(servicesPath(ns, 'b'), made), 400, 'BadRequest');
  });

  it('an update that changes nothing keeps the resourceVersion', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(servicesPath(ns), service('a')));
    assert.equal(revisionOf(ok(await admin.put(servicesPath(ns, 'a'), made))), revisionOf(made));
    assert.equal(revisionOf(ok(await admin.patch(servicesPath(ns, 'a'), {}))), revisionOf(made));
  });

  it('update cannot change uid, creationTimestamp or namespace of what is stored', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(servicesPath(ns), service('a')));
    const changed = ok(
      await admin.patch(servicesPath(ns, 'a'), {
        metadata: { creationTimestamp: '2001-01-01T00:00:00Z', labels: { a: 'b' } },
      }),
    );
    assert.equal(at(changed, 'metadata', 'creationTimestamp'), at(made, 'metadata', 'creationTimestamp'));
    assert.equal(at(changed, 'metadata', 'uid'), at(made, 'metadata', 'uid'));
  });

  it('delete honours uid and resourceVersion preconditions', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(servicesPath(ns), service('a')));
    const wrongUid = { preconditions: { uid: '00000000-0000-0000-0000-000000000000' } };
    refused(await admin.delete(servicesPath(ns, 'a'), wrongUid), 409, 'Conflict');
    refused(
      await admin.delete(servicesPath(ns, 'a'), { preconditions: { resourceVersion: '1' } }),
      409,
      'Conflict',
    );
    const right = {
      preconditions: { uid: stringOf(at(made, 'metadata', 'uid')), resourceVersion: revisionOf(made) },
    };
    ok(await admin.delete(servicesPath(ns, 'a'), right));
    refused(await admin.get(servicesPath(ns, 'a')), 404, 'NotFound');
  });

  it('delete of a lease answers a Status Success with its uid', async () => {
    const { admin, namespace } = context();
    const path = `/apis/coordination.k8s.io/v1/namespaces/${await namespace()}/leases`;
    const made = created(await admin.post(path, { metadata: { name: 'l' }, spec: {} }));
    const status = ok(await admin.delete(`${path}/l`));
    assert.equal(status['status'], 'Success');
    assert.equal(at(status, 'details', 'uid'), at(made, 'metadata', 'uid'));
  });

  it('a finalizer holds a deleted object until it is removed', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    created(await admin.post(servicesPath(ns), service('a', {}, { finalizers: ['example.com/hold'] })));
    ok(await admin.delete(servicesPath(ns, 'a')));
    const held = ok(await admin.get(servicesPath(ns, 'a')));
    assert.match(stringOf(at(held, 'metadata', 'deletionTimestamp')), /Z$/);
    invalidAt(
      await admin.patch(servicesPath(ns, 'a'), {
        metadata: { finalizers: ['example.com/hold', 'example.com/more'] },
      }),
      'metadata.finalizers',
    );
    ok(await admin.patch(servicesPath(ns, 'a'), { metadata: { finalizers: null } }));
    refused(await admin.get(servicesPath(ns, 'a')), 404, 'NotFound');
  });

  it('dryRun=All answers as usual and stores nothing', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const made = created(await admin.post(`${servicesPath(ns)}?dryRun=All`, service('a')));
    assert.equal(nameOf(made), 'a');
    refused(await admin.get(servicesPath(ns, 'a')), 404, 'NotFound');
  });

  it('annotations above 256 KiB are refused', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    const body = service('a', {}, { annotations: { big: 'x'.repeat(256 * 1024) } });
    invalidAt(await admin.post(servicesPath(ns), body), 'metadata.annotations');
  });

  it('a path that names no resource is 404, a method that is not served is 405', async () => {
    const { admin, namespace } = context();
    const ns = await namespace();
    assert.equal((await admin.get('/api/v1/unicorns')).code, 404);
    assert.equal((await admin.get('/apis/example.com/v1/unicorns')).code, 404);
    assert.equal((await admin.post(servicesPath(ns, 'a'), service('a'))).code, 405);
  });

  it('deletecollection removes what its selector matches and nothing else', async () => {
    const { admin, namespace } = context();
    const path = `/apis/discovery.k8s.io/v1/namespaces/${await namespace()}/endpointslices`;
    for (const [name, app] of [
      ['a', 'x'],
      ['b', 'x'],
      ['c', 'y'],
    ]) {
      const body = { metadata: { name, labels: { app } }, addressType: 'IPv4', endpoints: [], ports: [] };
      created(await admin.post(path, body));
    }
    ok(await admin.delete(`${path}?labelSelector=app%3Dx`));
    refused(await admin.get(`${path}/a`), 404, 'NotFound');
    refused(await admin.get(`${path}/b`), 404, 'NotFound');
    ok(await admin.get(`${path}/c`));
  });
});

function withAnnotation(object: JsonObject, value: string): JsonObject {
  const copy = structuredClone(object);
  objectOf(copy['metadata'])['annotations'] = { test: value };
  return copy;
}
