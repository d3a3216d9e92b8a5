import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { StatusDocument } from '../../src/daemon/types.ts';
import { addressesOf } from '../support/lab-api.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { Prober } from '../support/prober.ts';
import { held, onNic, Scenario, SKIP, shown, VIP } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

/** From a Service to its address and back: who gets which address, who does not, and what a user is told about it. */
describe('a Service', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(() => scenario.reset());
  after(() => scenario?.close());

  test('gets an address of mode VIP, and kubectl shows it with the Events Allocated and Announced', async () => {
    const { api, lab } = scenario;
    const lbd = await scenario.startLbd();
    await lab.kubectl(['create', 'service', 'loadbalancer', 'web', '--tcp=80:80']);
    await api.waitForAddresses('web');
    assert.deepEqual((await api.getService('web')).status, {
      loadBalancer: { ingress: [{ ip: VIP, ipMode: 'VIP' }] },
    });
    await held(lbd, VIP);
    await scenario.event('web', /^Announced/);
    const described = await lab.kubectl(['describe', 'service', 'web']);
    // Debian 12's kubectl, 1.20, does not know ipMode; later ones print it behind the address.
    assert.match(described.stdout, /LoadBalancer Ingress: +10\.77\.0\.200(?: \(VIP\))?\n/);
    assert.match(described.stdout, /Normal +Allocated .* Allocated 10\.77\.0\.200 from pool "default"/);
    assert.match(described.stdout, /Normal +Announced .* Announced 10\.77\.0\.200 on eth0 of h1/);
    const table = await lab.kubectl(['get', 'service', 'web']);
    assert.match(table.stdout, /web +LoadBalancer +\S+ +10\.77\.0\.200 +80:/);
    assert.equal(serviceOf(await lbd.status(), 'web')?.state, 'announced');
  });

  test('that stops being a LoadBalancer gives its address back, with an Event, and may get one again', async () => {
    const { api, host } = scenario;
    const { lbd } = await scenario.startWithService();
    await api.patchService('web', { spec: { type: 'ClusterIP' } });
    await onNic(host, VIP, false);
    await api.waitForService(
      'web',
      (service, event) => isClusterIp(event) && addressesOf(service).length === 0,
    );
    await scenario.event('web', /^Released: .*10\.77\.0\.200/);
    const status = await lbd.status();
    assert.equal(serviceOf(status, 'web'), undefined);
    assert.equal(status.pools[0]?.allocated, 0);
    assert.equal(await scenario.serve({ name: 'next' }), VIP);

    await api.patchService('web', { spec: { type: 'LoadBalancer' } });
    await held(lbd, '10.77.0.201');
    assert.deepEqual(addressesOf(await api.getService('web')), ['10.77.0.201']);
  });

  test('that is deleted loses its address at once', async () => {
    const { api, client, host } = scenario;
    await using prober = await Prober.start(client, { addresses: [VIP] });
    const { lbd } = await scenario.startWithService();
    await prober.firstAnswer(VIP);
    const { answeredAtMs } = await api.deleteService('web');
    await onNic(host, VIP, false);
    const lastMs = (await prober.silence(VIP)) ?? 0;
    assert.ok(lastMs - answeredAtMs < 250, `still answered ${lastMs - answeredAtMs} ms after the deletion`);
    assert.deepEqual((await lbd.status()).addresses, []);
    await scenario.event('web', /^Released: Released 10\.77\.0\.200: /);
    await waitFor(() => lbd.logs.find(({ event, ip }) => event === 'address.dropped' && ip === VIP), {
      describe: 'the log of it',
    });
  });

  test('keeps its address over a restart of lbd, whatever else is free', async () => {
    const { api } = scenario;
    const { lbd: first } = await scenario.startWithService({}, { name: 'one' });
    assert.equal(await scenario.serve({ name: 'two' }), '10.77.0.201');
    await first.stop('SIGTERM');
    await api.deleteService('one');
    await api.createService({ name: 'three' });
    const before = await api.getService('two');
    const second = await scenario.startLbd();
    await held(second, '10.77.0.201');
    assert.deepEqual((await api.waitForAddresses('three')).addresses, [VIP]);
    assert.deepEqual(await api.getService('two'), before, 'its status is not even written again');
  });

  test('of another load balancer class is left alone when none is configured', async () => {
    const { api } = scenario;
    const lbd = await scenario.startLbd();
    await api.createService({ name: 'other', spec: { loadBalancerClass: 'example.com/other' } });
    assert.equal(await scenario.serve({ name: 'classless' }), VIP);
    await nothingDoneFor(lbd, 'other');
  });

  test('of the configured load balancer class, and no other one, is served', async () => {
    const { api } = scenario;
    const toml = '[kubernetes]\nload_balancer_class = "example.com/lbd"';
    const lbd = await scenario.startLbd({ toml });
    await api.createService({ name: 'other', spec: { loadBalancerClass: 'example.com/other' } });
    await api.createService({ name: 'classless' });
    assert.equal(await scenario.serve({ name: 'ours', spec: { loadBalancerClass: 'example.com/lbd' } }), VIP);
    await nothingDoneFor(lbd, 'other');
    await nothingDoneFor(lbd, 'classless');
  });

  async function nothingDoneFor(lbd: { status(): Promise<StatusDocument> }, name: string): Promise<void> {
    assert.deepEqual(addressesOf(await scenario.api.getService(name)), []);
    assert.deepEqual(await scenario.api.eventsOf(name), []);
    assert.equal(serviceOf(await lbd.status(), name), undefined);
  }

  test('gets the pool that it names; one that has auto_assign = false goes to nobody else', async () => {
    const { api } = scenario;
    const lbd = await scenario.startLbd({ pool: ['10.77.0.200-10.77.0.201'], toml: RESERVED_POOL });
    assert.equal(
      await scenario.serve({ name: 'named', annotations: { 'lbd.io/pool': 'reserved' } }),
      '10.77.0.230',
    );
    for (const name of ['one', 'two']) await scenario.serve({ name });
    await api.createService({ name: 'three' });
    const event = await scenario.event('three', /^AllocationFailed/);
    assert.match(event, /"default"/);
    assert.doesNotMatch(event, /10\.77\.0\.23/);
    await api.createService({ name: 'lost', annotations: { 'lbd.io/pool': 'resreved' } });
    assert.match(await scenario.event('lost', /^AllocationFailed/), /"resreved".*"reserved", "default"/);
    const { pools } = await lbd.status();
    assert.deepEqual(
      pools.map(({ name, allocated }) => [name, allocated]),
      [
        ['reserved', 1],
        ['default', 2],
      ],
    );
  });

  test('gets the address that it asks for, by annotation or spec.loadBalancerIP', async () => {
    const { host } = scenario;
    await scenario.startLbd({ toml: RESERVED_POOL });
    const byAnnotation = { name: 'a', annotations: { 'lbd.io/addresses': '10.77.0.207' } };
    assert.equal(await scenario.serve(byAnnotation), '10.77.0.207');
    assert.equal(await scenario.serve({ name: 'b', spec: { loadBalancerIP: '10.77.0.206' } }), '10.77.0.206');
    const reserved = { name: 'c', annotations: { 'lbd.io/addresses': '10.77.0.231' } };
    assert.equal(await scenario.serve(reserved), '10.77.0.231');
    for (const ip of ['10.77.0.206', '10.77.0.207', '10.77.0.231']) await onNic(host, ip);
  });

  test('that asks for an address which it cannot have is told why', async () => {
    const { api } = scenario;
    const lbd = await scenario.startLbd({ toml: RESERVED_POOL });
    assert.equal(await scenario.serve({ name: 'web' }), VIP);
    for (const { name, ...service } of REFUSED_WISHES) await api.createService({ name, ...service });
    for (const { name, expected } of REFUSED_WISHES) {
      const event = await scenario.event(name, /^AllocationFailed/);
      assert.match(event, expected);
      assert.deepEqual(addressesOf(await api.getService(name)), []);
      const status = await lbd.status();
      const service = serviceOf(status, name);
      assert.equal(service?.state, 'refused');
      assert.ok(event.endsWith(service?.reason ?? '?'), `${event} and ${service?.reason}`);
      assert.ok(status.problems.some(({ text }) => text.includes(`default/${name} has no address`)));
    }
    const table = await lbd.lbctl(['status']);
    for (const { name } of REFUSED_WISHES)
      assert.match(table.stdout, new RegExp(`default/${name} .*refused`));
    // What stood in the way goes away.
    await api.deleteService('web');
    await api.waitForAddresses('taken');
    assert.deepEqual(addressesOf(await api.getService('taken')), [VIP]);
  });

  test('waits while its pool is exhausted, is told so, and gets the first address that is freed', async () => {
    const { api } = scenario;
    const lbd = await scenario.startLbd({ pool: ['10.77.0.200-10.77.0.201'] });
    for (const name of ['one', 'two']) await scenario.serve({ name });
    await api.createService({ name: 'waiting' });
    assert.match(await scenario.event('waiting', /^AllocationFailed/), /pool "default".*(2|both)/);
    const status = await lbd.waitForStatus(
      (document) => serviceOf(document, 'waiting')?.state === 'refused',
      {
        describe: 'the refusal',
      },
    );
    assert.match(serviceOf(status, 'waiting')?.reason ?? '', /"default"/);
    assert.match((await lbd.lbctl(['status'])).stdout, /default +2 \(full\) +2 /);
    const deletedMs = labTimeMs();
    await api.deleteService('one');
    const { addresses, atMs } = await api.waitForAddresses('waiting');
    assert.deepEqual(addresses, [VIP]);
    assert.ok(atMs - deletedMs < 1_000, `waited ${atMs - deletedMs} ms`);
    await held(lbd, VIP);
    assert.deepEqual((await lbd.status()).problems, []);
  });

  test('shares its address with another one when both say so and their ports differ', async () => {
    const { api, host } = scenario;
    const lbd = await scenario.startLbd();
    const annotations = { 'lbd.io/sharing-key': 'dns' };
    const port = (number: number, protocol: string) => ({
      ports: [{ name: `p${number}`, port: number, protocol }],
    });
    assert.equal(await scenario.serve({ name: 'udp', annotations, spec: port(53, 'UDP') }), VIP);
    assert.equal(await scenario.serve({ name: 'tcp', annotations, spec: port(53, 'TCP') }), VIP);
    assert.equal(await scenario.serve({ name: 'clash', annotations, spec: port(53, 'TCP') }), '10.77.0.201');
    const otherKey = { 'lbd.io/sharing-key': 'web', 'lbd.io/addresses': VIP };
    await api.createService({ name: 'stranger', annotations: otherKey, spec: port(80, 'TCP') });
    assert.match(
      await scenario.event('stranger', /^AllocationFailed/),
      /10\.77\.0\.200 is taken by default\/(udp|tcp)/,
    );
    const { services } = await held(lbd, VIP);
    assert.deepEqual([...services].sort(), ['default/tcp', 'default/udp']);
    await api.deleteService('udp');
    await lbd.waitForStatus(
      ({ addresses }) => addresses.find(({ ip }) => ip === VIP)?.services.length === 1,
      {
        describe: 'one Service on the address',
      },
    );
    assert.ok(await shown(host, VIP), 'stays as long as one Service has it');
    await api.deleteService('tcp');
    assert.deepEqual((await api.waitForAddresses('stranger')).addresses, [VIP], 'its turn has come');
    await api.deleteService('stranger');
    await onNic(host, VIP, false);
  });

  test('of both families gets one address of each', async () => {
    const { api, client, host } = scenario;
    const lbd = await scenario.startLbd({ pool: ['10.77.0.200-10.77.0.210', 'fd77::200-fd77::210'] });
    const dual = { ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv6', 'IPv4'] };
    await api.createService({ name: 'dual', spec: dual });
    await api.waitForAddresses('dual', { count: 2 });
    const service = await api.getService('dual');
    assert.deepEqual(addressesOf(service), ['fd77::200', VIP], 'in the order of spec.ipFamilies');
    for (const ip of ['fd77::200', VIP]) {
      await held(lbd, ip);
      await scenario.ping(ip, client);
    }
    await api.deleteService('dual');
    for (const ip of ['fd77::200', VIP]) await onNic(host, ip, false);
  });
});

