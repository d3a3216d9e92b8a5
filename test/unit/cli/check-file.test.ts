import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lbctl } from '../../../src/cli/lbctl.ts';
import { temporaryDirectory } from './support/fake-daemon.ts';
import { testIo } from './support/test-io.ts';

test('lbctl config check says what a configuration means', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  writeFileSync(
    file,
    `[host]
name = "edge-1"
[kubernetes]
context = "edge"
load_balancer_class = "example.com/lbd"
[[pool]]
name = "default"
addresses = ["192.0.2.0/25", "192.0.2.200-192.0.2.201"]
[[pool]]
name = "six"
addresses = ["2001:db8::/64"]
auto_assign = false
[local]
interfaces = ["eth0", "bond*"]
`,
  );
  const io = testIo();
  assert.equal(await lbctl(['config', 'check', file], io), 0);
  assert.equal(io.stderr(), '');
  assert.deepEqual(
    io
      .stdout()
      .replace(/digest [0-9a-f]{12}/, 'digest …')
      .split('\n'),
    [
      `${file}: valid (digest …)`,
      '  host               edge-1, Node edge-1',
      '  API server         /etc/lbd/kubeconfig, context edge',
      '  Services           those of type LoadBalancer with spec.loadBalancerClass example.com/lbd',
      '  allocator          the holder of the Lease kube-system/lbd-allocator',
      '  pool default       192.0.2.0/25, 192.0.2.200-192.0.2.201: 130 addresses',
      '  pool six           2001:db8::/64: 2^64 addresses, only for Services that ask for it',
      '  local addresses    on eth0, bond*, as /32 or /128',
      '  lifetime           the kernel removes an address 30s after lbd last renewed it',
      '  virtual addresses  on kube-lb0, a dummy, or a bridge where the kernel has none, with routes of the kernel',
      '  ARP sysctls        enforced',
      '  control socket     /run/lbd/lbd.sock',
      '  state directory    /var/lib/lbd',
      '  log level          info',
      '',
    ],
  );
});

test('lbctl config check says how hosts find each other, when they do', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  const pool = '[[pool]]\nname = "default"\naddresses = ["192.0.2.0/25"]\n';
  writeFileSync(file, `${pool}[gossip]\nseeds = ["192.0.2.1", "lbd.example.com"]\ndiscover = "kubernetes"\n`);
  const io = testIo();
  assert.equal(await lbctl(['config', 'check', file], io), 0);
  assert.match(
    io.stdout(),
    /^ {2}gossip +port 7946, label default, profile lan, \/etc\/lbd\/gossip\.keys\n {2}other hosts +found through 192\.0\.2\.1, lbd\.example\.com, the Nodes of the cluster\n/m,
  );
});

test('lbctl config check prints warnings and still accepts', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  writeFileSync(file, '[local]\nlifetime = 0\nprefix = "subnet"\n');
  const io = testIo();
  assert.equal(await lbctl(['config', 'check', file], io), 0);
  assert.equal(io.stderr().match(/: warning: /g)?.length, 3);
  assert.match(io.stdout(), /^[^\n]*: valid, 3 warnings \(digest /);
  assert.match(io.stdout(), /with the prefix length of its subnet\n {2}lifetime +permanent: /);
});

test('lbctl config check names the drop-ins that it took', async (context) => {
  const directory = temporaryDirectory(context);
  const file = join(directory, 'lbd.toml');
  writeFileSync(file, '[[pool]]\nname = "a"\naddresses = ["192.0.2.0/24"]\n');
  mkdirSync(join(directory, 'lbd.d'));
  writeFileSync(join(directory, 'lbd.d/10.toml'), '[log]\nlevel = "warn"\n');
  const io = testIo();
  assert.equal(await lbctl(['config', 'check', file], io), 0);
  assert.ok(io.stdout().startsWith(`${file} with ${directory}/lbd.d/10.toml: valid (digest `));
  assert.match(io.stdout(), /log level +warn/);
});
