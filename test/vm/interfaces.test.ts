import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { labTimeMs } from '../support/lab-time.ts';
import { waitFor } from '../support/wait.ts';
import { answerer, batch, LINKS, linkOf, makeLinks, POOLS } from './support/links.ts';
import type { Machine } from './support/machine.ts';
import { SKIP_LONG } from './support/requirements.ts';
import { Session } from './support/session.ts';
import { CONFIG, holds, journalHas, mainPid, VIP } from './support/story.ts';

/** What only a real kernel has, on one machine: every kind of link, a carrier that goes, a table that is full. */
describe('on the kernel of Debian, lbd', { skip: SKIP_LONG }, () => {
  let session: Session;
  let machine: Machine;
  let pid: number;
  /** What `lbd check` says of all kinds of links. */
  let checked = '';

  before(async () => {
    session = await Session.start();
    machine = session.machine;
    pid = await mainPid(machine);
  });
  afterEach(async (t) => {
    if ('passed' in t && !t.passed) console.log('error' in t ? t.error : '', await machine.journal());
  });
  after(() => session?.close());

  async function reload(toml: string): Promise<void> {
    await machine.writeFile('/etc/lbd.toml', toml);
    await machine.run('systemctl reload lbd');
  }

  /** Waits until what a command prints matches each of `expected`. */
  function says(command: string, ...expected: readonly RegExp[]): Promise<string> {
    return machine.waitFor(command, {
      describe: `${command} to match ${expected.join(' and ')}`,
      predicate: (text) => expected.every((each) => each.test(text)),
    });
  }

  const NICS = LINKS.flatMap(({ nic, members }) => [
    nic,
    ...members.filter((name) => !/^(trunk|base)/.test(name)),
  ]);
  const SEGMENTS = `[local]\ninterfaces = ["eth0", ${NICS.map((name) => `"${name}"`).join(', ')}]\n${POOLS}${CONFIG}`;

  test('puts addresses on a VLAN, a bond, a bridge and a macvlan, and on none of their members', async () => {
    await session.mark();
    await makeLinks(machine);
    await reload(SEGMENTS);
    for (const { kind } of LINKS) {
      await session.lab.lab.api.createService({ name: kind, annotations: { 'lbd.io/pool': kind } });
    }
    const carriers = LINKS.filter(({ kind }) => kind !== 'vrf');
    for (const { vip } of carriers) await holds(machine, vip);
    await says(
      'lbctl addresses',
      ...carriers.map(({ vip, nic }) => row(`${vip}/32`, 'IPv4', 'local', 'announced', nic)),
    );
    await says(
      'lbctl status',
      ...carriers.map(({ kind, vip, nic }) => row(`default/${kind}`, vip, 'announced', nic)),
    );
    const where = await machine.output("ip -o -4 addr show | awk '{ print $2, $4 }'");
    const macs = await machine.output('grep . /sys/class/net/*/address');
    for (const { kind, vip, nic } of carriers) {
      assert.ok(where.split('\n').includes(`${nic} ${vip}/32`), `${vip} on ${nic}:\n${where}`);
      const mac = new RegExp(`/${nic}/address:(.*)`).exec(macs)?.[1];
      assert.equal(await answerer(machine, vip), mac, `${kind} answers as ${nic}`);
      assert.equal(await machine.output(`cat /proc/sys/net/ipv4/conf/${nic}/arp_ignore`), '1');
    }
    checked = await machine.output('lbd check --offline', { mayFail: true });
    for (const { vip, nic, subnet } of carriers)
      assert.match(checked, new RegExp(`${vip}/32 \\(1 address\\) is local, in ${subnet} of ${nic}\\.`));
    for (const member of ['slave0', 'slave1', 'port0'])
      assert.match(
        checked,
        new RegExp(`WARNING: "${member}" of \\[local\\] interfaces matches no NIC that can carry`),
      );
    await session.neverGone();
  });

  test('refuses an address in a VRF, says why, and leaves the VRF as it is', async () => {
    const { vip, nic } = linkOf('vrf');
    const why = `${nic} has (the subnet )?10\\.85\\.0\\.0/24( of ${vip})?, but it is in the VRF red`;
    await says('lbctl status', new RegExp(`WARNING +${vip} is not announced here: ${why}`));
    assert.match(checked, new RegExp(`not served here: ${why}`));
    await says('lbctl addresses', new RegExp(`^${vip} +IPv4 +local +no-interface .* ${why}`, 'm'));
    assert.doesNotMatch(await machine.output('ip -o addr show'), new RegExp(` ${vip}/`));
    assert.equal(await answerer(machine, vip), undefined);
    assert.equal(
      await answerer(machine, '10.85.0.1'),
      await machine.output(`cat /sys/class/net/${nic}/address`),
    );
    assert.equal(await machine.output(`cat /proc/sys/net/ipv4/conf/${nic}/arp_ignore`), '0');
  });

  test('keeps the address of a bond when its active slave fails, and the segment hears of it from the other', async (t) => {
    const { vip, nic } = linkOf('bond');
    const mac = await answerer(machine, vip);
    await session.mark();
    const announcements = 'nft list chain netdev heard slave1 | grep -o "packets [0-9]*"';
    await machine.run(
      `ip netns exec far nft 'add table netdev heard
        add chain netdev heard slave1 { type filter hook ingress device slave1 priority 0; }
        add rule netdev heard slave1 arp saddr ip ${vip} arp daddr ip ${vip} counter'`,
    );
    assert.equal(await machine.output(`ip netns exec far ${announcements}`), 'packets 0');
    assert.equal(await active(nic), 'slave0');
    await machine.run('ip -n far link set slave0 down');
    await machine.waitFor(`ip netns exec far ${announcements}`, {
      describe: `an announcement of ${vip} over slave1`,
      predicate: (text) => text !== 'packets 0\n',
    });
    assert.equal(await active(nic), 'slave1');
    assert.equal(await answerer(machine, vip), mac);
    assert.match(
      await machine.output(`bridge -n far fdb show br switch`),
      new RegExp(`^${mac} dev slave1 `, 'm'),
    );
    const taken = await says('lbctl addresses', row(`${vip}/32`, 'IPv4', 'local', 'announced', nic));
    t.diagnostic(new RegExp(`^${vip}.*`, 'm').exec(taken)?.[0] ?? '');
    assert.doesNotMatch(await machine.output('cat /run/watched'), new RegExp(`^Deleted .* ${vip}/`, 'm'));

    await machine.run('ip -n far link set slave1 down');
    await says(
      'lbctl status',
      new RegExp(`WARNING +${vip} is not announced here: ${nic}, whose subnet holds ${vip}, is down`),
    );
    await holds(machine, vip, false);
    await machine.run('ip -n far link set slave0 up; ip -n far link set slave1 up');
    await holds(machine, vip);
    assert.equal(await answerer(machine, vip), mac);
    await session.neverGone();
  });

  function active(bond: string): Promise<string> {
    return machine.output(`cat /sys/class/net/${bond}/bonding/active_slave`);
  }

  test('lets go of an address when the cable is pulled out, and takes it again when it is back', async (t) => {
    await machine.run('ip netns del far; ip link del bond1; ip link del br0; ip link del red');
    await reload(CONFIG);
    await session.prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
    await machine.setCable(false);
    await holds(machine, VIP, false);
    await says(
      'lbctl status',
      new RegExp(`WARNING +${VIP} is not announced here: eth0, whose subnet holds ${VIP}, is down`),
    );
    const backMs = labTimeMs();
    await machine.setCable(true);
    const { atMs, mac } = await session.prober.firstAnswer(VIP, { sinceMs: backMs, timeoutMs: 120_000 });
    assert.equal(mac, machine.mac);
    t.diagnostic(`answered ${Math.round(atMs - backMs)} ms after the cable was back`);
    for (let flap = 0; flap < 10; flap++) {
      await machine.setCable(false);
      await machine.setCable(true);
    }
    await says('lbctl status', row('default/web', VIP, 'announced', 'eth0'), / API server +\S+, reachable/);
    await session.prober.firstAnswer(VIP, { sinceMs: labTimeMs(), timeoutMs: 120_000 });
    assert.deepEqual(session.prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
    assert.equal(await mainPid(machine), pid);
  });

  for (const prefix of ['host', 'subnet'] as const) {
    test(`stands by when the host's own address goes and comes back, with prefix = "${prefix}"`, async (t) => {
      const length = prefix === 'host' ? 32 : 24;
      await reload(`[local]\nprefix = "${prefix}"\n${CONFIG}`);
      for (const promotes of [0, 1]) {
        await machine.run(
          `for name in all eth0; do echo ${promotes} >/proc/sys/net/ipv4/conf/$name/promote_secondaries; done`,
        );
        await hasPrefix(length);
        const before = await routing();
        await machine.run(`ip addr del ${machine.ip}/24 dev eth0`);
        if (prefix === 'subnet') await holds(machine, VIP, false);
        else assert.match(await machine.output('ip -o addr show dev eth0'), new RegExp(` ${VIP}/32 `));
        await machine.run(OWN_BACK);
        await hasPrefix(length);
        assert.deepEqual(await routing(), before, `promote_secondaries=${promotes}`);
        // A client that replaces it leaves no time to look.
        await machine.run(`ip addr del ${machine.ip}/24 dev eth0; ${OWN_BACK}`);
        await waitFor(async () => (await routing()) === before, {
          describe: before,
          timeoutMs: 120_000,
          everyMs: 200,
        });
        await hasPrefix(length);
        t.diagnostic(`promote_secondaries=${promotes}: ${before.split('\n')[0]}`);
      }
      await session.prober.firstAnswer(VIP, { sinceMs: labTimeMs() });
      assert.deepEqual(session.prober.duplicates(VIP), { probes: 0, overlapMs: 0 });
    });
  }

  const OWN_BACK =
    'ip addr add 10.77.0.101/24 brd + dev eth0; ip route replace default via 10.77.0.1 dev eth0 onlink';

  /** The host's own address as a primary one, the routes, and the sources that the kernel takes. */
  function routing(): Promise<string> {
    return machine.output(
      `ip -o -4 addr show dev eth0 primary to ${machine.ip} | awk '{ print $4 }'
      ip -4 route show; ip -4 route get ${session.lab.client.ip}; ip -4 route get 198.51.100.1; ip -4 route get 224.0.0.251 oif eth0`,
      { mayFail: true },
    );
  }

  async function hasPrefix(length: number): Promise<void> {
    await machine.waitFor('ip -o -4 addr show dev eth0', {
      describe: `${VIP}/${length}`,
      predicate: (text) => text.includes(` ${VIP}/${length} `),
    });
  }

  test('routes virtual addresses of both families over a dummy by one route each, for as long as one has it', async () => {
    await reload(VIRTUAL);
    const { api } = session.lab.lab;
    for (const name of ['one', 'two']) {
      await api.createService({
        name,
        annotations: { 'lbd.io/pool': 'routed' },
        spec: { ipFamilies: ['IPv4', 'IPv6'], ipFamilyPolicy: 'RequireDualStack' },
      });
      await api.waitForAddresses(name, { count: 2, timeoutMs: 180_000 });
    }
    for (const { ip } of ROUTED) await holds(machine, ip);
    await says(
      'lbctl addresses',
      ...ROUTED.map(({ ip, length, family }) =>
        row(`${ip}/${length}`, family, 'virtual', 'announced', 'kube-lb0'),
      ),
    );
    await onLink('dummy', ROUTED);
    await api.deleteService('one');
    const left = ROUTED.filter(({ service }) => service === 'two');
    await machine.waitFor('ip -o addr show dev kube-lb0', {
      describe: 'two addresses',
      predicate: (text) => text.trim().split('\n').length === 2,
    });
    await onLink('dummy', left);
    await session.lab.client.run(['ip', 'route', 'replace', '203.0.113.0/24', 'via', machine.ip]);
    const { stdout: page } = await session.lab.client.run([
      'curl',
      '-sf',
      '--max-time',
      '20',
      'http://203.0.113.2/',
    ]);
    assert.equal(page, `${machine.name}\n`);
  });

  test('takes a bridge where the module is missing, says which to load, and makes a dummy once it is there', async () => {
    await machine.run(
      `systemctl stop lbd; rmmod dummy; echo 'install dummy /bin/false' >/etc/modprobe.d/dummy.conf`,
    );
    assert.match(
      await machine.output('lbd check --offline', { mayFail: true }),
      /WARNING: .*no dummy.*run "modprobe dummy" \(and put "dummy" into \/etc\/modules-load\.d\/ for the next boot\)/,
    );
    await machine.run('systemctl start lbd');
    const left = ROUTED.filter(({ service }) => service === 'two');
    await says(
      'lbctl status',
      /^ +kube-lb0 +a bridge with 2 virtual addresses; the kernel had no dummy .*"modprobe dummy"/m,
    );
    await onLink('bridge', left);
    await machine.run(
      'systemctl stop lbd; rm /etc/modprobe.d/dummy.conf; modprobe dummy; systemctl start lbd',
    );
    await says('lbctl status', /^ +kube-lb0 +a dummy with 2 virtual addresses$/m);
    await onLink('dummy', left);
    await holds(machine, VIP);
    pid = await mainPid(machine);
  });

  /** What `ip` shows of kube-lb0 is this kind of link, these addresses, and one route for each family. */
  async function onLink(kind: string, addresses: readonly (typeof ROUTED)[number][]): Promise<void> {
    assert.match(await machine.output('ip -d -o link show kube-lb0'), new RegExp(` ${kind} `));
    const shown = await machine.output(`ip -o addr show dev kube-lb0 | awk '{ print $4 }'`);
    assert.deepEqual(shown.split('\n').sort(), addresses.map(({ ip, length }) => `${ip}/${length}`).sort());
    const routes = await machine.output(
      `for family in 4 6; do ip -$family route show dev kube-lb0 | awk '{ print $1 }'; done`,
    );
    assert.deepEqual(routes.split('\n'), ['203.0.113.0/24', '2001:db8:1::/64']);
  }

  test('serves on while the table of neighbours is full, and says that the kernel answers nobody new', async (t) => {
    const { lab, client } = session.lab;
    const server = lab.host('server');
    pid = await mainPid(machine);
    await machine.writeFile(
      '/run/neighbours',
      `while :; do\n${neighbours('01')}\nsleep 0.5\n${neighbours('00')}\nsleep 0.5\ndone\n`,
    );
    // The API server stays in the table; the others leave no room for anybody, as none is old enough to be replaced.
    await machine.run(
      `ip neigh replace ${server.ip} lladdr ${server.nic('eth0').mac} dev eth0 nud permanent
      cd /proc/sys/net/ipv4/neigh/default; cat gc_thresh2 gc_thresh3 >/run/thresholds
      ${neighbours('00')}
      echo 2 >gc_thresh2; echo 2 >gc_thresh3
      systemd-run --quiet --unit neighbours bash /run/neighbours
      ip neigh del ${client.ip} dev eth0 || true`,
    );
    await says(
      'lbctl status',
      /WARNING +the kernel's table of IPv4 neighbours is full: it refused \d+ .*gc_thresh3 \(now 2\)/,
    );
    await journalHas(machine, /neighbours\.full/);
    assert.match(await machine.output('dmesg'), /arp_cache: neighbor table overflow/);
    const fullMs = labTimeMs();
    await lab.api.createService({ name: 'late' });
    await holds(machine, '10.77.0.201');
    await says('lbctl addresses', row('10.77.0.201/32', 'IPv4', 'local', 'announced', 'eth0'));
    await holds(machine, VIP);
    assert.deepEqual(
      session.prober.answers(VIP).filter(({ atMs }) => atMs > fullMs),
      [],
    );
    assert.equal(await mainPid(machine), pid);

    await machine.run(
      'systemctl stop neighbours; cd /proc/sys/net/ipv4/neigh/default; { read second; read third; } </run/thresholds; echo $third >gc_thresh3; echo $second >gc_thresh2',
    );
    const roomMs = labTimeMs();
    const { atMs } = await session.prober.firstAnswer(VIP, { sinceMs: roomMs, timeoutMs: 120_000 });
    t.diagnostic(`answered ${Math.round(atMs - roomMs)} ms after there was room`);
  });
});

/** Makes eight of them in the kernel, or changes the MACs of those. */
function neighbours(byte: string): string {
  const numbers = [2, 3, 4, 5, 6, 7, 8, 9];
  return batch(
    'ip',
    numbers.map(
      (number) =>
        `neigh replace 10.77.0.24${number} lladdr 02:00:00:00:${byte}:0${number} dev eth0 nud reachable`,
    ),
  );
}

/** A row of a table that begins with these cells. */
function row(...cells: readonly string[]): RegExp {
  return new RegExp(`^${cells.join(' +')}( |$)`, 'm');
}

const VIRTUAL = `${CONFIG}[[pool]]
name = "routed"
addresses = ["203.0.113.1-203.0.113.9", "2001:db8:1::1-2001:db8:1::9"]
auto_assign = false
aggregate = { v4 = 24, v6 = 64 }
`;

/** What two Services get of it, one after the other. */
const ROUTED = [
  { service: 'one', ip: '203.0.113.1', length: 24, family: 'IPv4' },
  { service: 'one', ip: '2001:db8:1::1', length: 64, family: 'IPv6' },
  { service: 'two', ip: '203.0.113.2', length: 24, family: 'IPv4' },
  { service: 'two', ip: '2001:db8:1::2', length: 64, family: 'IPv6' },
] as const;
