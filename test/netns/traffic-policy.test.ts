import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Cluster } from '../support/cluster.ts';
import { setEndpoints } from '../support/endpoints.ts';
import { followedAfterMs, HttpLoad } from '../support/http-requests.ts';
import { addressesOf } from '../support/lab-api.ts';
import type { LabHost } from '../support/lab-host.ts';
import { Prober } from '../support/prober.ts';
import { addressOf, held, inState, onNic, Scenario, SKIP, shown, VIP } from '../support/scenario.ts';
import { sleep, waitFor } from '../support/wait.ts';

/** From the change of the EndpointSlice to the first request from which on all are answered by the new host. */
const FOLLOWS_MS = 100;
const LOCAL = { externalTrafficPolicy: 'Local' } as const;
const NO_ENDPOINT = 'its externalTrafficPolicy is Local, and no node has a usable endpoint';

/** Which host has an address of a Service with externalTrafficPolicy Local, and what becomes of that. */
describe('externalTrafficPolicy among three hosts', { skip: SKIP }, () => {
  let cluster: Cluster;
  let h1: LabHost;
  let h2: LabHost;
  let h3: LabHost;

  before(async () => {
    cluster = await Cluster.start({ hosts: 3, pool: ['10.77.0.200-10.77.0.220', 'fd77::200-fd77::220'] });
    [h1, h2, h3] = cluster.hosts as [LabHost, LabHost, LabHost];
    await Promise.all([cluster.startAll(), cluster.startWebServers()]);
  });
  after(() => cluster?.close());

  /** Every different list of addresses that the Service's status ever had. */
  function addressesEver(name: string): readonly string[] {
    const all = cluster.lab.api.serviceEvents(name).map(({ object }) => addressesOf(object).join());
    return [...new Set(all.filter((text) => text !== ''))];
  }

  /** Waits for an Event of the Service that begins so. */
  function event(service: string, start: string): Promise<string> {
    return waitFor(
      async () => (await cluster.lab.api.eventsOf(service)).find((text) => text.startsWith(start)),
      { describe: `an Event "${start}" of ${service}` },
    );
  }

  test('Local: requests of a client follow the endpoint to another host', async (context) => {
    await setEndpoints(cluster.lab.api, 'follow', [h1]);
    const { ip, owner } = await cluster.serve({ name: 'follow', spec: LOCAL });
    assert.equal(owner, h1);
    const followed: number[] = [];
    for (const to of [h2, h3, h1]) {
      const load = await HttpLoad.start(cluster.client, ip, 200);
      await sleep(200);
      const { answeredAtMs } = await setEndpoints(cluster.lab.api, 'follow', [to]);
      await sleep(400);
      const requests = await load.stop();
      const afterMs = followedAfterMs(requests, to.name, answeredAtMs);
      assert.ok(afterMs !== undefined, JSON.stringify(requests.slice(-5)));
      followed.push(afterMs);
      assert.deepEqual(await cluster.holders(ip), [to]);
    }
    const sorted = followed.toSorted((left, right) => left - right);
    context.diagnostic(`followed after ${followed.map(Math.round).join(', ')} ms`);
    assert.ok((sorted[1] ?? Number.NaN) <= FOLLOWS_MS, `followed after ${followed.join(', ')} ms`);
    assert.deepEqual(addressesEver('follow'), [ip]);
  });

  test('Local: each address goes by the endpoints of its own family', async () => {
    const { api } = cluster.lab;
    const spec = { ...LOCAL, ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' };
    await setEndpoints(api, 'families', [h1], 'IPv4');
    await setEndpoints(api, 'families', [h2], 'IPv6');
    await api.createService({ name: 'families', spec });
    const { addresses } = await api.waitForAddresses('families', { count: 2 });
    const [v4 = '', v6 = ''] = addresses;
    assert.equal(await cluster.ownerOf(v4), h1);
    assert.equal(await cluster.ownerOf(v6), h2);
    await setEndpoints(api, 'families', [h3], 'IPv6');
    assert.equal(await cluster.ownerOf(v6, { but: [h2] }), h3);
    await onNic(h2, v6, false);
    assert.deepEqual(await cluster.holders(v4), [h1]);
  });

  test('Local: endpoints that serve while they terminate are the last resort', async () => {
    const { api } = cluster.lab;
    await setEndpoints(api, 'ending', [{ host: h1, state: 'terminating' }, h2]);
    const { ip, owner } = await cluster.serve({ name: 'ending', spec: LOCAL });
    assert.equal(owner, h2);
    await setEndpoints(api, 'ending', [
      { host: h1, state: 'terminating' },
      { host: h2, state: 'not-ready' },
    ]);
    assert.equal(await cluster.ownerOf(ip, { but: [h2] }), h1);
    await setEndpoints(api, 'ending', [{ host: h1, state: 'terminating' }, h3]);
    assert.equal(await cluster.ownerOf(ip, { but: [h1] }), h3);
  });

  test('Local, with no endpoint anywhere: nobody announces, and status, explain and an Event say so', async () => {
    const { api } = cluster.lab;
    await setEndpoints(api, 'bare', [h1]);
    const { ip } = await cluster.serve({ name: 'bare', spec: LOCAL });
    await using prober = await Prober.start(cluster.client, { addresses: [ip] });
    await prober.firstAnswer(ip);
    await setEndpoints(api, 'bare', [{ host: h1, state: 'not-ready' }]);
    await prober.silence(ip);
    assert.deepEqual(await cluster.holders(ip), []);
    for (const host of cluster.hosts) {
      const status = await cluster
        .lbd(host)
        .waitForStatus(({ problems }) => problems.some(({ text }) => text.includes(`${ip} has no owner`)), {
          describe: `${host.name} to say that ${ip} has no owner`,
        });
      const service = status.services.find(({ name }) => name === 'default/bare');
      assert.equal(service?.state, 'allocated');
      assert.ok(service?.reason?.includes(NO_ENDPOINT), String(service?.reason));
      const { stdout } = await cluster.lbd(host).lbctl(['explain', 'default/bare']);
      assert.ok(stdout.includes(NO_ENDPOINT), stdout);
      assert.match(stdout, /may not +its node h2 has no usable endpoint/);
    }
    assert.ok((await event('bare', 'NoEligibleHost')).includes(NO_ENDPOINT));
    // An endpoint where no lbd is helps nobody either, and it is told where.
    await setEndpoints(api, 'bare', [cluster.client]);
    const elsewhere = /its endpoints are on client, where no host may have it/;
    await waitFor(async () => (await api.eventsOf('bare')).some((text) => elsewhere.test(text)), {
      describe: 'an Event that names the node',
    });
    await setEndpoints(api, 'bare', [h2]);
    assert.equal(await cluster.ownerOf(ip), h2);
    assert.deepEqual(addressesEver('bare'), [ip]);
  });

  test('changed on a live Service, it moves the address only as far as it has to, and renumbers nothing', async () => {
    const { api } = cluster.lab;
    const { ip, owner } = await cluster.serve({ name: 'change' });
    const [other, third] = cluster.others(owner) as [LabHost, LabHost];
    const policy = (text: string) => api.patchService('change', { spec: { externalTrafficPolicy: text } });

    await setEndpoints(api, 'change', [other, owner]);
    await policy('Local');
    await waitFor(async () => (await explained(owner, third)) === 'ineligible', {
      describe: `${third.name} to be ineligible`,
    });
    assert.deepEqual(await cluster.holders(ip), [owner], 'an endpoint is where it was');
    await setEndpoints(api, 'change', [third]);
    assert.equal(await cluster.ownerOf(ip, { but: [owner, other] }), third);

    await policy('Cluster');
    await setEndpoints(api, 'change', []);
    await waitFor(async () => (await explained(third, owner)) !== 'ineligible', {
      describe: `${owner.name} to be eligible`,
    });
    assert.deepEqual(await cluster.holders(ip), [third], 'nothing moves that may stay');
    await policy('Local');
    await onNic(third, ip, false);
    await policy('Cluster');
    await cluster.ownerOf(ip);
    assert.deepEqual(addressesEver('change'), [ip]);

    async function explained(asked: LabHost, about: LabHost): Promise<string | undefined> {
      const { stdout } = await cluster.lbd(asked).lbctl(['explain', 'default/change', '--json']);
      const { addresses } = JSON.parse(stdout);
      return addresses[0]?.members.find(({ name }: { name: string }) => name === about.name)?.role;
    }
  });
});

describe('externalTrafficPolicy on a host without gossip', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  test('Local: the host has the address while an endpoint is there, and says why when none is', async () => {
    const { api, host, client } = scenario;
    await setEndpoints(api, 'web', [host]);
    const { lbd, ip } = await scenario.startWithService({}, { spec: LOCAL });
    assert.equal(ip, VIP);
    const cases = [
      [[], NO_ENDPOINT],
      [[client], 'its externalTrafficPolicy is Local, and no endpoint is here, but on client'],
    ] as const;
    for (const [endpoints, expected] of cases) {
      await setEndpoints(api, 'web', endpoints);
      await onNic(host, ip, false);
      assert.equal((await inState(lbd, ip, 'unserved')).reason, expected);
      await scenario.event('web', new RegExp(`^NoEligibleHost: ${ip} is announced by nobody: ${expected}`));
      const { stdout } = await lbd.lbctl(['explain', ip]);
      assert.ok(stdout.includes(expected), stdout);
      const { services, problems } = await lbd.status();
      assert.equal(services[0]?.reason, expected);
      assert.ok(problems.some(({ text }) => text.includes(`${ip} is not announced here: ${expected}`)));
      await setEndpoints(api, 'web', [host]);
      await held(lbd, ip);
    }
    await setEndpoints(api, 'web', []);
    await onNic(host, ip, false);
    await api.patchService('web', { spec: { externalTrafficPolicy: 'Cluster' } });
    await held(lbd, ip);
    assert.equal(addressOf(await lbd.status(), ip)?.reason, undefined);
    assert.ok(await shown(host, ip));
  });
});
