import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type SysctlPlace, type SysctlReading, sysctlName } from '../../../src/iface/sysctl-plan.ts';
import { planRestore } from '../../../src/iface/sysctl-restore.ts';

function host(values: Readonly<Record<string, number>>): (place: SysctlPlace) => SysctlReading {
  return (place) => {
    const value = values[sysctlName(place)];
    return value === undefined ? { kind: 'error', text: 'no such interface' } : { kind: 'value', value };
  };
}

test('planRestore() gives back what lbd had written, also for a NIC with a dot', () => {
  const now = { 'net.ipv4.conf.eth0.arp_ignore': 1, 'net.ipv4.conf.eth0/100.arp_announce': 2 };
  const before = new Map([
    ['net.ipv4.conf.eth0.arp_ignore', '0'],
    ['net.ipv4.conf.eth0/100.arp_announce', '1'],
  ]);
  assert.deepEqual(planRestore(before, host(now)), [
    { interface: 'eth0', key: 'arp_ignore', value: 0 },
    { interface: 'eth0.100', key: 'arp_announce', value: 1 },
  ]);
});

test('planRestore() leaves what somebody changed since, and what is gone', () => {
  const now = { 'net.ipv4.conf.eth0.arp_ignore': 2 };
  const before = new Map([
    ['net.ipv4.conf.eth0.arp_ignore', '0'],
    ['net.ipv4.conf.eth1.arp_ignore', '0'],
  ]);
  assert.deepEqual(planRestore(before, host(now)), []);
});

test('planRestore() acts on no name and no value that lbd does not write', () => {
  const everything = (): SysctlReading => ({ kind: 'value', value: 1 });
  const before = new Map([
    ['net.ipv4.conf.eth0.rp_filter', '0'],
    ['net.ipv4.conf.eth0.arp_ignore.x', '0'],
    ['net.ipv6.conf.eth0.arp_ignore', '0'],
    ['kernel.core_pattern', '0'],
    ['net.ipv4.conf.eth0.arp_ignore', '|/bin/sh'],
    ['net.ipv4.conf.eth1.arp_ignore', '10'],
  ]);
  assert.deepEqual(planRestore(before, everything), []);
});
