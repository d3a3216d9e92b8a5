import { familyOf } from '../../lib/ip.ts';
import type { NetlinkMessage } from '../netlink-codec.ts';
import { isAddressRequest } from '../netlink-requests.ts';
import { type AddressKey, addressKey, type Observed } from '../observed.ts';
import type { KernelAddress, KernelRequest } from '../types.ts';

type Granted = { readonly ok: boolean; readonly request: KernelRequest };

/**
 * What the kernel granted and has not told of. A new IPv6 address is started by a worker of the kernel's own, which tells of
 * it some time after the answer (addrconf_dad_work, net/ipv6/addrconf.c): on a busy host, milliseconds.
 */
export class GrantedAddresses {
  /** How often each was told to be gone since `begin()`; undefined when nothing was asked, or all has been read since. */
  #removals: Map<AddressKey, number> | undefined;

  /** From here on the kernel is asked. */
  begin(): void {
    this.#removals = new Map();
  }

  heard(message: NetlinkMessage): void {
    if (this.#removals === undefined || message.kind !== 'address' || message.event === 'new') return;
    const key = addressKey(message.address);
    this.#removals.set(key, (this.#removals.get(key) ?? 0) + 1);
  }

  /** Everything was read from the kernel: what is not there is gone. */
  read(): void {
    this.#removals = undefined;
  }

  /** What is there by the answers, to what was asked since `begin()` in that order, though `known` has it not. */
  end(outcomes: readonly Granted[], known: Observed['addresses']): readonly KernelAddress[] {
    const removals = this.#removals;
    this.#removals = undefined;
    if (removals === undefined) return [];
    const asked = new Map<AddressKey, number>();
    const untold = new Map<AddressKey, KernelAddress>();
    for (const { ok, request } of outcomes) {
      if (!ok || !isAddressRequest(request) || familyOf(request.ip) !== 'v6') continue;
      const key = addressKey(request);
      untold.delete(key);
      if (request.kind === 'delete') {
        asked.set(key, (asked.get(key) ?? 0) + 1);
        continue;
      }
      const { ifIndex, ip, prefixLength, scope, flags, protocol, preferredSeconds, validSeconds } = request;
      const address = { ifIndex, ip, prefixLength, scope, flags, protocol, preferredSeconds, validSeconds };
      if (!known.has(key)) untold.set(key, address);
    }
    // More often gone than lbd asked for: somebody took it away again.
    return [...untold]
      .filter(([key]) => (removals.get(key) ?? 0) <= (asked.get(key) ?? 0))
      .map(([, address]) => address);
  }
}
