import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createLocator } from '../../../src/config/locate.ts';
import { mergeLayers } from '../../../src/config/merge.ts';
import { parseConfigFiles } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';
import { parseToml } from '../../../src/config/syntax.ts';

const DEFAULTS = { hostName: 'edge' };

function layer(file: string, text: string) {
  const parsed = parseToml(text);
  assert.ok(parsed.ok);
  return { file, document: parsed.value, locate: createLocator(text) };
}

function pool(name: string, addresses: string): string {
  return `[[pool]]\nname = "${name}"\naddresses = ["${addresses}"]\n`;
}

/** Every problem of a main file and its drop-ins, which are named a, b and so on. */
function problems(...texts: readonly string[]): readonly string[] {
  const parsed = parseConfigFiles(
    texts.map((text, index) => ({ file: 'abcdef'[index] ?? '', text })),
    DEFAULTS,
  );
  return (parsed.ok ? parsed.value.warnings : parsed.error).map(formatProblem);
}

test('mergeLayers() merges tables by key, appends arrays of tables and replaces everything else', () => {
  const { document, originOf } = mergeLayers([
    layer(
      'main',
      '[local]\ninterfaces = ["eth0"]\nprefix = "host"\n[[pool]]\nname = "a"\n[log]\nlevel = "info"\n',
    ),
    layer('10', '[local]\ninterfaces = ["eth1", "eth2"]\n[[pool]]\nname = "b"\n[[pool]]\nname = "c"\n'),
    layer('20', 'log = 3\n[[pool]]\nname = "d"\n[arp]\nenforce_sysctls = false\n'),
  ]);
  assert.deepEqual(JSON.parse(JSON.stringify(document)), {
    local: { interfaces: ['eth1', 'eth2'], prefix: 'host' },
    pool: [{ name: 'a' }, { name: 'b' }, { name: 'c' }, { name: 'd' }],
    log: 3,
    arp: { enforce_sysctls: false },
  });
  const at = (...path: (string | number)[]) => {
    const { file, line, path: own } = originOf(path);
    return `${file}:${line} ${own.join('.')}`;
  };
  assert.equal(at('local', 'interfaces'), '10:2 local.interfaces');
  assert.equal(at('local', 'interfaces', 1), '10:2 local.interfaces.1');
  assert.equal(at('local', 'prefix'), 'main:3 local.prefix');
  assert.equal(at('pool', 0, 'name'), 'main:5 pool.0.name');
  assert.equal(at('pool', 2, 'name'), '10:6 pool.1.name');
  assert.equal(at('pool', 3, 'addresses'), '20:2 pool.0.addresses');
  assert.equal(at('log'), '20:1 log');
  assert.equal(at('arp', 'enforce_sysctls'), '20:5 arp.enforce_sysctls');
  assert.equal(at('nothing', 'here'), 'main:undefined nothing.here');
});

test('mergeLayers() takes an empty array of tables for what it is: nothing of what was before', () => {
  const { document } = mergeLayers([layer('main', '[[pool]]\nname = "a"\n'), layer('10', 'pool = []\n')]);
  assert.deepEqual(JSON.parse(JSON.stringify(document)), { pool: [] });
});

test('mergeLayers() takes __proto__ for a key like any other', () => {
  const { document } = mergeLayers([layer('main', '[a]\nb = 1\n'), layer('10', '[__proto__]\nc = 1\n')]);
  assert.deepEqual(Object.keys(document), ['a', '__proto__']);
  assert.equal(({} as { c?: number }).c, undefined);
});

test('parseConfigFiles() names file, line and key as the file at fault has them', () => {
  const main = `${pool('a', '192.0.2.0/28')}[host]\nname = "x"\n`;
  assert.deepEqual(problems(main, '[log]\nlevel = "loud"\n', `[hots]\n${pool('b', '10.0.0.0/33')}`), [
    'b:2: log.level: expected "trace" or "debug" or "info" or "warn" or "error", got "loud"',
    'c:1: hots: expected a known key, got "hots"; did you mean "host"?',
    'c:4: pool[0].addresses[0]: expected a prefix length of 0 to 32, got "10.0.0.0/33"',
  ]);
});

test('parseConfigFiles() names both files of a conflict', () => {
  assert.deepEqual(
    problems(pool('a', '192.0.2.0/28'), `\n${pool('b', '192.0.2.8/29')}`, pool('a', '10.0.0.0/24')),
    [
      'b:4: pool[0].addresses[0]: expected addresses that are in no other pool, got "192.0.2.8/29" of pool "b", which shares 192.0.2.8-192.0.2.15 with "192.0.2.0/28" of pool "a" on a:3',
      'c:2: pool[0].name: expected a name of its own, got "a", which is pool[0].name on a:2 too',
    ],
  );
});

