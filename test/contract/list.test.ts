/** Lists: order, pages of one snapshot, resourceVersion semantics, selectors. */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { arrayOf, at, type JsonObject, stringOf } from '../support/apiserver/json.ts';
import {
  type Context,
  contract,
  created,
  names,
  ok,
  refused,
  revisionOf,
  service,
  servicesPath,
} from './target.ts';

async function seed(context: Context, count: number): Promise<{ ns: string; path: string }> {
  const ns = await context.namespace();
  for (let index = 0; index < count; index += 1) {
    created(
      await context.admin.post(
        servicesPath(ns),
        service(`s${index}`, {}, { labels: { index: String(index) } }),
      ),
    );
  }
  return { ns, path: servicesPath(ns) };
}

function continueOf(list: JsonObject): string {
  return encodeURIComponent(stringOf(at(list, 'metadata', 'continue')));
}

contract('lists', (context) => {
  it('a list carries its kind and revision, and its items neither kind nor apiVersion', async () => {
    const { path } = await seed(context(), 2);
    const list = ok(await context().admin.get(path));
    assert.equal(list['kind'], 'ServiceList');
    assert.equal(list['apiVersion'], 'v1');
    assert.match(revisionOf(list), /^[1-9]\d*$/);
    assert.deepEqual(names(list), ['s0', 's1']);
    for (const item of arrayOf(list['items'])) {
      assert.equal(at(item, 'kind'), undefined);
      assert.equal(at(item, 'apiVersion'), undefined);
    }
  });

  it('an empty list has items [] and a revision', async () => {
    const { path } = await seed(context(), 0);
    const list = ok(await context().admin.get(path));
    assert.deepEqual(list['items'], []);
    assert.notEqual(revisionOf(list), '');
  });

  it('pages come in key order, with the count that remains, from the snapshot of the first page', async () => {
    const { path } = await seed(context(), 5);
    const { admin } = context();
    const first = ok(await admin.get(`${path}?limit=2`));
    assert.deepEqual(names(first), ['s0', 's1']);
    assert.equal(at(first, 'metadata', 'remainingItemCount'), 3);
    ok(await admin.delete(`${path}/s3`));
    created(await admin.post(path, service('s2a')));
    const second = ok(await admin.get(`${path}?limit=2&continue=${continueOf(first)}`));
    assert.deepEqual(names(second), ['s2', 's3']);
    assert.equal(revisionOf(second), revisionOf(first));
    const third = ok(await admin.get(`${path}?limit=2&continue=${continueOf(second)}`));
    assert.deepEqual(names(third), ['s4']);
    assert.equal(continueOf(third), '');
    assert.equal(revisionOf(third), revisionOf(first));
  });

  it('a page token together with a resourceVersion is 400, a broken one too', async () => {
    const { path } = await seed(context(), 3);
    const { admin } = context();
    const first = ok(await admin.get(`${path}?limit=1`));
    refused(await admin.get(`${path}?continue=${continueOf(first)}&resourceVersion=5`), 400, 'BadRequest');
    refused(await admin.get(`${path}?continue=broken`), 400, 'BadRequest');
  });

  it('resourceVersion=0 ignores the limit', async () => {
    const { path } = await seed(context(), 3);
    const list = ok(await context().admin.get(`${path}?limit=1&resourceVersion=0`));
    assert.equal(names(list).length, 3);
  });

  it('resourceVersionMatch=Exact shows the past, NotOlderThan at least the revision', async () => {
    const { path } = await seed(context(), 1);
    const { admin } = context();
    const then = revisionOf(ok(await admin.get(path)));
    const made = created(await admin.post(path, service('later')));
    const exact = ok(await admin.get(`${path}?resourceVersion=${then}&resourceVersionMatch=Exact`));
    assert.deepEqual(names(exact), ['s0']);
    assert.equal(revisionOf(exact), then);
    const fresh = ok(
      await admin.get(`${path}?resourceVersion=${revisionOf(made)}&resourceVersionMatch=NotOlderThan`),
    );
    assert.deepEqual(names(fresh), ['later', 's0']);
  });

  it('a revision of the future is a Timeout that says when to come again', async () => {
    const { path } = await seed(context(), 1);
    const status = refused(
      await context().admin.get(`${path}?resourceVersion=999999999&resourceVersionMatch=NotOlderThan`),
      504,
      'Timeout',
    );
    assert.match(stringOf(status['message']), /Too large resource version/);
  });

  it('resourceVersionMatch alone, or Exact at 0, is refused', async () => {
    const { path } = await seed(context(), 0);
    const { admin } = context();
    refused(await admin.get(`${path}?resourceVersionMatch=Exact`), 422, 'Invalid');
    refused(await admin.get(`${path}?resourceVersion=0&resourceVersionMatch=Exact`), 422, 'Invalid');
    refused(await admin.get(`${path}?resourceVersion=1&resourceVersionMatch=Whatever`), 422, 'Invalid');
  });

  it('label selectors by equality, set and presence', async () => {
    const { path } = await seed(context(), 3);
    const { admin } = context();
    const select = async (selector: string): Promise<string[]> =>
      names(ok(await admin.get(`${path}?labelSelector=${encodeURIComponent(selector)}`)));
    assert.deepEqual(await select('index=1'), ['s1']);
    assert.deepEqual(await select('index!=1'), ['s0', 's2']);
    assert.deepEqual(await select('index in (0,2)'), ['s0', 's2']);
    assert.deepEqual(await select('index notin (0,2)'), ['s1']);
    assert.deepEqual(await select('index,!absent'), ['s0', 's1', 's2']);
    assert.deepEqual(await select('absent'), []);
    refused(await admin.get(`${path}?labelSelector=${encodeURIComponent('a in (')}`), 400, 'BadRequest');
  });

  it('field selectors by name and namespace; an unknown field is 400', async () => {
    const { ns, path } = await seed(context(), 2);
    const { admin } = context();
    assert.deepEqual(names(ok(await admin.get(`${path}?fieldSelector=metadata.name%3Ds1`))), ['s1']);
    assert.deepEqual(names(ok(await admin.get(`${path}?fieldSelector=metadata.name!%3Ds1`))), ['s0']);
    assert.deepEqual(
      names(ok(await admin.get(`/api/v1/services?fieldSelector=metadata.namespace%3D${ns}`))),
      ['s0', 's1'],
    );
    refused(await admin.get(`${path}?fieldSelector=spec.wings%3D2`), 400, 'BadRequest');
  });

  it('a cluster-wide list comes ordered by namespace, then name', async () => {
    const first = await seed(context(), 2);
    const second = await seed(context(), 1);
    const list = ok(await context().admin.get('/api/v1/services'));
    const keys = arrayOf(list['items'])
      .map(
        (item) => `${stringOf(at(item, 'metadata', 'namespace'))}/${stringOf(at(item, 'metadata', 'name'))}`,
      )
      .filter((key) => key.startsWith(`${first.ns}/`) || key.startsWith(`${second.ns}/`));
    assert.deepEqual(keys, [`${first.ns}/s0`, `${first.ns}/s1`, `${second.ns}/s0`].sort());
  });

  it('a list as Table has columns and one row per object', async () => {
    const { path } = await seed(context(), 2);
    const table = ok(
      await context().admin.get(path, { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' }),
    );
    assert.equal(table['kind'], 'Table');
    const columns = arrayOf(table['columnDefinitions']).map((column) => stringOf(at(column, 'name')));
    assert.deepEqual(columns.slice(0, 6), ['Name', 'Type', 'Cluster-IP', 'External-IP', 'Port(s)', 'Age']);
    const rows = arrayOf(table['rows']).map((row) => arrayOf(at(row, 'cells')).slice(0, 2));
    assert.deepEqual(rows, [
      ['s0', 'LoadBalancer'],
      ['s1', 'LoadBalancer'],
    ]);
  });

  it('a list as PartialObjectMetadataList has metadata only', async () => {
    const { path } = await seed(context(), 1);
    const accept = 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io';
    const list = ok(await context().admin.get(path, { accept }));
    assert.equal(list['kind'], 'PartialObjectMetadataList');
    assert.deepEqual(names(list), ['s0']);
    assert.equal(at(arrayOf(list['items'])[0], 'spec'), undefined);
  });
});
