import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, test } from 'node:test';
import type { StatusDocument } from '../../src/daemon/types.ts';
import { createLab, type Lab } from '../support/lab.ts';
import { addressesOf, type ServiceObject } from '../support/lab-api.ts';
import type { Lbd } from '../support/lab-lbd.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { BINARY, FOREVER, onNic, SKIP, shown } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

/** Who allocates when there are several, how it goes with very many Services, and with Services made to do harm. */

/** In no subnet of a host, so that no host has to hold what another one holds too. */
const FAR_POOL = '198.18.0.0/22';
const LEASES = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases';

describe('allocation', { skip: SKIP, concurrency: 1 }, () => {
  test('takes no harm from hostile Services, and says why for each', async (context) => {
    await using lab = await createLab({ hosts: { api: {}, h1: {}, client: {} } });
    await lab.startApiServer();
    const { api } = lab;
    const h1 = lab.host('h1');
    const own = await shown(h1, h1.ip);
    assert.equal(own?.valid_life_time, FOREVER);
    // The whole subnet, with all in it that must not be given away.
    const lbd = await lab.startLbd('h1', { binary: BINARY, toml: pool('10.77.0.0/24') });
    await lab.apiServer.load([...MONSTERS, ...HOSTILE_WISHES.map(wish)], { checked: false });
    await lab.apiServer.load([loadBalancer('harmless')]);

    const { addresses } = await api.waitForAddresses('harmless', { timeoutMs: 20_000 });
    await onNic(h1, addresses[0] ?? '');
    await lab.host('client').run(['ping', '-n', '-c', '1', '-W', '2', addresses[0] ?? '']);
    for (const { name, expected } of HOSTILE_WISHES) {
      const status = await lbd.waitForStatus((document) => serviceOf(document, name)?.state === 'refused', {
        describe: `the refusal of ${name}`,
        timeoutMs: 10_000,
      });
      assert.match(serviceOf(status, name)?.reason ?? '', expected);
      const event = await waitFor(
        async () => (await api.eventsOf(name)).find((text) => text.startsWith('AllocationFailed')),
        { describe: `the Event of ${name}`, timeoutMs: 20_000, everyMs: 100 },
      );
      assert.match(event, expected);
    }
    await lab.apiServer.load(
      HOSTILE_STATUSES.map(({ name, ingress }) => ({
        ...loadBalancer(name),
        status: { loadBalancer: { ingress } },
      })),
      { checked: false },
    );
    for (const { name, held, expected } of HOSTILE_STATUSES) {
      const status = await lbd.waitForStatus(
        (document) => (serviceOf(document, name)?.state === 'announced') === held,
        { describe: `${name} to be ${held ? '' : 'not '}announced`, timeoutMs: 10_000 },
      );
      if (!held) assert.match(serviceOf(status, name)?.reason ?? '', expected);
    }
    await neverGiven(lab, h1.ip);
    assert.deepEqual(await shown(h1, h1.ip), own, "the host's own address is as it was");
    for (const ip of NEVER_HELD) assert.equal(await shown(h1, ip), undefined, `${ip} is not on the NIC`);
    for (const ip of NEVER_HELD.filter((one) => one !== '::1')) {
      assert.equal(await shown(h1, ip, 'lo'), undefined, `${ip} is not on lo`);
    }

    const table = await lbd.lbctl(['status']);
    assert.ok(!table.stdout.includes('\u001b'), 'nothing of a Service acts on a terminal');
    const rssMb = await residentMb(lbd);
    context.diagnostic(`RSS with hostile Services: ${rssMb} MB`);
    assert.ok(rssMb < 250, `${rssMb} MB`);
    assert.ok(!lbd.logs.some(({ event }) => event === 'daemon.crashed'));
    // Still well: it takes all of it away again.
    for (const { name } of [...HOSTILE_STATUSES, ...HOSTILE_WISHES]) await api.deleteService(name);
    await api.deleteService('harmless');
    await onNic(h1, addresses[0] ?? '', false);
  });

  test('serves 1,000 Services that are there at start', async (context) => {
    await using lab = await createLab({
      segments: { lan: { v4: '10.64.0.0/16' } },
      hosts: { api: {}, h1: {} },
    });
    await lab.startApiServer();
    const names = Array.from({ length: 1_000 }, (_, index) => `many-${index}`);
    await lab.apiServer.load(names.map((name) => loadBalancer(name)));
    const lbd = await lab.startLbd('h1', { binary: BINARY, toml: pool('10.64.8.0/22'), awaitReady: false });
    const startedMs = labTimeMs();
    await lbd.ready(20_000);
    const status = await lbd.waitForStatus(
      ({ addresses }) => addresses.filter(({ state }) => state === 'held').length === names.length,
      { describe: '1,000 addresses', timeoutMs: 30_000, everyMs: 100 },
    );
    context.diagnostic(`1,000 Services served ${Math.round(labTimeMs() - startedMs)} ms after the start`);
    await eachOnce(lab, names);
    assert.ok(status.services.every(({ state }) => state === 'announced'));
    const { stdout } = await lab.host('h1').run(['ip', '-4', '-o', 'addr', 'show', 'dev', 'eth0']);
    assert.equal(stdout.match(/ 10\.64\.(8|9|10|11)\.\d+\/32 /g)?.length, names.length);
    assert.deepEqual(status.problems, []);

    // And once more, when all of it is there already: nothing is written, nothing leaves the NIC.
    const { requests } = await lab.apiServer.stats();
    await lbd.stop('SIGTERM');
    const again = await lab.startLbd('h1', { binary: BINARY, toml: pool('10.64.8.0/22'), awaitReady: false });
    const againMs = labTimeMs();
    await again.waitForStatus(
      ({ addresses, kubernetes }) =>
        kubernetes.allocator.self &&
        addresses.filter(({ state }) => state === 'held').length === names.length,
      { describe: '1,000 addresses again', timeoutMs: 30_000, everyMs: 100 },
    );
    context.diagnostic(`and again ${Math.round(labTimeMs() - againMs)} ms after a restart`);
    const later = await lab.apiServer.stats();
    assert.equal(
      later.requests['patch services/status']?.count,
      requests['patch services/status']?.count,
      'no status is written again',
    );
  });

  // Mostly waiting, so all at once.
  describe('with two hosts', { concurrency: true }, () => {
    test('is done by one host of two; the other goes on at once when the first stops', async (context) => {
      await using pair = await Pair.start();
      const { api } = pair.lab;
      const [holder, other] = await pair.roles();
      const { body } = await api.expect('GET', `${LEASES}/lbd-allocator`);
      assert.equal((body['spec'] as { holderIdentity: string }).holderIdentity, holder.host.name);
      await api.createService({ name: 'first' });
      await api.waitForAddresses('first');
      await holder.waitForLog('service.allocated', { service: 'default/first' });
      const seen = await other.waitForStatus((status) => serviceOf(status, 'first')?.addresses.length === 1, {
        describe: 'the same address on the other host',
      });
      assert.deepEqual(serviceOf(seen, 'first')?.addresses, addressesOf(await api.getService('first')));
      assert.ok(!other.logs.some(({ event }) => event === 'service.allocated'));
      assert.match((await other.lbctl(['status'])).stdout, new RegExp(`allocator +${holder.host.name}\n`));

      await holder.stop('SIGTERM');
      const stoppedMs = labTimeMs();
      await api.createService({ name: 'second' });
      const { atMs } = await api.waitForAddresses('second');
      context.diagnostic(`allocated again ${Math.round(atMs - stoppedMs)} ms after a clean stop`);
      assert.ok(atMs - stoppedMs < 6_000, `${atMs - stoppedMs} ms after the stop`);
      await other.waitForLog('service.allocated', { service: 'default/second' });
    });

    test('goes on when the host that did it dies', async (context) => {
      await using pair = await Pair.start();
      const { api } = pair.lab;
      const [holder, other] = await pair.roles();
      await api.createService({ name: 'first' });
      await api.waitForAddresses('first');
      await holder.stop('SIGKILL');
      const diedMs = labTimeMs();
      await api.createService({ name: 'second' });
      const { atMs } = await api.waitForAddresses('second', { timeoutMs: 45_000 });
      context.diagnostic(`allocated again ${Math.round(atMs - diedMs)} ms after SIGKILL`);
      assert.ok(atMs - diedMs <= 40_000, `${atMs - diedMs} ms after the death`);
      await other.waitForLog('service.allocated', { service: 'default/second' });
      await eachOnce(pair.lab, ['first', 'second']);
    });

    test('gives no address twice and changes none in a burst while the allocator stops', async (context) => {
      await using pair = await Pair.start();
      const [holder] = await pair.roles();
      const names = Array.from({ length: 300 }, (_, index) => `burst-${index}`);
      const startedMs = labTimeMs();
      const created = Promise.all(names.map((name) => pair.lab.api.createService({ name })));
      await waitFor(() => holder.logs.filter(({ event }) => event === 'service.allocated').length > 20, {
        describe: 'the burst to be under way',
      });
      await holder.stop('SIGTERM', 10_000);
      await created;
      await eachOnce(pair.lab, names);
      const byHost = pair.daemons.map(
        (lbd) => lbd.logs.filter(({ event }) => event === 'service.allocated').length,
      );
      context.diagnostic(`300 Services in ${Math.round(labTimeMs() - startedMs)} ms, ${byHost} by host`);
      assert.ok(
        byHost.every((count) => count > 0),
        `both took part: ${byHost}`,
      );
    });

    test('gives no address twice when the allocator was only asleep', async () => {
      await using pair = await Pair.start();
      const { api } = pair.lab;
      const [holder, other] = await pair.roles();
      const names = Array.from({ length: 60 }, (_, index) => `burst-${index}`);
      const [early, late] = [names.slice(0, 40), names.slice(40)];
      const created = Promise.all(early.map((name) => api.createService({ name })));
      await waitFor(() => holder.logs.filter(({ event }) => event === 'service.allocated').length > 5, {
        describe: 'the burst to be under way',
      });
      holder.kill('SIGSTOP');
      await created;
      await other.waitForStatus(({ kubernetes }) => kubernetes.allocator.self, {
        describe: 'the other host to allocate',
        timeoutMs: 40_000,
      });
      const more = Promise.all(late.map((name) => api.createService({ name })));
      holder.kill('SIGCONT');
      await more;
      await eachOnce(pair.lab, names);
      const status = await holder.waitForStatus(
        ({ kubernetes }) => kubernetes.allocator.holder === other.host.name && !kubernetes.allocator.self,
        { describe: 'the sleeper to see who allocates', timeoutMs: 15_000 },
      );
      assert.equal(status.kubernetes.allocator.self, false);
    });
  });
});

