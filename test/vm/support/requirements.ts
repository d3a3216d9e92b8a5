import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** What a machine of the lab needs of the machine that the tests run on. */

const TOOLS = [
  ['qemu-system-x86', 'qemu-system-x86_64'],
  ['qemu-utils', 'qemu-img'],
  ['mmdebstrap', 'mmdebstrap'],
  ['e2fsprogs', 'mke2fs'],
  ['busybox-static', 'busybox'],
  ['kmod', 'modprobe'],
  ['cpio', 'cpio'],
  ['zstd', 'zstd'],
  ['xz-utils', 'xz'],
  ['gnupg', 'gpg'],
] as const;

/** Why no machine can be booted here, or false. */
export const SKIP: string | false = obstacle();

/** The same for the tests that are not part of `make test`, because they take minutes. */
export const SKIP_LONG: string | false =
  SKIP !== false || process.env['LBD_VM'] === 'all' ? SKIP : 'takes minutes: make vm-test runs it';

function obstacle(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: it makes namespaces, tap devices and a root file system';
  if (process.arch !== 'x64') return `boots amd64 machines in software, and this one is ${process.arch}`;
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun, for the cables of the machines';
  const cable = spawnSync('unshare', ['--net', '--mount', 'ip', 'tuntap', 'add', 'probe', 'mode', 'tap']);
  if (cable.status !== 0)
    return `needs to make namespaces and tap devices: ${String(cable.error ?? cable.stderr).trim()}`;
  const missing = TOOLS.filter(([, command]) => !isCommand(command)).map(([name]) => name);
  if (missing.length === 0) return false;
  return `needs Debian packages: apt-get install --no-install-recommends ${missing.join(' ')} (make test does it as root)`;
}

function isCommand(command: string): boolean {
  const path = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
  return spawnSync('sh', ['-c', `command -v ${command}`], { env: { PATH: path } }).status === 0;
}
