import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { createLab, type Lab } from '../support/lab.ts';
import type { LabHost } from '../support/lab-host.ts';
import { lbdCommand } from '../support/lab-lbd.ts';
import { addressOf, BINARY, held, SKIP } from '../support/scenario.ts';
import { waitFor } from '../support/wait.ts';

/**
 * A host with two NICs, whose default route is over the first, and a client behind the router of the second:
 *
 *   h1 eth0 ── lan                 eth1 ── san ── router ── far ── client
 *      eth2 ── pods ── pod
 */
const VIP = '10.77.1.200';
const TOML = `
[local]
interfaces = ["10.77.0.0/16"]
[[pool]]
name = "san"
addresses = ["${VIP}-10.77.1.210"]
interfaces = ["eth1"]
`;
const VIP6 = 'fd77:1::200';
const TOML6 = `
[local]
interfaces = ["fd77::/16"]
[[pool]]
name = "san"
addresses = ["${VIP6}-fd77:1::210"]
interfaces = ["eth1"]
`;
const WITH_ROUTING6 = `${TOML6}
[[interface]]
name = "eth1"
source_routing = true
gateways = ["fd77:1::1"]
`;
const WITH_ROUTING = `${TOML}
[[interface]]
name = "eth1"
source_routing = true
gateways = ["10.77.1.1"]
`;

