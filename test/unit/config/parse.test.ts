import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';
import type { Config } from '../../../src/config/types.ts';

const DEFAULTS = { hostName: 'Edge-1' };

const POOL = '[[pool]]\nname = "default"\naddresses = ["192.0.2.0/24"]\n';

/** The messages of a text that is refused, without the file that each starts with. */
function refusal(text: string): readonly string[] {
  const parsed = parseConfig(text, 'f', DEFAULTS);
  assert.ok(!parsed.ok, `accepted: ${text}`);
  return parsed.error.map((problem) => formatProblem(problem).replace(/^f:/, ''));
}

function accepted(text: string): { readonly config: Config; readonly warnings: readonly string[] } {
  const parsed = parseConfig(text, 'f', DEFAULTS);
  assert.ok(parsed.ok, parsed.ok ? '' : parsed.error.map(formatProblem).join('\n'));
  return { config: parsed.value.config, warnings: parsed.value.warnings.map(formatProblem) };
}

test('parseConfig() fills in every default', () => {
  const { config, warnings } = accepted(POOL);
  assert.deepEqual(warnings, []);
  assert.deepEqual(config, {
    host: { name: 'Edge-1', node: 'edge-1' },
    kubernetes: {
      kubeconfig: '/etc/lbd/kubeconfig',
      context: undefined,
      loadBalancerClass: undefined,
      leaseNamespace: 'kube-system',
      healthCheckNodePorts: false,
    },
    pools: [
      {
        name: 'default',
        addresses: ['192.0.2.0/24'],
        ranges: [{ first: '192.0.2.0', last: '192.0.2.255' }],
        autoAssign: true,
        aggregate: { v4: undefined, v6: undefined },
      },
    ],
    local: { interfaces: [], prefix: 'host', lifetimeMs: 30_000, announceIntervalMs: 0 },
    interfaces: [],
    virtual: { interface: 'kube-lb0', type: 'auto', routes: undefined },
    arp: { enforceSysctls: true },
    gossip: undefined,
    control: { socket: '/run/lbd/lbd.sock' },
    metrics: { listen: undefined },
    state: { directory: '/var/lib/lbd' },
    log: { level: 'info' },
  });
});

test('parseConfig() takes every key', () => {
  const { config, warnings } = accepted(`
host = { name = "a.example", node = "node-a" }
kubernetes.kubeconfig = "/root/.kube/config"
kubernetes.context = "edge"
kubernetes.load_balancer_class = "example.com/lbd"
kubernetes.lease_namespace = "lbd"
kubernetes.health_check_node_ports = true
arp.enforce_sysctls = false
control.socket = "/run/other.sock"
metrics.listen = "[2001:DB8::1]:7472"
state.directory = "/srv/lbd"
log.level = "debug"
[[pool]]
name = "v4"
addresses = ["192.0.2.10-192.0.2.20", "198.51.100.7/32"]
[[pool]]
name = "v6"
addresses = ["2001:DB8::/64"]
auto_assign = false
interfaces = ["eth1", "10.0.0.0/8"]
aggregate = { v6 = 64 }
[local]
interfaces = ["eth0", "bond*"]
lifetime = "1m30s"
announce_interval = "5m"
[[interface]]
name = "eth1"
source_routing = true
gateways = ["192.0.2.1", "2001:DB8::1"]
[virtual]
interface = "lb0"
type = "bridge"
table = 1000
protocol = 200
`);
  assert.deepEqual(warnings, []);
  assert.deepEqual(config, {
    host: { name: 'a.example', node: 'node-a' },
    kubernetes: {
      kubeconfig: '/root/.kube/config',
      context: 'edge',
      loadBalancerClass: 'example.com/lbd',
      leaseNamespace: 'lbd',
      healthCheckNodePorts: true,
    },
    pools: [
      {
        name: 'v4',
        addresses: ['192.0.2.10-192.0.2.20', '198.51.100.7/32'],
        ranges: [
          { first: '192.0.2.10', last: '192.0.2.20' },
          { first: '198.51.100.7', last: '198.51.100.7' },
        ],
        autoAssign: true,
        aggregate: { v4: undefined, v6: undefined },
      },
      {
        name: 'v6',
        addresses: ['2001:DB8::/64'],
        ranges: [{ first: '2001:db8::', last: '2001:db8::ffff:ffff:ffff:ffff' }],
        autoAssign: false,
        interfaces: ['eth1', '10.0.0.0/8'],
        aggregate: { v4: undefined, v6: 64 },
      },
    ],
    local: { interfaces: ['eth0', 'bond*'], prefix: 'host', lifetimeMs: 90_000, announceIntervalMs: 300_000 },
    interfaces: [{ name: 'eth1', sourceRouting: true, gateways: ['192.0.2.1', '2001:db8::1'] }],
    virtual: { interface: 'lb0', type: 'bridge', routes: { table: 1000, protocol: 200 } },
    arp: { enforceSysctls: false },
    gossip: undefined,
    control: { socket: '/run/other.sock' },
    metrics: { listen: { ip: '2001:db8::1', port: 7472 } },
    state: { directory: '/srv/lbd' },
    log: { level: 'debug' },
  });
});

