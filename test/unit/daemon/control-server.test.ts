import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type RequestOptions, request } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import {
  type ControlApi,
  type ControlLimits,
  ControlRefusal,
  ControlServer,
} from '../../../src/daemon/control-server.ts';
import { LbdError } from '../../../src/lib/errors.ts';
import { type Logger, SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { waitFor } from '../../support/wait.ts';

const QUICK: ControlLimits = { connections: 64, requestTimeoutMs: 200, idleTimeoutMs: 300 };
type Documents = ControlApi['documents'];

const STATUS: Documents = { '/v1/status': () => ({ version: 1 }) };

function reading(documents: Documents): ControlApi {
  return { documents, commands: {} };
}

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lbd-control-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

type Setup = {
  readonly limits?: ControlLimits;
  readonly logger?: Logger;
  readonly path?: string;
  readonly commands?: ControlApi['commands'];
};

async function listening(t: TestContext, documents: Documents = STATUS, setup: Setup = {}): Promise<string> {
  const path = setup.path ?? join(temporaryDirectory(t), 'lbd.sock');
  const server = new ControlServer(
    path,
    { documents, commands: setup.commands ?? {} },
    setup.logger ?? SILENT_LOGGER,
    setup.limits,
  );
  await server.listen();
  t.after(() => server.close());
  return path;
}

type Answer = {
  readonly code: number | undefined;
  readonly body: string;
  readonly headers: NodeJS.Dict<unknown>;
};

function ask(socketPath: string, path: string, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, agent: false, ...options }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ code: response.statusCode, body, headers: response.headers }));
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end();
  });
}

/** A connection that is open; it is closed with the test. */
async function connect(t: TestContext, path: string): Promise<Socket> {
  const socket = createConnection(path);
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Resolves when the connection is over, by an error too. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

test('a document is served as JSON, made anew for each request', async (t) => {
  let made = 0;
  const path = await listening(t, {
    '/v1/status': () => {
      made += 1;
      return { made };
    },
  });
  assert.deepEqual(JSON.parse((await ask(path, '/v1/status')).body), { made: 1 });
  const second = await ask(path, '/v1/status?pretty=1');
  assert.deepEqual(JSON.parse(second.body), { made: 2 });
  assert.equal(second.code, 200);
  assert.equal(second.headers['content-type'], 'application/json');
});

test('HEAD is answered without a body', async (t) => {
  const path = await listening(t);
  const answer = await ask(path, '/v1/status', { method: 'HEAD' });
  assert.deepEqual([answer.code, answer.body], [200, '']);
});

test('the socket is for its owner and group only, and its directory is made', async (t) => {
  const path = await listening(t, STATUS, { path: join(temporaryDirectory(t), 'a', 'b', 'lbd.sock') });
  assert.equal(statSync(path).mode & 0o777, 0o660);
});

test('a path that is none is a 404 that names those that are', async (t) => {
  const path = await listening(t, { ...STATUS, '/v1/config': () => [] });
  for (const wrong of ['/', '/v1', '/v1/status/', '/V1/STATUS', '/toString', '/__proto__', '//v1/status']) {
    const answer = await ask(path, wrong);
    assert.equal(answer.code, 404, wrong);
    assert.deepEqual(JSON.parse(answer.body).paths, ['/v1/status', '/v1/config']);
  }
});

test('a method that would change something is a 405, with a body of any size', async (t) => {
  const path = await listening(t);
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    const answer = await ask(path, '/v1/status', { method });
    assert.equal(answer.code, 405, method);
    assert.equal(answer.headers['allow'], 'GET, HEAD');
  }
  const socket = await connect(t, path);
  socket.write('POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n');
  socket.write(Buffer.alloc(1_000_000));
  const [first] = await once(socket, 'data');
  assert.match(String(first), /^HTTP\/1\.1 405 /);
});

test('a document that cannot be made is a 500, logged, and the next request is served', async (t) => {
  const logged: unknown[] = [];
  const logger: Logger = { ...SILENT_LOGGER, error: (fields, event) => void logged.push([event, fields]) };
  let broken: 'throws' | 'has no JSON' | undefined = 'throws';
  const documents: Documents = {
    '/v1/status': () => {
      if (broken === 'throws') throw new Error('no status today');
      return broken === undefined ? { ok: true } : { size: 1n };
    },
  };
  const path = await listening(t, documents, { logger });
  const thrown = await ask(path, '/v1/status');
  assert.deepEqual([thrown.code, JSON.parse(thrown.body)], [500, { error: 'no status today' }]);
  broken = 'has no JSON';
  const unwritable = await ask(path, '/v1/status');
  assert.equal(unwritable.code, 500);
  assert.match(JSON.parse(unwritable.body).error, /BigInt/);
  broken = undefined;
  assert.equal((await ask(path, '/v1/status')).code, 200);
  assert.equal(logged.length, 2);
});

