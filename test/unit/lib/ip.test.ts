import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AssertionFailure } from '../../../src/lib/assert.ts';
import {
  broadcastOf,
  compareIps,
  FAMILY_BITS,
  type Family,
  familyOf,
  formatEndpoint,
  formatPrefix,
  formatRange,
  type Ip,
  type IpRange,
  ipFromBytes,
  ipFromNumber,
  ipToBytes,
  ipToNumber,
  type Prefix,
  parseIp,
  parsePrefix,
  parseRange,
  prefixContains,
  prefixOf,
  prefixRange,
  rangeContains,
  rangeSize,
  rangesOverlap,
  unusableReason,
} from '../../../src/lib/ip.ts';

function ip(text: string): Ip {
  const parsed = parseIp(text);
  assert.ok(parsed !== undefined, text);
  return parsed;
}

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

function range(text: string): IpRange {
  const parsed = parseRange(text);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

function refusal(parsed: { readonly ok: boolean; readonly error?: string }): string {
  assert.equal(parsed.ok, false);
  return parsed.error ?? '';
}

const anyFamily = fc.constantFrom<Family>('v4', 'v6');
/** Addresses of both families, with runs of zeros and ones as often as random bits. */
const anyIp = anyFamily.chain((family) => {
  const bits = FAMILY_BITS[family];
  const whole = fc.bigInt({ min: 0n, max: (1n << BigInt(bits)) - 1n });
  const sparse = fc
    .array(fc.nat({ max: bits - 1 }), { maxLength: 4 })
    .map((set) => set.reduce((value, bit) => value | (1n << BigInt(bit)), 0n));
  return fc.oneof(whole, sparse).map((value) => ipFromNumber(family, value));
});

const CANONICAL: readonly (readonly [text: string, canonical: string])[] = [
  ['192.0.2.1', '192.0.2.1'],
  ['0.0.0.0', '0.0.0.0'],
  ['255.255.255.255', '255.255.255.255'],
  ['2001:DB8::A', '2001:db8::a'],
  ['2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['::1', '::1'],
  // RFC 5952 4.2.2: one zero field is not shortened; 4.2.3: the longest run is, the first of equal ones.
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['1:0:0:2:0:0:3:4', '1::2:0:0:3:4'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
  ['2001:db8::192.0.2.33', '2001:db8::c000:221'],
];

for (const [text, canonical] of CANONICAL) {
  test(`parseIp() gives ${canonical} for ${text}`, () => assert.equal(parseIp(text), canonical));
}

const REFUSED: readonly (readonly [text: string, why: string])[] = [
  ['', 'empty'],
  [' 192.0.2.1', 'white space before'],
  ['192.0.2.1\n', 'white space after'],
  ['192.0.02.1', 'a leading zero, octal for inet_aton'],
  ['192.0.2.00', 'leading zeros'],
  ['192.0.2', 'three numbers'],
  ['192.0.2.1.', 'a trailing dot'],
  ['192.0.2.1.1', 'five numbers'],
  ['192.0.2.256', 'a number beyond 255'],
  ['3221225985', 'one number'],
  ['0xc0.0.2.1', 'hexadecimal'],
  ['192.0.2.1/24', 'a prefix length'],
  ['192.0.2.1:80', 'a port'],
  ['[2001:db8::1]:80', 'brackets and a port'],
  ['fe80::1%eth0', 'a zone'],
  ['2001:db8::1/64', 'a v6 prefix length'],
  ['1::2::3', 'two gaps'],
  ['12345::', 'five digits in a field'],
  ['1:2:3:4:5:6:7', 'seven fields'],
  ['1:2:3:4:5:6:7:8:9', 'nine fields'],
  ['1:2:3:4:5:6:7:', 'a trailing colon'],
  [':1:2:3:4:5:6:7', 'a leading colon'],
  [':::', 'three colons'],
  ['::01.2.3.4', 'a leading zero in its v4 part'],
  ['::256.1.1.1', 'a v4 part beyond 255'],
  ['1.2.3.4::', 'a v4 part at the front'],
  ['١.0.2.1', 'digits of another script'],
  ['192.0.2.1\0', 'a NUL'],
  ['example.com', 'a name'],
  [`2001:db8::${'0'.repeat(60)}1`, 'too long'],
];

for (const [text, why] of REFUSED) {
  test(`parseIp() refuses ${JSON.stringify(text)}: ${why}`, () => assert.equal(parseIp(text), undefined));
}

test('parseIp() never throws and what it gives parses to itself, whatever the text', () => {
  const alphabet = fc.constantFrom(...'0123456789abcdefABCDEF:.%/[]- \n');
  const text = fc.oneof(fc.string(), fc.string({ unit: alphabet, maxLength: 70 }));
  fc.assert(
    fc.property(text, (input) => {
      const parsed = parseIp(input);
      if (parsed !== undefined) assert.equal(parseIp(parsed), parsed);
    }),
    { numRuns: 500 },
  );
});

test('an IPv4-mapped address is v6, has one text and can be given to nobody', () => {
  assert.equal(parseIp('::ffff:192.0.2.1'), '::ffff:c000:201');
  assert.equal(familyOf(ip('::ffff:192.0.2.1')), 'v6');
  assert.match(unusableReason(ip('::ffff:192.0.2.1')) ?? '', /IPv4-mapped/);
});

test('property: ipFromNumber(ipToNumber()) and ipFromBytes(ipToBytes()) give the same address', () => {
  fc.assert(
    fc.property(anyIp, (address) => {
      assert.equal(parseIp(address), address);
      assert.equal(ipFromNumber(familyOf(address), ipToNumber(address)), address);
      const bytes = ipToBytes(address);
      assert.equal(bytes.length * 8, FAMILY_BITS[familyOf(address)]);
      assert.equal(ipFromBytes(bytes), address);
    }),
    { numRuns: 300 },
  );
});

test('ipToNumber() and ipToBytes() are in network order', () => {
  assert.equal(ipToNumber(ip('192.0.2.1')), 0xc0000201n);
  assert.equal(ipToNumber(ip('255.255.255.255')), 0xffffffffn);
  assert.equal(ipToNumber(ip('2001:db8::1')), 0x20010db8000000000000000000000001n);
  assert.deepEqual([...ipToBytes(ip('192.0.2.1'))], [192, 0, 2, 1]);
  assert.deepEqual([...ipToBytes(ip('2001:db8::1'))].slice(0, 5), [0x20, 0x01, 0x0d, 0xb8, 0]);
});

test('ipFromNumber() asserts when the number does not fit the family', () => {
  for (const [family, value] of [
    ['v4', -1n],
    ['v4', 1n << 32n],
    ['v6', -1n],
    ['v6', 1n << 128n],
  ] as const) {
    assert.throws(() => ipFromNumber(family, value), AssertionFailure);
  }
});

test('ipFromBytes() gives undefined for any length but 4 and 16', () => {
  for (let length = 0; length < 20; length++) {
    assert.equal(ipFromBytes(new Uint8Array(length)) !== undefined, length === 4 || length === 16);
  }
});

test('property: bytes and text of an address agree with its number, wherever its zeros are', () => {
  // Mostly zero groups, so that every run of them comes up.
  const group = fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(0xffff));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const bytes = Uint8Array.from(groups.flatMap((value) => [value >> 8, value & 0xff]));
      const number = groups.reduce((sum, value) => (sum << 16n) | BigInt(value), 0n);
      const address = ipFromBytes(bytes);
      assert.equal(address, ipFromNumber('v6', number));
      assert.ok(address !== undefined);
      assert.deepEqual(ipToBytes(address), bytes);
    }),
    { numRuns: 5_000 },
  );
});

