import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { LbdError } from '../../../src/lib/errors.ts';
import { readSysctl, readSysctlNumber, sysctlPath, writeSysctl } from '../../../src/sys/sysctl.ts';
import { asUnprivileged } from './support.ts';

const root = mkdtempSync(join(tmpdir(), 'lbd-sysctl-'));
after(() => rmSync(root, { recursive: true }));

const mayMount = spawnSync('unshare', ['--mount', '--net', 'true']).status === 0;

const vlan = { family: 'ipv4', interface: 'eth0.100', key: 'arp_ignore' } as const;
mkdirSync(join(root, 'net/ipv4/conf/eth0.100'), { recursive: true });
writeFileSync(join(root, 'net/ipv4/conf/eth0.100/arp_ignore'), '0\n');

function assertCode(action: () => unknown, code: string, text: RegExp): void {
  assert.throws(action, (error) => {
    assert.ok(error instanceof LbdError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, text);
    return true;
  });
}

describe('sysctl files', () => {
  it('the dot of an interface name stays a part of the name', () => {
    assert.equal(sysctlPath(vlan), '/proc/sys/net/ipv4/conf/eth0.100/arp_ignore');
    assert.equal(readSysctl(vlan, root), '0');
    writeSysctl(vlan, 2, root);
    assert.equal(readFileSync(join(root, 'net/ipv4/conf/eth0.100/arp_ignore'), 'utf8'), '2\n');
    assert.equal(readSysctlNumber(vlan, root), 2);
  });

  it('reads the real ones', () => {
    const value = readSysctlNumber({ family: 'ipv4', interface: 'lo', key: 'arp_ignore' });
    assert.ok(value >= 0 && value <= 8);
  });

  it('an absent interface is sysctl.absent, also when writing: no file is made', () => {
    const absent = { ...vlan, interface: 'absent0' };
    assertCode(
      () => readSysctl(absent, root),
      'sysctl.absent',
      /cannot read .*absent0\/arp_ignore: no such interface/,
    );
    assertCode(
      () => writeSysctl({ ...vlan, key: 'absent' }, 1, root),
      'sysctl.absent',
      /cannot write 1 to .*absent/,
    );
    assertCode(
      () => readSysctl({ ...vlan, interface: 'no0' }),
      'sysctl.absent',
      /\/proc\/sys\/net\/ipv4\/conf\/no0/,
    );
  });

  it('a value that is no number says what it is', () => {
    writeFileSync(join(root, 'net/ipv4/conf/eth0.100/text'), 'abc\n');
    assertCode(
      () => readSysctlNumber({ ...vlan, key: 'text' }, root),
      'sysctl.not-a-number',
      /expected a number, got "abc"/,
    );
  });

  it('what the kernel does not take is sysctl.unwritable', () => {
    mkdirSync(join(root, 'net/ipv4/conf/eth0.100/directory'));
    assertCode(() => writeSysctl({ ...vlan, key: 'directory' }, 1, root), 'sysctl.unwritable', /EISDIR/);
    assertCode(() => readSysctl({ ...vlan, key: 'directory' }, root), 'sysctl.unreadable', /EISDIR/);
  });

  it('a file without permission is sysctl.forbidden', () => {
    const path = join(root, 'net/ipv4/conf/eth0.100/locked');
    writeFileSync(path, '0\n');
    chmodSync(path, 0o400);
    const write = (): void => asUnprivileged(() => writeSysctl({ ...vlan, key: 'locked' }, 1, root));
    assertCode(
      write,
      'sysctl.forbidden',
      /cannot write 1 to .*: permission denied; lbd needs to run as root/,
    );
  });

  it('/proc/sys mounted read-only is sysctl.forbidden, and says what to change', {
    skip: !mayMount && 'needs root for a mount namespace',
  }, () => {
    const program = `
      import { writeSysctl } from '${new URL('../../../src/sys/sysctl.ts', import.meta.url).href}';
      try {
        writeSysctl({ family: 'ipv4', interface: 'lo', key: 'arp_ignore' }, 0);
      } catch (error) {
        console.log(error.code, error.message);
      }
    `;
    const script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
    const node = [process.execPath, '--input-type=module-typescript', '--eval', program];
    const result = spawnSync('unshare', ['--mount', '--net', 'sh', '-c', script, 'sh', ...node], {
      encoding: 'utf8',
    });
    assert.match(
      result.stdout,
      /^sysctl\.forbidden .*mounted read-only; .*ProtectKernelTunables=no/,
      result.stderr,
    );
  });

  it('names that would leave the directory are refused', () => {
    for (const name of ['..', '.', '', 'a/b', '../lo', 'a\0b']) {
      assertCode(
        () => sysctlPath({ ...vlan, interface: name }),
        'sysctl.bad-name',
        /cannot be part of a path/,
      );
      assertCode(() => sysctlPath({ ...vlan, key: name }), 'sysctl.bad-name', /cannot be part of a path/);
    }
  });
});
