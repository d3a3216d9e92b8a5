import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderConfig } from '../../../src/cli/render-config.ts';
import { plainPaint } from '../../../src/cli/table.ts';
import { withWaiting } from '../../../src/config/listing.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import type { ConfigListing } from '../../../src/config/types.ts';

const POOLS = `[host]
name = "edge-1"
[[pool]]
name = "default"
addresses = ["192.0.2.0/25", "2001:db8::/64"]
[[pool]]
name = "named"
addresses = ["192.0.2.128/25"]
auto_assign = false
`;

function listing(text: string): ConfigListing {
  const parsed = parseConfig(text, '/etc/lbd.toml', { hostName: 'edge' });
  assert.ok(parsed.ok);
  const values = parsed.value.values();
  return { version: 1, files: ['/etc/lbd.toml'], digest: '3f2a91c0d1e2', values, waiting: [] };
}

test('renderConfig() prints every value with the line that it comes from', () => {
  assert.equal(
    renderConfig({ ...listing(POOLS), files: ['/etc/lbd.toml', '/etc/lbd.d/10.toml'] }, plainPaint),
    `# /etc/lbd.toml (digest 3f2a91c0d1e2)
# with /etc/lbd.d/10.toml

[host]
name = "edge-1"  # /etc/lbd.toml:2
node = "edge-1"  # default

[kubernetes]
kubeconfig = "/etc/lbd/kubeconfig"  # default
# context is not set
# load_balancer_class is not set
lease_namespace = "kube-system"     # default
health_check_node_ports = false     # default

[[pool]]
name = "default"                               # /etc/lbd.toml:4
addresses = ["192.0.2.0/25", "2001:db8::/64"]  # /etc/lbd.toml:5
auto_assign = true                             # default
interfaces = []                                # default

[[pool]]
name = "named"                  # /etc/lbd.toml:7
addresses = ["192.0.2.128/25"]  # /etc/lbd.toml:8
auto_assign = false             # /etc/lbd.toml:9
interfaces = []                 # default

[local]
interfaces = []        # default
prefix = "host"        # default
lifetime = "30s"       # default
announce_interval = 0  # default

[virtual]
interface = "kube-lb0"  # default
type = "auto"           # default
# table is not set
# protocol is not set

[arp]
enforce_sysctls = true  # default

[control]
socket = "/run/lbd/lbd.sock"  # default

[metrics]
# listen is not set

[state]
directory = "/var/lib/lbd"  # default

[log]
level = "info"  # default
`,
  );
});

test('renderConfig() prints TOML that means the same', () => {
  const odd = `${POOLS}[kubernetes]\ncontext = "a \\"b\\" \\u001b[31m\\u202e # c"\nkubeconfig = "/tmp/\\u007f"\n`;
  for (const text of [POOLS, odd, '']) {
    const [once, again] = [text, renderConfig(listing(text), plainPaint)].map((source) => {
      const parsed = parseConfig(source, 'f', { hostName: 'edge' });
      assert.ok(parsed.ok);
      return parsed.value.config;
    });
    assert.deepEqual(again, once);
    assert.doesNotMatch(renderConfig(listing(text), plainPaint), /[^\x20-\x7e\n]/);
  }
});

test('renderConfig() says which tables wait for a restart, and shows what runs', () => {
  const running = listing('[control]\nsocket = "/run/old.sock"\n');
  const loaded = listing('\n\n[control]\nsocket = "/run/new.sock"\n[log]\nlevel = "debug"\n');
  const text = renderConfig(withWaiting(running, loaded, ['control']), plainPaint);
  assert.match(
    text,
    /\[control\]\n# changed on disk: [^\n]+ restarted\nsocket = "\/run\/old.sock" {2}# \/etc\/lbd.toml:2\n/,
  );
  assert.match(text, /level = "debug" {2}# \/etc\/lbd.toml:6\n/);
  assert.deepEqual(withWaiting(running, loaded, []), loaded);
});
