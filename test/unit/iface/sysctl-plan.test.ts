import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ArpKey, planSysctls, type SysctlPlan, sysctlName } from '../../../src/iface/sysctl-plan.ts';

type Values = Readonly<Record<string, number | undefined>>;

/** Values by `interface/key`; what is not named cannot be read. */
function plan(values: Values, interfaces: readonly string[] = ['eth0']): SysctlPlan {
  return planSysctls(interfaces, (place) => {
    const value = values[`${place.interface}/${place.key}`];
    return value === undefined ? { kind: 'error', text: `no ${place.interface}` } : { kind: 'value', value };
  });
}

function writesFor(key: ArpKey, all: number, own: number): readonly string[] {
  const good = { 'all/arp_ignore': 1, 'all/arp_announce': 2, 'eth0/arp_ignore': 1, 'eth0/arp_announce': 2 };
  const { writes } = plan({ ...good, [`all/${key}`]: all, [`eth0/${key}`]: own });
  return writes.map((write) => `${write.interface}=${write.value}`);
}

test('planSysctls() goes by the greater of conf.all and the NIC’s own value', () => {
  const cases: [ArpKey, number, number, readonly string[]][] = [
    // key, conf.all, conf.eth0, what to write
    ['arp_ignore', 0, 0, ['eth0=1']],
    ['arp_ignore', 0, 1, []],
    ['arp_ignore', 1, 0, []],
    ['arp_ignore', 0, 2, []],
    ['arp_ignore', 2, 0, []],
    ['arp_ignore', 1, 2, []],
    ['arp_ignore', 0, 3, ['eth0=1']],
    ['arp_ignore', 2, 3, ['eth0=1']],
    ['arp_ignore', 3, 0, ['all=1']],
    ['arp_ignore', 3, 1, ['all=1']],
    ['arp_ignore', 3, 3, ['all=1', 'eth0=1']],
    ['arp_ignore', 0, 4, ['eth0=1']],
    ['arp_ignore', 7, 0, ['all=1']],
    ['arp_ignore', 0, 9, ['eth0=1']],
    ['arp_ignore', 0, 8, []],
    ['arp_ignore', 8, 1, []],
    ['arp_announce', 0, 0, ['eth0=2']],
    ['arp_announce', 1, 0, ['eth0=2']],
    ['arp_announce', 0, 1, ['eth0=2']],
    ['arp_announce', 2, 0, []],
    ['arp_announce', 0, 2, []],
    ['arp_announce', 0, 3, ['eth0=2']],
    ['arp_announce', 3, 0, ['all=2']],
    ['arp_announce', 3, 2, ['all=2']],
  ];
  for (const [key, all, own, expected] of cases) {
    assert.deepEqual(writesFor(key, all, own), expected, `${key} all=${all} eth0=${own}`);
  }
});

test('planSysctls() names the value that silences every address', () => {
  const good = { 'all/arp_ignore': 0, 'all/arp_announce': 2, 'eth0/arp_ignore': 1, 'eth0/arp_announce': 2 };
  const own = plan({ ...good, 'eth0/arp_ignore': 8 }).findings[0];
  assert.match(own?.error ?? '', /^net\.ipv4\.conf\.eth0\.arp_ignore is 8: eth0 answers ARP for no address/);
  const all = plan({ ...good, 'all/arp_ignore': 8 }).findings[0];
  assert.match(all?.error ?? '', /^net\.ipv4\.conf\.all\.arp_ignore is 8/);
});

test('planSysctls() writes nothing for a NIC that cannot be read, and goes on with the others', () => {
  const { findings, writes } = plan(
    {
      'all/arp_ignore': 0,
      'all/arp_announce': 0,
      'eth1/arp_ignore': 0,
      'eth1/arp_announce': 0,
    },
    ['eth0', 'eth1'],
  );
  assert.deepEqual(
    writes.map((write) => `${write.interface}/${write.key}=${write.value}`),
    ['eth1/arp_ignore=1', 'eth1/arp_announce=2'],
  );
  assert.deepEqual(
    findings.map((finding) => [finding.interface, finding.error, finding.effective]),
    [
      ['eth0', 'no eth0', undefined],
      ['eth1', undefined, 0],
      ['eth0', 'no eth0', undefined],
      ['eth1', undefined, 0],
    ],
  );
});

test('planSysctls() touches nothing when no NIC carries addresses', () => {
  assert.deepEqual(plan({ 'all/arp_ignore': 3, 'all/arp_announce': 3 }, []), { findings: [], writes: [] });
});

test('sysctlName() writes a VLAN’s dot as sysctl(8) does', () => {
  const name = sysctlName({ interface: 'eth0.100', key: 'arp_ignore' });
  assert.equal(name, 'net.ipv4.conf.eth0/100.arp_ignore');
});
