import type { Config, PoolConfig } from '../config/types.ts';
import type { Election } from '../election/election.ts';
import type { MemberName, Wanted } from '../election/types.ts';
import type { Ownership } from '../iface/io/ownership.ts';
import type { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { VirtualDriver } from '../iface/io/virtual-driver.ts';
import type { WireVerdict } from '../iface/local-types.ts';
import { type HostView, strictArpNics, v4Subnets } from '../iface/nic-selection.ts';
import type { ObservedChanges } from '../iface/observed.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import type { VirtualLinkStatus } from '../iface/virtual-types.ts';
import type { PoolUsage } from '../ipam/types.ts';
import { type Family, formatPrefix, type Ip, type Prefix } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import type { Instant } from '../lib/time.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { SubnetRecord } from './subnet-record.ts';
import { Certainty } from './virtual-certainty.ts';
import { VirtualPlaces } from './virtual-places.ts';
import { splitWanted, type VirtualWantedInput } from './virtual-wanted.ts';

/** How often it is looked whether other members have other subnets; their addresses are nowhere in the meantime. */
const LOOK_MS = 1_000;

export type VirtualServiceOptions = {
  readonly config: Config;
  readonly rtnetlink: Rtnetlink;
  readonly ownership: Ownership;
  /** What this host is. */
  readonly host: () => HostView;
  /** Undefined on a host that does not gossip. */
  readonly election: () => Election | undefined;
  readonly logger: Logger;
  /** What is virtual may have changed. */
  readonly onChange: () => void;
};

/** What the plan knows of addresses; see `VirtualWantedInput`. */
export type PlannedAddresses = Pick<
  VirtualWantedInput,
  'desired' | 'node' | 'services' | 'endpointsSynced'
> & {
  readonly wanted: Wanted;
  /** Whether an address that is not in `desired` is to go. */
  readonly isComplete: boolean;
};

/** Virtual addresses: which of all addresses they are, and that this host has those that it should. */
export class VirtualService {
  readonly #options: VirtualServiceOptions;
  readonly #driver: VirtualDriver;
  readonly #places = new VirtualPlaces();
  readonly #record: SubnetRecord;
  readonly #certainty: Certainty;
  /** By name: those whose ARP had to be strict, in this run or before, and that have no IPv4 subnet now. */
  #nicsWithout: ReadonlySet<string>;
  #nicsInUse: readonly string[] = [];
  /** What there was before this run; undefined until the election is there to tell. */
  #memberCount: number | undefined;
  readonly #timer: NodeJS.Timeout;
  #homeless: readonly { readonly ip: Ip; readonly reason: string }[] = [];
  /** What the last plan went by, of other members and of this one. */
  #wentBy = '';

  constructor(options: VirtualServiceOptions) {
    this.#options = options;
    const { config, rtnetlink, ownership, logger } = options;
    this.#driver = new VirtualDriver({ rtnetlink, ownership, settings: config.virtual, logger });
    this.#places.setPools(config.pools);
    const now = bootTimeMs();
    this.#certainty = new Certainty(now);
    this.#record = new SubnetRecord({ directory: config.state.directory, logger });
    const { subnets, nics } = this.#record.load(now);
    this.#places.restore(subnets, now);
    this.#nicsWithout = new Set(nics);
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  setPools(pools: readonly PoolConfig[]): void {
    this.#places.setPools(pools);
  }

  kernelChanged(changes: ObservedChanges): void {
    this.#driver.kernelChanged(changes);
  }

  /** Takes the virtual ones into its care and returns the others. */
  plan({
    desired,
    node,
    services,
    endpointsSynced,
    wanted,
    isComplete,
  }: PlannedAddresses): readonly DesiredAddress[] {
    const election = this.#options.election();
    const now = bootTimeMs();
    const unsure = this.#unsure(election, now);
    this.#wentBy = this.#textOf(election, unsure);
    this.#places.update(this.#options.host(), otherSubnets(election), now);
    this.#save(now);
    const split = splitWanted({
      desired,
      wanted: wanted.addresses,
      excludedNodes: wanted.excludedNodes,
      unready: wanted.unready,
      node,
      services,
      endpointsSynced,
      isDrained: this.#isDrained(election),
      unsure,
      placeOf: (ip) => this.#places.of(ip),
    });
    const known = new Set(desired.map(({ ip }) => ip));
    this.#places.keepOnly((ip) => known.has(ip));
    this.#driver.plan(split.virtual, isComplete, (ip) => this.#places.of(ip) === undefined);
    this.#homeless = split.homeless;
    return split.local;
  }

  /** What speaks against giving `ip` to a Service; undefined when nothing does that is known here. */
  verdict(ip: Ip): WireVerdict | undefined {
    const reason = this.#places.of(ip)?.reserved;
    return reason === undefined ? undefined : { kind: 'blocked', reason };
  }

  /** Without the blocked addresses that are so by the pool's aggregate: every aggregate has some, and all is well. */
  withoutReserved(pools: readonly PoolUsage[]): readonly PoolUsage[] {
    return pools.map((pool) => ({
      ...pool,
      blocked: pool.blocked.filter(({ ip }) => this.verdict(ip) === undefined),
    }));
  }

  /** Virtual addresses that no host may serve now, and why. */
  homeless(): readonly { readonly ip: Ip; readonly reason: string }[] {
    return this.#homeless;
  }

  statuses(): readonly AddressStatus[] {
    return this.#driver.statuses();
  }

  linkStatus(): VirtualLinkStatus {
    return this.#driver.linkStatus();
  }

  /** Takes everything of ours off the host, the link included. */
  removeAll(): Promise<void> {
    return this.#driver.removeAll();
  }

  /** Everything stays where it is. */
  close(): void {
    clearInterval(this.#timer);
    this.#driver.close();
  }

  /** By name: those whose ARP has to be strict, and those where it had to be and that are without their address since the boot. */
  nicsToGuard(): readonly string[] {
    const host = this.#options.host();
    const without = new Set(host.nics.filter((nic) => v4Subnets(nic).length === 0).map(({ name }) => name));
    const present = new Set(host.nics.map(({ name }) => name));
    this.#nicsInUse = strictArpNics(host).map(({ name }) => name);
    const remembered = new Set([...this.#nicsWithout, ...this.#nicsInUse]);
    this.#nicsWithout = new Set([...remembered].filter((name) => !present.has(name) || without.has(name)));
    return [...this.#nicsInUse, ...[...this.#nicsWithout].filter((name) => present.has(name))];
  }

  #look(): void {
    const now = bootTimeMs();
    const election = this.#options.election();
    const isNews = this.#textOf(election, this.#unsure(election, now)) !== this.#wentBy;
    if (isNews || now >= this.#places.deadline()) this.#options.onChange();
    this.#save(now);
  }

  #learnPast(election: Election, now: Instant): void {
    const { memberCount, claims } = election.persistent();
    this.#memberCount = memberCount;
    const owned = claims.filter(({ owner }) => owner !== undefined);
    this.#places.restoreClaimed(
      owned.map(({ ip }) => ip),
      now,
    );
  }

  #unsure(election: Election | undefined, now: Instant): Readonly<Record<Family, string | undefined>> {
    if (election !== undefined && this.#memberCount === undefined) this.#learnPast(election, now);
    const gossips = this.#options.config.gossip !== undefined;
    const facts = {
      host: this.#options.host(),
      // Until there is an election, nothing of it is known.
      isSettled: election?.ownership.inspect().settling.isSettled ?? !gossips,
      memberCount: this.#memberCount ?? 1,
      hasCompany: election !== undefined && this.#hasCompany(election),
    };
    return this.#certainty.reasons(facts, now);
  }

  #hasCompany({ swim }: Election): boolean {
    const { name: self } = this.#options.config.host;
    return swim
      .members()
      .values()
      .some(({ name, state }) => name !== self && state === 'alive');
  }

  #textOf(election: Election | undefined, unsure: Readonly<Record<Family, string | undefined>>): string {
    const subnets = new Set(otherSubnets(election).map(formatPrefix));
    return JSON.stringify([unsure.v4, unsure.v6, this.#isDrained(election), [...subnets].sort()]);
  }

  #isDrained(election: Election | undefined): boolean {
    return election?.swim.member(this.#options.config.host.name as MemberName)?.meta.drained === true;
  }

  #save(now: Instant): void {
    const nics = [...new Set([...this.#nicsInUse, ...this.#nicsWithout])].sort();
    this.#record.save({ subnets: this.#places.remembered(), nics }, now);
  }
}

function otherSubnets(election: Election | undefined): readonly Prefix[] {
  if (election === undefined) return [];
  return [...election.swim.members().values()].flatMap(({ meta }) =>
    meta.segments.map(({ subnet }) => subnet),
  );
}
