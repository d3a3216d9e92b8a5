import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfig } from '../../../src/config/parse.ts';
import { formatProblem } from '../../../src/config/problem.ts';
import { ipFromNumber } from '../../../src/lib/ip.ts';

function pool(name: string, ...addresses: readonly string[]): string {
  return `[[pool]]\nname = "${name}"\naddresses = [${addresses.map((text) => JSON.stringify(text)).join(', ')}]\n`;
}

/** Every problem of a text, errors and warnings alike, without the file. */
function problems(text: string): readonly string[] {
  const parsed = parseConfig(text, 'f', { hostName: 'edge' });
  return (parsed.ok ? parsed.value.warnings : parsed.error).map((problem) =>
    formatProblem(problem).replace(/^f:/, ''),
  );
}

test('parseConfig() refuses what is no prefix and no range', () => {
  const noRange = 'expected a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20';
  const cases: readonly (readonly [string, string])[] = [
    ['', noRange],
    ['anything', noRange],
    ['lb.example/24', noRange],
    ['192.0.2.1', 'expected a prefix or a range, as in "192.0.2.1/32"'],
    ['2001:db8::1', 'expected a prefix or a range, as in "2001:db8::1/128"'],
    ['192.0.2.5/24', 'expected no host bits, as in 192.0.2.0/24'],
    ['2001:db8::5/64', 'expected no host bits, as in 2001:db8::/64'],
    ['192.0.2.0/33', 'expected a prefix length of 0 to 32'],
    ['2001:db8::/129', 'expected a prefix length of 0 to 128'],
    ['192.0.2.0/', 'expected a prefix length of 0 to 32'],
    ['192.0.2.20-192.0.2.10', 'expected the lower address first, as in 192.0.2.10-192.0.2.20'],
    ['2001:db8::2-2001:db8::1', 'expected the lower address first, as in 2001:db8::1-2001:db8::2'],
    ['192.0.2.1-2001:db8::1', 'expected both ends of one family, 192.0.2.1 is v4 and 2001:db8::1 is v6'],
    ['192.0.2.1-20', 'expected a range such as 192.0.2.10-192.0.2.20, with one address on each side'],
    [
      '192.0.2.0/24-192.0.3.0/24',
      'expected a range such as 192.0.2.10-192.0.2.20, with one address on each side',
    ],
    ['192.0.02.0/24', 'expected a prefix such as 192.0.2.0/24 or 2001:db8::/64'],
  ];
  for (const [text, message] of cases) {
    assert.deepEqual(problems(pool('a', text)), [
      `3: pool[0].addresses[0]: ${message}, got ${JSON.stringify(text)}`,
    ]);
  }
});

test('parseConfig() refuses a pool without a name or without addresses', () => {
  assert.deepEqual(problems('[[pool]]\naddresses = ["192.0.2.0/24"]\n'), [
    '1: pool[0].name: expected text in quotes, got nothing',
  ]);
  assert.deepEqual(problems('[[pool]]\nname = "a"\n'), [
    '1: pool[0].addresses: expected an array, got nothing',
  ]);
  assert.deepEqual(problems(pool('a')), [
    '3: pool[0].addresses: expected at least one prefix or range, got an empty array',
  ]);
  assert.deepEqual(problems(pool('Not A Name', '192.0.2.0/24')), [
    '2: pool[0].name: expected a name of lower-case letters, digits, "-" and ".", got "Not A Name"',
  ]);
});

test('parseConfig() refuses two pools of one name and names the other', () => {
  assert.deepEqual(
    problems(pool('a', '192.0.2.0/25') + pool('b', '10.0.0.0/24') + pool('a', '192.0.2.128/25')),
    ['8: pool[2].name: expected a name of its own, got "a", which is pool[0].name on line 2 too'],
  );
});

test('parseConfig() refuses pools that overlap and names both with their ranges and lines', () => {
  assert.deepEqual(problems(pool('a', '192.0.2.0/24') + pool('b', '10.0.0.0/24', '192.0.2.200-192.0.3.5')), [
    '6: pool[1].addresses[1]: expected addresses that are in no other pool, got "192.0.2.200-192.0.3.5" of pool "b", ' +
      'which shares 192.0.2.200-192.0.2.255 with "192.0.2.0/24" of pool "a" on line 3',
  ]);
  assert.deepEqual(problems(pool('a', '2001:db8::1-2001:db8::1') + pool('b', '2001:db8::/32')), [
    '6: pool[1].addresses[0]: expected addresses that are in no other pool, got "2001:db8::/32" of pool "b", ' +
      'which shares 2001:db8::1 with "2001:db8::1-2001:db8::1" of pool "a" on line 3',
  ]);
});