test('ipFromBytes() shortens the first of the longest runs of zeros, and no single group (RFC 5952 4.2)', () => {
  for (const text of ['2001:db8::1:0:0:1', '2001:db8:0:1:1:1:1:1', 'fe80::', '::1', '::', '::ffff:a00:1']) {
    assert.equal(ipFromBytes(ipToBytes(ip(text))), text);
  }
});

test('property: compareIps() orders by number, v4 before v6', () => {
  fc.assert(
    fc.property(anyIp, anyIp, (left, right) => {
      const order = Math.sign(compareIps(left, right));
      assert.equal(order + Math.sign(compareIps(right, left)), 0);
      if (familyOf(left) !== familyOf(right)) assert.equal(order, familyOf(left) === 'v4' ? -1 : 1);
      else assert.equal(order, ipToNumber(left) < ipToNumber(right) ? -1 : left === right ? 0 : 1);
    }),
    { numRuns: 300 },
  );
});

test('parsePrefix() takes a network of each length', () => {
  for (const text of [
    '0.0.0.0/0',
    '192.0.2.0/24',
    '192.0.2.1/32',
    '::/0',
    '2001:db8::/64',
    '2001:db8::1/128',
  ])
    assert.equal(formatPrefix(prefix(text)), text);
});

test('parsePrefix() refuses host bits and names the prefix that may be meant', () => {
  assert.equal(refusal(parsePrefix('192.0.2.1/24')), 'expected no host bits, as in 192.0.2.0/24');
  assert.equal(refusal(parsePrefix('2001:db8::1/64')), 'expected no host bits, as in 2001:db8::/64');
});

