import { errorText } from '../../lib/errors.ts';
import { readSysctlNumber, writeSysctl } from '../../sys/sysctl.ts';

const KEY = 'promote_secondaries';

export type Promotion =
  /** To be called when the addresses are gone. */
  { readonly ok: true; readonly restore: () => void } | { readonly ok: false; readonly error: string };

/**
 * Lets the kernel put a secondary address in the place of a primary one that is about to be removed. Without
 * `promote_secondaries` it removes all secondary ones with it (__inet_del_ifa in net/ipv4/devinet.c), which is the
 * host's own address when one of lbd's came before it.
 */
export function allowPromotion(nic: string): Promotion {
  try {
    // The kernel ors them (IN_DEV_PROMOTE_SECONDARIES).
    if (read('all') !== 0 || read(nic) !== 0) return { ok: true, restore: () => {} };
    write(nic, 1);
  } catch (error) {
    return { ok: false, error: errorText(error) };
  }
  return {
    ok: true,
    restore: () => {
      try {
        write(nic, 0);
      } catch {
        // The NIC is gone, and its sysctls with it.
      }
    },
  };
}

function read(nic: string): number {
  return readSysctlNumber({ family: 'ipv4', interface: nic, key: KEY });
}

function write(nic: string, value: number): void {
  writeSysctl({ family: 'ipv4', interface: nic, key: KEY }, value);
}
