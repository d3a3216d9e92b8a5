import { WANTED_LIMIT } from '../election/claims.ts';
import type { Wanted } from '../election/types.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { compareIps, type Ip } from '../lib/ip.ts';
import { unservedStatus } from './lone-host.ts';

/**
 * Hosts that gossip share out a bounded number of local addresses: beyond it, their tables of claims would differ, and an
 * address could have two owners. The addresses of the oldest Services stay, which is the same choice on every host and
 * after every restart; the others are announced by nobody, and said to be. Pure.
 */
export function limitShared(
  local: readonly DesiredAddress[],
  wanted: Wanted,
  services: ReadonlyMap<ServiceKey, Pick<Service, 'createdAt'>>,
  limit: number = WANTED_LIMIT,
): {
  readonly local: readonly DesiredAddress[];
  readonly wanted: Wanted;
  readonly unserved: readonly AddressStatus[];
} {
  if (local.length <= limit) return { local, wanted, unserved: [] };
  const since = new Map<Ip, number>(local.map((address) => [address.ip, oldestUser(address, services)]));
  const sorted = local.toSorted(
    (left, right) => ageOf(since, left) - ageOf(since, right) || compareIps(left.ip, right.ip),
  );
  const refused = sorted.slice(limit);
  const addresses = new Map(wanted.addresses);
  for (const { ip } of refused) addresses.delete(ip);
  const reason = `lbd shares out at most ${limit} local addresses among its hosts, those of older Services first`;
  return {
    local: sorted.slice(0, limit),
    wanted: { ...wanted, addresses },
    unserved: refused.map((address) => unservedStatus(address, reason)),
  };
}

/** What no Service is known to use comes last. */
function oldestUser(
  { services: users }: DesiredAddress,
  services: ReadonlyMap<ServiceKey, Pick<Service, 'createdAt'>>,
): number {
  const ages = users.map((key) => services.get(key as ServiceKey)?.createdAt ?? Number.MAX_VALUE);
  return ages.reduce((oldest, age) => Math.min(oldest, age), Number.MAX_VALUE);
}

function ageOf(since: ReadonlyMap<Ip, number>, { ip }: DesiredAddress): number {
  return since.get(ip) ?? Number.MAX_VALUE;
}
