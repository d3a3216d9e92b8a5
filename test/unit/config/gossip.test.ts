import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderConfig } from '../../../src/cli/render-config.ts';
import { plainPaint } from '../../../src/cli/table.ts';
import { formatFineDuration, parseFineDuration } from '../../../src/config/duration.ts';
import { KNOBS } from '../../../src/config/gossip-schema.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';
import { parseSeed } from '../../../src/config/seed.ts';
import type { GossipConfig, LoadedConfig } from '../../../src/config/types.ts';
import { PROFILES } from '../../../src/election/settings.ts';

const POOL = '[[pool]]\nname = "a"\naddresses = ["192.0.2.0/24"]\n';

function load(text: string): LoadedConfig {
  const parsed = parseConfig(`${POOL}${text}`, 'f', { hostName: 'edge' });
  assert.ok(parsed.ok, parsed.ok ? '' : parsed.error.map(formatProblem).join('\n'));
  return parsed.value;
}

function gossip(text: string): GossipConfig {
  const { config } = load(text);
  assert.ok(config.gossip !== undefined);
  return config.gossip;
}

function refusal(text: string, hostName = 'edge'): readonly string[] {
  const parsed = parseConfig(`${POOL}${text}`, 'f', { hostName });
  assert.ok(!parsed.ok, text);
  return parsed.error.filter(({ severity }) => severity === 'error').map(formatProblem);
}

test('parseConfig() leaves gossip out without its table, and fills in its defaults with it', () => {
  assert.equal(load('').config.gossip, undefined);
  assert.deepEqual(gossip('[gossip]\n'), {
    seeds: [],
    discover: 'none',
    port: 7946,
    bind: [],
    label: 'default',
    keyFile: '/etc/lbd/gossip.keys',
    allow: [],
    profile: 'lan',
    timing: {},
    weight: 100,
    isolation: 'auto',
    reference: undefined,
    drainOnStop: false,
    preempt: false,
    excludeLabelledNodes: true,
    excludeNetworkUnavailable: true,
  });
});

test('parseConfig() takes every key of [gossip]', () => {
  const text = `[gossip]
seeds = ["192.0.2.1", "lbd.example.com", "[2001:db8::1]:7000"]
discover = "kubernetes"
port = 7000
bind = ["192.0.2.9", "2001:DB8::9", "10.0.0.0/8"]
label = "rack-1"
key_file = "/etc/lbd/other.keys"
allow = ["192.0.2.0/24", "2001:db8::/32"]
profile = "fast"
weight = 200
isolation = "hold"
reference = ["192.0.2.254"]
drain_on_stop = true
preempt = true
exclude_labelled_nodes = false
exclude_network_unavailable = false
[gossip.timing]
heartbeat = "20ms"
suspicion_max = "1.5s"
push_pull = "1m"
gossip_fanout = 3
`;
  assert.deepEqual(load(text).warnings, []);
  assert.deepEqual(gossip(text), {
    seeds: [
      { host: '192.0.2.1', port: 7000 },
      { host: 'lbd.example.com', port: 7000 },
      { host: '2001:db8::1', port: 7000 },
    ],
    discover: 'kubernetes',
    port: 7000,
    bind: [
      { network: '192.0.2.9', length: 32 },
      { network: '2001:db8::9', length: 128 },
      { network: '10.0.0.0', length: 8 },
    ],
    label: 'rack-1',
    keyFile: '/etc/lbd/other.keys',
    allow: [
      { network: '192.0.2.0', length: 24 },
      { network: '2001:db8::', length: 32 },
    ],
    profile: 'fast',
    timing: { heartbeatMs: 20, suspicionMaxMs: 1_500, pushPullMs: 60_000, gossipFanout: 3 },
    weight: 200,
    isolation: 'hold',
    reference: ['192.0.2.254'],
    drainOnStop: true,
    preempt: true,
    excludeLabelledNodes: false,
    excludeNetworkUnavailable: false,
  });
});

test('parseConfig() tells no reference, [], from the gateways, which are meant when nothing is said', () => {
  assert.deepEqual(gossip('[gossip]\nreference = []\n').reference, []);
});

test('parseConfig() warns of gossip without keys, and of a host that finds nobody', () => {
  const warnings = load('[gossip]\ninsecure = true\n').warnings.map(formatProblem);
  assert.deepEqual(warnings, [
    'f:4: warning: gossip: expected seeds or discover = "kubernetes", got neither: this host finds no other, it can only be found',
    'f:5: warning: gossip.insecure: expected keys, got insecure = true: whoever reaches port 7946 can take every address of these hosts',
  ]);
  assert.equal(gossip('[gossip]\ninsecure = true\n').keyFile, undefined);
});

