import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LabHost } from '../support/lab-host.ts';
import { labTimeMs } from '../support/lab-time.ts';
import { example, learnt, NO_ROUTING, RoutingDaemon, routerConfig } from '../support/routing.ts';
import { SKIP } from '../support/scenario.ts';
import { expectOnLink, VirtualLab } from '../support/virtual-lab.ts';
import { waitFor } from '../support/wait.ts';

const POOL = `[[pool]]
name = "default"
addresses = ["203.0.113.0/24", "fd55::/120"]
aggregate = { v4 = 24, v6 = 64 }
`;

const OWN_ROUTES = '[virtual]\nprotocol = 108\n';

type Case = {
  readonly name: string;
  readonly start: (host: LabHost, router: LabHost) => Promise<RoutingDaemon>;
  /** In front of the pool. */
  readonly toml?: string;
};

function bird(path: string): Case['start'] {
  return async (host, router) => RoutingDaemon.startBird(host, await example(`bird/${path}`, host, router));
}

function frr(path: string, ...daemons: readonly string[]): Case['start'] {
  return async (host, router) =>
    RoutingDaemon.startFrr(host, await example(`frr/${path}`, host, router), daemons);
}

/** The slowest first. */
const CASES: readonly Case[] = [
  { name: 'FRR by OSPF', start: frr('ospf.conf', 'ospfd', 'ospf6d') },
  { name: 'FRR by RIP', start: frr('rip.conf', 'ripd', 'ripngd') },
  { name: 'BIRD by OSPF', start: bird('ospf.conf'), toml: OWN_ROUTES },
  { name: 'FRR by BGP', start: frr('bgp.conf', 'bgpd') },
  { name: 'BIRD by RIP', start: bird('rip.conf'), toml: OWN_ROUTES },
  { name: 'BIRD by BGP', start: bird('bgp.conf'), toml: OWN_ROUTES },
  { name: 'BIRD by BGP from a table', start: bird('table.conf'), toml: '[virtual]\ntable = 1000\n' },
];

/** Each case waits for the timers of its protocol, and for little else: they share the machine well. */
const AT_ONCE = 3;
const LEARN_TIMEOUT_MS = 60_000;

/** The shipped examples of packaging/examples, on hosts beside lbd; what counts is what a router ends up with. */
describe('a router learns of virtual addresses from', {
  skip: SKIP || NO_ROUTING,
  concurrency: AT_ONCE,
}, () => {
  for (const { name, start, toml = '' } of CASES) {
    test(name, async (context) => {
      const lab = await VirtualLab.start({
        hosts: { h1: {}, h2: {} },
        others: {
          router: {
            sysctls: {
              'net.ipv4.ip_forward': '1',
              'net.ipv6.conf.all.forwarding': '1',
              'net.ipv4.fib_multipath_hash_policy': '1',
            },
          },
        },
      });
      try {
        const [h1, h2] = lab.hosts;
        assert.ok(h1 !== undefined && h2 !== undefined);
        const router = lab.host('router');
        const learns = (expected: readonly string[]) => expectLearnt(router, lab.hosts, expected);
        await RoutingDaemon.startBird(router, routerConfig(router, lab.hosts));
        const daemons = await Promise.all(lab.hosts.map((host) => lab.startLbd(host, toml + POOL)));
        await Promise.all(lab.hosts.map((host) => start(host, router)));
        await lab.serve('web', ['203.0.113.1', 'fd55::1']);
        const both = ['203.0.113.0/24 via h1 h2', 'fd55::/64 via h1 h2'];
        const first = await learns(both);
        for (const ip of ['203.0.113.1', 'fd55::1']) {
          await router.run(['ping', '-n', '-c', '1', '-W', '2', ip]);
        }
        await lab.serve('dns', ['203.0.113.2', 'fd55::2']);
        await expectOnLink(h1, shownWith(toml, ['203.0.113.1', '203.0.113.2', 'fd55::1', 'fd55::2']));

        // The routes stay with the last address; if they went, the steps below would not have them.
        await lab.lab.api.deleteService('dns');
        await expectOnLink(h1, shownWith(toml, ['203.0.113.1', 'fd55::1']));

        // A Local Service is routed alone, to the host with its endpoint; that the other one had no route is in it.
        await lab.setEndpoints('local', [h1]);
        await lab.serve('local', ['203.0.113.9', 'fd55::9'], { externalTrafficPolicy: 'Local' });
        await learns([...both, '203.0.113.9 via h1', 'fd55::9 via h1']);
        await lab.setEndpoints('local', [h2]);
        const followed = await learns([...both, '203.0.113.9 via h2', 'fd55::9 via h2']);
        await lab.lab.api.deleteService('local');
        await learns(both);

        // One host leaves for good, and then the last address of the aggregates goes.
        await daemons[1]?.stop('SIGINT');
        await learns(['203.0.113.0/24 via h1', 'fd55::/64 via h1']);
        await lab.lab.api.deleteService('web');
        const gone = await learns([]);
        const figures = [
          `learnt after ${first.toFixed(0)} ms`,
          `followed an endpoint after ${followed.toFixed(0)} ms`,
        ];
        context.diagnostic([...figures, `gone after ${gone.toFixed(0)} ms`].join(', '));
      } finally {
        await lab.close();
      }
    });
  }
});

/** Waits until the router has exactly these routes; resolves with how long that took. */
async function expectLearnt(
  router: LabHost,
  hosts: readonly LabHost[],
  expected: readonly string[],
): Promise<number> {
  const fromMs = labTimeMs();
  let last: readonly string[] = [];
  const wanted = expected.toSorted().join(', ');
  try {
    await waitFor(
      async () => {
        last = await learnt(router, hosts);
        return last.join(', ') === wanted;
      },
      {
        describe: `the router to have exactly ${wanted || 'nothing'}`,
        timeoutMs: LEARN_TIMEOUT_MS,
        everyMs: 50,
      },
    );
  } catch (error) {
    throw new Error(`${error}; it has ${last.join(', ') || 'nothing'}`, { cause: error });
  }
  return labTimeMs() - fromMs;
}

/** With a table, addresses are alone and routes are not. */
function shownWith(toml: string, ips: readonly string[]): readonly string[] {
  const lengths = toml === '' ? { v4: 24, v6: 64 } : { v4: 32, v6: 128 };
  return ips.map((ip) => `${ip}/${ip.includes(':') ? lengths.v6 : lengths.v4}`);
}