test('parseConfig() refuses a syntax error with its line and column', () => {
  assert.deepEqual(refusal('[host]\nname = edge\n'), [
    '2:8: expected a value (text needs quotes), got "edge"',
  ]);
});

test('parseConfig() refuses unknown keys and names the nearest known one, or where it belongs', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['[hots]\n', '1: hots: expected a known key, got "hots"; did you mean "host"?'],
    ['[host]\nnmae = "a"\n', '2: host.nmae: expected a known key, got "nmae"; did you mean "name"?'],
    [
      '[local]\n\ninterface = ["eth0"]\n',
      '3: local.interface: expected a known key, got "interface"; did you mean "interfaces"?',
    ],
    [
      `${POOL}autoAssign = false\n`,
      '4: pool[0].autoAssign: expected a known key, got "autoAssign"; did you mean "auto_assign"?',
    ],
    [
      `[[pool]]\nname = "a"\naddresses = ["192.0.2.0/24"]\navoid = 1\n`,
      '4: pool[0].avoid: expected a known key (name, addresses, auto_assign, interfaces, aggregate), got "avoid"',
    ],
    ['lifetime = "30s"\n', '1: lifetime: expected a known key, got "lifetime", which belongs in [local]'],
    ['addresses = []\n', '1: addresses: expected a known key, got "addresses", which belongs in [[pool]]'],
    [
      '[bgp]\nasn = 1\n',
      '1: bgp: expected a known table (host, kubernetes, pool, local, interface, virtual, arp, gossip, control, metrics, state, log), got "bgp"',
    ],
    ['[host]\n"\\u001b" = 1\n', '2: host."\\u001b": expected a known key (name, node), got "\\u001b"'],
    ['[host.name]\nx = 1\n', '1: host.name: expected text in quotes, got a table'],
    [
      '["__proto__"]\n',
      '1: __proto__: expected a known table (host, kubernetes, pool, local, interface, virtual, arp, gossip, control, metrics, state, log), got "__proto__"',
    ],
  ];
  for (const [text, message] of cases) assert.deepEqual(refusal(text), [message], text);
});

test('parseConfig() refuses values of a wrong kind and says what was expected', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['[host]\nname = 5\n', '2: host.name: expected text in quotes, got 5'],
    ['[host]\nname = 2026-01-01\n', '2: host.name: expected text in quotes, got a date or time'],
    ['host = 2026-01-01T00:00:00Z\n', '1: host: expected a table, got a date or time'],
    ['host = "edge"\n', '1: host: expected a table, got "edge"'],
    ['[[host]]\nname = "a"\n', '1: host: expected one table [host], got an array'],
    ['[pool]\nname = "a"\n', '1: pool: expected [[pool]], one for each pool, got [pool]'],
    ['pool = 5\n', '1: pool: expected an array, got 5'],
    ['pool = [5]\n', '1: pool[0]: expected a table, got 5'],
    ['[arp]\nenforce_sysctls = "yes"\n', '2: arp.enforce_sysctls: expected true or false, got "yes"'],
    ['[local]\ninterfaces = "eth0"\n', '2: local.interfaces: expected an array, got "eth0"'],
    ['[local]\nprefix = "subnets"\n', '2: local.prefix: expected "host" or "subnet", got "subnets"'],
    [
      '[log]\nlevel = "verbose"\n',
      '2: log.level: expected "trace" or "debug" or "info" or "warn" or "error", got "verbose"',
    ],
  ];
  for (const [text, message] of cases) assert.deepEqual(refusal(text), [message], text);
});

