import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { createLab, type Lab } from '../support/lab.ts';
import type { LabHost } from '../support/lab-host.ts';
import type { Lbd } from '../support/lab-lbd.ts';
import { PingLoop } from '../support/ping-loop.ts';
import { addressOf, BINARY, held, inState, SKIP, shown } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

/**
 * Two hosts that gossip over both of their NICs, and a client on each segment:
 *
 *   h1, h2   eth0 ── lan (10.77.0.0/24, the API server)     eth1 ── san (10.77.1.0/24)
 */
const LAN_VIP = '10.77.0.200';
const SAN_VIP = '10.77.1.200';
/** In a subnet that no host has at first. */
const NEW_VIP = '10.99.1.200';
const SETTINGS = '[local]\ninterfaces = ["eth0", "eth1"]\n';
const POOLS = `
[[pool]]
name = "lan"
addresses = ["${LAN_VIP}/30"]
[[pool]]
name = "san"
addresses = ["${SAN_VIP}/30"]
[[pool]]
name = "new"
addresses = ["${NEW_VIP}/30"]
`;
const NICS = { nics: { eth0: {}, eth1: { segment: 'san' } } } as const;

describe('a NIC of a running lbd', { skip: SKIP }, () => {
  let lab: Lab;
  let hosts: readonly LabHost[];
  const daemons: Lbd[] = [];

  before(async () => {
    lab = await createLab({
      segments: { lan: {}, san: {} },
      hosts: { api: {}, h1: NICS, h2: NICS, client: NICS },
    });
    hosts = [lab.host('h1'), lab.host('h2')];
    await lab.startApiServer();
    // Somebody who answers beside the hosts, as on most networks.
    await lab.host('api').ipBatch(['addr add 10.77.0.1/24 dev eth0']);
  });
  afterEach(async () => {
    for (const lbd of daemons.splice(0)) await lbd.stop('SIGINT');
    // Which subnets were there is remembered.
    for (const host of hosts) await host.run(['sh', '-c', 'rm -rf /var/lib/lbd/*']);
  });
  after(() => lab?.close());

  async function serve(name: string, ip: string): Promise<void> {
    await lab.api.createService({ name, annotations: { 'lbd.io/addresses': ip } });
    await lab.api.waitForAddresses(name);
  }

  async function startLbd(host: LabHost, toml: string): Promise<Lbd> {
    const lbd = await lab.startLbd(host, { binary: BINARY, readyTimeoutMs: 30_000, toml });
    daemons.push(lbd);
    return lbd;
  }

  /** Hosts that have the address, on whichever NIC: `h1 eth1`. */
  async function holders(ip: string): Promise<readonly string[]> {
    const found: string[] = [];
    for (const host of hosts)
      for (const nic of ['eth0', 'eth1'])
        if ((await shown(host, ip, nic)) !== undefined) found.push(`${host.name} ${nic}`);
    return found;
  }

  async function isHeldBy(ip: string, expected: string): Promise<void> {
    await waitFor(async () => (await holders(ip)).join() === expected, {
      describe: `${ip} on ${expected || 'no host'}`,
      timeoutMs: 15_000,
    });
  }

  function readdress(host: LabHost, from: string, to: string): Promise<void> {
    const number = host.nic('eth1').addresses[0]?.split(/[./]/)[3];
    return host.ipBatch([
      `addr del ${from}.${number}/24 dev eth1`,
      `addr add ${to}.${number}/24 brd + dev eth1`,
    ]);
  }

  test('that gets an address of another subnet leaves those of the old one to the other host, and gets them back', async (context) => {
    const gossip = (other: LabHost) => `[gossip]\nseeds = ["${other.ip}"]\ninsecure = true\n`;
    const [h1, h2] = hosts as [LabHost, LabHost];
    const lbds = await Promise.all([
      startLbd(h1, SETTINGS + gossip(h2) + POOLS),
      startLbd(h2, SETTINGS + gossip(h1) + POOLS),
    ]);
    for (const lbd of lbds)
      await lbd.waitForStatus(
        ({ election }) => election?.members.filter(({ state }) => state === 'alive').length === 2,
        { describe: 'two members', timeoutMs: 15_000 },
      );
    await serve('san', SAN_VIP);
    await waitFor(async () => (await holders(SAN_VIP)).length === 1, {
      describe: 'an owner',
      timeoutMs: 15_000,
    });
    const [place] = await holders(SAN_VIP);
    const isFirst = place === 'h1 eth1';
    const [owner, other] = isFirst ? [h1, h2] : [h2, h1];
    const [lbdOfOwner, lbdOfOther] = isFirst ? lbds : [lbds[1], lbds[0]];
    const pings = await PingLoop.start(lab.host('client'), SAN_VIP);

    await readdress(owner, '10.77.1', '10.99.1');
    await isHeldBy(SAN_VIP, `${other.name} eth1`);
    await ping(SAN_VIP);
    const { longestLossMs } = await pings.stop();
    context.diagnostic(`moved with ${longestLossMs.toFixed(0)} ms without an answer`);
    assert.ok(longestLossMs < 8_000, `${longestLossMs} ms`);
    const gone = await lbdOfOwner.status();
    assert.notEqual(addressOf(gone, SAN_VIP)?.state, 'held');
    assert.equal(await hasVirtualLink(owner), false, 'it is not virtual');

    // What it can have now is local to it, and to nobody else.
    await serve('new', NEW_VIP);
    await isHeldBy(NEW_VIP, `${owner.name} eth1`);

    await readdress(owner, '10.99.1', '10.77.1');
    await isHeldBy(NEW_VIP, '');
    assert.deepEqual(await holders(SAN_VIP), [`${other.name} eth1`], 'who has it keeps it');
    assert.equal(await hasVirtualLink(other), false);
    await lbdOfOther.stop('SIGINT');
    await isHeldBy(SAN_VIP, `${owner.name} eth1`);
    await ping(SAN_VIP);
  });

  test('of a host that is alone: addresses of the old subnet are nowhere, not virtual ones, until it is back', async () => {
    const [h1] = hosts as [LabHost];
    const lbd = await startLbd(h1, SETTINGS + POOLS);
    await held(lbd, SAN_VIP);
    // In a subnet of nobody, as far as this host knows.
    assert.equal((await held(lbd, NEW_VIP)).kind, 'virtual');
    await serve('lan', LAN_VIP);
    await held(lbd, LAN_VIP);
    await readdress(h1, '10.77.1', '10.99.1');
    const address = await inState(lbd, SAN_VIP, 'no-interface', 10_000);
    assert.match(address.reason ?? '', /no NIC of this host has a subnet that holds 10\.77\.1\.200/);
    assert.equal((await held(lbd, NEW_VIP)).interface, 'eth1');
    await isHeldBy(SAN_VIP, '');
    assert.deepEqual([address.kind, await shown(h1, SAN_VIP, 'kube-lb0')], ['local', undefined]);
    await held(lbd, LAN_VIP);
    await readdress(h1, '10.99.1', '10.77.1');
    await held(lbd, SAN_VIP);
    await ping(SAN_VIP);
  });

  test('and its other NIC change names crosswise, and lose and regain their own addresses: all stay where they were', async () => {
    const [h1] = hosts as [LabHost];
    const lbd = await startLbd(h1, `${SETTINGS}prefix = "subnet"\n${POOLS}`);
    const placed = async (lan: string, san: string) => {
      for (const [ip, name] of [
        [LAN_VIP, lan],
        [SAN_VIP, san],
      ] as const) {
        await lbd.waitForStatus(
          (status) => addressOf(status, ip)?.state === 'held' && addressOf(status, ip)?.interface === name,
          { describe: `${ip} held on ${name}` },
        );
        await waitFor(async () => (await shown(h1, ip, name))?.prefixlen === 24, {
          describe: `${ip} on ${name}`,
        });
      }
    };
    const crosswise = ['link set eth0 name swap0', 'link set eth1 name eth0', 'link set swap0 name eth1'];
    await placed('eth0', 'eth1');
    const pings = await Promise.all([LAN_VIP, SAN_VIP].map((ip) => PingLoop.start(lab.host('client'), ip)));
    await h1.ipBatch(crosswise);
    await placed('eth1', 'eth0');
    for (const loop of pings) assert.equal((await loop.stop()).longestLossMs, 0);
    const { sysctls } = await lbd.status();
    assert.deepEqual(sysctls.map(({ key, current }) => `${key}=${current}`).sort(), [
      'net.ipv4.conf.eth0.arp_announce=2',
      'net.ipv4.conf.eth0.arp_ignore=1',
      'net.ipv4.conf.eth1.arp_announce=2',
      'net.ipv4.conf.eth1.arp_ignore=1',
    ]);

    // Both at once: lbd steps aside on each and comes back as a secondary.
    const [lan, san] = [h1.ip, h1.ip.replace('10.77.0.', '10.77.1.')];
    await h1.ipBatch([`addr del ${lan}/24 dev eth1`, `addr del ${san}/24 dev eth0`, ...crosswise]);
    for (const ip of [LAN_VIP, SAN_VIP]) await isHeldBy(ip, '');
    await h1.ipBatch([`addr add ${san}/24 brd + dev eth1`, `addr add ${lan}/24 brd + dev eth0`]);
    await placed('eth0', 'eth1');
    for (const [ip, nic] of [
      [lan, 'eth0'],
      [san, 'eth1'],
    ] as const)
      assert.equal((await shown(h1, ip, nic))?.secondary, undefined, `${ip} is the primary one`);
    for (const ip of [LAN_VIP, SAN_VIP]) await ping(ip);
    await lbd.stop('SIGINT');
    for (const ip of [LAN_VIP, SAN_VIP]) assert.deepEqual(await holders(ip), []);
  });

  async function ping(ip: string): Promise<void> {
    await lab.host('client').run(['ping', '-n', '-c', '1', '-W', '2', ip]);
  }
});

async function hasVirtualLink(host: LabHost): Promise<boolean> {
  return (await host.run(['ip', 'link', 'show', 'kube-lb0'], { mayFail: true })).code === 0;
}
