import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Who has a netlink port, as far as /proc tells. The first socket of a process has its pid for a port
 * (netlink_autobind in net/netlink/af_netlink.c, in the process's own pid namespace), libnl's have it in the lower
 * 22 bits; others have numbers that say nothing. A short-lived program such as `ip` is mostly gone when it is looked for.
 */

const PID_MASK = 0x3f_ffff;
const NETLINK_ROUTE = '0';

/** `NetworkManager (pid 812)`, `pid 4711, which has ended`; undefined for 0, when the kernel named nobody. */
export function netlinkProcess(portId: number, proc = '/proc'): string | undefined {
  if (portId === 0) return undefined;
  const inode = socketOf(portId, proc);
  // What the kernel itself made up (netlink_autobind) is negative, as an int.
  const pid = portId >>> 31 === 1 ? undefined : portId & PID_MASK;
  if (pid === undefined || pid === 0) return `netlink port ${portId}`;
  if (inode === undefined) return pid === portId ? `pid ${pid}, which has ended` : `netlink port ${portId}`;
  const name = mayHave(pid, inode, proc) ? nameOf(pid, proc) : undefined;
  if (name !== undefined) return `${name} (pid ${pid})`;
  return pid === portId ? `pid ${pid}` : `netlink port ${portId}`;
}

/** Its inode, while it is there. */
function socketOf(portId: number, proc: string): string | undefined {
  const lines = read(join(proc, 'net/netlink'))?.split('\n') ?? [];
  for (const line of lines.slice(1)) {
    const fields = line.trim().split(/\s+/);
    if (fields[1] === NETLINK_ROUTE && fields[2] === String(portId)) return fields.at(-1);
  }
  return undefined;
}

/** False when the process has other files only; true also when its files are not for us to see. */
function mayHave(pid: number, inode: string, proc: string): boolean {
  const directory = join(proc, String(pid), 'fd');
  try {
    return readdirSync(directory).some((fd) => linkOf(join(directory, fd)) === `socket:[${inode}]`);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES';
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function nameOf(pid: number, proc: string): string | undefined {
  return read(join(proc, String(pid), 'comm'))?.trim();
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