test('parseConfigFiles() reports the syntax errors of every file, and what is wrong in the others', () => {
  assert.deepEqual(problems('[local\n', '[log]\nlevel = 3\n', 'x ='), [
    'a:1:7: expected "]" at the end of the table name, got the end of the line',
    'b:2: log.level: expected "trace" or "debug" or "info" or "warn" or "error", got 3',
    'c:1:4: expected a value (text needs quotes), got the end of the file',
  ]);
});

test('parseConfigFiles() tells of each value where it was written', () => {
  const parsed = parseConfigFiles(
    [
      { file: 'main', text: `${pool('a', '192.0.2.0/28')}[local]\nlifetime = "60s"\n` },
      { file: '10', text: `local.lifetime = 0\n${pool('b', '10.0.0.0/24')}auto_assign = false\n` },
    ],
    DEFAULTS,
  );
  assert.ok(parsed.ok);
  const values = parsed.value.values().map(({ path, value, origin }) => {
    return `${path.join('.')} = ${JSON.stringify(value)} ${origin ? `${origin.file}:${origin.line}` : 'default'}`;
  });
  assert.deepEqual(values, [
    'host.name = "edge" default',
    'host.node = "edge" default',
    'kubernetes.kubeconfig = "/etc/lbd/kubeconfig" default',
    'kubernetes.context = undefined default',
    'kubernetes.load_balancer_class = undefined default',
    'kubernetes.lease_namespace = "kube-system" default',
    'kubernetes.health_check_node_ports = false default',
    'pool.0.name = "a" main:2',
    'pool.0.addresses = ["192.0.2.0/28"] main:3',
    'pool.0.auto_assign = true default',
    'pool.0.interfaces = [] default',
    'pool.1.name = "b" 10:3',
    'pool.1.addresses = ["10.0.0.0/24"] 10:4',
    'pool.1.auto_assign = false 10:5',
    'pool.1.interfaces = [] default',
    'local.interfaces = [] default',
    'local.prefix = "host" default',
    'local.lifetime = 0 10:1',
    'local.announce_interval = 0 default',
    'virtual.interface = "kube-lb0" default',
    'virtual.type = "auto" default',
    'virtual.table = undefined default',
    'virtual.protocol = undefined default',
    'arp.enforce_sysctls = true default',
    'control.socket = "/run/lbd/lbd.sock" default',
    'metrics.listen = undefined default',
    'state.directory = "/var/lib/lbd" default',
    'log.level = "info" default',
  ]);
});

test('parseConfigFiles() splits a configuration in any way without a difference', () => {
  const parts = [
    '[log]\nlevel = "debug"\n',
    '[local]\nprefix = "host"\ninterfaces = ["eth*"]\n',
    pool('a', '192.0.2.0/28'),
    pool('b', '10.0.0.0/24'),
  ];
  const whole = parseConfigFiles([{ file: 'f', text: parts.join('') }], DEFAULTS);
  assert.ok(whole.ok);
  const { config } = whole.value;
  fc.assert(
    fc.property(fc.subarray([1, 2, 3]), (cuts) => {
      const edges = [0, ...cuts, parts.length];
      const texts = edges.slice(1).map((end, index) => parts.slice(edges[index], end).join(''));
      const parsed = parseConfigFiles(
        texts.map((text, index) => ({ file: `${index}`, text })),
        DEFAULTS,
      );
      assert.ok(parsed.ok);
      assert.deepEqual(parsed.value.config, config);
    }),
  );
});

test('parseConfigFiles() never throws, on files of any kind', () => {
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'pool = 1\n',
      '[pool]\n',
      'pool = [1]\n',
      'pool = [{}]\n',
      'local = [{}]\n',
      'host.name.x = 1\n',
    ),
  );
  fc.assert(
    fc.property(fc.array(text, { maxLength: 4 }), (texts) => {
      parseConfigFiles(
        texts.map((one, index) => ({ file: `${index}`, text: one })),
        DEFAULTS,
      );
    }),
  );
  const deep = `${Array.from({ length: 20_000 }, () => 'a').join('.')} = 1\n`;
  parseConfigFiles(
    [
      { file: 'a', text: deep },
      { file: 'b', text: deep },
    ],
    DEFAULTS,
  );
});