test('parsePrefix() refuses lengths beyond the family, with signs, leading zeros or none', () => {
  for (const text of ['0.0.0.0/33', '0.0.0.0/', '0.0.0.0/-1', '0.0.0.0/+8', '10.0.0.0/08', '10.0.0.0/8.0'])
    assert.equal(refusal(parsePrefix(text)), 'expected a prefix length of 0 to 32', text);
  assert.equal(refusal(parsePrefix('::/129')), 'expected a prefix length of 0 to 128');
  assert.equal(refusal(parsePrefix('::/64/64')), 'expected a prefix length of 0 to 128');
  for (const text of ['192.0.2.0', '/24', '192.0.2.0.0/24', '192.0.2.0/255.255.255.0 '])
    assert.match(refusal(parsePrefix(text)), /^expected a prefix/, text);
});

test('property: an address is in its own prefix, and the range of a prefix holds exactly what the prefix contains', () => {
  const ipAndLength = anyIp.chain((address) =>
    fc.tuple(fc.constant(address), fc.nat({ max: FAMILY_BITS[familyOf(address)] }), anyIp),
  );
  fc.assert(
    fc.property(ipAndLength, ([address, length, other]) => {
      const subnet = prefixOf(address, length);
      assert.ok(prefixContains(subnet, address));
      assert.equal(formatPrefix(prefix(formatPrefix(subnet))), formatPrefix(subnet));
      const { first, last } = prefixRange(subnet);
      assert.equal(first, subnet.network);
      assert.equal(rangeSize({ first, last }), 1n << BigInt(FAMILY_BITS[familyOf(address)] - length));
      assert.equal(prefixContains(subnet, other), rangeContains({ first, last }, other));
    }),
    { numRuns: 300 },
  );
});

test('prefixContains() is false across families', () => {
  assert.equal(prefixContains(prefix('0.0.0.0/0'), ip('::1')), false);
  assert.equal(prefixContains(prefix('::/0'), ip('0.0.0.1')), false);
});

test('broadcastOf() is the last v4 address, and there is none in v6, /31 and /32', () => {
  assert.equal(broadcastOf(prefix('192.0.2.0/24')), '192.0.2.255');
  assert.equal(broadcastOf(prefix('192.0.2.4/30')), '192.0.2.7');
  assert.equal(broadcastOf(prefix('0.0.0.0/0')), '255.255.255.255');
  for (const text of ['192.0.2.0/31', '192.0.2.0/32', '2001:db8::/64', '2001:db8::/120'])
    assert.equal(broadcastOf(prefix(text)), undefined);
});

test('parseRange() takes a prefix or two ends, also with spaces around the dash', () => {
  assert.deepEqual(range('192.0.2.0/30'), { first: '192.0.2.0', last: '192.0.2.3' });
  assert.deepEqual(range('192.0.2.10-192.0.2.20'), { first: '192.0.2.10', last: '192.0.2.20' });
  assert.deepEqual(range('192.0.2.10 - 192.0.2.20'), { first: '192.0.2.10', last: '192.0.2.20' });
  assert.deepEqual(range('2001:DB8::1-2001:db8::ff'), { first: '2001:db8::1', last: '2001:db8::ff' });
  assert.equal(formatRange(range('192.0.2.7-192.0.2.7')), '192.0.2.7');
  assert.equal(formatRange(range('192.0.2.0/31')), '192.0.2.0-192.0.2.1');
});

