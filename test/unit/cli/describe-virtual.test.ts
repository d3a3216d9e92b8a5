import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeVirtual } from '../../../src/cli/describe-virtual.ts';
import { parseConfig } from '../../../src/config/parse.ts';
import { EMPTY_HOST } from '../../../src/iface/nic-selection.ts';
import type { IfIndex, Link, Mac } from '../../../src/iface/types.ts';
import { virtualMac } from '../../../src/iface/virtual-link.ts';
import type { ModuleState } from '../../../src/sys/kernel-module.ts';

const POOL = '[[pool]]\nname = "a"\naddresses = ["203.0.113.0/24"]\n';

type Modules = { readonly dummy: ModuleState; readonly bridge: ModuleState };

const BOTH: Modules = { dummy: 'loadable', bridge: 'present' };

function remark(text: string, modules: Modules = BOTH, links: readonly Link[] = []): string | undefined {
  const parsed = parseConfig(text, 'f', { hostName: 'edge' });
  assert.ok(parsed.ok, JSON.stringify(parsed));
  const { config } = parsed.value;
  const { remarks } = describeVirtual(config, EMPTY_HOST, links, (type) => modules[type]);
  assert.ok(remarks.length < 2);
  return remarks[0] && `${remarks[0].severity}: ${remarks[0].text}`;
}

function link(kind: string | undefined, mac = virtualMac(undefined)): Link {
  const index = 9 as IfIndex;
  return { index, name: 'kube-lb0', kind, mac, flags: 0 } as unknown as Link;
}

test('describeVirtual() says which link lbd makes, and what to run where the kernel cannot', () => {
  const run = 'run "modprobe dummy" (and put "dummy" into /etc/modules-load.d/ for the next boot)';
  assert.equal(remark(''), undefined, 'no address is virtual');
  assert.equal(remark(POOL), 'note: They go on kube-lb0, a dummy that lbd makes for the first one.');
  const without: Modules = { dummy: 'missing', bridge: 'present' };
  assert.equal(
    remark(POOL, without),
    `warning: They go on kube-lb0, a bridge without ports, as the kernel has no dummy device; for one, ${run}.`,
  );
  assert.equal(
    remark(`[virtual]\ntype = "dummy"\n${POOL}`, without),
    `error: lbd cannot make kube-lb0: the kernel has no dummy device; ${run}.`,
  );
  assert.equal(
    remark(`[virtual]\ntype = "bridge"\n${POOL}`, without),
    'note: They go on kube-lb0, a bridge that lbd makes for the first one.',
  );
  assert.equal(
    remark(POOL, { dummy: 'missing', bridge: 'missing' }),
    `error: lbd cannot make kube-lb0: the kernel has neither dummy nor bridge; ${run}.`,
  );
});

test('describeVirtual() says what a link that is there is, and whose', () => {
  assert.equal(remark(POOL, BOTH, [link('dummy')]), 'note: They go on kube-lb0, a dummy that lbd made.');
  assert.match(
    remark(POOL, BOTH, [link('bridge')]) ?? '',
    /^note: They go on kube-lb0, a bridge that lbd made: the kernel had no dummy device .*modprobe dummy/,
  );
  assert.equal(
    remark(`[virtual]\ntype = "dummy"\n${POOL}`, BOTH, [link('bridge')]),
    'note: They go on kube-lb0, a bridge that lbd made, and makes anew as a dummy.',
  );
  assert.match(
    remark(POOL, BOTH, [link('bridge', '02:00:00:00:00:01' as Mac)]) ?? '',
    /^error: kube-lb0 is a bridge that lbd did not make: remove it, or give/,
  );
});
