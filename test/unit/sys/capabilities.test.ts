import assert from 'node:assert/strict';
import { test } from 'node:test';
import { missingCapabilities } from '../../../src/sys/capabilities.ts';

const status = (effective: string) =>
  `Name:\tlbd\nCapPrm:\t0000000000000000\nCapEff:\t${effective}\nCapBnd:\t0\n`;

test('missingCapabilities() names what is not in the effective set', () => {
  assert.deepEqual(missingCapabilities(status('000001ffffffffff')), []);
  assert.deepEqual(missingCapabilities(status('0000000000003000')), []);
  assert.deepEqual(missingCapabilities(status('0000000000002000')), ['CAP_NET_ADMIN']);
  assert.deepEqual(missingCapabilities(status('0000000000001000')), ['CAP_NET_RAW']);
  assert.deepEqual(missingCapabilities(status('0000000000000000')), ['CAP_NET_ADMIN', 'CAP_NET_RAW']);
});

test('missingCapabilities() names nothing when the kernel does not tell', () => {
  assert.deepEqual(missingCapabilities(''), []);
  assert.deepEqual(missingCapabilities('CapEff:\tnonsense\n'), []);
});
