import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { LabHost } from '../support/lab-host.ts';
import { held, SKIP, shown } from '../support/scenario.ts';
import { expectOnLink, LINK, onLink, VirtualLab } from '../support/virtual-lab.ts';
import { waitFor } from '../support/wait.ts';

const TOML = `[virtual]
table = 1000
protocol = 200

[[pool]]
name = "default"
addresses = ["10.77.0.200-10.77.0.210", "fd77::200-fd77::210"]

[[pool]]
name = "routed"
addresses = ["203.0.113.0/24", "fd55::/64"]
aggregate = { v4 = 24, v6 = 64 }
`;

describe('lbd cleanup, when daemon, configuration and state are gone', { skip: SKIP }, () => {
  let lab: VirtualLab;
  let h1: LabHost;

  before(async () => {
    lab = await VirtualLab.start({ hosts: { h1: {} } });
    h1 = lab.host('h1');
  });
  after(() => lab?.close());

  /** lbd has had local and virtual addresses, and was killed. */
  async function leaveBehind(): Promise<void> {
    const lbd = await lab.startLbd(h1, TOML);
    await lab.serve('local', ['10.77.0.200', 'fd77::200']);
    await lab.serve('routed', ['203.0.113.1', 'fd55::1']);
    for (const ip of ['10.77.0.200', 'fd77::200', '203.0.113.1', 'fd55::1']) await held(lbd, ip);
    await waitFor(async () => (await table()).length === 2, { describe: 'routes' });
    await lbd.stop('SIGKILL');
    await h1.run(['sh', '-c', 'rm -rf /etc/lbd.toml /var/lib/lbd/*']);
  }

  /** Of lbd, in the table that the configuration named. */
  async function table(): Promise<readonly string[]> {
    const { stdout } = await h1.run(['sh', '-c', 'ip -4 route show table 1000; ip -6 route show table 1000']);
    return stdout.split('\n').filter((line) => line.includes(`dev ${LINK} proto 200`));
  }

  test('takes off all that lbd put there, says what, and leaves others’ things alone', async () => {
    const theirs = [
      'addr add 10.77.0.220/32 dev eth0',
      'addr add fd77::220/128 dev eth0 nodad',
      'route add 198.18.0.0/24 dev eth0 table 1000',
      'route add 198.18.1.0/24 dev eth0 proto 200 table 1000',
      'rule add pref 1000 from 203.0.113.0/24 lookup 1000',
      'link add other0 type bridge',
    ];
    await h1.ipBatch(theirs);
    const before = await everything();
    await leaveBehind();
    assert.notEqual(await everything(), before);
    const { code, stdout } = await lab.command(h1, 'lbd', ['cleanup']);
    assert.equal(code, 0);
    assert.deepEqual(stdout.trim().split('\n').sort(), [
      'removed 10.77.0.200/32 from eth0',
      'removed fd77::200/128 from eth0',
      `removed ${LINK}, a bridge, with 203.0.113.1/32, fd55::1/128`,
    ]);
    assert.equal(await everything(), before);
    assert.equal(await onLink(h1), undefined);
    assert.equal((await lab.command(h1, 'lbd', ['cleanup'])).stdout, 'nothing of lbd is on this host\n');
    await lab.reset();
  });

  test('leaves the link that somebody else uses, with his address and routes, and takes its own off it', async () => {
    await leaveBehind();
    await h1.ipBatch([
      `addr add 198.51.100.1/32 dev ${LINK}`,
      `route add 198.18.2.0/24 dev ${LINK} table 1000`,
      `route add 198.18.3.0/24 dev ${LINK} proto 200 table 2000`,
    ]);
    const { code, stdout } = await lab.command(h1, 'lbd', ['cleanup']);
    assert.equal(code, 0);
    assert.deepEqual(stdout.trim().split('\n').sort(), [
      `left ${LINK}: 198.51.100.1/32 is on it and was not put there by lbd`,
      'removed 10.77.0.200/32 from eth0',
      `removed 203.0.113.1/32 from ${LINK}`,
      `removed fd55::1/128 from ${LINK}`,
      'removed fd77::200/128 from eth0',
      `removed the route 203.0.113.0/24 over ${LINK} from table 1000`,
      `removed the route fd55::/64 over ${LINK} from table 1000`,
    ]);
    await expectOnLink(h1, ['198.51.100.1/32']);
    const left = (await h1.run(['ip', '-4', 'route', 'show', 'table', 'all', 'dev', LINK])).stdout;
    assert.match(left, /198\.18\.2\.0\/24/);
    assert.match(left, /198\.18\.3\.0\/24/);
    assert.doesNotMatch(left, /203\.0\.113/);
    await lab.reset();
  });

  test('leaves the host its own address when one of lbd came before it in the subnet', async () => {
    const promote = (value: number) =>
      h1.run([
        'sysctl',
        '-qw',
        ...['all', 'eth0'].map((nic) => `net.ipv4.conf.${nic}.promote_secondaries=${value}`),
      ]);
    const lbd = await lab.startLbd(h1, `${TOML}\n[local]\nprefix = "subnet"\n`);
    await lab.serve('local', ['10.77.0.200']);
    await held(lbd, '10.77.0.200');
    await lbd.stop('SIGKILL');
    await promote(1);
    await h1.ipBatch([`addr del ${h1.ip}/24 dev eth0`, `addr add ${h1.ip}/24 dev eth0`]);
    await promote(0);
    assert.equal((await shown(h1, h1.ip))?.secondary, true);
    const { code, stdout } = await lab.command(h1, 'lbd', ['cleanup']);
    assert.equal(code, 0);
    assert.match(stdout, /^removed 10\.77\.0\.200\/24 from eth0$/m);
    const own = await shown(h1, h1.ip);
    assert.deepEqual([own?.prefixlen, own?.secondary], [24, undefined]);
    const { stdout: promotes } = await h1.run(['sysctl', '-n', 'net.ipv4.conf.eth0.promote_secondaries']);
    assert.equal(promotes.trim(), '0');
  });

  /** Addresses, routes, rules and links, without what changes by itself. */
  async function everything(): Promise<string> {
    const commands = [
      'ip -o addr show',
      'ip -4 route show table all',
      'ip -6 route show table all',
      'ip rule show',
      'ip -6 rule show',
      'ip -o link show',
    ];
    const { stdout } = await h1.run(['sh', '-c', commands.join('; ')]);
    return stdout
      .split('\n')
      .map((line) => line.replaceAll(/ (expires|valid_lft|preferred_lft) \d+sec/g, ''))
      .sort()
      .join('\n');
  }
});
