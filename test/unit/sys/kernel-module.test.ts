import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { moduleState } from '../../../src/sys/kernel-module.ts';

test('moduleState() knows what is loaded, built in, on the disk, or nowhere', () => {
  const root = mkdtempSync(join(tmpdir(), 'lbd-modules-'));
  try {
    assert.equal(moduleState('dummy', root), 'missing', 'a host without modules');
    const directory = join(root, 'lib/modules', release());
    mkdirSync(directory, { recursive: true });
    writeFileSync(
      join(directory, 'modules.dep'),
      'kernel/drivers/net/dummy.ko.xz:\nkernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko\nkernel/x/not-ifb.ko:\n',
    );
    writeFileSync(join(directory, 'modules.builtin'), 'kernel/drivers/net/veth.ko\n');
    assert.equal(moduleState('dummy', root), 'loadable');
    mkdirSync(join(root, 'etc/modprobe.d'), { recursive: true });
    for (const line of ['blacklist dummy', 'install dummy /bin/false', 'install\tdummy /usr/bin/true ']) {
      writeFileSync(join(root, 'etc/modprobe.d/hardening.conf'), `# none of these\n${line}\n`);
      assert.equal(moduleState('dummy', root), 'missing', line);
      assert.equal(moduleState('bridge', root), 'loadable');
    }
    writeFileSync(
      join(root, 'etc/modprobe.d/hardening.conf'),
      '#blacklist dummy\noptions dummy numdummies=0\n',
    );
    assert.equal(moduleState('dummy', root), 'loadable');
    assert.equal(moduleState('bridge', root), 'loadable');
    assert.equal(moduleState('llc', root), 'missing', 'named as what another one needs');
    assert.equal(moduleState('ifb', root), 'missing');
    assert.equal(moduleState('veth', root), 'present');
    mkdirSync(join(root, 'sys/module/dummy'), { recursive: true });
    assert.equal(moduleState('dummy', root), 'present');
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
