import type { Config, GossipConfig } from '../config/types.ts';
import type { Report } from '../election/effects.ts';
import type { ElectionEvent } from '../election/election-types.ts';
import { loadKeys } from '../election/io/key-ring.ts';
import { SeedResolver } from '../election/io/seeds.ts';
import { StateFile } from '../election/io/state-file.ts';
import { PROFILES } from '../election/settings.ts';
import type { Endpoint, Entry, MemberName, Wanted } from '../election/types.ts';
import type { LocalDriver } from '../iface/io/local-driver.ts';
import type { AddressStatus, DesiredAddress, IfIndex, Mac } from '../iface/types.ts';
import type { WireClaim } from '../iface/wire-claims.ts';
import type { Service, ServiceKey } from '../kube/types.ts';
import { errorText } from '../lib/errors.ts';
import type { Ip } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import type { Instant } from '../lib/time.ts';
import { VERSION } from '../lib/version.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { queuedJobs } from '../sys/systemd-jobs.ts';
import { DrainMark } from './drain-mark.ts';
import { type ElectionFacts, electionOverview, homelessAddresses, ownerStatuses } from './election-status.ts';
import { Gossip } from './gossip.ts';
import { GossipStatistics } from './gossip-statistics.ts';
import type { GossipSources } from './metrics.ts';
import { restartFollows } from './restart-follows.ts';
import { limitShared } from './shared-limit.ts';
import type { DrainStatus, ElectionOverview, ElectionStatus, OwnerStatus } from './types.ts';

/** How often a host that drains looks whether it is done; nothing depends on it but how long a stop takes. */
const DRAIN_LOOK_MS = 20;
/** Who is not believed tries again within seconds. */
const REFUSAL_SHOWN_MS = 60_000;
/** After a claim changed: whether there is an address now that nobody may have, or no more. */
const HOMELESS_LOOK_MS = 100;
/** A stop waits no longer for hand-overs that are under way. */
const HAND_OVER_LIMIT_MS = 1_000;
/** How long a stop waits for the others to take this host's addresses, with `drain_on_stop`. */
const DRAIN_ON_STOP_MS = 10_000;
const UNIT = 'lbd.service';
/** Of the addresses that nobody may have, so many are named in the answer to a drain. */
const SHOWN_HOMELESS = 10;

export type GossipServiceOptions = {
  /** The whole configuration; `config` is its table `[gossip]`. */
  readonly daemon: Config;
  readonly config: GossipConfig;
  /** Eight hex digits of what all hosts must have alike. */
  readonly configDigest: string;
  /** How a member's configuration differs from this host's, by the digest that it tells. */
  readonly drift: ElectionFacts['drift'];
  readonly local: LocalDriver;
  readonly logger: Logger;
  readonly onChange: () => void;
};

/** Everything of gossip that a host with a table `[gossip]` runs: the election, its state file, its seeds and its keys. */
export class GossipService {
  readonly #options: GossipServiceOptions;
  readonly #gossip: Gossip;
  readonly #state: StateFile;
  readonly #seeds: SeedResolver;
  readonly statistics = new GossipStatistics();
  #configured: readonly Endpoint[] = [];
  #discovered: readonly Endpoint[] = [];
  /** What was told of addresses that nobody may have. */
  #homelessTold = '';
  #homelessTimer: NodeJS.Timeout | undefined;
  /** The seeds that the election knows, in text. */
  #told = '';
  /** What an operator said of it, in an earlier life or in this one. */
  readonly #drainMark: DrainMark;
  #isDraining: boolean;

