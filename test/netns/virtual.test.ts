import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { PingLoop } from '../support/ping-loop.ts';
import { Prober } from '../support/prober.ts';
import { FOREVER, held, inState, SKIP } from '../support/scenario.ts';
import {
  expectOnLink,
  LINK,
  onLink,
  routesOverLink,
  textsOnLink,
  VirtualLab,
} from '../support/virtual-lab.ts';
import { waitFor } from '../support/wait.ts';

/** Addresses in no subnet of any host, on real kernels. */
describe('a virtual address', { skip: SKIP }, () => {
  let lab: VirtualLab;
  let h1: LabHost;
  let h2: LabHost;
  let client: LabHost;

  before(async () => {
    lab = await VirtualLab.start({
      hosts: { h1: {}, h2: {} },
      // As from a router: h1 is the next hop for the pools.
      others: {
        client: { routes: ['203.0.113.0/24 via 10.77.0.12', 'fd55::/64 via fd77::12'] },
      },
    });
    h1 = lab.host('h1');
    h2 = lab.host('h2');
    client = lab.host('client');
  });
  afterEach(() => lab.reset());
  after(() => lab?.close());

  const AGGREGATED = pool('aggregate = { v4 = 24, v6 = 64 }');

  test('is permanent on kube-lb0 of every host, routed by one route for its aggregate, and answers what is routed to it', async () => {
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.startLbd(h2, AGGREGATED);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await lab.serve('dns', ['203.0.113.2', 'fd55::2']);
    const all = ['203.0.113.1/24', '203.0.113.2/24', 'fd55::1/64', 'fd55::2/64'];
    await expectOnLink(h1, all);
    await expectOnLink(h2, all);
    for (const { valid_life_time: valid } of (await onLink(h1)) ?? []) assert.equal(valid, FOREVER);
    assert.deepEqual(await routesOverLink(h1), ['203.0.113.0/24', 'fd55::/64']);
    for (const ip of ['203.0.113.1', 'fd55::1']) {
      await client.run(['ping', '-n', '-c', '1', '-W', '2', ip]);
    }
    const address = await held(lbd, '203.0.113.1');
    assert.deepEqual(
      [address.kind, address.interface, address.lifetimeLeftMs],
      ['virtual', LINK, 'permanent'],
    );
    const { problems, virtual, services } = await lbd.status();
    assert.deepEqual(problems, []);
    assert.equal(virtual?.addresses, 4);
    assert.ok(services.every(({ state }) => state === 'announced'));
    await lab.lab.api.deleteService('dns');
    await expectOnLink(h1, ['203.0.113.1/24', 'fd55::1/64']);
    assert.deepEqual(await routesOverLink(h1), ['203.0.113.0/24', 'fd55::/64']);
    await client.run(['ping', '-n', '-c', '1', '-W', '2', '203.0.113.1']);
    await lab.lab.api.deleteService('web');
    await expectOnLink(h1, []);
    assert.deepEqual(await routesOverLink(h1), []);
  });

  test('is nobody’s on the wire: no host answers ARP or neighbour solicitations for it', async () => {
    await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await expectOnLink(h1, ['203.0.113.1/24', 'fd55::1/64']);
    await using prober = await Prober.start(client, {
      addresses: ['203.0.113.1', 'fd55::1'],
      intervalMs: 20,
    });
    for (const ip of ['203.0.113.1', 'fd55::1']) {
      await prober.silence(ip, { quietMs: 500 });
      assert.equal(prober.answers(ip).length, 0, ip);
      assert.equal(prober.seen(ip, 'arp-announcement').length, 0, ip);
    }
  });

  test('is no source of the host: a server sees the address of the NIC', async () => {
    await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await expectOnLink(h1, ['203.0.113.1/24', 'fd55::1/64']);
    for (const [to, expected] of [
      [client.ip, h1.ip],
      [client.ip6, h1.ip6],
    ] as const) {
      const { stdout } = await h1.run(['ip', '-j', 'route', 'get', to]);
      assert.equal(JSON.parse(stdout)[0].prefsrc, expected);
    }
    // Not even where it is the only address of its family that the host has beyond loopback.
    await h1.run(['ip', '-4', 'addr', 'flush', 'dev', 'eth0']);
    try {
      await h1.run(['ip', 'route', 'add', '198.51.100.0/24', 'dev', 'eth0']);
      const { stdout } = await h1.run(['ip', '-j', 'route', 'get', '198.51.100.1'], { mayFail: true });
      assert.doesNotMatch(stdout, /203\.0\.113/);
    } finally {
      await h1.linkUp();
    }
  });

  test('without an aggregate is routed alone', async () => {
    await lab.startLbd(h1, pool());
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await expectOnLink(h1, ['203.0.113.1/32', 'fd55::1/128']);
    assert.deepEqual(await routesOverLink(h1), ['fd55::1'], 'a v4 address alone needs no connected route');
  });

  test('of a Local Service is routed alone, by the hosts with an endpoint, and follows it', async (context) => {
    await lab.startLbd(h1, AGGREGATED);
    const other = await lab.startLbd(h2, AGGREGATED);
    await lab.serve('all', ['203.0.113.1']);
    await lab.setEndpoints('some', [h1]);
    await lab.serve('some', ['203.0.113.9'], { externalTrafficPolicy: 'Local' });
    await expectOnLink(h1, ['203.0.113.1/24', '203.0.113.9/32']);
    await expectOnLink(h2, ['203.0.113.1/24']);
    const elsewhere = await inState(other, '203.0.113.9', 'elsewhere');
    assert.match(elsewhere.reason ?? '', /no endpoint is here, but on h1/);
    const fromMs = labTimeMs();
    await lab.setEndpoints('some', [h2]);
    await expectOnLink(h2, ['203.0.113.1/24', '203.0.113.9/32'], { everyMs: 5 });
    context.diagnostic(`followed within ${(labTimeMs() - fromMs).toFixed(0)} ms, asked by ip every 5 ms`);
    await expectOnLink(h1, ['203.0.113.1/24']);
    await lab.setEndpoints('some', []);
    await expectOnLink(h2, ['203.0.113.1/24']);
    await inState(other, '203.0.113.9', 'unserved');
    await waitFor(
      async () =>
        (await lab.lab.api.eventsOf('some')).some((text) => /no node has a usable endpoint/.test(text)),
      { describe: 'an Event that nobody has an endpoint' },
    );
    await lab.lab.api.patchService('some', { spec: { externalTrafficPolicy: 'Cluster' } });
    await expectOnLink(h1, ['203.0.113.1/24', '203.0.113.9/24']);
    await expectOnLink(h2, ['203.0.113.1/24', '203.0.113.9/24']);
  });

  test('stays over a restart without one write, goes with a stop for good, and cleanup takes it off', async () => {
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    const all = ['203.0.113.1/24', 'fd55::1/64'];
    await expectOnLink(h1, all);
    const before = await onLink(h1);
    const monitor = await h1.spawn(['ip', 'monitor', 'link', 'address', 'route', 'dev', LINK]);
    await lbd.stop('SIGTERM');
    const again = await lab.startLbd(h1, AGGREGATED);
    await held(again, '203.0.113.1');
    await again.stop('SIGKILL');
    await held(await lab.startLbd(h1, AGGREGATED), 'fd55::1');
    assert.deepEqual(await onLink(h1), before);
    await h1.run(['ip', 'link', 'set', 'eth0', 'txqueuelen', '999']);
    assert.deepEqual(
      monitor.lines.filter(({ text }) => text.includes(LINK)).map(({ text }) => text),
      [],
    );
    await monitor.stop();
    await lab.reset();

    const other = await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1']);
    await expectOnLink(h1, ['203.0.113.1/24']);
    await other.stop('SIGINT');
    assert.equal(await onLink(h1), undefined);

    const last = await lab.startLbd(h1, AGGREGATED);
    await expectOnLink(h1, ['203.0.113.1/24']);
    await last.stop('SIGKILL');
    await h1.run(['rm', '-rf', '/etc/lbd.toml']);
    await h1.run(['sh', '-c', 'rm -rf /var/lib/lbd/*']);
    const { code, stdout } = await lab.command(h1, 'lbd', ['cleanup']);
    assert.deepEqual([code, stdout], [0, `removed ${LINK}, a bridge, with 203.0.113.1/24\n`]);
    assert.equal(await onLink(h1), undefined);
    assert.equal((await lab.command(h1, 'lbd', ['cleanup'])).stdout, 'nothing of lbd is on this host\n');
  });

  test('stays while the API server is away, also over a restart', async () => {
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.setEndpoints('some', [h1]);
    await lab.serve('some', ['203.0.113.9'], { externalTrafficPolicy: 'Local' });
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    const all = ['203.0.113.1/24', '203.0.113.9/32', 'fd55::1/64'];
    await expectOnLink(h1, all);
    // The cache of Services is a second behind.
    await waitFor(async () => (await h1.run(['ls', '/var/lib/lbd'])).stdout.includes('services'), {
      describe: 'the cache of Services',
    });
    const api = lab.host('api');
    await lab.lab.segment().disconnect(api);
    try {
      await lbd.stop('SIGTERM');
      const again = await lab.startLbd(h1, AGGREGATED);
      await waitFor(async () => (await again.status()).kubernetes.fromCache, {
        describe: 'Services by the cache',
      });
      const { addresses } = await again.status();
      assert.ok(addresses.length > 0 && addresses.every(({ state }) => state === 'held'));
      assert.deepEqual((await textsOnLink(h1)).toSorted(), all.toSorted());
    } finally {
      await lab.lab.segment().connect(api);
    }
  });

  test('is back at once after it was deleted, flushed, or its link was', async (context) => {
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await lab.serve('dns', ['203.0.113.2']);
    const all = ['203.0.113.1/24', '203.0.113.2/24', 'fd55::1/64'];
    const faults: readonly (readonly [string, readonly string[]])[] = [
      ['its primary address deleted', ['addr', 'del', '203.0.113.1/24', 'dev', LINK]],
      ['all addresses flushed', ['addr', 'flush', 'dev', LINK]],
      ['the route deleted', ['route', 'del', '203.0.113.0/24', 'dev', LINK]],
      ['the link down', ['link', 'set', LINK, 'down']],
      ['the link deleted', ['link', 'delete', LINK]],
      [
        'a lifetime',
        ['addr', 'change', '203.0.113.1/24', 'dev', LINK, 'valid_lft', '60', 'preferred_lft', '60'],
      ],
    ];
    for (const [what, args] of faults) {
      await expectOnLink(h1, all);
      await waitFor(
        async () => {
          const shown = (await onLink(h1)) ?? [];
          return shown.length === 3 && shown.every(({ valid_life_time: valid }) => valid === FOREVER);
        },
        { describe: `all as it was before: ${what}` },
      );
      // No more than three repairs of the same within a second.
      await new Promise((resolve) => setTimeout(resolve, 400));
      const fromMs = labTimeMs();
      const linesBefore = lbd.process.lines.length;
      await h1.run(['ip', ...args]);
      const told = () =>
        lbd.process.lines.slice(linesBefore).find(({ text }) => text.includes('virtual.repaired'))?.text;
      const line = await waitFor(told, { describe: `the log to tell: ${what}`, timeoutMs: 2_000 });
      // Of links, older kernels do not tell who asked.
      if (args[0] !== 'link') assert.match(line, /"by":"(ip \(pid \d+\)|pid \d+)/, what);
      await expectOnLink(h1, all, { everyMs: 5 });
      context.diagnostic(`${what}: all back ${(labTimeMs() - fromMs).toFixed(0)} ms after the start of ip`);
    }
    assert.ok(((await lbd.status()).virtual?.repairs ?? 0) >= 5);
  });

  test('does not go on a kube-lb0 that lbd did not make, which stays as it is', async () => {
    await h1.ipBatch([`link add ${LINK} type bridge`, `addr add 198.51.100.1/32 dev ${LINK}`]);
    const before = (await h1.run(['ip', 'addr', 'show', LINK])).stdout;
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1']);
    const address = await inState(lbd, '203.0.113.1', 'no-interface');
    assert.match(address.reason ?? '', /kube-lb0 is a bridge that lbd did not make: remove it, or give/);
    const { problems } = await lbd.status();
    assert.ok(problems.some(({ severity, text }) => severity === 'error' && /did not make/.test(text)));
    assert.equal((await h1.run(['ip', 'addr', 'show', LINK])).stdout, before);
    await h1.run(['ip', 'link', 'delete', LINK]);
    await expectOnLink(h1, ['203.0.113.1/24']);
    assert.deepEqual((await lbd.status()).problems, []);
  });

  test('with type = "dummy" and no dummy in the kernel, names the command that loads it', async () => {
    const lbd = await lab.startLbd(h1, `[virtual]\ntype = "dummy"\n${AGGREGATED}`);
    await lab.serve('web', ['203.0.113.1']);
    const state = await waitFor(
      async () => (await lbd.status()).addresses.find(({ ip }) => ip === '203.0.113.1')?.state,
      { describe: 'a state' },
    );
    if (state === 'held') return;
    const address = await inState(lbd, '203.0.113.1', 'no-interface');
    assert.match(address.reason ?? '', /no dummy device for kube-lb0: run "modprobe dummy"/);
  });

  test('changes its aggregate with a reload and loses no ping', async () => {
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1']);
    await lab.serve('dns', ['203.0.113.2']);
    await expectOnLink(h1, ['203.0.113.1/24', '203.0.113.2/24']);
    const pings = await PingLoop.start(client, '203.0.113.1');
    await lbd.reload(pool());
    await expectOnLink(h1, ['203.0.113.1/32', '203.0.113.2/32']);
    await lbd.reload(AGGREGATED);
    await expectOnLink(h1, ['203.0.113.1/24', '203.0.113.2/24']);
    const { longestLossMs } = await pings.stop();
    assert.equal(longestLossMs, 0);
  });

  test('with a table has its route there, and no other', async () => {
    const toml = `[virtual]\ntable = 1000\nprotocol = 200\n${AGGREGATED}`;
    const lbd = await lab.startLbd(h1, toml);
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await lab.serve('dns', ['203.0.113.2']);
    await expectOnLink(h1, ['203.0.113.1/32', '203.0.113.2/32', 'fd55::1/128']);
    const table = ['table', '1000'];
    const inTable = async () => (await routesOverLink(h1, table)).join(' ');
    const both = '203.0.113.0/24 fd55::/64';
    await waitFor(async () => (await inTable()) === both, { describe: both });
    assert.deepEqual(await routesOverLink(h1), []);
    const { stdout } = await h1.run(['ip', '-j', 'route', 'show', 'table', '1000']);
    assert.equal(JSON.parse(stdout)[0].protocol, '200');
    await client.run(['ping', '-n', '-c', '1', '-W', '2', '203.0.113.1']);
    await h1.run(['ip', 'route', 'flush', 'table', '1000']);
    await waitFor(async () => (await inTable()) === both, { describe: 'the flushed route to be back' });
    await lab.setEndpoints('some', [h1]);
    await lab.serve('some', ['203.0.113.9', 'fd55::9'], { externalTrafficPolicy: 'Local' });
    const four = '203.0.113.0/24 203.0.113.9 fd55::/64 fd55::9';
    await waitFor(async () => (await inTable()) === four, { describe: four });
    for (const alone of ['203.0.113.9/32', 'fd55::9/128']) {
      await h1.run(['ip', ...(alone.includes(':') ? ['-6'] : []), 'route', 'delete', alone, ...table]);
      await lbd.waitForLog('virtual.repaired', { route: alone });
      await waitFor(async () => (await inTable()) === four, { describe: `${alone} to be back` });
    }
    await lab.lab.api.deleteService('some');
    await waitFor(async () => (await inTable()) === both, { describe: both });
    await lab.lab.api.deleteService('dns');
    await expectOnLink(h1, ['203.0.113.1/32', 'fd55::1/128']);
    assert.equal(await inTable(), both);
    await lab.lab.api.deleteService('web');
    await waitFor(async () => (await inTable()) === '', { describe: 'no route' });

    // What was made for another configuration goes, also when that was another lbd.
    await lab.serve('web', ['203.0.113.1', 'fd55::1']);
    await waitFor(async () => (await inTable()) === both, { describe: both });
    await lbd.stop('SIGTERM');
    await lab.startLbd(h1, AGGREGATED);
    await expectOnLink(h1, ['203.0.113.1/24', 'fd55::1/64']);
    assert.equal(await inTable(), '');
  });

  test('becomes a local one when a NIC gets its subnet', async () => {
    const lbd = await lab.startLbd(h1, AGGREGATED);
    await lab.serve('web', ['203.0.113.1']);
    await expectOnLink(h1, ['203.0.113.1/24']);
    await h1.ipBatch(['addr add 203.0.113.250/24 dev eth0']);
    try {
      await expectOnLink(h1, []);
      const address = await held(lbd, '203.0.113.1');
      assert.deepEqual([address.kind, address.interface], ['local', 'eth0']);
    } finally {
      await h1.ipBatch(['addr del 203.0.113.250/24 dev eth0']);
    }
  });

  test('is routed alone where its aggregate would take the host’s own network away', async () => {
    const toml = `[[pool]]\nname = "default"\naddresses = ["10.79.0.0/24"]\naggregate = { v4 = 12 }\n`;
    const lbd = await lab.startLbd(h1, toml);
    await lab.serve('web', ['10.79.0.1']);
    await expectOnLink(h1, ['10.79.0.1/32']);
    const { reason } = await held(lbd, '10.79.0.1');
    assert.match(
      reason ?? '',
      /the aggregate 10\.64\.0\.0\/12 of pool "default" overlaps 10\.77\.0\.0\/24 of eth0/,
    );
    await h1.run(['ping', '-n', '-c', '1', '-W', '2', client.ip]);
  });

  test('is never the first or last of its aggregate', async () => {
    await lab.startLbd(
      h1,
      `[[pool]]\nname = "default"\naddresses = ["203.0.113.0/24"]\naggregate = { v4 = 24 }\n`,
    );
    await lab.lab.api.createService({ name: 'web' });
    const { addresses } = await lab.lab.api.waitForAddresses('web');
    assert.deepEqual(addresses, ['203.0.113.1']);
    await lab.lab.api.createService({ name: 'last', annotations: { 'lbd.io/addresses': '203.0.113.255' } });
    await waitFor(
      async () =>
        (await lab.lab.api.eventsOf('last')).some((text) =>
          /broadcast address of 203\.0\.113\.0\/24/.test(text),
        ),
      { describe: 'an Event that it is the broadcast address' },
    );
  });
});

function pool(aggregate = ''): string {
  return `[[pool]]\nname = "default"\naddresses = ["203.0.113.0/24", "fd55::/120"]\n${aggregate}\n`;
}