const RESERVED_POOL = `[[pool]]
name = "reserved"
addresses = ["10.77.0.230-10.77.0.231"]
auto_assign = false
`;

const REFUSED_WISHES = [
  {
    name: 'taken',
    annotations: { 'lbd.io/addresses': VIP },
    expected: /lbd\.io\/addresses asks for 10\.77\.0\.200: .*default\/web/,
  },
  {
    name: 'outside',
    spec: { loadBalancerIP: '10.77.0.99' },
    expected: /spec\.loadBalancerIP asks for 10\.77\.0\.99, which is in no pool/,
  },
  {
    name: 'torn',
    annotations: { 'lbd.io/addresses': '10.77.0.205', 'lbd.io/pool': 'reserved' },
    expected: /10\.77\.0\.205 of pool "default", but lbd\.io\/pool names "reserved"/,
  },
  { name: 'wrong-family', annotations: { 'lbd.io/addresses': 'fd77::200' }, expected: /fd77::200.*v4 only/ },
  {
    name: 'no-address',
    annotations: { 'lbd.io/addresses': 'tomorrow' },
    expected: /expected IP addresses.*"tomorrow"/,
  },
] as const;

function serviceOf(status: StatusDocument, name: string) {
  return status.services.find((service) => service.name === `default/${name}`);
}

function isClusterIp({
  object,
}: {
  readonly object: { readonly spec: Readonly<Record<string, unknown>> };
}): boolean {
  return object.spec['type'] === 'ClusterIP';
}
