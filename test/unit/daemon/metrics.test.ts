import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { type TestContext, test } from 'node:test';
import { GossipStatistics } from '../../../src/daemon/gossip-statistics.ts';
import { collectMetrics, type GossipSources, type MetricSources } from '../../../src/daemon/metrics.ts';
import { type MetricsLimits, MetricsServer } from '../../../src/daemon/metrics-server.ts';
import { Announcements } from '../../../src/daemon/metrics-service.ts';
import { formatMetrics, metric, metrics } from '../../../src/daemon/metrics-text.ts';
import { RuntimeMonitor } from '../../../src/daemon/runtime-figures.ts';
import type { AddressStatus } from '../../../src/iface/types.ts';
import type { Ip } from '../../../src/lib/ip.ts';
import { SILENT_LOGGER } from '../../../src/lib/logger.ts';
import { member, overview } from '../cli/support/election-status.ts';
import { statusDocument } from '../cli/support/status-document.ts';

const X = '192.0.2.10' as Ip;

function held(ip: Ip, announcements: number): AddressStatus {
  return {
    ip,
    kind: 'local',
    services: ['default/web'],
    state: 'held',
    interface: 'eth0',
    prefixLength: 32,
    lifetimeLeftMs: 28_000,
    heldSinceMs: 60_000,
    announcements,
    unsentFrames: 0,
    repairs: 0,
    reason: undefined,
  };
}

function gossip(): GossipSources {
  const members = [
    member('h1', { isSelf: true }),
    member('h2', { state: 'dead' }),
    member('h3', { drift: 'x' }),
  ];
  return {
    election: overview({ members }),
    statistics: new GossipStatistics(),
    counters: {
      sent: 4,
      sentBytes: 400,
      received: 5,
      receivedBytes: 500,
      sendFailures: 0,
      sendOverflows: 0,
      oversized: 0,
      late: 0,
      refused: { key: 2, 'malformed-kind': 1 },
      sessions: { proven: 2, unproven: 0, held: 0 },
      connections: { accepted: 1, turnedAway: 0, failed: 0, malformed: 0, undelivered: 0, open: 2 },
    },
    claims: 3,
    owned: 2,
    homeless: 0,
  };
}

function sources(change: Partial<MetricSources> = {}): MetricSources {
  const { lbd, kubernetes } = statusDocument();
  return {
    lbd,
    runtime: {
      residentBytes: 90_000_000,
      cpuSeconds: 1.5,
      startedAtSeconds: 1_800_000_000,
      lagP99Seconds: 0.001,
      lagMaxSeconds: 0.02,
    },
    kubernetes,
    isReloaded: true,
    allocations: [],
    pools: [
      { name: 'a', addresses: [], family: 'v6', size: String(2n ** 64n), allocated: 1, blocked: [] },
      { name: 'b', addresses: [], family: 'v4', size: '4', allocated: 1, blocked: [{ ip: X, reason: 'x' }] },
    ],
    addresses: [held(X, 3)],
    addressEvents: new Map([['held', 7]]),
    announcements: 21,
    virtualRepairs: 2,
    sourceRoutingRepairs: 4,
    sysctlDrifts: 1,
    kubeProxy: { ready: 3, unready: 1 },
    netlink: {
      notifications: 9,
      ignored: 0,
      malformed: 0,
      resynchronisations: 4,
      interruptedDumps: 0,
      missed: 5,
    },
    wire: { received: 30, sent: 40, unsent: 6, refused: { own: 2 } },
    renewalAgeMs: 1_500,
    lifetimeMs: 30_000,
    gossip: gossip(),
    ...change,
  };
}

type Parsed = ReadonlyMap<string, { readonly type: string; readonly samples: ReadonlyMap<string, number> }>;

/** The exposition format as its specification has it, strictly; throws for anything else. */
function parse(text: string): Parsed {
  assert.ok(text.endsWith('\n'));
  const found = new Map<string, { type: string; samples: Map<string, number> }>();
  let current = '';
  for (const [index, line] of text.slice(0, -1).split('\n').entries()) {
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) ([a-z_][a-z0-9_]*) (.+)$/.exec(line) ?? [];
    if (keyword === 'HELP') {
      assert.ok(!found.has(name), `${name} again, line ${index}`);
      current = name;
      found.set(name, { type: '', samples: new Map() });
    } else if (keyword === 'TYPE') {
      assert.equal(name, current);
      assert.match(rest, /^(counter|gauge)$/);
      found.set(name, { type: rest, samples: new Map() });
    } else {
      const sample = /^([a-z_][a-z0-9_]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\n"])*",?)+\})? (-?[\d.e+]+)$/.exec(
        line,
      );
      assert.ok(sample, `no sample: ${line}`);
      const [, sampleName, labels = '', value] = sample;
      assert.equal(sampleName, current);
      const { samples } = found.get(current) ?? assert.fail();
      assert.ok(!samples.has(labels), `${line} again`);
      samples.set(labels, Number(value));
    }
  }
  return found;
}