test('parseRange() refuses ends that are reversed or of two families, and names both', () => {
  assert.equal(
    refusal(parseRange('192.0.2.20-192.0.2.10')),
    'expected the lower address first, as in 192.0.2.10-192.0.2.20',
  );
  assert.equal(
    refusal(parseRange('2001:db8::10-2001:db8::f')),
    'expected the lower address first, as in 2001:db8::f-2001:db8::10',
  );
  assert.equal(
    refusal(parseRange('192.0.2.1-2001:db8::1')),
    'expected both ends of one family, 192.0.2.1 is v4 and 2001:db8::1 is v6',
  );
});

test('parseRange() refuses what has no address on each side', () => {
  for (const text of [
    '-',
    '192.0.2.1-',
    '-192.0.2.1',
    '192.0.2.1-20',
    '192.0.2.1-192.0.2.2-192.0.2.3',
    'a-b',
  ])
    assert.match(refusal(parseRange(text)), /^expected a range such as/, text);
  assert.match(refusal(parseRange('192.0.2.1')), /^expected a prefix/);
});

test('rangeSize() is exact where no float is', () => {
  assert.equal(rangeSize(range('::/0')), 1n << 128n);
  assert.equal(rangeSize(range('2001:db8::/64')), 18_446_744_073_709_551_616n);
  assert.equal(rangeSize(range('2001:db8::-2001:db8:0:1::1')), (1n << 64n) + 2n);
  assert.equal(rangeSize(range('0.0.0.0/0')), 1n << 32n);
});

test('property: two ranges overlap exactly when an end of one is in the other', () => {
  const anyRange = fc
    .tuple(anyIp, anyIp)
    .filter(([left, right]) => familyOf(left) === familyOf(right))
    .map(([left, right]) => {
      return compareIps(left, right) <= 0 ? { first: left, last: right } : { first: right, last: left };
    });
  fc.assert(
    fc.property(anyRange, anyRange, (left, right) => {
      const expected = rangeContains(left, right.first) || rangeContains(right, left.first);
      assert.equal(rangesOverlap(left, right), expected);
      assert.equal(rangesOverlap(right, left), expected);
      assert.ok(rangesOverlap(left, left));
    }),
    { numRuns: 300 },
  );
});

test('ranges that touch do not overlap, and ranges of two families never do', () => {
  assert.equal(rangesOverlap(range('192.0.2.0/25'), range('192.0.2.128/25')), false);
  assert.equal(rangesOverlap(range('192.0.2.0/25'), range('192.0.2.127-192.0.2.130')), true);
  assert.equal(rangesOverlap(range('0.0.0.0/0'), range('::/0')), false);
  assert.equal(rangeContains(range('::/0'), ip('192.0.2.1')), false);
});

const USABILITY: readonly (readonly [text: string, reason: RegExp | undefined])[] = [
  ['0.0.0.0', /this network/],
  ['0.255.255.255', /this network/],
  ['1.0.0.0', undefined],
  ['10.0.0.1', undefined],
  ['126.255.255.255', undefined],
  ['127.0.0.1', /loopback/],
  ['127.255.255.255', /loopback/],
  ['128.0.0.0', undefined],
  ['169.254.0.1', undefined],
  ['223.255.255.255', undefined],
  ['224.0.0.1', /multicast/],
  ['239.255.255.255', /multicast/],
  ['240.0.0.0', /reserved/],
  ['255.255.255.255', /reserved or broadcast/],
  ['::', /unspecified/],
  ['::1', /loopback/],
  ['::2', undefined],
  ['::ffff:0:0', /IPv4-mapped/],
  ['::ffff:ffff:ffff', /IPv4-mapped/],
  ['::1:0:0:0', undefined],
  ['fd00::1', undefined],
  ['2001:db8::1', undefined],
  ['fe7f:ffff::', undefined],
  ['fe80::', /link-local/],
  ['febf:ffff::1', /link-local/],
  ['fec0::', undefined],
  ['feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', undefined],
  ['ff00::', /multicast/],
  ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', /multicast/],
];

for (const [text, reason] of USABILITY) {
  test(`unusableReason() of ${text} is ${reason === undefined ? 'none' : String(reason)}`, () => {
    const given = unusableReason(ip(text));
    if (reason === undefined) assert.equal(given, undefined);
    else assert.match(given ?? '', reason);
  });
}

test('formatEndpoint() keeps the port apart from a v6 address', () => {
  assert.equal(formatEndpoint('192.0.2.1' as Ip, 80), '192.0.2.1:80');
  assert.equal(formatEndpoint('2001:db8::1' as Ip, 80), '[2001:db8::1]:80');
});
