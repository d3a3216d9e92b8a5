import type { Ip } from '../lib/ip.ts';
import { type Instant, NEVER } from '../lib/time.ts';
import { type LocalAddresses, RIVAL_SHOWN_MS } from './local-addresses.ts';
import type { Entry, WireVerdict } from './local-types.ts';
import type { AddressStatus, IfIndex } from './types.ts';

/** What people and the allocator are told about the local addresses; reads the machine, never moves it. */

/**
 * What this host knows against giving `ip` to a Service: `usable` when the wire was silent lately or when there is
 * no wire here to ask, `unknown` when it has to be asked first.
 */
export function wireVerdict(local: LocalAddresses, ip: Ip, now: Instant): WireVerdict {
  const entry = local.entries().get(ip);
  if (entry?.status === 'held' || entry?.status === 'adding') return { kind: 'usable' };
  const selection = local.select(ip);
  if (selection.kind === 'blocked') return { kind: 'blocked', reason: selection.reason };
  if (selection.kind === 'none') return { kind: 'usable' };
  const evidence = local.evidence(ip, now);
  if (evidence === undefined) return { kind: 'unknown' };
  if (evidence.kind === 'silent') return { kind: 'usable' };
  return { kind: 'blocked', reason: `${evidence.mac} answers for ${ip} on ${selection.nic.name}` };
}

/** Every address wanted on this host and how it stands. */
export function addressStatuses(local: LocalAddresses, now: Instant): readonly AddressStatus[] {
  return [...local.entries()].map(([ip, entry]) => addressStatus(local, ip, entry, now));
}

function addressStatus(local: LocalAddresses, ip: Ip, entry: Entry, now: Instant): AddressStatus {
  const target = 'target' in entry ? entry.target : undefined;
  const common = {
    ip,
    services: local.desired(ip)?.services ?? [],
    interface: target === undefined ? undefined : interfaceName(local, target.ifIndex),
    prefixLength: target?.prefixLength,
    lifetimeLeftMs: undefined,
    heldSinceMs: undefined,
    announcements: local.announcements(ip),
    reason: undefined,
  };
  switch (entry.status) {
    case 'held':
      return {
        ...common,
        state: rivalReason(entry, now) === undefined ? 'held' : 'conflict',
        lifetimeLeftMs: entry.validUntil === NEVER ? 'permanent' : Math.max(0, entry.validUntil - now),
        heldSinceMs: now - entry.since,
        reason: rivalReason(entry, now) ?? entry.failure,
      };
    case 'waiting':
      return { ...common, state: entry.why, reason: entry.reason };
    case 'conflict':
      return {
        ...common,
        state: 'conflict',
        reason: `${entry.mac} answers for it; it is asked again every minute`,
      };
    case 'failed':
      return { ...common, state: 'failed', reason: entry.reason };
    case 'probing':
    case 'adding':
      return { ...common, state: entry.status };
    default:
      return entry satisfies never;
  }
}

function rivalReason(entry: Extract<Entry, { status: 'held' }>, now: Instant): string | undefined {
  if (entry.rival === undefined || now - entry.rival.heardAt > RIVAL_SHOWN_MS) return undefined;
  return `${entry.rival.mac} claims it too; this host keeps it and defends it`;
}

export function interfaceName(local: LocalAddresses, ifIndex: IfIndex): string {
  return local.host().nics.find((nic) => nic.ifIndex === ifIndex)?.name ?? `interface ${ifIndex}`;
}
