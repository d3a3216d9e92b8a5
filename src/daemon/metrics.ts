import type { TransportCounters } from '../election/io/transport.ts';
import type { RtnetlinkCounters } from '../iface/io/rtnetlink.ts';
import type { WireCounters } from '../iface/io/wire.ts';
import type { AddressStatus } from '../iface/types.ts';
import type { Allocation, PoolUsage } from '../ipam/types.ts';
import type { GossipStatistics } from './gossip-statistics.ts';
import { type Metric, metric, metrics } from './metrics-text.ts';
import type { RuntimeFigures } from './runtime-figures.ts';
import type { ElectionOverview, MemberStatus, StatusDocument } from './types.ts';

/** Everything that Prometheus is told, from snapshots. Pure. Names are in docs/metrics.md. */

export type MetricSources = {
  readonly lbd: StatusDocument['lbd'];
  readonly runtime: RuntimeFigures;
  readonly kubernetes: StatusDocument['kubernetes'];
  readonly isReloaded: boolean;
  readonly allocations: readonly Allocation[];
  readonly pools: readonly PoolUsage[];
  readonly addresses: readonly AddressStatus[];
  /** What happened to addresses of this host since the start, by kind. */
  readonly addressEvents: ReadonlyMap<string, number>;
  readonly announcements: number;
  /** Of virtual addresses, their link and routes. */
  readonly virtualRepairs: number;
  readonly sourceRoutingRepairs: number;
  /** Services that kube-proxy of this host is asked about, by what it said; undefined where it is not asked. */
  readonly kubeProxy: Readonly<Record<string, number>> | undefined;
  /** Sysctls that somebody else changed back. */
  readonly sysctlDrifts: number;
  readonly netlink: RtnetlinkCounters;
  readonly wire: WireCounters;
  /** How long ago the kernel confirmed an address, in ms; undefined when it never did. */
  readonly renewalAgeMs: number | undefined;
  readonly lifetimeMs: number;
  readonly gossip: GossipSources | undefined;
};

export type GossipSources = {
  readonly election: ElectionOverview;
  readonly statistics: GossipStatistics;
  readonly counters: TransportCounters;
  readonly claims: number;
  readonly owned: number;
  readonly homeless: number;
};

export function collectMetrics(sources: MetricSources): readonly Metric[] {
  const { gossip } = sources;
  return [
    ...processMetrics(sources),
    ...kubernetesMetrics(sources),
    ...poolMetrics(sources),
    ...addressMetrics(sources),
    ...(gossip === undefined
      ? []
      : [...memberMetrics(gossip), ...ownershipMetrics(gossip), ...trafficMetrics(gossip.counters)]),
  ];
}

function processMetrics({ lbd, runtime, isReloaded }: MetricSources): readonly Metric[] {
  const { version, commit, node } = lbd;
  return [
    {
      name: 'lbd_build_info',
      help: 'The version that runs; always 1.',
      type: 'gauge',
      samples: [{ labels: { version, commit, node }, value: 1 }],
    },
    metric('gauge', 'process_resident_memory_bytes', 'Memory in RAM.', runtime.residentBytes),
    metric('counter', 'process_cpu_seconds_total', 'Processor time, user and system.', runtime.cpuSeconds),
    metric(
      'gauge',
      'process_start_time_seconds',
      'When lbd started, since the epoch.',
      runtime.startedAtSeconds,
    ),
    metric(
      'gauge',
      'lbd_event_loop_lag_p99_seconds',
      'How late timers are, the 99th percentile of the last one to two minutes.',
      runtime.lagP99Seconds,
    ),
    metric(
      'gauge',
      'lbd_event_loop_lag_max_seconds',
      'How late timers are, the worst of the last one to two minutes.',
      runtime.lagMaxSeconds,
    ),
    metric(
      'gauge',
      'lbd_config_last_reload_successful',
      'Whether the configuration that was last read is in use.',
      isReloaded,
    ),
  ];
}

