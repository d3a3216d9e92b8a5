import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { asStatusDocument, fetchStatus } from '../../../src/cli/control-client.ts';
import { LbdError } from '../../../src/lib/errors.ts';
import { fakeDaemon, listen, temporaryDirectory } from './support/fake-daemon.ts';
import { statusDocument } from './support/status-document.ts';

const LOOK = 'see "systemctl status lbd"';

async function failureOf(
  promise: Promise<unknown>,
): Promise<{ readonly code: string; readonly message: string }> {
  const thrown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof LbdError, String(thrown));
  return { code: thrown.code, message: thrown.message };
}

test('fetchStatus() gives the document that the daemon answers with', async (context) => {
  const document = statusDocument();
  const socket = await fakeDaemon(context, document);
  const answer = asStatusDocument(await fetchStatus(socket));
  assert.deepEqual(answer, JSON.parse(JSON.stringify(document)));
});

test('fetchStatus() says that lbd is not running when there is no socket', async () => {
  assert.deepEqual(await failureOf(fetchStatus('/nonexistent/lbd.sock')), {
    code: 'control.no-socket',
    message: `no socket /nonexistent/lbd.sock: lbd is not running here, or listens elsewhere; ${LOOK}`,
  });
});

test('fetchStatus() says that a socket nobody listens on was left behind', async (context) => {
  const socket = join(temporaryDirectory(context), 'lbd.sock');
  writeFileSync(socket, '');
  assert.deepEqual(await failureOf(fetchStatus(socket)), {
    code: 'control.refused',
    message: `nobody listens on ${socket}, which an lbd that ended left behind; ${LOOK}`,
  });
});

test('fetchStatus() says how to get access to a socket that is not for this user', async (context) => {
  const socket = await fakeDaemon(context, statusDocument());
  chmodSync(join(socket, '..'), 0o755);
  chmodSync(socket, 0o600);
  const root = process.geteuid?.() === 0;
  if (!root) chmodSync(socket, 0);
  if (root) process.seteuid?.(65_534);
  try {
    assert.deepEqual(await failureOf(fetchStatus(socket)), {
      code: 'control.denied',
      message: `no access to ${socket}: be root, or in its group: "usermod -aG lbd USER"`,
    });
  } finally {
    if (root) process.seteuid?.(0);
  }
});

test('fetchStatus() gives up on a daemon that does not answer in time', async (context) => {
  const socket = await listen(context, () => {});
  assert.deepEqual(await failureOf(fetchStatus(socket, 50)), {
    code: 'control.timeout',
    message: `lbd does not answer on ${socket} within 0.05 s; ${LOOK}`,
  });
});

test('fetchStatus() gives up on an answer that never ends', async (context) => {
  const socket = await listen(context, (_request, response) => {
    response.writeHead(200).write('{');
  });
  assert.equal((await failureOf(fetchStatus(socket, 50))).code, 'control.timeout');
});

test('fetchStatus() reports an answer that breaks off', async (context) => {
  const socket = await listen(context, (_request, response) => {
    response.writeHead(200, { 'content-length': '100' }).write('{', () => response.destroy());
  });
  const { code, message } = await failureOf(fetchStatus(socket));
  assert.equal(code, 'control.failed');
  assert.match(message, /^cannot ask lbd on .*: aborted; see "systemctl status lbd"$/);
});

test('fetchStatus() passes on what the daemon says against the request', async (context) => {
  const socket = await listen(context, (_request, response) => {
    response.writeHead(500).end('{"error":"broken"}\n');
  });
  assert.deepEqual(await failureOf(fetchStatus(socket)), {
    code: 'control.failed',
    message: `cannot ask lbd on ${socket}: HTTP 500: {"error":"broken"}; ${LOOK}`,
  });
});

test('fetchStatus() takes nobody else for lbd', async (context) => {
  for (const body of [
    '',
    'hello',
    'null',
    '[]',
    '{}',
    '{"version":"1","lbd":{}}',
    '{"version":1,"lbd":null}',
  ]) {
    const socket = await listen(context, (_request, response) => response.end(body));
    assert.deepEqual(await failureOf(fetchStatus(socket)), {
      code: 'control.bad-answer',
      message: `what answers on ${socket} is not lbd; ${LOOK}`,
    });
  }
});

test('fetchStatus() reports a server that does not speak HTTP', async (context) => {
  const socket = join(temporaryDirectory(context), 'lbd.sock');
  const server = createServer((connection) => connection.end('SSH-2.0-OpenSSH\r\n'));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  context.after(() => server.close());
  assert.equal((await failureOf(fetchStatus(socket))).code, 'control.failed');
});

test('asStatusDocument() refuses a version that it was not made for', async (context) => {
  const socket = await fakeDaemon(context, { ...statusDocument(), version: 2 });
  const answer = await fetchStatus(socket);
  assert.throws(() => asStatusDocument(answer), {
    code: 'control.version',
    message:
      'cannot show status version 2 of lbd 0.1.0, expected version 1; use the lbctl of the same package, or --json',
  });
});