test('parseConfig() refuses names, paths and patterns that could not work', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['[host]\nname = ""\n', '2: host.name: expected letters, digits, "-", "_" and ".", got ""'],
    [
      '[host]\nnode = "Edge"\n',
      '2: host.node: expected the name of a Node object: lower-case letters, digits, "-" and ".", got "Edge"',
    ],
    [
      '[kubernetes]\nkubeconfig = "config"\n',
      '2: kubernetes.kubeconfig: expected an absolute path, got "config"',
    ],
    ['[kubernetes]\ncontext = ""\n', '2: kubernetes.context: expected the name of a context, got ""'],
    [
      '[kubernetes]\nload_balancer_class = "a/b/c"\n',
      '2: kubernetes.load_balancer_class: expected a class such as "example.com/lbd", got "a/b/c"',
    ],
    [
      '[kubernetes]\nlease_namespace = "kube.system"\n',
      '2: kubernetes.lease_namespace: expected the name of a namespace, got "kube.system"',
    ],
    [
      '[local]\ninterfaces = ["eth0", "a-name-that-is-too-long"]\n',
      '2: local.interfaces[1]: expected the name of a network interface, a pattern such as "eth*" or a prefix such as 192.0.2.0/24, got "a-name-that-is-too-long"',
    ],
    [
      `${POOL}[local]\ninterfaces = ["eth0",\n"eth0"]\n`,
      '6: local.interfaces[1]: expected each name once, got "eth0" again',
    ],
    [
      `${POOL}[[interface]]\nname = "eth1"\ngateways = ["192.0.2.1", "192.0.2.2"]\n`,
      '6: interface[0].gateways[1]: expected one gateway of each family, got "192.0.2.2" as well',
    ],
    [
      `${POOL}interfaces = ["eth0", "eth0"]\n`,
      '4: pool[0].interfaces[1]: expected each name once, got "eth0" again',
    ],
    ['[state]\ndirectory = "lbd"\n', '2: state.directory: expected an absolute path, got "lbd"'],
  ];
  for (const [text, message] of cases) assert.deepEqual(refusal(text), [message], text);
});

test('parseConfig() refuses a socket path that does not fit sockaddr_un', () => {
  accepted(`${POOL}[control]\nsocket = "/${'s'.repeat(106)}"\n`);
  const [message] = refusal(`[control]\nsocket = "/${'s'.repeat(107)}"\n`);
  assert.match(
    message ?? '',
    /^2: control\.socket: expected an absolute path of at most 107 characters, got "/,
  );
});

test('parseConfig() takes an announce_interval from 10s to 24h, or 0', () => {
  for (const [value, ms] of [
    ['0', 0],
    ['"0s"', 0],
    ['"10s"', 10_000],
    ['"24h"', 86_400_000],
  ] as const) {
    const { config } = accepted(`${POOL}[local]\nannounce_interval = ${value}\n`);
    assert.equal(config.local.announceIntervalMs, ms);
  }
  for (const value of ['"9s"', '"25h"']) {
    assert.deepEqual(refusal(`[local]\nannounce_interval = ${value}\n`), [
      `2: local.announce_interval: expected 10s to 24h, or 0 for never, got ${value}`,
    ]);
  }
});