describe('a host with two NICs', { skip: SKIP }, () => {
  let lab: Lab;
  let host: LabHost;
  let client: LabHost;

  before(async () => {
    lab = await createLab({
      segments: { lan: {}, san: {}, far: {}, pods: { v4: '10.88.0.0/24', v6: null } },
      hosts: {
        api: {},
        h1: {
          nics: {
            eth0: {},
            eth1: { segment: 'san' },
            eth2: { segment: 'pods', addresses: ['10.88.0.1/24'] },
          },
          sysctls: {
            'net.ipv4.ip_forward': '1',
            'net.ipv4.conf.all.rp_filter': '2',
            'net.ipv4.conf.eth1.rp_filter': '2',
          },
        },
        router: {
          nics: {
            eth0: { segment: 'san', addresses: ['10.77.1.1/24', 'fd77:1::1/64'] },
            eth1: { segment: 'far', addresses: ['10.77.2.1/24', 'fd77:2::1/64'] },
          },
          gateways: null,
          sysctls: { 'net.ipv4.ip_forward': '1', 'net.ipv6.conf.all.forwarding': '1' },
        },
        client: { nics: { eth0: { segment: 'far' } } },
        pod: { nics: { eth0: { segment: 'pods', addresses: ['10.88.0.2/24'] } } },
      },
    });
    host = lab.host('h1');
    client = lab.host('client');
    await lab.startApiServer();
    // The first router, which does not know the client.
    const first = ['addr add 10.77.0.1/24 dev eth0', 'addr add fd77:0::1/64 dev eth0 nodad'];
    await lab.host('api').ipBatch(first);
  });
  after(() => lab?.close());

  const pings = async (address = VIP) =>
    (await client.run(['ping', '-n', '-c', '1', '-W', '1', address], { mayFail: true })).code;
  const ip = async (...argv: readonly string[]) =>
    (await host.run(['ip', ...argv], { mayFail: true })).stdout.replace(/[ \t]+/g, ' ');
  const rules = async () => (await ip('rule')).split('\n').filter((line) => /^1080[01]:/.test(line));

  test('answers by the NIC that the address is on, and by the default route only without source routing', async () => {
    const lbd = await lab.startLbd(host, { binary: BINARY, toml: TOML });
    await lab.api.createService({ name: 'web' });
    await lab.api.waitForAddresses('web');
    await held(lbd, VIP, 10_000);
    assert.equal(addressOf(await lbd.status(), VIP)?.interface, 'eth1');
    assert.match(await ip('route', 'get', client.ip, 'from', VIP), /via 10\.77\.0\.1 dev eth0/);
    assert.notEqual(await pings(), 0, 'the answer leaves by the default route and is lost');

    await lbd.reload(WITH_ROUTING);
    await waitFor(async () => (await pings()) === 0, { describe: 'an answer by the second NIC' });
    assert.match(await ip('route', 'get', client.ip, 'from', VIP), /via 10\.77\.1\.1 dev eth1/);
    assert.match(
      await ip('route', 'get', lab.host('api').ip, 'from', VIP),
      /dev eth0/,
      'main knows that one',
    );
    assert.match(await ip('route', 'get', client.ip), /via 10\.77\.0\.1 dev eth0/, "the host's own traffic");

    // What somebody takes away comes back; what is not lbd's stays.
    await host.ipBatch(['rule add from 10.77.1.0/24 lookup 100 pref 20000', 'rule del pref 10801']);
    await waitFor(async () => (await rules()).length === 2, { describe: 'the rule to be there again' });
    const [, table] = /lookup (108\d+)/.exec((await rules()).join('\n')) ?? [];
    assert.ok(table);
    await host.ipBatch([`route del default table ${table}`]);
    await waitFor(async () => /via 10\.77\.1\.1/.test(await ip('route', 'show', 'table', table)), {
      describe: 'the route to be there again',
    });

    const repaired = lbd.process.lines.filter(({ text }) => text.includes('source-routing.repaired'));
    assert.match(
      repaired[0]?.text ?? '',
      /add the rule from 10\.77\.1\.0\/24.*"by":"(ip \(pid \d+\)|pid \d+)/,
    );
    // Somebody who takes it away again and again finds it there less and less often.
    const war = `end=$(($(date +%s) + 2)); n=0
      while [ $(date +%s) -lt $end ]; do ip rule del pref 10801 2>/dev/null && n=$((n + 1)); done; echo $n`;
    const deletions = Number((await host.run(['sh', '-c', war])).stdout);
    assert.ok(deletions >= 2 && deletions <= 8, `${deletions} in two seconds`);
    await waitFor(async () => (await rules()).length === 2, { describe: 'the rule to be there after all' });

    // The NIC gets another name: what is configured for the old one stays.
    const renaming = ['link set eth1 down', 'link set eth1 name lan1', 'link set lan1 up'];
    await host.ipBatch(renaming);
    await lbd.waitForStatus((status) => addressOf(status, VIP)?.interface === 'lan1', {
      describe: 'the address on lan1',
    });
    await waitFor(async () => (await pings()) === 0, { describe: 'an answer by lan1' });
    assert.match(await ip('route', 'get', client.ip, 'from', VIP), /via 10\.77\.1\.1 dev lan1/);
    await host.ipBatch(['link set lan1 down', 'link set lan1 name eth1', 'link set eth1 up']);
    await waitFor(async () => (await pings()) === 0, { describe: 'an answer by eth1' });

    // The NIC goes and comes back: its routes went without a word.
    await host.linkDown('eth1');
    await waitFor(async () => (await rules()).length === 0, {
      describe: 'the rules to be gone with the NIC',
    });
    await host.linkUp('eth1');
    await held(lbd, VIP, 10_000);
    await waitFor(async () => (await pings()) === 0, { describe: 'an answer by the second NIC again' });

    await lbd.reload(`${TOML}[[interface]]\nname = "eth1"\nsource_routing = true\n`);
    await lbd.waitForStatus(
      ({ problems }) => problems.some(({ text }) => /no gateway of eth1 is known/.test(text)),
      { describe: 'that no gateway is known' },
    );
    assert.deepEqual(await rules(), []);
    // By the host's own routes.
    await host.ipBatch(['route add default via 10.77.1.1 dev eth1 metric 500']);
    await waitFor(async () => (await pings()) === 0, {
      describe: 'an answer by the gateway of the main table',
    });

    await lbd.stop('SIGKILL');
    assert.equal((await rules()).length, 2);
    const cleaned = await host.run([...lbdCommand('lbd', BINARY), 'cleanup', '--config', '/nowhere.toml']);
    assert.match(cleaned.stdout, /removed the rule from 10\.77\.1\.0\/24 lookup 108\d+\n/);
    assert.match(cleaned.stdout, /removed the default route via 10\.77\.1\.1 in table 108\d+\n/);
    assert.deepEqual(await rules(), []);
    assert.equal((await ip('route', 'show', 'table', table)).trim(), '');
    assert.match(await ip('rule'), /20000: from 10\.77\.1\.0\/24 lookup 100/);
  });

  test('answers of pods leave by the NIC with the marks of docs/networking.md, and not without', async () => {
    const lbd = await lab.startLbd(host, { binary: BINARY, toml: WITH_ROUTING });
    await held(lbd, VIP, 10_000);
    const server =
      "require('node:http').createServer((_, response) => response.end('pod')).listen(80, () => console.log('up'))";
    const web = await lab.host('pod').spawn([process.execPath, '-e', server]);
    await web.waitForLine(/up/);
    // As kube-proxy does it.
    const nft = (text: string) => host.run(['nft', '-f', '-'], { stdin: text });
    await nft(`table ip proxy { chain nat {
      type nat hook prerouting priority dstnat; ip daddr ${VIP} tcp dport 80 dnat to 10.88.0.2:80; }; }`);
    const get = async () =>
      (await client.run(['curl', '-s', '-m', '1', `http://${VIP}/`], { mayFail: true })).stdout;
    assert.equal(await get(), '', 'the answer leaves by the default route and is lost');

    const recipe = await readFile(new URL('../../docs/networking.md', import.meta.url), 'utf8');
    const [, marks = ''] = /```nft\n(.*?)```/s.exec(recipe) ?? [];
    await nft(marks);
    const [, table = ''] = /lookup (108\d+)/.exec((await rules()).join('\n')) ?? [];
    const commands = [...recipe.matchAll(/^ip (rule add .*fwmark.*)$/gm)].map(([, line = '']) => line);
    assert.equal(commands.length, 2);
    await host.ipBatch(commands.map((line) => line.replace(/108\d{6}/, table)));
    await waitFor(async () => (await get()) === 'pod', {
      describe: 'an answer of the pod by the second NIC',
    });
    assert.match(await ip('route', 'get', client.ip), /via 10\.77\.0\.1 dev eth0/, "the host's own traffic");
    await lbd.stop('SIGINT');
    assert.equal((await ip('rule')).match(/fwmark/g)?.length, 2, 'what is not lbd’s stays');
    await host.ipBatch(commands.map((line) => line.replace('add', 'del').replace(/108\d{6}/, table)));
    await host.run(['nft', 'flush', 'ruleset']);
  });

  test('takes its rules along when it stops for good', async () => {
    const lbd = await lab.startLbd(host, { binary: BINARY, toml: WITH_ROUTING });
    await waitFor(async () => (await rules()).length === 2, { describe: 'two rules' });
    await lbd.stop('SIGINT');
    assert.deepEqual(await rules(), []);
    assert.match(await ip('rule'), /20000:/);
  });

  test('answers by the NIC of an IPv6 address, too, and its rules go and come with the NIC', async () => {
    const lbd = await lab.startLbd(host, { binary: BINARY, toml: TOML6 });
    await lab.api.createService({
      name: 'web6',
      spec: { ipFamilies: ['IPv6'], ipFamilyPolicy: 'SingleStack' },
    });
    await lab.api.waitForAddresses('web6');
    await held(lbd, VIP6, 10_000);
    assert.equal(addressOf(await lbd.status(), VIP6)?.interface, 'eth1');
    const rules6 = async () => (await ip('-6', 'rule')).split('\n').filter((line) => /^1080[01]:/.test(line));
    assert.match(await ip('route', 'get', client.ip6, 'from', VIP6), /via fd77::1 dev eth0/);
    assert.notEqual(await pings(VIP6), 0, 'the answer leaves by the default route and is lost');

    await lbd.reload(WITH_ROUTING6);
    const answered = () =>
      waitFor(async () => (await pings(VIP6)) === 0, { describe: 'an answer by the second NIC' });
    await answered();
    assert.match(await ip('route', 'get', client.ip6, 'from', VIP6), /via fd77:1::1 dev eth1/);
    assert.match(
      await ip('route', 'get', lab.host('api').ip6, 'from', VIP6),
      /dev eth0/,
      'main knows that one',
    );
    assert.match(await ip('route', 'get', client.ip6), /via fd77::1 dev eth0/, "the host's own traffic");
    assert.equal((await rules6()).length, 2, 'its link-local subnet needs none');

    for (const priority of ['10800', '10801']) await ip('-6', 'rule', 'del', 'pref', priority);
    await waitFor(async () => (await rules6()).length === 2, { describe: 'the rules to be there again' });
    await answered();
    await host.linkDown('eth1');
    await waitFor(async () => (await rules6()).length === 0, { describe: 'the rules to go with the NIC' });
    await host.linkUp('eth1');
    await held(lbd, VIP6, 10_000);
    await answered();

    await lbd.stop('SIGKILL');
    const cleaned = await host.run([...lbdCommand('lbd', BINARY), 'cleanup', '--config', '/nowhere.toml']);
    assert.match(cleaned.stdout, /removed the rule from fd77:1::\/64 lookup 108\d+\n/);
    assert.match(cleaned.stdout, /removed the default route via fd77:1::1 in table 108\d+\n/);
    assert.deepEqual(await rules6(), []);
  });
});
