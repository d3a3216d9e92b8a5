import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { HealthCheckService } from '../../../src/daemon/health-check-service.ts';
import type { Wanted } from '../../../src/election/types.ts';
import type { AddressStatus } from '../../../src/iface/types.ts';
import type { ServiceKey } from '../../../src/kube/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { waitFor } from '../../support/wait.ts';
import { service } from '../ipam/fixtures.ts';

const IP = '10.0.0.9' as Ip;

/** A server that answers `status` on a port of its own, and the checks of a Service with that port. */
class Bench {
  readonly checks: HealthCheckService;
  status = 200;
  requests: string[] = [];
  changes = 0;
  held: readonly Ip[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      this.requests.push(`${request.method} ${request.url}`);
      response.statusCode = this.status;
      response.end('{"service": {}}');
    });
    this.checks = new HealthCheckService({
      node: 'n1',
      addresses: () => this.held.map((ip) => ({ ip, state: 'held' }) as AddressStatus),
      logger: SILENT_LOGGER,
      onChange: () => {
        this.changes += 1;
      },
    });
  }

  static async start(t: TestContext): Promise<Bench> {
    const bench = new Bench();
    bench.#server.listen(0, '127.0.0.1');
    await once(bench.#server, 'listening');
    t.after(() => bench.close());
    return bench;
  }

  close(): void {
    this.checks.close();
    this.#server.closeAllConnections();
    this.#server.close();
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Why this host may not have the address, by what is known. */
  unready(nodes: readonly string[] | undefined, isLastResort = false): string | undefined {
    const web = service('web', { externalTrafficPolicy: 'Local', healthCheckNodePort: this.port });
    const bound = nodes === undefined ? undefined : new Set(nodes);
    const wanted: Wanted = {
      addresses: new Map([[IP, { ip: IP, nodes: bound, isLastResort }]]),
      excludedNodes: new Set(),
      fresh: true,
    };
    const services = new Map([[web.key as ServiceKey, web]]);
    const desired = [{ ip: IP, services: [web.key] }];
    return this.checks.checked(wanted, desired, services, new Map()).unready?.get(IP);
  }
}

test('a host that is asked to have an address has to answer for it first', async (t) => {
  const bench = await Bench.start(t);
  assert.match(bench.unready(['n1']) ?? '', /not ready here for default\/web: .* was not asked yet/);
  await waitFor(() => bench.changes === 1, { describe: 'the answer' });
  assert.equal(bench.unready(['n1', 'n2']), undefined);
  assert.equal(bench.requests[0], 'GET /healthz');
});

test('an answer other than 200 says why, and a server that is gone, too', async (t) => {
  const bench = await Bench.start(t);
  bench.status = 503;
  bench.unready(['n1']);
  const answered = `healthCheckNodePort 127.0.0.1:${bench.port} answers 503`;
  assert.deepEqual([bench.checks.problems(), bench.checks.counts().unknown], [[], 1], 'not known yet');
  await waitFor(() => bench.unready(['n1'])?.includes(answered), { describe: answered });
  assert.deepEqual(bench.checks.problems(), [
    `kube-proxy is not ready here for default/web: its ${answered}`,
  ]);
  assert.deepEqual(bench.checks.counts(), { unknown: 0, ready: 0, unready: 1 });
  const { port } = bench;
  bench.close();
  const silent = await Bench.start(t);
  Object.defineProperty(silent, 'port', { value: port });
  silent.unready(['n1']);
  await waitFor(() => /ECONNREFUSED/.test(silent.unready(['n1']) ?? ''), { describe: 'the refusal' });
});

test('what is on this host already, as after a restart, stays until the answers say otherwise', async (t) => {
  const bench = await Bench.start(t);
  bench.held = [IP];
  bench.status = 503;
  assert.equal(bench.unready(['n1']), undefined);
  await waitFor(() => bench.changes === 1, { describe: 'the fall' });
  assert.ok(bench.requests.length >= 3);
  assert.match(bench.unready(['n1']) ?? '', /answers 503/);
});

test('nothing is asked where no endpoint is, where none need be, or where all of them end', async (t) => {
  const bench = await Bench.start(t);
  bench.status = 503;
  assert.equal(bench.unready(undefined), undefined);
  assert.equal(bench.unready(['n2']), undefined);
  assert.equal(bench.unready(['n1'], true), undefined);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(bench.requests, []);
});