test('parseConfig() refuses wrong values of [gossip] and says what was expected', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['port = 0', 'gossip.port: expected a whole number from 1 to 65535, got 0'],
    ['port = 79.46', 'gossip.port: expected a whole number from 1 to 65535, got 79.46'],
    ['port = "7946"', 'gossip.port: expected a whole number from 1 to 65535, got "7946"'],
    ['weight = 0', 'gossip.weight: expected a whole number from 1 to 1000, got 0'],
    ['label = "rack one"', 'gossip.label: expected 1 to 63 visible characters, got "rack one"'],
    ['profile = "slow"', 'gossip.profile: expected "lan" or "fast" or "wan", got "slow"'],
    [
      'bind = ["0.0.0"]',
      'gossip.bind[0]: expected an address such as 192.0.2.1 or a prefix such as 192.0.2.0/24, got "0.0.0"',
    ],
    [
      'bind = ["::"]',
      'gossip.bind[0]: expected an address such as 192.0.2.1 or a prefix such as 192.0.2.0/24, got "::"',
    ],
    [
      'bind = ["192.0.2.9/24"]',
      'gossip.bind[0]: expected no host bits, as in 192.0.2.0/24, got "192.0.2.9/24"',
    ],
    [
      'allow = ["192.0.2.1/24"]',
      'gossip.allow[0]: expected no host bits, as in 192.0.2.0/24, got "192.0.2.1/24"',
    ],
    [
      'seeds = ["a b"]',
      'gossip.seeds[0]: expected an address or a DNS name, with or without a port, as in "192.0.2.1", "lbd.example.com:7946" or "[2001:db8::1]:7946", got "a b"',
    ],
    [
      'key_file = "/k"\ninsecure = true',
      'gossip.insecure: expected either gossip.key_file or insecure = true, got both',
    ],
    ['timings = 1', 'gossip.timings: expected a known key, got "timings"; did you mean "timing"?'],
    [
      'heartbeat = "50ms"',
      'gossip.heartbeat: expected a known key, got "heartbeat", which belongs in [gossip.timing]',
    ],
    ['[[gossip.timing]]', 'gossip.timing: expected a table, got an array'],
    [
      '[gossip.timing]\nheartbeats = "50ms"',
      'gossip.timing.heartbeats: expected a known key, got "heartbeats"; did you mean "heartbeat"?',
    ],
    ['[gossip.timing]\nheartbeat = 50', 'gossip.timing.heartbeat: expected text in quotes, got 50'],
    [
      '[gossip.timing]\nheartbeat = "50"',
      'gossip.timing.heartbeat: expected a duration such as "50ms", "1.5s" or "1m", got "50"',
    ],
    ['[gossip.timing]\nheartbeat = "1ms"', 'gossip.timing.heartbeat: expected 10ms to 5s, got "1ms"'],
    [
      '[gossip.timing]\nindirect = 11',
      'gossip.timing.indirect: expected a whole number from 0 to 10, got 11',
    ],
    [
      '[gossip.timing]\nisolation = "200ms"',
      'gossip.timing.isolation: expected at most 180ms with takeover_floor = "220ms", so that an isolated owner has let go before its heir begins, got "200ms"',
    ],
    [
      '[gossip.timing]\nprobe_timeout = "230ms"',
      'gossip.timing.probe_timeout: expected at most 225ms with probe_interval = "500ms", so that a probe has time for other members and then for TCP before the next one, got "230ms"',
    ],
    [
      '[gossip.timing]\nprobe_interval = "200ms"',
      'gossip.timing.probe_interval: expected at least 350ms with probe_timeout = "150ms", so that a probe has time for other members and then for TCP before the next one, got "200ms"',
    ],
    [
      '[gossip.timing]\nisolation = "1s"\ntakeover_floor = "1s"',
      'gossip.timing.takeover_floor: expected at least 1040ms with isolation = "1s", so that an isolated owner has let go before its heir begins, got "1s"',
    ],
    [
      '[gossip.timing]\nheartbeat = "100ms"',
      'gossip.timing.heartbeat: expected heartbeat + inquiry to be at least 10ms less than isolation, so that hosts that hear each other need not ask whether they are isolated, got heartbeat = "100ms", inquiry = "50ms", isolation = "150ms"',
    ],
    [
      '[gossip.timing]\ninquiry = "100ms"',
      'gossip.timing.inquiry: expected heartbeat + inquiry to be at least 10ms less than isolation, so that hosts that hear each other need not ask whether they are isolated, got heartbeat = "50ms", inquiry = "100ms", isolation = "150ms"',
    ],
  ];
  for (const [text, message] of cases) {
    const [first = '', ...others] = refusal(`[gossip]\n${text}\n`);
    assert.equal(first.replace(/^f:\d+: /, ''), message);
    assert.deepEqual(others, [], text);
  }
});

