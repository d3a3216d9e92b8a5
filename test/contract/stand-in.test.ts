/** What only the stand-in does: it misbehaves on command, counts, and holds objects the API would refuse. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, describe, it } from 'node:test';
import { Client, type WatchStream } from '../support/apiserver/client.ts';
import { at, type KubeObject, objectOf, stringOf } from '../support/apiserver/json.ts';
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts';
import { created, nameOf, names, ok, refused, revisionOf, service, servicesPath } from './target.ts';

const PATH = servicesPath('default');
const HISTORY_LIMIT = 200;

describe('faults', () => {
  let api: ApiServer;
  let client: Client;
  let serial = 0;

  before(async () => {
    api = await startApiServer({ historyLimit: HISTORY_LIMIT });
    client = new Client(api);
  });
  afterEach(async () => {
    await api.faults.clear();
    client.close();
    client = new Client(api);
  });
  after(async () => {
    client.close();
    await api.close();
  });

  const create = async (): Promise<string> => {
    serial += 1;
    return nameOf(created(await client.post(PATH, service(`s${serial}`))));
  };
  const listRevision = async (): Promise<string> => revisionOf(ok(await client.get(PATH)));

  it('throttle() answers 429 with Retry-After as often as told, to whom it was told', async () => {
    api.faults.throttle(7, { verbs: ['list'], resources: ['services'], times: 2 });
    for (let count = 0; count < 2; count += 1) {
      const answer = await client.get(PATH);
      refused(answer, 429, 'TooManyRequests');
      assert.equal(answer.headers['retry-after'], '7');
    }
    ok(await client.get(PATH));
    ok(await client.get('/api/v1/nodes'));
  });

  it('fail() answers with the code until clear()', async () => {
    api.faults.fail(500, { resources: ['services'] });
    refused(await client.get(PATH), 500, 'InternalError');
    refused(await client.post(PATH, service('never')), 500, 'InternalError');
    ok(await client.get('/api/v1/nodes'));
    await api.faults.clear();
    ok(await client.get(PATH));
  });

  it('fail() on a subresource leaves the resource alone', async () => {
    const name = await create();
    api.faults.fail(403, { verbs: ['patch'], resources: ['services/status'] }, 'Forbidden', 'no');
    refused(await client.patch(`${PATH}/${name}/status`, {}), 403, 'Forbidden');
    ok(await client.patch(`${PATH}/${name}`, {}));
  });

  it('delay() serves late, and does not count as server time', async () => {
    api.resetStats();
    api.faults.delay(200, { verbs: ['list'], times: 1 });
    const began = performance.now();
    ok(await client.get(PATH));
    assert(performance.now() - began >= 190, 'it came too early');
    const totals = api.stats().requests['list services'];
    assert.equal(totals?.count, 1);
    assert((totals?.serverMsMax ?? 1e9) < 150, `server time ${totals?.serverMsMax} ms holds the delay`);
  });

  it('hang() never answers, drop() closes the connection', async () => {
    api.faults.hang({ verbs: ['get'], times: 1 });
    const hanging = client.get(`${PATH}/x`).then(
      () => 'answered',
      () => 'broken',
    );
    assert.equal(
      await Promise.race([hanging, new Promise((resolve) => setTimeout(() => resolve('silent'), 200))]),
      'silent',
    );
    api.faults.drop({ verbs: ['list'], times: 1 });
    await assert.rejects(client.get(PATH), /socket hang up|ECONNRESET/);
    ok(await client.get(PATH));
  });

  it('dropConnections() ends open watches and requests find a new connection', async () => {
    const stream = await client.watch(`${PATH}?resourceVersion=${await listRevision()}`);
    api.faults.dropConnections();
    assert.equal(await stream.next(), undefined);
    client.close();
    client = new Client(api);
    ok(await client.get(PATH));
  });

  it('refuseConnections() gives ECONNREFUSED until acceptConnections(), on the same port', async () => {
    const { port } = api;
    await api.faults.refuseConnections();
    await assert.rejects(new Client(api).get(PATH), /ECONNREFUSED/);
    await api.faults.acceptConnections();
    assert.equal(api.port, port);
    ok(await new Client(api).get(PATH));
  });

  it('stall() accepts and sends nothing; resume() serves what was held back', async () => {
    const stream = await client.watch(`${PATH}?resourceVersion=${await listRevision()}`);
    api.faults.stall();
    const raw = connect(api.port, '127.0.0.1');
    await once(raw, 'connect');
    raw.destroy();
    const late = client.post(PATH, service('held'));
    assert.equal(
      await Promise.race([late, new Promise((resolve) => setTimeout(() => resolve('silent'), 200))]),
      'silent',
    );
    assert.equal(stream.pending, 0);
    api.faults.resume();
    created(await late);
    assert.equal(nameOf((await stream.next())?.object), 'held');
  });

  it('freezeConnections() silences what is open for good, while new connections work', async () => {
    const stream = await client.watch(`${PATH}?resourceVersion=${await listRevision()}`);
    api.faults.freezeConnections();
    const fresh = new Client(api);
    created(await fresh.post(PATH, service('unseen')));
    await assert.rejects(stream.next(300), /no watch event/);
    assert.equal(stream.ended, false);
    fresh.close();
  });

  it('expireHistory() makes older revisions 410: as an ERROR event, or over HTTP when told so', async () => {
    const revision = await listRevision();
    await create();
    api.faults.expireHistory();
    const stream = await client.watch(`${PATH}?resourceVersion=${revision}`);
    const event = await stream.next();
    assert.equal(event?.type, 'ERROR');
    assert.equal(event?.object['code'], 410);
    assert.equal(event?.object['reason'], 'Expired');
    assert.match(stringOf(event?.object['message']), /too old resource version/);
    assert.equal(await stream.next(), undefined);
    api.faults.watchTooOld('http');
    refused(await client.get(`${PATH}?watch=1&resourceVersion=${revision}`), 410, 'Expired');
  });

  it('expireHistory() makes page tokens 410 with a token to go on inconsistently', async () => {
    for (let count = 0; count < 3; count += 1) await create();
    const first = ok(await client.get(`${PATH}?limit=1`));
    await create();
    api.faults.expireHistory();
    const token = encodeURIComponent(stringOf(at(first, 'metadata', 'continue')));
    const status = refused(await client.get(`${PATH}?limit=1&continue=${token}`), 410, 'Expired');
    const goOn = encodeURIComponent(stringOf(at(status, 'metadata', 'continue')));
    const rest = ok(await client.get(`${PATH}?continue=${goOn}`));
    assert.equal(names(rest).includes(names(first)[0] ?? ''), false);
  });

  it('history is bounded: revisions beyond the limit expire by themselves', async () => {
    const revision = await listRevision();
    const name = await create();
    for (let count = 0; count < HISTORY_LIMIT * 1.5; count += 1) {
      ok(await client.patch(`${PATH}/${name}`, { metadata: { annotations: { count: String(count) } } }));
    }
    const stream = await client.watch(`${PATH}?resourceVersion=${revision}`);
    assert.equal((await stream.next())?.object['code'], 410);
  });

  it('restart() with everything kept lets watches resume', async () => {
    const revision = await listRevision();
    const name = await create();
    await api.faults.restart({ downMs: 20 });
    const fresh = new Client(api);
    const stream = await fresh.watch(`${PATH}?resourceVersion=${revision}`);
    assert.equal(nameOf((await stream.next())?.object), name);
    fresh.close();
  });

  it('restart() with revisions reset makes old revisions lie in the future and new ones low', async () => {
    const revision = Number(await listRevision());
    await create();
    const objects = names(ok(await client.get(PATH)));
    await api.faults.restart({ revisions: 'reset' });
    const fresh = new Client(api);
    const list = ok(await fresh.get(PATH));
    assert.deepEqual(names(list), objects);
    assert(Number(revisionOf(list)) < revision, `revision ${revisionOf(list)} is not below ${revision}`);
    fresh.close();
  });

  it('restart() with objects lost forgets them without a deletion event', async () => {
    await create();
    await api.faults.restart({ objects: 'lost', history: 'lost' });
    const fresh = new Client(api);
    assert.deepEqual(names(ok(await fresh.get(PATH))), []);
    created(await fresh.post(PATH, service('anew')));
    fresh.close();
  });

  it('replayWatchEvents() sends the past again', async () => {
    const revision = await listRevision();
    const stream = await client.watch(`${PATH}?resourceVersion=${revision}`);
    const name = await create();
    assert.equal(nameOf((await stream.next())?.object), name);
    api.faults.replayWatchEvents(1);
    const again = await stream.next();
    assert.equal(again?.type, 'ADDED');
    assert.equal(nameOf(again?.object), name);
  });

  it('closeWatches() and failWatches() end watches in order and with an ERROR', async () => {
    const query = `resourceVersion=${await listRevision()}`;
    const closed = await client.watch(`${PATH}?${query}`);
    api.faults.closeWatches();
    assert.equal(await closed.next(), undefined);
    const failed = await client.watch(`${PATH}?${query}`);
    api.faults.failWatches();
    assert.equal((await failed.next())?.type, 'ERROR');
    assert.equal(await failed.next(), undefined);
  });

  it('sendBookmarks() reaches those who asked, bookmarks(false) nobody', async () => {
    const query = `resourceVersion=${await listRevision()}`;
    const wants: WatchStream = await client.watch(`${PATH}?${query}&allowWatchBookmarks=true`);
    const not = await client.watch(`${PATH}?${query}`);
    api.faults.sendBookmarks();
    assert.equal((await wants.next())?.type, 'BOOKMARK');
    api.faults.bookmarks(false);
    api.faults.sendBookmarks();
    const name = await create();
    assert.equal(nameOf((await wants.next())?.object), name);
    assert.equal(nameOf((await not.next())?.object), name);
  });

  it('counts requests, their own time, codes and the peak of open watches', async () => {
    const query = `resourceVersion=${await listRevision()}`;
    api.resetStats();
    const streams = await Promise.all([1, 2, 3].map(() => client.watch(`${PATH}?${query}`)));
    await create();
    for (const stream of streams) await stream.next();
    const stats = api.stats();
    assert.equal(stats.requests['create services']?.count, 1);
    assert.equal(stats.codes['201'], 1);
    assert.equal(stats.openWatches, 3);
    assert.equal(stats.peakOpenWatches, 3);
    assert.equal(stats.watchEvents, 3);
    const record = stats.recent.find((entry) => entry.verb === 'create');
    assert.equal(record?.resource, 'services');
    assert.equal(record?.user, 'admin');
    assert(
      record !== undefined && record.serverMs > 0 && record.serverMs < 100,
      `serverMs ${record?.serverMs}`,
    );
  });

  it('load() stores many at once, and unchecked what the API would refuse', async () => {
    const objects = Array.from({ length: 500 }, (_, index) => service(`bulk-${index}`) as KubeObject);
    api.load(objects);
    const hostile = service('hostile', {
      ports: Array.from({ length: 10_000 }, (_, index) => ({ port: index })),
    }) as KubeObject;
    objectOf(hostile.metadata)['annotations'] = { big: 'x'.repeat(1_000_000) };
    api.load([hostile], { checked: false });
    const list = ok(await client.get(PATH));
    assert.equal(names(list).filter((name) => name.startsWith('bulk-')).length, 500);
    assert(names(list).includes('hostile'), 'the hostile one is listed');
    ok(await client.delete(`${PATH}/hostile`));
  });
});

describe('the program', () => {
  it('writes kubeconfigs that work, obeys its admin socket and ends on SIGTERM', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lbd-program-'));
    const main = join(import.meta.dirname, '../support/apiserver/main.ts');
    let lbd: Client | undefined;
    const environment = { ...process.env, KUBE_APISERVER: '' };
    const child = spawn(process.execPath, [main, '--directory', directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: environment,
    });
    try {
      const lines = createInterface({ input: child.stdout });
      const [line] = (await once(lines, 'line')) as [string];
      const ready = JSON.parse(line) as { url: string; adminSocket: string };
      const config = readFileSync(join(directory, 'lbd.kubeconfig'), 'utf8');
      assert(config.includes(ready.url), config);
      const caPem = readFileSync(join(directory, 'ca.crt'), 'utf8');
      const token = /token: (\S+)/.exec(config)?.[1] ?? '';
      lbd = new Client({ url: ready.url, caPem, tokenOf: () => token }, 'lbd');
      ok(await lbd.get('/api/v1/services'));
      refused(await lbd.get('/api/v1/namespaces'), 403, 'Forbidden');
      assert.match(await adminRequest(ready.adminSocket, 'GET', '/stats'), /"list services":\{"count":1/);
      await adminRequest(ready.adminSocket, 'POST', '/faults/fail', '[500,{"resources":["nodes"]}]');
      refused(await lbd.get('/api/v1/nodes'), 500, 'InternalError');
    } finally {
      lbd?.close();
      child.kill('SIGTERM');
      const [code] = await once(child, 'exit');
      rmSync(directory, { recursive: true, force: true });
      assert.equal(code, 0);
    }
  });
});

function adminRequest(socketPath: string, method: string, path: string, body = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