test('what a killed daemon left over is replaced; anything else in its place is left alone', async (t) => {
  const path = join(temporaryDirectory(t), 'lbd.sock');
  const daemon = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  assert.equal(spawnSync(process.execPath, ['-e', daemon]).signal, 'SIGKILL');
  assert.equal(statSync(path).isSocket(), true);
  await listening(t, STATUS, { path });
  assert.equal((await ask(path, '/v1/status')).code, 200);
  const precious = join(temporaryDirectory(t), 'lbd.sock');
  writeFileSync(precious, 'precious');
  const server = new ControlServer(precious, reading(STATUS), SILENT_LOGGER);
  await assert.rejects(server.listen(), (error) => {
    assert.ok(error instanceof LbdError);
    return error.code === 'control.listen-failed' && String(error.cause).includes('is no socket');
  });
  assert.equal(readFileSync(precious, 'utf8'), 'precious');
});

test('listen() throws control.listen-failed with the path when it cannot be', async (t) => {
  const directory = temporaryDirectory(t);
  const isDirectory = join(directory, 'lbd.sock');
  mkdirSync(join(isDirectory, 'full'), { recursive: true });
  const notADirectory = join(directory, 'file');
  writeFileSync(notADirectory, '');
  const tooLong = join(directory, 'x'.repeat(120));
  // Where mkdir -p of Node itself never comes back.
  const inProc = '/proc/nope/lbd.sock';
  for (const path of [isDirectory, join(notADirectory, 'lbd.sock'), tooLong, inProc]) {
    const server = new ControlServer(path, reading(STATUS), SILENT_LOGGER);
    await assert.rejects(server.listen(), (error) => {
      assert.ok(error instanceof LbdError);
      assert.equal(error.code, 'control.listen-failed');
      return error.message.includes(`"${path}"`);
    });
    await server.close();
  }
});