function kubernetesMetrics({ kubernetes, allocations }: MetricSources): readonly Metric[] {
  const { reflectors, reachable, fromCache, allocator } = kubernetes;
  const silent = reflectors.flatMap(({ resource, silentMs }) =>
    silentMs === undefined ? [] : [[resource, silentMs / 1000] as const],
  );
  return [
    metric('gauge', 'lbd_kubernetes_reachable', 'Whether the API server answered last.', reachable),
    metric(
      'gauge',
      'lbd_kubernetes_from_cache',
      'Whether Services are the last known ones, because the API server has not answered since the start.',
      fromCache,
    ),
    metrics(
      'gauge',
      'lbd_kubernetes_silent_seconds',
      'How long ago the API server was last heard, by resource.',
      'resource',
      silent,
    ),
    metrics(
      'gauge',
      'lbd_kubernetes_objects',
      'Objects that are known, by resource.',
      'resource',
      reflectors.map(({ resource, objects }) => [resource, objects]),
    ),
    metrics(
      'counter',
      'lbd_kubernetes_relists_total',
      'Lists after the first one, by resource.',
      'resource',
      reflectors.map(({ resource, relists }) => [resource, relists]),
    ),
    metric('gauge', 'lbd_allocator', 'Whether this host gives the addresses.', allocator.self),
    metrics(
      'gauge',
      'lbd_services',
      'Services of this lbd, by what the pools have for them.',
      'allocation',
      tally(allocations.map(({ kind }) => kind)),
    ),
  ];
}

function poolMetrics({ pools }: MetricSources): readonly Metric[] {
  const per = (name: string, help: string, value: (pool: PoolUsage) => number): Metric =>
    metrics(
      'gauge',
      name,
      help,
      'pool',
      pools.map((pool) => [pool.name, value(pool)]),
    );
  return [
    per('lbd_pool_addresses', 'Addresses of a pool.', ({ size }) => Number(size)),
    per('lbd_pool_allocated_addresses', 'Addresses of a pool that Services have.', (pool) => pool.allocated),
    per(
      'lbd_pool_blocked_addresses',
      'Addresses of a pool that are skipped, because somebody else has them.',
      ({ blocked }) => blocked.length,
    ),
    per(
      'lbd_pool_free_addresses',
      'Addresses of a pool that can be given.',
      ({ size, allocated, blocked }) => Number(size) - allocated - blocked.length,
    ),
  ];
}

function addressMetrics(sources: MetricSources): readonly Metric[] {
  const { addresses, addressEvents, announcements, renewalAgeMs, lifetimeMs, netlink } = sources;
  const { virtualRepairs, sourceRoutingRepairs, sysctlDrifts, kubeProxy } = sources;
  const states = tally(addresses.map(({ state }) => state));
  // Always there, so that an alert on it needs no special case.
  for (const state of ['held', 'conflict', 'failed'] as const) states.set(state, states.get(state) ?? 0);
  return [
    metrics('gauge', 'lbd_addresses', 'Addresses that are to be on this host, by state.', 'state', states),
    metrics(
      'counter',
      'lbd_address_events_total',
      'What happened to addresses of this host.',
      'event',
      addressEvents,
    ),
    metric(
      'counter',
      'lbd_address_announcements_total',
      'Announcements by gratuitous ARP or unsolicited neighbour advertisement that left the host.',
      announcements,
    ),
    ...wireMetrics(sources.wire),
    metrics(
      'counter',
      'lbd_repairs_total',
      'What somebody else removed or changed and lbd put right: local addresses; virtual ones with their link and routes; rules and routes of source routing; sysctls.',
      'of',
      [
        ['local', addressEvents.get('repaired') ?? 0],
        ['virtual', virtualRepairs],
        ['source-routing', sourceRoutingRepairs],
        ['sysctl', sysctlDrifts],
      ],
    ),
    metrics(
      'gauge',
      'lbd_kube_proxy_services',
      'Services whose healthCheckNodePort is asked on this host, by whether kube-proxy is ready for them.',
      'state',
      Object.entries(kubeProxy ?? {}),
    ),
    metric(
      'counter',
      'lbd_netlink_resynchronisations_total',
      'Times that all links, addresses and routes were read anew, because notifications were lost.',
      netlink.resynchronisations,
    ),
    metric(
      'counter',
      'lbd_netlink_missed_total',
      'Changes that no notification told of; a comparison every minute finds them.',
      netlink.missed,
    ),
    metric(
      'gauge',
      'lbd_address_renewal_age_seconds',
      'How long ago the kernel last confirmed that an address is added or renewed.',
      renewalAgeMs === undefined ? undefined : renewalAgeMs / 1000,
    ),
    metric(
      'gauge',
      'lbd_address_lifetime_seconds',
      'How long the kernel keeps an address that is not renewed; 0 is for ever.',
      lifetimeMs / 1000,
    ),
  ];
}

