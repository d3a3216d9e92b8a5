import type { PoolConfig, VirtualConfig } from '../config/types.ts';
import type { Election } from '../election/election.ts';
import type { MemberName, Wanted } from '../election/types.ts';
import type { Ownership } from '../iface/io/ownership.ts';
import type { Rtnetlink } from '../iface/io/rtnetlink.ts';
import { VirtualDriver } from '../iface/io/virtual-driver.ts';
import type { WireVerdict } from '../iface/local-types.ts';
import type { HostView } from '../iface/nic-selection.ts';
import type { ObservedChanges } from '../iface/observed.ts';
import type { AddressStatus, DesiredAddress } from '../iface/types.ts';
import type { VirtualLinkStatus } from '../iface/virtual-types.ts';
import type { PoolUsage } from '../ipam/types.ts';
import { formatPrefix, type Ip, type Prefix } from '../lib/ip.ts';
import type { Logger } from '../lib/logger.ts';
import { bootTimeMs } from '../sys/clock.ts';
import { VirtualPlaces } from './virtual-places.ts';
import { splitWanted, type VirtualWantedInput } from './virtual-wanted.ts';

/** How often it is looked whether other members have other subnets; their addresses are nowhere in the meantime. */
const MEMBERS_LOOK_MS = 1_000;

export type VirtualServiceOptions = {
  readonly config: VirtualConfig;
  readonly pools: readonly PoolConfig[];
  readonly rtnetlink: Rtnetlink;
  readonly ownership: Ownership;
  /** What this host is. */
  readonly host: () => HostView;
  /** Undefined on a host that does not gossip. */
  readonly election: () => Election | undefined;
  /** This host's name among members. */
  readonly name: string;
  readonly logger: Logger;
  /** What is virtual may have changed. */
  readonly onChange: () => void;
};

/** What the plan knows of addresses; see `VirtualWantedInput`. */
export type VirtualPlan = Pick<VirtualWantedInput, 'desired' | 'node' | 'services' | 'endpointsSynced'> & {
  readonly wanted: Wanted;
  /** Whether an address that is not in `desired` is to go. */
  readonly isComplete: boolean;
};

/** Virtual addresses: which of all addresses they are, and that this host has those that it should. */
export class VirtualService {
  readonly #options: VirtualServiceOptions;
  readonly #driver: VirtualDriver;
  readonly #places = new VirtualPlaces();
  readonly #timer: NodeJS.Timeout;
  #homeless: readonly { readonly ip: Ip; readonly reason: string }[] = [];
  /** What the last plan went by, of other members and of this one. */
  #members = '';

  constructor(options: VirtualServiceOptions) {
    this.#options = options;
    const { config, rtnetlink, ownership, logger } = options;
    this.#driver = new VirtualDriver({ rtnetlink, ownership, settings: config, logger });
    this.#places.setPools(options.pools);
    this.#timer = setInterval(() => this.#lookAtMembers(), MEMBERS_LOOK_MS).unref();
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
  }: VirtualPlan): readonly DesiredAddress[] {
    const election = this.#options.election();
    this.#members = this.#membersText(election);
    this.#places.update(this.#options.host(), otherSubnets(election), bootTimeMs());
    const split = splitWanted({
      desired,
      wanted: wanted.addresses,
      excludedNodes: wanted.excludedNodes,
      unready: wanted.unready,
      node,
      services,
      endpointsSynced,
      isDrained: this.#isDrained(election),
      unsure: isSettled(election)
        ? undefined
        : 'it is not known yet whether it is in a subnet of another host',
      placeOf: (ip) => this.#places.of(ip),
    });
    const known = new Set(desired.map(({ ip }) => ip));
    this.#places.keepOnly((ip) => known.has(ip));
    this.#driver.plan(split.virtual, isComplete);
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

  #lookAtMembers(): void {
    if (this.#membersText(this.#options.election()) !== this.#members) this.#options.onChange();
  }

  #membersText(election: Election | undefined): string {
    const subnets = new Set(otherSubnets(election).map(formatPrefix));
    return JSON.stringify([isSettled(election), this.#isDrained(election), [...subnets].sort()]);
  }

  #isDrained(election: Election | undefined): boolean {
    return election?.swim.member(this.#options.name as MemberName)?.meta.drained === true;
  }
}

function isSettled(election: Election | undefined): boolean {
  return election?.ownership.inspect().settling.isSettled ?? true;
}

function otherSubnets(election: Election | undefined): readonly Prefix[] {
  if (election === undefined) return [];
  return [...election.swim.members().values()].flatMap(({ meta }) =>
    meta.segments.map(({ subnet }) => subnet),
  );
}