test('close() takes the socket away and ends the connections', async (t) => {
  const path = join(temporaryDirectory(t), 'lbd.sock');
  const server = new ControlServer(path, reading(STATUS), SILENT_LOGGER);
  await server.listen();
  const socket = await connect(t, path);
  socket.write('GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(socket, 'data');
  const gone = closed(socket);
  await server.close();
  await gone;
  assert.throws(() => statSync(path), { code: 'ENOENT' });
});

test('connections beyond the limit are closed at once, and there is room again when others go', async (t) => {
  const path = await listening(t, STATUS, { limits: { ...QUICK, connections: 4, requestTimeoutMs: 60_000 } });
  const first = await Promise.all([1, 2, 3, 4].map(() => connect(t, path)));
  const turnedAway = await connect(t, path);
  turnedAway.resume();
  await closed(turnedAway);
  const gone = first.map((socket) => {
    socket.resume();
    socket.end('GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    return closed(socket);
  });
  await Promise.all(gone);
  assert.equal((await ask(path, '/v1/status')).code, 200);
});

test('clients that never finish their request are let go in time, so that others are served', async (t) => {
  const path = await listening(t, STATUS, { limits: { ...QUICK, connections: 4 } });
  const texts = [
    '',
    'GET /v1',
    'GET /v1/status HTTP/1.1\r\n',
    'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n',
  ];
  const gone = texts.map(async (text) => {
    const socket = await connect(t, path);
    socket.resume();
    if (text !== '') socket.write(text);
    await closed(socket);
  });
  await Promise.all(gone);
  assert.equal((await ask(path, '/v1/status')).code, 200);
});

test('a client that never reads its answer is let go, so that others are served', async (t) => {
  const big = { text: 'x'.repeat(4 << 20) };
  const path = await listening(t, { '/v1/status': () => big }, { limits: { ...QUICK, connections: 1 } });
  const socket = await connect(t, path);
  socket.pause();
  socket.write('GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n');
  const answer = await waitFor(() => ask(path, '/v1/status'), { describe: 'room for another client' });
  assert.equal(answer.code, 200);
});

test('garbage is answered by closing, whatever it is', async (t) => {
  const path = await listening(t, STATUS, { limits: QUICK });
  const garbage = [
    Buffer.from('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'),
    Buffer.from('GET\0/ HTTP/1.1\r\n\r\n'),
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.from(`GET /${'x'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`),
    Buffer.from(`GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(20_000)}\r\n`),
    Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
    Buffer.alloc(5_000, 0xff),
  ];
  for (const bytes of garbage) {
    const socket = await connect(t, path);
    socket.resume();
    socket.write(bytes);
    await closed(socket);
  }
  assert.equal((await ask(path, '/v1/status')).code, 200);
});

test('clients that go away in the middle do no harm', async (t) => {
  const big = { text: 'x'.repeat(1 << 20) };
  const path = await listening(t, { '/v1/status': () => big });
  for (let round = 0; round < 20; round++) {
    const socket = await connect(t, path);
    socket.write('GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'data');
    socket.destroy();
  }
  assert.equal((await ask(path, '/v1/status')).body.length, JSON.stringify(big).length + 1);
});

test('many at once are all served', async (t) => {
  const path = await listening(t);
  const answers = await Promise.all(Array.from({ length: 60 }, () => ask(path, '/v1/status')));
  assert.ok(answers.every(({ code }) => code === 200));
});

/** Sends a request with a body; resolves with status and answer. */
function post(socketPath: string, path: string, body: string, options: RequestOptions = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, agent: false, method: 'POST', ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ code: response.statusCode, body: text, headers: response.headers }));
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

test('a command is carried out by POST alone, and its answer is what it came to', async (t) => {
  let runs = 0;
  const drain = (): unknown => {
    runs += 1;
    return { runs };
  };
  const documents: Documents = { '/v1/drain': () => ({ drained: runs > 0 }) };
  const path = await listening(t, documents, { commands: { '/v1/drain': drain, '/v1/undrain': drain } });
  for (const body of ['', '{}', ' {}\n']) assert.equal((await post(path, '/v1/drain', body)).code, 200);
  assert.deepEqual(JSON.parse((await post(path, '/v1/drain?force', '')).body), { runs: 4 });
  assert.deepEqual(JSON.parse((await ask(path, '/v1/drain')).body), { drained: true });
  const get = await ask(path, '/v1/undrain');
  assert.deepEqual([get.code, get.headers['allow']], [405, 'POST']);
  const put = await ask(path, '/v1/drain', { method: 'PUT' });
  assert.deepEqual([put.code, put.headers['allow']], [405, 'GET, HEAD, POST']);
  assert.deepEqual(JSON.parse((await post(path, '/v1/rebalance', '')).body).paths, [
    '/v1/drain',
    '/v1/undrain',
  ]);
  assert.equal(runs, 4);
});

test('a command with a body is refused and not carried out, whatever the size', async (t) => {
  let runs = 0;
  const commands = {
    '/v1/drain': () => {
      runs += 1;
    },
  };
  const path = await listening(t, STATUS, { commands, limits: QUICK });
  const short = await post(path, '/v1/drain', '{"force":true}');
  assert.deepEqual(
    [short.code, JSON.parse(short.body)],
    [400, { error: 'expected no body, got "{\\"force\\":true}"' }],
  );
  const socket = await connect(t, path);
  socket.write('POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n');
  socket.write(Buffer.alloc(1_000_000, 'x'));
  const [first] = await once(socket, 'data');
  assert.match(String(first), /^HTTP\/1\.1 400 /);
  const broken = await connect(t, path);
  broken.write('POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{');
  broken.destroy();
  assert.equal((await ask(path, '/v1/status')).code, 200);
  assert.equal(runs, 0);
});

test('a refusal is told in words with its status, and not logged', async (t) => {
  const logger: Logger = { ...SILENT_LOGGER, error: () => assert.fail('logged') };
  const refuse = (): never => {
    throw new ControlRefusal(409, 'this host does not gossip');
  };
  const path = await listening(t, { '/v1/members': refuse }, { commands: { '/v1/drain': refuse }, logger });
  for (const answer of [await ask(path, '/v1/members'), await post(path, '/v1/drain', '')]) {
    assert.deepEqual([answer.code, JSON.parse(answer.body)], [409, { error: 'this host does not gossip' }]);
  }
});

test('a document is made of the query', async (t) => {
  const path = await listening(t, { '/v1/explain': (query) => ({ subject: query.get('subject') }) });
  const answer = await ask(path, '/v1/explain?subject=default%2Fweb&x=1');
  assert.deepEqual(JSON.parse(answer.body), { subject: 'default/web' });
});
