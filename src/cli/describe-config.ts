import { formatDuration } from '../config/duration.ts';
import type { Config, GossipConfig, PoolConfig, VirtualConfig } from '../config/types.ts';
import { rangeSize } from '../lib/ip.ts';
import { plainPaint, renderColumns } from './table.ts';
import { formatCount } from './text.ts';

/** What a configuration comes to once every default is filled in, in words. */
export function describeConfig(config: Config): string {
  const { host, kubernetes, local } = config;
  const rows = [
    ['host', `${host.name}, Node ${host.node}`],
    ['API server', `${kubernetes.kubeconfig}, ${contextText(kubernetes.context)}`],
    ['Services', classText(kubernetes.loadBalancerClass)],
    ['allocator', `the holder of the Lease ${kubernetes.leaseNamespace}/lbd-allocator`],
    ...config.pools.map((pool) => [`pool ${pool.name}`, poolText(pool)]),
    ['local addresses', `on ${interfacesText(local.interfaces)}, ${prefixText(local.prefix)}`],
    ['lifetime', lifetimeText(local.lifetimeMs)],
    ['virtual addresses', virtualText(config.virtual)],
    ...gossipRows(config.gossip),
    ['ARP sysctls', config.arp.enforceSysctls ? 'enforced' : 'only reported'],
    ['control socket', config.control.socket],
    ['state directory', config.state.directory],
    ['log level', config.log.level],
  ];
  return `${renderColumns(rows, plainPaint)
    .map((line) => `  ${line}\n`)
    .join('')}`;
}

function gossipRows(gossip: GossipConfig | undefined): readonly (readonly string[])[] {
  if (gossip === undefined) return [];
  const { seeds, discover, port, label, keyFile, profile } = gossip;
  const names = seeds.map(({ host }) => host);
  const through = [...names, ...(discover === 'kubernetes' ? ['the Nodes of the cluster'] : [])];
  return [
    ['gossip', `port ${port}, label ${label}, profile ${profile}, ${keyFile ?? 'without keys'}`],
    ['other hosts', through.length === 0 ? 'find this one' : `found through ${through.join(', ')}`],
  ];
}

function contextText(context: string | undefined): string {
  return context === undefined ? 'its current context' : `context ${context}`;
}

function classText(loadBalancerClass: string | undefined): string {
  return loadBalancerClass === undefined
    ? 'those of type LoadBalancer without spec.loadBalancerClass'
    : `those of type LoadBalancer with spec.loadBalancerClass ${loadBalancerClass}`;
}

function poolText(pool: PoolConfig): string {
  const size = pool.ranges.reduce((sum, range) => sum + rangeSize(range), 0n);
  const use = pool.autoAssign ? '' : ', only for Services that ask for it';
  const count = `${formatCount(size)} ${size === 1n ? 'address' : 'addresses'}`;
  return `${pool.addresses.join(', ')}: ${count}${use}${aggregateText(pool)}`;
}

function aggregateText({ aggregate: { v4, v6 } }: PoolConfig): string {
  const lengths = [v4, v6].flatMap((length) => (length === undefined ? [] : [`/${length}`]));
  return lengths.length === 0 ? '' : `, routed by ${lengths.join(' and ')}`;
}

function virtualText({ interface: name, type, routes }: VirtualConfig): string {
  const what = type === 'auto' ? 'a dummy, or a bridge where the kernel has none' : `a ${type}`;
  const by =
    routes === undefined
      ? 'with routes of the kernel'
      : `with routes in table ${routes.table}, protocol ${routes.protocol}`;
  return `on ${name}, ${what}, ${by}`;
}

function interfacesText(interfaces: readonly string[]): string {
  return interfaces.length === 0 ? 'the interface with the default route' : interfaces.join(', ');
}

function prefixText(prefix: Config['local']['prefix']): string {
  return prefix === 'host' ? 'as /32 or /128' : 'with the prefix length of its subnet';
}

function lifetimeText(lifetimeMs: number): string {
  if (lifetimeMs === 0) return 'permanent: the kernel never removes an address by itself';
  return `the kernel removes an address ${formatDuration(lifetimeMs)} after lbd last renewed it`;
}