function wireMetrics({ received, sent, unsent, refused }: WireCounters): readonly Metric[] {
  return [
    metric(
      'counter',
      'lbd_wire_frames_received_total',
      'ARP and neighbour discovery of other hosts that was read.',
      received,
    ),
    metrics(
      'counter',
      'lbd_wire_frames_refused_total',
      'Frames that were read and not believed, by reason; `own` came back from a loop.',
      'reason',
      Object.entries(refused),
    ),
    metric('counter', 'lbd_wire_frames_sent_total', 'Probes and announcements that left the host.', sent),
    metric(
      'counter',
      'lbd_wire_frames_unsent_total',
      'Probes and announcements that the NIC did not take.',
      unsent,
    ),
  ];
}

function memberMetrics({ election, statistics }: GossipSources): readonly Metric[] {
  const { members, segments } = election;
  const states = tally(members.map(({ state }) => state));
  for (const state of MEMBER_STATES) states.set(state, states.get(state) ?? 0);
  const count = (test: (member: MemberStatus) => boolean): number => members.filter(test).length;
  return [
    metrics(
      'gauge',
      'lbd_members',
      'Members that are known, this host among them, by state.',
      'state',
      states,
    ),
    metric(
      'gauge',
      'lbd_members_drifting',
      'Members that live and have another configuration than this host.',
      count(({ state, drift }) => state === 'alive' && drift !== undefined),
    ),
    metric(
      'gauge',
      'lbd_members_udp_lost',
      'Neighbours that are heard over TCP only.',
      count(({ udpLost }) => udpLost),
    ),
    metrics(
      'counter',
      'lbd_member_changes_total',
      'Changes of members, as this host learnt of them.',
      'change',
      Object.entries(statistics.memberChanges),
    ),
    metrics(
      'counter',
      'lbd_verdicts_total',
      'Judgements of this host that a neighbour does not serve its addresses any more, by why.',
      'why',
      Object.entries(statistics.verdicts),
    ),
    metric(
      'counter',
      'lbd_udp_losses_total',
      'Times that a neighbour came to be heard over TCP only.',
      statistics.udpLosses,
    ),
    metrics(
      'gauge',
      'lbd_segment_isolated',
      'Whether this host hears nobody on a subnet.',
      'segment',
      segments.map(({ subnet, isolated }) => [subnet, isolated]),
    ),
    metrics(
      'gauge',
      'lbd_segment_renewing',
      'Whether addresses of a subnet may be added and renewed.',
      'segment',
      segments.map(({ subnet, mayRenew }) => [subnet, mayRenew]),
    ),
    metric(
      'gauge',
      'lbd_subnets_absent',
      'Subnets in which this host takes no address, because gossip.bind does not name its own there, or it has too many.',
      election.absent?.length ?? 0,
    ),
    metric('counter', 'lbd_isolations_total', 'Times that this host was isolated.', statistics.isolations),
    metric(
      'counter',
      'lbd_pauses_total',
      'Times that this host did not run for a moment, by its own clock or a neighbour.',
      statistics.pauses,
    ),
    metric('counter', 'lbd_paused_seconds_total', 'How long it did not run.', statistics.pausedMs / 1000),
    metric(
      'gauge',
      'lbd_health_score',
      'How slow this host is to answer, 0 to 8; it waits longer before it judges others.',
      election.healthScore,
    ),
  ];
}