function collected(change: Partial<MetricSources> = {}): Parsed {
  return parse(formatMetrics(collectMetrics(sources(change))));
}

function figure(parsed: Parsed, name: string, labels = ''): number | undefined {
  return parsed.get(name)?.samples.get(labels);
}

test('formatMetrics() writes labels and help that hold anything', () => {
  const odd = 'a"b\\c\nd';
  const text = formatMetrics([metrics('gauge', 'x', 'Back\\slash\nline.', 'label', [[odd, 1.5]])]);
  assert.equal(text, '# HELP x Back\\\\slash\\nline.\n# TYPE x gauge\nx{label="a\\"b\\\\c\\nd"} 1.5\n');
  assert.equal(formatMetrics([metric('gauge', 'x', 'None.', undefined)]).trim(), '');
});

test('collectMetrics() follows the conventions for names', () => {
  for (const [name, { type, samples }] of collected()) {
    assert.equal(type === 'counter', name.endsWith('_total'), `${name} is a ${type}`);
    assert.match(name, /^(lbd|process)_/);
    assert.doesNotMatch(name, /_(ms|kb|percent)(_|$)/);
    assert.ok(samples.size > 0);
  }
});

test('collectMetrics() has the figures of the host, its members and its addresses', () => {
  const parsed = collected();
  const expected: readonly (readonly [string, string, number])[] = [
    ['lbd_members', '{state="alive"}', 2],
    ['lbd_members', '{state="dead"}', 1],
    ['lbd_members', '{state="suspect"}', 0],
    ['lbd_members_drifting', '', 1],
    ['lbd_owned_addresses', '', 2],
    ['lbd_claims', '', 3],
    ['lbd_addresses', '{state="held"}', 1],
    ['lbd_addresses', '{state="conflict"}', 0],
    ['lbd_address_events_total', '{event="held"}', 7],
    ['lbd_address_announcements_total', '', 21],
    ['lbd_wire_frames_received_total', '', 30],
    ['lbd_wire_frames_refused_total', '{reason="own"}', 2],
    ['lbd_wire_frames_sent_total', '', 40],
    ['lbd_wire_frames_unsent_total', '', 6],
    ['lbd_address_renewal_age_seconds', '', 1.5],
    ['lbd_address_lifetime_seconds', '', 30],
    ['lbd_kube_proxy_services', '{state="unready"}', 1],
    ['lbd_addresses_taken_total', '{how="take-over"}', 0],
    ['lbd_gossip_refused_packets_total', '{reason="key"}', 2],
    ['lbd_gossip_sent_bytes_total', '', 400],
    ['lbd_gossip_connections', '', 2],
    ['lbd_segment_isolated', '{segment="192.0.2.0/24"}', 0],
    ['lbd_pool_free_addresses', '{pool="b"}', 2],
    ['lbd_pool_addresses', '{pool="a"}', 2 ** 64],
    ['lbd_kubernetes_reachable', '', 1],
    ['process_resident_memory_bytes', '', 90_000_000],
    ['lbd_build_info', '{version="0.1.0",commit="abc1234",node="v26.10.0"}', 1],
  ];
  for (const [name, labels, value] of expected) assert.equal(figure(parsed, name, labels), value, name);
});

test('collectMetrics() leaves out what is not known, and gossip on a host that does not gossip', () => {
  const parsed = collected({ gossip: undefined, renewalAgeMs: undefined, kubeProxy: undefined });
  assert.equal(parsed.has('lbd_address_renewal_age_seconds'), false);
  assert.equal(parsed.has('lbd_kube_proxy_services'), false);
  assert.deepEqual(
    [...parsed.keys()].filter((name) => /gossip|member|claim/.test(name)),
    [],
  );
});

test('docs/metrics.md names every metric with its type and its help, and no other', () => {
  const document = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
  const rows = [...document.matchAll(/^\| `([a-z0-9_]+)(?:\{[a-z, ]+\})?` \| (counter|gauge) \| (.*) \|$/gm)];
  const documented = rows.map(([, name, type, help]) => `${name} ${type} ${help}`).sort();
  const all = collectMetrics(
    sources({ allocations: [{ kind: 'release', service: 'a/b' as never, addresses: [], explain: '' }] }),
  );
  assert.deepEqual(documented, all.map(({ name, type, help }) => `${name} ${type} ${help}`).sort());
});

