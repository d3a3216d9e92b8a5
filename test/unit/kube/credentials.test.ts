import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { ApiClient, ApiError } from '../../../src/kube/io/api-client.ts';
import { Credentials } from '../../../src/kube/io/credentials.ts';
import { checkKubeconfig } from '../../../src/kube/io/kubeconfig.ts';
import { recordOf } from '../../../src/kube/raw.ts';
import { LbdError } from '../../../src/lib/errors.ts';
import type { CredentialForm } from '../../support/apiserver/types.ts';
import { Harness, now } from './harness.ts';

let harness: Harness;
beforeEach(async () => {
  harness = await Harness.start();
});
afterEach(() => harness.close());

function clientFor(kubeconfig: string): ApiClient {
  const credentials = new Credentials({ path: kubeconfig, context: undefined, logger: harness.logger, now });
  harness.closeWith(async () => credentials.close());
  return new ApiClient(credentials, now);
}

function list(client: ApiClient): Promise<unknown> {
  return client.request({ verb: 'list', resource: 'services', method: 'GET', path: '/api/v1/services' });
}

async function refusal(client: ApiClient): Promise<ApiError> {
  const error: unknown = await list(client).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ApiError, String(error));
  return error;
}

describe('ApiClient', () => {
  for (const form of ['token', 'tokenFile', 'clientCertificate', 'exec'] satisfies CredentialForm[]) {
    it(`authenticates by ${form}`, async () => {
      const answer = recordOf(await list(clientFor(harness.kubeconfig('lbd', form))));
      assert.equal(answer['kind'], 'ServiceList');
    });
  }

  for (const form of ['tokenFile', 'exec'] satisfies CredentialForm[]) {
    it(`goes on at once with the next credentials when ${form} rotates`, async () => {
      const client = clientFor(harness.kubeconfig('lbd', form));
      await list(client);
      harness.api.rotateToken('lbd');
      await list(client);
    });
  }

  it('goes on with a kubeconfig that was rewritten', async () => {
    const path = harness.kubeconfig('lbd');
    const client = clientFor(path);
    await list(client);
    harness.api.rotateToken('lbd');
    assert.equal((await refusal(client)).failure.status, 401);
    writeFileSync(path, readFileSync(harness.kubeconfig('lbd')));
    await list(client);
  });

  it('keeps the last good credentials when the kubeconfig gets unusable, and says so once', async () => {
    const path = harness.kubeconfig('lbd');
    let time = now();
    const options = { path, context: undefined, logger: harness.logger, now: () => time };
    const credentials = new Credentials(options);
    harness.closeWith(async () => credentials.close());
    const before = await credentials.current();
    writeFileSync(path, 'rubbish: [');
    for (let round = 0; round < 3; round++) {
      time = now();
      time = (time + 60_000 * (round + 1)) as typeof time;
      assert.equal(await credentials.current(), before);
    }
    assert.equal(harness.logged.filter((line) => line.includes('is no YAML')).length, 1);
  });

  it('names verb, resource and remedy for 401 and 403', async () => {
    await harness.api.createUser('nobody');
    const forbidden = await refusal(clientFor(harness.kubeconfig('nobody')));
    assert.match(forbidden.message, /^cannot list services: 403 .*\(grant verb list on services\)$/);
    const path = harness.kubeconfig('lbd');
    harness.api.revokeTokens('lbd');
    assert.match(
      (await refusal(clientFor(path))).message,
      /^cannot list services: 401 .*credentials in the kubeconfig/,
    );
  });

  it('fails with a message, not with a crash, for credentials that no request can carry', async () => {
    const rubbish = Buffer.from('rubbish').toString('base64');
    for (const [pattern, text, expected] of [
      [/token: .*/, 'token: "no\\u00fcnicode\\u20ac"', /cannot list services: .*character/],
      [
        /certificate-authority-data: .*/,
        `certificate-authority-data: ${rubbish}`,
        /cannot list services: .*/,
      ],
      [
        /token: .*/,
        `{client-certificate-data: ${rubbish}, client-key-data: ${rubbish}}`,
        /cannot list services: .*PEM/i,
      ],
    ] as const) {
      const path = harness.kubeconfig('lbd');
      writeFileSync(path, readFileSync(path, 'utf8').replace(pattern, text));
      assert.match((await refusal(clientFor(path))).message, expected);
    }
  });

  it('says what an exec plugin said when it fails', async () => {
    const path = harness.kubeconfig('lbd');
    const text = readFileSync(path, 'utf8').replace(
      /token: .*/,
      'exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: ["-c", "echo no ticket >&2; exit 3"]}',
    );
    writeFileSync(path, text);
    assert.match((await refusal(clientFor(path))).message, /cannot list services: .*no ticket/);
  });

  it('tells exec plugins what kubectl tells them', async () => {
    const path = harness.kubeconfig('lbd');
    const seen = join(harness.directory, 'info');
    const script = `echo "$KUBERNETES_EXEC_INFO" > ${seen}; echo '{"kind":"ExecCredential","status":{"token":"${harness.api.tokenOf('lbd')}"}}'`;
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', script] };
    writeFileSync(path, readFileSync(path, 'utf8').replace(/token: .*/, `exec: ${JSON.stringify(exec)}`));
    await list(clientFor(path));
    assert.deepEqual(JSON.parse(readFileSync(seen, 'utf8')), {
      kind: 'ExecCredential',
      apiVersion: 'client.authentication.k8s.io/v1',
      spec: { interactive: false },
    });
  });

  it('refuses a server whose certificate the CA did not sign', async () => {
    const other = await Harness.start();
    harness.closeWith(() => other.close());
    const path = harness.kubeconfig('lbd', 'token', other.api.url);
    assert.match((await refusal(clientFor(path))).message, /certificate/);
  });

  it('goes through an HTTP proxy and keeps its connection', async () => {
    const proxy = await connectProxy();
    harness.closeWith(() => proxy.close());
    const path = harness.kubeconfig('lbd');
    writeFileSync(
      path,
      readFileSync(path, 'utf8').replace(
        /(\n\s+)(server: )/,
        `$1proxy-url: http://127.0.0.1:${proxy.port}$1$2`,
      ),
    );
    const client = clientFor(path);
    for (let round = 0; round < 3; round++) await list(client);
    assert.equal(proxy.tunnels(), 1);
  });

  it('gives up an answer that does not come, and asks on a new connection after a closed idle one', async () => {
    const client = clientFor(harness.kubeconfig());
    harness.api.faults.hang({ verbs: ['list'], times: 1 });
    const request = { verb: 'list', resource: 'services', method: 'GET', path: '/api/v1/services' } as const;
    await assert.rejects(
      client.request({ ...request, timeoutMs: 50 }),
      /cannot list services: no answer within 0.05 s/,
    );
    await list(client);
    harness.api.faults.dropConnections();
    await list(client);
  });
});