const MEMBER_STATES: readonly MemberStatus['state'][] = ['alive', 'suspect', 'dead', 'left'];

function ownershipMetrics(gossip: GossipSources): readonly Metric[] {
  const { election, statistics, claims, owned, homeless } = gossip;
  return [
    metric('gauge', 'lbd_claims', 'Addresses that some host owns or has let go of.', claims),
    metric('gauge', 'lbd_owned_addresses', 'Addresses that this host owns.', owned),
    metric('gauge', 'lbd_homeless_addresses', 'Addresses that no host may have now.', homeless),
    metrics(
      'counter',
      'lbd_addresses_taken_total',
      'Addresses that this host came to hold, by how: take-over is after a failure, hand-over is by plan.',
      'how',
      Object.entries(statistics.taken),
    ),
    metric(
      'counter',
      'lbd_addresses_handed_over_total',
      'Addresses that this host gave to another by plan.',
      statistics.handedOver,
    ),
    metric(
      'counter',
      'lbd_hand_over_seconds_total',
      'How long those took together.',
      statistics.handedOverMs / 1000,
    ),
    metric(
      'counter',
      'lbd_addresses_superseded_total',
      'Addresses that this host lost to a newer claim.',
      statistics.superseded,
    ),
    metric(
      'counter',
      'lbd_addresses_released_total',
      'Addresses that this host let go of, so that anybody may have them.',
      statistics.released,
    ),
    metric('gauge', 'lbd_drained', 'Whether this host is drained.', election.drained),
    metric(
      'gauge',
      'lbd_drain_saved',
      'Whether a restart of lbd finds this host drained or not as it is.',
      election.drainProblem === undefined,
    ),
    metric(
      'gauge',
      'lbd_claims_saved',
      'Whether claims and epochs are in the state directory.',
      election.stateProblem === undefined,
    ),
  ];
}

function trafficMetrics(counters: TransportCounters): readonly Metric[] {
  const { sessions, connections } = counters;
  const { open, ...ends } = connections;
  const total = (name: string, help: string, value: number): Metric => metric('counter', name, help, value);
  return [
    total('lbd_gossip_sent_packets_total', 'UDP packets sent.', counters.sent),
    total('lbd_gossip_sent_bytes_total', 'Their payload.', counters.sentBytes),
    total(
      'lbd_gossip_received_packets_total',
      'UDP packets received, refused ones among them.',
      counters.received,
    ),
    total('lbd_gossip_received_bytes_total', 'Their payload.', counters.receivedBytes),
    metrics(
      'counter',
      'lbd_gossip_refused_packets_total',
      'UDP packets and TCP connections that were not believed, by why.',
      'reason',
      Object.entries(counters.refused),
    ),
    total('lbd_gossip_late_packets_total', 'UDP packets that came too late to mean anything.', counters.late),
    total('lbd_gossip_send_failures_total', 'UDP packets that the kernel refused.', counters.sendFailures),
    total(
      'lbd_gossip_send_overflows_total',
      'UDP packets dropped before the kernel.',
      counters.sendOverflows,
    ),
    total(
      'lbd_gossip_oversized_packets_total',
      'UDP packets so large that a path may have to fragment them.',
      counters.oversized,
    ),
    metrics(
      'gauge',
      'lbd_gossip_sessions',
      'Peers by whether they have proven to be live; held are packets that wait for that.',
      'state',
      Object.entries(sessions),
    ),
    metric('gauge', 'lbd_gossip_connections', 'TCP connections that are open.', open),
    metrics(
      'counter',
      'lbd_gossip_connections_total',
      'What became of TCP connections and what came on them.',
      'outcome',
      Object.entries(ends),
    ),
  ];
}

function tally(keys: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}
