import type { Ip } from '../lib/ip.ts';
import { type Instant, NEVER } from '../lib/time.ts';
import type { LocalAddresses } from './local-addresses.ts';
import type { Entry, WireVerdict } from './local-types.ts';
import { MEMBER_SHOWN_MS, RIVAL_SHOWN_MS } from './rivals.ts';
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

/** A hand-over, or a host that was away and has not heard yet, is no dispute. */
const DISPUTE_MS = 500;

function addressStatus(local: LocalAddresses, ip: Ip, entry: Entry, now: Instant): AddressStatus {
  const target = 'target' in entry ? entry.target : undefined;
  const common = {
    ip,
    kind: 'local' as const,
    services: local.desired(ip)?.services ?? [],
    interface: target === undefined ? undefined : interfaceName(local, target.ifIndex),
    prefixLength: target?.prefixLength,
    lifetimeLeftMs: undefined,
    heldSinceMs: undefined,
    ...local.announcements(ip),
    repairs: entry.status === 'held' ? entry.repairs : 0,
    reason: undefined,
  };
  switch (entry.status) {
    case 'held':
      return {
        ...common,
        state: rivalReason(entry, now) === undefined ? 'held' : 'conflict',
        lifetimeLeftMs: entry.validUntil === NEVER ? 'permanent' : Math.max(0, entry.validUntil - now),
        heldSinceMs: now - entry.since,
        disputed: disputed(entry, now),
        reason: rivalReason(entry, now) ?? disputed(entry, now) ?? entry.aside ?? entry.failure,
      };
    case 'waiting':
      return { ...common, state: entry.why, reason: entry.reason };
    case 'conflict':
      return {
        ...common,
        state: 'conflict',
        reason: `${entry.mac} answers for it; it is asked again in ${seconds(entry.retryAt - now)}`,
      };
    case 'failed':
      return { ...common, state: 'failed', reason: entry.reason };
    case 'probing':
      return { ...common, state: 'probing', reason: takeOverReason(local, ip, now) };
    case 'adding':
      return { ...common, state: 'adding' };
    default:
      return entry satisfies never;
  }
}

function rivalReason(entry: Extract<Entry, { status: 'held' }>, now: Instant): string | undefined {
  if (entry.rival === undefined || now - entry.rival.heardAt > RIVAL_SHOWN_MS) return undefined;
  return `${entry.rival.mac} claims it too; this host keeps it and defends it`;
}

/** Two members answer for it, for longer than a hand-over takes. */
function disputed({ member }: Extract<Entry, { status: 'held' }>, now: Instant): string | undefined {
  if (member === undefined || now - member.heardAt > MEMBER_SHOWN_MS) return undefined;
  if (member.heardAt - member.since < DISPUTE_MS) return undefined;
  return `${member.mac} answers for it too, for ${seconds(now - member.since)}: of two members the claims decide who keeps it`;
}

/** Why an address of an owner that is gone is not taken yet. */
function takeOverReason(local: LocalAddresses, ip: Ip, now: Instant): string | undefined {
  const takeOver = local.takeOver(ip);
  if (takeOver === undefined) return undefined;
  const { predecessor, servedSince, fabricUntil } = takeOver;
  const { name, mac } = predecessor;
  if (servedSince === undefined) return `to be taken over from ${name} (${mac}): the wire is asked`;
  const since = seconds(now - servedSince);
  if (fabricUntil === undefined) {
    return `${name} (${mac}) has gone on answering for ${since}; this host takes over when that ends`;
  }
  const until = fabricUntil === NEVER ? 'when that ends' : `in ${seconds(fabricUntil - now)}`;
  return `something has answered for ${since} with the address ${mac} of ${name}, which itself is silent; this host takes over ${until}`;
}

function seconds(ms: number): string {
  return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
}

export function interfaceName(local: LocalAddresses, ifIndex: IfIndex): string {
  return local.host().nics.find((nic) => nic.ifIndex === ifIndex)?.name ?? `interface ${ifIndex}`;
}
