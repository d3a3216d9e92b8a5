import { errorText } from '../../lib/errors.ts';
import { familyOf, prefixContains } from '../../lib/ip.ts';
import { readSysctlNumber, writeSysctl } from '../../sys/sysctl.ts';
import type { Program } from '../local-types.ts';
import type { Nic } from '../nic-selection.ts';

const KEY = 'promote_secondaries';

export type Promotion =
  /** To be called when the addresses are gone. */
  { readonly ok: true; readonly restore: () => void } | { readonly ok: false; readonly error: string };

/**
 * Lets the kernel put a secondary address in the place of a primary one that is about to be removed. Without
 * `promote_secondaries` it removes all secondary ones with it (__inet_del_ifa in net/ipv4/devinet.c), which is the
 * host's own address when one of lbd's came before it.
 */
export function allowPromotion(nic: string, root?: string): Promotion {
  try {
    // The kernel ors them (IN_DEV_PROMOTE_SECONDARIES).
    if (read('all', root) !== 0 || read(nic, root) !== 0) return { ok: true, restore: () => {} };
    write(nic, 1, root);
  } catch (error) {
    return { ok: false, error: errorText(error) };
  }
  return {
    ok: true,
    restore: () => {
      try {
        write(nic, 0, root);
      } catch {
        // The NIC is gone, and its sysctls with it.
      }
    },
  };
}

/**
 * The same for the NICs of all addresses in `requests` that are removed and have the length of a subnet. Whichever the kernel
 * says is the primary one now, ours may be by the time it goes, as the host's own may come back any moment. Where it
 * cannot be had, only those that are known to be before the host's own may not go.
 */
export function allowPromotions(
  requests: readonly Program[],
  nics: readonly Nic[],
  root?: string,
): Promotion {
  const restores: (() => void)[] = [];
  const restore = () => {
    for (const each of restores) each();
  };
  const shared = requests.filter(
    ({ op, ip, prefixLength }) => op === 'remove' && familyOf(ip) === 'v4' && prefixLength < 32,
  );
  for (const { ifIndex, name, displaced = [] } of nics) {
    const own = shared.filter((request) => request.ifIndex === ifIndex);
    if (own.length === 0) continue;
    const promotion = allowPromotion(name, root);
    if (promotion.ok) restores.push(promotion.restore);
    else if (own.some(({ ip }) => displaced.some((subnet) => prefixContains(subnet, ip)))) {
      restore();
      return promotion;
    }
  }
  return { ok: true, restore };
}

function read(nic: string, root: string | undefined): number {
  return readSysctlNumber({ family: 'ipv4', interface: nic, key: KEY }, root);
}

function write(nic: string, value: number, root: string | undefined): void {
  writeSysctl({ family: 'ipv4', interface: nic, key: KEY }, value, root);
}