test('promtool finds nothing to say about the metrics', (t) => {
  const found = spawnSync('promtool', ['check', 'metrics'], {
    input: formatMetrics(collectMetrics(sources())),
    encoding: 'utf8',
  });
  if (found.error !== undefined) return t.skip('promtool is not installed (Debian package prometheus)');
  assert.deepEqual([found.status, found.stderr], [0, '']);
});

test('Announcements never falls, whatever becomes of the addresses', () => {
  const counted = new Announcements();
  assert.equal(counted.total([held(X, 3)]), 3);
  assert.equal(counted.total([held(X, 5), held('192.0.2.11' as Ip, 1)]), 6);
  assert.equal(counted.total([]), 6);
  // Here again, and counted from nothing.
  assert.equal(counted.total([held(X, 2)]), 8);
});

test('RuntimeMonitor sees an event loop that was held up', async (t) => {
  const monitor = new RuntimeMonitor();
  t.after(() => monitor.close());
  await new Promise((resolve) => setTimeout(resolve, 50));
  const until = performance.now() + 120;
  while (performance.now() < until);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const figures = monitor.figures();
  assert.ok(figures.lagMaxSeconds > 0.05 && figures.lagMaxSeconds < 5, `${figures.lagMaxSeconds} s`);
  assert.ok(figures.residentBytes > 1e6 && figures.cpuSeconds > 0);
  assert.ok(Math.abs(figures.startedAtSeconds - Date.now() / 1000) < 3600);
});

async function serving(
  t: TestContext,
  limits?: MetricsLimits,
): Promise<{ url: string; port: number; made: () => number }> {
  let made = 0;
  const server = new MetricsServer({
    ip: '127.0.0.1' as Ip,
    port: 0,
    text: () => `# HELP x Made.\n# TYPE x counter\nx ${++made}\n`,
    logger: SILENT_LOGGER,
    ...(limits === undefined ? {} : { limits }),
  });
  const port = await server.listen();
  t.after(() => server.close());
  return { url: `http://127.0.0.1:${port}`, port, made: () => made };
}

test('MetricsServer answers GET /metrics and nothing else', async (t) => {
  const limits = { connections: 16, requestTimeoutMs: 5_000, idleTimeoutMs: 5_000, freshMs: 60_000 };
  const { url, made } = await serving(t, limits);
  const answer = await fetch(`${url}/metrics`);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  assert.equal((await answer.text()).split('\n').at(-2), 'x 1');
  const post = await fetch(`${url}/metrics`, { method: 'POST', body: 'x' });
  assert.deepEqual([post.status, post.headers.get('allow')], [405, 'GET, HEAD']);
  for (const path of ['/', '/v1/status', '/metrics/']) assert.equal((await fetch(url + path)).status, 404);
  // One that follows at once costs nothing.
  await fetch(`${url}/metrics`);
  assert.equal(made(), 1);
});

test('MetricsServer turns away more connections than it has room for', async (t) => {
  const limits = { connections: 2, requestTimeoutMs: 60_000, idleTimeoutMs: 60_000, freshMs: 0 };
  const { port, url } = await serving(t, limits);
  const open = await Promise.all(
    [1, 2].map(async () => {
      const socket = createConnection(port, '127.0.0.1');
      t.after(() => socket.destroy());
      await once(socket, 'connect');
      return socket;
    }),
  );
  await assert.rejects(fetch(`${url}/metrics`));
  for (const socket of open) socket.destroy();
  await Promise.all(open.map((socket) => once(socket, 'close')));
  let answer: Response | undefined;
  for (let tries = 0; answer === undefined && tries < 100; tries++)
    answer = await fetch(`${url}/metrics`).catch(() => undefined);
  assert.equal(answer?.status, 200);
});

test('MetricsServer says why it cannot listen, and the daemon lives on', async (t) => {
  const { port } = await serving(t);
  const options = { ip: '127.0.0.1' as Ip, port, text: () => '', logger: SILENT_LOGGER };
  const server = new MetricsServer(options);
  t.after(() => server.close());
  await assert.rejects(server.listen(), { code: 'metrics.listen-failed' });
  const second = new MetricsServer(options);
  t.after(() => second.close());
  second.start();
  while (second.problem === undefined) await new Promise((resolve) => setImmediate(resolve));
  assert.match(
    second.problem,
    new RegExp(`^cannot listen on 127.0.0.1 port ${port} for Prometheus: .*EADDRINUSE`),
  );
});
