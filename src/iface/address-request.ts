import { familyOf } from '../lib/ip.ts';
import type { Program } from './local-types.ts';
import { IFA_F_NODAD, IFA_F_NOPREFIXROUTE, RT_SCOPE_UNIVERSE } from './netlink-constants.ts';
import { type AddressRequest, type KernelAddress, LBD_PROTOCOL } from './types.ts';

const KINDS = { add: 'add', renew: 'replace', remove: 'delete' } as const;

/**
 * How a local address goes into the kernel. No prefix route, because the subnet's route is the host's own. On v6 no
 * kernel DAD, which takes over a second and drops a finite address without a trace (lbd probed already), and a
 * preferred lifetime of 0, so that the host never uses a Service's address as a source (RFC 6724 5, rule 3).
 */
export function toAddressRequest(program: Program): AddressRequest {
  const { ip, ifIndex, prefixLength } = program;
  const kind = KINDS[program.op];
  if (kind === 'delete') return { kind, ifIndex, ip, prefixLength };
  const validSeconds =
    program.lifetimeMs === 0 ? Number.POSITIVE_INFINITY : Math.ceil(program.lifetimeMs / 1000);
  const v6 = familyOf(ip) === 'v6';
  return {
    kind,
    ifIndex,
    ip,
    prefixLength,
    scope: RT_SCOPE_UNIVERSE,
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
