import { withWaiting } from '../config/listing.ts';
import type { Config, ConfigListing, ConfigProblem } from '../config/types.ts';
import { LocalDriver, type NamedReport } from '../iface/io/local-driver.ts';
import { NeighbourTables } from '../iface/io/neighbour-tables.ts';
import { Ownership } from '../iface/io/ownership.ts';
import { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { SysctlGuard } from '../iface/io/sysctl-guard.ts';
import { Wire } from '../iface/io/wire.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import { claimOf } from '../iface/wire-claims.ts';
import { allocate } from '../ipam/allocate.ts';
import type { Allocation, PoolUsage } from '../ipam/types.ts';
import { KubeCluster } from '../kube/io/cluster.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { errorText } from '../lib/errors.ts';
import type { Ip } from '../lib/ip.ts';
import { ADDON, COMMIT, VERSION } from '../lib/version.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { Allocator, type WriteOutcome } from './allocator.ts';
import { addressRecord } from './cleanup.ts';
import { controlApi } from './control-api.ts';
import { ControlServer } from './control-server.ts';
import { EventReporter, homelessOf } from './event-reporter.ts';
import { explain } from './explain.ts';
import { explainSources } from './explain-sources.ts';
import { takeReloaded } from './fixed-tables.ts';
import { GossipService } from './gossip-service.ts';
import { type HealthCheckService, healthChecksOf } from './health-check-service.ts';
import { type HostLock, takeHostLock } from './host-lock.ts';
import type { DaemonLogger } from './logger.ts';
import { splitLone } from './lone-host.ts';
import { MetricsService, type MetricsServiceOptions } from './metrics-service.ts';
import { nicRules } from './nic-rules.ts';
import { computePlan } from './plan.ts';
import { makeStateDirectory, requireCapabilities } from './prepare-host.ts';
import { ReportLog } from './report-log.ts';
import { describeDrift, sharedDigest } from './shared-config.ts';
import { type SourceRouting, sourceRoutingOf } from './source-routing.ts';
import { findProblems, serviceStatuses } from './status.ts';
import { loadSysctlsBefore, saveSysctlsBefore } from './sysctl-record.ts';
import { type Explanation, STATUS_VERSION, type StatusDocument } from './types.ts';
import { VirtualService } from './virtual-service.ts';
import { wantedAddresses } from './wanted.ts';

/** Free addresses of each pool and family that are kept probed, so that a burst of so many Services waits for nothing. */
const PROBE_AHEAD_COUNT = 8;

/**
 * A plan is followed by a pause as long as it took, so that a burst of changes to thousands of Services spends at most
 * half of the time on planning. A plan is mostly quicker than this, and then there is none.
 */
const SHORTEST_PAUSE_MS = 1;

const LBD = { version: VERSION, commit: COMMIT, node: process.version, addon: ADDON, pid: process.pid };

export type DaemonOptions = {
  readonly configFile: string;
  readonly config: Config;
  readonly digest: string;
  readonly warnings: readonly ConfigProblem[];
  /** Every value of `config` and where it was written. */
  readonly listing: () => ConfigListing;
  readonly logger: DaemonLogger;
};

/**
 * The composition root: takes the snapshots of kube and iface to the allocation and the plan, and the plan back to
 * them. Level-triggered: whatever changes only asks for a new plan, made once for all that changed in one turn.
 */
export class Daemon {
  readonly #options: DaemonOptions;
  readonly #startedAt = bootTimeMs();
  readonly #rtnetlink: Rtnetlink;
  readonly #wire: Wire;
  readonly #local: LocalDriver;
  readonly #virtual: VirtualService;
  readonly #sourceRouting: SourceRouting;
  readonly #sysctls: SysctlGuard;
  readonly #neighbours: NeighbourTables;
  readonly #cluster: KubeCluster;
  readonly #allocator: Allocator;
  readonly #events: EventReporter;
  readonly #reportLog: ReportLog;
  readonly #control: ControlServer;
  readonly #metrics: MetricsService | undefined;
  /** Undefined where kube-proxy is not asked. */
  readonly #health: HealthCheckService | undefined;
  /** Undefined on a host that does not gossip, which owns every address that it can. */
  #gossip: GossipService | undefined;
  #config: Config;
  #digest: string;
  #listing: () => ConfigListing;
  #warnings: readonly string[];
  #loadedAt = bootTimeMs();
  #reloadProblems: readonly string[] = [];
  #lock: HostLock | undefined;
  #allocations: readonly Allocation[] = [];
  #pools: readonly PoolUsage[] = [];
  /** Local addresses that a host which is alone may not have, or that are more than hosts share out. */
  #unserved: readonly AddressStatus[] = [];
  #planIsDue = false;
  #plannedAt = this.#startedAt;
  #planTookMs = 0;
  #running = false;

  constructor(options: DaemonOptions) {
    const { config, logger } = options;
    this.#options = options;
    this.#config = config;
    this.#digest = options.digest;
    this.#listing = options.listing;
    this.#warnings = options.warnings.map((warning) => warning.message);
    const onChange = () => this.#planSoon();
    const ownership = new Ownership({ file: addressRecord(config.state.directory), logger });
    this.#rtnetlink = new Rtnetlink({
      logger,
      ownRoutes: config.virtual.routes,
      onChange: (changes) => {
        this.#local.kernelChanged(changes);
        this.#virtual.kernelChanged(changes);
        this.#gossip?.hostChanged();
        this.#watchSysctls();
        // A NIC that came back under the same name starts over with the kernel's defaults.
        if (changes.links.present.length > 0) this.#sysctls.checkSoon();
      },
    });
    this.#wire = new Wire({
      logger,
      onFrame: (ifIndex, message, at) => this.#local.claimHeard(ifIndex, claimOf(message), at),
    });
    this.#local = new LocalDriver({
      rtnetlink: this.#rtnetlink,
      wire: this.#wire,
      ownership,
      settings: config.local,
      rules: nicRules(config),
      logger,
      onReport: (report) => this.#report(report),
      onChange,
      onLocalChange: (changes) => this.#gossip?.localChanged(changes),
      isMember: (mac) => this.#gossip?.memberOfMac(mac) !== undefined,
      onClaim: (ifIndex, claim) => this.#gossip?.claimHeard(ifIndex, claim),
      beforeStep: (now) => this.#gossip?.beforeLocalStep(now),
    });
    this.#health = healthChecksOf(config, { addresses: () => this.#addresses(), logger, onChange });
    const host = () => this.#local.host();
    this.#virtual = new VirtualService({
      config,
      rtnetlink: this.#rtnetlink,
      ownership,
      host,
      election: () => this.#gossip?.election,
      logger,
      onChange,
    });
    this.#sourceRouting = sourceRoutingOf(() => this.#config, this.#rtnetlink, host, logger);
    this.#sysctls = new SysctlGuard({
      logger,
      enforce: config.arp.enforceSysctls,
      before: loadSysctlsBefore(config.state.directory),
      onBefore: () => saveSysctlsBefore(config.state.directory, this.#sysctls.before(), logger),
    });
    this.#neighbours = new NeighbourTables({ logger, now: bootTimeMs });
    this.#cluster = new KubeCluster({
      config: config.kubernetes,
      stateDirectory: config.state.directory,
      hostName: config.host.name,
      logger,
      onChange,
      random: Math.random,
      now: bootTimeMs,
    });
    this.#reportLog = new ReportLog(logger);
    this.#events = new EventReporter((note) => this.#cluster.event(note), config.host.name);
    this.#allocator = new Allocator({
      writeStatus: (service, addresses) => this.#writeStatus(service, addresses),
      event: (note) => this.#cluster.event(note),
      logger,
      onChange,
    });
    this.#control = new ControlServer(
      config.control.socket,
      controlApi({
        status: () => this.status(),
        config: () => this.#listing(),
        explain: (subject) => this.#explain(subject),
        gossip: () => this.#gossip,
        logger,
      }),
      logger,
    );
    const { listen } = config.metrics;
    this.#metrics = listen && new MetricsService({ listen, logger, sources: () => this.#metricSources() });
  }

  /**
   * Takes the host over: lock, kernel, control socket, API server. Resolves when lbd does its work, which does not
   * wait for the API server. Throws `LbdError` when this host cannot be served.
   */
  async start(): Promise<void> {
    const { logger } = this.#options;
    requireCapabilities();
    this.#lock = await takeHostLock();
    makeStateDirectory(this.#config.state.directory, logger);
    await this.#rtnetlink.start();
    this.#running = true;
    this.#local.start();
    this.#watchSysctls();
    await this.#startGossip();
    await this.#control.listen();
    this.#metrics?.start();
    this.#cluster.start();
    this.#planNow();
    logger.info({ version: VERSION, commit: COMMIT, host: this.#config.host.name }, 'daemon.started');
  }

  /** Puts a new configuration in place of the running one; what only a restart can change keeps its old value. */
  reconfigure(
    config: Config,
    digest: string,
    warnings: readonly ConfigProblem[],
    listing: () => ConfigListing,
  ): void {
    const { config: taken, waiting } = takeReloaded(this.#config, config);
    this.#config = taken;
    this.#digest = digest;
    const running = this.#listing;
    this.#listing = listing;
    if (waiting.length > 0) {
      const shown = withWaiting(running(), listing(), waiting);
      this.#listing = () => shown;
    }
    this.#loadedAt = bootTimeMs();
    this.#reloadProblems = [];
    this.#warnings = [
      ...warnings.map((warning) => warning.message),
      ...waiting.map((table) => `[${table}] changed on disk: it takes effect when lbd is restarted`),
    ];
    const keyProblem = this.#gossip?.reloadKeys();
    if (keyProblem !== undefined) this.#reloadProblems = [keyProblem];
    this.#options.logger.setLevel(config.log.level);
    this.#sysctls.setEnforce(config.arp.enforceSysctls);
    this.#local.reconfigure(config.local, nicRules(config));
    this.#virtual.setPools(config.pools);
    this.#gossip?.reconfigure(sharedDigest(this.#config));
    this.#watchSysctls();
    this.#planSoon();
    this.#options.logger.info({ digest, restartNeededFor: waiting }, 'config.reloaded');
  }

  /** Keeps the running configuration and shows why the one on disk is not taken. */
  refuseReload(problems: readonly string[]): void {
    this.#reloadProblems = problems;
    this.#options.logger.error({ problems }, 'config.reload-refused');
  }

  /** Stops; `addresses` says whether they leave the host now or stay until their lifetime ends or a restart adopts them. */
  async stop(addresses: 'leave' | 'remove'): Promise<void> {
    const why = addresses === 'leave' ? await this.#gossip?.beforeStop() : 'leaving';
    this.#running = false;
    this.#allocator.close();
    if (addresses === 'remove') {
      this.#gossip?.freeze();
      await Promise.all([this.#local, this.#virtual, this.#sourceRouting].map((part) => part.removeAll()));
    }
    await this.#gossip?.close(why ?? 'restarting');
    const parts = [this.#health, this.#local, this.#virtual, this.#sourceRouting, this.#sysctls];
    for (const part of [...parts, this.#neighbours, this.#wire, this.#reportLog]) part?.close();
    this.#rtnetlink.close();
    await this.#control.close();
    await this.#metrics?.close();
    await this.#cluster.stop();
    await this.#lock?.release();
    this.#options.logger.info({ addresses }, 'daemon.stopped');
  }

  /** One line for `systemctl status`. */
  summary(): string {
    const statuses = this.#addresses();
    const held = statuses.filter((address) => address.state === 'held').length;
    const api = this.#cluster.status().reachable ? 'API server reachable' : 'API server NOT reachable';
    return `${held} of ${statuses.length} addresses held; ${api}`;
  }

  status(): StatusDocument {
    const now = bootTimeMs();
    const watched = [this.#metrics, this.#sourceRouting, this.#neighbours, this.#health];
    const config = {
      file: this.#options.configFile,
      digest: this.#digest,
      loadedMsAgo: Math.round(now - this.#loadedAt),
      reloadProblems: this.#reloadProblems,
      warnings: [...this.#warnings, ...watched.flatMap((part) => part?.problems() ?? [])],
    };
    const kubernetes = this.#cluster.status();
    const addresses = this.#addresses();
    const byIp = new Map<Ip, AddressStatus>(addresses.map((address) => [address.ip, address]));
    const election = this.#gossip?.status();
    const owners = election && new Map(election.owners.map((owner) => [owner.ip, owner]));
    const known = this.#cluster.services();
    const services = serviceStatuses(known, this.#allocations, byIp, kubernetes.allocator, owners);
    const sysctls = this.#sysctls.states();
    return {
      version: STATUS_VERSION,
      lbd: LBD,
      host: {
        name: this.#config.host.name,
        nodeName: this.#config.host.node,
        uptimeMs: Math.round(now - this.#startedAt),
      },
      config,
      kubernetes,
      pools: this.#pools,
      services,
      addresses,
      virtual: this.#virtual.linkStatus(),
      sysctls,
      ...(election === undefined ? {} : { election }),
      problems: findProblems({
        kubernetes,
        unwritten: this.#allocator.failures(),
        pools: this.#virtual.withoutReserved(this.#pools),
        services,
        addresses,
        virtual: this.#virtual.linkStatus(),
        sysctls,
        config,
        hostName: this.#config.host.name,
        election,
      }),
    };
  }

  #explain(subject: string): Explanation {
    const sources = explainSources({
      config: this.#config,
      cluster: this.#cluster,
      local: this.#local,
      virtual: this.#virtual,
      gossip: this.#gossip,
      allocations: this.#allocations,
      addresses: this.#addresses(),
    });
    return explain(subject, sources);
  }

  #addresses(): readonly AddressStatus[] {
    return [...this.#local.statuses(), ...this.#unserved, ...this.#virtual.statuses()];
  }

  #metricSources(): ReturnType<MetricsServiceOptions['sources']> {
    const renewedAt = this.#local.lastRenewedAt();
    return {
      lbd: LBD,
      kubernetes: this.#cluster.status(),
      isReloaded: this.#reloadProblems.length === 0,
      allocations: this.#allocations,
      pools: this.#pools,
      addresses: this.#addresses(),
      virtualRepairs: this.#virtual.linkStatus().repairs,
      sourceRoutingRepairs: this.#sourceRouting.repairs,
      sysctlDrifts: this.#sysctls.states().reduce((sum, { drifts }) => sum + drifts, 0),
      kubeProxy: this.#health?.counts(),
      netlink: this.#rtnetlink.counters(),
      wire: this.#wire.counters(),
      lifetimeMs: this.#local.lifetimeMs(),
      renewalAgeMs: renewedAt === undefined ? undefined : bootTimeMs() - renewedAt,
      gossip: this.#gossip?.figures(),
    };
  }

  #watchSysctls(): void {
    this.#sysctls.watch(this.#virtual.nicsToGuard());
    this.#sourceRouting.hostChanged();
  }

  #planSoon(): void {
    if (this.#planIsDue) return;
    this.#planIsDue = true;
    const pauseMs = this.#plannedAt + this.#planTookMs - bootTimeMs();
    if (pauseMs < SHORTEST_PAUSE_MS) queueMicrotask(() => this.#planNow());
    else setTimeout(() => this.#planNow(), pauseMs);
  }

  #planNow(): void {
    this.#planIsDue = false;
    const startedAt = bootTimeMs();
    this.#plan();
    this.#plannedAt = bootTimeMs();
    this.#planTookMs = this.#plannedAt - startedAt;
  }

  #plan(): void {
    if (!this.#running) return;
    const services = this.#cluster.services();
    const mayAllocate = this.#cluster.synced() && this.#cluster.isAllocator();
    const { allocations, usage, probeAhead } = allocate({
      pools: this.#config.pools,
      services: mayAllocate ? this.#allocator.reserve(services) : services.values(),
      loadBalancerClass: this.#config.kubernetes.loadBalancerClass,
      verdict: (ip) => this.#virtual.verdict(ip) ?? this.#local.verdict(ip),
      probeAheadCount: PROBE_AHEAD_COUNT,
    });
    this.#allocations = allocations;
    this.#pools = usage;
    const plan = computePlan({
      services,
      allocations,
      isReserved: (service) => this.#allocator.isReserved(service),
      mayAllocate,
    });
    // Before the first list or the cache, no Service is known: that is no reason to take anything away.
    if (this.#cluster.synced()) this.#hold(plan.desired, probeAhead);
    else if (services.size > 0) this.#hold(this.#withAdopted(plan.desired), probeAhead);
    this.#allocator.carryOut(plan.writes, services, mayAllocate);
    this.#events.refused(plan.refusals);
    if (!mayAllocate) return this.#events.notAllocating();
    this.#events.allocated(allocations, services);
    // One host speaks of these for all: the one that allocates.
    const homeless = [this.#gossip?.homeless() ?? [], this.#unserved, this.#virtual.homeless()].flat();
    this.#events.homeless(homelessOf(homeless, plan.desired, services));
  }

  /** What somebody should hold: here all of it, or among the hosts that gossip what this one is granted. */
  #hold(desired: readonly DesiredAddress[], candidates: readonly Ip[]): void {
    const { gossip, host } = this.#config;
    const services = this.#cluster.services();
    const nodes = this.#cluster.nodes();
    const endpointsSynced = this.#cluster.endpointsSynced();
    const known = wantedAddresses({
      desired,
      services,
      endpointSlices: this.#cluster.endpointSlices(),
      nodes,
      endpointsSynced,
      fresh: this.#cluster.synced() && this.#cluster.endpointsSynced() && this.#cluster.status().reachable,
      excludeLabelled: gossip?.excludeLabelledNodes ?? true,
      excludeNetworkUnavailable: gossip?.excludeNetworkUnavailable ?? true,
    });
    const wanted = this.#health?.checked(known, desired, services, nodes) ?? known;
    const isComplete = this.#cluster.synced();
    const { node } = host;
    const local = this.#virtual.plan({ desired, wanted, node, services, endpointsSynced, isComplete });
    if (this.#gossip === undefined) {
      const { here, unserved } = splitLone(local, wanted, node);
      this.#unserved = unserved;
      return this.#local.plan(here, candidates);
    }
    this.#gossip.nodesChanged([...nodes.values()].flatMap(({ internalIps }) => internalIps));
    this.#unserved = this.#gossip.plan(wanted, local, candidates, services);
  }

  async #startGossip(): Promise<void> {
    if (this.#config.gossip === undefined) return;
    // Before it starts: what the NICs do meanwhile concerns it already.
    this.#gossip = new GossipService({
      daemon: this.#config,
      config: this.#config.gossip,
      configDigest: sharedDigest(this.#config),
      drift: (digest) => describeDrift(this.#config, digest),
      local: this.#local,
      logger: this.#options.logger,
      onChange: () => this.#planSoon(),
    });
    await this.#gossip.start();
  }

  async #writeStatus(service: Service, addresses: readonly Ip[]): Promise<WriteOutcome> {
    const outcome = await this.#cluster.writeStatus(service, addresses);
    if (typeof outcome === 'string') return { kind: outcome };
    const { error } = outcome;
    return { kind: 'failed', message: errorText(error), retryAfterMs: error.failure.retryAfterMs };
  }

  /** The cache is a second behind: it says what to hold in addition, and only a complete list what to let go. */
  #withAdopted(desired: readonly DesiredAddress[]): readonly DesiredAddress[] {
    const known = new Set(desired.map(({ ip }) => ip));
    const adopted = this.#local.statuses().filter(({ ip, state }) => state === 'held' && !known.has(ip));
    return [...desired, ...adopted.map(({ ip }) => ({ ip, services: [] }))];
  }

  #report(named: NamedReport): void {
    const { report, services } = named;
    this.#metrics?.count(report.kind);
    const rival = report.kind === 'rival-heard' ? this.#gossip?.memberOfMac(report.mac) : undefined;
    this.#reportLog.write(named, rival);
    if (report.kind === 'rival-heard')
      this.#gossip?.step({ kind: 'rival-heard', ip: report.ip, mac: report.mac });
    // Between members the claims decide in milliseconds, and a hand-over overlaps by intent.
    if (rival !== undefined) return;
    const isTaken = report.kind === 'held' && report.how === 'taken';
    const entry = isTaken ? this.#gossip?.took(report.ip) : undefined;
    const known = this.#cluster.services();
    const users = services.flatMap((key) => known.get(key as ServiceKey) ?? []);
    this.#events.reported(named, users, entry);
  }
}
