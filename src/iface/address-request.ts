import { FAMILY_BITS, familyOf } from '../lib/ip.ts';
import type { Program } from './local-types.ts';
import { IFA_F_NODAD, IFA_F_NOPREFIXROUTE, RT_SCOPE_HOST, RT_SCOPE_UNIVERSE } from './netlink-constants.ts';
import { type AddressRequest, type KernelAddress, LBD_PROTOCOL } from './types.ts';

const KINDS = { add: 'add', renew: 'replace', remove: 'delete' } as const;

/**
 * How a local address goes into the kernel. No prefix route, because the subnet's route is the host's own. On v6 no
 * kernel DAD, which takes over a second and drops a finite address without a trace (lbd probed already), and a
 * preferred lifetime of 0, so that the host never uses a Service's address as a source (RFC 6724 5, rule 3). On v4 the
 * scope `host` does that: without it, the kernel takes the NIC's first address for a multicast or for a route without
 * a gateway (inet_select_addr in net/ipv4/devinet.c), and that is a Service's once the host's own has gone and come
 * back. With the prefix of the subnet it has to have the scope of the host's own address (EINVAL), whose secondary it is.
 */
export function toAddressRequest(program: Program): AddressRequest {
  const { ip, ifIndex, prefixLength } = program;
  const kind = KINDS[program.op];
  if (kind === 'delete') return { kind, ifIndex, ip, prefixLength };
  const validSeconds =
    program.lifetimeMs === 0 ? Number.POSITIVE_INFINITY : Math.ceil(program.lifetimeMs / 1000);
  const v6 = familyOf(ip) === 'v6';
  const isSecondary = !v6 && prefixLength < FAMILY_BITS.v4;
  return {
    kind,
    ifIndex,
    ip,
    prefixLength,
    scope: v6 || isSecondary ? RT_SCOPE_UNIVERSE : RT_SCOPE_HOST,
    flags: IFA_F_NOPREFIXROUTE | (v6 ? IFA_F_NODAD : 0),
    preferredSeconds: v6 ? 0 : validSeconds,
    validSeconds,
    protocol: LBD_PROTOCOL,
  };
}

/** Whether somebody changed what `toAddressRequest()` gave it, apart from the lifetime. The flags of v4 stay for its life. */
export function isAltered({ ip, flags, preferredSeconds, hasLostTag }: KernelAddress): boolean {
  if (hasLostTag === true) return true;
  return familyOf(ip) === 'v6' && (preferredSeconds !== 0 || (flags & IFA_F_NOPREFIXROUTE) === 0);
}
