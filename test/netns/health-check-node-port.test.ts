import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster } from '../support/cluster.ts';
import { setEndpoints } from '../support/endpoints.ts';
import type { ServiceObject } from '../support/lab-api.ts';
import type { LabHost } from '../support/lab-host.ts';
import type { LabProcess } from '../support/lab-process.ts';
import { Prober } from '../support/prober.ts';
import { onNic, SKIP } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

const LOCAL = { externalTrafficPolicy: 'Local' } as const;

/** kube-proxy's health check: it answers on the port of its first argument with the status that is written to its input. */
const HEALTH_SERVER = `let status = 200;
  process.stdin.on('data', (text) => { status = Number(text); console.log('answers ' + status); });
  require('node:http').createServer((request, response) => { response.statusCode = status; response.end(); })
    .listen({ port: Number(process.argv[1]), host: '0.0.0.0' }, () => console.log('listening'))`;

class HealthServer {
  readonly #process: LabProcess;

  private constructor(process: LabProcess) {
    this.#process = process;
  }

  static async start(host: LabHost, service: ServiceObject): Promise<HealthServer> {
    const port = String(service.spec['healthCheckNodePort']);
    const server = await host.spawn([process.execPath, '-e', HEALTH_SERVER, port]);
    await server.waitForLine(/listening/);
    return new HealthServer(server);
  }

  async answer(status: number): Promise<void> {
    this.#process.write(`${status}\n`);
    await this.#process.waitForLine(new RegExp(`answers ${status}`));
  }

  stop(): Promise<unknown> {
    return this.#process.stop('SIGKILL');
  }
}

describe('healthCheckNodePort', { skip: SKIP }, () => {
  let cluster: Cluster;
  const checked = '[kubernetes]\nhealth_check_node_ports = true';

  before(async () => {
    cluster = await Cluster.start({ hosts: 2, toml: checked });
    await cluster.startAll();
  });
  after(() => cluster?.close());

  test('a host whose kube-proxy says no, or nothing, is not eligible; a restart of lbd moves nothing', async () => {
    const { api } = cluster.lab;
    const [h1, h2] = cluster.hosts as [LabHost, LabHost];
    await api.createService({ name: 'web', spec: LOCAL });
    const { addresses } = await api.waitForAddresses('web');
    const [ip = ''] = addresses;
    const service = await api.getService('web');
    await setEndpoints(api, 'web', [h1, h2]);
    const notReady = /kube-proxy of its node h1 is not ready for it \(healthCheckNodePort\)/;
    await waitFor(async () => notReady.test((await cluster.lbd(h2).lbctl(['explain', ip])).stdout), {
      describe: 'h2 to know that kube-proxy on h1 does not answer',
    });
    assert.deepEqual(await cluster.holders(ip), [], 'nobody answers on either host');

    const first = await HealthServer.start(h1, service);
    assert.equal(await cluster.ownerOf(ip), h1);
    const second = await HealthServer.start(h2, service);
    await waitFor(async () => !/not ready/.test((await cluster.lbd(h1).lbctl(['explain', ip])).stdout), {
      describe: 'h2 to be ready',
    });
    assert.deepEqual(await cluster.holders(ip), [h1]);

    await using prober = await Prober.start(cluster.client, { addresses: [ip] });
    const before = await prober.firstAnswer(ip);
    await first.answer(503);
    assert.equal(await cluster.ownerOf(ip, { but: [h1] }), h2);
    const port = service.spec['healthCheckNodePort'];
    const problem = `kube-proxy is not ready here for default/web: its healthCheckNodePort 127.0.0.1:${port} answers 503`;
    const { problems } = await cluster.lbd(h1).status();
    assert.ok(
      problems.some(({ text }) => text === problem),
      JSON.stringify(problems),
    );
    assert.match((await cluster.lbd(h1).lbctl(['status'])).stdout, /healthCheckNodePort .* answers 503/);
    const gap = prober.longestGap(ip, { fromMs: before.atMs });
    assert.ok((gap?.ms ?? 0) < 500, `${gap?.ms} ms without an answer`);
    await first.answer(200);
    await second.stop();
    assert.equal(await cluster.ownerOf(ip, { but: [h2] }), h1);
    await onNic(h2, ip, false);
    assert.deepEqual([...new Set(prober.macs(ip).map(({ mac }) => mac))].length, 2);

    // A restart of lbd finds it where it is.
    const answers = prober.answers(ip).length;
    await cluster.lbd(h1).stop('SIGTERM');
    await cluster.startLbd(h1);
    await cluster.joined();
    assert.deepEqual(await cluster.holders(ip), [h1]);
    assert.ok(prober.answers(ip).length > answers);

    await first.stop();
    await onNic(h1, ip, false);
    const status = await cluster.lbd(h1).status();
    assert.match(status.services[0]?.reason ?? '', /its endpoints are on h1, h2, where no host may have it/);
    await waitFor(async () => (await api.eventsOf('web')).some((text) => /^NoEligibleHost/.test(text)), {
      describe: 'an Event',
    });
  });
});
