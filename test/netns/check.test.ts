import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { accessRules, DEFAULT_ACCESS } from '../../src/kube/permissions.ts';
import { lbdCommand } from '../support/lab-lbd.ts';
import type { RunResult } from '../support/lab-process.ts';
import { BINARY, held, Scenario, SKIP } from '../support/scenario.ts';

/** What `lbd check` says on a host, and the ways to a kubeconfig and a configuration that it says nothing against. */

const CONFIG = '/etc/lbd.toml';
const KUBECONFIG = '/etc/lbd/kubeconfig';
const ADMIN = '/run/lab/apiserver/admin.kubeconfig';
const CA = '/run/lab/apiserver/ca.crt';

describe('lbd check', { skip: SKIP }, () => {
  let scenario: Scenario;

  before(async () => {
    scenario = await Scenario.start();
  });
  afterEach(async () => {
    await scenario.host.run(['sh', '-c', 'rm -rf /etc/lbd.d /etc/lbd/kubeconfig']);
    await scenario.reset();
  });
  after(() => scenario?.close());

  /** Writes the configuration and a kubeconfig of this user, and checks. */
  async function checked(
    options: { readonly pool?: readonly string[]; readonly toml?: string; readonly user?: string } = {},
    args: readonly string[] = [],
  ): Promise<RunResult> {
    const { host, lab } = scenario;
    await host.writeFile(CONFIG, scenario.toml(options), 0o644);
    await host.writeFile(KUBECONFIG, await lab.apiServer.kubeconfig(options.user ?? 'lbd'), 0o640);
    return scenario.command('lbd', ['check', ...args]);
  }

  async function sysctls(): Promise<string> {
    const paths = ['arp_ignore', 'arp_announce'].map((key) => `/proc/sys/net/ipv4/conf/eth0/${key}`);
    return (await scenario.host.run(['cat', ...paths])).stdout;
  }

  test('says on which link virtual addresses go, and what to run where the kernel has no dummy', async () => {
    const { host } = scenario;
    const pool = ['203.0.113.0/24'];
    const { stdout } = await checked({ pool });
    assert.match(stdout, /\nVirtual addresses\n/);
    const isMade =
      (await host.run(['ip', 'link', 'add', 'd0', 'type', 'dummy'], { mayFail: true })).code === 0;
    if (isMade) await host.run(['ip', 'link', 'delete', 'd0']);
    assert.match(
      stdout,
      isMade ? /kube-lb0, a dummy that lbd makes/ : /a bridge without ports.*modprobe dummy/,
    );
    await host.ipBatch(['link add kube-lb0 type bridge']);
    try {
      const { code, stdout: other } = await checked({ pool });
      assert.equal(code, 1);
      assert.match(other, /ERROR: kube-lb0 is a bridge that lbd did not make/);
    } finally {
      await host.ipBatch(['link delete kube-lb0']);
    }
  });

  test('finds nothing wrong on a good host, and changes nothing', async () => {
    const { host, lab } = scenario;
    const addressesBefore = (await host.run(['ip', '-o', 'addr'])).stdout;
    const { code, stdout, stderr } = await checked();
    assert.equal(stderr, '');
    const text = stdout
      .replace(/digest [0-9a-f]{12}/, 'digest …')
      .replace(/v1\.[^ ,]+, answered in \d+ ms/, 'v1, answered');
    assert.equal(
      text,
      `/etc/lbd.toml: valid (digest …)

Network
  Addresses go on eth0, the NIC of the default route, with 10.77.0.0/24 and fd77::/64.
  They are added as /32 or /128. The kernel removes an address 30s after lbd last renewed it.

Pools
  default: 10.77.0.200-10.77.0.220 (21 addresses) is local, in 10.77.0.0/24 of eth0.

ARP
  lbd will set net.ipv4.conf.eth0.arp_ignore to 1; in effect now is 0.
  lbd will set net.ipv4.conf.eth0.arp_announce to 2; in effect now is 0.

Kubernetes
  lbd serves Services of type LoadBalancer that name no class.
  /etc/lbd/kubeconfig names the API server ${lab.apiServer.url}.
  The API server, Kubernetes v1, answered.
  It allows lbd all 12 things that lbd asks of it.

no errors
`,
    );
    assert.equal(code, 0);
    assert.equal(await sysctls(), '0\n0\n');
    assert.equal((await host.run(['ip', '-o', 'addr'])).stdout, addressesBefore);
  });

  test("says the same beside a running lbd, whose addresses are none of the host's own", async () => {
    await scenario.startWithService();
    const { code, stdout } = await checked();
    assert.equal(code, 0, stdout);
    assert.match(stdout, /arp_ignore is 1 already; lbd keeps it so/);
    assert.doesNotMatch(stdout, /skipped/);
  });

  test('tells which part of a pool is in no subnet, and which addresses are skipped', async () => {
    const pool = ['10.77.0.0/29', '10.77.0.250-10.77.1.9', '192.0.2.0/24'];
    const { code, stdout } = await checked({ pool });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /default: skipped, as 10\.77\.0\.0 is the network address of 10\.77\.0\.0\/24\.\n/);
    assert.match(stdout, /default: skipped, as 10\.77\.0\.1 is the gateway of one of this host's routes\.\n/);
    assert.match(
      stdout,
      /WARNING: default: of 10\.77\.0\.250-10\.77\.1\.9, 10\.77\.0\.250-10\.77\.0\.255 \(6 addresses\) is local, in 10\.77\.0\.0\/24 of eth0; 10\.77\.1\.0-10\.77\.1\.9 \(10 addresses\) is virtual/,
    );
    assert.match(
      stdout,
      /WARNING: default: 192\.0\.2\.0\/24 \(256 addresses\) is virtual: in no subnet of this host/,
    );
    // What a kernel without dummy devices means for virtual addresses is a warning as well.
    const warnings = stdout.includes('the kernel has no dummy device') ? 3 : 2;
    assert.match(stdout, new RegExp(`\\nno errors, ${warnings} warnings\\n$`));
  });

  test('names each verb that is missing, with what it is for', async () => {
    const rules = accessRules(DEFAULT_ACCESS).filter(
      ({ resources }) => !resources.includes('services/status'),
    );
    await scenario.lab.apiServer.createUser('less', { rules });
    const { code, stdout } = await checked({ user: 'less' });
    assert.equal(code, 1);
    assert.match(
      stdout,
      /ERROR: The API server does not let lbd patch services\/status, which it needs to write the addresses/,
    );
    assert.match(stdout, /\n1 error\n$/);
  });

  test('gives an API server that is away five seconds, and none when it is offline', async () => {
    const { host } = scenario;
    await checked();
    // Dropped and not refused, as when the host behind the address is off.
    await host.run([
      'nft',
      'add table inet cut; add chain inet cut out { type filter hook output priority 0; }',
    ]);
    await host.run(['nft', 'add rule inet cut out tcp dport 6443 drop']);
    try {
      const startedAt = performance.now();
      const { code, stdout } = await scenario.command('lbd', ['check']);
      const tookMs = performance.now() - startedAt;
      assert.equal(code, 1);
      assert.match(
        stdout,
        /ERROR: The API server cannot be used: cannot get \/version: no answer within 5 s\.\n/,
      );
      assert.ok(tookMs < 9_000, `${tookMs} ms`);
      const offline = await scenario.command('lbd', ['check', '--offline']);
      assert.equal(offline.code, 0, offline.stdout);
      assert.doesNotMatch(offline.stdout, /The API server/);
    } finally {
      await host.run(['nft', 'delete table inet cut']);
    }
  });

  test('says what it may not see to a user without privileges', async () => {
    const { host } = scenario;
    await checked();
    const user = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    const { code, stdout } = await host.run([...user, ...lbdCommand('lbd', BINARY), 'check'], {
      mayFail: true,
    });
    assert.equal(code, 0, stdout);
    assert.match(stdout, /Addresses go on eth0, the NIC of the default route, with 10\.77\.0\.0\/24/);
    assert.match(stdout, /not seen: \/etc\/lbd\/kubeconfig, which this user may not read/);
    assert.match(stdout, /\nno errors, 1 not seen\n$/);
  });

  test('refuses a kubeconfig that is missing or open to everybody, and sysctls that nobody can write', async () => {
    const { host } = scenario;
    await checked();
    await host.run(['chmod', '644', KUBECONFIG]);
    const open = await scenario.command('lbd', ['check']);
    assert.equal(open.code, 1);
    assert.match(
      open.stdout,
      /ERROR: kubeconfig \/etc\/lbd\/kubeconfig is open to every user .*mode 0644.*chmod 640/,
    );
    await host.run(['rm', KUBECONFIG]);
    await host.run(['sh', '-c', 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys']);
    const none = await scenario.command('lbd', ['check']);
    assert.equal(none.code, 1);
    assert.match(none.stdout, /ERROR: kubeconfig \/etc\/lbd\/kubeconfig cannot be read: ENOENT/);
    assert.match(
      none.stdout,
      /ERROR: lbd cannot set net\.ipv4\.conf\.eth0\.arp_ignore to 1: \/proc\/sys is mounted read-only/,
    );
    assert.match(none.stdout, /\n3 errors\n$/);
  });

  test('prints every problem of the file and its drop-ins, each with its place', async () => {
    const { host } = scenario;
    await host.writeFile(CONFIG, scenario.toml({ toml: '[log]\nlevel = "loud"' }), 0o644);
    await host.writeFile(
      '/etc/lbd.d/50-more.toml',
      '[[pool]]\nname = "more"\naddresses = ["10.77.0.220/32"]\n',
      0o644,
    );
    const { code, stdout, stderr } = await scenario.command('lbd', ['check']);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.deepEqual(stderr.trimEnd().split('\n'), [
      '/etc/lbd.toml:2: log.level: expected "trace" or "debug" or "info" or "warn" or "error", got "loud"',
      '/etc/lbd.d/50-more.toml:3: pool[0].addresses[0]: expected addresses that are in no other pool, got "10.77.0.220/32" of pool "more", which shares 10.77.0.220 with "10.77.0.200-10.77.0.220" of pool "default" on /etc/lbd.toml:5',
      '/etc/lbd.toml: refused: 2 errors',
    ]);
  });

  test('lbctl config show tells what runs, with drop-ins, before and after a reload', async () => {
    const { host } = scenario;
    await host.writeFile('/etc/lbd.d/10-log.toml', '[log]\nlevel = "debug"\n', 0o644);
    const lbd = await scenario.startLbd();
    const shown = await lbd.lbctl(['config', 'show']);
    assert.match(shown.stdout, /^# with \/etc\/lbd\.d\/10-log\.toml$/m);
    assert.match(shown.stdout, /^level = "debug" {2}# \/etc\/lbd\.d\/10-log\.toml:2$/m);
    assert.match(shown.stdout, /^addresses = \["10\.77\.0\.200-10\.77\.0\.220"\] {2}# \/etc\/lbd\.toml:4$/m);
    assert.match(shown.stdout, /^lease_namespace = "kube-system" +# default$/m);
    const { digest } = (await lbd.status()).config;
    await host.writeFile(
      '/etc/lbd.d/20-more.toml',
      '[log]\nlevel = "warn"\n[state]\ndirectory = "/var/lib/other"\n',
      0o644,
    );
    await lbd.reload();
    await lbd.waitForStatus(({ config }) => config.digest !== digest, { describe: 'the new configuration' });
    const after = await lbd.lbctl(['config', 'show']);
    assert.match(after.stdout, /^level = "warn" {2}# \/etc\/lbd\.d\/20-more\.toml:2$/m);
    assert.match(
      after.stdout,
      /^\[state\]\n# changed on disk: .* restarted\ndirectory = "\/var\/lib\/lbd" {2}# default$/m,
    );
    const offline = await scenario.command('lbctl', ['config', 'show', '--file']);
    assert.match(offline.stdout, /^directory = "\/var\/lib\/other" {2}# \/etc\/lbd\.d\/20-more\.toml:4$/m);
  });

  test('lbctl kubeconfig makes what lbd then works with', async () => {
    const { host, lab } = scenario;
    await host.run([
      'sh',
      '-c',
      'cp /etc/group /etc/group.new && echo lbd:x:990: >>/etc/group.new && mv /etc/group.new /etc/group',
    ]);
    const args = ['kubeconfig', '--server', lab.apiServer.url, '--ca', CA, '--admin-kubeconfig', ADMIN];
    const made = await scenario.command('lbctl', args);
    assert.equal(made.code, 0, made.stderr);
    assert.match(made.stdout, /\/etc\/lbd\/kubeconfig is written \(mode 0640, root:lbd\)\n/);
    assert.equal((await host.run(['stat', '-c', '%a %U:%G', KUBECONFIG])).stdout, '640 root:lbd\n');
    assert.equal((await host.run(['ls', '/etc/lbd'])).stdout, 'kubeconfig\n');
    await host.writeFile(CONFIG, scenario.toml(), 0o644);
    const check = await scenario.command('lbd', ['check']);
    assert.equal(check.code, 0, check.stdout);
    assert.match(
      check.stdout,
      /Its token is that of the ServiceAccount kube-system\/lbd, valid for 29d23h; lbd renews it in 14d23h\./,
    );
    assert.match(check.stdout, /It allows lbd all 13 things that lbd asks of it\./);
    const { lbd, ip } = await scenario.startWithService({ kubeconfig: null });
    await held(lbd, ip);
    const { stdout } = await lbd.lbctl(['status']);
    assert.match(stdout, /^h1: ok, /);
    assert.match(stdout, /^ {2}token +of kube-system\/lbd, renewed in 14d23h, expires in 29d23h$/m);
  });
});