/** Two hosts, each with its lbd, and nothing but the Lease between them. */
class Pair implements AsyncDisposable {
  readonly lab: Lab;
  readonly daemons: readonly [Lbd, Lbd];

  private constructor(lab: Lab, daemons: readonly [Lbd, Lbd]) {
    this.lab = lab;
    this.daemons = daemons;
  }

  static async start(): Promise<Pair> {
    const lab = await createLab({ hosts: { api: {}, h1: {}, h2: {} } });
    try {
      await lab.startApiServer();
      const options = { binary: BINARY, toml: pool(FAR_POOL) };
      const daemons = await Promise.all([lab.startLbd('h1', options), lab.startLbd('h2', options)]);
      return new Pair(lab, daemons);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** The one that allocates, and the other, when both agree on it. */
  async roles(): Promise<readonly [holder: Lbd, other: Lbd]> {
    return waitFor(
      async () => {
        const [first, second] = this.daemons;
        const [one, two] = [await first.status(), await second.status()].map(
          ({ kubernetes }) => kubernetes.allocator,
        );
        if (one?.holder === undefined || one.holder !== two?.holder || one.self === two.self)
          return undefined;
        return one.self ? ([first, second] as const) : ([second, first] as const);
      },
      { describe: 'one allocator of two', timeoutMs: 10_000, everyMs: 50 },
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lab.close();
  }
}

/** Each of these gets an address that no other one ever had, and keeps the first that it got. */
async function eachOnce(lab: Lab, names: readonly string[]): Promise<void> {
  for (const name of names) await lab.api.waitForAddresses(name, { timeoutMs: 40_000 });
  const owners = new Map<string, string>();
  for (const name of names) {
    const had = new Set(lab.api.serviceEvents(name).flatMap(({ object }) => addressesOf(object)));
    assert.equal(had.size, 1, `${name} had ${[...had]}`);
    for (const ip of had) {
      assert.equal(owners.get(ip), undefined, `${ip} was given to ${owners.get(ip)} and ${name}`);
      owners.set(ip, name);
    }
  }
  const { body } = await lab.api.expect('GET', '/api/v1/namespaces/default/services');
  const now = (body['items'] as readonly ServiceObject[]).flatMap(addressesOf);
  assert.equal(new Set(now).size, now.length, 'no address is in two statuses');
}

async function neverGiven(lab: Lab, hostIp: string): Promise<void> {
  const { body } = await lab.api.expect('GET', '/api/v1/namespaces/default/services');
  const hostile = new Set<string>(HOSTILE_STATUSES.map(({ name }) => name));
  for (const service of body['items'] as readonly ServiceObject[]) {
    if (hostile.has(service.metadata.name)) continue;
    for (const ip of addressesOf(service)) {
      assert.ok(!NEVER_HELD.includes(ip) && ip !== hostIp, `${service.metadata.name} got ${ip}`);
    }
  }
}

function pool(addresses: string): string {
  return `[[pool]]\nname = "default"\naddresses = ["${addresses}"]\n`;
}

function loadBalancer(name: string) {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace: 'default',
      uid: `uid-of-${name}`,
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec: {
      type: 'LoadBalancer',
      ports: [{ port: 80, protocol: 'TCP' }],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
    },
  };
}

function serviceOf(status: StatusDocument, name: string) {
  return status.services.find((service) => service.name === `default/${name}`);
}

async function residentMb(lbd: Lbd): Promise<number> {
  const text = await readFile(`/proc/${lbd.pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+) kB/m.exec(text)?.[1]) / 1_024);
}

/** The gateway, the subnet's own addresses, and what is no unicast address: never on the NIC, in no new status. */
const NEVER_HELD = [
  '10.77.0.1',
  '10.77.0.0',
  '10.77.0.255',
  '224.0.0.5',
  '127.0.0.9',
  '0.0.0.0',
  '::1',
  'ff02::1',
];

const OWN = '10.77.0.12';

/**
 * What somebody wrote into the status of a Service: what is no address at all is replaced by one, what is one stays
 * there (who knows whose it is) and is not held.
 */
const HOSTILE_STATUSES = [
  {
    name: 'says-text',
    held: true,
    expected: /^/,
    ingress: [{ ip: 'not an address' }, { ip: '10.77.0.300' }, { ip: '' }],
  },
  {
    name: 'says-types',
    held: true,
    expected: /^/,
    ingress: [{ ip: 7 }, null, 'x', { ip: ['10.77.0.50'] }, { ip: { v4: '10.77.0.50' } }],
  },
  { name: 'says-multicast', held: true, expected: /^/, ingress: [{ ip: '224.0.0.5' }, { ip: 'ff02::1' }] },
  { name: 'says-loopback', held: true, expected: /^/, ingress: [{ ip: '127.0.0.9' }, { ip: '::1' }] },
  {
    name: 'says-unspecified',
    held: true,
    expected: /^/,
    ingress: [{ ip: '0.0.0.0' }, { ip: '255.255.255.255' }],
  },
  {
    name: 'says-own',
    held: false,
    expected: /10\.77\.0\.12 is already on eth0 and was not put there by lbd/,
    ingress: [{ ip: OWN, ipMode: 'VIP' }],
  },
  {
    name: 'says-gateway',
    held: false,
    expected: /10\.77\.0\.1 is the gateway of one of this host's routes/,
    ingress: [{ ip: '10.77.0.1', ipMode: 'VIP' }],
  },
  {
    name: 'says-subnet',
    held: false,
    expected: /network address of .*broadcast address of /,
    ingress: [{ ip: '10.77.0.0' }, { ip: '10.77.0.255' }],
  },
  {
    name: 'says-long',
    held: true,
    expected: /^/,
    ingress: [{ ip: '1'.repeat(100_000) }, { hostname: 'h'.repeat(100_000) }],
  },
  {
    name: 'says-many',
    held: false,
    expected: /^it is in no pool and in no subnet of a host$/,
    ingress: Array.from({ length: 10_000 }, (_, index) => ({ ip: `10.78.${index >> 8}.${index & 255}` })),
  },
] as const;

const MEGABYTE = 'A'.repeat(1_000_000);

/** Objects that are only big, or of the wrong shape. */
const MONSTERS = [
  {
    ...loadBalancer('many-ports'),
    spec: {
      ...loadBalancer('').spec,
      ports: Array.from({ length: 10_000 }, (_, index) => ({ name: `p${index}`, port: index + 1 })),
    },
  },
  withAnnotations('big-annotations', { 'example.com/a': MEGABYTE, 'lbd.io/unknown': MEGABYTE }),
  withAnnotations(
    'many-annotations',
    Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`lbd.io/a${index}`, 'x'])),
  ),
  { ...loadBalancer('no-ports'), spec: { type: 'LoadBalancer', ports: 'all of them' } },
  { ...loadBalancer('no-families'), spec: { type: 'LoadBalancer', ipFamilies: ['IPX'], ipFamilyPolicy: 3 } },
  { ...loadBalancer('no-status'), status: 'none' },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'no-spec', namespace: 'default', annotations: 'none', uid: { a: 1 } },
  },
];

/** What a Service may ask for in vain; `expected` is said in status and in an Event. */
const HOSTILE_WISHES = [
  { name: 'asks-own', annotation: OWN, expected: /10\.77\.0\.12 is already on eth0/ },
  { name: 'asks-gateway', annotation: '10.77.0.1', expected: /10\.77\.0\.1\b.*gateway/ },
  { name: 'asks-network', annotation: '10.77.0.0', expected: /network address of 10\.77\.0\.0/ },
  { name: 'asks-broadcast', annotation: '10.77.0.255', expected: /broadcast address of 10\.77\.0\.0/ },
  {
    name: 'asks-neighbour',
    annotation: '10.77.0.11',
    expected: /02:1b:d0:00:00:0b answers for 10\.77\.0\.11/,
  },
  {
    name: 'asks-multicast',
    annotation: '224.0.0.5',
    expected: /224\.0\.0\.5, which no Service can have: .*multicast/,
  },
  {
    name: 'asks-loopback',
    annotation: '127.0.0.1',
    expected: /127\.0\.0\.1, which no Service can have: .*loopback/,
  },
  {
    name: 'asks-text',
    annotation: '../../etc/passwd',
    expected: /expected IP addresses.*"\.\.\/\.\.\/etc\/passwd"/,
  },
  { name: 'asks-colour', annotation: '\u001b[31mred', expected: /expected IP addresses/ },
  { name: 'asks-much', annotation: MEGABYTE, expected: /lbd\.io\/addresses/ },
  { name: 'asks-many', annotation: '10.77.0.50,10.77.0.51', expected: /at most one address per family/ },
] as const;

function wish({ name, annotation }: { readonly name: string; readonly annotation: string }) {
  return withAnnotations(name, { 'lbd.io/addresses': annotation });
}

function withAnnotations(name: string, annotations: Readonly<Record<string, string>>) {
  const service = loadBalancer(name);
  return { ...service, metadata: { ...service.metadata, annotations } };
}
