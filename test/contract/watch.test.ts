/** Watches: where they start, what they send, how they end. */

import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { WatchStream } from '../support/apiserver/client.ts';
import { at } from '../support/apiserver/json.ts';
import {
  type Context,
  contract,
  created,
  nameOf,
  ok,
  refused,
  revisionOf,
  service,
  servicesPath,
} from './target.ts';

async function start(context: Context): Promise<{ path: string; revision: string }> {
  const path = servicesPath(await context.namespace());
  return { path, revision: revisionOf(ok(await context.admin.get(path))) };
}

async function read(stream: WatchStream, count: number): Promise<string[]> {
  const out: string[] = [];
  while (out.length < count) {
    const event = await stream.nextChange();
    if (event === undefined) break;
    out.push(`${event.type} ${nameOf(event.object)}`);
  }
  return out;
}

contract('watches', (context) => {
  it('from a list revision: every later change in order, whole objects with kind', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const stream = await admin.watch(`${path}?resourceVersion=${revision}`);
    const made = created(await admin.post(path, service('a')));
    const changed = ok(await admin.patch(`${path}/a`, { metadata: { labels: { x: 'y' } } }));
    ok(await admin.delete(`${path}/a`));
    const added = await stream.nextChange();
    assert.equal(added?.type, 'ADDED');
    assert.deepEqual(added?.object, made);
    const modified = await stream.nextChange();
    assert.equal(modified?.type, 'MODIFIED');
    assert.deepEqual(modified?.object, changed);
    const deleted = await stream.nextChange();
    assert.equal(deleted?.type, 'DELETED');
    assert.equal(at(deleted?.object, 'metadata', 'labels', 'x'), 'y');
    assert(
      Number(revisionOf(deleted?.object ?? {})) > Number(revisionOf(changed)),
      'the deletion has its own revision',
    );
    stream.close();
  });

  it('from an older revision: what was missed comes first', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    created(await admin.post(path, service('a')));
    created(await admin.post(path, service('b')));
    ok(await admin.delete(`${path}/a`));
    const stream = await admin.watch(`${path}?resourceVersion=${revision}`);
    assert.deepEqual(await read(stream, 3), ['ADDED a', 'ADDED b', 'DELETED a']);
    stream.close();
  });

  it('without a revision, and from 0: the present objects as ADDED, then changes', async () => {
    const { admin } = context();
    const { path } = await start(context());
    created(await admin.post(path, service('a')));
    for (const query of ['', '?resourceVersion=0']) {
      const stream = await admin.watch(`${path}${query}`);
      assert.deepEqual(await read(stream, 1), ['ADDED a']);
      ok(await admin.patch(`${path}/a`, { metadata: { labels: { x: `l${query.length}` } } }));
      assert.deepEqual(await read(stream, 1), ['MODIFIED a']);
      stream.close();
    }
  });

  it('a no-op update makes no event', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const made = created(await admin.post(path, service('a')));
    const stream = await admin.watch(`${path}?resourceVersion=${revision}`);
    ok(await admin.put(`${path}/a`, made));
    created(await admin.post(path, service('b')));
    assert.deepEqual(await read(stream, 2), ['ADDED a', 'ADDED b']);
    stream.close();
  });

  it('with a label selector: objects that come to match are ADDED, that cease to match DELETED', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const stream = await admin.watch(`${path}?resourceVersion=${revision}&labelSelector=in%3Dyes`);
    created(await admin.post(path, service('a')));
    ok(await admin.patch(`${path}/a`, { metadata: { labels: { in: 'yes' } } }));
    ok(await admin.patch(`${path}/a`, { metadata: { annotations: { n: '1' } } }));
    const last = ok(await admin.patch(`${path}/a`, { metadata: { labels: { in: 'no' } } }));
    assert.deepEqual(await read(stream, 2), ['ADDED a', 'MODIFIED a']);
    const gone = await stream.nextChange();
    assert.equal(gone?.type, 'DELETED');
    assert.equal(at(gone?.object, 'metadata', 'labels', 'in'), 'yes');
    assert.equal(revisionOf(gone?.object ?? {}), revisionOf(last));
    stream.close();
  });

  it('with a field selector on the name: that object only', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const stream = await admin.watch(`${path}?resourceVersion=${revision}&fieldSelector=metadata.name%3Db`);
    created(await admin.post(path, service('a')));
    created(await admin.post(path, service('b')));
    assert.deepEqual(await read(stream, 1), ['ADDED b']);
    stream.close();
  });

  it('sees its namespace only, and a cluster-wide watch sees all', async () => {
    const { admin, namespace } = context();
    const { path, revision } = await start(context());
    const other = servicesPath(await namespace());
    const narrow = await admin.watch(`${path}?resourceVersion=${revision}`);
    const wide = await admin.watch(`/api/v1/services?resourceVersion=${revision}`);
    created(await admin.post(other, service('elsewhere')));
    created(await admin.post(path, service('here')));
    assert.deepEqual(await read(narrow, 1), ['ADDED here']);
    assert.deepEqual(await read(wide, 2), ['ADDED elsewhere', 'ADDED here']);
    narrow.close();
    wide.close();
  });

  it('timeoutSeconds ends the stream in order', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const began = Date.now();
    const stream = await admin.watch(`${path}?resourceVersion=${revision}&timeoutSeconds=1`);
    assert.equal(await stream.nextChange(), undefined);
    assert(Date.now() - began >= 900, 'it ended too early');
  });

  it('a bookmark comes before the timeout and carries only a revision', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const stream = await admin.watch(
      `${path}?resourceVersion=${revision}&timeoutSeconds=4&allowWatchBookmarks=true`,
    );
    const event = await stream.next();
    assert.equal(event?.type, 'BOOKMARK');
    assert.equal(event?.object['kind'], 'Service');
    assert(Number(revisionOf(event?.object ?? {})) >= Number(revision), 'the bookmark goes back');
    assert.equal(nameOf(event?.object), '');
    stream.close();
  });

  it('without allowWatchBookmarks there are none', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const stream = await admin.watch(`${path}?resourceVersion=${revision}&timeoutSeconds=3`);
    assert.equal(await stream.next(), undefined);
  });

  it('sendInitialEvents: the objects, then the bookmark that ends them, then changes', async () => {
    const { admin } = context();
    const { path } = await start(context());
    created(await admin.post(path, service('a')));
    created(await admin.post(path, service('b')));
    const query = 'sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true';
    const stream = await admin.watch(`${path}?${query}`);
    const initial = [await stream.next(), await stream.next()].map(
      (event) => `${event?.type} ${nameOf(event?.object)}`,
    );
    assert.deepEqual(initial.sort(), ['ADDED a', 'ADDED b']);
    const bookmark = await stream.next();
    assert.equal(bookmark?.type, 'BOOKMARK');
    assert.equal(at(bookmark?.object, 'metadata', 'annotations', 'k8s.io/initial-events-end'), 'true');
    created(await admin.post(path, service('c')));
    assert.deepEqual(await read(stream, 1), ['ADDED c']);
    stream.close();
  });

  it('sendInitialEvents without resourceVersionMatch=NotOlderThan is refused, and the reverse', async () => {
    const { admin } = context();
    const { path } = await start(context());
    refused(await admin.get(`${path}?watch=1&sendInitialEvents=true`), 422, 'Invalid');
    refused(
      await admin.get(`${path}?watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan`),
      422,
      'Invalid',
    );
  });

  it('a malformed resourceVersion is refused', async () => {
    const { admin } = context();
    const { path } = await start(context());
    const answer = await admin.get(`${path}?watch=1&resourceVersion=abc`);
    assert(answer.code === 400 || answer.code === 422, answer.text);
  });

  it('one client may hold many watches at once', async () => {
    const { admin } = context();
    const { path, revision } = await start(context());
    const streams = await Promise.all(
      Array.from({ length: 50 }, () => admin.watch(`${path}?resourceVersion=${revision}`)),
    );
    created(await admin.post(path, service('a')));
    for (const stream of streams) {
      assert.deepEqual(await read(stream, 1), ['ADDED a']);
      stream.close();
    }
  });
});
