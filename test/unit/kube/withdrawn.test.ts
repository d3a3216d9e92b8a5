import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { ApiClient, ApiError } from '../../../src/kube/io/api-client.ts';
import { Credentials } from '../../../src/kube/io/credentials.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { Harness, now } from './harness.ts';

/** A host that slept while it made a connection has lost the Lease when the connection stands. */
describe('ApiClient.request()', () => {
  let harness: Harness;

  before(async () => {
    harness = await Harness.start();
  });
  after(() => harness.close());

  for (const { may, title } of [
    { may: false, title: 'sends nothing when the right to send is lost while the connection is made' },
    { may: true, title: 'sends when the right to send is still there' },
  ]) {
    test(title, async () => {
      const gate = await openGate(Number(new URL(harness.api.url).port));
      harness.closeWith(async () => {
        gate.close();
      });
      const path = harness.kubeconfig('admin', 'token', `https://127.0.0.1:${gate.port}`);
      const credentials = new Credentials({ path, context: undefined, logger: SILENT_LOGGER, now });
      harness.closeWith(async () => credentials.close());
      const client = new ApiClient(credentials, now);
      let maySend = true;
      const name = `asked-${may}`;
      const answer = client.request({
        verb: 'create',
        resource: 'namespaces',
        method: 'POST',
        path: '/api/v1/namespaces',
        body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
        maySend: () => maySend,
      });
      const outcome = answer.then(
        () => 'sent',
        (error: unknown) => error,
      );
      await gate.reached;
      maySend = may;
      gate.pass();
      const got = await outcome;
      if (may) assert.equal(got, 'sent');
      else assert.ok(got instanceof ApiError && got.failure.kind === 'withdrawn', String(got));
      const creates = harness.api.stats().requests['create namespaces']?.count ?? 0;
      assert.equal(creates, may ? 1 : 0);
      // What was not sent says nothing about the server.
      assert.equal(client.reachability.error, undefined);
    });
  }
});

/** A TCP port in front of `target` that keeps back what comes until `pass()`. */
async function openGate(target: number) {
  const reached = Promise.withResolvers<void>();
  const passed = Promise.withResolvers<void>();
  const server = createServer((socket) => {
    reached.resolve();
    socket.on('error', () => {});
    passed.promise.then(() => {
      const inner = connect(target, '127.0.0.1');
      inner.on('error', () => {});
      socket.pipe(inner).pipe(socket);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { port, reached: reached.promise, pass: passed.resolve, close: () => server.close() };
}
