import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { lbd } from '../../../src/cli/lbd.ts';
import { temporaryDirectory } from './support/fake-daemon.ts';
import { testIo } from './support/test-io.ts';

test('lbd check says what a configuration means', async (context) => {
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
  assert.equal(await lbd(['check', file], io), 0);
  assert.equal(io.stderr(), '');
  assert.deepEqual(
    io
      .stdout()
      .replace(/digest [0-9a-f]{12}/, 'digest …')
      .split('\n'),
    [
      `${file}: valid (digest …)`,
      '  host             edge-1, Node edge-1',
      '  API server       /etc/lbd/kubeconfig, context edge',
      '  Services         those of type LoadBalancer with spec.loadBalancerClass example.com/lbd',
      '  allocator        the holder of the Lease kube-system/lbd-allocator',
      '  pool default     192.0.2.0/25, 192.0.2.200-192.0.2.201: 130 addresses',
      '  pool six         2001:db8::/64: 2^64 addresses, only for Services that ask for it',
      '  local addresses  on eth0, bond*, as /32 or /128',
      '  lifetime         the kernel removes an address 30s after lbd last renewed it',
      '  ARP sysctls      enforced',
      '  control socket   /run/lbd/lbd.sock',
      '  state directory  /var/lib/lbd',
      '  log level        info',
      '',
    ],
  );
});

test('lbd check prints warnings and still accepts', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  writeFileSync(file, '[local]\nlifetime = 0\nprefix = "subnet"\n');
  const io = testIo();
  assert.equal(await lbd(['check', file], io), 0);
  assert.equal(io.stderr().match(/: warning: /g)?.length, 3);
  assert.match(io.stdout(), /^[^\n]*: valid, 3 warnings \(digest /);
  assert.match(io.stdout(), /with the prefix length of its subnet\n {2}lifetime +permanent: /);
});

test('lbd check refuses with every problem, one a line', async (context) => {
  const file = join(temporaryDirectory(context), 'lbd.toml');
  writeFileSync(file, '[host]\nname = 1\n[log]\nlevel = 2\n');
  const io = testIo();
  assert.equal(await lbd(['check', file], io), 1);
  assert.equal(io.stdout(), '');
  assert.deepEqual(io.stderr().split('\n'), [
    `${file}:2: host.name: expected text in quotes, got 1`,
    `${file}:4: log.level: expected "trace" or "debug" or "info" or "warn" or "error", got 2`,
    `${file}: refused: 2 errors`,
    '',
  ]);
});

test('lbd schema prints a JSON Schema', async () => {
  const io = testIo();
  assert.equal(await lbd(['schema'], io), 0);
  assert.equal(JSON.parse(io.stdout()).$schema, 'https://json-schema.org/draft/2020-12/schema');
});

test('lbd version prints the version', async () => {
  const io = testIo();
  assert.equal(await lbd(['version'], io), 0);
  assert.match(io.stdout(), /^lbd 0\.1\.0-dev \(source\), Node v\d+\.\d+\.\d+\n$/);
});

test('lbd ends with status 2 when it is called wrongly', async () => {
  for (const args of [[], ['rnu'], ['run', '--config'], ['check', 'a', 'b']]) {
    const io = testIo();
    assert.equal(await lbd(args, io), 2, args.join(' '));
    assert.notEqual(io.stderr(), '');
  }
});