test('parseConfig() takes a slow heartbeat with an isolation that waits for it', () => {
  const timing = 'heartbeat = "100ms"\nisolation = "160ms"\n';
  assert.equal(gossip(`[gossip]\n[gossip.timing]\n${timing}`).timing.heartbeatMs, 100);
});

test('parseConfig() takes knobs that only fit the profile that is given', () => {
  const text = '[gossip]\nprofile = "wan"\n[gossip.timing]\nisolation = "1s"\n';
  assert.equal(gossip(text).timing.isolationMs, 1_000);
  assert.equal(refusal(text.replace('wan', 'lan')).length, 1);
});

test('parseConfig() refuses a host name that no message could carry, only with [gossip]', () => {
  const name = 'x'.repeat(64);
  assert.deepEqual(refusal('[gossip]\n', name), [
    `f: host.name: expected at most 63 characters with [gossip], got "${name}"; set a shorter one here`,
  ]);
  assert.ok(parseConfig(POOL, 'f', { hostName: name }).ok);
});

test('every knob of [gossip.timing] is a setting of the election, with the values of the profiles', () => {
  for (const [key, { name, values, min, max }] of Object.entries(KNOBS)) {
    const profiles = [PROFILES.lan, PROFILES.fast, PROFILES.wan].map((settings) => settings[name]);
    assert.deepEqual([...values], profiles, key);
    for (const value of values) assert.ok(value >= min && value <= max, key);
  }
  const names = Object.values(KNOBS).map(({ name }) => name);
  const settings = Object.entries(PROFILES.lan).flatMap(([name, value]) =>
    typeof value === 'number' ? [name] : [],
  );
  assert.deepEqual([...names].sort(), settings.sort());
});

test('renderConfig() shows [gossip.timing] as a table of its own, and nothing of gossip without it', () => {
  const render = (text: string): string => {
    const loaded = load(text);
    const listing = { version: 1, files: ['f'], digest: '0', values: loaded.values(), waiting: [] } as const;
    return renderConfig(listing, plainPaint);
  };
  const shown = render('[gossip]\nport = 7000\n[gossip.timing]\nheartbeat = "20ms"\n');
  assert.match(shown, /^\[gossip\]\nseeds = \[\] +# default\n/m);
  assert.match(shown, /^port = 7000 +# f:5\n/m);
  assert.match(shown, /^\[gossip\.timing\]\nheartbeat = "20ms" +# f:7\nmissed_heartbeats = 3 +# default\n/m);
  assert.doesNotMatch(render(''), /gossip/);
});

test('parseSeed() reads addresses and names, with and without a port', () => {
  const cases: readonly (readonly [string, string | undefined, number?])[] = [
    ['192.0.2.1', '192.0.2.1'],
    ['192.0.2.1:7000', '192.0.2.1', 7000],
    ['2001:DB8::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:7000', '2001:db8::1', 7000],
    ['edge-1', 'edge-1'],
    ['_lbd.example.com.:7000', '_lbd.example.com.', 7000],
    ['', undefined],
    ['192.0.2.300', undefined],
    ['192.0.2.1:0', undefined],
    ['192.0.2.1:70000', undefined],
    ['[192.0.2.1]', undefined],
    ['[edge]:1', undefined],
    ['edge:', undefined],
    ['edge/1', undefined],
    ['-edge', undefined],
    [`${'a'.repeat(64)}.example`, undefined],
  ];
  for (const [text, host, port = 7946] of cases) {
    assert.deepEqual(parseSeed(text, 7946), host === undefined ? undefined : { host, port }, text);
  }
});

test('parseFineDuration() reads what formatFineDuration() writes, and fractions', () => {
  for (const value of [0, 1, 50, 999, 1_000, 1_040, 1_500, 60_000, 90_000]) {
    assert.equal(parseFineDuration(formatFineDuration(value)), value);
  }
  assert.deepEqual(['1.5s', '0.25m', '0ms', '1h', '5', '1.s', ' 1s', '1.2345s'].map(parseFineDuration), [
    1_500,
    15_000,
    0,
    ...Array.from({ length: 5 }, () => undefined),
  ]);
});
