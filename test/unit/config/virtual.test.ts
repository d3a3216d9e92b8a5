import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';

function pool(name: string, addresses: readonly string[], aggregate = ''): string {
  const lines = [`name = "${name}"`, `addresses = ${JSON.stringify(addresses)}`, aggregate];
  return `[[pool]]\n${lines.filter((line) => line !== '').join('\n')}\n`;
}

/** Every problem of a text, errors and warnings alike, without the file. */
function problems(text: string): readonly string[] {
  const parsed = parseConfig(text, 'f', { hostName: 'edge' });
  return (parsed.ok ? parsed.value.warnings : parsed.error).map((problem) =>
    formatProblem(problem).replace(/^f:/, ''),
  );
}

function routesOf(virtual: string): unknown {
  const parsed = parseConfig(`[virtual]\n${virtual}\n`, 'f', { hostName: 'edge' });
  assert.ok(parsed.ok);
  return parsed.value.config.virtual.routes;
}

test('[virtual] table and protocol each bring the other with them', () => {
  assert.equal(routesOf(''), undefined);
  assert.deepEqual(routesOf('table = 100'), { table: 100, protocol: 108 });
  assert.deepEqual(routesOf('protocol = 200'), { table: 254, protocol: 200 });
  assert.deepEqual(routesOf('table = 4294967295\nprotocol = 5'), { table: 4_294_967_295, protocol: 5 });
});

test('[virtual] refuses names, types and numbers that the kernel would not take', () => {
  const table = 'expected a whole number from 1 to 4294967295 other than 255';
  const cases: readonly (readonly [string, string])[] = [
    ['interface = "a b"', 'virtual.interface: expected the name of a network interface, got "a b"'],
    ['interface = "eth*"', 'virtual.interface: expected the name of a network interface, got "eth*"'],
    ['interface = ".."', 'virtual.interface: expected the name of a network interface, got ".."'],
    [
      'interface = "sixteen-letters-"',
      'virtual.interface: expected the name of a network interface, got "sixteen-letters-"',
    ],
    ['type = "veth"', 'virtual.type: expected "auto" or "dummy" or "bridge", got "veth"'],
    ['table = 255', `virtual.table: ${table}, got 255`],
    ['table = 0', `virtual.table: ${table}, got 0`],
    ['table = 1.5', `virtual.table: ${table}, got 1.5`],
    ['table = "main"', `virtual.table: ${table}, got "main"`],
    ['protocol = 2', 'virtual.protocol: expected a whole number from 5 to 255, got 2'],
  ];
  for (const [line, problem] of cases) assert.deepEqual(problems(`[virtual]\n${line}\n`), [`2: ${problem}`]);
});

test('an aggregate has a length of its family', () => {
  const of = (aggregate: string) => problems(pool('a', ['203.0.113.0/24'], aggregate));
  assert.deepEqual(of('aggregate = { v4 = 24 }'), []);
  assert.deepEqual(of('aggregate = {}'), []);
  assert.deepEqual(of('aggregate = { v4 = 33 }'), [
    '4: pool[0].aggregate.v4: expected a whole number from 8 to 32, got 33',
  ]);
  assert.deepEqual(of('aggregate = { v4 = 0 }'), [
    '4: pool[0].aggregate.v4: expected a whole number from 8 to 32, got 0',
  ]);
  assert.deepEqual(of('aggregate = 24'), ['4: pool[0].aggregate: expected a table, got 24']);
  assert.deepEqual(of('aggregate = { ipv4 = 24 }'), [
    '4: pool[0].aggregate.ipv4: expected a known key (v4, v6), got "ipv4"',
  ]);
  assert.deepEqual(of('[pool.aggregate]\nv4 = 24\n'), [], 'as a table of its own');
  assert.deepEqual(of('aggregate = { v4 = 24, v6 = 64 }'), [
    '4: warning: pool[0].aggregate.v6: expected no v6 in a pool without IPv6 addresses',
  ]);
});

test('aggregates of two pools that overlap are explained, once for each pair', () => {
  const low = pool('low', ['203.0.113.0/26', '203.0.113.64/26'], 'aggregate = { v4 = 24 }');
  const high = (length: number) =>
    pool('high', ['203.0.113.128/26', '203.0.113.192/26'], `aggregate = { v4 = ${length} }`);
  assert.deepEqual(problems(low + high(24)), [
    '8: warning: pool[1].aggregate.v4: expected an aggregate of its own, got 24, whose 203.0.113.0/24 overlaps 203.0.113.0/24 ' +
      'of pool "low" on line 4: one route serves both, and stays until the last address of both is gone',
  ]);
  assert.deepEqual(problems(low + high(26)), [
    '8: warning: pool[1].aggregate.v4: expected an aggregate of its own, got 26, whose 203.0.113.128/26 overlaps 203.0.113.0/24 ' +
      'of pool "low" on line 4: where both are routed, the longer prefix wins',
  ]);
  assert.deepEqual(problems(low + pool('high', ['203.0.113.128/25'])), [], 'addresses that are routed alone');
  const next = pool('next', ['203.0.114.0/24'], 'aggregate = { v4 = 24 }');
  assert.deepEqual(problems(low + next), []);
});

test('aggregates of pools that are not right otherwise are not spoken of', () => {
  assert.deepEqual(problems('[[pool]]\nname = 1\naggregate = { v4 = 24 }\n').length, 2);
  assert.deepEqual(problems('pool = 1\n').length, 1);
});