test('parseConfig() refuses a lifetime that is no duration, too short, too long or no whole second', () => {
  const expected: readonly (readonly [string, string])[] = [
    ['"1s"', 'expected 2s to 24h, or 0 for permanent, got "1s"'],
    ['"25h"', 'expected 2s to 24h, or 0 for permanent, got "25h"'],
    ['"500ms"', 'expected a duration in whole seconds such as "30s" or "1m30s", got "500ms"'],
    ['"soon"', 'expected a duration such as "30s" or "1m30s", got "soon"'],
    ['30', 'expected a duration such as "30s", or 0 for permanent, got 30'],
    ['true', 'expected a duration such as "30s", or 0 for permanent, got true'],
  ];
  for (const [value, message] of expected) {
    assert.deepEqual(refusal(`[local]\nlifetime = ${value}\n`), [`2: local.lifetime: ${message}`]);
  }
});

test('parseConfig() names a host by its own name only when that can be one', () => {
  const parsed = parseConfig(POOL, 'f', { hostName: '(none)' });
  assert.ok(!parsed.ok);
  assert.deepEqual(parsed.error.map(formatProblem), [
    'f: host.name: expected letters, digits, "-", "_" and ".", got "(none)" from the system; set a name here',
  ]);
  assert.ok(parseConfig(`${POOL}[host]\nname = "a"\n`, 'f', { hostName: '(none)' }).ok);
});

test('parseConfig() warns of what is allowed but hazardous', () => {
  assert.deepEqual(accepted('').warnings, [
    'f: warning: expected at least one [[pool]], got none: no Service gets an address from this host',
  ]);
  assert.deepEqual(accepted(`${POOL}[local]\nprefix = "subnet"\n`).warnings, [
    'f:5: warning: local.prefix: expected "host", got "subnet": while the host\'s own address is away, lbd takes the ' +
      'IPv4 addresses of Services off; where it cannot, because it was stopped, one of them can come before the ' +
      "host's own address, which then has no route until that one expires",
  ]);
  for (const lifetime of ['0', '"0"', '"0s"']) {
    const { config, warnings } = accepted(`${POOL}[local]\nlifetime = ${lifetime}\n`);
    assert.equal(config.local.lifetimeMs, 0);
    assert.deepEqual(warnings, [
      'f:5: warning: local.lifetime: expected a lifetime, got 0: if lbd dies, its addresses stay on this host and answer until "lbd cleanup" runs',
    ]);
  }
});

test('parseConfig() reports everything that is wrong at once, in the order of the file', () => {
  const text = `[host]
nmae = "x"

[[pool]]
name = "a"
addresses = [
  "192.0.2.0/24",
  "192.0.2.20-192.0.2.10", # reversed
]

[[pool]]
name = "b"
addresses = ["192.0.2.128/25"]

[local]
prefix = "both"
`;
  assert.deepEqual(refusal(text), [
    '2: host.nmae: expected a known key, got "nmae"; did you mean "name"?',
    '8: pool[0].addresses[1]: expected the lower address first, as in 192.0.2.10-192.0.2.20, got "192.0.2.20-192.0.2.10"',
    '13: pool[1].addresses[0]: expected addresses that are in no other pool, got "192.0.2.128/25" of pool "b", ' +
      'which shares 192.0.2.128-192.0.2.255 with "192.0.2.0/24" of pool "a" on line 7',
    '16: local.prefix: expected "host" or "subnet", got "both"',
  ]);
});

test('parseConfig() stops listing problems when nobody would read on', () => {
  const messages = refusal(Array.from({ length: 5000 }, (_, index) => `wrong${index} = 1\n`).join(''));
  assert.equal(messages.length, 101);
  assert.equal(messages.at(-1), ' 4900 more problems are not shown');
});

test('parseConfig() refuses to listen for Prometheus where nothing can', () => {
  for (const listen of [
    '',
    '7472',
    ':7472',
    '192.0.2.1',
    '192.0.2.1:0',
    '192.0.2.1:65536',
    'localhost:7472',
    '::1:7472',
  ]) {
    assert.deepEqual(refusal(`metrics.listen = "${listen}"\n`), [
      `1: metrics.listen: expected an address and a port, as in "127.0.0.1:7472" or "[::1]:7472", got "${listen}"`,
    ]);
  }
});