test('parseConfig() refuses an address that one pool lists twice', () => {
  assert.deepEqual(problems(pool('a', '192.0.2.0/24', '192.0.2.9/32')), [
    '3: pool[0].addresses[1]: expected each address once, got "192.0.2.9/32" of pool "a", ' +
      'which shares 192.0.2.9 with "192.0.2.0/24" of the same pool on line 3',
  ]);
});

test('parseConfig() finds an overlap also of a pool that has other faults', () => {
  assert.deepEqual(
    problems(`${pool('a', '192.0.2.0/24')}[[pool]]\naddresses = ["192.0.2.1/32", "nonsense"]\n`),
    [
      '4: pool[1].name: expected text in quotes, got nothing',
      '5: pool[1].addresses[0]: expected addresses that are in no other pool, got "192.0.2.1/32" of pool[1], ' +
        'which shares 192.0.2.1 with "192.0.2.0/24" of pool "a" on line 3',
      '5: pool[1].addresses[1]: expected a prefix such as 192.0.2.0/24 or a range such as 192.0.2.10-192.0.2.20, got "nonsense"',
    ],
  );
});

test('parseConfig() takes pools that only touch', () => {
  assert.deepEqual(
    problems(pool('a', '192.0.2.0/25') + pool('b', '192.0.2.128-192.0.2.255', '2001:db8::/64')),
    [],
  );
});

test('parseConfig() reports an overlap exactly when two ranges share an address', () => {
  const range = fc.tuple(fc.nat(60), fc.nat(6)).map(([first, length]) => ({ first, last: first + length }));
  fc.assert(
    fc.property(fc.array(range, { minLength: 1, maxLength: 8 }), (ranges) => {
      const shared = ranges.some((left, index) =>
        ranges.slice(index + 1).some((right) => left.first <= right.last && right.first <= left.last),
      );
      const ip = (value: number): string => ipFromNumber('v4', 0xc0000200n + BigInt(value));
      const text = ranges
        .map(({ first, last }, index) => pool(`p${index}`, `${ip(first)}-${ip(last)}`))
        .join('');
      assert.equal(problems(text).length > 0, shared, text);
    }),
  );
});

test('parseConfig() refuses ranges that hold no address a Service can have', () => {
  const cases: readonly (readonly [string, string])[] = [
    ['224.0.0.0/24', '224.0.0.0 cannot be given to a Service, it is a multicast address (RFC 5771)'],
    ['127.0.0.1/32', '127.0.0.1 cannot be given to a Service, it is a loopback address (RFC 1122 3.2.1.3)'],
    ['ff02::/16', 'ff02:: cannot be given to a Service, it is a multicast address (RFC 4291 2.7)'],
    ['::1/128', '::1 cannot be given to a Service, it is the loopback address (RFC 4291 2.5.3)'],
  ];
  for (const [text, reason] of cases) {
    assert.deepEqual(problems(pool('a', text)), [
      `3: pool[0].addresses[0]: expected addresses that a Service can have, got "${text}": ${reason}`,
    ]);
  }
});

test('parseConfig() warns of a range that holds some', () => {
  assert.deepEqual(problems(pool('a', '223.255.255.0-224.0.0.5')), [
    '3: warning: pool[0].addresses[0]: expected addresses that a Service can have, got "223.255.255.0-224.0.0.5": ' +
      '224.0.0.5 cannot be given to a Service, it is a multicast address (RFC 5771); such addresses are skipped',
  ]);
});

test('parseConfig() takes v4 pools beyond 2^20 with a warning and v6 pools of any size, without enumerating them', () => {
  assert.deepEqual(problems(pool('a', '10.0.0.0/12')), []);
  assert.deepEqual(problems(pool('a', '10.0.0.0/12', '192.0.2.0/32')), [
    '3: warning: pool[0].addresses: expected at most 1048576 IPv4 addresses, got 1048577; is a prefix length mistyped?',
  ]);
  assert.deepEqual(problems(pool('a', '2000::/3')), []);
});

test('parseConfig() checks a file full of pools in linear time', { timeout: 10_000 }, () => {
  const many = Array.from({ length: 900 }, (_, index) =>
    pool(`p${index}`, ...Array.from({ length: 20 }, (_, low) => `10.${index >> 6}.${index & 63}.${low}/32`)),
  );
  assert.deepEqual(problems(many.join('')), []);
});
