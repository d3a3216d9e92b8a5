import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, LbdError } from '../lib/errors.ts';

/** One value under /proc/sys/net/<family>/conf/<interface>/. `interface` may be `all` or `default`. */
export type InterfaceSysctl = {
  readonly family: 'ipv4' | 'ipv6';
  readonly interface: string;
  /** `arp_ignore`, `arp_announce`, ... */
  readonly key: string;
};

const PROC_SYS = '/proc/sys';

/**
 * The file of a sysctl. By path and never by dotted name, in which the dot of an interface such as `eth0.100` would
 * separate.
 */
export function sysctlPath(sysctl: InterfaceSysctl, root: string = PROC_SYS): string {
  for (const part of [sysctl.interface, sysctl.key]) {
    if (part === '' || part === '.' || part === '..' || part.includes('/') || part.includes('\0')) {
      throw new LbdError(
        'sysctl.bad-name',
        `sysctl of interface "${sysctl.interface}", key "${sysctl.key}": "${part}" cannot be part of a path`,
      );
    }
  }
  return join(root, 'net', sysctl.family, 'conf', sysctl.interface, sysctl.key);
}

/** The value without its line end. Throws LbdError `sysctl.absent` (no such interface or key) or `sysctl.unreadable`. */
export function readSysctl(sysctl: InterfaceSysctl, root?: string): string {
  const path = sysctlPath(sysctl, root);
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw sysctlError('read', path, cause);
  }
}

/** As `readSysctl`, for the integers that most are. Throws also LbdError `sysctl.not-a-number`. */
export function readSysctlNumber(sysctl: InterfaceSysctl, root?: string): number {
  const text = readSysctl(sysctl, root);
  if (/^-?\d+$/.test(text)) return Number(text);
  throw new LbdError('sysctl.not-a-number', `${sysctlPath(sysctl, root)}: expected a number, got "${text}"`);
}

/**
 * Throws LbdError `sysctl.absent`, `sysctl.forbidden` (no privilege, or /proc/sys read-only as in a container) or
 * `sysctl.unwritable`.
 */
export function writeSysctl(sysctl: InterfaceSysctl, value: string | number, root?: string): void {
  const path = sysctlPath(sysctl, root);
  try {
    // One write(2) and no O_CREAT: what is absent must stay an error.
    writeFileSync(path, `${value}\n`, { flag: 'r+' });
  } catch (cause) {
    throw sysctlError(`write ${value} to`, path, cause);
  }
}

function sysctlError(action: string, path: string, cause: unknown): LbdError {
  const errno = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown';
  const fields = { path, errno };
  const failed = `cannot ${action} ${path}`;
  switch (errno) {
    case 'ENOENT':
    case 'ENODEV':
      return new LbdError(
        'sysctl.absent',
        `${failed}: no such interface, or this kernel has no such sysctl`,
        { fields, cause },
      );
    case 'EACCES':
    case 'EPERM':
      return new LbdError(
        'sysctl.forbidden',
        `${failed}: permission denied; lbd needs to run as root with CAP_NET_ADMIN in this network namespace`,
        { fields, cause },
      );
    case 'EROFS':
      return new LbdError(
        'sysctl.forbidden',
        `${failed}: /proc/sys is mounted read-only; a container needs it writable, a systemd unit ProtectKernelTunables=no`,
        { fields, cause },
      );
    default:
      return new LbdError(
        action === 'read' ? 'sysctl.unreadable' : 'sysctl.unwritable',
        `${failed}: ${errorText(cause)}`,
        { fields, cause },
      );
  }
}
