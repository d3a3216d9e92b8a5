import assert from 'node:assert/strict';
import { test } from 'node:test';
import { referencesOf } from '../../../src/daemon/references.ts';
import { type Ip, type Prefix, parsePrefix } from '../../../src/lib/ip.ts';

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed.ok);
  return parsed.value;
}

const V4 = prefix('192.0.2.0/24');
const V6 = prefix('2001:db8::/64');
const GATEWAYS = ['192.0.2.1', '198.51.100.1', 'fe80::1', '2001:db8:9::1'] as Ip[];

test('referencesOf() takes the gateways that a subnet can have', () => {
  assert.deepEqual(referencesOf(V4, undefined, GATEWAYS), ['192.0.2.1']);
  assert.deepEqual(referencesOf(V6, undefined, GATEWAYS), ['fe80::1']);
});

test('referencesOf() takes what is configured in place of them, where it is', () => {
  const configured = ['192.0.2.254', '2001:db8::254'] as Ip[];
  assert.deepEqual(referencesOf(V4, configured, GATEWAYS), ['192.0.2.254']);
  assert.deepEqual(referencesOf(V6, configured, GATEWAYS), ['2001:db8::254']);
});

test('referencesOf() takes none when none are configured: only members count then', () => {
  assert.deepEqual(referencesOf(V4, [], GATEWAYS), []);
  assert.deepEqual(referencesOf(V6, [], GATEWAYS), []);
});