  /** Throws LbdError `gossip.bad-keys` when the keys cannot be used. */
  constructor(options: GossipServiceOptions) {
    this.#options = options;
    const { config, logger, local } = options;
    const { host, state } = options.daemon;
    this.#drainMark = new DrainMark(state.directory, logger);
    this.#isDraining = this.#drainMark.isSet;
    if (this.#isDraining) logger.warn({ until: 'lbctl undrain' }, 'gossip.drained');
    this.#state = new StateFile({
      directory: state.directory,
      state: () => this.#gossip.election.persistent(),
      logger,
    });
    const { port, bind, label, allow, reference } = config;
    this.#gossip = new Gossip({
      name: host.name as MemberName,
      meta: {
        port,
        node: host.node,
        version: VERSION,
        weight: config.weight,
        configDigest: options.configDigest,
      },
      drained: this.#isDraining,
      settings: { ...PROFILES[config.profile], ...config.timing, preempt: config.preempt },
      isolation: config.isolation,
      random: Math.random,
      reference,
      restored: this.#state.load(),
      transport: { port, label, allow, keys: this.#keys() },
      bind,
      local,
      logger,
      onReport: (report) => this.#report(report),
      onPersist: () => {
        this.#state.changed();
        this.#lookAtHomeless();
      },
      onChange: options.onChange,
    });
    this.#seeds = new SeedResolver({
      seeds: config.seeds,
      random: Math.random,
      logger,
      onEndpoints: (endpoints) => {
        this.#configured = endpoints;
        this.#tellSeeds();
      },
    });
  }

  /** Rejects with an LbdError when the port cannot be had. */
  async start(): Promise<void> {
    // What an earlier life left in the kernel, and iface has adopted already: before the first plan, which keeps only that.
    const held = this.#options.local.statuses().filter(({ state }) => state === 'held');
    if (held.length > 0) this.#gossip.localChanged(new Map(held.map(({ ip }) => [ip, 'held'])));
    await this.#gossip.start();
    this.#seeds.start();
  }

  /**
   * Tells the others, writes what is to be remembered, and ends. What is being handed over in this moment is let go of
   * first: to end between the other's "taken" and that would leave two hosts answering until the lifetime ends.
   */
  async close(why: 'restarting' | 'leaving'): Promise<void> {
    this.#seeds.close();
    clearTimeout(this.#homelessTimer);
    this.#homelessTimer = undefined;
    const { ownership } = this.#gossip.election;
    const deadline = bootTimeMs() + HAND_OVER_LIMIT_MS;
    while (ownership.isHandingOver() && bootTimeMs() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
    }
    await this.#gossip.close(why);
    await this.#state.close();
  }

  /** Takes what Services have; returns what of it is more than hosts share out. */
  plan(
    wanted: Wanted,
    desired: readonly DesiredAddress[],
    candidates: readonly Ip[],
    services: ReadonlyMap<ServiceKey, Service>,
  ): readonly AddressStatus[] {
    const shared = limitShared(desired, wanted, services);
    this.#gossip.plan(shared.wanted, shared.local, candidates);
    return shared.unserved;
  }

  localChanged(changes: Parameters<Gossip['localChanged']>[0]): void {
    this.#gossip.localChanged(changes);
  }

  claimHeard(ifIndex: IfIndex, claim: WireClaim): void {
    this.#gossip.claimHeard(ifIndex, claim);
  }

  beforeLocalStep(now: Instant): void {
    this.#gossip.beforeLocalStep(now);
  }

  hostChanged(): void {
    this.#gossip.hostChanged();
  }

  step(event: ElectionEvent): void {
    this.#gossip.step(event);
  }

  /** The InternalIPs of the cluster's nodes, which are asked as seeds with `discover = "kubernetes"`. */
  nodesChanged(ips: readonly Ip[]): void {
    if (this.#options.config.discover !== 'kubernetes') return;
    const { port } = this.#options.config;
    this.#discovered = ips.map((ip) => ({ ip, port }));
    this.#tellSeeds();
  }

  /** Reads the key file again; the old keys stay when it cannot be used. Returns why, in words. */
  reloadKeys(): string | undefined {
    try {
      const keys = this.#keys();
      if (keys !== undefined) this.#gossip.setKeys(keys);
      return undefined;
    } catch (error) {
      return errorText(error);
    }
  }

  /** What an operator orders is begun at once; resolves when a restart would find it as well, or `drainStatus()` says why not. */
  async command(command: 'drain' | 'undrain' | 'rebalance'): Promise<void> {
    if (command === 'rebalance') return this.#gossip.step({ kind: 'command', command });
    this.#setDraining(command);
    await this.#drainMark.set(command === 'drain');
  }

  #setDraining(command: 'drain' | 'undrain'): void {
    this.#isDraining = command === 'drain';
    this.#gossip.step({ kind: 'command', command });
  }

  get isDrained(): boolean {
    return this.#isDraining && this.#gossip.election.ownership.drainDone();
  }

  /**
   * With `drain_on_stop` everything is given away first, but for a restart, which keeps the addresses where they are.
   * Resolves with what the others are to be told: who has given all away and is not started again leaves for good.
   */
  async beforeStop(): Promise<'restarting' | 'leaving'> {
    const { drainOnStop } = this.#options.config;
    if (!drainOnStop && !this.#isDraining) return 'restarting';
    if (process.env['NOTIFY_SOCKET'] !== undefined && restartFollows(undefined, queuedJobs(UNIT)))
      return 'restarting';
    if (drainOnStop && !(await this.drain(DRAIN_ON_STOP_MS)))
      this.#options.logger.warn({ limitMs: DRAIN_ON_STOP_MS }, 'gossip.drain-unfinished');
    return this.isDrained ? 'leaving' : 'restarting';
  }

  /** Gives everything to the others, for this life only; resolves with whether that was done within `limitMs`. */
  async drain(limitMs: number): Promise<boolean> {
    this.#setDraining('drain');
    const deadline = bootTimeMs() + limitMs;
    while (!this.isDrained && bootTimeMs() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS));
    }
    return this.isDrained;
  }

  reconfigure(configDigest: string): void {
    this.#gossip.reconfigure(configDigest);
  }

  /** Nothing is granted from now on. */
  freeze(): void {
    this.#gossip.freeze();
  }

  status(): ElectionStatus {
    return { ...this.overview(), owners: ownerStatuses(this.election, bootTimeMs()) };
  }

  /** Status without the owners, which take long to find where there are thousands of addresses. */
  overview(): ElectionOverview {
    const now = bootTimeMs();
    return electionOverview(this.election, {
      name: this.#options.daemon.host.name as MemberName,
      draining: this.#isDraining,
      drainProblem: this.#drainMark.problem,
      absent: this.#gossip.absent(),
      encrypted: this.#options.config.keyFile !== undefined,
      stateProblem: this.#state.problem,
      nameConflict: this.statistics.nameConflict(now),
      counters: this.#gossip.counters(),
      refusedLately: this.#gossip.refusals(REFUSAL_SHOWN_MS),
      drift: this.#options.drift,
      now,
    });
  }

  drainStatus(): DrainStatus {
    const homeless = this.homeless().map(({ ip }) => ip);
    return {
      drained: this.#isDraining,
      done: this.isDrained,
      left: this.election.grants().size,
      homeless: homeless.slice(0, SHOWN_HOMELESS),
      homelessCount: homeless.length,
      problem: this.#drainMark.problem,
    };
  }

  /** The member, but for this host, that has a NIC with that hardware address. */
  memberOfMac(mac: Mac): MemberName | undefined {
    for (const { name, meta } of this.election.swim.members().values()) {
      if (name !== this.#options.daemon.host.name && meta.segments.some((segment) => segment.mac === mac))
        return name;
    }
    return undefined;
  }

  /** Addresses that no host may have now. */
  homeless(): readonly OwnerStatus[] {
    return homelessAddresses(this.election, bootTimeMs());
  }

  /** The kernel has taken an address just now: how this host came to it. To be asked before the election is told. */
  took(ip: Ip): Entry | undefined {
    const entry = this.election.grants().get(ip)?.entry;
    if (entry !== undefined) this.statistics.took(entry.kind);
    return entry;
  }

  /** For metrics. Cheap, however many addresses there are. */
  figures(): GossipSources {
    const claims = this.election.ownership.claims();
    return {
      election: this.overview(),
      statistics: this.statistics,
      counters: this.#gossip.counters(),
      claims: claims.size,
      owned: claims.ownedBy(this.#options.daemon.host.name as MemberName).size,
      homeless: this.homeless().length,
    };
  }

  get election(): Gossip['election'] {
    return this.#gossip.election;
  }

  #keys(): ReturnType<typeof loadKeys> | undefined {
    const { keyFile } = this.#options.config;
    return keyFile === undefined ? undefined : loadKeys(keyFile);
  }

  /** An owner lets go of what nobody may have after the plan that said so: who writes Events has to look again. */
  #lookAtHomeless(): void {
    this.#homelessTimer ??= setTimeout(() => {
      this.#homelessTimer = undefined;
      const text = this.homeless()
        .map(({ ip, reason }) => `${ip} ${reason}`)
        .join();
      if (text === this.#homelessTold) return;
      this.#homelessTold = text;
      this.#options.onChange();
    }, HOMELESS_LOOK_MS).unref();
  }

  #tellSeeds(): void {
    const endpoints = [...this.#configured, ...this.#discovered];
    const text = endpoints.map(({ ip, port }) => `${ip} ${port}`).join();
    if (text === this.#told) return;
    this.#told = text;
    this.#gossip.step({ kind: 'seeds', endpoints });
  }

  #report(report: Report): void {
    const { kind, ...fields } = report;
    this.statistics.count(report, bootTimeMs());
    // Whether anybody may have an address can change with it.
    if ('member' in report) this.#options.onChange();
    const level = LOUD_REPORTS.has(kind) ? 'warn' : 'info';
    this.#options.logger[level](loggable(fields), `gossip.${kind}`);
  }
}

const LOUD_REPORTS: ReadonlySet<string> = new Set([
  'suspected',
  'died',
  'name-conflict',
  'verdict',
  'udp-lost',
  'isolated',
  'paused',
  'superseded',
]);

/** A member's whole record is for `lbctl members`; a line of the log has its name. */
function loggable(fields: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const shown: Record<string, unknown> = { ...fields };
  const { member, silence } = fields as {
    readonly member?: { readonly name: string; readonly incarnation: number };
    readonly silence?: { readonly why: string; readonly lastHeardAt: Instant };
  };
  if (member !== undefined) {
    shown['member'] = member.name;
    shown['incarnation'] = member.incarnation;
  }
  if (silence !== undefined) {
    shown['silence'] = { why: silence.why, silentMs: Math.round(bootTimeMs() - silence.lastHeardAt) };
  }
  return shown;
}