describe('checkKubeconfig()', () => {
  const refused = (path: string, context?: string): LbdError => {
    try {
      checkKubeconfig(path, context);
    } catch (error) {
      assert.ok(error instanceof LbdError);
      assert.ok(error.message.includes(path));
      return error;
    }
    return assert.fail('it was accepted');
  };
  const write = (text: string): string => {
    const path = join(harness.directory, 'candidate');
    writeFileSync(path, text, { mode: 0o640 });
    return path;
  };

  it('accepts what the server hands out', () => {
    checkKubeconfig(harness.kubeconfig(), undefined);
    checkKubeconfig(harness.kubeconfig(), 'test');
  });

  it('names a missing file', () => {
    assert.match(refused(join(harness.directory, 'absent')).message, /ENOENT/);
  });

  it('refuses a file that every user can read, and says the command', () => {
    const path = harness.kubeconfig();
    chmodSync(path, 0o644);
    const error = refused(path);
    assert.equal(error.code, 'kube.kubeconfig-exposed');
    assert.match(error.message, /mode 0644\): run chmod 640 /);
  });

  it('refuses what is no kubeconfig', () => {
    assert.match(refused(write('a: [')).message, /no YAML/);
    assert.match(refused(write('')).message, /no YAML: .*empty/);
    assert.match(refused(write('- 1')).message, /expected a YAML mapping/);
    assert.match(refused(write('{}')).message, /no current-context/);
    assert.match(refused(write('clusters: [{name: a}]')).message, /clusters\[0\]\.cluster is missing/);
  });

  it('refuses a context that is not there, naming those that are', () => {
    assert.match(refused(harness.kubeconfig(), 'other').message, /has no context "other": it has test/);
  });

  it('refuses a server that is no URL or not encrypted', () => {
    const text = (server: string) =>
      write(
        `current-context: c\nclusters: [{name: k, cluster: {server: "${server}"}}]\nusers: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n`,
      );
    assert.match(refused(text('nonsense')).message, /expected https:\/\/HOST:PORT/);
    assert.match(refused(text('http://192.0.2.1:8080')).message, /not encrypted/);
    checkKubeconfig(text('https://192.0.2.1:6443'), undefined);
  });
});

/** The CONNECT half of a proxy. */
async function connectProxy(): Promise<{ port: number; tunnels: () => number; close: () => Promise<void> }> {
  let tunnels = 0;
  const sockets = new Set<{ destroy(): void }>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('data', (head) => {
      const target = /^CONNECT ([^:]+):(\d+) /.exec(head.toString('latin1'));
      if (target === null) return socket.destroy();
      tunnels++;
      const upstream = connect(Number(target[2]), target[1]);
      sockets.add(upstream);
      upstream.on('error', () => socket.destroy());
      upstream.on('connect', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        socket.pipe(upstream).pipe(socket);
      });
      return undefined;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  return {
    port: address.port,
    tunnels: () => tunnels,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}
