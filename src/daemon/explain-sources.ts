import type { Config } from '../config/types.ts';
import type { LocalDriver } from '../iface/io/local-driver.ts';
import type { AddressStatus } from '../iface/types.ts';
import type { Allocation } from '../ipam/types.ts';
import type { KubeCluster } from '../kube/io/cluster.ts';
import type { Ip } from '../lib/ip.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { membersOf, ownerStatus } from './election-status.ts';
import type { ExplainSources } from './explain.ts';
import type { GossipService } from './gossip-service.ts';
import { serviceStatuses } from './status.ts';
import type { VirtualService } from './virtual-service.ts';

export type ExplainParts = {
  readonly config: Config;
  readonly cluster: KubeCluster;
  readonly local: LocalDriver;
  readonly virtual: VirtualService;
  readonly gossip: GossipService | undefined;
  readonly allocations: readonly Allocation[];
  /** As status shows them. */
  readonly addresses: readonly AddressStatus[];
};

/** What an explanation is made of, as the parts of the daemon have it now. */
export function explainSources(parts: ExplainParts): ExplainSources {
  const { config, cluster, local, virtual, gossip, allocations, addresses } = parts;
  const election = gossip?.election;
  const { allocator } = cluster.status();
  const locals = new Map(addresses.map((address) => [address.ip, address]));
  const ownerOf = (ip: Ip) => election && ownerStatus(election, ip, bootTimeMs());
  return {
    hostName: config.host.name,
    loadBalancerClass: config.kubernetes.loadBalancerClass,
    services: cluster.services(),
    allocations,
    pools: config.pools,
    statusOf: (service, allocation) => {
      const owners = election && { get: ownerOf };
      return serviceStatuses(new Map([[service.key, service]]), [allocation], locals, allocator, owners)[0];
    },
    localOf: (ip) => locals.get(ip),
    obstacle: (ip) => {
      const verdict = virtual.verdict(ip) ?? local.verdict(ip);
      return verdict.kind === 'blocked' ? verdict.reason : undefined;
    },
    election: election && { ownerOf, membersOf: (ip) => membersOf(election, ip) },
  };
}
